"""The image, built from a clean checkout, and containers of it as the documentation starts them. `make test-image` runs this."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from reconciler import __version__
from reconciler.cli.init import files
from reconciler.sandbox import server as sandbox
from tests.deploy.described import Described, instructions, of_compose, of_run_line, run_lines
from tests.docs.pages import ROOT
from tests.image.building import CERTIFICATE, Builder, Image
from tests.image.containers import INSIDE, Container, Network, installed
from tests.support.githttp import GitHttpServer
from tests.support.gitrepo import GitRepo

pytestmark = pytest.mark.timeout(600)  # the first test builds the image
MAX_IMAGE_MB, MAX_PACKAGES_MB = 280, 125
"""Ceilings in 10^6 bytes; docs/image.md says what takes the room. A change that needs more says why."""
PUBLIC = "https://hooks.acme.example"
GITHUB_TOKEN, GIT_TOKEN = "canary-github-4d1c", "canary-git-99aa"
PUSH = json.dumps({"ref": "refs/heads/main", "repository": {"name": "your-repository"}}).encode()
STATE = "/var/lib/reconciler"


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A folder that uid 65532 can reach, unlike those of pytest. IMAGE_TEST_FOLDER names one that is kept, with the base image."""
    kept = os.environ.get("IMAGE_TEST_FOLDER")
    path = Path(kept or f"/var/tmp/reconciler-image-{os.getpid()}")
    path.mkdir(mode=0o755, exist_ok=bool(kept))
    yield path
    if not kept:
        shutil.rmtree(path)


