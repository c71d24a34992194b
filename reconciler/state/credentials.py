"""Refused credentials, so that none is tried again too soon, and what was announced of each credential.

A refusal is found by a keyed digest of the credential; neither the credential nor anything to guess it with is stored. Times are those
of the database's clock, which all processes share.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select, update

from reconciler.model.codec import decode, encode
from reconciler.model.records import AuditEntry, CredentialAlert, CredentialRefusal
from reconciler.model.resources import ResourceId
from reconciler.state import tables
from reconciler.state.audit import append_entries
from reconciler.state.database import Database, insert_new, locked, upsert

KEPT_S = 86_400.0
"""A refusal of a credential that nobody uses any more is kept this long."""


class CredentialStore(Database):
    """Refusals and announcements."""

    def refusal_of(self, proofs: Sequence[str], pause_s: float) -> CredentialRefusal | None:
        """Return the refusal of a credential that must not be tried now; None if it may be.

        A credential whose pause is over may be tried by the caller alone: the pause begins again with this call, also if the caller
        ends before it has an answer. A pause that is longer than ``pause_s`` was stored before the clock was set back, and is over.
        """
        table, now = tables.refused_credential, self.now()
        with self._read() as connection:
            if connection.execute(select(table.c.proof).where(table.c.proof.in_(proofs))).first() is None:
                return None
        with self._write() as connection:
            query = select(table.c.proof, table.c.until, table.c.payload).where(table.c.proof.in_(proofs)).order_by(table.c.proof)
            rows = connection.execute(locked(connection, query)).all()
            waiting = [row for row in rows if 0 < row.until - now <= pause_s]
            if waiting:
                return decode(CredentialRefusal, waiting[0].payload)
            connection.execute(update(table).where(table.c.proof.in_(proofs)).values(until=now + pause_s))
        return None

    def standing_refusal(self, proofs: Sequence[str]) -> CredentialRefusal | None:
        """Return the refusal of a credential that was not accepted since, however long ago; None if there is none."""
        table = tables.refused_credential
        with self._read() as connection:
            payload = connection.execute(select(table.c.payload).where(table.c.proof.in_(proofs)).limit(1)).scalar()
        return decode(CredentialRefusal, payload) if payload is not None else None

    def refuse_credential(self, proof: str, refusal: CredentialRefusal, pause_s: float) -> None:
        """Store that a credential was refused now, and drop refusals of long ago."""
        table, now = tables.refused_credential, self.now()
        with self._write() as connection:
            upsert(connection, table, [{"proof": proof, "until": now + pause_s, "payload": encode(refusal)}])
            connection.execute(delete(table).where(table.c.until < now - KEPT_S))

    def forget_refusals(self, proofs: Sequence[str]) -> None:
        """Drop the refusals of a credential: it was accepted, or a person wants it to be tried."""
        table = tables.refused_credential
        with self._read() as connection:
            if connection.execute(select(table.c.proof).where(table.c.proof.in_(proofs))).first() is None:
                return
        with self._write() as connection:
            connection.execute(delete(table).where(table.c.proof.in_(proofs)))

    def credential_alert(self, integration: ResourceId) -> CredentialAlert:
        """Return what was announced of the credential of ``integration``."""
        table = tables.credential_alert
        with self._read() as connection:
            payload = connection.execute(select(table.c.payload).where(table.c.integration == integration.path)).scalar()
        return decode(CredentialAlert, payload) if payload is not None else CredentialAlert()

    def announce(
        self, integration: ResourceId, before: CredentialAlert, after: CredentialAlert, audit: Sequence[AuditEntry] = ()
    ) -> bool:
        """Store what is announced, with its audit rows. Returns False, and stores nothing, if another process changed ``before``."""
        table = tables.credential_alert
        with self._write() as connection:
            insert_new(connection, table, {"integration": integration.path, "payload": encode(CredentialAlert())})
            query = select(table.c.payload).where(table.c.integration == integration.path)
            stored = decode(CredentialAlert, connection.execute(locked(connection, query)).scalar_one())
            if stored != before:
                return False
            upsert(connection, table, [{"integration": integration.path, "payload": encode(after)}])
            append_entries(connection, self.signing_key, audit)
        return True


__all__ = ["CredentialStore"]
