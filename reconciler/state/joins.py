"""Connection groups: the parts of incomplete sets, and the events that complete sets become."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import func, select, update

from reconciler.model.codec import decode, encode
from reconciler.model.events import Event, EventState, Origin
from reconciler.model.resources import ResourceId
from reconciler.state import tables
from reconciler.state.database import Database, chunks, insert_new, locked
from reconciler.state.inbox import Arrival, body_size, insert_events, new_event_id

MAX_SET_BYTES = 8 << 20
"""Bytes of payloads in one event of a connection group; the largest payloads beyond it are left out."""


@dataclass(frozen=True, slots=True)
class Join:
    """An event's part in a connection group."""

    group: ResourceId
    key: str
    fields: Mapping[str, str]
    connection: str
    needed: tuple[str, ...]
    timeout_s: float
    origin: Mapping[str, Any]
    emit: bool
    """Whether an incomplete set is emitted at its deadline."""
    drop: bool
    trace: str = ""
    """``traceparent`` of the event; empty without tracing."""


class _SetRule(msgspec.Struct, frozen=True):
    """What the group declared when its newest event arrived."""

    needed: tuple[str, ...] = ()
    emit: bool = False


class _EventSet(msgspec.Struct, frozen=True):
    """The stored form of an incomplete set. ``events`` and ``origins`` are by connection."""

    fields: dict[str, str] = {}
    events: dict[str, str] = {}
    origins: dict[str, dict[str, Any]] = {}
    join: _SetRule = _SetRule()
    traces: dict[str, str] = {}
    """``traceparent`` of each event, by connection, the newest last."""


class JoinStore(Database):
    """Sets of events that connection groups collect."""

    def end_joins(self, now: float) -> list[tuple[ResourceId, list[str]]]:
        """Emit or drop the sets whose deadline has passed, as their group declares. Returns each group with the connections in its set."""
        j = tables.joining
        query = (
            select(j.c.connection_group, j.c.key, j.c.round, j.c.payload).where(j.c.deadline > 0, j.c.deadline <= now).limit(500)
        )
        ended: list[tuple[ResourceId, list[str]]] = []
        with self._write() as connection:
            for path, key, number, payload in connection.execute(locked(connection, query, skip_locked=True)).all():
                group, events = ResourceId.from_path(path), decode(_EventSet, payload)
                current = _Round(group, key, number)
                if events.join.emit:
                    _emit(connection, current, events, now)
                else:
                    _next_round(connection, current, now)
                ended.append((group, sorted(events.events)))
        return ended

    def next_join_end(self) -> float:
        """Return the next deadline of an incomplete set (epoch seconds); 0 if none has one."""
        j = tables.joining
        with self._read() as connection:
            return connection.execute(select(func.min(j.c.deadline)).where(j.c.deadline > 0)).scalar() or 0.0


def join_event(connection: SqlConnection, event_id: str, join: Join, now: float) -> None:
    """Add an event to the set of its group, and emit the set when it is complete."""
    j = tables.joining
    if not _joins_first(connection, event_id, join.group):
        return
    where = (j.c.connection_group == join.group.path) & (j.c.key == join.key)
    rule = _SetRule(join.needed, join.emit)
    insert_new(
        connection,
        j,
        {
            "connection_group": join.group.path,
            "key": join.key,
            "round": 1,
            "deadline": 0.0,
            "touched_at": now,
            "payload": encode(_EventSet(dict(join.fields), join=rule)),
        },
    )
    query = select(j.c.round, j.c.deadline, j.c.payload).where(where)
    number, deadline, payload = connection.execute(locked(connection, query)).one()
    before = decode(_EventSet, payload)
    events = _EventSet(
        dict(join.fields),
        {**before.events, join.connection: event_id},
        {**before.origins, join.connection: dict(join.origin)},
        rule,
        {**{name: trace for name, trace in before.traces.items() if name != join.connection}, join.connection: join.trace},
    )
    if set(join.needed) <= set(events.events):
        _emit(connection, _Round(join.group, join.key, number), events, now)
        return
    deadline = deadline or (now + join.timeout_s if join.timeout_s and (join.emit or join.drop) else 0.0)
    connection.execute(update(j).where(where).values(deadline=deadline, touched_at=now, payload=encode(events)))


