"""The Compose file, the `docker run` lines of the docs and the systemd unit, started by the commands and environment they name."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from configparser import RawConfigParser
from pathlib import Path

import pytest
import yaml

from reconciler.cli.init import files
from reconciler.sandbox.server import SandboxServer, simulator
from tests.docs.pages import ROOT
from tests.support.gitrepo import GitRepo

GITHUB_TOKEN = "canary-github-4d1c"
GIT_TOKEN = "canary-git-99aa"


@pytest.fixture
def github() -> Iterator[SandboxServer]:
    with SandboxServer(simulator("github")) as server:
        first = next(iter(server.admin.state()["tokens"].values()))
        server.admin.put_state({"tokens": {GITHUB_TOKEN: first}, "repos": {"your-organization/your-repository": {}}})
        yield server


def repository(folder: Path, github: SandboxServer) -> Path:
    """The repository that `init` writes; only where the simulated provider listens is added."""
    written: dict[str, str | bytes | None] = dict(files())
    text = files()["github/integration.yaml"]
    written["github/integration.yaml"] = text.replace("  type: github\n", f"  type: github\n  apiUrl: {github.url}\n")
    repo = GitRepo(folder / "integrations.git")
    repo.commit(written, "init")
    return repo.path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Container:
    """What an image's environment and mounts make of a process: paths of the container are moved below ``root``."""

    def __init__(self, root: Path, image: Mapping[str, str], mounts: Mapping[str, str]) -> None:
        self.root = root
        self.port = free_port()
        self.env = {"PATH": os.environ["PATH"], "NO_COLOR": "1"}
        self.take(image)
        (root / "var/lib/reconciler").mkdir(parents=True, mode=0o700)
        for target, content in mounts.items():
            path = root / target.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
            path.chmod(0o400)

    def take(self, env: Mapping[str, str]) -> None:
        for name, value in env.items():
            if name.startswith("RECONCILER_"):
                moved = re.sub(r"(?<![\w/:.])/(?=(var|run|etc)/)", f"{self.root}/", value)
                self.env[name] = re.sub(r"sqlite:////", f"sqlite:///{self.root}/", moved).replace(
                    "0.0.0.0:8080", f"127.0.0.1:{self.port}"
                )

    @contextlib.contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "reconciler", *arguments]
        with (
            (self.root / "log").open("wb") as log,
            subprocess.Popen(command, env=self.env, cwd=self.root / "var/lib/reconciler", stdout=log, stderr=log) as process,
        ):
            try:
                yield process
            finally:
                process.terminate()
                process.wait(30)

    def ready(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            assert process.poll() is None, (self.root / "log").read_text()
            with (
                contextlib.suppress(OSError),
                contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection,
            ):
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    return
            time.sleep(0.2)
        raise AssertionError((self.root / "log").read_text())


def image_env() -> dict[str, str]:
    """The ENV lines of the Dockerfile's last stage."""
    stage = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2].replace("\\\n", " ")
    lines = [line.removeprefix("ENV ") for line in stage.splitlines() if line.startswith("ENV ")]
    return dict(part.split("=", 1) for line in lines for part in shlex.split(line))


def hooks(github: SandboxServer) -> list[str]:
    state = github.admin.state()
    kept = state["hooks"].get(f"repos/{state['repos']['your-organization/your-repository']['id']}", [])
    return [hook["config"]["url"] for hook in kept if hook["config"]["url"].startswith("https://hooks.")]


def wait_for_hook(github: SandboxServer, container: Container) -> None:
    until = time.monotonic() + 60
    while not hooks(github):
        assert time.monotonic() < until, (container.root / "log").read_text()
        time.sleep(0.2)


def test_n46_the_compose_file_serves_what_init_writes_with_the_environment_and_secrets_it_names(
    tmp_path: Path, github: SandboxServer
) -> None:
    service = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]["reconciler"]
    assert service["ports"] == ["127.0.0.1:8080:8080"]
    contents = {"git-token": GIT_TOKEN, "github-token": GITHUB_TOKEN}
    mounts = {secret["target"]: contents[secret["source"]] for secret in service["secrets"]}
    assert len(mounts) == len(contents)
    container = Container(tmp_path / "root", image_env(), mounts)
    given = {"RECONCILER_SOURCE_URL": str(repository(tmp_path, github)), "RECONCILER_SERVER_PUBLIC_URL": "https://hooks.example"}
    container.take({name: given.get(name, value) for name, value in service["environment"].items()})
    container.env |= {"RECONCILER_NETWORK_ALLOW": "127.0.0.1"}
    secrets_folder = Path(container.env["RECONCILER_SECRETS_FOLDER"])
    assert GIT_TOKEN not in [path.read_text() for path in secrets_folder.rglob("*") if path.is_file()]
    with container.running("run") as process:
        container.ready(process)
        wait_for_hook(github, container)


