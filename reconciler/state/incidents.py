"""Incidents, and the messages about them: both are written with the statuses that they report, in one transaction.

`apply_incidents` compares the stored incidents with the present signals inside the caller's transaction, so that an edge is stored
exactly once, whichever process sees it first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import delete, func, insert, select, update

from reconciler.model.codec import decode, encode
from reconciler.model.incidents import (
    Incident,
    IncidentChange,
    Notice,
    NoticePhase,
    Occurrence,
    SinkRecord,
    WaitingNotices,
)
from reconciler.state import incident_tables, tables
from reconciler.state.database import Database, chunks, upsert
from reconciler.state.leases import lock_name

i, n, k, t = incident_tables.incident, incident_tables.notice, incident_tables.sink, incident_tables.sink_target
OCCURRENCES = 500
"""Occurrences that one transaction turns into incidents."""
LONGEST_OUTBOX = 500
"""Messages that wait for one sink. Further incidents are counted as suppressed until there is room; ends are always stored."""
RECENT_S = 3600.0
REMOVED = "the Notification was removed"
IncidentKey = tuple[str, str]
"""(path of the Notification, key of the incident)"""
Fold = Callable[[Mapping[IncidentKey, Incident], Sequence[Occurrence], float], Sequence[IncidentChange]]
"""(stored incidents, new occurrences, now) → what changes. Pure."""


@dataclass(frozen=True, slots=True)
class IncidentUpdate:
    """What `apply_incidents` needs. ``notifications``: the paths of those that are declared; the incidents of others end."""

    fold: Fold
    notifications: Collection[str]
    seen_mark: str | None = None
    """The `statuses_mark` that the signals were computed from; a transaction that finds another one changes no incident."""


class IncidentStore(Database):
    """Incidents and occurrences."""

    def has_occurrences(self) -> bool:
        """Whether occurrences wait for `update_incidents`."""
        with self._read() as connection:
            return connection.execute(select(incident_tables.occurrence.c.seq).limit(1)).first() is not None

    def add_occurrences(self, occurrences: Sequence[Occurrence]) -> None:
        """Store occurrences."""
        with self._write() as connection:
            insert_occurrences(connection, occurrences)

    def update_incidents(self, change: IncidentUpdate) -> bool:
        """Store what changed of the incidents. Returns False if a peer stored other statuses meanwhile: nothing was changed."""
        now = self.now()
        with self._write() as connection:
            return apply_incidents(connection, change, now)

    def sink_records(self) -> dict[str, SinkRecord]:
        """Return what is known of each Notification's messages, by its path."""
        with self._read() as connection:
            rows = connection.execute(select(k.c.notification, k.c.payload)).all()
        return {path: decode(SinkRecord, payload) for path, payload in rows}

    def waiting_notices(self) -> dict[str, WaitingNotices]:
        """Return what waits in the outbox, by Notification."""
        columns = (n.c.notification, func.count().label("number"), func.min(n.c.seq).label("first"))
        waiting: dict[str, WaitingNotices] = {}
        with self._read() as connection:
            groups = connection.execute(select(*columns).where(n.c.done_at == 0).group_by(n.c.notification)).all()
            numbers = {group.first: group.number for group in groups}
            for part in chunks(list(numbers)):
                # Later ones wait for the first, whenever they are due themselves.
                for row in connection.execute(
                    select(n.c.seq, n.c.notification, n.c.due_at, n.c.payload).where(n.c.seq.in_(part))
                ):
                    since = decode(Notice, row.payload).incident.changed_at
                    waiting[row.notification] = WaitingNotices(numbers[row.seq], since, row.due_at)
        return waiting

    def prune_incidents(self, before: float, limit: int) -> int:
        """Delete up to ``limit`` messages of incidents that ended before ``before``, or such incidents. Returns how many rows."""
        with self._write() as connection:
            query = select(i.c.id).where(i.c.ended_at > 0, i.c.ended_at < before).limit(limit)
            old = list(connection.execute(query).scalars())
            gone = 0
            for part in chunks(old):
                gone += connection.execute(delete(n).where(n.c.incident.in_(part), n.c.done_at > 0)).rowcount
                waiting = select(n.c.seq).where(n.c.incident == i.c.id).exists()
                gone += connection.execute(delete(i).where(i.c.id.in_(part), ~waiting)).rowcount
                _forget_places(connection, part)
            if gone:
                return gone
            # Messages of an incident whose row a newer one of the same cause has replaced, or whose Notification is gone.
            replaced = (n.c.done_at > 0) & (n.c.done_at < before) & ~select(i.c.id).where(i.c.id == n.c.incident).exists()
            rows = connection.execute(select(n.c.seq, n.c.incident).where(replaced).limit(limit)).all()
            for some in chunks(rows):
                connection.execute(delete(n).where(n.c.seq.in_([row.seq for row in some])))
                _forget_places(connection, [row.incident for row in some])
            return len(rows)


