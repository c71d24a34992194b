"""Incidents and their messages in the state, on SQLite and PostgreSQL: stored with the statuses, in order, and bounded."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence

import pytest
from sqlalchemy import select

from reconciler.model.codec import decode
from reconciler.model.incidents import (
    Incident,
    IncidentChange,
    IncidentSeverity,
    Notice,
    NoticePhase,
    Occurrence,
    SinkRecord,
    SinkUse,
    Topic,
)
from reconciler.model.resources import Location
from reconciler.model.status import ResourceStatus
from reconciler.state import Store, incident_tables
from reconciler.state.incidents import LONGEST_OUTBOX, IncidentUpdate
from tests.state.samples import SOURCE

OPS = "Notification/default/ops"
INCIDENT = Incident("inc-1", OPS, "k", Topic.DRIFT, IncidentSeverity.WARNING, "differs", "DriftDetected", opened_at=1.0)
USE = SinkUse("a-place", "{}")
FAILED = SinkRecord(error="no", code="RC8103", failed_at=5.0)


def update(*changes: IncidentChange, mark: str | None = None) -> IncidentUpdate:
    return IncidentUpdate(lambda *_: changes, {OPS}, mark)


def started(store: Store, incident: Incident = INCIDENT, *phases: NoticePhase) -> None:
    assert store.update_incidents(update(IncidentChange(incident, phases or (NoticePhase.START,))))


def waiting(store: Store) -> list[Notice]:
    with store._read() as connection:
        query = (
            select(incident_tables.notice.c.payload)
            .where(incident_tables.notice.c.done_at == 0)
            .order_by(incident_tables.notice.c.seq)
        )
        return [decode(Notice, payload) for payload in connection.execute(query).scalars()]


def test_messages_are_sent_in_order_and_a_target_serves_the_later_ones(store: Store) -> None:
    started(store)
    started(store, INCIDENT, NoticePhase.END)
    now = store.now() + 1
    assert store.due_sinks(now, 9) == [OPS]
    first = store.due_notice(OPS, now)
    assert first is not None
    assert first.phase is NoticePhase.START
    assert store.note_attempt(first, 2.0, USE)
    store.end_notice(first, 3.0, target={"ts": "7"})
    second = store.due_notice(OPS, now)
    assert second is not None
    assert (second.phase, second.attempted_at) == (NoticePhase.END, 0.0)
    assert second.sent_with == dataclasses.replace(USE, target={"ts": "7"})
    store.end_notice(second, 4.0)
    assert store.due_notice(OPS, now) is None
    assert store.sink_records()[OPS].sent == 2


def test_a_failed_message_blocks_the_later_ones_until_it_is_due(store: Store) -> None:
    started(store)
    started(store, INCIDENT, NoticePhase.END)
    now = store.now() + 1
    notice = store.due_notice(OPS, now)
    assert notice is not None
    store.put_off_notice(notice, now + 60, FAILED, unknown=False)
    assert store.due_sinks(now, 9) == []
    assert store.due_notice(OPS, now) is None
    assert store.next_due() == now + 60 or store.next_due() is not None
    again = store.due_notice(OPS, now + 61)
    assert again is not None
    assert (again.phase, again.failures, again.failed_at) == (NoticePhase.START, 1, 5.0)
    store.hasten_notices(OPS, now)
    assert store.due_sinks(now, 9) == [OPS]


def test_an_attempt_with_unknown_outcome_is_remembered_from_the_first_on(store: Store) -> None:
    started(store)
    now = store.now() + 1
    for at, unknown in ((10.0, True), (20.0, False), (30.0, True)):
        notice = store.due_notice(OPS, now)
        assert notice is not None
        assert store.note_attempt(notice, at, USE)
        store.put_off_notice(notice, now, FAILED, unknown=unknown)
    notice = store.due_notice(OPS, now)
    assert notice is not None
    assert notice.attempted_at == 10.0


def test_a_refused_attempt_leaves_nothing_to_search_for(store: Store) -> None:
    started(store)
    now = store.now() + 1
    notice = store.due_notice(OPS, now)
    assert notice is not None
    assert store.note_attempt(notice, 10.0, USE)
    store.put_off_notice(notice, now, FAILED, unknown=False)
    assert store.due_notice(OPS, now) == dataclasses.replace(notice, failures=1, failed_at=5.0, error="no", sent_with=USE)


def test_updates_that_wait_are_one_and_one_that_comes_while_it_is_sent_is_sent_too(store: Store) -> None:
    started(store)
    now = store.now() + 1
    first = store.due_notice(OPS, now)
    assert first is not None
    store.end_notice(first, now)
    for count in (2, 3):
        started(store, dataclasses.replace(INCIDENT, count=count), NoticePhase.UPDATE)
    [notice] = waiting(store)
    assert (notice.incident.count, notice.version) == (3, 2)
    sending = store.due_notice(OPS, now)
    assert sending is not None
    started(store, dataclasses.replace(INCIDENT, count=4), NoticePhase.UPDATE)
    store.end_notice(sending, now)
    [notice] = waiting(store)
    assert notice.incident.count == 4


def test_an_incident_whose_start_was_not_stored_has_no_end(store: Store) -> None:
    assert store.update_incidents(update(IncidentChange(INCIDENT, suppressed="the Notification is suspended")))
    assert store.update_incidents(update(IncidentChange(dataclasses.replace(INCIDENT, closed_at=2.0), (NoticePhase.END,))))
    assert waiting(store) == []
    assert store.sink_records()[OPS].suppressed == 2


def test_the_outbox_is_bounded_and_ends_are_always_stored(store: Store) -> None:
    incidents = [dataclasses.replace(INCIDENT, id=f"inc-{n}", key=f"k{n}") for n in range(LONGEST_OUTBOX + 5)]
    assert store.update_incidents(update(*[IncidentChange(each, (NoticePhase.START,)) for each in incidents]))
    assert len(waiting(store)) == LONGEST_OUTBOX
    assert store.sink_records()[OPS].suppressed == 5
    started(store, dataclasses.replace(incidents[0], closed_at=2.0), NoticePhase.END)
    assert len(waiting(store)) == LONGEST_OUTBOX + 1


def test_statuses_that_a_peer_changed_meanwhile_change_no_incident(store: Store) -> None:
    mark = store.save_statuses([ResourceStatus(SOURCE, Location("a"))])
    store.save_statuses([ResourceStatus(SOURCE, Location("b"))])  # a peer
    assert not store.update_incidents(update(IncidentChange(INCIDENT, (NoticePhase.START,)), mark=mark))
    assert waiting(store) == []
    assert store.update_incidents(update(IncidentChange(INCIDENT, (NoticePhase.START,)), mark=store.statuses_mark()))


def test_a_status_and_its_incident_are_one_commit(store: Store) -> None:
    class Broken(Exception): ...

    def fold(*_: object) -> Sequence[IncidentChange]:
        raise Broken

    with pytest.raises(Broken):
        store.save_statuses([ResourceStatus(SOURCE, Location("a"))], incidents=IncidentUpdate(fold, {OPS}))
    assert store.statuses() == {}


def test_each_occurrence_is_folded_once(store: Store) -> None:
    seen: list[Occurrence] = []

    def fold(_: Mapping[object, object], occurrences: Sequence[Occurrence], __: float) -> list[IncidentChange]:
        seen.extend(occurrences)
        return []

    rows = [Occurrence(Topic.REPAIRED, "", f"k{n}", IncidentSeverity.INFO, "repaired") for n in range(3)]
    store.add_occurrences(rows)
    assert store.has_occurrences()
    for _ in range(2):
        store.update_incidents(IncidentUpdate(fold, {OPS}))
    assert [row.key for row in seen] == ["k0", "k1", "k2"]
    assert not store.has_occurrences()


def test_a_notification_that_is_gone_leaves_nothing(store: Store) -> None:
    started(store)
    store.update_incidents(IncidentUpdate(lambda *_: [], frozenset()))
    assert waiting(store) == []
    assert store.sink_records() == {}
    assert store.due_sinks(store.now() + 1, 9) == []


def test_a_message_that_is_sent_while_its_notification_is_removed_settles_no_other_message(store: Store) -> None:
    started(store)
    sending = store.due_notice(OPS, store.now() + 1)
    assert sending is not None
    store.update_incidents(IncidentUpdate(lambda *_: [], frozenset()))
    started(store, dataclasses.replace(INCIDENT, id="inc-2"))
    assert not store.note_attempt(sending, 2.0, USE)
    store.end_notice(sending, 3.0)
    assert [notice.incident.id for notice in waiting(store)] == ["inc-2"]
    assert waiting(store)[0].attempted_at == 0.0


def test_what_was_shown_is_ended_outside_the_order_after_its_notification_is_gone(store: Store) -> None:
    started(store)
    now = store.now() + 1
    notice = store.due_notice(OPS, now)
    assert notice is not None
    assert store.note_attempt(notice, 2.0, USE)
    store.update_incidents(IncidentUpdate(lambda *_: [], frozenset()))
    assert not store.note_attempt(notice, 3.0, USE)  # a worker that read it before
    assert (store.due_sinks(now, 9), store.due_former_sinks(now, 9)) == ([], [OPS])
    started(store, dataclasses.replace(INCIDENT, id="inc-2"))  # it is declared again
    assert store.due_sinks(now, 9) == [OPS]
    former = store.due_notice(OPS, now, former_only=True)
    assert former is not None
    assert (former.phase, former.incident.id, former.sent_with) == (NoticePhase.RELEASE, "inc-1", USE)
    store.put_off_notice(former, now + 60, SinkRecord(former="RC8102: no"), unknown=False)
    later = store.due_notice(OPS, now)
    assert later is not None
    assert (later.phase, later.incident.id) == (NoticePhase.START, "inc-2")
    store.abandon_notice(former, now, SinkRecord(former="RC8102: no"))
    assert store.due_former_sinks(now + 61, 9) == []
    record = store.sink_records()[OPS]
    assert (record.former, record.error, record.abandoned) == ("RC8102: no", "", 1)
    assert store.waiting_notices()[OPS].count == 1


def test_the_end_of_what_was_never_shown_is_not_sent_after_its_notification_is_gone(store: Store) -> None:
    started(store)
    started(store, dataclasses.replace(INCIDENT, closed_at=2.0), NoticePhase.END)
    store.update_incidents(IncidentUpdate(lambda *_: [], frozenset()))
    assert waiting(store) == []


def test_an_end_that_a_former_sink_refuses_leaves_the_order(store: Store) -> None:
    started(store)
    now = store.now() + 1
    first = store.due_notice(OPS, now)
    assert first is not None
    store.end_notice(first, now)
    started(store, dataclasses.replace(INCIDENT, closed_at=2.0), NoticePhase.END)
    started(store, dataclasses.replace(INCIDENT, id="inc-2", key="k2"))
    end = store.due_notice(OPS, now)
    assert end is not None
    assert end.phase is NoticePhase.END
    store.put_off_notice(end, now + 60, SinkRecord(former="RC8102: no"), unknown=False)
    following = store.due_notice(OPS, now)
    assert following is not None
    assert following.incident.id == "inc-2"


def test_the_abandoned_start_of_what_lasts_is_sent_when_the_sink_is_tried_again(store: Store) -> None:
    started(store)
    ended = dataclasses.replace(INCIDENT, id="inc-2", key="k2", closed_at=2.0)
    started(store, ended)
    now = store.now() + 1
    while (notice := store.due_notice(OPS, now)) is not None:
        store.abandon_notice(notice, now, FAILED)
    store.hasten_notices(OPS, now)
    assert [(each.incident.id, each.failures) for each in waiting(store)] == [("inc-1", 0)]


def test_retention_drops_ended_incidents_with_their_messages_and_keeps_those_that_last(store: Store) -> None:
    started(store)
    ended = dataclasses.replace(INCIDENT, id="inc-2", key="k2", closed_at=2.0)
    started(store, ended, NoticePhase.START, NoticePhase.END)
    now = store.now() + 1
    while (notice := store.due_notice(OPS, now)) is not None:
        assert store.note_attempt(notice, 2.5, USE)
        store.end_notice(notice, 3.0, target={"ts": "1"})
    while store.prune_incidents(100.0, 10):
        pass
    with store._read() as connection:
        assert list(connection.execute(select(incident_tables.incident.c.id)).scalars()) == ["inc-1"]
        assert set(connection.execute(select(incident_tables.notice.c.incident)).scalars()) == {"inc-1"}
        assert list(connection.execute(select(incident_tables.sink_target.c.incident)).scalars()) == ["inc-1"]


def test_processes_that_see_one_edge_at_once_store_it_once(store: Store) -> None:
    """Each compares with what is stored, under a lock."""

    def fold(stored: Mapping[tuple[str, str], Incident], _: object, now: float) -> list[IncidentChange]:
        return [] if stored else [IncidentChange(dataclasses.replace(INCIDENT, opened_at=now), (NoticePhase.START,))]

    threads = [threading.Thread(target=lambda: store.update_incidents(IncidentUpdate(fold, {OPS}))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(waiting(store)) == 1


def test_a_reported_incident_is_due_again_for_a_sink_that_forgets(store: Store) -> None:
    started(store)
    now = store.now() + 1
    first = store.due_notice(OPS, now)
    assert first is not None
    store.end_notice(first, now, again_at=now + 120)
    assert store.due_notice(OPS, now + 1) is None
    assert store.next_due() == now + 120
    repeated = store.due_notice(OPS, now + 121)
    assert repeated is not None
    assert repeated.refresh
    store.put_off_notice(repeated, now + 130, FAILED, unknown=False)
    assert store.next_due() == now + 130
    repeated = store.due_notice(OPS, now + 131)
    assert repeated is not None
    store.end_notice(repeated, now + 131, again_at=now + 251)
    assert store.sink_records()[OPS].sent == 1
    started(store, dataclasses.replace(INCIDENT, closed_at=2.0), NoticePhase.END)
    end = store.due_notice(OPS, now + 240)
    assert end is not None
    store.end_notice(end, now + 240)
    assert store.next_due() is None


def test_people_see_what_waits_what_failed_and_what_was_given_up(store: Store) -> None:
    started(store)
    now = store.now() + 1
    first = store.due_notice(OPS, now)
    assert first is not None
    store.put_off_notice(first, now + 9, FAILED, unknown=False)
    [row] = store.waiting_messages(10)
    assert (row.notice.failures, row.notice.error, row.due_at, row.done_at) == (1, FAILED.error, now + 9, 0.0)
    assert store.done_messages(10) == []
    assert [incident.id for incident in store.open_incidents(10)] == [INCIDENT.id]
    store.abandon_notice(first, now + 10, FAILED)
    [row] = store.done_messages(10)
    assert (row.notice.unsent, row.notice.error, row.done_at) == ("abandoned", FAILED.error, now + 10)
    assert store.waiting_messages(10) == []
    assert store.done_messages(10, before=row.done_at) == []
