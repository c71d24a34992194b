"""A cheap fingerprint of what happened: it changes with events, items, executions, messages, reviews and the audit log."""

from __future__ import annotations

from sqlalchemy import func, select

from reconciler.model.events import EventState
from reconciler.model.executions import ItemState
from reconciler.state import incident_tables, tables
from reconciler.state.database import Database
from reconciler.state.executions import OPEN

_OPEN_EVENTS = (EventState.PENDING.value,)


class ActivityStore(Database):
    """Reads only ends of indexes, and rows that are in progress."""

    def activity(self) -> tuple[object, ...]:
        """Return the fingerprint."""
        event, item, execution, audit = tables.event.c, tables.item.c, tables.execution.c, tables.audit.c
        notice, review = incident_tables.notice.c, tables.review.c
        queries = (
            select(func.max(event.id)),
            select(func.count()).where(event.state.in_(_OPEN_EVENTS)),
            select(func.count()).where(item.state == ItemState.QUEUED.value),
            select(func.count(), func.sum(execution.version)).where(execution.state.in_(OPEN)),
            select(func.max(audit.seq)),
            select(func.max(notice.seq)),
            select(func.count(), func.sum(notice.due_at)).where(notice.done_at == 0),
            select(func.count(), func.sum(review.version)).where(review.is_open.is_(True)),
        )
        with self._read() as connection:
            return tuple(value for query in queries for value in connection.execute(query).one())
