"""Incidents and their messages, as people look at them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Row, select

from reconciler.model.codec import decode
from reconciler.model.incidents import Incident, Notice, SinkUse
from reconciler.state import incident_tables
from reconciler.state.database import Database

MOST_OPEN = 2_000
"""Open incidents that are read to find the newest."""
NEVER = 1e18
i, n, t = incident_tables.incident, incident_tables.notice, incident_tables.sink_target


@dataclass(frozen=True, slots=True)
class NoticeRow:
    """A message. Times are seconds since the epoch; ``done_at`` is 0 while it waits, ``refresh_at`` is 0 if it is not sent again."""

    notice: Notice
    due_at: float
    done_at: float
    refresh_at: float


class NoticeLogStore(Database):
    """Reads only."""

    def open_incidents(self, limit: int) -> list[Incident]:
        """Return incidents of which something may still be reported, the newest change first."""
        query = select(i.c.payload).where(i.c.ended_at == 0).limit(MOST_OPEN)
        with self._read() as connection:
            incidents = [decode(Incident, payload) for payload in connection.scalars(query)]
        incidents.sort(key=lambda incident: (not incident.open, -incident.severity.rank, -incident.changed_at))
        return incidents[:limit]

    def waiting_messages(self, limit: int) -> list[NoticeRow]:
        """Return the messages that wait, in the order in which they are sent."""
        query = select(n).where(n.c.done_at == 0).order_by(n.c.due_at, n.c.seq).limit(limit)
        with self._read() as connection:
            return [_row(row, {}) for row in connection.execute(query)]

    def done_messages(self, limit: int, *, before: float = 0.0) -> list[NoticeRow]:
        """Return messages that were sent, skipped or abandoned, newest first; ``before``: that were done before this time."""
        query = select(n).where(n.c.done_at > 0, n.c.done_at < (before or NEVER))
        with self._read() as connection:
            rows = connection.execute(query.order_by(n.c.done_at.desc(), n.c.due_at.desc()).limit(limit)).all()
            known = select(t.c.incident, t.c.payload).where(t.c.incident.in_({row.incident for row in rows}))
            uses = {incident: decode(SinkUse, payload) for incident, payload in connection.execute(known)}
        return [_row(row, uses) for row in rows]


def _row(row: Row[Any], uses: Mapping[str, SinkUse]) -> NoticeRow:
    notice = replace(decode(Notice, row.payload), seq=row.seq, sent_with=uses.get(row.incident))
    return NoticeRow(notice, row.due_at, row.done_at, row.refresh_at)


__all__ = ["NoticeLogStore", "NoticeRow"]
