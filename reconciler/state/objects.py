"""Recorded objects and intents, which make a write crash-proof: intents are committed before the calls, outcomes after them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import delete, select, update

from reconciler.failpoints import failpoint
from reconciler.model.codec import decode, encode, gc_paused
from reconciler.model.objects import Intent, IntentState, RecordedObject
from reconciler.model.records import AuditEntry, Outcome
from reconciler.model.resources import ResourceId
from reconciler.model.values import Address, ExternalId
from reconciler.state.audit import append_entries
from reconciler.state.database import Database, chunks, upsert
from reconciler.state.leases import check_fence
from reconciler.state.tables import intent as intents_table
from reconciler.state.tables import managed_object
from reconciler.state.values import Fence

UNSETTLED = (IntentState.PENDING.value, IntentState.UNKNOWN.value)


class ObjectStore(Database):
    """Recorded objects and intents."""

    def recorded(self, integration: ResourceId | None = None) -> tuple[RecordedObject, ...]:
        """Return the recorded objects (of ``integration``), tombstones included, by address."""
        query = select(managed_object.c.seen, managed_object.c.tombstone, managed_object.c.payload).order_by(
            managed_object.c.address
        )
        if integration is not None:
            query = query.where(managed_object.c.integration == integration.path)
        with self._read() as connection:
            rows = connection.execute(query).all()
        with gc_paused():
            return tuple(_recorded(payload, seen=seen, tombstone=tombstone) for seen, tombstone, payload in rows)

    def integrations_recorded(self) -> frozenset[ResourceId]:
        """Return the integrations with recorded objects, tombstones included."""
        with self._read() as connection:
            paths = connection.execute(select(managed_object.c.integration).distinct()).scalars().all()
        return frozenset(ResourceId.from_path(path) for path in paths)

    def recorded_one(self, address: Address) -> RecordedObject | None:
        """Return one recorded object, or None."""
        query = select(managed_object.c.seen, managed_object.c.tombstone, managed_object.c.payload).where(
            managed_object.c.address == address
        )
        with self._read() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        seen, tombstone, payload = row
        return _recorded(payload, seen=seen, tombstone=tombstone)

    def begin(self, intents: Sequence[Intent], audit: Sequence[AuditEntry], *, fence: Fence | None = None) -> None:
        """Commit intents and their audit rows before the calls. Raises `StorageFull` or `FenceLost`; then no call may be made."""
        self._need_reserve()
        with self._write() as connection:
            check_fence(connection, fence)
            upsert(connection, intents_table, [_intent_row(intent) for intent in intents])
            append_entries(connection, self.signing_key, audit)
            failpoint("state-begin-before-commit")
        failpoint("state-begin-after-commit")

    def settle(self, outcomes: Sequence[Outcome], audit: Sequence[AuditEntry] = (), *, fence: Fence | None = None) -> None:
        """Commit the outcomes of intents with the records that they change. Uses the reserve when the disk is full."""
        self._spending_reserve(lambda: self._settle(outcomes, audit, fence))

    def _settle(self, outcomes: Sequence[Outcome], audit: Sequence[AuditEntry], fence: Fence | None) -> None:
        with self._write() as connection:
            check_fence(connection, fence)
            _close(connection, [(o.intent_id, o.state) for o in outcomes])
            for dropped in chunks([o.drop for o in outcomes if o.drop is not None]):
                connection.execute(delete(managed_object).where(managed_object.c.address.in_(dropped)))
            _store_records(connection, [o.record for o in outcomes if o.record is not None])
            append_entries(connection, self.signing_key, audit)
            failpoint("state-settle-before-commit")
        failpoint("state-settle-after-commit")

    def unsettled(self, integration: ResourceId | None = None) -> tuple[Intent, ...]:
        """Return the intents with unknown outcome, oldest first."""
        query = (
            select(intents_table.c.state, intents_table.c.payload)
            .where(intents_table.c.state.in_(UNSETTLED))
            .order_by(intents_table.c.created_at, intents_table.c.id)
        )
        if integration is not None:
            query = query.where(intents_table.c.integration == integration.path)
        with self._read() as connection:
            rows = connection.execute(query).all()
        return tuple(dataclasses.replace(decode(Intent, payload), state=IntentState(state)) for state, payload in rows)

    def settle_intents(
        self, settlements: Iterable[tuple[str, IntentState, ExternalId | None]], *, fence: Fence | None = None
    ) -> None:
        """Close intents whose outcome an observation showed. Raises `FenceLost`. Uses the reserve when the disk is full."""
        states = [(identity, state) for identity, state, _ in settlements]

        def work() -> None:
            with self._write() as connection:
                check_fence(connection, fence)
                _close(connection, states)

        self._spending_reserve(work)

    def record_and_forget(
        self,
        records: Sequence[RecordedObject],
        forget: Sequence[Address],
        audit: Sequence[AuditEntry],
        *,
        fence: Fence | None = None,
    ) -> None:
        """Store ``records`` and delete those at ``forget`` in one commit, without remote writes. Raises `FenceLost`."""
        with self._write() as connection:
            check_fence(connection, fence)
            for part in chunks(list(forget)):
                connection.execute(delete(managed_object).where(managed_object.c.address.in_(part)))
            _store_records(connection, records)
            append_entries(connection, self.signing_key, audit)

    def record(self, records: Sequence[RecordedObject]) -> None:
        """Store recorded objects."""
        self.record_and_forget(records, (), ())

    def forget(self, addresses: Sequence[Address], audit: Sequence[AuditEntry]) -> None:
        """Delete recorded objects. Nothing happens at the provider."""
        self.record_and_forget((), addresses, audit)

    def mark_seen(self, addresses: Sequence[Address]) -> None:
        """Record that a list showed these objects: from now on their absence counts at once."""
        with self._write() as connection:
            for part in chunks(list(addresses)):
                connection.execute(update(managed_object).where(managed_object.c.address.in_(part)).values(seen=True))


def _recorded(payload: bytes, *, seen: bool, tombstone: bool) -> RecordedObject:
    """The two flags change without the rest, so they have columns of their own."""
    stored = decode(RecordedObject, payload)
    return dataclasses.replace(stored, seen=seen, tombstone=tombstone) if seen or tombstone else stored


def _intent_row(intent: Intent) -> dict[str, object]:
    return {
        "id": intent.id,
        "integration": intent.integration.path,
        "address": intent.address,
        "state": intent.state.value,
        "created_at": intent.created_at,
        "payload": encode(intent),
    }


def _close(connection: SqlConnection, states: Sequence[tuple[str, IntentState]]) -> None:
    by_state: dict[IntentState, list[str]] = {}
    for identity, state in states:
        by_state.setdefault(state, []).append(identity)
    for state, ids in by_state.items():
        for part in chunks(ids):
            connection.execute(update(intents_table).where(intents_table.c.id.in_(part)).values(state=state.value))


def _store_records(connection: SqlConnection, records: Sequence[RecordedObject]) -> None:
    upsert(
        connection,
        managed_object,
        [
            {
                "address": r.address,
                "integration": r.integration.path,
                "resource": r.resource.path,
                "seen": r.seen,
                "tombstone": r.tombstone,
                "payload": encode(dataclasses.replace(r, seen=False, tombstone=False) if r.seen or r.tombstone else r),
            }
            for r in records
        ],
    )
