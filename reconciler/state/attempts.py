"""Attempts to process events: each is counted before it begins, so that an event that crashes the process is identified.

A row exists while an attempt runs, and after one that did not end. A processed event has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import delete, select

from reconciler.model.codec import decode
from reconciler.model.events import Event, EventState
from reconciler.state import tables
from reconciler.state.database import Database, chunks, upsert

a, e = tables.attempt, tables.event
PEER_S = 60.0
"""An attempt of another process that takes longer counts as one that did not end."""


class AttemptStore(Database):
    """Attempts to process events."""

    def begin_attempts(self, counts: Mapping[str, int], holder: str) -> None:
        """Store the number of attempts of each event, before they begin."""
        now = self.now()
        with self._write() as connection:
            rows = [{"event_id": event_id, "count": count, "holder": holder, "at": now} for event_id, count in counts.items()]
            upsert(connection, a, rows)

    def forget_attempts(self, event_ids: Sequence[str]) -> None:
        """Delete attempts that ended for a reason that is not the event's."""
        with self._write() as connection:
            end_attempts(connection, event_ids)

    def suspect(self, holder: str) -> tuple[Event, bytes, int] | None:
        """Return a pending event whose attempt did not end, with its body and its number of attempts: fewest attempts first, then oldest.

        On SQLite there is one process, so every attempt in the table has ended. On PostgreSQL a peer may be processing the event.
        """
        query = (
            select(e.c.payload, e.c.body, a.c.count)
            .join(e, e.c.id == a.c.event_id)
            .where(e.c.state == EventState.PENDING.value)
            .order_by(a.c.count, a.c.event_id)
            .limit(1)
        )
        if self.dialect != "sqlite":
            query = query.where((a.c.holder == holder) | (a.c.at < self.now() - PEER_S))
        with self._read() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        payload, body, count = row
        return decode(Event, payload), body, count


def end_attempts(connection: SqlConnection, event_ids: Sequence[str]) -> None:
    for part in chunks(list(event_ids)):
        connection.execute(delete(a).where(a.c.event_id.in_(part)))
