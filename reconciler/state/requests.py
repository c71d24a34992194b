"""Requested reconciles: one row for each integration, with its due time and numbers that tell what the last reconcile covered.

A request only says that an integration must be reconciled; requests for the same integration are combined in its row. Each request raises
``number``. A reconcile covers the number that it read when it was claimed (`reconciler.state.claims`), so a request that arrives
while it runs, in any process, leads to one more.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import and_, case, delete, or_, select, update

from reconciler.model.resources import ResourceId
from reconciler.state.database import Database, insert_into, locked
from reconciler.state.tables import lease, reconcile_request
from reconciler.state.values import Fence

q = reconcile_request


class RequestStore(Database):
    """Requested reconciles."""

    def request_reconciles(
        self, integrations: Sequence[ResourceId], *, token: str = "", force: bool = False, explicit: bool = False
    ) -> None:
        """Make ``integrations`` due now. ``token``: a second request with the token of the last one has no effect.

        Processes that see the same commit use the same token, so that they request one reconcile.
        """
        now = self.now()
        rows = [
            {
                "integration": integration.path,
                "due_at": now,
                "token": token,
                "number": 1,
                "done": 0,
                "forced": int(force),
                "explicit": int(explicit),
                "by": "",
            }
            for integration in sorted(integrations)  # one order in all processes: they do not lock each other out
        ]
        if not rows:
            return
        with self._write() as connection:
            statement = insert_into(connection, q)
            new = statement.excluded
            changes = {
                "due_at": case((q.c.due_at < new.due_at, q.c.due_at), else_=new.due_at),
                "token": case((new.token == "", q.c.token), else_=new.token),
                "number": q.c.number + 1,
                "forced": case((new.forced > 0, q.c.number + 1), else_=q.c.forced),
                "explicit": case((new.explicit > 0, q.c.number + 1), else_=q.c.explicit),
            }
            fresh = or_(new.token == "", q.c.token != new.token)
            connection.execute(statement.on_conflict_do_update(index_elements=["integration"], set_=changes, where=fresh), rows)

    def finish_reconcile(self, integration: ResourceId, due_in_s: float, *, by: str, number: int, fence: Fence) -> bool:
        """Store that the reconcile of request ``number`` has ended and when the next one is due, unless there was a newer request.

        Returns False if another process has taken over: then nothing is stored.
        """
        due_at = self.now() + due_in_s
        with self._write() as connection:
            # The lease first: a claim locks the request first, but never waits for a lease.
            current = connection.execute(locked(connection, select(lease.c.number).where(lease.c.name == fence.name))).scalar()
            if current != fence.number:
                return False
            next_due = case((q.c.number == number, due_at), else_=q.c.due_at)
            connection.execute(update(q).where(q.c.integration == integration.path).values(done=number, by=by, due_at=next_due))
        return True

    def note_reconcile(self, integration: ResourceId, due_in_s: float, *, by: str) -> None:
        """Store that a command reconciled the integration. It can only bring the due time forward."""
        due_at = self.now() + due_in_s
        with self._write() as connection:
            sooner = case((q.c.due_at < due_at, q.c.due_at), else_=due_at)
            connection.execute(update(q).where(q.c.integration == integration.path).values(by=by, due_at=sooner))

    def drop_request(self, integration: ResourceId, number: int) -> None:
        """Delete the row of an integration for which nothing is left to do, unless there was a newer request than ``number``."""
        with self._write() as connection:
            connection.execute(delete(q).where(and_(q.c.integration == integration.path, q.c.number == number)))

    def requested(self, integration: ResourceId) -> tuple[int, int]:
        """Return the numbers of the newest request and of the newest one that a reconcile covered; zeros without a row."""
        with self._read() as connection:
            row = connection.execute(select(q.c.number, q.c.done).where(q.c.integration == integration.path)).one_or_none()
        return (int(row.number), int(row.done)) if row is not None else (0, 0)

    def reconciled_by(self) -> dict[ResourceId, str]:
        """Return which process reconciled each integration last. Integrations that were never reconciled are left out."""
        with self._read() as connection:
            rows = connection.execute(select(q.c.integration, q.c.by).where(q.c.by != "")).all()
        return {ResourceId.from_path(path): str(by) for path, by in rows}
