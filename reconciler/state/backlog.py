"""What waits in the state, and how long: the figures of the metrics, read together every few seconds and never by a scrape."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from sqlalchemy import ColumnElement, Table, func, select, text
from sqlalchemy import Connection as SqlConnection

from reconciler.model.events import EventState
from reconciler.model.executions import ExecutionState, ItemState
from reconciler.state import incident_tables, tables
from reconciler.state.database import Database

e, i, q, r, x = tables.event, tables.item, tables.reconcile_request, tables.report, tables.execution
LOOKED_AT = 500
"""Queued items, incidents and statuses that one look decodes: the oldest, or those that are due first."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many wait, and since when the oldest does (epoch seconds; 0 if none waits)."""

    count: int = 0
    since: float = 0.0

    def and_since(self, since: float) -> Waiting:
        """Return it with another one that waits since ``since``."""
        return Waiting(self.count + 1, min(self.since or since, since))


@dataclass(frozen=True, slots=True)
class Backlog:
    """The backlog at one moment. Times are those of the database's clock."""

    at: float
    events: Waiting = Waiting()
    """Pending events; ``since``: when the oldest was received."""
    reconciles: Waiting = Waiting()
    """Integrations whose reconcile is due or runs."""
    executions: Mapping[str, Waiting] = field(default_factory=dict)
    """Executions that have not ended, by `ExecutionState`."""
    items: Mapping[str, Waiting] = field(default_factory=dict)
    """Queued items, by the reason why they wait; of the `LOOKED_AT` oldest."""
    reviews: Waiting = Waiting()
    """Reviews with something to do now."""
    reports: Waiting = Waiting()
    """Statuses that were not written to the provider yet; ``since``: when the oldest was due for the first time."""
    retries: int = 0
    """Objects and integrations that failed and wait for another attempt."""
    incidents: Mapping[str, int] = field(default_factory=dict)
    """Open incidents, by topic."""
    processes: int = 1
    """Daemons with a heartbeat on this state."""
    database_bytes: int = 0
    disk_bytes: int = 0
    disk_free_bytes: int = 0
    """Size of the file system of the state folder, and what this user may still write there."""
    ahead_s: float = 0.0
    """How far the database's clock is ahead of this host's."""


class _ItemHead(msgspec.Struct, frozen=True):
    """The part of a stored item that says why it waits."""

    reason: str = ""


class _IncidentHead(msgspec.Struct, frozen=True):
    """The part of a stored incident that says what it is."""

    topic: str = ""
    closed_at: float = 0.0


class _ReportHead(msgspec.Struct, frozen=True):
    """The part of a stored status that says since when it cannot be written: each failure puts its due time off."""

    failed_at: float | None = None


_report_head = msgspec.json.Decoder(_ReportHead)
_item_head = msgspec.json.Decoder(_ItemHead)
_incident_head = msgspec.json.Decoder(_IncidentHead)


class BacklogStore(Database):
    """Reads the backlog."""

    def backlog(self, alive_s: float) -> Backlog:
        """Return what waits now. A process counts if its heartbeat is younger than ``alive_s``. Raises `StateError`, `OSError`."""
        asked = time.time()
        now = self.now()
        ahead_s = 0.0 if self.dialect == "sqlite" else now - (asked + time.time()) / 2
        disk = os.statvfs(self._state_dir)
        with self._read() as connection:
            return Backlog(
                now,
                events=_oldest_event(connection),
                reconciles=_count(connection, q, q.c.due_at, q.c.due_at <= now),
                executions={
                    state.value: _count(connection, x, x.c.created_at, x.c.state == state.value)
                    for state in (ExecutionState.STARTING, ExecutionState.RUNNING)
                },
                items=_items(connection),
                reviews=_count(connection, tables.review, tables.review.c.due_at, tables.review.c.due_at <= now),
                reports=_reports(connection, now),
                retries=connection.execute(select(func.count()).select_from(tables.retry)).scalar_one(),
                incidents=_incidents(connection),
                processes=self._processes(connection, now - alive_s),
                database_bytes=self._size(connection),
                disk_bytes=disk.f_blocks * disk.f_frsize,
                disk_free_bytes=disk.f_bavail * disk.f_frsize,
                ahead_s=ahead_s,
            )

    def _processes(self, connection: SqlConnection, since: float) -> int:
        if self.dialect == "sqlite":
            return 1
        query = select(func.count()).select_from(tables.executor).where(tables.executor.c.beat >= since)
        return connection.execute(query).scalar_one()

    def _size(self, connection: SqlConnection) -> int:
        if self.dialect != "sqlite":
            return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())
        file = str(self._engine.url.database)
        return sum(_file_size(Path(file + suffix)) for suffix in ("", "-wal"))


def _count(connection: SqlConnection, table: Table, since: ColumnElement[float], where: ColumnElement[bool]) -> Waiting:
    number, oldest = connection.execute(select(func.count(), func.min(since)).select_from(table).where(where)).one()
    return Waiting(number, oldest or 0.0)


def _oldest_event(connection: SqlConnection) -> Waiting:
    """Return the pending events. Ids sort by arrival, and the index has them in this order."""
    pending = e.c.state == EventState.PENDING.value
    first = connection.execute(select(e.c.received_at).where(pending).order_by(e.c.id).limit(1)).scalar()
    if first is None:
        return Waiting()
    return Waiting(connection.execute(select(func.count()).select_from(e).where(pending)).scalar_one(), first)


def _items(connection: SqlConnection) -> dict[str, Waiting]:
    queued = i.c.state == ItemState.QUEUED.value
    query = select(i.c.created_at, i.c.payload).where(queued).order_by(i.c.created_at, i.c.id).limit(LOOKED_AT)
    return _by_reason((_item_head.decode(payload).reason, at) for at, payload in connection.execute(query))


def _by_reason(rows: Iterable[tuple[str, float]]) -> dict[str, Waiting]:
    waiting: dict[str, Waiting] = {}
    for reason, at in rows:
        waiting[reason] = waiting.get(reason, Waiting()).and_since(at)
    return waiting


def _reports(connection: SqlConnection, now: float) -> Waiting:
    open_ = r.c.done_at == 0
    number = connection.execute(select(func.count()).select_from(r).where(open_)).scalar_one()
    query = select(r.c.due_at, r.c.payload).where(open_).order_by(r.c.due_at).limit(LOOKED_AT)
    rows = ((due_at, _report_head.decode(payload).failed_at) for due_at, payload in connection.execute(query))
    first = [due_at if failed_at is None else min(due_at, failed_at) for due_at, failed_at in rows]
    return Waiting(number, min((since for since in first if since <= now), default=0.0))


def _incidents(connection: SqlConnection) -> dict[str, int]:
    incident = incident_tables.incident
    query = select(incident.c.payload).where(incident.c.ended_at == 0).limit(LOOKED_AT)
    open_: dict[str, int] = {}
    for payload in connection.execute(query).scalars():
        head = _incident_head.decode(payload)
        if not head.closed_at:
            open_[head.topic] = open_.get(head.topic, 0) + 1
    return open_


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


__all__ = ["Backlog", "BacklogStore", "Waiting"]
