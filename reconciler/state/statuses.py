"""Everything else that is kept: specs, statuses, observations, retries, suspensions, approvals, budgets, journal."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterable, Sequence

from sqlalchemy import delete, insert, select

from reconciler.drivers.base import Connection
from reconciler.model.codec import decode, encode, gc_paused
from reconciler.model.objects import IntentState, Scope
from reconciler.model.records import AuditEntry, BudgetState, JournalEntry, Retry
from reconciler.model.resources import ResourceId, Suspension
from reconciler.model.status import ResourceStatus
from reconciler.state import tables
from reconciler.state.database import CHUNK, chunks, drop_some
from reconciler.state.objects import Objects
from reconciler.state.values import StoredObservation

_STATUSES_MARK = "statuses.mark"


class StatusStore(Objects):
    """Part of `Store`."""

    # -- last valid specs -------------------------------------------------------------------------------------------

    def resources(self) -> dict[str, bytes]:
        """Return the last valid specs, as `save_resources` was given them, by path."""
        with self._read() as connection:
            return {
                path: bytes(payload)
                for path, payload in connection.execute(select(tables.resource.c.path, tables.resource.c.payload))
            }

    def generations(self) -> dict[ResourceId, int]:
        """Return how often each spec changed, from 1."""
        with self._read() as connection:
            return {
                ResourceId.from_path(path): int(n)
                for path, n in connection.execute(select(tables.resource.c.path, tables.resource.c.generation))
            }

    def save_resources(self, rows: Iterable[tuple[str, str, bytes]]) -> None:
        """Store (path, digest, payload); a changed digest is a new generation, and only changed rows are written."""
        with self._read() as connection:
            known = {
                path: (digest, generation, payload)
                for path, digest, generation, payload in connection.execute(
                    select(
                        tables.resource.c.path, tables.resource.c.digest, tables.resource.c.generation, tables.resource.c.payload
                    )
                )
            }
        changed = []
        for path, digest, payload in rows:
            before = known.get(path)
            if before is None:
                changed.append({"path": path, "digest": digest, "generation": 1, "payload": payload})
            elif before[0] != digest or bytes(before[2]) != payload:
                changed.append(
                    {"path": path, "digest": digest, "generation": before[1] + (before[0] != digest), "payload": payload}
                )
        if changed:
            with self._write() as connection:
                self._upsert(connection, tables.resource, changed)

    def drop_resources(self, paths: Sequence[str]) -> None:
        """Forget specs that are no longer declared."""
        with self._write() as connection:
            for part in chunks(list(paths)):
                connection.execute(delete(tables.resource).where(tables.resource.c.path.in_(part)))

    # -- statuses ---------------------------------------------------------------------------------------------------

    def statuses(self) -> dict[ResourceId, ResourceStatus]:
        """Return the newest status of everything."""
        with self._read() as connection:
            rows = connection.execute(select(tables.status.c.path, tables.status.c.payload)).all()
        return {ResourceId.from_path(path): decode(ResourceStatus, payload) for path, payload in rows}

    def save_statuses(self, rows: Sequence[ResourceStatus], *, gone: Sequence[ResourceId] = ()) -> str:
        """Store statuses without the time of the next look, and drop those of ``gone``; returns the new `statuses_mark`."""
        mark = secrets.token_hex(8)
        changed = [{"path": row.id.path, "payload": encode(dataclasses.replace(row, next_reconcile_at=""))} for row in rows]
        with self._write() as connection:
            self._upsert(connection, tables.status, changed)
            for part in chunks([one.path for one in gone]):
                connection.execute(delete(tables.status).where(tables.status.c.path.in_(part)))
            self._upsert(connection, tables.meta, [{"key": _STATUSES_MARK, "value": mark}])
        return mark

    def statuses_mark(self) -> str:
        """Return a text that is another after every `save_statuses` of any process; empty before the first."""
        with self._read() as connection:
            return str(connection.execute(select(tables.meta.c.value).where(tables.meta.c.key == _STATUSES_MARK)).scalar() or "")

    # -- connections ------------------------------------------------------------------------------------------------

    def connections(self) -> dict[ResourceId, Connection]:
        """Return where each integration was last reached, kept as long as anything of it is left."""
        with self._read() as connection:
            rows = connection.execute(select(tables.connection.c.payload)).all()
        found = [decode(Connection, row[0]) for row in rows]
        return {one.integration: one for one in found}

    def save_connection(self, value: Connection) -> None:
        """Store a connection: references only."""
        with self._write() as connection:
            self._upsert(connection, tables.connection, [{"integration": value.integration.path, "payload": encode(value)}])

    def drop_connection(self, integration: ResourceId) -> None:
        """Forget a connection that nothing needs any more."""
        with self._write() as connection:
            connection.execute(delete(tables.connection).where(tables.connection.c.integration == integration.path))

    # -- observations (disposable) ----------------------------------------------------------------------------------

    def observations(self, scopes: Sequence[Scope]) -> dict[Scope, StoredObservation]:
        """Return the stored lists of ``scopes``."""
        wanted, table = set(scopes), tables.observation
        query = select(table.c.scope_type, table.c.scope_key, table.c.observed_at, table.c.payload)
        if len(wanted) <= CHUNK:  # few are asked for by key; for many, one walk over all is quicker
            query = query.where(
                table.c.scope_type.in_({scope.type for scope in wanted}), table.c.scope_key.in_({scope.key for scope in wanted})
            )
        with self._read() as connection:
            rows = [(Scope(kind, key), at, payload) for kind, key, at, payload in connection.execute(query)]
        with gc_paused():
            return {
                scope: dataclasses.replace(decode(StoredObservation, payload), observed_at=at)
                for scope, at, payload in rows
                if scope in wanted
            }

    def save_observations(self, rows: Sequence[StoredObservation]) -> None:
        """Store lists, each with what makes the next read conditional; both in one commit, since one without the other lies."""
        with self._write() as connection:
            self._upsert(
                connection,
                tables.observation,
                [
                    {"scope_type": r.scope.type, "scope_key": r.scope.key, "observed_at": r.observed_at, "payload": encode(r)}
                    for r in rows
                ],
            )

    def clear_observations(self) -> None:
        """Drop all stored lists: the next reads are full ones."""
        with self._write() as connection:
            connection.execute(delete(tables.observation))

    # -- retries, suspensions, approvals, budgets -------------------------------------------------------------------

    def retries(self) -> tuple[Retry, ...]:
        """Return everything that waits for its next try."""
        with self._read() as connection:
            return tuple(
                decode(Retry, row[0]) for row in connection.execute(select(tables.retry.c.payload).order_by(tables.retry.c.key))
            )

    def save_retries(self, rows: Sequence[Retry], healed: Sequence[str]) -> None:
        """Store retries and drop those that succeeded; one commit."""
        if not rows and not healed:
            return
        with self._write() as connection:
            for part in chunks(list(healed)):
                connection.execute(delete(tables.retry).where(tables.retry.c.key.in_(part)))
            self._upsert(
                connection,
                tables.retry,
                [{"key": r.key, "next_at": r.next_at, "payload": encode(r)} for r in {r.key: r for r in rows}.values()],
            )

    def suspensions(self) -> dict[ResourceId, Suspension]:
        """Return the suspensions made by command."""
        with self._read() as connection:
            rows = connection.execute(
                select(tables.suspension.c.path, tables.suspension.c.reason, tables.suspension.c.until)
            ).all()
        return {ResourceId.from_path(path): Suspension(reason, until) for path, reason, until in rows}

    def suspend(self, identity: ResourceId, value: Suspension, *, audit: AuditEntry) -> None:
        """Store a suspension, with its audit row."""
        with self._write() as connection:
            self._upsert(connection, tables.suspension, [{"path": identity.path, "reason": value.reason, "until": value.until}])
            self._append(connection, [audit])

    def unsuspend(self, identity: ResourceId, *, audit: AuditEntry) -> bool:
        """Drop a suspension; False when there was none."""
        with self._write() as connection:
            gone = connection.execute(delete(tables.suspension).where(tables.suspension.c.path == identity.path)).rowcount
            if gone:
                self._append(connection, [audit])
        return bool(gone)

    def approvals(self) -> dict[str, float]:
        """Return the digests that were approved, with the time (epoch seconds)."""
        with self._read() as connection:
            return {str(sha): float(at) for sha, at in connection.execute(select(tables.approval.c.sha256, tables.approval.c.at))}

    def approve(self, digest: str, *, by: str, at: float, audit: AuditEntry | None = None) -> None:
        """Store an approval, with its audit row."""
        self.approve_all([digest], by=by, at=at, audit=audit)

    def approve_all(self, digests: Sequence[str], *, by: str, at: float, audit: AuditEntry | None = None) -> None:
        """Store approvals of several digests."""
        with self._write() as connection:
            self._upsert(connection, tables.approval, [{"sha256": one, "by": by, "at": at} for one in digests])
            if audit is not None:
                self._append(connection, [audit])

    def load_budget(self, credential_id: str) -> BudgetState | None:
        """Return a credential's budget as it was stored last, by any process."""
        with self._read() as connection:
            row = connection.execute(
                select(tables.budget.c.payload).where(tables.budget.c.credential_id == credential_id)
            ).first()
        return decode(BudgetState, row[0]) if row is not None else None

    def save_budget(self, state: BudgetState) -> None:
        """Store a credential's budget."""
        with self._write() as connection:
            self._upsert(connection, tables.budget, [{"credential_id": state.credential_id, "payload": encode(state)}])

    # -- journal ----------------------------------------------------------------------------------------------------

    def journal(self, entries: Sequence[JournalEntry]) -> None:
        """Append to the causal chain that ``explain`` tells."""
        if not entries:
            return
        with self._write() as connection:
            connection.execute(
                insert(tables.journal), [{"path": e.resource.path, "at": e.at, "payload": encode(e)} for e in entries]
            )

    def journal_of(self, identity: ResourceId, limit: int) -> list[JournalEntry]:
        """Return the newest entries of one resource, newest first."""
        query = (
            select(tables.journal.c.payload)
            .where(tables.journal.c.path == identity.path)
            .order_by(tables.journal.c.id.desc())
            .limit(limit)
        )
        with self._read() as connection:
            return [decode(JournalEntry, row[0]) for row in connection.execute(query)]

    def prune_history(self, before: float, limit: int = CHUNK) -> int:
        """Drop up to ``limit`` journal entries, settled intents or approvals older than ``before`` (epoch seconds).

        Returns how many; call it again until it returns 0.
        """
        done = [state.value for state in IntentState if state not in {IntentState.PENDING, IntentState.UNKNOWN}]
        journal, intent, approval = tables.journal, tables.intent, tables.approval
        with self._write() as connection:
            for table, where in (
                (journal, journal.c.at < before),
                (intent, (intent.c.created_at < before) & intent.c.state.in_(done)),
                (approval, approval.c.at < before),
            ):
                if gone := drop_some(connection, table, where, limit):
                    return gone
        return 0


__all__ = ["StatusStore"]