def test_n46_the_docker_run_line_of_the_docs_publishes_the_port_and_serves_what_init_writes(
    tmp_path: Path, github: SandboxServer
) -> None:
    page = (ROOT / "docs/operations.md").read_text().replace("\\\n", " ")
    words = shlex.split(next(line for line in page.splitlines() if line.startswith("$ docker run")).removeprefix("$ "))
    options = list(itertools.pairwise(words))
    assert ("-p", "127.0.0.1:8080:8080") in options
    assert "EXPOSE 8080" in (ROOT / "Dockerfile").read_text()
    env = dict(value.partition("=")[::2] for option, value in options if option == "-e")
    targets = [value.split(":")[1] for option, value in options if option == "-v" and not value.startswith("reconciler-state:")]
    container = Container(tmp_path / "root", image_env(), dict.fromkeys(targets, GIT_TOKEN))
    assert Path(env["RECONCILER_SOURCE_AUTH_TOKEN_FILE"]) in [Path(target) for target in targets]
    given = {
        "RECONCILER_SOURCE_URL": str(repository(tmp_path, github)),
        "RECONCILER_SERVER_PUBLIC_URL": "https://hooks.example",
        "RECONCILER_SECRET_GITHUB_TOKEN": GITHUB_TOKEN,
    }
    assert set(given) <= set(env), "the docs name every variable that the manifests of init need"
    container.take(env | given)
    container.env |= {"RECONCILER_NETWORK_ALLOW": "127.0.0.1"}
    with container.running("run") as process:
        container.ready(process)
        wait_for_hook(github, container)


def unit() -> RawConfigParser:
    parser = RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read_string((ROOT / "deploy/reconciler.service").read_text())
    return parser


def test_n46_the_systemd_unit_starts_the_daemon_by_the_command_it_names_and_tells_it_is_ready(
    tmp_path: Path, github: SandboxServer
) -> None:
    service = unit()["Service"]
    program, verb, option, config = shlex.split(service["ExecStart"])
    assert (Path(program).name, verb, option) == ("reconciler", "run", "--config")
    root = tmp_path / "root"
    container = Container(root, {}, {"/run/credentials/reconciler.service/github-token": GITHUB_TOKEN})
    file = root / config.lstrip("/")
    file.parent.mkdir(parents=True)
    state = root / "var/lib/reconciler"
    file.write_text(
        f"source: {{url: {repository(tmp_path, github)}}}\n"
        f"state: {{url: 'sqlite:///{state}/state.db'}}\nstatus: {{file: {state}/status.json}}\n"
        f"masterKey: {{file: {state}/master.key}}\nnetwork: {{allow: [127.0.0.1]}}\n"
        f"server: {{listen: '127.0.0.1:{container.port}', publicUrl: 'https://hooks.example'}}\n"
    )
    notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notifications.bind(str(tmp_path / "notify"))
    notifications.settimeout(60)
    container.env |= {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": str(int(service["WatchdogSec"]) * 1_000_000),
        "RECONCILER_SECRET_GITHUB_TOKEN_FILE": str(root / "run/credentials/reconciler.service/github-token"),
    }
    with notifications, container.running(verb, option, str(file)) as process:
        container.ready(process)
        wait_for_hook(github, container)
        messages = [notifications.recv(4096)]
        while b"READY=1" not in messages[-1]:
            messages.append(notifications.recv(4096))
    assert process.returncode in {0, 130, 143}


def test_n46_a_manifest_cannot_read_a_credential_of_the_daemon_as_a_secret(tmp_path: Path) -> None:
    from reconciler.config.settings import SecretsConfig
    from reconciler.credentials.backends import SecretResolver
    from reconciler.model.errors import SecretUnavailable
    from reconciler.model.resources import SecretRef
    from tests.credentials.conftest import by_id, secret

    own = tmp_path / "git-token"
    own.write_text(GIT_TOKEN)
    (tmp_path / "link").symlink_to(own)
    for name in ("git-token", "./git-token", "link"):
        resolver = SecretResolver(
            by_id(secret("s", "file", {"k": {"path": name}})), SecretsConfig(folder=str(tmp_path)), reserved=[own]
        )
        with pytest.raises(SecretUnavailable, match="credential of the daemon itself") as caught:
            resolver.read(SecretRef("default", "s", "k"))
        assert GIT_TOKEN not in str(caught.value)


@pytest.mark.parametrize("content", ["", "\n"])
def test_n46_an_empty_file_of_a_variable_is_a_missing_value(content: str, tmp_path: Path) -> None:
    from reconciler.config.settings import SecretsConfig
    from reconciler.credentials.backends import SecretResolver
    from reconciler.model.errors import SecretUnavailable
    from reconciler.model.resources import SecretRef
    from tests.credentials.conftest import by_id, secret

    file = tmp_path / "value"
    file.write_text(content)
    environ = {"RECONCILER_SECRET_X_FILE": str(file)}
    resolver = SecretResolver(
        by_id(secret("s", "env", {"k": {"env": "RECONCILER_SECRET_X"}})), SecretsConfig(folder=str(tmp_path)), environ=environ
    )
    with pytest.raises(SecretUnavailable, match="RECONCILER_SECRET_X_FILE"):
        resolver.read(SecretRef("default", "s", "k"))
