"""The effects of events: items, parts of connection groups, rejections. They are committed with the state of the event."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import bindparam, select, update

from reconciler.model.codec import decode
from reconciler.model.events import EventState, RejectedBy
from reconciler.model.executions import Item
from reconciler.model.traces import SpanRecord
from reconciler.state import tables
from reconciler.state.attempts import end_attempts
from reconciler.state.database import Database, chunks, locked, upsert
from reconciler.state.inbox import first_of_equals
from reconciler.state.joins import Join, join_event
from reconciler.state.leases import lock_name
from reconciler.state.queue import enqueue
from reconciler.state.reports import PendingReport
from reconciler.state.spans import insert_spans

_NOTHING = ("", "")
_HAD_EFFECTS = (EventState.PROCESSED, EventState.FAILED, EventState.QUARANTINED)
"""States of events that had, or may have had, an effect."""


@dataclass(frozen=True, slots=True)
class Routing:
    """All effects of one event, committed with its state."""

    event_id: str
    state: EventState = EventState.PROCESSED
    reason: str = ""
    message: str = ""
    items: tuple[Item, ...] = ()
    pins: Mapping[str, bytes] = field(default_factory=dict)
    reports: tuple[PendingReport, ...] = ()
    unreported: tuple[tuple[str, str, str], ...] = ()
    """(item, kind, reason) of declared reports without a target: for the log."""
    joins: tuple[Join, ...] = ()
    rejections: tuple[RejectedBy, ...] = ()


SpansOf = Callable[[Sequence[Routing], float], Sequence[SpanRecord]]
"""(routings that are committed, time of the database) → the spans that end with them. Pure."""


def no_spans(_routings: Sequence[Routing], _now: float) -> Sequence[SpanRecord]:
    """Return nothing: there is no tracing."""
    return ()


class RoutingStore(Database):
    """The effects of events."""

    def stages_behind(self, runs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, ...]]:
        """Return (integration, run id) → the paths of the stages that led to the run, ending with the one that started it."""
        by_integration: dict[str, set[str]] = {}
        for integration, external_id in runs:
            by_integration.setdefault(integration, set()).add(external_id)
        x, i = tables.execution, tables.item
        stages: dict[tuple[str, str], tuple[str, ...]] = {}
        with self._read() as connection:
            for integration, ids in by_integration.items():
                for part in chunks(sorted(ids)):  # not pairs in one statement: SQLite scans all executions for those
                    query = (
                        select(x.c.external_id, i.c.payload)
                        .join(i, i.c.id == x.c.item_id)
                        .where(x.c.integration == integration, x.c.external_id.in_(part))
                    )
                    for external_id, payload in connection.execute(query):
                        item = decode(Item, payload)
                        stages[integration, external_id] = (*item.origin.get("through", ()), item.stage.path)
        return stages

    def settle_events(self, routings: Sequence[Routing], spans_of: SpansOf = no_spans) -> list[Routing]:
        """Commit the effects of a batch of events, each exactly once: an event that is not pending any more is skipped.

        Returns the routings that were committed. ``spans_of`` is called with them, and its spans are part of the commit.
        """
        now = self.now()
        with self._write() as connection:
            ended = _end_events(connection, _reject_repeated(connection, routings))
            counted = _without_repeated(connection, ended)
            end_attempts(connection, [routing.event_id for routing in routings])
            enqueue(
                connection,
                [item for routing in counted for item in routing.items],
                {digest: pin for routing in counted for digest, pin in routing.pins.items()},
                [report for routing in counted for report in routing.reports],
                now,
            )
            for routing in counted:
                for join in routing.joins:
                    join_event(connection, routing.event_id, join, now)
            rows = [
                {
                    "event_id": rejection.event_id,
                    "target": rejection.target.path,
                    "reason": rejection.reason,
                    "message": rejection.message,
                    "at": rejection.at,
                }
                for routing in counted
                for rejection in routing.rejections
            ]
            upsert(connection, tables.rejection, rows)
            insert_spans(connection, spans_of(counted, now))
        return counted


def _unless(routing: Routing, first: str) -> Routing:
    """Return ``routing``, or a rejection as a duplicate of ``first`` when that is another event."""
    if first == routing.event_id:
        return routing
    return Routing(routing.event_id, EventState.REJECTED, "duplicate", f"{first} is the same event")


def _without_repeated(connection: SqlConnection, routings: Sequence[Routing]) -> list[Routing]:
    """Return ``routings`` without items that exist: a replayed event has no effect twice."""
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


def _reject_repeated(connection: SqlConnection, routings: Sequence[Routing]) -> list[Routing]:
    """Return ``routings``, with a rejection for each event whose identity another event of the source has, and which had effects.

    `same_before` cannot see an event that another process is about to store under an older id, nor one with a newer id because a clock was
    set back. This check can: one process at a time commits effects.
    """
    lock_name(connection, "inbox")
    e = tables.event
    identities: dict[str, tuple[str, str]] = {}
    for part in chunks([routing.event_id for routing in routings if routing.state in _HAD_EFFECTS]):
        query = select(e.c.id, e.c.source, e.c.identity).where(e.c.id.in_(part), e.c.identity != "")
        identities |= {str(row.id): (row.source, row.identity) for row in connection.execute(query)}
    had = first_of_equals(connection, identities.values(), _HAD_EFFECTS)
    return [_unless(routing, had.get(identities.get(routing.event_id, _NOTHING), routing.event_id)) for routing in routings]


def _end_events(connection: SqlConnection, routings: Sequence[Routing]) -> list[Routing]:
    """Set the final state of the events; returns the routings of those that were pending."""
    e = tables.event
    pending: dict[str, bytes] = {}
    for part in chunks([routing.event_id for routing in routings]):
        query = select(e.c.id, e.c.payload).where(e.c.id.in_(part), e.c.state == EventState.PENDING.value).order_by(e.c.id)
        pending |= dict(connection.execute(locked(connection, query)).all())
    counted: list[Routing] = []
    changes: list[dict[str, object]] = []
    for routing in routings:
        payload = pending.pop(routing.event_id, None)
        if payload is not None:
            outcome = {"state": routing.state.value, "reason": routing.reason, "message": routing.message}
            changed = orjson.dumps({**orjson.loads(payload), **outcome})
            changes.append({"of": routing.event_id, "to": routing.state.value, "with": changed})
            counted.append(routing)
    if changes:
        statement = update(e).where(e.c.id == bindparam("of")).values(state=bindparam("to"), payload=bindparam("with"))
        connection.execute(statement, changes)
    return counted


__all__ = ["Join", "Routing", "RoutingStore"]
