"""The floor of taking deliveries in: ``python -m benchmarks.floors.ingest FILE KEY group|each`` serves and prints its port.

The least honest server on the same HTTP stack: uvicorn with a bare ASGI function, the body's HMAC in constant time, one row
like the inbox's with the inbox's indexes, SQLite in WAL mode with synchronous FULL, answered after the commit. ``group``: what
waits while one commit is under way shares the next one. ``each``: a commit of its own for every delivery.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import sqlite3
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvicorn

_TABLE = """
CREATE TABLE event (id VARCHAR(40) NOT NULL PRIMARY KEY, source VARCHAR(400) NOT NULL, delivery_id VARCHAR(220) NOT NULL,
  identity VARCHAR(220) NOT NULL, state VARCHAR(20) NOT NULL, received_at DOUBLE NOT NULL, payload BLOB NOT NULL, body BLOB NOT NULL);
CREATE UNIQUE INDEX event_delivery ON event (source, delivery_id);
CREATE INDEX event_pending ON event (id) WHERE state = 'pending';
CREATE INDEX event_identity ON event (source, identity) WHERE identity <> '';
"""
_INSERT = "INSERT OR IGNORE INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_SOURCE = "EventSource/default/r00000"
BATCH = 512
Row = tuple[Any, ...]


class Rows:
    """The table, written by one thread."""

    def __init__(self, file: Path, batch: int) -> None:
        self._db = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_TABLE)
        self._batch = batch
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[tuple[Row, asyncio.Future[None]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def add(self, row: Row) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((row, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())
        await future

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
            await loop.run_in_executor(self._pool, self._write, [row for row, _ in batch])
            for _, future in batch:
                future.set_result(None)

    def _write(self, rows: list[Row]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(_INSERT, rows)
        self._db.execute("COMMIT")


def application(rows: Rows, key: bytes) -> Any:
    """Return the ASGI function."""
    number = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal number
        headers = dict(scope["headers"])
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        proof = b"sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest().encode()
        status = 401
        if hmac.compare_digest(proof, headers.get(b"x-hub-signature-256", b"")):
            number += 1
            delivery = headers[b"x-github-delivery"].decode()
            at = time.time()
            identity = "sha256:" + hashlib.sha256(body).hexdigest()
            await rows.add((f"{int(at * 1000):012x}-{number:016x}", _SOURCE, delivery, identity, "pending", at, b"x" * 600, body))
            status = 202
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    return app


async def serve(file: Path, key: bytes, batch: int) -> None:
    config = uvicorn.Config(
        application(Rows(file, batch), key), port=0, log_config=None, access_log=False, lifespan="off", server_header=False
    )
    server = uvicorn.Server(config)
    sock = config.bind_socket()
    print(sock.getsockname()[1], flush=True)
    await server.serve([sock])


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(Path(sys.argv[1]), sys.argv[2].encode(), BATCH if sys.argv[3] == "group" else 1))
