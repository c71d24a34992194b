"""The same program on PostgreSQL: state and engine in one database, two schemas."""

import signal
import time
from collections.abc import Iterator

import pytest

from tests.engine.world import World
from tests.support.postgres import Postgres


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.stop()


def test_the_daemon_applies_repairs_and_survives_a_kill_on_postgresql(world: World, postgres: Postgres) -> None:
    world.configure(source=str(world.manifests), state=f'{{url: "{postgres.database()}"}}')
    world.source("one")
    process = world.daemon()
    world.wait(world.all_ready, "ready", 40)
    process.send_signal(signal.SIGKILL)
    process.wait()
    world.set_hooks("one", [])
    world.source("two")
    process = world.daemon()
    world.wait(lambda: world.hooks("one") and world.hooks("two"), "both hooks", 40)
    world.wait(world.all_ready, "ready again")
    process.terminate()
    assert process.wait(timeout=30) == 0
    time.sleep(0.2)
    assert world.cli("plan", "--detailed-exitcode").returncode == 0
    assert world.cli("history", "--verify").returncode == 0
    assert len(world.hooks("one")) == len(world.hooks("two")) == 1
