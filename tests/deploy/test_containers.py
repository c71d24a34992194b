"""The Compose file and the `docker run` lines of the docs: held to the image, and started as processes with what they name."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from reconciler.cli.init import files
from reconciler.config.settings import KEYS
from reconciler.sandbox.server import SandboxServer
from tests.deploy.described import Described, instructions, of_compose, of_run_line, run_lines
from tests.docs.pages import ROOT, pages
from tests.support.gitrepo import GitRepo

GITHUB_TOKEN = "canary-github-4d1c"
GIT_TOKEN = "canary-git-99aa"
LOCKS = ("requirements.lock", "requirements-image.lock")


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


def hooks(github: SandboxServer) -> list[str]:
    state = github.admin.state()
    kept = state["hooks"].get(f"repos/{state['repos']['your-organization/your-repository']['id']}", [])
    return [hook["config"]["url"] for hook in kept if hook["config"]["url"].startswith("https://hooks.")]


def wait_until(condition: Callable[[], object], log: Callable[[], str]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, log()
        time.sleep(0.1)


def daemons() -> list[tuple[str, Described]]:
    lines = [(page, of_run_line(line)) for page, line in run_lines() if "--detach" in line]
    return [*lines, ("deploy/compose.yaml", of_compose())]


@pytest.mark.parametrize(("where", "described"), daemons(), ids=[where for where, _ in daemons()])
def test_every_description_of_a_container_agrees_with_the_image(where: str, described: Described) -> None:
    from reconciler.daemon.main import DRAIN_S

    image = instructions()
    [port] = image.ports
    assert described.ports == [f"127.0.0.1:{port}:{port}"], "published, and for a proxy on this host only"
    assert described.image == "reconciler"
    assert described.command == []
    assert set(image.volumes) <= set(described.mounts)
    assert all("/" not in described.mounts[volume] for volume in image.volumes), "a named volume, which outlives the container"
    assert set(described.mounts) - set(image.volumes) == described.read_only_mounts
    assert (described.read_only, described.init, described.tmpfs) == (True, True, ["/tmp"])
    assert (described.cap_drop, described.security) == (["ALL"], ["no-new-privileges:true"])
    assert described.grace_s >= DRAIN_S + 10
    files = {name: value for name, value in described.env.items() if name.endswith("_FILE")}
    assert set(files.values()) == described.read_only_mounts, "every file is mounted, and every mounted file is used"
    own = [Path(value or "") for name, value in files.items() if not name.startswith("RECONCILER_SECRET_")]
    folder = Path(described.env.get("RECONCILER_SECRETS_FOLDER") or "/var/lib/reconciler/secrets")
    assert own, "the token for Git"
    assert not any(file.is_relative_to(folder) for file in own), "manifests may read what is in this folder"
    known = {key.variable for key in KEYS} | {"RECONCILER_SECRET_GITHUB_TOKEN_FILE"}
    assert set(described.env) <= known


def test_every_docker_run_line_of_the_docs_is_read() -> None:
    lines = run_lines()
    assert lines
    text = "\n".join(page.read_text() for page in pages())
    assert len(lines) == len(re.findall(r"^\$ docker run ", text, re.MULTILINE))
    for _, line in lines:
        assert of_run_line(line).image == "reconciler"


@pytest.mark.parametrize(("where", "described"), daemons(), ids=[where for where, _ in daemons()])
def test_n46_a_container_serves_what_init_writes_with_the_environment_and_files_of_its_description(
    where: str, described: Described, tmp_path: Path, github: SandboxServer
) -> None:
    contents = {"git-token": GIT_TOKEN, "github-token": GITHUB_TOKEN}
    mounts = {target: contents[Path(described.mounts[target]).name] for target in described.read_only_mounts}
    assert sorted(mounts.values()) == sorted(contents.values())
    container = Container(tmp_path / "root", instructions().env, mounts)
    given = {"RECONCILER_SOURCE_URL": str(repository(tmp_path, github)), "RECONCILER_SERVER_PUBLIC_URL": "https://hooks.example"}
    assert set(given) <= set(described.env)
    container.take({name: given.get(name, value or "") for name, value in described.env.items()})
    container.env |= {"RECONCILER_NETWORK_ALLOW": "127.0.0.1"}
    secrets = Path(container.env.get("RECONCILER_SECRETS_FOLDER", container.env["RECONCILER_SECRET_GITHUB_TOKEN_FILE"] + "/.."))
    assert GIT_TOKEN not in [path.read_text() for path in secrets.resolve().rglob("*") if path.is_file()]
    with container.running("run") as process:
        container.ready(process)
        wait_until(lambda: hooks(github), (container.root / "log").read_text)


def test_the_image_installs_every_extra_of_the_program_from_its_lock() -> None:
    [extras] = re.findall(r"^ARG EXTRAS=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras.split(",") == sorted(declared)
    locks = {name: set(re.findall(r"^[\w.-]+==\S+", (ROOT / name).read_text(), re.MULTILINE)) for name in LOCKS}
    assert locks["requirements-image.lock"] >= locks["requirements.lock"], "make the locks again, with the same versions"
    assert "!requirements-image.lock" in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_image_keeps_its_promises_of_docs_image() -> None:
    image = instructions()
    assert (image.user, image.stop_signal, image.healthcheck) == ("65532:65532", "SIGTERM", ["reconciler", "healthcheck"])
    files = [value.removeprefix("sqlite:///") for name, value in image.env.items() if name.endswith(("_FILE", "_STATE_URL"))]
    assert {str(Path(file).parent) for file in files} == set(image.volumes), "what is written lies in the volume"
    [download] = re.findall(r"pip download (.*?)-r requirements-image.lock", (ROOT / "Dockerfile").read_text(), re.DOTALL)
    assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(download.split())
    installs = re.findall(r" install (--quiet .*?)(?:hatchling|\")", (ROOT / "Dockerfile").read_text(), re.DOTALL)
    assert len(installs) == 2
    assert all({"--no-index", "--find-links"} <= set(install.split()) for install in installs), "only what was verified"


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
