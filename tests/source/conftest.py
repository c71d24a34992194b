"""Real repositories, a real Git server over HTTP and a real sshd, all on loopback."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.source import SourceOptions
from reconciler.source.mirror import RemoteSource
from tests.support.githttp import GitHttpServer
from tests.support.gitrepo import GitRepo

LOOPBACK = ("127.0.0.0/8",)


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    """A repository with one manifest."""
    made = GitRepo(tmp_path / "srv" / "team.git")
    made.commit({"apps/a.yaml": "kind: Canvas\n", "README.md": "text\n"}, "first")
    return made


@pytest.fixture
def server(repo: GitRepo) -> Iterator[GitHttpServer]:
    with GitHttpServer(repo.path.parent) as running:
        yield running


@pytest.fixture
def options(server: GitHttpServer) -> SourceOptions:
    return SourceOptions(server.url("team.git"), allow_hosts=LOOPBACK, deadline_s=20)


@pytest.fixture
def remote(options: SourceOptions, tmp_path: Path) -> RemoteSource:
    return RemoteSource(options, tmp_path / "state")


def remake(options: SourceOptions, tmp_path: Path, **changes: object) -> RemoteSource:
    """A source like ``options`` with other values, on the same state folder."""
    return RemoteSource(dataclasses.replace(options, **changes), tmp_path / "state")


def processes_with(text: str) -> list[str]:
    """Command lines of running processes that hold ``text``."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if text in line and int(folder.name) != os.getpid():
                found.append(line)
    return found


@dataclasses.dataclass(frozen=True)
class Sshd:
    port: int
    client_key: Path
    known_hosts: Path

    def url(self, path: Path) -> str:
        return f"ssh://root@127.0.0.1:{self.port}{path}"


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A real OpenSSH server on a free port with its own host key. Missing is a failure, never a skip."""
    program = shutil.which("sshd", path="/usr/sbin:/usr/bin")
    assert program, "openssh-server is needed: apt-get install openssh-server"
    folder = tmp_path_factory.mktemp("sshd")
    folder.chmod(0o700)
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "client.pub", folder / "authorized")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\nStrictModes no\n"
        f"PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nUsePAM no\nPidFile none\n"
    )
    kind, key, *_ = (folder / "host.pub").read_text().split()
    (folder / "known hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    Path("/run/sshd").mkdir(exist_ok=True)
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([program, "-D", "-e", "-f", str(folder / "config")], stderr=log) as process,
    ):
        try:
            _wait_for(port, process, folder / "log")
            yield Sshd(port, folder / "client", folder / "known hosts")
        finally:
            process.terminate()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(100):
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise AssertionError(f"sshd does not listen: {log.read_text()}")
