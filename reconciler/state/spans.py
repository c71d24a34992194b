"""Ended spans that wait for their export. They are stored in the transaction that ends what they describe, and deleted once exported.

A row has all spans of one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import delete, func, select

from reconciler.model.codec import decode, encode
from reconciler.model.errors import StateError
from reconciler.model.traces import SpanRecord
from reconciler.state.database import Database, chunks, first_within
from reconciler.state.span_tables import trace_span

t = trace_span


@dataclass(frozen=True, slots=True)
class WaitingSpans:
    """Spans to export. ``damaged``: the number of those whose row cannot be read."""

    ids: tuple[int, ...] = ()
    spans: tuple[SpanRecord, ...] = ()
    damaged: int = 0


class SpanStore(Database):
    """Spans that wait for their export."""

    def waiting_spans(self, limit: int) -> WaitingSpans:
        """Return the oldest spans: those of one row, and of more rows up to ``limit`` spans."""
        with self._read() as connection:
            sizes = connection.execute(select(t.c.id, t.c.spans).order_by(t.c.id).limit(limit)).all()
            ids = first_within(limit, ((number, spans) for number, spans in sizes))
            rows = connection.execute(select(t.c.payload, t.c.spans).where(t.c.id.in_(ids)).order_by(t.c.id)).all()
        found: list[SpanRecord] = []
        damaged = 0
        for payload, spans in rows:
            try:
                found += decode(list[SpanRecord], payload)
            except StateError:  # a row of a later version, or a damaged one: a trace is not worth a stop
                damaged += spans
        return WaitingSpans(tuple(ids), tuple(found), damaged)

    def drop_spans(self, ids: Sequence[int]) -> None:
        """Delete rows whose spans are exported, or given up."""
        with self._write() as connection:
            for part in chunks(list(ids)):
                connection.execute(delete(t).where(t.c.id.in_(part)))

    def count_spans(self) -> int:
        """Return the number of spans that wait."""
        with self._read() as connection:
            return int(connection.execute(select(func.coalesce(func.sum(t.c.spans), 0))).scalar_one())

    def trim_spans(self, excess: int) -> int:
        """Delete the oldest rows until at least ``excess`` spans are gone; returns the number of spans."""
        gone = 0
        with self._write() as connection:
            while gone < excess:
                rows = connection.execute(select(t.c.id, t.c.spans).order_by(t.c.id).limit(500)).all()
                if not rows:
                    break
                ids: list[int] = []
                for number, spans in rows:
                    if gone >= excess:
                        break
                    ids.append(number)
                    gone += spans
                connection.execute(delete(t).where(t.c.id.in_(ids)))
        return gone


def insert_spans(connection: SqlConnection, spans: Sequence[SpanRecord]) -> None:
    """Store ended spans in the transaction of ``connection``. Spans that have no stored form are left out: a trace must not end the commit."""
    if not spans:
        return
    try:
        payload = encode(list(spans))
    except (TypeError, UnicodeEncodeError):
        return
    connection.execute(t.insert().values(spans=len(spans), payload=payload))


__all__ = ["SpanStore", "WaitingSpans", "insert_spans"]
