"""`app status` against a GitHub with an App: what is needed, granted, missing and not needed, and where a person changes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.world import World
from tests.github.apps import Credentials, create

SETTINGS = "https://github.com/organizations/acme/settings"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.repos("one", "two")
    yield made
    made.close()


def as_app(world: World, more: str = "", **options: object) -> Credentials:
    app = create(world.servers["github"], **{"title": "Deployer", "repositories": ["acme/one"], **options})
    world.extra_env["RECONCILER_SECRET_GITHUB"] = app.pem
    manifest = world.integration("github")
    key = "privateKey: {valueFrom: {secret: {name: github, key: token}}}"
    auth = f"  auth: {{use: github-app, githubApp: {{clientId: {app.client_id}, {key}}}}}\n"
    world.write("github.yaml", manifest[: manifest.index("  auth:")] + auth + more)
    world.source("one", events="[{type: push}]")
    assert world.cli("run", "--once").returncode in {0, 6}
    return app


def document(world: World, *arguments: str) -> dict[str, Any]:
    done = world.cli("app", "status", *arguments, "-o", "json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["apps"]
    return dict(row)


def test_every_gap_names_the_page_where_a_person_closes_it(world: World) -> None:
    app = as_app(world, permissions={"statuses": "write"}, events=["status"])
    row = document(world)
    update = f"{SETTINGS}/installations/{app.installation}/permissions/update"
    settings = f"{SETTINGS}/apps/deployer/permissions"
    assert row["complete"] is False
    assert row["permissions"] == {
        "needed": {"contents": "read"},
        "requested": {"metadata": "read", "statuses": "write"},
        "granted": {"metadata": "read", "statuses": "write"},
        "missing": [f"contents: read (grant it on the App's settings, {settings}, then on {update})"],
        "surplus": ["statuses: write"],
    }
    assert row["events"] == {
        "needed": ["push"],
        "subscribed": ["status"],
        "missing": [f"push (subscribe to it on {settings})"],
        "surplus": ["status"],
    }
    assert row["installation"] == {
        "id": str(app.installation),
        "account": "acme",
        "repositories": "selected",
        "suspendedAt": "",
        "url": f"{SETTINGS}/installations/{app.installation}",
    }
    assert row["manifests"] == [
        {"resource": "EventSource/default/one", "permissions": {"contents": "read"}, "events": ["push"], "eventsRequired": True}
    ]
    shown = world.cli("app", "status", "Integration/github")
    assert shown.returncode == 0
    for text in ("the App deployer on acme", "selected repositories", settings, update, "contents: read", "not needed"):
        assert text in shown.stdout, shown.stdout
    assert world.cli("app", "status", "github", "--exit-code").returncode == 2
    world.servers["github"].admin.do("change_app", app=app.id, permissions={"contents": "read"}, events=["push"])
    row = document(world)
    assert row["permissions"]["missing"] == [f"contents: read (grant it on {update})"]
    assert row["events"]["missing"] == [f"push (approve it on {update})"]
    world.servers["github"].admin.do("accept_permissions", installation=app.installation)
    row = document(world)
    assert (row["permissions"]["missing"], row["events"]["missing"], row["permissions"]["surplus"]) == ([], [], [])
    assert row["events"]["surplus"] == []


def test_the_webhook_is_compared_with_what_it_should_be(world: World) -> None:
    as_app(
        world, permissions={"contents": "read"}, events=["push"], url="https://elsewhere.example/secret-path", content_type="form"
    )
    hook = document(world)["webhook"]
    assert (hook["host"], hook["contentType"], hook["managedBy"]) == ("https://elsewhere.example", "form", "")
    assert hook["expectedUrl"].startswith("https://hooks.example/hooks/apps/team-a/")
    assert len(hook["problems"]) == 2
    assert "secret-path" not in world.cli("app", "status").stdout
    assert world.cli("app", "status", "--exit-code").returncode == 2


def test_a_managed_webhook_is_as_it_should_be_and_says_who_sets_it(world: World) -> None:
    as_app(world, "  appWebhook: {manage: true}\n", permissions={"contents": "read"}, events=["push"], url="https://a.example/b")
    row = document(world)
    assert (row["complete"], row["webhook"]["managedBy"], row["webhook"]["problems"]) == (True, "Integration/default/github", [])
    assert world.cli("app", "status", "--exit-code").returncode == 0


def test_a_suspended_installation_and_a_refused_key_are_clear(world: World) -> None:
    app = as_app(world, permissions={"contents": "read"}, events=["push"])
    world.servers["github"].admin.do("suspend_installation", installation=app.installation)
    assert "suspended since" in world.cli("app", "status").stdout
    assert any("suspended" in problem for problem in document(world)["problems"])
    world.servers["github"].admin.do("new_app_key", app=app.id)
    done = world.cli("app", "status", "-o", "json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["apps"][0]["error"]["code"] == "RC5011"
    assert "PRIVATE" not in done.stdout + done.stderr


def test_it_writes_nothing_and_works_beside_a_daemon(world: World) -> None:
    as_app(world, permissions={"contents": "read"}, events=["push"])
    world.daemon()
    world.wait(world.all_ready, "ready")
    world.forget_requests()
    assert document(world)["app"]["slug"] == "deployer"
    assert not [
        row for row in world.writes() if "access_tokens" not in row["path"] and not row["path"].endswith("/installation/token")
    ]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [((), "RC4209"), (("Integration/github",), "RC4209"), (("nothing",), "RC6025"), (("Secret/github",), "RC6025")],
)
def test_an_integration_without_an_app_is_said(world: World, arguments: tuple[str, ...], code: str) -> None:
    world.source("one")
    world.cli("run", "--once")
    done = world.cli("app", "status", *arguments)
    assert (done.returncode, code in done.stderr) == (1, True)


def test_without_a_state_the_next_step_is_said(world: World) -> None:
    done = world.cli("app", "status")
    assert done.returncode == 1
    assert "RC7021" in done.stderr
