"""The inbox: received events and the state of each. A row is committed before the sender gets its answer."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import Function, Integer, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from reconciler.model.codec import decode, encode
from reconciler.model.events import Event, EventState, Origin, RejectedBy
from reconciler.model.resources import ResourceId
from reconciler.state import tables
from reconciler.state.database import CHUNK, Database, chunks, drop_some, first_within, upsert

PENDING_BYTES = 32 << 20
"""Bytes of event bodies in one batch; in memory they take several times as much."""
NOTHING = "nothing"
LOOKED_AT = 20_000
"""Events that one query for events without effect examines."""
_REPAIRABLE = ("filtered", "error", "suspended", "removed")
"""Reasons of events without effect that a commit can change. Never `stale` or `duplicate`: these are replay protection."""
_count = itertools.count()
_COLUMNS = tuple(column.name for column in tables.event.columns)
_OR_IGNORE = str(insert(tables.event).prefix_with("OR IGNORE").compile(dialect=sqlite.dialect()))
_DO_NOTHING = postgresql.insert(tables.event).on_conflict_do_nothing()
"""Two forms of one statement. The one for SQLite is text, since compiling it would take half the time before a delivery is answered."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event to store."""

    event: Event
    body: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """The result of storing an `Arrival`. ``event_id`` is the new row, or the existing one; ``same``: the existing one has the same body."""

    new: bool
    event_id: str
    same: bool = True
    again: bool = False
    """It was redelivered after it had no effect, and is processed again."""


