"""Claims of due work: requested reconciles and steps of executions. One transaction selects the work and acquires its leases.

A claim is a lease (`reconciler.state.leases`): while it is valid no other process claims the work, its number fences every commit, and a process
that takes over from a dead one only has to release its leases. Work stays due until its result is stored, so nothing is lost
with a process. On PostgreSQL processes skip the rows that another one is claiming, and notify each other of work that they leave.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, String, exists, func, literal, select, text, union_all, update
from sqlalchemy import Connection as SqlConnection

from reconciler.model.executions import ExecutionState
from reconciler.state.database import Database, insert_missing, locked, upsert
from reconciler.state.executions import OPEN
from reconciler.state.tables import execution, lease, reconcile_request
from reconciler.state.values import Fence

CHANNEL = "reconciler_work"
"""The channel of PostgreSQL on which processes notify each other."""
TTL_S = 60.0
"""Duration of a claim. The process that holds it renews it while it works."""


class WorkKind(enum.Enum):
    """The prefix of the lease's name."""

    RECONCILE = "slice"
    STEP = "execution"


@dataclass(frozen=True, slots=True)
class Claim:
    """Work that this process holds the lease of."""

    kind: WorkKind
    key: str
    """Path of the integration, or id of the execution."""
    fence: Fence
    number: int = 0
    """Of a reconcile: the newest request that it covers. Of a step: the version of the execution."""
    force: bool = False
    explicit: bool = False


@dataclass(frozen=True, slots=True)
class Claims:
    """The result of one look for work."""

    claims: tuple[Claim, ...]
    next_due_s: float | None
    """Seconds until more work becomes due; None if none is planned."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much more a process can start, and the lease names that it must not claim now, because it works on them or they just failed."""

    reconciles: int
    steps: int
    skip: Collection[str] = ()


class ClaimStore(Database):
    """Claims of due work."""

    def claim_work(self, holder: str, capacity: Capacity, *, release: Sequence[Fence] = (), notify: bool = False) -> Claims:
        """Release finished claims, and claim due work up to ``capacity``, the most overdue first.

        If due work is left, other processes are notified: always after a claim, otherwise only with ``notify``.
        """
        now = self.now()
        with self._write() as connection:
            _release(connection, release)
            reconciles = _due_reconciles(connection, now, capacity)
            steps = _due_steps(connection, now, capacity)
            left = len(reconciles) > capacity.reconciles or len(steps) > capacity.steps
            claims = _acquire(connection, [*reconciles[: capacity.reconciles], *steps[: capacity.steps]], holder, now)
            if left and (claims or notify):
                _notify(connection, holder)
            soonest = _soonest(connection, now)
        return Claims(claims, max(0.0, soonest - now) if soonest is not None else None)

    def notify(self, payload: str) -> None:
        """Notify every listening process, this one included. Without effect on SQLite."""
        with self._write() as connection:
            _notify(connection, payload)


def _leased(kind: WorkKind, key: ColumnElement[str], now: float) -> ColumnElement[bool]:
    name = literal(f"{kind.value}/", String).concat(key)
    return exists().where(lease.c.name == name, lease.c.until > now)


def _skipped(kind: WorkKind, capacity: Capacity) -> list[str]:
    prefix = f"{kind.value}/"
    return [name.removeprefix(prefix) for name in capacity.skip if name.startswith(prefix)]


def _due_reconciles(connection: SqlConnection, now: float, capacity: Capacity) -> list[tuple[WorkKind, str, Any]]:
    """Return due requests, one more than the capacity if there are more."""
    q, kind = reconcile_request, WorkKind.RECONCILE
    query = (
        select(q)
        .where(q.c.due_at <= now, ~_leased(kind, q.c.integration, now), q.c.integration.not_in(_skipped(kind, capacity)))
        .order_by(q.c.due_at)
        .limit(capacity.reconciles + 1)
    )
    rows = connection.execute(locked(connection, query, skip_locked=True)).all()
    return [(kind, str(row.integration), row) for row in rows]


def _due_steps(connection: SqlConnection, now: float, capacity: Capacity) -> list[tuple[WorkKind, str, Any]]:
    """Return due executions, one more than the capacity if there are more. A finished one is due only when `hint_again` says so."""
    x, kind = execution, WorkKind.STEP
    ended = (x.c.state == ExecutionState.FINISHED.value) & (x.c.next_at > 0) & (x.c.next_at <= now)
    query = (
        select(x.c.id, x.c.version)
        .where((x.c.state.in_(OPEN) & (x.c.next_at <= now)) | ended)
        .where(~_leased(kind, x.c.id, now), x.c.id.not_in(_skipped(kind, capacity)))
        .order_by(x.c.next_at)
        .limit(capacity.steps + 1)
    )
    rows = connection.execute(locked(connection, query, skip_locked=True)).all()
    return [(kind, str(row.id), row) for row in rows]


def _acquire(connection: SqlConnection, work: Sequence[tuple[WorkKind, str, Any]], holder: str, now: float) -> tuple[Claim, ...]:
    """Acquire the lease of each work. Work whose lease another transaction is changing is left to it, so this never waits."""
    by_name = {f"{kind.value}/{key}": (kind, key, row) for kind, key, row in work}
    names = sorted(by_name)
    if not names:
        return ()
    insert_missing(connection, lease, [{"name": name, "holder": "", "number": 0, "until": 0.0} for name in names])
    query = select(lease.c.name, lease.c.number).where(lease.c.name.in_(names), lease.c.until <= now).order_by(lease.c.name)
    free = connection.execute(locked(connection, query, skip_locked=True)).all()
    fences = {str(name): Fence(str(name), int(number) + 1) for name, number in free}
    rows = [{"name": name, "holder": holder, "number": fence.number, "until": now + TTL_S} for name, fence in fences.items()]
    upsert(connection, lease, rows)
    return tuple(_claim(*by_name[name], fences[name]) for name in by_name if name in fences)


def _claim(kind: WorkKind, key: str, row: Any, fence: Fence) -> Claim:
    if kind is WorkKind.STEP:
        return Claim(kind, key, fence, int(row.version))
    return Claim(kind, key, fence, int(row.number), force=row.forced > row.done, explicit=row.explicit > row.done)


def _release(connection: SqlConnection, fences: Sequence[Fence]) -> None:
    for fence in sorted(fences, key=lambda fence: fence.name):
        connection.execute(update(lease).where(lease.c.name == fence.name, lease.c.number == fence.number).values(until=0.0))


def _soonest(connection: SqlConnection, now: float) -> float | None:
    q, x = reconcile_request, execution
    queries = [select(func.min(q.c.due_at).label("at")).where(q.c.due_at > now)]
    for state in ExecutionState:  # one query each: an index has the times in order only within one state
        queries.append(select(func.min(x.c.next_at).label("at")).where(x.c.state == state.value, x.c.next_at > now))
    times = connection.execute(union_all(*queries)).scalars()
    return min((float(at) for at in times if at is not None), default=None)


def _notify(connection: SqlConnection, payload: str) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_notify(:channel, :payload)"), {"channel": CHANNEL, "payload": payload})
