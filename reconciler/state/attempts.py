"""Attempts to hand events on: each is counted before it is made, so that an event that takes the process down is known by it.

A row is there while an attempt is under way, and after one that did not end. What was handed on has none.
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
"""How long another process may take for an attempt before it counts as one that did not end."""


class AttemptStore(Database):
    """Attempts to hand events on."""

    def begin_attempts(self, counts: Mapping[str, int], holder: str) -> None:
        """Store, before they are made, that the attempts on these events are now so many."""
        now = self.now()
        with self._write() as connection:
            rows = [{"event_id": one, "count": count, "holder": holder, "at": now} for one, count in counts.items()]
            upsert(connection, a, rows)

    def forget_attempts(self, event_ids: Sequence[str]) -> None:
        """Take back attempts that ended for a reason which is not the events'."""
        with self._write() as connection:
            end_attempts(connection, event_ids)

    def suspect(self, holder: str) -> tuple[Event, bytes, int] | None:
        """Return one pending event whose attempt did not end, with its body and the number of its attempts: least tried, then oldest.

        On SQLite there is one process at a time, so every such event is. Elsewhere a peer may be at it.
        """
        query = (
            select(e.c.payload, e.c.body, a.c.count.label("tries"))
            .join(e, e.c.id == a.c.event_id)
            .where(e.c.state == EventState.PENDING.value)
            .order_by(a.c.count, a.c.event_id)
            .limit(1)
        )
        if self.dialect != "sqlite":
            query = query.where((a.c.holder == holder) | (a.c.at < self.now() - PEER_S))
        with self._read() as connection:
            row = connection.execute(query).first()
        return (decode(Event, row.payload), bytes(row.body), int(row.tries)) if row is not None else None


def end_attempts(connection: SqlConnection, event_ids: Sequence[str]) -> None:
    for part in chunks(list(event_ids)):
        connection.execute(delete(a).where(a.c.event_id.in_(part)))
