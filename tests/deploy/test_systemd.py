"""The systemd unit: checked by systemd's own tools, and started as a process with the command, environment and credentials it names."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.generate import EXIT_CODES
from reconciler.config.load import load_config
from reconciler.daemon.session import Options, _open_store
from reconciler.daemon.signals import longer_start
from reconciler.model.exit_codes import (
    EXIT_CONFIG,
    EXIT_ERROR,
    EXIT_OK,
    EXIT_SIGINT,
    EXIT_SIGTERM,
    EXIT_USAGE,
    RESTART_IS_USELESS,
)
from reconciler.sandbox.server import SandboxServer
from tests.deploy.old_state import OldState
from tests.deploy.test_containers import GIT_TOKEN, GITHUB_TOKEN, free_port, hooks, repository, wait_until
from tests.docs.pages import ROOT

DEPLOY = ROOT / "deploy"
MASTER_KEY = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="
EXPOSURE = 15
"""Tenths of the exposure that `systemd-analyze security` computes; 10 is the least exposed, 100 the most."""


def unit(section: str = "Service") -> dict[str, list[str]]:
    """The assignments of a section; a key may be given several times."""
    out: dict[str, list[str]] = {}
    current = ""
    for line in (DEPLOY / "reconciler.service").read_text().splitlines():
        if line.startswith("["):
            current = line.strip("[]")
        elif current == section and "=" in line and not line.startswith("#"):
            name, value = line.split("=", 1)
            out.setdefault(name, []).append(value)
    return out


def analyzed(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze on the unit, whose program is that of this environment."""
    [program, *_] = shlex.split(unit()["ExecStart"][0])
    file = folder / "reconciler.service"
    file.write_text((DEPLOY / "reconciler.service").read_text().replace(program, str(Path(sys.executable).parent / "reconciler")))
    command = ["systemd-analyze", *arguments, str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_systemd_finds_no_mistake_in_the_unit(tmp_path: Path) -> None:
    done = analyzed("verify", "--man=no", folder=tmp_path)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_finds_little_that_a_stolen_daemon_could_reach(tmp_path: Path) -> None:
    done = analyzed("security", "--offline=yes", "--no-pager", f"--threshold={EXPOSURE}", folder=tmp_path)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes users and folders of others")
def test_the_snippets_make_the_user_and_the_folders_that_the_unit_and_the_docs_use(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for program, snippet in (("systemd-sysusers", "sysusers.d"), ("systemd-tmpfiles", "tmpfiles.d")):
        options = ["--create"] if snippet == "tmpfiles.d" else []
        command = [program, *options, f"--root={tmp_path}", str(DEPLOY / snippet / "reconciler.conf")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    users = (tmp_path / "etc/passwd").read_text()
    assert re.search(rf"^{unit()['User'][0]}:.*:/var/lib/reconciler:/usr/sbin/nologin$", users, re.MULTILINE)
    folders = {Path(line.split(":")[1]).parent for line in unit()["LoadCredential"]}
    assert folders == {Path("/etc/reconciler/credentials")}
    assert (tmp_path / "etc/reconciler/credentials").stat().st_mode & 0o777 == 0o700


def test_the_unit_does_not_start_again_what_needs_a_person_and_takes_an_asked_for_end_for_success() -> None:
    prevented = {int(code) for code in unit()["RestartPreventExitStatus"][0].split()}
    assert prevented == RESTART_IS_USELESS
    assert {int(code) for code in unit()["SuccessExitStatus"][0].split()} == {EXIT_SIGINT, EXIT_SIGTERM}
    documented = {code for code, verbs, _ in EXIT_CODES if verbs == "any" or re.search(r"`run`", verbs)}
    assert documented == {EXIT_OK, EXIT_ERROR, EXIT_SIGINT, EXIT_SIGTERM, *RESTART_IS_USELESS}, (
        "decide for a new exit code of `run` whether a restart fixes it"
    )


def test_the_unit_gives_running_work_and_a_long_migration_their_time() -> None:
    from reconciler.daemon.main import DRAIN_S

    assert int(unit()["TimeoutStopSec"][0]) >= DRAIN_S + 10
    assert unit()["TimeoutStartSec"] == ["15min"]


def test_the_unit_starts_with_the_network_at_boot_and_again_after_a_failure() -> None:
    assert unit("Install")["WantedBy"] == ["multi-user.target"]
    assert unit("Unit")["After"] == unit("Unit")["Wants"] == ["network-online.target"]
    assert unit()["Restart"] == ["on-failure"], "an asked-for end is not followed by a start"


def test_systemd_waits_for_the_notifications_of_the_daemon_and_misses_its_heartbeat() -> None:
    assert (unit()["Type"], unit()["NotifyAccess"]) == (["notify"], ["main"])
    assert int(unit()["WatchdogSec"][0]) > 60, "a loop may take as long as a request to a slow provider"


def test_the_unit_keeps_the_state_to_its_user_and_leaves_what_the_daemon_needs() -> None:
    assert (unit()["UMask"], unit()["StateDirectoryMode"]) == (["0077"], ["0700"])
    assert set(unit()["RestrictAddressFamilies"][0].split()) == {"AF_INET", "AF_INET6", "AF_UNIX"}, "providers, peers, sockets"
    allowed, denied = unit()["SystemCallFilter"]
    assert (allowed, set(denied.removeprefix("~").split())) == ("@system-service", {"@privileged", "@resources"})
    number, suffix = re.fullmatch(r"(\d+)([MG])", unit()["MemoryMax"][0]).groups()  # type: ignore[union-attr]
    assert int(number) * {"M": 1, "G": 1024}[suffix] >= 512, (
        "docs/performance.md: 180 MB with 10,000 manifests, and Git beside it"
    )


# -- as a process -------------------------------------------------------------------------------------------------------


class Manager:
    """What systemd does with the unit: folders, credentials, environment, the notify socket. Absolute paths are moved below ``root``."""

    def __init__(self, root: Path, github: SandboxServer) -> None:
        self.root = root
        self.port = free_port()
        self.credentials = root / "run/credentials/reconciler.service"
        self.state = root / "var/lib/reconciler"
        self.state.mkdir(parents=True, mode=0o700)
        self.credentials.mkdir(parents=True, mode=0o700)
        contents = {"git-token": GIT_TOKEN, "github-token": GITHUB_TOKEN, "master.key": MASTER_KEY}
        for line in unit()["LoadCredential"]:
            name = line.split(":")[0]
            file = self.credentials / name
            file.write_text(contents.pop(name) + "\n")
            file.chmod(0o440)  # as stat(2) shows the access control list by which systemd lets the user of the service read it
        assert not contents
        self.config = root / "etc/reconciler/reconciler.yaml"
        self.config.parent.mkdir(parents=True)
        self.configure(str(repository(root, github)))
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(root / "notify"))
        self.socket.settimeout(60)
        self.log = root / "log"

    def configure(self, source: str, more: str = "") -> None:
        """Write the sample configuration, with this world's repository and port."""
        text = (DEPLOY / "reconciler.yaml").read_text().replace("https://github.com/acme/integrations", source)
        text = text.replace("127.0.0.1:8080", f"127.0.0.1:{self.port}")
        text = text.replace("sqlite:////var", f"sqlite:///{self.root}/var")
        self.config.write_text(re.sub(r"(?<= )/(?=(var|run)/)", f"{self.root}/", text) + more)

    def env(self, watchdog_s: float) -> dict[str, str]:
        """The variables that systemd.exec(5) lists, and those of the unit; one more for the simulated provider."""
        given = dict(line.replace("%d", str(self.credentials)).split("=", 1) for line in unit()["Environment"])
        return {
            "LANG": "C.UTF-8",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "USER": "reconciler",
            "LOGNAME": "reconciler",
            "HOME": "/var/lib/reconciler",
            "SHELL": "/usr/sbin/nologin",
            "INVOCATION_ID": "7c2a5a3f0d7b4f64b0fd0e0b3bd5f9c1",
            "JOURNAL_STREAM": "9:12345",
            "CREDENTIALS_DIRECTORY": str(self.credentials),
            "STATE_DIRECTORY": str(self.state),
            "NOTIFY_SOCKET": str(self.root / "notify"),
            "WATCHDOG_USEC": str(int(watchdog_s * 1_000_000)),
            "RECONCILER_NETWORK_ALLOW": "127.0.0.1",
            **given,
        }

    @contextlib.contextmanager
    def started(self, watchdog_s: float = 120) -> Iterator[subprocess.Popen[bytes]]:
        [program, *arguments] = shlex.split(unit()["ExecStart"][0])
        command = [str(Path(sys.executable).parent / Path(program).name), *arguments]
        command[command.index("/etc/reconciler/reconciler.yaml")] = str(self.config)
        umask = int(unit()["UMask"][0], 8)
        with (
            self.log.open("ab") as log,
            subprocess.Popen(command, env=self.env(watchdog_s), cwd=self.state, umask=umask, stdout=log, stderr=log) as process,
        ):
            try:
                yield process
            finally:
                process.kill()
                process.wait(30)

    def until(self, line: str) -> list[str]:
        """The notifications up to the one with ``line``."""
        got: list[str] = []
        while line not in got:
            got += self.socket.recv(4096).decode().splitlines()
        return got

    def output(self) -> str:
        return self.log.read_text(errors="replace")


@pytest.fixture
def manager(tmp_path: Path, github: SandboxServer) -> Iterator[Manager]:
    made = Manager(tmp_path / "root", github)
    with made.socket:
        yield made


def test_the_sample_configuration_is_valid_and_names_the_credentials_of_the_unit() -> None:
    config = load_config(DEPLOY / "reconciler.yaml", {})
    names = {line.split(":")[0] for line in unit()["LoadCredential"]}
    for file in (config.source.token_file, config.master_key.file):
        assert Path(file).parent == Path("/run/credentials/reconciler.service")
        assert Path(file).name in names
    assert (
        Path(config.status.file).parent == Path(unit()["WorkingDirectory"][0]) == Path("/var/lib") / unit()["StateDirectory"][0]
    )


def test_the_unit_serves_what_init_writes_and_tells_systemd_of_start_life_reload_and_end(
    manager: Manager, github: SandboxServer
) -> None:
    with manager.started(watchdog_s=1) as process:
        assert any(line.startswith("STATUS=") for line in manager.until("READY=1") + manager.until("WATCHDOG=1"))
        wait_until(lambda: hooks(github), manager.output)
        manager.configure(str(manager.root / "integrations.git"), "log: {level: debug}\n")
        [_, option, pid] = shlex.split(unit()["ExecReload"][0])
        assert (option, pid) == ("-HUP", "$MAINPID")
        process.send_signal(signal.SIGHUP)
        told = manager.until("RELOADING=1")
        told += manager.until("READY=1")
        assert any(re.fullmatch(r"MONOTONIC_USEC=\d+", line) for line in told)
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        manager.until("STOPPING=1")
        assert process.wait(60) == EXIT_OK, manager.output()
        assert time.monotonic() - started < int(unit()["TimeoutStopSec"][0])
    assert [path.name for path in manager.state.glob("master.key*")] == []
    for secret in (GIT_TOKEN, GITHUB_TOKEN, MASTER_KEY):
        assert secret not in manager.output()


def test_a_migration_that_takes_longer_than_the_timeout_of_a_start_is_not_ended_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = OldState(tmp_path, "sqlite")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        config = load_config(old.config, {})
        _open_store(config, Options()).close()
        assert manager.recv(4096) == b"EXTEND_TIMEOUT_USEC=120000000"
        _open_store(config, Options()).close()
        with pytest.raises(BlockingIOError):  # there was nothing to migrate
            manager.recv(4096)

        monkeypatch.setattr("reconciler.daemon.signals.EXTEND_S", 0.04)
        manager.settimeout(20)
        with longer_start():
            assert {manager.recv(4096) for _ in range(3)} == {b"EXTEND_TIMEOUT_USEC=40000"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, EXIT_SIGTERM), (signal.SIGINT, EXIT_SIGINT)])
