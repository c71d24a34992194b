"""Statuses to write back: in order for each target, each until it is written or given up."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import select, update

from reconciler.model.traces import SpanRecord
from reconciler.state import tables
from reconciler.state.database import Database, insert_new
from reconciler.state.spans import insert_spans

r = tables.report
_COLUMNS = (r.c.item_id, r.c.kind, r.c.state, r.c.seq, r.c.due_at, r.c.payload)


@dataclass(frozen=True, slots=True)
class PendingReport:
    """A status to write back, in the order of ``seq``. ``payload``: further data of the sender."""

    item_id: str
    kind: str
    state: str
    seq: int
    due_at: float
    payload: Mapping[str, Any] = field(default_factory=dict)


class ReportStore(Database):
    """Statuses to write back."""

    def due_reports(self, now: float, limit: int) -> list[PendingReport]:
        """Return the due statuses: only the first open one of each target, so that they arrive in order."""
        e = r.alias("earlier")
        # "<= 0" means open as "== 0" does, but keeps SQLite to the rows of one item: it would scan all open rows.
        before = (e.c.item_id == r.c.item_id) & (e.c.kind == r.c.kind) & (e.c.done_at <= 0) & (e.c.seq < r.c.seq)
        query = (
            select(*_COLUMNS)
            .where(r.c.done_at == 0, r.c.due_at <= now, ~select(e.c.item_id).where(before).exists())
            .order_by(r.c.due_at, r.c.item_id, r.c.kind, r.c.seq)
            .limit(limit)
        )
        with self._read() as connection:
            return [_report(*row) for row in connection.execute(query)]

    def end_report(
        self,
        report: PendingReport,
        now: float,
        *,
        target: Mapping[str, Any] | None = None,
        error: str = "",
        spans: Sequence[SpanRecord] = (),
    ) -> None:
        """Record that a status was written, or given up with ``error``. ``target`` is stored for the later ones of the same item."""
        with self._write() as connection:
            where = (r.c.item_id == report.item_id) & (r.c.kind == report.kind)
            own = orjson.dumps({**report.payload, "error": error})
            connection.execute(update(r).where(where, r.c.state == report.state).values(done_at=now, payload=own))
            insert_spans(connection, spans)
            if target:
                for state, payload in connection.execute(select(r.c.state, r.c.payload).where(where)).all():
                    changed = orjson.dumps({**orjson.loads(payload), **target})
                    connection.execute(update(r).where(where, r.c.state == state).values(payload=changed))

    def put_off_report(self, report: PendingReport, due_at: float, payload: Mapping[str, Any]) -> None:
        """Retry a status at ``due_at``."""
        with self._write() as connection:
            connection.execute(
                update(r)
                .where(r.c.item_id == report.item_id, r.c.kind == report.kind, r.c.state == report.state)
                .values(due_at=due_at, payload=orjson.dumps(dict(payload)))
            )

    def hasten_reports(self, integrations: Collection[str], now: float) -> None:
        """Make postponed statuses of ``integrations`` (paths) due now."""
        with self._write() as connection:
            rows = connection.execute(select(*_COLUMNS).where(r.c.done_at == 0, r.c.due_at > now)).all()
            for report in (_report(*row) for row in rows):
                if report.payload.get("integration") in integrations and report.payload.get("failures"):
                    key = (r.c.item_id == report.item_id, r.c.kind == report.kind, r.c.state == report.state)
                    connection.execute(update(r).where(*key).values(due_at=now))

    def reports_of(self, item_id: str) -> list[tuple[PendingReport, float]]:
        """Return the statuses of an item, each with the time it was written (0: not yet)."""
        with self._read() as connection:
            query = select(*_COLUMNS, r.c.done_at).where(r.c.item_id == item_id).order_by(r.c.kind, r.c.seq)
            return [(_report(*row[:6]), row[6]) for row in connection.execute(query)]


def _report(item_id: str, kind: str, state: str, seq: int, due_at: float, payload: bytes) -> PendingReport:  # noqa: PLR0917  one row
    return PendingReport(item_id, kind, state, seq, due_at, orjson.loads(payload))


def insert_reports(connection: SqlConnection, reports: Iterable[PendingReport]) -> None:
    for report in reports:
        row = {
            "item_id": report.item_id,
            "kind": report.kind,
            "state": report.state,
            "seq": report.seq,
            "due_at": report.due_at,
            "done_at": 0.0,
            "payload": orjson.dumps(dict(report.payload)),
        }
        insert_new(connection, r, row)
