"""Signing keys of the OIDC issuer. The private parts are sealed under the master key before they get here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import orjson
from sqlalchemy import select, update

from reconciler.model.issuer_keys import IssuerKey
from reconciler.model.records import AuditEntry
from reconciler.state import tables
from reconciler.state.audit import append_entries
from reconciler.state.database import Database, insert_new


def _public(text: str) -> Mapping[str, str]:
    """Return a stored public JWK; empty if it is damaged, so that the other keys can be used and this one be replaced."""
    try:
        key = msgspec.json.decode(text, type=dict[str, str])
    except (msgspec.MsgspecError, UnicodeError):
        return {}
    return key if {"kty", "kid", "n", "e"} <= key.keys() else {}


class OidcKeyStore(Database):
    """The issuer's keys, in the order of their creation."""

    def oidc_keys(self) -> tuple[IssuerKey, ...]:
        """Return all keys, also revoked ones."""
        table = tables.oidc_key
        with self._read() as connection:
            rows = connection.execute(select(table).order_by(table.c.number)).all()
        return tuple(
            IssuerKey(
                row.number,
                row.kid,
                _public(row.public),
                row.sealed,
                row.seal_key_id,
                row.published_at,
                row.sign_from,
                row.revoked_at,
            )
            for row in rows
        )

    def add_oidc_key(self, key: IssuerKey, *, revoke: float | None, audit: AuditEntry) -> bool:
        """Store ``key`` with its audit row; ``revoke``: revoke all others at this time.

        Returns False, and stores nothing, if another process has stored a key with this number.
        """
        table = tables.oidc_key
        row = {
            "number": key.number,
            "kid": key.kid,
            "public": orjson.dumps(dict(key.public)).decode(),
            "sealed": key.sealed,
            "seal_key_id": key.seal_key_id,
            "published_at": key.published_at,
            "sign_from": key.sign_from,
            "revoked_at": key.revoked_at,
        }
        with self._write() as connection:
            insert_new(connection, table, row)
            if connection.scalar(select(table.c.kid).where(table.c.number == key.number)) != key.kid:
                return False
            if revoke is not None:
                older = (table.c.number < key.number) & table.c.revoked_at.is_(None)
                connection.execute(update(table).where(older).values(revoked_at=revoke))
            append_entries(connection, self.signing_key, [audit])
        return True

    def reseal_oidc_keys(self, keys: Sequence[IssuerKey]) -> None:
        """Replace the sealed private parts of ``keys``."""
        table = tables.oidc_key
        with self._write() as connection:
            for key in keys:
                values = {"sealed": key.sealed, "seal_key_id": key.seal_key_id}
                connection.execute(update(table).where(table.c.number == key.number).values(**values))