class InboxStore(Database):
    """Events, rejections and cursors."""

    def add_events(self, arrivals: Sequence[Arrival]) -> list[Stored]:
        """Store a batch in one commit. An event that exists already is not changed: the first one counts."""
        with self._write() as connection:
            return insert_events(connection, arrivals)

    def replay_event(self, event_id: str) -> bool:
        """Process a stored event again. Returns False if it is pending already, or deleted."""
        e = tables.event
        with self._write() as connection:
            known = select(e.c.payload).where(e.c.id == event_id, e.c.state != EventState.PENDING.value)
            payload = connection.execute(known).scalar()
            if payload is not None:
                _set_pending(connection, event_id, payload)
        return payload is not None

    def pending_events(self, limit: int, max_bytes: int = PENDING_BYTES) -> list[tuple[Event, bytes]]:
        """Return the oldest events without an attempt, with their bodies: at least one, and more up to ``max_bytes`` in total."""
        e, a = tables.event, tables.attempt
        tried = select(a.c.event_id).where(a.c.event_id == e.c.id).exists()
        pending = select(e.c.id, body_size()).where(e.c.state == EventState.PENDING.value, ~tried)
        sizes = pending.order_by(e.c.id).limit(limit)
        with self._read() as connection:
            ids = first_within(max_bytes, connection.execute(sizes))
            query = select(e.c.payload, e.c.body).where(e.c.id.in_(ids)).order_by(e.c.id)
            return [(decode(Event, payload), body) for payload, body in connection.execute(query)]

    def pending_count(self) -> int:
        """Return the number of pending events."""
        e = tables.event
        with self._read() as connection:
            query = select(func.count()).select_from(e).where(e.c.state == EventState.PENDING.value)
            return connection.execute(query).scalar_one()

    def event_counts(self, states: Sequence[EventState]) -> dict[EventState, int]:
        """Return the number of events in each of ``states``."""
        e = tables.event
        with self._read() as connection:
            return {
                state: connection.execute(select(func.count()).select_from(e).where(e.c.state == state.value)).scalar_one()
                for state in states
            }

    def same_before(self, events: Sequence[Event]) -> dict[str, str]:
        """Return, for each of ``events`` whose identity an earlier event of its source has, the id of that event."""
        with self._read() as connection:
            first = first_of_equals(connection, [(event.source.path, event.identity) for event in events if event.identity])
        return {
            event.id: earliest
            for event in events
            if event.identity and (earliest := first.get((event.source.path, event.identity), event.id)) < event.id
        }

    # -- reading ----------------------------------------------------------------------------------------------------

    def events_end(self, *, source: str = "", before: str = "", look_at: int = LOOKED_AT) -> str:
        """Return an id such that only about ``look_at`` events lie between it and ``before``; empty when no more than that are left.

        Events without effect have no index: they are searched in parts, so that no caller blocks the store for the whole history.
        """
        e = tables.event
        query = select(e.c.id).order_by(e.c.id.desc()).offset(look_at).limit(1)
        if source:
            query = query.where(e.c.source == source)
        if before:
            query = query.where(e.c.id < before)
        with self._read() as connection:
            return max(connection.execute(query.where(e.c.state == state.value)).scalar() or "" for state in EventState)

    def events(
        self, *, source: str = "", before: str = "", since: str = "", limit: int = 100, states: Sequence[str] = ()
    ) -> list[Event]:
        """Return events, newest first. ``before``: the id to continue from. The state `NOTHING` selects events without effect."""
        e = tables.event
        query = select(e.c.id, e.c.payload).order_by(e.c.id.desc()).limit(limit)
        if source:
            query = query.where(e.c.source == source)
        if before:
            query = query.where(e.c.id < before)
        if since:
            query = query.where(e.c.id >= since)
        within = list(states) or [state.value for state in EventState]
        if NOTHING in states:
            i, d = tables.item, tables.joined
            # Two conditions instead of one "or": PostgreSQL would read every item for an "or".
            query = query.where(
                ~select(i.c.id).where(i.c.event_id == e.c.id).exists(),
                ~select(d.c.event_id).where(d.c.event_id == e.c.id).exists(),
            )
            within = [state.value for state in EventState if state is not EventState.PENDING]
        rows: list[tuple[str, bytes]] = []
        with self._read() as connection:
            # One query for each state: an index has the events of a source in order only within one state.
            for state in within:
                rows += connection.execute(query.where(e.c.state == state)).all()
        return [decode(Event, payload) for _, payload in sorted(rows, key=itemgetter(0), reverse=True)[:limit]]

    def event(self, event_id: str) -> tuple[Event, bytes] | None:
        """Return an event with its body, by id or by the sender's delivery id."""
        e = tables.event
        columns = select(e.c.payload, e.c.body)
        with self._read() as connection:
            row = connection.execute(columns.where(e.c.id == event_id)).first()
            if row is None:
                row = connection.execute(columns.where(e.c.delivery_id == event_id).order_by(e.c.id).limit(1)).first()
        if row is None:
            return None
        payload, body = row
        return decode(Event, payload), body

    def rejections(self, event_ids: Sequence[str]) -> list[RejectedBy]:
        """Return the targets that did not get these events, with the reasons."""
        r = tables.rejection
        columns = select(r.c.event_id, r.c.target, r.c.reason, r.c.message, r.c.at)
        rejections: list[RejectedBy] = []
        with self._read() as connection:
            for part in chunks(list(event_ids)):
                query = columns.where(r.c.event_id.in_(part)).order_by(r.c.event_id, r.c.target)
                rejections += [
                    RejectedBy(event_id, ResourceId.from_path(target), reason, message, at)
                    for event_id, target, reason, message, at in connection.execute(query)
                ]
        return rejections

    def known_deliveries(self, source: ResourceId, ids: Sequence[str]) -> set[str]:
        """Return which of these delivery ids or identities of ``source`` are in the inbox."""
        e = tables.event
        known: set[str] = set()
        with self._read() as connection:
            for part in chunks(list(ids)):
                for column in (e.c.delivery_id, e.c.identity):
                    query = select(column).where(e.c.source == source.path, column.in_(part), column != "")
                    known |= set(connection.execute(query).scalars())
        return known

    def last_arrivals(self) -> dict[ResourceId, float]:
        """Return when the last delivery of each source arrived (epoch seconds)."""
        c = tables.cursor
        with self._read() as connection:
            rows = connection.execute(select(c.c.name, c.c.value).where(c.c.name.startswith("heard/", autoescape=True))).all()
        return {ResourceId.from_path(name.removeprefix("heard/")): float(value) for name, value in rows}

    # -- cursors ----------------------------------------------------------------------------------------------------

    def get_cursor(self, name: str) -> Any:
        """Return the JSON value that a recovery or a schedule stored under ``name``, or None."""
        with self._read() as connection:
            value = connection.execute(select(tables.cursor.c.value).where(tables.cursor.c.name == name)).scalar()
        return json.loads(value) if value is not None else None

    def cursors(self, prefix: str) -> dict[str, Any]:
        """Return every cursor whose name begins with ``prefix``."""
        c = tables.cursor
        with self._read() as connection:
            rows = connection.execute(select(c.c.name, c.c.value).where(c.c.name.startswith(prefix, autoescape=True)))
            return {name: json.loads(value) for name, value in rows}

    def set_cursors(self, values: Mapping[str, Any]) -> None:
        """Store cursors: small JSON values by name."""
        with self._write() as connection:
            upsert(connection, tables.cursor, [{"name": key, "value": json.dumps(value)} for key, value in values.items()])

    # -- retention --------------------------------------------------------------------------------------------------

    def prune_events(self, before: float, limit: int = CHUNK, max_bytes: int = PENDING_BYTES) -> int:
        """Delete up to ``limit`` events received before ``before`` (epoch seconds), never pending ones; then rejections and groups.

        Returns the number of rows; call it until it returns 0. ``max_bytes`` bounds the bodies deleted in one transaction.
        """
        r, j, d = tables.rejection, tables.joining, tables.joined
        with self._write() as connection:
            for state in EventState:
                if state is not EventState.PENDING and (gone := _drop_events(connection, state, before, limit, max_bytes)):
                    return gone
            for table, where in ((r, r.c.at < before), (j, j.c.touched_at < before), (d, d.c.event_id < first_id(before))):
                if gone := drop_some(connection, table, where, limit):
                    return gone
        return 0


def first_id(at: float) -> str:
    """Return the lower bound of every id made at ``at`` or later: milliseconds as 12 hex digits."""
    return f"{max(0, int(at * 1000)):012x}"


