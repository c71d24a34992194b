"""Probot receives what the simulated GitHub sends to an App; the daemon receives what GitHub's own library signs."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.sandbox.server import SandboxServer, simulator
from tests.engine.world import World
from tests.github.apps import create
from tests.node.conftest import Run, Start
from tests.support.issuing import free_port

SHA = "5eafd00d" * 5
PERMISSIONS = {"contents": "read", "statuses": "write"}


@pytest.fixture
def github() -> Iterator[SandboxServer]:
    with SandboxServer(simulator("github")) as server:
        server.admin.put_state({"repos": {"acme/one": {"commits": {SHA: {}}}}})
        server.admin.settings(deliver=True)
        yield server


def settled(server: SandboxServer, hook: str, event: str) -> int:
    """Return the status that the receiver answered to the newest delivery of ``event``."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        rows = [row for row in server.admin.state()["deliveries"].get(hook, []) if row["event"] == event]
        if rows and rows[-1]["status_code"]:
            return int(rows[-1]["status_code"])
        time.sleep(0.05)
    raise AssertionError(f"{event} was not delivered")


def test_probot_verifies_our_deliveries_and_answers_as_the_installation(github: SandboxServer, start: Start) -> None:
    port, secret = free_port(), hashlib.sha256(b"shared").hexdigest()
    app = create(
        github,
        permissions=PERMISSIONS,
        events=["push"],
        secret=secret,
        url=f"http://127.0.0.1:{port}/api/github/webhooks",
        content_type="json",
    )
    hook = str(github.admin.state()["apps"][str(app.id)]["hook"]["id"])
    task = {"appId": app.id, "privateKey": app.pem, "secret": secret, "baseUrl": github.url, "port": port}
    with start("receiver.mjs", **task) as probot:
        assert probot.line() == {"listening": port}
        github.admin.do("push", repo="acme/one", ref="refs/heads/main", commits=[{"id": SHA, "message": "m"}])
        event = probot.line()
        assert (event["event"], event["action"]) == ("push", None)
        assert probot.line() == {"status": 201, "repo": "one"}
        github.admin.do("suspend_installation", installation=app.installation)
        assert {key: value for key, value in probot.line().items() if key != "id"} == {
            "event": "installation",
            "action": "suspend",
        }
    written = github.admin.state()["commit_statuses"]
    assert [(row["context"], row["state"]) for rows in written.values() for row in rows] == [("probot", "success")]
    assert settled(github, hook, "push") == 200


def test_probot_refuses_a_delivery_that_another_secret_signed(github: SandboxServer, start: Start) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/github/webhooks"
    app = create(github, permissions=PERMISSIONS, events=["push"], secret="a" * 40, url=url, content_type="json")
    hook = str(github.admin.state()["apps"][str(app.id)]["hook"]["id"])
    with start("receiver.mjs", appId=app.id, privateKey=app.pem, secret="b" * 40, baseUrl=github.url, port=port) as probot:
        assert probot.line() == {"listening": port}
        github.admin.do("push", repo="acme/one", ref="refs/heads/main", commits=[{"id": SHA, "message": "m"}])
        assert settled(github, hook, "push") == 400
    assert github.admin.state()["commit_statuses"] == {}


def test_the_daemon_takes_what_github_s_library_signed_and_nothing_else(tmp_path: Path, run: Run) -> None:
    world = World(tmp_path)
    try:
        port = free_port()
        world.configure(server=f'{{listen: "127.0.0.1:{port}", publicUrl: "http://127.0.0.1:{port}"}}')
        world.repos("one")
        app = create(world.servers["github"], permissions=PERMISSIONS, events=["push"])
        world.extra_env["RECONCILER_SECRET_GITHUB"] = app.pem
        manifest = world.integration("github")
        key = "privateKey: {valueFrom: {secret: {name: github, key: token}}}"
        auth = f"  auth: {{use: github-app, githubApp: {{clientId: {app.client_id}, {key}}}}}"
        world.write("github.yaml", manifest[: manifest.index("  auth:")] + auth)
        world.source("one")
        world.daemon()
        world.wait(lambda: world.resource("Integration", "github").get("kind"), "the daemon runs")
        shown = world.cli("signing-key", "Integration/github")
        url = next(word for word in shown.stderr.split() if word.startswith("http://"))
        repository = world.servers["github"].admin.state()["repos"]["acme/one"]["id"]
        payload = {
            "ref": "refs/heads/main",
            "after": SHA,
            "repository": {"id": repository, "full_name": "acme/one", "owner": {"login": "acme"}, "pushed_at": int(time.time())},
            "installation": {"id": app.installation},
        }
        answered = run("signer.mjs", url=url, secret=shown.stdout.strip(), event="push", payload=payload)
        assert answered == {"signed": 202, "foreign": 401}
        stored = json.loads(world.cli("events", "--source", "one", "-o", "json").stdout)
        assert json.dumps(stored).count('"push"') == 1
    finally:
        world.close()
