"""The audit log: append-only, hash-chained; a row is committed before the remote write that it tells of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import orjson
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import insert, select

from reconciler.model.records import AuditEntry
from reconciler.state.base import pack, unpack
from reconciler.state.leases import Leases
from reconciler.state.rows import AuditReport
from reconciler.state.tables import audit as audit_table

GENESIS = "0" * 64


class AuditLog(Leases):
    """Part of `Store`."""

    def append_audit(self, entries: Sequence[AuditEntry]) -> None:
        """Append rows that belong to no write."""
        with self._write() as connection:
            self._append(connection, entries)

    def _append(self, connection: SqlConnection, entries: Sequence[AuditEntry]) -> None:
        if not entries:
            return
        if self.dialect == "postgresql":  # one appender at a time: the chain has one head
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7163001)")
        seq, prev = self._head(connection)
        rows = []
        for entry in entries:
            seq += 1
            payload = pack(entry)
            digest = link(prev, seq, payload)
            rows.append({"seq": seq, "prev": prev, "hash": digest, "resource": entry.resource, "payload": payload})
            prev = digest
        connection.execute(insert(audit_table), rows)

    def _head(self, connection: SqlConnection) -> tuple[int, str]:
        row = connection.execute(
            select(audit_table.c.seq, audit_table.c.hash).order_by(audit_table.c.seq.desc()).limit(1)
        ).first()
        return (int(row[0]), str(row[1])) if row is not None else (0, GENESIS)

    def audit_head(self) -> tuple[int, str]:
        """Return (seq, hash) of the newest row: an anchor to keep elsewhere, since a cut tail shows only against one."""
        with self._read() as connection:
            return self._head(connection)

    def audit_tail(self, limit: int, *, resource: str | None = None) -> list[tuple[int, AuditEntry]]:
        """Return the newest rows, newest first."""
        query = select(audit_table.c.seq, audit_table.c.payload).order_by(audit_table.c.seq.desc()).limit(limit)
        if resource is not None:
            query = query.where(audit_table.c.resource == resource)
        with self._read() as connection:
            return [(int(seq), unpack(AuditEntry, payload)) for seq, payload in connection.execute(query)]

    def verify_audit(self, *, anchor: tuple[int, str] | None = None) -> AuditReport:
        """Walk the whole chain; an edited or missing row is named by its number.

        ``anchor`` is an `audit_head` of before, kept elsewhere: only against one does a cut tail show, or a chain made anew.
        """
        prev, rows, expected = GENESIS, 0, 1
        table = audit_table.c
        query = select(table.seq, table.prev, table.hash, table.resource, table.payload).order_by(table.seq)
        with self._read() as connection, connection.execution_options(yield_per=1_000).execute(query) as result:
            for seq, before, digest, resource, payload in result:
                whole = seq == expected and before == prev and digest == link(prev, seq, payload)
                # The column that rows are searched by is not in the hash: it has to say what the payload says.
                if not whole or orjson.loads(payload).get("resource", "") != resource or _moved(anchor, seq, digest):
                    return AuditReport(ok=False, rows=rows, first_bad_seq=expected)
                prev, rows, expected = digest, rows + 1, expected + 1
        if anchor is not None and rows < anchor[0]:
            return AuditReport(ok=False, rows=rows, first_bad_seq=expected)
        return AuditReport(ok=True, rows=rows)


def _moved(anchor: tuple[int, str] | None, seq: int, digest: str) -> bool:
    return anchor is not None and anchor[0] == seq and anchor[1] != digest


def link(prev: str, seq: int, payload: bytes) -> str:
    """Return the hash of a row: SHA-256 over the previous hash, the number and the payload as stored."""
    return hashlib.sha256(prev.encode() + seq.to_bytes(8, "big") + bytes(payload)).hexdigest()
