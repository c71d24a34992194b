"""A failed stage is an incident: it lasts until the stage passes or is removed, over restarts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.sandbox.server import SandboxServer
from reconciler.sandbox.slack.app import TOKEN
from tests.notifications.notified import Notified, messages
from tests.notifications.test_sinks import bot, text_of
from tests.support.receiving import Receiver, receiving


@pytest.fixture
def target() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@pytest.fixture
def deploying(notified: Notified, slack: SandboxServer, target: Receiver) -> Notified:
    notified.secret("bot", TOKEN)
    notified.notification("ops", bot(slack), "on: [stage-failed]")
    notified.within.world.manual()
    call = f"executor: {{type: http, spec: {{url: 'http://127.0.0.1:{target.server_port}/deploy', method: PUT}}}}"
    notified.within.world.stage("deploy", call)
    return notified


async def run(notified: Notified, target: Receiver, status: int) -> None:
    target.status = status
    await notified.within.trigger()
    await notified.within.turn(8)
    await notified.look()


async def test_a_failure_starts_an_incident_another_one_edits_it_and_a_pass_ends_it(
    deploying: Notified, slack: SandboxServer, target: Receiver
) -> None:
    await deploying.turn()
    await run(deploying, target, 400)
    [first] = messages(slack)
    assert first["text"] == "Stage/deploy failed"
    assert "400" in text_of(first)

    deploying.within.restarted()
    await deploying.turn()
    assert messages(slack) == [first]
    deploying.within.later(700)  # not flapping
    await run(deploying, target, 400)
    deploying.within.later(10)
    await deploying.send()
    [again] = messages(slack)
    assert (again["text"], again["edits"]) == ("Stage/deploy failed", 1)

    await run(deploying, target, 204)
    [ended] = messages(slack)
    assert (ended["text"], ended["ts"]) == ("Over: Stage/deploy failed", first["ts"])


@pytest.mark.parametrize("with_notification", [False, True])
async def test_a_removed_stage_ends_its_incident(
    deploying: Notified, slack: SandboxServer, target: Receiver, with_notification: bool
) -> None:
    await deploying.turn()
    await run(deploying, target, 400)
    (deploying.world.manifests / "stage-deploy.yaml").unlink()
    if with_notification:
        (deploying.world.manifests / "notification-ops.yaml").unlink()
    await deploying.turn()
    prefix = "Not reported here any more: " if with_notification else "Over: "
    assert [row["text"] for row in messages(slack)] == [f"{prefix}Stage/deploy failed"]


async def test_a_failure_of_a_stage_that_is_not_selected_is_not_reported(
    deploying: Notified, slack: SandboxServer, target: Receiver
) -> None:
    deploying.notification("ops", bot(slack), "on: [stage-failed]\n  resources: {names: ['other-*']}")
    await deploying.turn()
    await run(deploying, target, 400)
    assert messages(slack) == []
