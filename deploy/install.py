"""Install a lock file into the environment that runs this, and show progress: ``python deploy/install.py requirements.lock``.

uv installs if it is on the PATH, else pip. pip's own output is a hundred lines: it is shown only if pip fails.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_PACKAGE = re.compile(r"^[\w.-]+(?:\[[\w,-]+\])?==", re.MULTILINE)
_SEEN = re.compile(
    r"^(?:Collecting |Requirement already satisfied: |Processing \S*/)([A-Za-z0-9_.]+(?:-[A-Za-z][A-Za-z0-9_.]*)*)"
)


def main() -> int:
    """Install the lock file that the command line names, then this project without its dependencies."""
    lock = ROOT / sys.argv[1]
    number = len(_PACKAGE.findall(lock.read_text(encoding="utf-8")))
    print(f"installing {number} packages of {lock.name} into {Path(sys.prefix).name}", flush=True)
    uv = shutil.which("uv")
    project = ["--no-deps", "--no-build-isolation", "-e", str(ROOT)]
    if uv:
        # As pip does: without bytecode, each start of a process that may not write compiles the whole program again.
        install = [uv, "pip", "install", "--compile-bytecode", "--python", sys.executable]
        code = subprocess.run([*install, "--require-hashes", "-r", str(lock)], check=False).returncode
        return code or subprocess.run([*install, "--quiet", *project], check=False).returncode
    install = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    code = _show([*install, "--require-hashes", "-r", str(lock)], number)
    return code or _show([*install, *project], 0)


def _show(command: list[str], number: int) -> int:
    """Run pip and return its exit code; show one line that counts packages, or a line for ten of them without a terminal."""
    output: list[str] = []
    count = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            output.append(line)
            seen = _SEEN.match(line)
            if seen and number:
                count = min(count + 1, number)
                _progress(f"  {count}/{number} {seen[1]}", last=False, due=count % 10 == 0)
            elif number and line.startswith("Installing collected packages"):
                _progress(f"  {count}/{number} downloaded; unpacking", last=True, due=True)
    if process.returncode:
        print("".join(output), file=sys.stderr, end="")
    return process.returncode


def _progress(text: str, *, last: bool, due: bool) -> None:
    if sys.stdout.isatty():
        print(f"\r{text:<60}", end="\n" if last else "", flush=True)
    elif due:
        print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
