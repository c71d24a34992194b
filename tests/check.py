"""All checks in one command: lint, format, types and layers side by side, then the tests."""

import os
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
ORDER = ("--dist", "loadfile", "--no-loadscope-reorder")
"""A file stays on one worker; files begin in the order of `tests/conftest.py`, and not those with the most tests first."""
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""Of all checks. Tests start thousands of processes: if none may keep what it compiled, each compiles the whole program."""
STATIC = (
    ("mypy", [BIN / "mypy"]),  # first: it takes the longest
    ("ruff", [BIN / "ruff", "check", "."]),
    ("format", [BIN / "ruff", "format", "--check", "."]),
    ("layers", [BIN / "lint-imports", "--no-cache"]),
    ("collection", [BIN / "python", "-m", "pytest", "--collect-only", "-qqq"]),  # so that each worker finds the tests compiled
)
TESTS = [BIN / "python", "-m", "pytest", "-n", os.environ.get("TEST_WORKERS", "4"), *ORDER]


def compile_all() -> None:
    """Compile the program, and the packages that were installed without (uv does not compile)."""
    packages = sysconfig.get_path("purelib")  # some have files of Python 2 and templates: what cannot be compiled is not imported
    command = [sys.executable, "-m", "compileall", "-qq", "-j", "0", "reconciler", packages]
    subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=False)


def run(name: str, command: list[object], *, shown: bool) -> bool:
    """Run one check and return whether it passed. Its output appears at once, or with the result, not between that of others."""
    started = time.monotonic()
    if shown:
        print(f"== {name}", flush=True)
    pipes = {} if shown else {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run([str(part) for part in command], cwd=ROOT, env=ENVIRONMENT, check=False, text=True, **pipes)
    verdict = f"FAILED ({done.returncode})" if done.returncode else "ok"
    output = "" if shown or (name == "collection" and not done.returncode) else f"== {name}\n{done.stdout}"
    print(f"{output}== {name}: {verdict} in {time.monotonic() - started:.0f} s", flush=True)
    return not done.returncode


def main() -> int:
    compile_all()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        passed = dict(zip((name for name, _ in STATIC), threads.map(lambda check: run(*check, shown=False), STATIC), strict=True))
    passed["tests"] = run("tests", TESTS, shown=True)
    failed = [name for name, ok in passed.items() if not ok]
    print("all checks passed" if not failed else f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
