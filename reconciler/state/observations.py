"""The last reads of providers: connections, lists of objects, rate budgets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sqlalchemy import delete, select

from reconciler.drivers.connection import Connection
from reconciler.model.codec import decode, encode, gc_paused
from reconciler.model.objects import Scope
from reconciler.model.records import BudgetState
from reconciler.model.resources import ResourceId
from reconciler.state import tables
from reconciler.state.database import CHUNK, Database, upsert
from reconciler.state.values import StoredObservation


class ObservationStore(Database):
    """Connections, observations and budgets."""

    def connections(self) -> dict[ResourceId, Connection]:
        """Return the last connection of each integration; it is kept as long as the integration has records."""
        with self._read() as connection:
            payloads = connection.execute(select(tables.connection.c.payload)).scalars().all()
        values = [decode(Connection, payload) for payload in payloads]
        return {value.integration: value for value in values}

    def save_connection(self, value: Connection) -> None:
        """Store a connection: references only."""
        with self._write() as connection:
            upsert(connection, tables.connection, [{"integration": value.integration.path, "payload": encode(value)}])

    def drop_connection(self, integration: ResourceId) -> None:
        """Delete a connection, and what was announced of its credential."""
        with self._write() as connection:
            alerts = tables.credential_alert
            connection.execute(delete(alerts).where(alerts.c.integration == integration.path))
            connection.execute(delete(tables.connection).where(tables.connection.c.integration == integration.path))

    def observations(self, scopes: Sequence[Scope]) -> dict[Scope, StoredObservation]:
        """Return the stored lists of ``scopes``."""
        requested, table = set(scopes), tables.observation
        query = select(table.c.scope_type, table.c.scope_key, table.c.observed_at, table.c.payload)
        if len(requested) <= CHUNK:  # by key for few; for many, one scan is faster
            query = query.where(
                table.c.scope_type.in_({scope.type for scope in requested}),
                table.c.scope_key.in_({scope.key for scope in requested}),
            )
        with self._read() as connection:
            rows = [(Scope(kind, key), at, payload) for kind, key, at, payload in connection.execute(query)]
        with gc_paused():
            return {
                scope: dataclasses.replace(decode(StoredObservation, payload), observed_at=at)
                for scope, at, payload in rows
                if scope in requested
            }

    def save_observations(self, rows: Sequence[StoredObservation]) -> None:
        """Store lists with the validators of their next conditional read, in one commit: one without the other would be wrong."""
        with self._write() as connection:
            upsert(
                connection,
                tables.observation,
                [
                    {"scope_type": r.scope.type, "scope_key": r.scope.key, "observed_at": r.observed_at, "payload": encode(r)}
                    for r in rows
                ],
            )

    def clear_observations(self) -> None:
        """Delete all stored lists: the next reads are full."""
        with self._write() as connection:
            connection.execute(delete(tables.observation))

    def load_budget(self, credential_id: str) -> BudgetState | None:
        """Return the budget of a credential as any process stored it last, or None."""
        with self._read() as connection:
            query = select(tables.budget.c.payload).where(tables.budget.c.credential_id == credential_id)
            payload = connection.execute(query).scalar()
        return decode(BudgetState, payload) if payload is not None else None

    def save_budget(self, state: BudgetState) -> None:
        """Store a credential's budget."""
        with self._write() as connection:
            upsert(connection, tables.budget, [{"credential_id": state.credential_id, "payload": encode(state)}])
