"""The audit log: append-only, chained and signed; a row is committed before the remote write that it records.

Every row holds the hash of the row before it, so a changed row breaks the chain. An attacker who can write to the database can recompute all
hashes, so each row also has a MAC under a key derived from the master key: it proves the row and, through the chain, all rows before
it. Neither shows that rows were cut off at the end: for that, the newest row is kept as an anchor in a file and in the log.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import Select, insert, select

from reconciler.model.codec import decode, encode
from reconciler.model.records import AuditEntry
from reconciler.state.audit_walk import GENESIS, Anchor, AuditRow, AuditWalk, link
from reconciler.state.database import Database
from reconciler.state.files import ANCHOR
from reconciler.state.tables import audit as audit_table
from reconciler.state.values import AuditKey, AuditReport


class _SignedAnchor(msgspec.Struct, frozen=True):
    """The content of the anchor file."""

    seq: int
    hash: str
    mac: str = ""


class AuditStore(Database):
    """The audit log and its anchor."""

    _audit_keys: Mapping[str, AuditKey] = {}

    def use_audit_keys(self, keys: Iterable[AuditKey]) -> None:
        """Sign new rows with the first of ``keys``, and check rows with any of them."""
        known = list(keys)
        self._audit_keys = {key.id: key for key in known}
        self.signing_key = known[0] if known else None

    def seal_audit(self, entry: AuditEntry) -> bool:
        """Append ``entry`` unless the newest row is signed with the active key. A signed row proves the rows before it, too.

        Only rows of an older version are proved like this: where an anchor exists, rows were signed, and unsigned ones are not ours.
        """
        with self._write() as connection:
            mac = connection.execute(select(audit_table.c.mac).order_by(audit_table.c.seq.desc()).limit(1)).scalar()
            if mac is None or self.signing_key is None or mac.startswith(self.signing_key.id + ":"):
                return False
            if not mac and (self._state_dir / ANCHOR).exists():
                return False
            append_entries(connection, self.signing_key, [entry])
        return True

    def append_audit(self, entries: Sequence[AuditEntry]) -> None:
        """Append rows that belong to no remote write."""
        with self._write() as connection:
            append_entries(connection, self.signing_key, entries)

    def audit_head(self) -> tuple[int, str]:
        """Return (seq, hash) of the newest row, to keep elsewhere as an anchor."""
        with self._read() as connection:
            return _head(connection)

    def audit_tail(self, limit: int, *, resource: str | None = None, before: int = 0) -> list[tuple[int, AuditEntry]]:
        """Return the newest rows, newest first. ``before``: number of the last row of the previous page; 0 for the first."""
        query = select(audit_table.c.seq, audit_table.c.payload).order_by(audit_table.c.seq.desc()).limit(limit)
        if resource is not None:
            query = query.where(audit_table.c.resource == resource)
        if before:
            query = query.where(audit_table.c.seq < before)
        with self._read() as connection:
            return [(seq, decode(AuditEntry, payload)) for seq, payload in connection.execute(query)]

    def verify_audit(self, *, anchors: Sequence[Anchor] = ()) -> AuditReport:
        """Verify the whole chain: report the first row that was changed, rewritten, unsigned or is missing.

        ``anchors`` are earlier newest rows that were kept elsewhere. Without a key (`use_audit_keys`) only the chain is checked.
        """
        walk = self.audit_walk(anchors)
        with self._read() as connection, connection.execution_options(yield_per=1_000).execute(_rows_after(walk)) as result:
            for row in result:
                report = walk.take(AuditRow(*row))
                if report is not None:
                    return report
        return walk.end(self.signing_key)

    def audit_walk(self, anchors: Sequence[Anchor]) -> AuditWalk:
        """Return a verification that has not begun, for `verify_some`."""
        return AuditWalk(self._audit_keys, anchors)

    def verify_some(self, walk: AuditWalk, limit: int) -> AuditReport | None:
        """Verify the next ``limit`` rows of ``walk``. Returns None if there are more: other calls use the database in between."""
        with self._read() as connection:
            rows = connection.execute(_rows_after(walk).limit(limit)).all()
        for row in rows:
            report = walk.take(AuditRow(*row))
            if report is not None:
                return report
        return walk.end(self.signing_key) if len(rows) < limit else None

    # -- the anchor -------------------------------------------------------------------------------------------------

    def keep_anchor(self) -> Anchor | None:
        """Write number and hash of the newest row, signed, to the anchor file. Returns None without a key. Raises OSError."""
        anchor = Anchor(*self.audit_head())
        if self.signing_key is None or self._contradicts(self.kept_anchor()):
            return None
        path = self._state_dir / ANCHOR
        signed = _SignedAnchor(anchor.seq, anchor.hash, self.signing_key.mac(_anchored(anchor)))
        part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(signed) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return anchor

    def _contradicts(self, kept: Anchor | None) -> bool:
        """Whether the log ends before ``kept`` or differs there: then the anchor is the only proof of that, and stays."""
        if kept is None or not kept.seq:
            return False
        with self._read() as connection:
            stored = connection.execute(select(audit_table.c.hash).where(audit_table.c.seq == kept.seq)).scalar()
        return stored != kept.hash

    def kept_anchor(self) -> Anchor | None:
        """Return the anchor of the file, or None. Raises ValueError when no key of this installation signed it."""
        file = self._state_dir / ANCHOR
        try:
            signed = msgspec.json.decode(file.read_bytes(), type=_SignedAnchor)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError:
            raise ValueError(f"{file} is not an anchor") from None
        anchor = Anchor(signed.seq, signed.hash)
        key = self._audit_keys.get(signed.mac.partition(":")[0])
        if key is None or not hmac.compare_digest(key.mac(_anchored(anchor)), signed.mac):
            raise ValueError(f"{file} is not signed with this installation's key")
        return anchor


def _rows_after(walk: AuditWalk) -> Select[int, str, str, str, str, bytes]:
    table = audit_table.c
    query = select(table.seq, table.prev, table.hash, table.mac, table.resource, table.payload)
    return query.where(table.seq > walk.rows).order_by(table.seq)


def _anchored(anchor: Anchor) -> str:
    return f"anchor {anchor.seq} {anchor.hash}"


def append_entries(connection: SqlConnection, key: AuditKey | None, entries: Sequence[AuditEntry]) -> None:
    """Append rows within the caller's transaction, signed with ``key``."""
    if not entries:
        return
    if connection.dialect.name == "postgresql":  # one appender at a time: the chain has one head
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7163001)")
    seq, prev = _head(connection)
    rows = []
    for entry in entries:
        seq += 1
        payload = encode(entry)
        digest = link(prev, seq, payload)
        mac = key.mac(digest) if key is not None else ""
        rows.append({"seq": seq, "prev": prev, "hash": digest, "mac": mac, "resource": entry.resource, "payload": payload})
        prev = digest
    connection.execute(insert(audit_table), rows)


def _head(connection: SqlConnection) -> tuple[int, str]:
    row = connection.execute(select(audit_table.c.seq, audit_table.c.hash).order_by(audit_table.c.seq.desc()).limit(1)).first()
    return (row[0], row[1]) if row is not None else (0, GENESIS)
