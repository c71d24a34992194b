"""A hardened process, looked at from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534
BECOME = f"""
import ctypes, os, resource, sys
from reconciler.credentials.process import PR_SET_DUMPABLE, harden
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid({NOBODY}, {NOBODY}, {NOBODY})
    os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # cleared when the user changed
"""
WATCHED = BECOME + "if sys.argv[1] == 'hard': harden()\nprint('ready', flush=True)\nsys.stdin.readline()\n"
WATCHER = BECOME + "sys.stdout.write(open(f'/proc/{sys.argv[1]}/environ').read())\n"
MAKER = "import resource, sys\nfrom reconciler.credentials.process import harden\nharden()\nopen(sys.argv[1], 'w').close()\n" \
        "print(resource.getrlimit(resource.RLIMIT_CORE))\n"  # fmt: skip


@contextmanager
def running(mode: str) -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", WATCHED, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "CANARY": "canary-in-the-environment"})  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process.pid
    finally:
        process.communicate("\n", timeout=30)


def test_f9_files_of_a_hardened_process_are_for_its_user_only_and_no_core_is_dumped(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", MAKER, str(tmp_path / "made")], capture_output=True, text=True, check=True)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600
    assert done.stdout == "(0, 0)\n"


@pytest.mark.parametrize(("mode", "readable"), [("soft", True), ("hard", False)])
def test_f10_the_environment_of_a_hardened_process_cannot_be_read_by_another_of_its_user(mode: str, readable: bool) -> None:
    with running(mode) as pid:
        look = subprocess.run([sys.executable, "-c", WATCHER, str(pid)], capture_output=True, text=True, check=False)
    assert ("canary-in-the-environment" in look.stdout) is readable, look.stderr
    assert readable or "PermissionError" in look.stderr
