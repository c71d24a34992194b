"""``python -m benchmarks [ID …] [--quick] [--json FILE]``: measure the goals of docs/performance.md on this machine."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import events, local, peers, remote, tracing
from benchmarks.remote import Plan
from benchmarks.results import Row, table

GOALS: dict[str, Callable[[Plan], Iterator[Row]]] = {
    "G1": remote.noop,
    "G2": remote.noop,
    "G3": remote.noop,
    "G4": remote.cold,
    "G5": remote.limited,
    "G6": local.manifests,
    "G7": local.manifests,
    "G9": events.ingest,
    "kills": events.losses,
    "dispatch": events.dispatch,
    "drain": events.drain,
    "G10": local.linear,
    "G11": local.startup,
    "G12": local.memory,
    "peers": peers.compare,
    "tracing": tracing.cost,
}
CACHE = Path(__file__).parent / ".cache"


def main() -> int:
    """Measure; a missed goal is no error (a benchmark informs, tests judge), one that could not be measured is."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="Every goal as a ratio against a floor of the same run.")
    parser.add_argument("ids", nargs="*", metavar="ID", help=f"goals to measure (default: all): {', '.join(GOALS)}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the size: shows that all works, and no more")
    parser.add_argument(
        "--kills", type=int, default=0, metavar="N", help="kill the daemon so often under load (default: 100, quick: 5)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON, too (- for stdout)")
    options = parser.parse_args()
    unknown = sorted(set(options.ids) - set(GOALS))
    if unknown:
        parser.error(f"no goal {', '.join(unknown)}; there are: {', '.join(GOALS)}")
    # As an installed program has it: byte code is made once, whatever this shell says.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(CACHE / "pycache")
    chosen = dict.fromkeys(GOALS[name] for name in options.ids or GOALS)
    rows: list[Row] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        for number, measure in enumerate(chosen):
            here = Path(folder) / str(number)
            here.mkdir()
            plan = Plan(here, 100, 1, options.kills or 5) if options.quick else Plan(here, kills=options.kills or 100)
            began = time.monotonic()
            print(f"… {measure.__doc__}", file=sys.stderr, flush=True)
            try:
                for row in measure(plan):
                    rows.append(row)
                    print(f"  {row.id} {row.what}: {row.measured} {row.verdict}", file=sys.stderr, flush=True)
            except RuntimeError as error:
                failed.append(f"{measure.__doc__} {error}")
                print(failed[-1], file=sys.stderr, flush=True)
            print(f"  {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(table(rows))
    print(
        f"\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d', time.gmtime())}, Python {sys.version.split()[0]}"
    )
    if options.json:
        text = json.dumps({"rows": [row.as_json() for row in rows]}, indent=1, ensure_ascii=False)
        print(text) if options.json == "-" else Path(options.json).write_text(text + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