def _forget_places(connection: SqlConnection, incidents: Sequence[str]) -> None:
    """Drop where ``incidents`` were shown, of those that no message is about any more."""
    kept = select(i.c.id).where(i.c.id == t.c.incident).exists() | select(n.c.seq).where(n.c.incident == t.c.incident).exists()
    connection.execute(delete(t).where(t.c.incident.in_(incidents), ~kept))


def insert_occurrences(connection: SqlConnection, occurrences: Sequence[Occurrence]) -> None:
    """Store occurrences within the caller's transaction."""
    if occurrences:
        connection.execute(insert(incident_tables.occurrence), [{"payload": encode(each)} for each in occurrences])


def apply_incidents(connection: SqlConnection, change: IncidentUpdate, now: float) -> bool:
    """Fold signals and occurrences into the stored incidents, and add the messages that follow to the outbox."""
    lock_name(connection, "incidents")
    if change.seen_mark is not None and statuses_mark_in(connection) != change.seen_mark:
        return False
    occurrence = incident_tables.occurrence
    rows = connection.execute(select(occurrence.c.seq, occurrence.c.payload).order_by(occurrence.c.seq).limit(OCCURRENCES)).all()
    stored = _present_incidents(connection, now)
    _release_undeclared(connection, stored, change.notifications, now)
    known = {key: incident for key, incident in stored.items() if key[0] in change.notifications}
    changes = change.fold(known, [decode(Occurrence, payload) for _, payload in rows], now)
    for each in changes:
        _store(connection, each, now)
    if rows:
        connection.execute(delete(occurrence).where(occurrence.c.seq <= rows[-1].seq))
    return True


def _present_incidents(connection: SqlConnection, now: float) -> dict[IncidentKey, Incident]:
    """Return the incidents that last, and those that ended so shortly ago that a new start would be flapping."""
    query = select(i.c.notification, i.c.key, i.c.payload)
    rows = [*connection.execute(query.where(i.c.ended_at == 0)), *connection.execute(query.where(i.c.ended_at > now - RECENT_S))]
    return {(notification, key): decode(Incident, payload) for notification, key, payload in rows}


STATUSES_MARK = "statuses.mark"
"""Key of the text that changes whenever statuses are stored."""


def statuses_mark_in(connection: SqlConnection) -> str:
    """Return the mark of the statuses within a transaction."""
    return connection.execute(select(tables.meta.c.value).where(tables.meta.c.key == STATUSES_MARK)).scalar() or ""


def _release_undeclared(
    connection: SqlConnection, stored: Mapping[IncidentKey, Incident], declared: Collection[str], now: float
) -> None:
    """A removed Notification starts nothing more, and ends where it was shown what it started."""
    recorded = set(connection.execute(select(k.c.notification)).scalars())
    unsent = (n.c.done_at == 0) & (n.c.phase != NoticePhase.RELEASE.value)
    recorded |= set(connection.execute(select(n.c.notification).where(unsent).distinct()).scalars())
    for part in chunks(sorted(({path for path, _ in stored} | recorded) - set(declared))):
        connection.execute(delete(k).where(k.c.notification.in_(part)))
        for (path, _), incident in stored.items():
            if path in part and (incident.open or incident.flapping):
                why = REMOVED if incident.open else ""
                _release(connection, replace(incident, closed_at=now, changed_at=now, released=why), now)
        waiting = n.c.notification.in_(part) & (n.c.done_at == 0)
        shown = select(t.c.incident).where(t.c.incident == n.c.incident).exists()
        ends = waiting & (n.c.phase == NoticePhase.END.value) & shown
        connection.execute(update(n).where(ends).values(phase=NoticePhase.RELEASE.value, due_at=now))
        connection.execute(delete(n).where(waiting & (n.c.phase != NoticePhase.RELEASE.value)))
        connection.execute(update(n).where(n.c.notification.in_(part)).values(refresh_at=0.0))
        connection.execute(delete(i).where(i.c.notification.in_(part)))


