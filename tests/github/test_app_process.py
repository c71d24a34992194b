"""The program as a GitHub App, in processes of its own: nothing secret is left in its output or its state, and no token outlives it."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.world import World
from tests.github.apps import Credentials, create

SECRET = re.compile(rb"ghs_|eyJ[A-Za-z0-9_-]{20}|PRIVATE KEY")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.repos("one", "two")
    yield made
    made.close()


def as_app(world: World, **options: object) -> Credentials:
    """Let the Integration act as a new App."""
    app = create(world.servers["github"], **{"events": ["push"], "repositories": ["acme/one", "acme/two"], **options})
    world.extra_env["RECONCILER_SECRET_GITHUB"] = app.pem
    manifest = world.integration("github")
    key = "privateKey: {valueFrom: {secret: {name: github, key: token}}}"
    auth = f"  auth: {{use: github-app, githubApp: {{clientId: {app.client_id}, {key}}}}}"
    world.write("github.yaml", manifest[: manifest.index("  auth:")] + auth)
    return app


def tokens(world: World) -> list[str]:
    return [token for token in world.servers["github"].admin.state()["tokens"] if token.startswith("ghs_")]


def left(world: World) -> list[str]:
    """The files below the folder of the process that contain a secret."""
    return [str(path) for path in world.folder.rglob("*") if path.is_file() and SECRET.search(path.read_bytes())]


def test_an_apply_as_an_app_creates_no_hook_revokes_its_tokens_and_leaves_no_secret(world: World) -> None:
    as_app(world)
    world.source("one")
    done = world.cli("apply", "--yes")
    assert done.returncode == 0, done.stderr
    assert world.hooks("one") == []
    assert len(world.servers["github"].admin.requests("access_tokens", "POST")) >= 1
    assert tokens(world) == []
    assert SECRET.search((done.stdout + done.stderr).encode()) is None
    assert left(world) == []


def test_a_daemon_revokes_its_tokens_when_it_is_stopped(world: World) -> None:
    as_app(world)
    world.source("one")
    process = world.daemon()
    world.wait(world.all_ready, "everything is ready")
    assert tokens(world)
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert tokens(world) == []
    assert left(world) == []


def test_the_status_names_the_missing_permission_and_the_page_where_it_is_approved(world: World) -> None:
    app = as_app(world, permissions={"deployments": "read"}, events=[])
    world.servers["github"].admin.do("change_app", app=app.id, permissions={"deployments": "read", "contents": "read"})
    world.source("one")
    world.cli("run", "--once")
    shown = world.cli("status", "-o", "json").stdout + world.cli("doctor").stdout
    assert "contents: read" in shown
    assert f"https://github.com/organizations/acme/settings/installations/{app.installation}/permissions/update" in shown
    assert world.hooks("one") == []


def test_the_status_says_that_the_installation_is_suspended(world: World) -> None:
    app = as_app(world)
    world.servers["github"].admin.do("suspend_installation", installation=app.installation)
    world.source("one")
    world.cli("run", "--once")
    assert "suspended" in world.cli("status", "-o", "json").stdout
    assert len(world.servers["github"].admin.requests("access_tokens", "POST")) <= 1
