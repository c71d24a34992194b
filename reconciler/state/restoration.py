"""What a state that was restored from a backup must not do again: work that was open at the time of the backup may have ended since."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import delete, select, update

from reconciler.model.codec import decode, encode
from reconciler.model.events import Event, EventState
from reconciler.model.executions import Execution, ExecutionState, Item, ItemState, as_lost
from reconciler.model.records import AuditEntry
from reconciler.state.audit import append_entries
from reconciler.state.database import Database, upsert
from reconciler.state.executions import save_version
from reconciler.state.queue import set_item
from reconciler.state.tables import cursor, event, executor, item, lease, meta, report
from reconciler.state.tables import execution as execution_table

RESTORED_AT = "restored.at"
REASON = "restored"
_MESSAGE = "the state was restored from a backup, and it is not known whether this ran since"


@dataclass(frozen=True, slots=True)
class ClosedWork:
    """What was open in the backup, oldest first."""

    items: tuple[Item, ...] = ()
    executions: tuple[Execution, ...] = ()
    events: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.items or self.executions or self.events)


class RestorationStore(Database):
    """The end of a restore, in one commit."""

    def finish_restore(self, entry: AuditEntry, *, close: bool) -> ClosedWork:
        """Append ``entry`` to the audit log, and free what processes held. With ``close``, end open work and skip missed schedules.

        Ended are queued items, executions that had not finished, events that were not routed, and statuses that were not written. None
        of it leads to anything, and a person can repeat it.
        """
        with self._write() as connection:
            connection.execute(update(lease).values(until=0.0))
            connection.execute(delete(executor))
            closed = _close(connection, entry.at) if close else ClosedWork()
            detail = {
                **entry.detail,
                "closedItems": len(closed.items),
                "closedExecutions": len(closed.executions),
                "closedEvents": len(closed.events),
            }
            append_entries(connection, self.signing_key, [dataclasses.replace(entry, detail=detail)])
            upsert(connection, meta, [{"key": RESTORED_AT, "value": f"{entry.at:.3f}"}])
        return closed

    def restored_at(self) -> float:
        """Return when the state was restored from a backup (seconds since the epoch); 0 if it never was."""
        with self._read() as connection:
            return float(connection.execute(select(meta.c.value).where(meta.c.key == RESTORED_AT)).scalar() or 0.0)


def _close(connection: SqlConnection, now: float) -> ClosedWork:
    open_items = select(item.c.payload).where(item.c.state.in_((ItemState.QUEUED.value, ItemState.RUNNING.value)))
    items = [decode(Item, payload) for payload in connection.execute(open_items.order_by(item.c.created_at)).scalars()]
    for each in items:
        ended_as = ItemState.DISCARDED if each.state is ItemState.QUEUED else ItemState.DONE
        set_item(connection, each, ended_as, REASON, _MESSAGE)
    unfinished = select(execution_table.c.payload).where(
        execution_table.c.state.in_((ExecutionState.STARTING.value, ExecutionState.RUNNING.value))
    )
    executions = [
        decode(Execution, payload) for payload in connection.execute(unfinished.order_by(execution_table.c.created_at)).scalars()
    ]
    for execution in executions:
        save_version(connection, as_lost(execution, _MESSAGE, now))
    pending = select(event.c.id, event.c.payload).where(event.c.state == EventState.PENDING.value).order_by(event.c.id)
    events = connection.execute(pending).all()
    for identity, payload in events:
        rejected = dataclasses.replace(decode(Event, payload), state=EventState.REJECTED, reason=REASON, message=_MESSAGE)
        values = {"state": EventState.REJECTED.value, "payload": encode(rejected)}
        connection.execute(update(event).where(event.c.id == identity).values(values))
    connection.execute(update(report).where(report.c.done_at == 0).values(done_at=now))
    connection.execute(delete(cursor).where(cursor.c.name.like("schedule/%")))
    return ClosedWork(tuple(items), tuple(executions), tuple(identity for identity, _ in events))
