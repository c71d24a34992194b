"""A cache of parsed files by blob id. It is disposable, so it is fast instead of durable; a damaged cache is deleted."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from reconciler.state.files import discard

LOG_BYTES = 64 << 20
MAX_BYTES = 512 << 20
"""A larger cache is deleted: it holds every blob that was ever read."""


class BlobCache:
    """Implements `reconciler.manifests.ParseCache` on a SQLite file of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            with contextlib.suppress(OSError):
                if self._path.stat().st_size > MAX_BYTES:
                    self._drop()
            return self._connect()
        except sqlite3.DatabaseError:
            self._drop()
            try:
                return self._connect()
            except sqlite3.DatabaseError:  # a folder that cannot be written: work without a cache
                connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
                connection.execute("CREATE TABLE blob (id TEXT PRIMARY KEY, payload BLOB NOT NULL) WITHOUT ROWID")
                return connection

    def _drop(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            discard(self._path.with_name(self._path.name + suffix))

    def _connect(self) -> sqlite3.Connection:
        with contextlib.suppress(OSError):  # before SQLite makes it: its log and index take over the mode of the file
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            self._path.chmod(0o600)
        connection = sqlite3.connect(self._path, timeout=5, check_same_thread=False, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(f"PRAGMA journal_size_limit={LOG_BYTES}")
        connection.execute("CREATE TABLE IF NOT EXISTS blob (id TEXT PRIMARY KEY, payload BLOB NOT NULL) WITHOUT ROWID")
        return connection

    def get_many(self, blobs: Iterable[str]) -> dict[str, bytes]:
        """Return the cached payloads of ``blobs``."""
        ids = list(blobs)
        try:
            if len(ids) > 2_000:
                chosen = set(ids)
                return {
                    key: payload for key, payload in self._connection.execute("SELECT id, payload FROM blob") if key in chosen
                }
            payloads: dict[str, bytes] = {}
            for start in range(0, len(ids), 500):
                part = ids[start : start + 500]
                marks = ",".join("?" * len(part))
                payloads.update(self._connection.execute(f"SELECT id, payload FROM blob WHERE id IN ({marks})", part))  # noqa: S608 - question marks only
            return payloads
        except sqlite3.DatabaseError:
            return {}

    def put_many(self, rows: Mapping[str, bytes]) -> None:
        """Store ``rows``. A cache that cannot be written is not an error."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT OR REPLACE INTO blob VALUES (?, ?)", list(rows.items()))
            self._connection.execute("COMMIT")
        except sqlite3.DatabaseError:
            with contextlib.suppress(sqlite3.DatabaseError):  # an open transaction would refuse every later one
                self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
