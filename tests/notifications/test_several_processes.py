"""Several processes on one PostgreSQL: they see the same edges, and one of them reports each."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.sandbox.server import SandboxServer
from tests.flow.stage_world import StageWorld
from tests.flow.test_notifications import notify, posted
from tests.flow.test_several_processes import Peer
from tests.support.postgres import Postgres


@pytest.fixture
def peers(tmp_path: Path, postgres: Postgres) -> Iterator[tuple[StageWorld, list[Peer]]]:
    world = StageWorld(tmp_path)
    url = postgres.database()
    world.configure(state=f'{{url: "{url}"}}')
    yield world, [Peer(world, number, url) for number in range(2)]
    for process in world.processes:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
    world.close()


def test_an_incident_that_every_process_sees_is_one_message_also_when_one_of_them_dies(
    peers: tuple[StageWorld, list[Peer]], slack: SandboxServer
) -> None:
    world, (first, second) = peers
    world.source("web")
    world.source("shop")
    notify(world, slack)
    (world.folder / "state").mkdir(exist_ok=True)
    for peer in (first, second):
        peer.start()
        world.wait(peer.listens, "a peer is ready")
    world.github.fault(status=401, times=0, body={"message": "Bad credentials"})
    first.ask(verb="reconcile", resource="Integration/github")
    world.wait(lambda: len(posted(slack)) == 1, "a message")
    assert first.process is not None
    first.process.kill()
    world.github.clear_faults()
    second.ask(verb="reconcile", resource="Integration/github")
    world.wait(lambda: posted(slack)[0]["text"].startswith("Over: "), f"the end\n{second.log()[-3000:]}")
    first.start()
    world.wait(first.listens, "the dead peer is back")
    second.ask(verb="reconcile", resource="Integration/github", wait=True)
    assert [row["text"] for row in posted(slack)] == ["Over: The credential of Integration/github does not work"]
