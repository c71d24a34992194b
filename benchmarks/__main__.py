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

from benchmarks import remote
from benchmarks.remote import Plan
from benchmarks.results import Row, table

GOALS: dict[str, Callable[[Plan], Iterator[Row]]] = {"G1": remote.noop, "G2": remote.noop, "G3": remote.noop, "G4": remote.cold}


def main() -> int:
    """Measure; exit 0 whatever was missed: a benchmark informs, tests judge."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="Every goal as a ratio against a floor of the same run.")
    parser.add_argument("ids", nargs="*", metavar="ID", help=f"goals to measure (default: all): {', '.join(GOALS)}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the size: shows that all works, and no more")
    parser.add_argument("--json", metavar="FILE", help="write the rows as JSON, too (- for stdout)")
    options = parser.parse_args()
    unknown = sorted(set(options.ids) - set(GOALS))
    if unknown:
        parser.error(f"no goal {', '.join(unknown)}; there are: {', '.join(GOALS)}")
    chosen = dict.fromkeys(GOALS[name] for name in options.ids or GOALS)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for number, measure in enumerate(chosen):
            here = Path(folder) / str(number)
            here.mkdir()
            plan = Plan(here, 100, 1) if options.quick else Plan(here)
            began = time.monotonic()
            print(f"… {measure.__doc__}", file=sys.stderr, flush=True)
            rows += measure(plan)
            print(f"  {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(table(rows))
    print(
        f"\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d', time.gmtime())}, Python {sys.version.split()[0]}"
    )
    if options.json:
        text = json.dumps({"rows": [row.as_json() for row in rows]}, indent=1, ensure_ascii=False)
        print(text) if options.json == "-" else Path(options.json).write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
