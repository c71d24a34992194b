"""Two releases side by side on one PostgreSQL, as during a rolling update: each delivery has its effect once."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.deploy.releases import following, previous
from tests.flow.stage_world import StageWorld
from tests.flow.test_several_processes import Peer, declare, first_up, offer
from tests.support.postgres import Postgres

EVENTS = 30


class Released(Peer):
    """A process of a release."""

    program: Path | None = None
    """Folder of another release; None: this one."""

    def start(self) -> None:
        self.world.extra_env["PYTHONPATH"] = str(self.program or "")
        try:
            super().start()
        finally:
            self.world.extra_env.clear()

    def end(self, *, kill: bool = False) -> int:
        assert self.process is not None
        self.process.kill() if kill else self.process.terminate()
        return self.process.wait(timeout=40)


@pytest.fixture
def peers(tmp_path: Path, postgres: Postgres) -> Iterator[tuple[StageWorld, list[Released], str]]:
    world = StageWorld(tmp_path)
    url = postgres.database()
    world.configure(state=f'{{url: "{url}"}}')
    yield world, [Released(world, number, url) for number in range(3)], url
    world.close()


def test_deliveries_go_on_while_processes_of_the_previous_release_are_replaced(
    peers: tuple[StageWorld, list[Released], str], tmp_path: Path
) -> None:
    world, (first, second, third), _ = peers
    first.program = second.program = previous(tmp_path / "previous")
    declare(world)
    first_up(world, [first, second])
    live: list[Peer] = [first, second]
    done = threading.Event()
    failed: list[BaseException] = []

    def send() -> None:
        chance = random.Random(7)
        try:
            for number in range(EVENTS):
                offer(world, list(live), number, chance)
                done.wait(0.15)
        except BaseException as error:
            failed.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    third.start()  # of this release: it migrates, if there is anything to migrate
    world.wait(third.listens, "the first process of this release", 60)
    live.append(third)
    live.remove(first)
    assert first.end() == 0
    first.program = None
    first.start()
    world.wait(first.listens, "the second process of this release", 60)
    live.append(first)
    live.remove(second)
    second.end(kill=True)
    second.program = None
    second.start()
    sender.join(60)
    done.set()
    assert failed == []

    def finished() -> list[dict[str, object]]:
        rows = third.ask(verb="executions", stage="build", limit=1000)["executions"]
        return [row for row in rows if row["state"] == "finished"]

    world.wait(lambda: len(finished()) >= EVENTS, f"{EVENTS} executions", 60)
    assert {row["result"] for row in finished()} == {"passed"}
    assert len(finished()) == len(world.runs("web")) == EVENTS, "none lost, none doubled"
    assert "daemon_outdated" not in first.log() + second.log() + third.log()


def test_this_release_works_on_the_schema_of_the_next_and_stops_at_one_that_it_cannot_share(
    peers: tuple[StageWorld, list[Released], str], tmp_path: Path
) -> None:
    world, (old, new, later), url = peers
    world.webhook("own")
    world.stage("build", after="{type: event-source, name: own}")
    first_up(world, [old])

    # A migration that both can use: the older process goes on, and may even be started again.
    new.program = following(tmp_path / "next", breaking=False)
    new.start()
    world.wait(new.listens, "the next release", 60)
    assert schema_of(url) == "9001"
    assert old.process is not None
    assert old.process.poll() is None
    old.end(kill=True)
    old.start()
    world.wait(old.listens, "this release, started on the newer schema", 60)
    offer(world, [old], 1, random.Random(1))
    world.wait(lambda: new.ask(verb="executions", stage="build")["executions"], "the execution")
    new.end()

    # A migration that they cannot share is not made while an older process is alive ...
    with forgotten(url):
        later.program = following(tmp_path / "later", breaking=True)
        later.start()
        assert later.process is not None
        assert later.process.wait(timeout=60) == 1, later.log()
        assert "RC7073" in later.log()
        assert old.process.poll() is None
        assert old.request("GET", "/healthz") == 200

    # ... and an older process that was away for so long that it counted as dead stops as soon as it is back.
    run_sql(url, "UPDATE meta SET value = '9001' WHERE key = 'schema.oldest'")
    began = time.monotonic()
    assert old.process.wait(timeout=40) == 78
    assert time.monotonic() - began < 30
    assert "daemon_outdated" in old.log()
    assert "RC7008: the state was written by version 9.0.0 of reconciler" in old.log()


@contextlib.contextmanager
def forgotten(url: str) -> Iterator[None]:
    """Take the schema back to this release's, as if the next had not migrated it yet."""
    from reconciler.state.migrate import HEAD

    run_sql(
        url, 'ALTER TABLE event DROP COLUMN "next"', 'DROP TABLE "next"', f"UPDATE alembic_version SET version_num = '{HEAD}'"
    )
    yield


def run_sql(url: str, *statements: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()


def schema_of(url: str) -> str:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        version = str(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one())
    engine.dispose()
    return version
