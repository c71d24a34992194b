"""The work queue of a process, and the notifications between several queues on one database."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text, update

from reconciler.engine import peers, queue
from reconciler.engine.lease import Lease
from reconciler.engine.loop import Loop
from reconciler.engine.peers import PeerNotifications
from reconciler.engine.queue import UNNOTIFIED_POLL_S, WorkQueue
from reconciler.model.errors import StateError
from reconciler.model.resources import ResourceId
from reconciler.state import Store, tables
from reconciler.state.async_store import AsyncStore
from reconciler.state.claims import Claim
from reconciler.state.thread import StateThread
from tests.state.test_inbox import finished
from tests.support.postgres import Postgres

pytestmark = pytest.mark.fault
ONE, TWO, THREE = (ResourceId("Integration", "default", name) for name in ("one", "two", "three"))
NEVER_S = 600.0
"""A poll that no test lives to see."""


class Log:
    def __init__(self) -> None:
        self.events: list[str] = []

    def __getattr__(self, _level: str) -> Callable[..., None]:
        return lambda event, **_: self.events.append(event)


class Process:
    """A queue with a store of its own. ``gate`` holds its work; reconciles are stored as done."""

    def __init__(self, store: AsyncStore, url: str, holder: str) -> None:
        self.store, self.log, self.gate = store, Log(), asyncio.Event()
        self.gate.set()
        self.context: Any = SimpleNamespace(store=store, log=self.log, config=SimpleNamespace(state=SimpleNamespace(url=url)))
        self.queue = WorkQueue(self.context, holder=holder)
        self.queue.poll_s = NEVER_S
        self.began: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.failing = 0
        self.error: Exception = RuntimeError("a defect")

    async def reconcile(self, claim: Claim, lease: Lease) -> None:
        name = ResourceId.from_path(claim.key).name
        self.began[name] += 1
        await self.gate.wait()
        if self.failing:
            self.failing -= 1
            raise self.error
        await self.store.finish_reconcile(
            ResourceId.from_path(claim.key), NEVER_S, by=self.queue.holder, number=claim.number, fence=claim.fence
        )
        self.ended[name] += 1

    async def step(self, claim: Claim, lease: Lease) -> None:
        self.began[claim.key] += 1


@contextlib.asynccontextmanager
async def process(url: str, folder: Path, holder: str = "me", *, reconciles: bool = True) -> AsyncIterator[Process]:
    thread = StateThread()
    store = await thread(Store.open, url, state_dir=folder)
    made = Process(AsyncStore(store, thread), url, holder)
    await made.queue.start(made.reconcile, made.step)
    if reconciles:
        made.queue.allow_reconciles()
    running = asyncio.create_task(made.queue.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await made.queue.stop(1)
        await thread(store.close)
        thread.close()


async def until(check: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not check():
            await asyncio.sleep(0.01)


async def test_a14_a_request_begins_at_once_without_a_poll_and_one_during_it_leads_to_one_more(url: str, tmp_path: Path) -> None:
    async with process(url, tmp_path) as here:
        here.gate.clear()
        await here.queue.request([ONE])
        await until(lambda: here.began["one"] == 1)
        for _ in range(3):
            await here.queue.request([ONE])
        await here.queue.request([TWO])
        await until(lambda: here.began["two"] == 1)
        assert here.began["one"] == 1
        here.gate.set()
        await until(lambda: here.ended == {"one": 2, "two": 1})


async def test_a14_work_begins_at_its_due_time(url: str, tmp_path: Path) -> None:
    async with process(url, tmp_path) as here:
        await here.queue.request([ONE])
        await until(lambda: here.ended["one"] == 1)
        await here.store.note_reconcile(ONE, 0.3, by="me")
        here.queue.wake()
        await until(lambda: here.ended["one"] == 2)


async def test_a18_work_that_fails_is_tried_again_and_does_not_stop_the_queue(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "RETRY_S", 0.1)
    async with process(url, tmp_path) as here:
        here.failing = 2
        await here.queue.request([ONE])
        await until(lambda: here.ended["one"] == 1)
        assert here.began["one"] == 3
        assert here.log.events == ["work_failed"] * 2


@pytest.mark.parametrize("error", [RuntimeError("a defect"), StateError("the disk is full", code="RC7005")])
async def test_a18_work_that_fails_waits_before_it_is_tried_again(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(queue, "RETRY_S", NEVER_S)
    async with process(url, tmp_path) as here:
        here.failing, here.error = 1, error
        await here.queue.request([ONE])
        await until(lambda: here.log.events)
        for number in range(20):
            await here.queue.request([TWO])  # every end of it is a look for work
            await until(lambda number=number: here.ended["two"] > number)
        assert here.began["one"] == 1


async def test_b8_the_claim_of_ended_work_is_released_after_a_look_that_failed(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim_work: Any = AsyncStore.claim_work
    failed: list[bool] = []

    async def flaky(*arguments: Any, release: Any, **options: Any) -> Any:
        if release and not failed:
            failed.append(True)
            raise StateError("the database does not answer", code="RC7007")
        return await claim_work(*arguments, release=release, **options)

    monkeypatch.setattr(AsyncStore, "claim_work", flaky)
    async with process(url, tmp_path) as here:
        await here.queue.request([ONE])
        await until(lambda: failed)
        again = asyncio.create_task(here.queue.run())
        await here.queue.request([ONE])
        await until(lambda: here.ended["one"] == 2)
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)


async def test_a11_no_reconcile_begins_before_the_first_sync(url: str, tmp_path: Path) -> None:
    async with process(url, tmp_path, reconciles=False) as here:
        here.queue.poll_s = 0.01
        await here.queue.request([ONE])
        await asyncio.sleep(0.3)
        assert not here.began
        here.queue.allow_reconciles()
        await until(lambda: here.ended["one"] == 1)


async def test_a14_the_claim_of_work_that_takes_long_is_renewed(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "RENEW_S", 0.0)
    async with process(postgres.database(), tmp_path) as here:

        def expires_at() -> float:
            with here.store.sync._read() as connection:
                return float(connection.execute(text("SELECT until FROM lease WHERE name LIKE 'slice/%'")).scalar() or 0.0)

        here.gate.clear()
        await here.queue.request([ONE])
        await until(lambda: here.began["one"])
        before = expires_at()
        here.queue.wake_by_peer()
        await until(lambda: expires_at() > before)
        here.gate.set()
        await until(lambda: here.ended["one"] == 1)


async def test_a18_a_step_that_changes_nothing_is_not_repeated_without_a_pause(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "RETRY_S", NEVER_S)
    async with process(url, tmp_path) as here:
        store = here.store.sync
        finished(store, 1, 1.0, "sha256:x")
        del store.now  # type: ignore[method-assign]
        with store._write() as connection:
            connection.execute(update(tables.execution).values(state="running", next_at=1.0))
        here.queue.wake()
        await until(lambda: here.began["rcl-1"])
        for number in range(20):
            await here.queue.request([ONE])  # every end of it is a look for work
            await until(lambda number=number: here.ended["one"] > number)
        assert here.began["rcl-1"] == 1


async def test_a11_a_queue_that_stops_leaves_its_work_to_others_at_once(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.database()
    async with process(url, tmp_path, "peer") as peer:
        async with process(url, tmp_path) as here:
            here.gate.clear()
            await here.queue.request([ONE])
            await until(lambda: here.began["one"])
            peer.queue.wake()
        peer.queue.wake()
        await until(lambda: peer.ended["one"] == 1)
        assert here.ended["one"] == 0


async def test_a14_what_a_process_cannot_start_is_notified_to_another_one(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "RECONCILES", 1)
    monkeypatch.setattr(peers, "POLL_S", NEVER_S)
    url = postgres.database()
    async with process(url, tmp_path) as here, process(url, tmp_path, "peer") as peer:
        listening = asyncio.create_task(PeerNotifications(peer.context, peer.queue).run())
        await until(lambda: peer.queue.poll_s == NEVER_S)
        here.gate.clear()
        await here.queue.request([ONE])
        await until(lambda: here.began["one"])
        await here.queue.request([TWO])
        await until(lambda: peer.ended["two"] == 1)
        here.gate.set()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_b8_a_listening_connection_that_is_ended_is_opened_again_and_polling_covers_the_gap(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "POLL_S", NEVER_S)
    monkeypatch.setattr(peers, "PAUSE_LOW_S", 3.0)
    url = postgres.database()
    async with process(url, tmp_path) as here:
        listening = asyncio.create_task(PeerNotifications(here.context, here.queue).run())
        await until(lambda: here.queue.poll_s == NEVER_S)
        ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        with here.store.sync._read() as connection:
            assert connection.execute(text(ended)).scalar() == 1
        await until(lambda: here.queue.poll_s == UNNOTIFIED_POLL_S)
        await here.store.request_reconciles([ONE])  # as another process does; its notification is lost
        await until(lambda: here.ended["one"] == 1)
        await until(lambda: here.queue.poll_s == NEVER_S)
        assert here.log.events == ["notifications_unavailable"]
        with here.store.sync._read() as connection:
            assert connection.execute(text(ended)).scalar() == 1
        await until(lambda: here.log.events == ["notifications_unavailable"] * 2)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_b8_a_connection_that_delivers_no_notifications_is_detected(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pooler in transaction mode accepts LISTEN, too. Here it reaches another database, which gives the same picture."""
    monkeypatch.setattr(peers, "ANSWER_S", 0.3)
    monkeypatch.setattr(peers, "PAUSE_LOW_S", 0.01)
    async with process(postgres.database(), tmp_path) as here:
        here.context.config.state.url = postgres.database()
        listening = asyncio.create_task(PeerNotifications(here.context, here.queue).run())
        await until(lambda: here.log.events)
        assert here.queue.poll_s == UNNOTIFIED_POLL_S
        await here.store.request_reconciles([ONE])
        await until(lambda: here.ended["one"] == 1)
        await asyncio.sleep(1)
        assert here.log.events == ["notifications_unavailable"]  # once, not at every try
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


@pytest.mark.parametrize("declared", [False, True])
async def test_a14_the_request_of_an_integration_that_is_gone_is_deleted_after_its_reconcile(
    url: str, tmp_path: Path, declared: bool
) -> None:
    async with process(url, tmp_path, reconciles=False) as here:

        async def reconcile_claimed(claim: Claim, lease: Lease) -> Any:
            await here.reconcile(claim, lease)
            return SimpleNamespace(error=None)

        async def integrations() -> tuple[ResourceId, ...]:
            return (ONE,) if declared else ()

        controller: Any = SimpleNamespace(holder="", reconcile_claimed=reconcile_claimed, integrations=integrations)
        loop = Loop(controller, here.queue, here.context, publish=lambda: None, monotonic=lambda: 0.0)
        await here.queue.start(loop.reconcile, here.step)
        here.queue.allow_reconciles()
        await here.queue.request([ONE])
        await until(lambda: here.ended["one"] == 1)
        await here.queue.stop(5)
        assert (await here.store.requested(ONE) != (0, 0)) is declared