def _release(connection: SqlConnection, incident: Incident, now: float) -> None:
    """End ``incident`` where it was shown, or may be; messages about it that wait are not sent any more."""
    waiting = (n.c.incident == incident.id) & (n.c.done_at == 0) & (n.c.phase != NoticePhase.RELEASE.value)
    connection.execute(update(n).where(waiting).values(done_at=now))
    connection.execute(update(n).where(n.c.incident == incident.id).values(refresh_at=0.0))
    if connection.execute(select(t.c.incident).where(t.c.incident == incident.id)).first() is not None:
        _enqueue(connection, incident, NoticePhase.RELEASE, now)


def _store(connection: SqlConnection, change: IncidentChange, now: float) -> None:
    incident = change.incident
    row = {
        "notification": incident.notification,
        "key": incident.key,
        "id": incident.id,
        "ended_at": 0.0 if incident.flapping else incident.closed_at,
        "payload": encode(incident),
    }
    upsert(connection, i, [row])
    suppressed = change.suppressed
    for phase in change.phases:
        if phase is NoticePhase.RELEASE:
            _release(connection, incident, now)
            continue
        if phase is NoticePhase.START and _is_full(connection, incident.notification):
            suppressed = "the outbox is full"
            continue
        if phase is not NoticePhase.START and not _started(connection, incident):
            suppressed = suppressed or "its start was not reported"
            continue
        _enqueue(connection, incident, phase, now + change.delay_s)
    if suppressed:
        record = record_of(connection, incident.notification)
        save_record(connection, incident.notification, replace(record, suppressed=record.suppressed + 1, why=suppressed))


def _is_full(connection: SqlConnection, notification: str) -> bool:
    query = select(func.count()).where(n.c.notification == notification, n.c.done_at == 0)
    return connection.execute(query).scalar_one() >= LONGEST_OUTBOX


def _started(connection: SqlConnection, incident: Incident) -> bool:
    query = select(n.c.seq).where(n.c.incident == incident.id, n.c.phase == NoticePhase.START.value).limit(1)
    return connection.execute(query).first() is not None


def _enqueue(connection: SqlConnection, incident: Incident, phase: NoticePhase, due_at: float) -> None:
    """Add a message. An update that still waits is replaced: only the newest facts are worth reporting."""
    if phase is NoticePhase.UPDATE:
        waiting = (n.c.incident == incident.id) & (n.c.phase == phase.value) & (n.c.done_at == 0)
        row = connection.execute(select(n.c.seq, n.c.payload).where(waiting).limit(1)).first()
        if row is not None:
            notice = decode(Notice, row.payload)
            newer = replace(notice, incident=incident, version=notice.version + 1)
            connection.execute(update(n).where(n.c.seq == row.seq).values(payload=encode(newer)))
            return
    values = {
        "notification": incident.notification,
        "incident": incident.id,
        "phase": phase.value,
        "due_at": due_at,
        "done_at": 0.0,
        "refresh_at": 0.0,
        "payload": encode(Notice(0, phase, incident)),
    }
    connection.execute(insert(n).values(values))


def record_of(connection: SqlConnection, notification: str) -> SinkRecord:
    """Return what is known of a Notification's messages."""
    payload = connection.execute(select(k.c.payload).where(k.c.notification == notification)).scalar()
    return decode(SinkRecord, payload) if payload is not None else SinkRecord()


def save_record(connection: SqlConnection, notification: str, record: SinkRecord) -> None:
    """Store what is known of a Notification's messages."""
    upsert(connection, k, [{"notification": notification, "payload": encode(record)}])


__all__ = [
    "Fold",
    "IncidentKey",
    "IncidentStore",
    "IncidentUpdate",
    "apply_incidents",
    "insert_occurrences",
    "record_of",
    "save_record",
]
