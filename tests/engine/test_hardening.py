"""Every process that may hold secrets is hardened: looked at from outside, as it runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.world import World

OPEN_UMASK = 0o022


def _file_of(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def _cores(pid: int) -> list[str]:
    return next(line.split()[4:6] for line in _file_of(pid, "limits").splitlines() if line.startswith("Max core file size"))


def _umask(pid: int) -> str:
    return next(line.split()[1] for line in _file_of(pid, "status").splitlines() if line.startswith("Umask:"))


@pytest.mark.parametrize("verb", ["run", "sandbox"])
def test_f10_f9_the_daemon_hardens_itself_and_a_process_without_secrets_does_not_need_to(world: World, verb: str) -> None:
    """The sandbox is the control: without `harden` a process has the umask that it was started with."""
    world.repos("web")
    world.source("web")
    command = world.command("run") if verb == "run" else [sys.executable, "-m", "reconciler", "sandbox"]
    with subprocess.Popen(
        command, env=world.env, cwd=world.folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, umask=OPEN_UMASK
    ) as process:
        try:
            if verb == "run":
                world.processes.append(process)
                world.wait(lambda: world.status() and world.all_ready(), "ready")
                assert _umask(process.pid) == "0077"
                assert _cores(process.pid) == ["0", "0"]
                kept = [path for path in (world.folder / "state").rglob("*") if path.is_file()]
                assert kept
                assert [str(path) for path in kept if path.stat().st_mode & 0o007] == []
            else:
                assert process.stdout is not None
                process.stdout.readline()
                assert _umask(process.pid) == "0022"
        finally:
            process.terminate()
            process.wait(40)
