"""Connection groups: the parts of incomplete sets, and the events that complete sets become."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import func, select, update

from reconciler.model.events import Event, EventState, Origin
from reconciler.model.resources import ResourceId
from reconciler.state import tables
from reconciler.state.database import Database, chunks, insert_new, locked
from reconciler.state.inbox import Arrival, insert_events, new_event_id

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


class JoinStore(Database):
    """Sets of events that connection groups collect."""

    def end_joins(self, now: float) -> list[tuple[ResourceId, Mapping[str, Any]]]:
        """Emit or drop the sets whose deadline has passed, as their group declares; returns them."""
        j = tables.joining
        query = select(j).where(j.c.deadline > 0, j.c.deadline <= now).limit(500)
        ended = []
        with self._write() as connection:
            for row in connection.execute(locked(connection, query, skip_locked=True)).all():
                payload, group = orjson.loads(row.payload), ResourceId.from_path(row.connection_group)
                if payload["join"]["emit"]:
                    _emit(connection, group, row.key, row.round, payload, now)
                else:
                    _next_round(connection, group, row.key, row.round, now)
                ended.append((group, payload))
        return ended

    def next_join_end(self) -> float:
        """Return the next deadline of an incomplete set (epoch seconds); 0 if none has one."""
        j = tables.joining
        with self._read() as connection:
            return float(connection.execute(select(func.min(j.c.deadline)).where(j.c.deadline > 0)).scalar() or 0.0)


def join_event(connection: SqlConnection, event_id: str, join: Join, now: float) -> None:
    """Add an event to the set of its group, and emit the set when it is complete."""
    j = tables.joining
    if not _joins_first(connection, event_id, join.group):
        return
    where = (j.c.connection_group == join.group.path) & (j.c.key == join.key)
    empty = {"fields": dict(join.fields), "events": {}, "join": _stored(join)}
    insert_new(
        connection,
        j,
        {
            "connection_group": join.group.path,
            "key": join.key,
            "round": 1,
            "deadline": 0.0,
            "touched_at": now,
            "payload": orjson.dumps(empty),
        },
    )
    query = select(j.c.round, j.c.deadline, j.c.payload).where(where)
    row = connection.execute(locked(connection, query)).one()
    payload = orjson.loads(row.payload)
    events = {**payload.get("events", {}), join.connection: event_id}
    origins = {**payload.get("origins", {}), join.connection: join.origin}
    payload = {"fields": dict(join.fields), "events": events, "origins": origins, "join": _stored(join)}
    if set(join.needed) <= set(events):
        _emit(connection, join.group, join.key, row.round, payload, now)
        return
    deadline = row.deadline or (now + join.timeout_s if join.timeout_s and (join.emit or join.drop) else 0.0)
    connection.execute(update(j).where(where).values(deadline=deadline, touched_at=now, payload=orjson.dumps(payload)))


def _joins_first(connection: SqlConnection, event_id: str, group: ResourceId) -> bool:
    """Record that ``group`` took the event. Returns False if it did before, in a set that may be complete."""
    d = tables.joined
    where = (d.c.event_id == event_id) & (d.c.connection_group == group.path)
    if connection.execute(select(d.c.event_id).where(where)).first() is not None:
        return False
    insert_new(connection, d, {"event_id": event_id, "connection_group": group.path})
    return True


def _emit(connection: SqlConnection, group: ResourceId, key: str, round_: int, payload: Mapping[str, Any], now: float) -> None:  # noqa: PLR0917  called once
    """Emit a set as an event of the group, and begin the next round."""
    events: Mapping[str, str] = payload["events"]
    bodies, left_out = _bodies(connection, events)
    missing = sorted(set(payload["join"]["needed"]) - set(events))
    body = {
        "type": "field_set_completed",
        "fields": payload["fields"],
        "events": {name: orjson.Fragment(bodies.get(event_id, b"null")) for name, event_id in sorted(events.items())},
        **({"missing": missing} if missing else {}),
        **({"truncated": left_out} if left_out else {}),
        "origin": _joined(payload.get("origins", {}).get(name, {}) for name in payload["join"]["needed"]),
    }
    content = orjson.dumps(body)
    event = Event(
        id=new_event_id(now),
        source=group,
        delivery_id=f"{key[:32]}-{round_}",
        type="field_set_completed",
        origin=Origin.INTERNAL,
        state=EventState.PENDING,
        received_at=now,
        occurred_at=now,
    )
    insert_events(connection, [Arrival(event, content)])
    _next_round(connection, group, key, round_, now)


def _bodies(connection: SqlConnection, events: Mapping[str, str]) -> tuple[dict[str, bytes], list[str]]:
    """Return the payloads of a set, smallest first up to `MAX_SET_BYTES`, and the connections whose payloads are left out."""
    e = tables.event
    sizes: dict[str, int] = {}
    for part in chunks(sorted(set(events.values()))):
        sizes |= {
            str(row[0]): int(row[1]) for row in connection.execute(select(e.c.id, func.length(e.c.body)).where(e.c.id.in_(part)))
        }
    total, kept = 0, []
    for name in sorted(events, key=lambda one: (sizes.get(events[one], 0), one)):
        total += sizes.get(events[name], 0)
        if total <= MAX_SET_BYTES:
            kept.append(name)
    bodies: dict[str, bytes] = {}
    for part in chunks([events[name] for name in kept]):
        rows = connection.execute(select(e.c.id, e.c.body).where(e.c.id.in_(part)))
        bodies |= {str(row.id): bytes(row.body) for row in rows}
    return bodies, sorted(set(events) - set(kept))


def _next_round(connection: SqlConnection, group: ResourceId, key: str, round_: int, now: float) -> None:
    j = tables.joining
    connection.execute(
        update(j)
        .where(j.c.connection_group == group.path, j.c.key == key)
        .values(round=round_ + 1, deadline=0.0, touched_at=now, payload=orjson.dumps({"events": {}}))
    )


def _joined(origins: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the origin of a set of events: the first with a commit, and every stage that led to any of them.

    Without a commit it is the first with a ref to look up, else the first.
    """
    known = [origin for origin in origins if origin]
    first = dict(next((origin for key in ("sha", "lookup") for origin in known if origin.get(key)), known[0] if known else {}))
    through = dict.fromkeys(stage for origin in known for stage in origin.get("through", ()))
    return {**first, "through": [*through]} if through else first


def _stored(join: Join) -> dict[str, Any]:
    return {"needed": list(join.needed), "emit": join.emit}
