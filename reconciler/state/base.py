"""Connections and transactions: one place that knows SQLite from PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError

from reconciler.model.errors import StateError
from reconciler.model.serialize import from_json, to_json
from reconciler.state.rows import StorageFull

BUSY_MS = 30_000
RESERVE_BYTES = 16 << 20
CHUNK = 500


def pack(value: Any) -> bytes:
    """Return a model value as stored bytes."""
    return orjson.dumps(to_json(value))


def unpack(kind: type[Any], payload: bytes, **fields: Any) -> Any:
    """Return the model value of stored bytes; ``fields`` are kept in columns of their own and win."""
    return from_json(kind, {**orjson.loads(payload), **fields})


def make_engine(url: str) -> Engine:
    """Return an engine with the settings that durability rests on: WAL, FULL, a patient lock; keep-alives on PostgreSQL."""
    if url.startswith("sqlite"):
        engine = create_engine(url, connect_args={"timeout": BUSY_MS / 1000, "check_same_thread": False})

        @event.listens_for(engine, "connect")
        def _connected(connection: sqlite3.Connection, _record: Any) -> None:
            connection.isolation_level = None  # transactions are begun by us, with IMMEDIATE
            for pragma in (
                "journal_mode=WAL",
                "synchronous=FULL",
                f"busy_timeout={BUSY_MS}",
                "foreign_keys=ON",
                "temp_store=MEMORY",
            ):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def _begun(connection: SqlConnection) -> None:
            # A read that turns into a write in WAL mode fails at once and ignores busy_timeout: every writer says so first.
            connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("write") else "BEGIN")

        return engine
    keep = {
        "keepalives": 1,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "connect_timeout": 10,
        "options": "-c statement_timeout=30000 -c lock_timeout=30000",
    }
    return create_engine(url, pool_pre_ping=True, pool_size=4, max_overflow=4, connect_args=keep)


class Base:
    """Holds the engine; `_write` and `_read` are the only ways to the database."""

    def __init__(self, engine: Engine, state_dir: Path) -> None:
        self._engine = engine
        self._state_dir = state_dir
        self.dialect = engine.dialect.name

    @contextlib.contextmanager
    def _write(self) -> Iterator[SqlConnection]:
        """One write transaction; a full disk becomes `StorageFull`, anything else a `StateError`."""
        try:
            with self._engine.connect().execution_options(write=True) as connection, connection.begin():
                yield connection
        except DBAPIError as error:
            raise state_error(error) from error

    @contextlib.contextmanager
    def _read(self) -> Iterator[SqlConnection]:
        try:
            with self._engine.connect() as connection, connection.begin():
                yield connection
        except DBAPIError as error:
            raise state_error(error) from error

    def _upsert(self, connection: SqlConnection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert or replace ``rows`` by primary key."""
        if not rows:
            return
        module: Any = sqlite if self.dialect == "sqlite" else postgresql
        statement = module.insert(table)
        keys = [column.name for column in table.primary_key.columns]
        others = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
        connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=others), list(rows))


def chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Cut ``items`` so that no statement has too many parameters."""
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


def state_error(error: DBAPIError) -> StateError:
    """Return the typed error of a database's; never with a statement's parameters."""
    text = str(error.orig).lower()
    if "disk is full" in text or "no space left" in text or "database or disk is full" in text or "could not extend file" in text:
        return StorageFull(
            "the disk of the state is full; nothing remote is written until there is room",
            hint="Make room; work goes on by itself.",
        )
    if "locked" in text or "busy" in text:
        return StateError(
            "another process holds the database", code="RC7004", hint="It is tried again; find who has it open with fuser(1)."
        )
    if "readonly" in text or "read-only" in text:
        return StateError("the database cannot be written", code="RC7002", hint="Check owner and mode of the state folder.")
    if isinstance(error, OperationalError):
        return StateError(
            f"the database does not answer: {type(error.orig).__name__}",
            code="RC7007",
            hint="It is tried again; check that it runs.",
        )
    return StateError(f"the database refused: {type(error.orig).__name__}: {str(error.orig)[:200]}", code="RC7001")


def keep_reserve(folder: Path) -> None:
    """Keep 16 MiB aside, so that what was begun can be recorded on a full disk (see `drop_reserve`)."""
    path = folder / "reserve"
    with contextlib.suppress(OSError):
        if path.exists() and path.stat().st_size == RESERVE_BYTES:
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        except OSError:
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)


def drop_reserve(folder: Path) -> bool:
    """Give the reserve back to the disk; True if there was any."""
    path = folder / "reserve"
    try:
        size = path.stat().st_size
        path.unlink()
    except OSError:
        return False
    return size > 0
