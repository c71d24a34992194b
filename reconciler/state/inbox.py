"""The inbox: events as they came in, and what became of each. A row is committed before its sender is answered."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from reconciler.model.codec import decode, encode
from reconciler.model.events import Event, EventState, Origin, RejectedBy
from reconciler.model.resources import ResourceId
from reconciler.state import tables
from reconciler.state.database import CHUNK, Database, chunks, drop_some, upsert

PENDING_BYTES = 32 << 20
"""Of events that are looked at together; read into memory they are several times as large."""
NOTHING = "nothing"
LOOKED_AT = 20_000
"""Events that are looked at together for those that led to nothing."""
_REPAIRABLE = ("filtered", "error", "suspended", "removed")
"""Reasons for which nothing came of an event, and something may after a commit. Never `stale` or `duplicate`: these protect."""
_count = itertools.count()
_COLUMNS = tuple(column.name for column in tables.event.columns)
_OR_IGNORE = str(insert(tables.event).prefix_with("OR IGNORE").compile(dialect=sqlite.dialect()))
_DO_NOTHING = postgresql.insert(tables.event).on_conflict_do_nothing()
"""Two forms of one statement. SQLite's is text: a delivery is answered after it, and SQLAlchemy would take half the time."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event to store."""

    event: Event
    body: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of an `Arrival`: new, or the id of the row that was there already; ``same`` tells whether with the same body."""

    new: bool
    event_id: str
    same: bool = True
    again: bool = False
    """It was sent again after it had led to nothing, and is looked at anew."""


class InboxStore(Database):
    """Events, rejections and cursors."""

    def add_events(self, arrivals: Sequence[Arrival]) -> list[Stored]:
        """Store a batch in one commit; an event that is there already is left as it is (the first one counts)."""
        with self._write() as connection:
            return insert_events(connection, arrivals)

    def replay_event(self, event_id: str) -> bool:
        """Let a stored event be looked at anew; False if it waits already, or is gone."""
        e = tables.event
        with self._write() as connection:
            known = select(e.c.payload).where(e.c.id == event_id, e.c.state != EventState.PENDING.value)
            payload = connection.execute(known).scalar()
            if payload is not None:
                _set_pending(connection, event_id, payload)
        return payload is not None

    def pending_events(self, limit: int, max_bytes: int = PENDING_BYTES) -> list[tuple[Event, bytes]]:
        """Return the oldest events that were not tried yet, with their bodies: one, and more up to ``max_bytes`` together."""
        e, a = tables.event, tables.attempt
        tried = select(a.c.event_id).where(a.c.event_id == e.c.id).exists()
        pending = select(e.c.id, func.length(e.c.body)).where(e.c.state == EventState.PENDING.value, ~tried)
        sizes = pending.order_by(e.c.id).limit(limit)
        with self._read() as connection:
            rows = connection.execute(sizes).all()
            total = itertools.accumulate(int(size) for _, size in rows)
            wanted = [
                str(row[0]) for number, (row, held) in enumerate(zip(rows, total, strict=True)) if not number or held <= max_bytes
            ]
            query = select(e.c.payload, e.c.body).where(e.c.id.in_(wanted)).order_by(e.c.id)
            return [(decode(Event, row.payload), bytes(row.body)) for row in connection.execute(query)]

    def pending_count(self) -> int:
        """Return how many events nobody has looked at yet."""
        e = tables.event
        with self._read() as connection:
            query = select(func.count()).select_from(e).where(e.c.state == EventState.PENDING.value)
            return int(connection.execute(query).scalar_one())

    def event_counts(self, states: Sequence[EventState]) -> dict[EventState, int]:
        """Return how many events are in each of ``states`` (those with an index of their own)."""
        e = tables.event
        with self._read() as connection:
            return {
                state: int(connection.execute(select(func.count()).select_from(e).where(e.c.state == state.value)).scalar_one())
                for state in states
            }

    def same_before(self, events: Sequence[Event]) -> dict[str, str]:
        """Return, for each of ``events`` that says what an earlier one of its source said already, the id of that one."""
        e = tables.event
        by_source: dict[str, list[str]] = {}
        for one in events:
            if one.identity:
                by_source.setdefault(one.source.path, []).append(one.identity)
        first: dict[tuple[str, str], str] = {}
        with self._read() as connection:
            for source, identities in by_source.items():
                for part in chunks(identities):
                    query = (
                        select(e.c.identity, func.min(e.c.id))
                        .where(e.c.source == source, e.c.identity.in_(part), e.c.identity != "")
                        .group_by(e.c.identity)
                    )
                    first |= {(source, identity): str(event_id) for identity, event_id in connection.execute(query)}
        return {
            one.id: earliest
            for one in events
            if one.identity and (earliest := first.get((one.source.path, one.identity), one.id)) < one.id
        }

    # -- reading ----------------------------------------------------------------------------------------------------

    def events_end(self, *, source: str = "", before: str = "", look_at: int = LOOKED_AT) -> str:
        """Return an id such that only about ``look_at`` events lie from it to ``before``; empty where no more than that are left.

        What led to nothing has no index: it is looked for in parts, so that nobody else waits for the whole history.
        """
        e = tables.event
        query = select(e.c.id).order_by(e.c.id.desc()).offset(look_at).limit(1)
        if source:
            query = query.where(e.c.source == source)
        if before:
            query = query.where(e.c.id < before)
        with self._read() as connection:
            return max(str(connection.execute(query.where(e.c.state == one.value)).scalar() or "") for one in EventState)

    def events(
        self, *, source: str = "", before: str = "", since: str = "", limit: int = 100, states: Sequence[str] = ()
    ) -> list[Event]:
        """Return events, newest first; ``before`` is the id to continue from. The state `NOTHING` stands for what led to nothing."""
        e = tables.event
        query = select(e.c.id, e.c.payload).order_by(e.c.id.desc()).limit(limit)
        if source:
            query = query.where(e.c.source == source)
        if before:
            query = query.where(e.c.id < before)
        if since:
            query = query.where(e.c.id >= since)
        within = list(states) or [one.value for one in EventState]
        if NOTHING in states:
            i, d = tables.item, tables.joined
            # Two conditions, not one with an "or": PostgreSQL would read every item there is for that.
            query = query.where(
                ~select(i.c.id).where(i.c.event_id == e.c.id).exists(),
                ~select(d.c.event_id).where(d.c.event_id == e.c.id).exists(),
            )
            within = [one.value for one in EventState if one is not EventState.PENDING]
        found: list[Any] = []
        with self._read() as connection:
            # State by state: only within one of them an index has the events of a source in their order.
            for state in within:
                found += connection.execute(query.where(e.c.state == state)).all()
        return [decode(Event, row.payload) for row in sorted(found, key=lambda row: str(row.id), reverse=True)[:limit]]

    def event(self, event_id: str) -> tuple[Event, bytes] | None:
        """Return one event with its body, by id or by the sender's delivery id."""
        e = tables.event
        columns = select(e.c.payload, e.c.body)
        with self._read() as connection:
            row = connection.execute(columns.where(e.c.id == event_id)).first()
            if row is None:
                row = connection.execute(columns.where(e.c.delivery_id == event_id).order_by(e.c.id).limit(1)).first()
        return (decode(Event, row.payload), bytes(row.body)) if row is not None else None

    def rejections(self, event_ids: Sequence[str]) -> list[RejectedBy]:
        """Return who did not get these events, and why."""
        r = tables.rejection
        found: list[RejectedBy] = []
        with self._read() as connection:
            for part in chunks(list(event_ids)):
                rows = connection.execute(select(r).where(r.c.event_id.in_(part)).order_by(r.c.event_id, r.c.target))
                found += [RejectedBy(x.event_id, ResourceId.from_path(x.target), x.reason, x.message, x.at) for x in rows]
        return found

    def known_deliveries(self, source: ResourceId, ids: Sequence[str]) -> set[str]:
        """Return which of the sender's ids, or identities, of ``source`` are in the inbox."""
        e = tables.event
        found: set[str] = set()
        with self._read() as connection:
            for part in chunks(list(ids)):
                for column in (e.c.delivery_id, e.c.identity):
                    query = select(column).where(e.c.source == source.path, column.in_(part), column != "")
                    found |= set(connection.execute(query).scalars())
        return found

    def last_arrivals(self) -> dict[ResourceId, float]:
        """Return when each source was last heard of (epoch seconds), by its own deliveries."""
        c = tables.cursor
        with self._read() as connection:
            rows = connection.execute(select(c.c.name, c.c.value).where(c.c.name.startswith("heard/", autoescape=True))).all()
        return {ResourceId.from_path(name.removeprefix("heard/")): float(value) for name, value in rows}

    # -- cursors ----------------------------------------------------------------------------------------------------

    def get_cursor(self, name: str) -> Any:
        """Return a small JSON value that a sweep or schedule keeps; None if there is none."""
        with self._read() as connection:
            row = connection.execute(select(tables.cursor.c.value).where(tables.cursor.c.name == name)).first()
        return json.loads(row[0]) if row is not None else None

    def cursors(self, prefix: str) -> dict[str, Any]:
        """Return every such value whose name begins with ``prefix``."""
        c = tables.cursor
        with self._read() as connection:
            rows = connection.execute(select(c.c.name, c.c.value).where(c.c.name.startswith(prefix, autoescape=True)))
            return {name: json.loads(value) for name, value in rows}

    def set_cursors(self, values: Mapping[str, Any]) -> None:
        """Store small JSON values."""
        with self._write() as connection:
            upsert(connection, tables.cursor, [{"name": key, "value": json.dumps(value)} for key, value in values.items()])

    # -- retention --------------------------------------------------------------------------------------------------

    def prune_events(self, before: float, limit: int = CHUNK, max_bytes: int = PENDING_BYTES) -> int:
        """Drop up to ``limit`` events received before ``before`` (epoch seconds), never one that is pending; then what they left.

        Returns how many rows; call it again until it returns 0. ``max_bytes``: of bodies, together.
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
    """Return what every id made at ``at`` or later is not less than: milliseconds as 12 hex digits."""
    return f"{max(0, int(at * 1000)):012x}"


def new_event_id(at: float) -> str:
    """Return an id that sorts by arrival (within one process also below a millisecond) and is never given twice."""
    return f"{first_id(at)}-{next(_count) & 0xFFFFFF:06x}{secrets.token_hex(5)}"


def _row(arrival: Arrival) -> dict[str, Any]:
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
    rows = [_row(one) for one in arrivals]
    if connection.dialect.name == "sqlite":
        values = [tuple(row[name] for name in _COLUMNS) for row in rows]
        if connection.exec_driver_sql(_OR_IGNORE, values).rowcount == len(values):
            return [Stored(True, one.event.id) for one in arrivals]
    else:
        connection.execute(_DO_NOTHING, rows)
    wanted = [one.event.id for one in arrivals]
    stored: set[str] = set()
    for part in chunks(wanted):
        stored |= set(connection.execute(select(tables.event.c.id).where(tables.event.c.id.in_(part))).scalars())
    return [Stored(True, one.event.id) if one.event.id in stored else _present(connection, one) for one in arrivals]


def _present(connection: SqlConnection, arrival: Arrival) -> Stored:
    e = tables.event
    row = connection.execute(
        select(e.c.id, e.c.payload).where(e.c.source == arrival.event.source.path, e.c.delivery_id == arrival.event.delivery_id)
    ).one()
    event: Event = decode(Event, row.payload)
    same = event.body_digest == arrival.event.body_digest or not event.body_digest
    again = same and arrival.event.origin is Origin.DELIVERED and _was_refused(connection, event)
    if again:
        _set_pending(connection, event.id, row.payload)
    return Stored(False, event.id, same, again)


def _was_refused(connection: SqlConnection, event: Event) -> bool:
    """Whether an event led to nothing, and may lead to something now that manifests are repaired."""
    if event.state is EventState.PROCESSED:
        r = tables.rejection
        refused = select(r.c.event_id).where(r.c.event_id == event.id, r.c.reason.in_(_REPAIRABLE))
        return connection.execute(refused).first() is not None and not _led_to_something(connection, event.id)
    return event.state in (EventState.REJECTED, EventState.FAILED) and event.reason in _REPAIRABLE


def _led_to_something(connection: SqlConnection, event_id: str) -> bool:
    i, d = tables.item, tables.joined
    items, parts = select(i.c.id).where(i.c.event_id == event_id), select(d.c.event_id).where(d.c.event_id == event_id)
    return connection.execute(items).first() is not None or connection.execute(parts).first() is not None


def _set_pending(connection: SqlConnection, event_id: str, payload: bytes) -> None:
    """Let a stored event be looked at anew, as if it had not been tried; what it led to stays, and is not repeated."""
    e, r, a = tables.event, tables.rejection, tables.attempt
    told = {"state": EventState.PENDING.value, "reason": "", "message": ""}
    changed = json.dumps({**json.loads(payload), **told}).encode()
    connection.execute(update(e).where(e.c.id == event_id).values(state=EventState.PENDING.value, payload=changed))
    connection.execute(delete(r).where(r.c.event_id == event_id))
    connection.execute(delete(a).where(a.c.event_id == event_id))


def _drop_events(connection: SqlConnection, state: EventState, before: float, limit: int, max_bytes: int) -> int:
    e = tables.event
    old = select(e.c.id, func.length(e.c.body)).where(e.c.state == state.value, e.c.id < first_id(before))
    ids: list[str] = []
    total = 0
    for event_id, size in connection.execute(old.order_by(e.c.id).limit(limit)):
        total += int(size)
        if ids and total > max_bytes:
            break
        ids.append(str(event_id))
    for part in chunks(ids):
        connection.execute(delete(e).where(e.c.id.in_(part)))
    return len(ids)


__all__ = ["Arrival", "InboxStore", "Stored", "first_id", "new_event_id"]