def new_event_id(at: float) -> str:
    """Return a unique id that sorts by arrival, within one process also below a millisecond."""
    return f"{first_id(at)}-{next(_count) & 0xFFFFFF:06x}{secrets.token_hex(5)}"


def body_size() -> Function[int]:
    """Return the size of an event's body in bytes, computed by the database."""
    return func.length(tables.event.c.body, type_=Integer)


def _row(arrival: Arrival) -> dict[str, object]:
    event = arrival.event
    return {
        "id": event.id,
        "source": event.source.path,
        "delivery_id": event.delivery_id,
        "identity": event.identity,
        "state": event.state.value,
        "received_at": event.received_at,
        "payload": encode(event),
        "body": arrival.body,
    }


def insert_events(connection: SqlConnection, arrivals: Sequence[Arrival]) -> list[Stored]:
    rows = [_row(arrival) for arrival in arrivals]
    if connection.dialect.name == "sqlite":
        values = [tuple(row[name] for name in _COLUMNS) for row in rows]
        if connection.exec_driver_sql(_OR_IGNORE, values).rowcount == len(values):
            return [Stored(True, arrival.event.id) for arrival in arrivals]
    else:
        connection.execute(_DO_NOTHING, rows)
    ids = [arrival.event.id for arrival in arrivals]
    stored: set[str] = set()
    for part in chunks(ids):
        stored |= set(connection.execute(select(tables.event.c.id).where(tables.event.c.id.in_(part))).scalars())
    return [
        Stored(True, arrival.event.id) if arrival.event.id in stored else _present(connection, arrival) for arrival in arrivals
    ]


def _present(connection: SqlConnection, arrival: Arrival) -> Stored:
    e = tables.event
    query = select(e.c.payload).where(e.c.source == arrival.event.source.path, e.c.delivery_id == arrival.event.delivery_id)
    payload = connection.execute(query).scalar_one()
    event = decode(Event, payload)
    same = event.body_digest == arrival.event.body_digest or not event.body_digest
    again = same and arrival.event.origin is Origin.DELIVERED and _was_refused(connection, event)
    if again:
        _set_pending(connection, event.id, payload)
    return Stored(False, event.id, same, again)


def _was_refused(connection: SqlConnection, event: Event) -> bool:
    """Whether an event had no effect, and may have one now that the manifests are fixed."""
    if event.state is EventState.PROCESSED:
        r = tables.rejection
        refused = select(r.c.event_id).where(r.c.event_id == event.id, r.c.reason.in_(_REPAIRABLE))
        return connection.execute(refused).first() is not None and not _had_effect(connection, event.id)
    return event.state in (EventState.REJECTED, EventState.FAILED) and event.reason in _REPAIRABLE


def _had_effect(connection: SqlConnection, event_id: str) -> bool:
    i, d = tables.item, tables.joined
    items, parts = select(i.c.id).where(i.c.event_id == event_id), select(d.c.event_id).where(d.c.event_id == event_id)
    return connection.execute(items).first() is not None or connection.execute(parts).first() is not None


def _set_pending(connection: SqlConnection, event_id: str, payload: bytes) -> None:
    """Make a stored event pending, without attempts. Effects that it had stay and are not repeated."""
    e, r, a = tables.event, tables.rejection, tables.attempt
    known = json.loads(payload)
    pending = {"state": EventState.PENDING.value, "reason": "", "message": "", "replays": known.get("replays", 0) + 1}
    changed = json.dumps({**known, **pending}).encode()
    connection.execute(update(e).where(e.c.id == event_id).values(state=EventState.PENDING.value, payload=changed))
    connection.execute(delete(r).where(r.c.event_id == event_id))
    connection.execute(delete(a).where(a.c.event_id == event_id))


def _drop_events(connection: SqlConnection, state: EventState, before: float, limit: int, max_bytes: int) -> int:
    e = tables.event
    old = select(e.c.id, body_size()).where(e.c.state == state.value, e.c.id < first_id(before))
    ids = first_within(max_bytes, connection.execute(old.order_by(e.c.id).limit(limit)))
    for part in chunks(ids):
        connection.execute(delete(e).where(e.c.id.in_(part)))
    return len(ids)


def first_of_equals(
    connection: SqlConnection, identities: Iterable[tuple[str, str]], states: Sequence[EventState] = tuple(EventState)
) -> dict[tuple[str, str], str]:
    """Return the lowest id of the events in ``states`` with each of ``identities``: (source, identity), which is not empty."""
    e = tables.event
    by_source: dict[str, list[str]] = {}
    for source, identity in identities:
        by_source.setdefault(source, []).append(identity)
    first: dict[tuple[str, str], str] = {}
    for source, values in by_source.items():
        for part in chunks(values):
            query = select(e.c.identity, func.min(e.c.id)).where(e.c.source == source, e.c.identity.in_(part), e.c.identity != "")
            if len(states) < len(EventState):
                query = query.where(e.c.state.in_([state.value for state in states]))
            rows = connection.execute(query.group_by(e.c.identity))
            first |= {(source, identity): str(event_id) for identity, event_id in rows}
    return first


__all__ = ["Arrival", "InboxStore", "Stored", "first_id", "first_of_equals", "new_event_id"]
