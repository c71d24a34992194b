"""Several processes on one PostgreSQL: all see the same edges, and each is reported once, although its sender is killed in the middle."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.sandbox.pagerduty.app import KEY
from reconciler.sandbox.server import SandboxServer
from reconciler.sandbox.slack.app import CHANNEL, TOKEN
from tests.flow.stage_world import StageWorld
from tests.flow.test_several_processes import Peer
from tests.notifications.notified import messages, reference
from tests.support.postgres import Postgres
from tests.support.receiving import Receiver, receiving

pytestmark = pytest.mark.fault
SOURCES = 8
TITLE = "The credential of Integration/github does not work"


@pytest.fixture
def peers(tmp_path: Path, postgres: Postgres) -> Iterator[tuple[StageWorld, list[Peer]]]:
    world = StageWorld(tmp_path)
    url = postgres.database()
    world.configure(state=f'{{url: "{url}"}}')
    (world.folder / "state").mkdir(exist_ok=True)
    yield world, [Peer(world, number, url) for number in range(2)]
    for process in world.processes:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
    world.close()


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def declare(world: StageWorld, slack: SandboxServer, pagerduty: SandboxServer, hook: Receiver) -> None:
    names = [f"r{number}" for number in range(SOURCES)]
    world.repos(*names)
    for name in names:
        world.source(name)
    for name, value in (("bot", TOKEN), ("key", KEY)):
        variable = f"RECONCILER_SECRET_{name.upper()}"
        world.extra_env[variable] = value
        world.write(
            f"secret-{name}.yaml",
            f"kind: Secret\nmetadata: {{name: {name}}}\nspec: {{provider: env, data: {{value: {{env: {variable}}}}}}}",
        )
    for name, sink in (
        ("chat", f"{{slack: {{token: {reference('bot')}, channel: {CHANNEL}, url: '{slack.url}/api'}}}}"),
        ("pager", f"{{pagerduty: {{routingKey: {reference('key')}, url: '{pagerduty.url}'}}}}"),
        ("hook", f"{{webhook: {{url: '{hook.url}'}}}}"),
    ):
        world.write(
            f"notify-{name}.yaml",
            f"kind: Notification\nmetadata: {{name: {name}}}\nspec: {{on: [credential-invalid], sink: {sink}}}",
        )


def edges(hook: Receiver) -> list[tuple[str, str]]:
    """Return (type, title) of each event, after repetitions were dropped by their id."""
    seen = {headers["webhook-id"]: json.loads(body) for _, headers, body in hook.got}
    return [(event["type"], event["data"]["title"]) for event in seen.values() if event["type"] != "incident.update"]


@pytest.mark.timeout(150)
def test_each_edge_of_a_dead_credential_is_reported_once_although_its_sender_is_killed(
    peers: tuple[StageWorld, list[Peer]], slack: SandboxServer, pagerduty: SandboxServer, hook: Receiver
) -> None:
    world, (first, second) = peers
    declare(world, slack, pagerduty, hook)
    world.extra_env |= {"RECONCILER_FAILPOINTS": "1", "RECONCILER_FAILPOINT": "notice-after-send"}
    first.start()
    world.wait(first.listens, "the first is ready")
    world.github.fault(status=401, times=0, body={"message": "Bad credentials"})
    first.ask(verb="reconcile", resource="Integration/github")
    assert first.process is not None
    assert first.process.wait(60) == -signal.SIGKILL, first.log()[-3000:]

    world.extra_env["RECONCILER_FAILPOINTS"] = "0"
    second.start()
    world.wait(lambda: [row["text"] for row in messages(slack)] == [TITLE], "the message")
    world.wait(lambda: [row["status"] for row in pagerduty.admin.state()["alerts"].values()] == ["triggered"], "the alert")
    world.wait(lambda: edges(hook) == [("incident.start", TITLE)], "the event")
    first.start()
    world.wait(first.listens, "the first is back")

    world.github.clear_faults()
    first.ask(verb="reconcile", resource="Integration/github")
    second.ask(verb="reconcile", resource="Integration/github")
    world.wait(lambda: [row["text"] for row in messages(slack)] == [f"Over: {TITLE}"], f"the end\n{second.log()[-3000:]}")
    world.wait(lambda: edges(hook)[1:] == [("incident.end", TITLE)], "the end")
    world.wait(lambda: [row["status"] for row in pagerduty.admin.state()["alerts"].values()] == ["resolved"], "the end")
    for peer in (first, second):
        peer.ask(verb="reconcile", resource="Integration/github", wait=True)
    assert len(messages(slack)) == 1
    assert [row["opened"] for row in pagerduty.admin.state()["alerts"].values()] == [1]
    assert edges(hook) == [("incident.start", TITLE), ("incident.end", TITLE)]