def _joins_first(connection: SqlConnection, event_id: str, group: ResourceId) -> bool:
    """Record that ``group`` took the event. Returns False if it did before, in a set that may be complete."""
    d = tables.joined
    where = (d.c.event_id == event_id) & (d.c.connection_group == group.path)
    if connection.execute(select(d.c.event_id).where(where)).first() is not None:
        return False
    insert_new(connection, d, {"event_id": event_id, "connection_group": group.path})
    return True


@dataclass(frozen=True, slots=True)
class _Round:
    """One round of a set: the number makes the delivery id of its event unique."""

    group: ResourceId
    key: str
    number: int


def _emit(connection: SqlConnection, current: _Round, events: _EventSet, now: float) -> None:
    """Emit a set as an event of the group, and begin the next round."""
    bodies, left_out = _bodies(connection, events.events)
    missing = sorted(set(events.join.needed) - set(events.events))
    body = {
        "type": "field_set_completed",
        "fields": events.fields,
        "events": {name: orjson.Fragment(bodies.get(event_id, b"null")) for name, event_id in sorted(events.events.items())},
        **({"missing": missing} if missing else {}),
        **({"truncated": left_out} if left_out else {}),
        "origin": _joined(events.origins.get(name, {}) for name in events.join.needed),
    }
    content = orjson.dumps(body)
    traces = [trace for trace in events.traces.values() if trace]
    event = Event(
        id=new_event_id(now),
        source=current.group,
        delivery_id=f"{current.key[:32]}-{current.number}",
        type="field_set_completed",
        origin=Origin.INTERNAL,
        state=EventState.PENDING,
        received_at=now,
        occurred_at=now,
        trace=traces[-1] if traces else "",  # the event that completed the set
        links=tuple(traces[:-1]),
    )
    insert_events(connection, [Arrival(event, content)])
    _next_round(connection, current, now)


def _bodies(connection: SqlConnection, events: Mapping[str, str]) -> tuple[dict[str, bytes], list[str]]:
    """Return the payloads of a set, smallest first up to `MAX_SET_BYTES`, and the connections whose payloads are left out."""
    e = tables.event
    sizes: dict[str, int] = {}
    for part in chunks(sorted(set(events.values()))):
        sizes |= dict(connection.execute(select(e.c.id, body_size()).where(e.c.id.in_(part))).all())
    total = 0
    kept: list[str] = []
    for name in sorted(events, key=lambda name: (sizes.get(events[name], 0), name)):
        total += sizes.get(events[name], 0)
        if total <= MAX_SET_BYTES:
            kept.append(name)
    bodies: dict[str, bytes] = {}
    for part in chunks([events[name] for name in kept]):
        bodies |= dict(connection.execute(select(e.c.id, e.c.body).where(e.c.id.in_(part))).all())
    return bodies, sorted(set(events) - set(kept))


def _next_round(connection: SqlConnection, ended: _Round, now: float) -> None:
    j = tables.joining
    connection.execute(
        update(j)
        .where(j.c.connection_group == ended.group.path, j.c.key == ended.key)
        .values(round=ended.number + 1, deadline=0.0, touched_at=now, payload=encode(_EventSet()))
    )


def _joined(origins: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the origin of a set of events: the first with a commit, and every stage that led to any of them.

    Without a commit it is the first with a ref to look up, else the first.
    """
    known = [origin for origin in origins if origin]
    first = dict(next((origin for key in ("sha", "lookup") for origin in known if origin.get(key)), known[0] if known else {}))
    through = dict.fromkeys(stage for origin in known for stage in origin.get("through", ()))
    return {**first, "through": [*through]} if through else first
