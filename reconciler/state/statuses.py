"""Resources: their last valid specs, their statuses and their retries."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterable, Sequence

from sqlalchemy import delete, select

from reconciler.model.codec import decode, encode
from reconciler.model.records import Retry
from reconciler.model.resources import ResourceId
from reconciler.model.status import ResourceStatus
from reconciler.state import tables
from reconciler.state.database import Database, chunks, upsert
from reconciler.state.incidents import STATUSES_MARK, IncidentUpdate, apply_incidents, statuses_mark_in


class StatusStore(Database):
    """Specs, statuses and retries."""

    def resources(self) -> dict[str, bytes]:
        """Return the last valid specs by path, as `save_resources` stored them."""
        with self._read() as connection:
            return dict(connection.execute(select(tables.resource.c.path, tables.resource.c.payload)).all())

    def generations(self) -> dict[ResourceId, int]:
        """Return the generation of each spec, from 1."""
        with self._read() as connection:
            rows = connection.execute(select(tables.resource.c.path, tables.resource.c.generation))
            return {ResourceId.from_path(path): generation for path, generation in rows}

    def save_resources(self, rows: Iterable[tuple[str, str, bytes]]) -> None:
        """Store (path, digest, payload). A changed digest is a new generation; only changed rows are written."""
        table = tables.resource.c
        with self._read() as connection:
            query = select(table.path, table.digest, table.generation, table.payload)
            known = {path: (digest, generation, payload) for path, digest, generation, payload in connection.execute(query)}
        changed: list[dict[str, object]] = []
        for path, digest, payload in rows:
            old_digest, generation, old_payload = known.get(path, (None, 0, b""))
            if digest != old_digest or payload != old_payload:
                generation += digest != old_digest
                changed.append({"path": path, "digest": digest, "generation": generation, "payload": payload})
        if changed:
            with self._write() as connection:
                upsert(connection, tables.resource, changed)

    def drop_resources(self, paths: Sequence[str]) -> None:
        """Delete specs that are no longer declared."""
        with self._write() as connection:
            for part in chunks(list(paths)):
                connection.execute(delete(tables.resource).where(tables.resource.c.path.in_(part)))

    def statuses(self) -> dict[ResourceId, ResourceStatus]:
        """Return the newest status of each resource."""
        with self._read() as connection:
            rows = connection.execute(select(tables.status.c.path, tables.status.c.payload)).all()
        return {ResourceId.from_path(path): decode(ResourceStatus, payload) for path, payload in rows}

    def save_statuses(
        self, rows: Sequence[ResourceStatus], *, gone: Sequence[ResourceId] = (), incidents: IncidentUpdate | None = None
    ) -> str:
        """Store statuses without ``next_reconcile_at``, and delete those of ``gone``; ``incidents`` follow from them.

        Returns the new `statuses_mark`. If a peer stored other statuses meanwhile, the incidents stay as they are.
        """
        mark, now = secrets.token_hex(8), self.now() if incidents is not None else 0.0
        changed = [{"path": row.id.path, "payload": encode(dataclasses.replace(row, next_reconcile_at=""))} for row in rows]
        with self._write() as connection:
            if incidents is not None:
                apply_incidents(connection, incidents, now)
            upsert(connection, tables.status, changed)
            for part in chunks([identity.path for identity in gone]):
                connection.execute(delete(tables.status).where(tables.status.c.path.in_(part)))
            upsert(connection, tables.meta, [{"key": STATUSES_MARK, "value": mark}])
        return mark

    def statuses_mark(self) -> str:
        """Return a text that changes with every `save_statuses` of any process; empty before the first."""
        with self._read() as connection:
            return statuses_mark_in(connection)

    def retries(self) -> tuple[Retry, ...]:
        """Return all retries."""
        with self._read() as connection:
            payloads = connection.execute(select(tables.retry.c.payload).order_by(tables.retry.c.key)).scalars()
            return tuple(decode(Retry, payload) for payload in payloads)

    def save_retries(self, rows: Sequence[Retry], healed: Sequence[str]) -> None:
        """Store retries and delete those that succeeded, in one commit."""
        if not rows and not healed:
            return
        with self._write() as connection:
            for part in chunks(list(healed)):
                connection.execute(delete(tables.retry).where(tables.retry.c.key.in_(part)))
            upsert(
                connection,
                tables.retry,
                [{"key": r.key, "next_at": r.next_at, "payload": encode(r)} for r in {r.key: r for r in rows}.values()],
            )


__all__ = ["StatusStore"]
