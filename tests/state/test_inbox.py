"""The inbox: what says the same has its effects once, in whatever order it is stored and handed on."""

from __future__ import annotations

import dataclasses
import threading

from sqlalchemy import func, select, text

from reconciler.model.events import Event, EventState, Origin
from reconciler.model.executions import Execution, ExecutionState, Item, ItemState
from reconciler.model.resources import ResourceId
from reconciler.state import Store, tables
from reconciler.state.executions import execution_row, insert_outputs
from reconciler.state.inbox import Arrival, new_event_id
from reconciler.state.queue import enqueue
from reconciler.state.reports import PendingReport
from reconciler.state.routing import Routing

SOURCE = ResourceId("EventSource", "default", "web")
STAGE = ResourceId("Stage", "default", "build")


def arrival(at: float, delivery: str, identity: str = "sha256:same") -> Arrival:
    event = Event(
        id=new_event_id(at),
        source=SOURCE,
        delivery_id=delivery,
        type="push",
        origin=Origin.DELIVERED,
        state=EventState.PENDING,
        received_at=at,
        identity=identity,
    )
    return Arrival(event, b"{}")


def routing(one: Arrival) -> Routing:
    item = Item(
        id=f"itm-{one.event.delivery_id}",
        stage=STAGE,
        event_id=one.event.id,
        connection="web",
        state=ItemState.QUEUED,
        created_at=one.event.received_at,
        revision="r",
        spec_digest="sha256:x",
        label="build",
        inputs={},
        event={},
        origin={},
    )
    return Routing(one.event.id, items=(item,))


def test_e3_what_is_stored_late_under_an_older_id_is_a_duplicate_of_what_was_handed_on(store: Store) -> None:
    older, newer = arrival(1.0, "a"), arrival(2.0, "b")
    store.add_events([newer])
    assert store.same_before([newer.event]) == {}
    assert store.settle_events([routing(newer)]) == [routing(newer)]
    assert store.settle_events([routing(newer)]) == []  # another process was first
    store.add_events([older])  # by a process that stood still since it made the id
    assert store.same_before([older.event]) == {}
    assert [one.reason for one in store.settle_events([routing(older)])] == ["duplicate"]
    assert [one.id for one in store.items()] == ["itm-b"]
    shown = store.event(older.event.id)
    assert shown is not None
    assert (shown[0].state, shown[0].reason) == (EventState.REJECTED, "duplicate")
    assert newer.event.id in shown[0].message


def test_e3_bare_events_and_those_of_other_sources_are_no_duplicates(store: Store) -> None:
    first, second = arrival(2.0, "a", ""), arrival(1.0, "b", "")
    store.add_events([first, second])
    store.settle_events([routing(first)])
    store.settle_events([routing(second)])
    assert len(store.items()) == 2


def test_a16_e3_processes_that_hand_on_equal_events_at_once_hand_on_one(url: str, store: Store, tmp_path) -> None:
    if store.dialect == "sqlite":
        return  # one process
    peers = [Store.open(url, state_dir=tmp_path) for _ in range(2)]
    try:
        for number in range(20):
            pair = [arrival(1.0 + number, f"{number}-{name}", f"sha256:{number}") for name in "ab"]
            store.add_events(pair)
            threads = [
                threading.Thread(target=peer.settle_events, args=([routing(one)],)) for peer, one in zip(peers, pair, strict=True)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(store.items()) == 20
        assert store.pending_count() == 0
    finally:
        for peer in peers:
            peer.close()


def finished(store: Store, number: int, at: float, digest: str) -> None:
    """Store an item that ended, with all that it leaves."""
    item = dataclasses.replace(
        routing(arrival(at, str(number), "")).items[0], state=ItemState.DONE, created_at=at, spec_digest=digest
    )
    execution = Execution(f"rcl-{number}", item.id, STAGE, ExecutionState.FINISHED, at, digest, "r", finished_at=at)
    report = PendingReport(item.id, "commit", "success", 3, at)
    store.now = lambda: at  # type: ignore[method-assign]
    with store._write() as connection:
        enqueue(connection, [item], {digest: b"{}"}, [report], at)
        connection.execute(tables.execution.insert().values(execution_row(execution)))
        insert_outputs(connection, execution.id, {"version": "1"})
        for name in (f"report/{item.id}", f"execution/{execution.id}"):
            connection.execute(tables.lease.insert().values(name=name, holder="gone", number=1, until=0.0))


def test_what_is_old_is_dropped_in_batches_with_all_that_belongs_to_it(store: Store) -> None:
    for number in range(7):
        finished(store, number, 10.0 + number, "sha256:old")
    finished(store, 8, 100.0, "sha256:new")
    assert [store.prune_executions(50.0, 3) for _ in range(5)] == [3, 3, 1, 1, 0]  # the last one is the pin
    assert [one.id for one in store.items()] == ["itm-8"]
    assert store.outputs("rcl-8") == {"version": "1"}
    assert (store.pinned("sha256:old"), store.pinned("sha256:new")) == (None, b"{}")
    with store._read() as connection:
        for table in (tables.execution, tables.report, tables.output):
            assert connection.execute(select(func.count()).select_from(table)).scalar_one() == 1
        names = set(connection.execute(select(tables.lease.c.name)).scalars())
    assert names == {"report/itm-8", "execution/rcl-8"}


def test_the_configuration_of_what_waits_for_long_is_kept(store: Store) -> None:
    waits = arrival(1.0, "waits")
    store.now = lambda: 1.0  # type: ignore[method-assign]
    store.add_events([waits])
    store.settle_events([dataclasses.replace(routing(waits), pins={"sha256:x": b"{}"})])
    assert store.prune_executions(50.0) == 0
    assert store.pinned("sha256:x") == b"{}"


def test_a14_what_a_process_locked_that_stands_still_within_a_transaction_is_free_after_seconds(url: str, store: Store) -> None:
    if store.dialect == "sqlite":
        return  # one process
    with store._read() as connection:
        assert connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar() == "10s"
