"""Upgrade a state of version 0.1 with 10,000 objects: ``python -m benchmarks.upgrade [OBJECTS]`` (`make test-upgrade`).

Version 0.1 itself makes the state (`tests/fixtures/v0_1/make.py`), which takes minutes and needs PyPI. Then this version opens it, and makes one
pass against the same simulated provider. Fails if an object is created, changed or deleted, or a record is lost.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa

from reconciler.state.migrate import HEAD
from tests.deploy import old_state

ROOT = Path(__file__).parents[1]
OPEN = """
import json, re, sys, time
from pathlib import Path
from reconciler.state import Store
def peak_mib():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
idle = peak_mib()
began = time.monotonic()
store = Store.open(sys.argv[1], state_dir=Path(sys.argv[2]))
took = time.monotonic() - began
store.close()
print(json.dumps({"open_s": took, "migration_s": store.upgraded.duration_s, "idle_mib": idle, "peak_mib": peak_mib()}))
"""


def main(objects: int, kept: str = "") -> int:
    """Make the state, unless ``kept`` is a folder that has it, upgrade it, and print what that cost."""
    with tempfile.TemporaryDirectory(prefix="reconciler-upgrade-") as name:
        made = Path(kept or name)
        if not kept:
            uv = Path(sys.executable).with_name("uv")
            make = [sys.executable, str(old_state.FIXTURES / "make.py"), name, str(objects)]
            subprocess.run(make, check=True, env={**os.environ, "UV": str(uv)})
        folder = Path(name) / "state"
        folder.mkdir()
        return measure(made, folder, objects)


def measure(made: Path, folder: Path, objects: int) -> int:
    old_state.FIXTURES = made
    world = old_state.OldState(folder, "sqlite")
    state = folder / "state"
    before = sum(path.stat().st_size for path in state.glob("state.db*"))
    with world.providers():
        done = subprocess.run([sys.executable, "-c", OPEN, world.url, str(state)], capture_output=True, text=True, check=True)
        figures = json.loads(done.stdout)
        disk = sum(path.stat().st_size for path in state.iterdir())
        world.forget_requests()
        began = time.monotonic()
        passed = world.cli("run", "--once", timeout=1_200)
        pass_s = time.monotonic() - began
        writes = world.writes()
    engine = sa.create_engine(world.url)
    with engine.connect() as connection:
        count = connection.execute(sa.text("SELECT count(*) FROM managed_object WHERE NOT tombstone")).scalar_one()
        schema = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one()
    engine.dispose()
    print(f"{objects} objects, {before / 2**20:.1f} MiB of state, schema {schema}")
    print(f"  migration {figures['migration_s']:.2f} s, of which the copy is a part; opening {figures['open_s']:.2f} s")
    print(f"  memory {figures['peak_mib']:.0f} MiB at most, {figures['idle_mib']:.0f} MiB before")
    print(f"  disk {disk / 2**20:.1f} MiB with the copy from before and the log")
    print(f"  first pass {pass_s:.1f} s, {len(writes)} writes at the provider")
    good = passed.returncode == 0 and not writes and count == objects and schema == HEAD
    if not good:
        print(f"FAILED: exit {passed.returncode}, {count} records, {len(writes)} writes\n{passed.stderr[-2000:]}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, sys.argv[2] if len(sys.argv) > 2 else ""))
