"""What events lead to: items, parts of connection groups, rejections; one commit with the event's own state."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import bindparam, func, select, update

from reconciler.model.codec import decode
from reconciler.model.events import Event, EventState, Origin, RejectedBy
from reconciler.model.executions import Item
from reconciler.model.resources import ResourceId
from reconciler.state import tables
from reconciler.state.database import chunks
from reconciler.state.inbox import Arrival, new_event_id
from reconciler.state.queue import Queue
from reconciler.state.reports import PendingReport

_NOTHING = ("", "")
_HAD_EFFECTS = (EventState.PROCESSED, EventState.FAILED, EventState.QUARANTINED)
"""States of events of which a part at least was handed on, or may have been."""
MAX_SET_BYTES = 8 << 20
"""Of payloads that are put together into one event of a connection group; the largest beyond it are left out."""


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
    """Whether an incomplete set is handed on when its time is over."""
    drop: bool


@dataclass(frozen=True, slots=True)
class Routing:
    """All that one event leads to; committed together with the event's own state."""

    event_id: str
    state: EventState = EventState.PROCESSED
    reason: str = ""
    message: str = ""
    items: tuple[Item, ...] = ()
    pins: Mapping[str, bytes] = field(default_factory=dict)
    reports: tuple[PendingReport, ...] = ()
    unreported: tuple[tuple[str, str, str], ...] = ()
    """(item, kind, reason) of declared reports that have nothing to be written to: for the log."""
    joins: tuple[Join, ...] = ()
    rejections: tuple[RejectedBy, ...] = ()


