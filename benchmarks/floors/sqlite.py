"""The floor of the state: rows of 600 bytes in one durable transaction (group commit), and reading them again."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path


def write_and_read(file: Path, count: int) -> float:
    """Return the seconds of ``count`` upserts in one synchronous transaction, and of reading them."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE row (id TEXT PRIMARY KEY, at REAL, payload BLOB)")
    rows = [(f"EventSource/r{number:05}", float(number), b"x" * 600) for number in range(count)]
    began = time.perf_counter()
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO row VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET at = excluded.at, payload = excluded.payload", rows
    )
    connection.execute("COMMIT")
    found = connection.execute("SELECT id, at, payload FROM row").fetchall()
    seconds = time.perf_counter() - began
    assert len(found) == count
    connection.close()
    return seconds
