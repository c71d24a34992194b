"""The inbox: what says the same has its effects once, in whatever order it is stored and handed on."""

from __future__ import annotations

import threading

from reconciler.model.events import Event, EventState, Origin
from reconciler.model.executions import Item, ItemState
from reconciler.model.resources import ResourceId
from reconciler.state import Store
from reconciler.state.inbox import Arrival, new_event_id
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
    store.settle_events([routing(newer)])
    store.add_events([older])  # by a process that stood still since it made the id
    assert store.same_before([older.event]) == {}
    store.settle_events([routing(older)])
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
