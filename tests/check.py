"""All checks in one command, in the order that fails fastest: lint, format, types, layers, tests."""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
ORDER = ("--dist", "loadfile", "--no-loadscope-reorder")
"""A file stays on one worker; files begin in the order of `tests/conftest.py`, and not those with the most tests first."""
STEPS = (
    ("ruff", [BIN / "ruff", "check", "."]),
    ("format", [BIN / "ruff", "format", "--check", "."]),
    ("mypy", [BIN / "mypy"]),
    ("layers", [BIN / "lint-imports", "--no-cache"]),
    ("tests", [BIN / "python", "-m", "pytest", "-n", os.environ.get("TEST_WORKERS", "4"), *ORDER]),
)


def main() -> int:
    failed = []
    for name, command in STEPS:
        started = time.monotonic()
        print(f"== {name}", flush=True)
        code = subprocess.run([str(part) for part in command], cwd=ROOT, check=False).returncode
        print(f"== {name}: {'ok' if code == 0 else f'FAILED ({code})'} in {time.monotonic() - started:.0f} s", flush=True)
        if code:
            failed.append(name)
    print("all checks passed" if not failed else f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
