"""A cheap fingerprint of what happened: it changes whenever an event, an item, an execution or the audit log does."""

from __future__ import annotations

from sqlalchemy import func, select

from reconciler.model.events import EventState
from reconciler.model.executions import ItemState
from reconciler.state import tables
from reconciler.state.database import Database
from reconciler.state.executions import OPEN

_OPEN_EVENTS = (EventState.PENDING.value,)


class ActivityStore(Database):
    """Reads only ends of indexes, and rows that are in progress."""

    def activity(self) -> tuple[object, ...]:
        """Return the fingerprint."""
        event, item, execution, audit = tables.event.c, tables.item.c, tables.execution.c, tables.audit.c
        queries = (
            select(func.max(event.id)),
            select(func.count()).where(event.state.in_(_OPEN_EVENTS)),
            select(func.count()).where(item.state == ItemState.QUEUED.value),
            select(func.count(), func.sum(execution.version)).where(execution.state.in_(OPEN)),
            select(func.max(audit.seq)),
        )
        with self._read() as connection:
            return tuple(value for query in queries for value in connection.execute(query).one())
