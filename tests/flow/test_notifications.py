"""Notifications of the real daemon: one message for one cause, from its start to its end, whatever caused it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler.sandbox.server import SandboxServer, simulator
from reconciler.sandbox.slack.app import CHANNEL, TOKEN
from tests.flow.stage_world import StageWorld
from tests.support.githttp import GitHttpServer
from tests.support.gitrepo import GitRepo
from tests.support.receiving import Receiver, receiving

SOURCES = 30
BOT = "{valueFrom: {secret: {name: slack, key: token}}}"


@pytest.fixture
def slack() -> Iterator[SandboxServer]:
    with SandboxServer(simulator("slack")) as server:
        yield server


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def notify(world: StageWorld, server: SandboxServer, more: str = "") -> None:
    world.write(
        "slack.yaml",
        "kind: Secret\nmetadata: {name: slack}\nspec: {provider: env, data: {token: {env: RECONCILER_SECRET_SLACK}}}",
    )
    world.extra_env["RECONCILER_SECRET_SLACK"] = TOKEN
    world.write(
        "ops.yaml",
        f"kind: Notification\nmetadata: {{name: ops}}\nspec:\n  {more}\n"
        f"  sink: {{slack: {{token: {BOT}, channel: {CHANNEL}, url: '{server.url}/api'}}}}",
    )


def posted(server: SandboxServer) -> list[dict[str, Any]]:
    return list(server.admin.state()["messages"][CHANNEL])


def test_a_dead_credential_of_many_sources_is_one_message_that_is_edited_and_ends(
    world: StageWorld, slack: SandboxServer
) -> None:
    names = [f"r{number}" for number in range(SOURCES)]
    world.repos(*names)
    for name in names:
        world.source(name)
    notify(world, slack)
    world.ready()
    assert posted(slack) == []
    assert (world.condition("Notification", "ops") or {})["status"] == "True"

    tested = world.cli("notify", "test", "ops")
    assert (tested.returncode, tested.stdout) == (0, "sent a test message of Notification/ops to slack\n"), tested.stderr
    assert [row["text"] for row in posted(slack)] == ["Test: Notification/ops reaches you"]

    world.github.fault(status=401, times=0, body={"message": "Bad credentials"})
    world.ask("reconcile", resource="Integration/github")
    world.wait(lambda: len(posted(slack)) == 2, "a message")
    world.wait(lambda: f"and {SOURCES + 1 - 20} more" in json.dumps(posted(slack)[1]), "it lists the sources")
    assert posted(slack)[1]["text"] == "The credential of Integration/github does not work"

    world.github.clear_faults()
    world.ask("reconcile", resource="Integration/github")
    world.wait(lambda: posted(slack)[1]["text"].startswith("Over: "), "the message ends")
    assert len(posted(slack)) == 2
    world.wait(lambda: "sent" in (world.condition("Notification", "ops", "Delivering") or {}).get("message", ""), "the counts")
    assert TOKEN not in world.log()
    assert TOKEN not in (world.folder / "state" / "status.json").read_text()

    metrics = httpx.get(f"http://127.0.0.1:{world.port}/metrics").text
    assert 'reconciler_notifications_total{outcome="sent",sink="slack"}' in metrics
    assert 'reconciler_notification_failing{notification="ops"} 0.0' in metrics


def test_a_stage_that_fails_and_an_approval_are_reported_and_end(world: StageWorld, hook: Receiver) -> None:
    world.write("hook.yaml", f"kind: Notification\nmetadata: {{name: hook}}\nspec: {{sink: {{webhook: {{url: '{hook.url}'}}}}}}")
    world.manual()
    world.stage("gate", "conditions: [{type: approval, approval: {count: 1}}]", "executor: {type: noop}")
    call = f"executor: {{type: http, spec: {{url: 'http://127.0.0.1:{hook.server_port}/stage', method: PUT}}}}"
    world.stage("call", call)
    world.ready()

    def events() -> list[tuple[str, str]]:
        rows = [json.loads(body) for method, _, body in hook.got if method == "POST"]
        return [(row["data"]["topic"], row["type"].partition(".")[2]) for row in rows if row["type"].startswith("incident.")]

    world.trigger()
    item = world.waiting("gate", "approval")
    world.wait(lambda: ("approval-needed", "start") in events(), "the approval is reported")
    world.ask("approve", id=item["id"])
    world.finished("gate")
    world.wait(lambda: ("approval-needed", "end") in events(), "the approval is over")
    assert sorted(events()) == [("approval-needed", "end"), ("approval-needed", "start")]


def test_a_test_without_a_daemon_says_what_the_sink_says(world: StageWorld, slack: SandboxServer) -> None:
    notify(world, slack)
    slack.admin.put_state({"channels": {CHANNEL: {"member": False}}})
    assert world.cli("run", "--once").returncode in {0, 6}
    refused = world.cli("notify", "test", "ops")
    assert refused.returncode == 1
    assert "RC8103" in refused.stderr
    assert "/invite @BOT" in refused.stderr
    unknown = world.cli("notify", "test", "opps")
    assert unknown.returncode != 0
    assert "Notification/ops" in unknown.stderr


def test_a_single_pass_sends_what_it_found(world: StageWorld, slack: SandboxServer) -> None:
    notify(world, slack)
    world.write(
        "gone.yaml", "kind: Secret\nmetadata: {name: gone}\nspec: {provider: env, data: {x: {env: RECONCILER_SECRET_GONE}}}"
    )
    world.cli("run", "--once")
    assert [row["text"] for row in posted(slack)] == ["Secret/gone cannot be read"]
    assert (world.condition("Notification", "ops", "Delivering") or {})["message"] == "1 sent"
    world.extra_env["RECONCILER_SECRET_GONE"] = "a-value-that-is-there"
    world.cli("run", "--once")
    assert [row["text"] for row in posted(slack)] == ["Over: Secret/gone cannot be read"]


def test_the_commit_of_the_manifests_shows_how_its_sync_ended(tmp_path: Path) -> None:
    world = StageWorld(tmp_path)
    try:
        notification = (
            "kind: Notification\nmetadata: {name: commits}\n"
            "spec: {sink: {github-commit-status: {integration: {name: github}, context: ci/manifests}}}\n"
        )
        source = (world.manifests / "github.yaml").read_text(), (world.manifests / "secrets.yaml").read_text()
        files: dict[str, str | bytes | None] = {"a.yaml": source[0], "b.yaml": source[1], "c.yaml": notification}
        repo = GitRepo(tmp_path / "remotes" / "acme" / "web.git")
        first = repo.commit(files, "first")
        with GitHttpServer(tmp_path / "remotes") as server:
            world.github.put_state({"repos": {"acme/web": {"branches": {"main": first}}}})
            world.configure(source=server.url("acme/web.git"))
            daemon = world.daemon()

            def states(sha: str) -> list[tuple[str, str]]:
                return [(row["context"], row["state"]) for row in world.commit_statuses() if row["sha"] == sha]

            world.wait(lambda: ("ci/manifests", "success") in states(first), "the first commit succeeds", 15)
            broken = "kind: EventSource\nmetadata: {name: x}\nspec: {integration: {name: github}, resource: {type: repository, name: none}}\n"
            second = repo.commit({"d.yaml": broken}, "second")
            world.github.put_state({"repos": {"acme/web": {"branches": {"main": second}}}})
            world.wait(lambda: ("ci/manifests", "failure") in states(second), "the second fails", 15)
            assert ("ci/manifests", "failure") not in states(first)
            # Removed with its Integration: a status of a commit stays as it is, so there is nothing to end there and nothing to retry.
            third = repo.commit({"a.yaml": None, "c.yaml": None, "d.yaml": None}, "third")
            world.wait(lambda: third in world.status()["source"]["lastApplied"], "the third is applied", 15)
            daemon.terminate()
            daemon.wait()
            assert "notification_retry_scheduled" not in world.log()
    finally:
        world.close()
