"""@octokit/auth-app and @octokit/core as clients of the simulated GitHub: they are the App of somebody else's code."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.sandbox.server import SandboxServer, simulator
from tests.github.apps import Credentials, create
from tests.node.conftest import Run

PERMISSIONS = {"contents": "read", "deployments": "write", "repository_hooks": "write"}
NAMES = [f"acme/svc-{number:02}" for number in range(12)]


@pytest.fixture
def github() -> Iterator[SandboxServer]:
    with SandboxServer(simulator("github")) as server:
        server.admin.put_state({"repos": {**{name: {} for name in NAMES}, "acme/one": {}}})
        yield server


def task(server: SandboxServer, app: Credentials) -> dict[str, object]:
    account = {"account": "acme", "repository": "one", "perPage": 5}
    return {"baseUrl": server.url, "clientId": app.client_id, "privateKey": app.pem, **account}


def test_octokit_is_an_app_of_ours_from_its_token_to_a_refusal(github: SandboxServer, run: Run) -> None:
    app = create(github, permissions=PERMISSIONS)
    shown = run("app.mjs", **task(github, app))
    assert app.pem.startswith("-----BEGIN RSA PRIVATE KEY-----")  # the form that GitHub gives out
    assert (shown["slug"], shown["installation"], shown["ofRepository"]) == (app.slug, app.installation, app.installation)
    assert shown["installations"] == [app.installation]
    assert {*NAMES, "acme/one"} <= set(shown["all"])
    assert shown["token"]["permissions"] == {"contents": "read", "metadata": "read"}
    assert (shown["token"]["selection"], shown["token"]["names"]) == ("selected", ["one"])
    assert shown["token"]["length"] > 500
    assert (shown["token"]["cached"], shown["token"]["renewed"]) == (True, True)
    assert shown["seen"] == ["acme/one"]
    refused = shown["refused"]
    assert (refused["status"], refused["message"]) == (403, "Resource not accessible by integration")
    assert refused["headers"]["x-accepted-github-permissions"] == "repository_hooks=write"
    assert (shown["ungranted"]["status"], shown["outside"]["status"]) == (422, 422)
    assert (shown["revoked"], shown["after"]["status"]) == (204, 401)
    assert shown["warnings"] == []


@pytest.mark.parametrize("ahead_s", [3600, -3600])
def test_octokit_follows_the_clock_of_our_github(github: SandboxServer, run: Run, ahead_s: int) -> None:
    app = create(github, permissions=PERMISSIONS)
    github.admin.settings(clock_skew_s=ahead_s)
    shown = run("app.mjs", **task(github, app))
    assert shown["slug"] == app.slug
    assert any("GitHub API time and system time are different by" in text for text in shown["warnings"])


def test_octokit_is_refused_with_a_foreign_key_and_with_a_suspended_installation(github: SandboxServer, run: Run) -> None:
    app, other = create(github, permissions=PERMISSIONS), create(github, None)
    foreign = run("refused.mjs", **{**task(github, app), "privateKey": other.pem})
    assert foreign["app"] == {"status": 401, "message": "A JSON web token could not be decoded"}
    github.admin.do("suspend_installation", installation=app.installation)
    suspended = run("refused.mjs", **task(github, app), installation=app.installation)
    assert suspended["app"] is None
    assert suspended["token"] == {"status": 403, "message": "This installation has been suspended"}