def test_a_second_signal_ends_the_daemon_at_once_with_a_code_that_the_unit_takes_for_success(
    manager: Manager, github: SandboxServer, number: int, code: int
) -> None:
    github.admin.settings(latency_s=5)
    with manager.started() as process:
        manager.until("READY=1")
        wait_until(lambda: github.app.in_flight, manager.output)
        process.send_signal(number)
        manager.until("STOPPING=1")
        process.send_signal(number)
        assert process.wait(4) == code


@pytest.mark.parametrize(
    ("fault", "code", "exit_code"),
    [
        ("an unknown key", "RC3010", EXIT_CONFIG),
        ("another key", "RC4012", EXIT_CONFIG),
        ("no program option", "", EXIT_USAGE),
        ("a taken port", "", EXIT_ERROR),
    ],
)
def test_the_daemon_of_the_unit_ends_with_the_code_that_its_restart_depends_on(
    manager: Manager, fault: str, code: str, exit_code: int
) -> None:
    if fault == "an unknown key":
        manager.config.write_text("sauce: {}\n")
    elif fault == "another key":
        with manager.started() as process:
            manager.until("READY=1")
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        (manager.credentials / "master.key").chmod(0o600)
        (manager.credentials / "master.key").write_text("QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=\n")
    elif fault == "no program option":
        manager.config = Path("--once=maybe")
    with contextlib.ExitStack() as stack:
        if fault == "a taken port":
            taken = stack.enter_context(socket.socket())
            taken.bind(("127.0.0.1", manager.port))
            taken.listen()
        with manager.started() as process:
            assert process.wait(60) == exit_code, manager.output()
    assert code in manager.output()
    assert "Traceback" not in manager.output()


def test_the_master_key_may_have_the_mode_of_a_credential_only_in_the_folder_of_credentials(manager: Manager) -> None:
    moved = manager.root / "etc/reconciler/master.key"
    shutil.copy2(manager.credentials / "master.key", moved)
    text = manager.config.read_text()
    manager.config.write_text(text.replace(str(manager.credentials / "master.key"), str(moved)))
    with manager.started() as process:
        assert process.wait(60) == EXIT_CONFIG
    assert "RC4013" in manager.output()
