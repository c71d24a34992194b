"""Decisions of people: suspensions and approvals. Each is committed with its audit row."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select

from reconciler.model.records import AuditEntry
from reconciler.model.resources import ResourceId, Suspension
from reconciler.state import tables
from reconciler.state.audit import append_entries
from reconciler.state.database import Database, upsert


class ApprovalStore(Database):
    """Suspensions and approvals."""

    def suspensions(self) -> dict[ResourceId, Suspension]:
        """Return the suspensions that a command made."""
        with self._read() as connection:
            rows = connection.execute(
                select(tables.suspension.c.path, tables.suspension.c.reason, tables.suspension.c.until)
            ).all()
        return {ResourceId.from_path(path): Suspension(reason, until) for path, reason, until in rows}

    def suspend(self, identity: ResourceId, value: Suspension, *, audit: AuditEntry) -> None:
        """Store a suspension, with its audit row."""
        with self._write() as connection:
            upsert(connection, tables.suspension, [{"path": identity.path, "reason": value.reason, "until": value.until}])
            append_entries(connection, self.signing_key, [audit])

    def unsuspend(self, identity: ResourceId, *, audit: AuditEntry) -> bool:
        """Delete a suspension with an audit row. Returns False if there was none."""
        with self._write() as connection:
            gone = connection.execute(delete(tables.suspension).where(tables.suspension.c.path == identity.path)).rowcount
            if gone:
                append_entries(connection, self.signing_key, [audit])
        return bool(gone)

    def approvals(self) -> dict[str, float]:
        """Return the approved digests with the time of approval (epoch seconds)."""
        with self._read() as connection:
            return dict(connection.execute(select(tables.approval.c.sha256, tables.approval.c.at)).all())

    def approve(self, digest: str, *, by: str, at: float, audit: AuditEntry | None = None) -> None:
        """Store an approval, with its audit row."""
        self.approve_all([digest], by=by, at=at, audit=audit)

    def approve_all(self, digests: Sequence[str], *, by: str, at: float, audit: AuditEntry | None = None) -> None:
        """Store approvals of several digests."""
        with self._write() as connection:
            upsert(connection, tables.approval, [{"sha256": digest, "by": by, "at": at} for digest in digests])
            if audit is not None:
                append_entries(connection, self.signing_key, [audit])