@pytest.fixture(scope="session")
def image(folder: Path) -> Iterator[Image]:
    assert not installed(), f"missing: {installed()}; sh tests/setup-debian.sh image"
    builder = Builder(folder)
    [base] = re.findall(r"^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    builder.base(base)
    revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    yield builder.build(revision)
    builder.close()


@dataclass
class World:
    """GitHub and a Git server, and the repository that `init` writes."""

    image: Image
    network: Network
    github: sandbox.SandboxServer
    git: GitHttpServer
    authority: Path
    folder: Path

    @contextlib.contextmanager
    def container(self, name: str) -> Iterator[Container]:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        made = Container(self.image, self.network, folder)
        try:
            yield made
        finally:
            made.close()

    def state(self, name: str) -> Path:
        """A volume as an engine makes it: with owner and mode of the folder in the image."""
        volume = self.folder / f"volume-{name}"
        if not volume.exists():
            volume.mkdir()
            of_image = (self.image.root / STATE.lstrip("/")).stat()
            os.chown(volume, of_image.st_uid, of_image.st_gid)
            volume.chmod(of_image.st_mode & 0o7777)
        return volume

    def start(self, container: Container, described: Described, volume: Path) -> None:
        """Start ``described`` with this world's addresses in place of its examples, and wait until it is ready."""
        mounts = {}
        for target, source in described.mounts.items():
            mounts[target] = self._credential(source) if target in described.read_only_mounts else volume
        env = {
            "RECONCILER_SOURCE_URL": f"https://localhost:{self.git.port}/integrations.git",
            "RECONCILER_SERVER_PUBLIC_URL": PUBLIC,
            "RECONCILER_NETWORK_ALLOW": "127.0.0.1,localhost",
            "RECONCILER_NETWORK_CA_BUNDLE": "/run/authority.pem",
        }
        described.read_only_mounts.add("/run/authority.pem")
        container.start(described, {**mounts, "/run/authority.pem": self.authority}, env)
        wait(lambda: self.answer("GET", "/readyz")[0] == 200, container)

    def _credential(self, source: str) -> Path:
        """The file of a credential, with the owner and mode that the documentation gives it."""
        file = self.folder / Path(source).name
        if not file.exists():
            file.write_text({"git-token": GIT_TOKEN, "github-token": GITHUB_TOKEN}[file.name] + "\n")
            file.chmod(0o400)
            os.chown(file, 65532, 65532)
        return file

    def answer(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Ask the port of the container from outside; 0 while nothing answers there."""
        with (
            contextlib.suppress(OSError),
            self.network.outside(),
            contextlib.closing(http.client.HTTPConnection(INSIDE, 8080, timeout=10)) as connection,
        ):
            connection.request(method, path, body=body, headers=headers or {})
            got = connection.getresponse()
            return got.status, got.read()
        return 0, b""

    def hooks(self) -> list[dict[str, Any]]:
        with self.network.inside():
            state = self.github.admin.state()
        kept = state["hooks"].get(f"repos/{state['repos']['your-organization/your-repository']['id']}", [])
        return [hook for hook in kept if hook["config"]["url"].startswith(PUBLIC)]


def wait(condition: Callable[[], object], container: Container, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert container.process is not None
        assert container.process.poll() is None, container.output()
        assert time.monotonic() < until, container.output()
        time.sleep(0.1)


@pytest.fixture(scope="session")
def world(image: Image, folder: Path) -> Iterator[World]:
    network = Network()
    repository = GitRepo(folder / "git/integrations.git")
    authority = trustme.CA()
    pem = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(pem))
    pem.chmod(0o644)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    git = GitHttpServer(folder / "git", token=GIT_TOKEN)
    made = folder / "world"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    with contextlib.ExitStack() as stack:
        stack.callback(network.close)
        with network.inside():
            stack.enter_context(git)
            encrypt(git, context)
            github = stack.enter_context(sandbox.SandboxServer(sandbox.simulator("github")))
            first = next(iter(github.admin.state()["tokens"].values()))
            github.admin.put_state({"tokens": {GITHUB_TOKEN: first}, "repos": {"your-organization/your-repository": {}}})
            github.admin.settings(deliver=True, deliver_to={PUBLIC: f"http://{INSIDE}:8080"})
        text = files()["github/integration.yaml"].replace("  type: github\n", f"  type: github\n  apiUrl: {github.url}\n")
        repository.commit({**files(), "github/integration.yaml": text}, "init")
        yield World(image, network, github, git, pem, made)


def encrypt(git: GitHttpServer, context: ssl.SSLContext) -> None:
    """Serve over TLS, and end each connection as TLS requires: GnuTLS takes a bare end for a cut connection."""
    server = git._server
    assert server is not None
    server.socket = context.wrap_socket(server.socket, server_side=True)
    plain = server.shutdown_request

    def shutdown(request: Any) -> None:
        with contextlib.suppress(OSError):
            request.unwrap()
        plain(request)

    server.shutdown_request = shutdown  # type: ignore[method-assign]


def daemon_line() -> Described:
    """The `docker run` line of the documentation that starts the daemon."""
    [line] = [line for _, line in run_lines() if "--detach" in line]
    return of_run_line(line)


# -- content ------------------------------------------------------------------------------------------------------------


def size(folder: Path) -> int:
    """Bytes of the files below ``folder``; hard links count once."""
    seen = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        seen[status.st_ino] = 0 if path.is_dir() else status.st_size
    return sum(seen.values())


def test_the_image_stays_below_its_ceilings_of_size(image: Image) -> None:
    packages = image.root / "opt/reconciler/lib/python3.11/site-packages"
    sizes = {path.name: size(path) for path in packages.iterdir() if path.is_dir()}
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:12]
    total, inner = size(image.root), size(packages)
    print(
        f"image {total / 1e6:.1f} MB, packages {inner / 1e6:.1f} MB:", *(f"{name} {bytes_ / 1e6:.1f}" for name, bytes_ in largest)
    )
    assert total < MAX_IMAGE_MB * 1e6
    assert inner < MAX_PACKAGES_MB * 1e6, largest


def test_the_image_has_no_build_tools_no_tests_and_nothing_of_the_checkout_but_the_package(image: Image) -> None:
    packages = image.root / "opt/reconciler/lib/python3.11/site-packages"
    names = {path.name.partition("-")[0].lower() for path in packages.iterdir()}
    assert not names & {
        "pip",
        "setuptools",
        "wheel",
        "hatchling",
        "editables",
        "pathspec",
        "pluggy",
        "trove_classifiers",
        "pytest",
        "moto",
    }
    programs = {path.name for where in ("usr/bin", "opt/reconciler/bin") for path in (image.root / where).iterdir()}
    assert not programs & {"pip", "pip3", "gcc", "cc", "strip", "ld", "make", "hatchling", "curl", "wget"}
    assert not [path for path in packages.rglob("*") if path.is_dir() and path.name in {"tests", "test"}]
    assert not (image.root / "src").exists()
    assert not (image.root / "wheels").exists()
    assert not (image.root / "usr/share/perl").exists()
    assert list((image.root / "var/lib/apt/lists").iterdir()) == []


def test_nothing_but_the_state_folder_and_temporary_folders_can_be_written_by_the_user_of_the_image(image: Image) -> None:
    writable = []
    for top in ("opt", "etc", "usr", "var"):
        for path in (image.root / top).rglob("*"):
            status = path.lstat()
            mine = status.st_uid == 65532 or status.st_gid == 65532
            if not path.is_symlink() and (mine or status.st_mode & 0o002):
                writable.append(str(path.relative_to(image.root)))
    assert sorted(writable) == ["var/lib/reconciler", "var/lock", "var/tmp"] or sorted(writable) == [
        "var/lib/reconciler",
        "var/tmp",
    ]


def test_the_image_says_what_it_is_and_how_it_is_run_and_checked(image: Image) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    labels = image.config["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.revision"] == head
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.base.name"].startswith("docker.io/library/debian:bookworm-slim")
    written = instructions()
    assert image.config["User"] == written.user == "65532:65532"
    assert image.config["StopSignal"] == written.stop_signal == "SIGTERM"
    assert list(image.config["ExposedPorts"]) == [f"{port}/tcp" for port in written.ports]
    assert list(image.config["Volumes"]) == written.volumes == [STATE]
    assert image.healthcheck == written.healthcheck == ["reconciler", "healthcheck"]
    assert [*image.config["Entrypoint"], *image.config["Cmd"]] == written.command
    assert image.env == written.env


def test_no_secret_and_no_setting_of_the_machine_that_built_it_is_in_the_image(image: Image) -> None:
    for mount_point in ("etc/pip.conf", CERTIFICATE.lstrip("/")):  # buildah leaves an empty file where a file was mounted
        path = image.root / mount_point
        assert not path.exists() or path.stat().st_size == 0
    assert not [name for name in image.env if re.search(r"TOKEN|PASSWORD|PIP_|PROXY", name)]
    assert not [line for line in image.history if re.search(r"(?i)password|token=|proxy=", line)]
    assert not list(image.root.rglob("master.key*"))
    assert (image.root / STATE.lstrip("/")).stat().st_mode & 0o777 == 0o700
    assert list((image.root / STATE.lstrip("/")).iterdir()) == []


def inside(world: World, name: str, *command: str, entrypoint: list[str] | None = None) -> str:
    """Run one command in a container of its own, restricted as the daemon, and return its output."""
    described = Described(
        command=list(command), tmpfs=["/tmp"], read_only=True, cap_drop=["ALL"], security=["no-new-privileges:true"]
    )
    with world.container(name) as container:
        config = {**world.image.config, "Entrypoint": entrypoint if entrypoint is not None else world.image.config["Entrypoint"]}
        container._image = Image(world.image.root, config, world.image.history, "")
        container.start(described, {}, {})
        assert container.process is not None
        code = container.process.wait(60)
        assert code == 0, container.output()
        return container.output()


IMPORTS = """
import importlib, pkgutil, reconciler
for module in pkgutil.walk_packages(reconciler.__path__, "reconciler."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
import psycopg, pyrage, ssl
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
request = AWSRequest(method="GET", url="https://sts.eu-west-1.amazonaws.com/")
SigV4Auth(Credentials("AKIA", "x"), "sts", "eu-west-1").add_auth(request)
from reconciler.manifests.cel import compile_filter
compile_filter('$.ref == "refs/heads/main"')
import sqlalchemy
sqlalchemy.create_engine("postgresql+psycopg://localhost/x")
import zoneinfo
zoneinfo.ZoneInfo("America/St_Johns")
assert ssl.create_default_context().cert_store_stats()["x509_ca"] > 50
print(psycopg.pq.__impl__, request.headers["Authorization"][:16], pyrage.x25519.Identity.generate().to_public() is not None)
"""


def test_everything_that_the_program_imports_is_there_also_for_its_extras_and_without_what_was_left_out(world: World) -> None:
    python = ["/opt/reconciler/bin/python", "-W", "ignore"]
    assert inside(world, "imports", "-c", IMPORTS, entrypoint=python).split() == ["binary", "AWS4-HMAC-SHA256", "True"]


def test_the_program_in_the_image_has_the_version_of_the_label_and_its_examples_are_valid(world: World) -> None:
    assert __version__ in inside(world, "version", "version")
    script = "reconciler init /tmp/x && cd /tmp/x && reconciler validate && ssh -V && git --version && git -C /tmp/x init -q"
    assert "OpenSSH" in inside(world, "init", "-c", script, entrypoint=["/bin/sh"])


# -- running ------------------------------------------------------------------------------------------------------------


def signed(hook: dict[str, Any], body: bytes, delivery: str) -> tuple[str, dict[str, str]]:
    path = hook["config"]["url"].removeprefix(PUBLIC)
    digest = hmac.new(hook["config"]["secret"].encode(), body, hashlib.sha256).hexdigest()
    return path, {
        "content-type": "application/json",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": delivery,
        "X-GitHub-Hook-ID": str(hook["id"]),
        "X-Hub-Signature-256": f"sha256={digest}",
    }


def test_the_docker_run_line_reconciles_takes_deliveries_from_outside_and_keeps_its_state_over_a_restart(world: World) -> None:
    described, volume = daemon_line(), world.state("run")
    assert described.grace_s > 25, "a stop waits for running work: reconciler/daemon/main.py, DRAIN_S"
    with world.container("run") as container:
        world.start(container, described, volume)
        wait(world.hooks, container)
        [hook] = world.hooks()
        _check_restrictions(container)
        assert container.exec(*world.image.healthcheck).returncode == 0, container.output()
        path, headers = signed(hook, PUSH, "6f2a0e1c-0000-4000-8000-000000000001")
        assert world.answer("POST", path, PUSH, {**headers, "X-Hub-Signature-256": "sha256=" + "0" * 64})[0] == 401
        assert world.answer("POST", path, PUSH, headers)[0] in {200, 202}
        with world.network.inside():
            world.github.admin.do("push", repo="your-organization/your-repository", ref="main")
        wait(lambda: b'reconciler_deliveries_total{outcome="accepted"} 0' not in world.answer("GET", "/metrics")[1], container)
        events = container.exec("reconciler", "events", "--all", "-o", "json")
        assert "6f2a0e1c-0000-4000-8000-000000000001" in events.stdout, events.stderr
        code, seconds = container.stop(world.image.config["StopSignal"])
        assert (code, seconds < described.grace_s) == (0, True), container.output()
        key = (volume / "master.key").read_bytes()
    with world.container("run-again") as container:
        world.start(container, daemon_line(), volume)
        wait(lambda: container.exec(*world.image.healthcheck).returncode == 0, container)
        assert [again["id"] for again in world.hooks()] == [hook["id"]]
        assert (volume / "master.key").read_bytes() == key
        assert "6f2a0e1c-0000-4000-8000-000000000001" in container.exec("reconciler", "events", "--all", "-o", "json").stdout
        assert world.answer("POST", path, PUSH, headers)[0] in {200, 202}
        wait(lambda: re.search(rb'outcome="duplicate"\} 1', world.answer("GET", "/metrics")[1]), container)
        assert container.stop()[0] == 0, container.output()
        written = container.output() + (world.folder / "run" / "log").read_text()
    for secret in (GIT_TOKEN, GITHUB_TOKEN, hook["config"]["secret"], key.decode().strip()):
        assert secret not in written
    assert (volume / "status.json").stat().st_uid == 65532


def _check_restrictions(container: Container) -> None:
    status = container.exec("cat", "/proc/1/status").stdout
    assert re.search(r"^Uid:\t65532\t65532\t65532\t65532$", status, re.MULTILINE)
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    refused = container.exec("sh", "-c", "touch /opt/reconciler/x /etc/x /x")
    assert refused.stderr.count("Read-only file system") == 3
    assert container.exec("sh", "-c", "touch /tmp/x && rm /tmp/x").returncode == 0


def test_the_compose_file_serves_what_init_writes_and_a_dead_daemon_is_unhealthy(world: World) -> None:
    described, volume = of_compose(), world.state("compose")
    with world.container("compose") as container:
        world.start(container, described, volume)
        wait(world.hooks, container)
        assert container.exec(*world.image.healthcheck).returncode == 0
        folder = described.env["RECONCILER_SECRETS_FOLDER"]
        assert GIT_TOKEN not in container.exec("sh", "-c", f"cat {folder}/*").stdout
        assert container.stop()[0] == 0, container.output()
    assert json.loads((volume / "status.json").read_text())["daemon"]["phase"] == "stopped"


def test_images_built_on_this_one_can_install_debian_packages(image: Image) -> None:
    """`apt-get check` is what apt does first; it fails if the package database names something that is missing."""
    done = subprocess.run(["chroot", str(image.root), "apt-get", "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    listed = subprocess.run(["chroot", str(image.root), "dpkg", "--audit"], capture_output=True, text=True, check=False)
    assert listed.stdout == ""