class RoutingStore(Queue):
    """Part of `Store`."""

    def stages_behind(self, runs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, ...]]:
        """Return (integration, id of a run) → paths of the stage that started it and of those that led to that."""
        wanted: dict[str, set[str]] = {}
        for integration, external_id in runs:
            wanted.setdefault(integration, set()).add(external_id)
        x, i = tables.execution, tables.item
        found: dict[tuple[str, str], tuple[str, ...]] = {}
        with self._read() as connection:
            for integration, ids in wanted.items():
                for part in chunks(sorted(ids)):  # not pairs in one statement: SQLite looks at every execution for those
                    query = (
                        select(x.c.external_id, i.c.payload)
                        .join(i, i.c.id == x.c.item_id)
                        .where(x.c.integration == integration, x.c.external_id.in_(part))
                    )
                    for external_id, payload in connection.execute(query):
                        one: Item = decode(Item, payload)
                        found[integration, external_id] = (*one.origin.get("through", ()), one.stage.path)
        return found

    def settle_events(self, routings: Sequence[Routing]) -> list[Routing]:
        """Commit what a batch of events leads to, each exactly once: an event that is not pending any more is passed over.

        Returns what counted, as it was committed.
        """
        now = self.now()
        with self._write() as connection:
            ended = self._end_events(connection, self._first_of_equals(connection, routings))
            counted = self._without_repeated(connection, ended)
            self._end_attempts(connection, [routing.event_id for routing in routings])
            self._queue(
                connection,
                [item for routing in counted for item in routing.items],
                {digest: pin for routing in counted for digest, pin in routing.pins.items()},
                [report for routing in counted for report in routing.reports],
                now,
            )
            for routing in counted:
                for join in routing.joins:
                    self._join(connection, routing.event_id, join, now)
            rows = [
                {"event_id": one.event_id, "target": one.target.path, "reason": one.reason, "message": one.message, "at": one.at}
                for routing in counted
                for one in routing.rejections
            ]
            self._upsert(connection, tables.rejection, rows)
        return counted

    def _without_repeated(self, connection: SqlConnection, routings: Sequence[Routing]) -> list[Routing]:
        """Return ``routings`` without what an event led to before: one that is replayed has no effect twice."""
        known: set[str] = set()
        for part in chunks([item.id for routing in routings for item in routing.items]):
            known |= set(connection.execute(select(tables.item.c.id).where(tables.item.c.id.in_(part))).scalars())
        if not known:
            return list(routings)
        return [
            dataclasses.replace(
                routing,
                items=tuple(item for item in routing.items if item.id not in known),
                reports=tuple(report for report in routing.reports if report.item_id not in known),
            )
            for routing in routings
        ]

    def _first_of_equals(self, connection: SqlConnection, routings: Sequence[Routing]) -> list[Routing]:
        """Return ``routings``, but as a duplicate where an equal event of the source has had its effects by now.

        `same_before` cannot see what another process is about to store under an older id, nor what has a newer id because a
        clock was set back. Asked here, where one process at a time hands events on, it is certain.
        """
        self._alone(connection, "inbox")
        e = tables.event
        said: dict[str, tuple[str, str]] = {}
        for part in chunks([one.event_id for one in routings if one.state in _HAD_EFFECTS]):
            query = select(e.c.id, e.c.source, e.c.identity).where(e.c.id.in_(part), e.c.identity != "")
            said |= {str(row.id): (row.source, row.identity) for row in connection.execute(query)}
        had: dict[tuple[str, str], str] = {}
        for source in {source for source, _ in said.values()}:
            for part in chunks([identity for one, identity in said.values() if one == source]):
                query = select(e.c.id, e.c.identity).where(
                    e.c.source == source,
                    e.c.identity.in_(part),
                    e.c.identity != "",
                    e.c.state.in_([state.value for state in _HAD_EFFECTS]),
                )
                had |= {(source, row.identity): str(row.id) for row in connection.execute(query)}
        return [_unless(one, had.get(said.get(one.event_id, _NOTHING), one.event_id)) for one in routings]

    def _end_events(self, connection: SqlConnection, routings: Sequence[Routing]) -> list[Routing]:
        """Give the events their final state; returns the routings of those that were pending until now."""
        e = tables.event
        pending: dict[str, bytes] = {}
        for part in chunks([routing.event_id for routing in routings]):
            query = select(e.c.id, e.c.payload).where(e.c.id.in_(part), e.c.state == EventState.PENDING.value).order_by(e.c.id)
            rows = connection.execute(query if self.dialect == "sqlite" else query.with_for_update())
            pending |= {str(row.id): row.payload for row in rows}
        counted: list[Routing] = []
        changes: list[dict[str, Any]] = []
        for routing in routings:
            payload = pending.pop(routing.event_id, None)
            if payload is not None:
                told = {"state": routing.state.value, "reason": routing.reason, "message": routing.message}
                changed = orjson.dumps({**orjson.loads(payload), **told})
                changes.append({"of": routing.event_id, "to": routing.state.value, "with": changed})
                counted.append(routing)
        if changes:
            statement = update(e).where(e.c.id == bindparam("of")).values(state=bindparam("to"), payload=bindparam("with"))
            connection.execute(statement, changes)
        return counted

    # -- connection groups ------------------------------------------------------------------------------------------

    def _join(self, connection: SqlConnection, event_id: str, join: Join, now: float) -> None:
        j = tables.joining
        if not self._joins_first(connection, event_id, join.group):
            return
        where = (j.c.connection_group == join.group.path) & (j.c.key == join.key)
        empty = {"fields": dict(join.fields), "events": {}, "join": _told(join)}
        self._insert_new(
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
        row = connection.execute(query if self.dialect == "sqlite" else query.with_for_update()).one()
        payload = orjson.loads(row.payload)
        events = {**payload.get("events", {}), join.connection: event_id}
        origins = {**payload.get("origins", {}), join.connection: join.origin}
        payload = {"fields": dict(join.fields), "events": events, "origins": origins, "join": _told(join)}
        if set(join.needed) <= set(events):
            self._emit(connection, join.group, join.key, row.round, payload, now)
            return
        deadline = row.deadline or (now + join.timeout_s if join.timeout_s and (join.emit or join.drop) else 0.0)
        connection.execute(update(j).where(where).values(deadline=deadline, touched_at=now, payload=orjson.dumps(payload)))

    def _joins_first(self, connection: SqlConnection, event_id: str, group: ResourceId) -> bool:
        """Note that ``group`` takes the event; False if it did before, in a set that may be complete by now."""
        d = tables.joined
        where = (d.c.event_id == event_id) & (d.c.connection_group == group.path)
        if connection.execute(select(d.c.event_id).where(where)).first() is not None:
            return False
        self._insert_new(connection, d, {"event_id": event_id, "connection_group": group.path})
        return True

    def _emit(
        self, connection: SqlConnection, group: ResourceId, key: str, round_: int, payload: Mapping[str, Any], now: float
    ) -> None:
        """Hand a set on as an event of the group, and begin the next round."""
        events: Mapping[str, str] = payload["events"]
        bodies, left_out = self._bodies(connection, events)
        missing = sorted(set(payload["join"]["needed"]) - set(events))
        body = {
            "type": "field_set_completed",
            "fields": payload["fields"],
            "events": {name: orjson.Fragment(bodies.get(one, b"null")) for name, one in sorted(events.items())},
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
        self._add_events(connection, [Arrival(event, content)])
        self._next_round(connection, group, key, round_, now)

    def _bodies(self, connection: SqlConnection, events: Mapping[str, str]) -> tuple[dict[str, bytes], list[str]]:
        """Return the payloads of a set, the smallest first up to `MAX_SET_BYTES`, and the connections whose are left out."""
        e = tables.event
        sizes: dict[str, int] = {}
        for part in chunks(sorted(set(events.values()))):
            sizes |= {
                str(row[0]): int(row[1])
                for row in connection.execute(select(e.c.id, func.length(e.c.body)).where(e.c.id.in_(part)))
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

    def _next_round(self, connection: SqlConnection, group: ResourceId, key: str, round_: int, now: float) -> None:
        j = tables.joining
        connection.execute(
            update(j)
            .where(j.c.connection_group == group.path, j.c.key == key)
            .values(round=round_ + 1, deadline=0.0, touched_at=now, payload=orjson.dumps({"events": {}}))
        )

    def end_joins(self, now: float) -> list[tuple[ResourceId, Mapping[str, Any]]]:
        """End the sets whose time is over, as their group says; returns them."""
        j = tables.joining
        query = select(j).where(j.c.deadline > 0, j.c.deadline <= now).limit(500)
        ended = []
        with self._write() as connection:
            for row in connection.execute(query if self.dialect == "sqlite" else query.with_for_update(skip_locked=True)).all():
                payload, group = orjson.loads(row.payload), ResourceId.from_path(row.connection_group)
                if payload["join"]["emit"]:
                    self._emit(connection, group, row.key, row.round, payload, now)
                else:
                    self._next_round(connection, group, row.key, row.round, now)
                ended.append((group, payload))
        return ended

    def next_join_end(self) -> float:
        """Return when the next incomplete set ends (epoch seconds); 0 if none does."""
        j = tables.joining
        with self._read() as connection:
            return float(connection.execute(select(func.min(j.c.deadline)).where(j.c.deadline > 0)).scalar() or 0.0)


def _joined(origins: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the origin of a set of events: the first that names a commit, and every stage that led to any of them.

    Without a commit it is the first that names a ref to look up, else the first.
    """
    known = [one for one in origins if one]
    found = dict(next((one for key in ("sha", "lookup") for one in known if one.get(key)), known[0] if known else {}))
    through = dict.fromkeys(stage for one in known for stage in one.get("through", ()))
    return {**found, "through": [*through]} if through else found


def _unless(routing: Routing, first: str) -> Routing:
    """Return ``routing``, or that it says what ``first`` said when that is another event."""
    if first == routing.event_id:
        return routing
    return Routing(routing.event_id, EventState.REJECTED, "duplicate", f"{first} said the same")


def _told(join: Join) -> dict[str, Any]:
    return {"needed": list(join.needed), "emit": join.emit}


__all__ = ["Join", "Routing", "RoutingStore"]
