"""Connections and transactions: the only module that distinguishes SQLite from PostgreSQL."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from sqlalchemy import ColumnElement, Engine, Select, Table, bindparam, create_engine, delete, event, select, text
from sqlalchemy import Connection as SqlConnection
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError

from reconciler.model.errors import StateError
from reconciler.state.values import AuditKey, StorageFull

Ts = TypeVarTuple("Ts")
Item = TypeVar("Item")

BUSY_MS = 30_000
RESERVE_BYTES = 16 << 20
CHUNK = 500
LOG_BYTES = 64 << 20
"""Size to which SQLite truncates the write-ahead log when it restarts; otherwise the file keeps its largest size."""


CONNECT_ARGUMENTS = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 12_000,
    "connect_timeout": 10,
}
"""A PostgreSQL server that is gone is noticed within seconds."""
_LIMITS = "-c statement_timeout=30000 -c lock_timeout=30000 -c idle_in_transaction_session_timeout=10000"
"""The last: a process that is stopped inside a transaction must release its locks."""


def make_engine(url: str) -> Engine:
    """Return an engine with the settings that durability needs: WAL, synchronous=FULL and a long busy timeout; keep-alives on PostgreSQL."""
    if url.startswith("sqlite"):
        engine = create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_MS / 1000, "check_same_thread": False})

        @event.listens_for(engine, "connect")
        def _connected(connection: sqlite3.Connection, _record: Any) -> None:
            connection.isolation_level = None  # `_begun` begins transactions, with IMMEDIATE
            connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
            _write_ahead(connection)
            for pragma in (
                "synchronous=FULL",
                "foreign_keys=ON",
                "temp_store=MEMORY",
                f"journal_size_limit={LOG_BYTES}",
            ):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def _begun(connection: SqlConnection) -> None:
            # A read transaction that turns into a write fails at once in WAL mode and ignores busy_timeout: a writer begins as one.
            connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("write") else "BEGIN")

        return engine
    return create_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=True,
        pool_size=4,
        max_overflow=4,
        connect_args={**CONNECT_ARGUMENTS, "options": _LIMITS},
    )


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to WAL. It fails at once, whatever the ``busy_timeout``, when another process opens a new database at the same moment."""
    deadline = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


class Database:
    """One database and its state folder; the base of every part of `reconciler.state.store.Store`.

    A part is a class that adds the methods of one subject and needs nothing but this class. What two parts share is a function that takes the
    connection of the caller's transaction.
    """

    def __init__(self, engine: Engine, state_dir: Path) -> None:
        self._engine = engine
        self._state_dir = state_dir
        self._reserved = True
        self.dialect = engine.dialect.name
        self.signing_key: AuditKey | None = None
        """Signs new rows of the audit log (`reconciler.state.audit`); None: they are not signed."""

    def now(self) -> float:
        """Return the database's clock, in seconds since the epoch: the one that all processes share."""
        if self.dialect == "sqlite":
            return time.time()  # one machine, one clock
        with self._read() as connection:
            return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())

    @contextlib.contextmanager
    def _write(self) -> Iterator[SqlConnection]:
        """Open a write transaction. Raises `StorageFull` when the disk is full, `StateError` for any other failure."""
        try:
            with self._engine.connect().execution_options(write=True) as connection, connection.begin():
                yield connection
        except (DBAPIError, sqlite3.Error) as error:
            raise state_error(error) from error

    @contextlib.contextmanager
    def _read(self) -> Iterator[SqlConnection]:
        """Open a read transaction. Raises `StateError`."""
        try:
            with self._engine.connect() as connection, connection.begin():
                yield connection
        except (DBAPIError, sqlite3.Error) as error:
            raise state_error(error) from error

    def _need_reserve(self) -> None:
        """Raise `StorageFull` while the reserve is spent: a write that begins now might find no room for its outcome."""
        if not self._reserved:
            self._reserved = keep_reserve(self._state_dir)
        if not self._reserved:
            raise _full()

    def _spending_reserve(self, work: Callable[[], None]) -> None:
        """Do ``work``, which records the end of a write that has begun. On a full disk, give the reserve back and try again."""
        try:
            work()
        except StorageFull:
            if not drop_reserve(self._state_dir):
                raise
            self._reserved = False
            work()


def upsert(connection: SqlConnection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert or replace ``rows`` by primary key."""
    if not rows:
        return
    statement = insert_into(connection, table)
    keys = [column.name for column in table.primary_key.columns]
    others = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=others), list(rows))


def insert_new(connection: SqlConnection, table: Table, row: Mapping[str, object]) -> None:
    """Insert ``row`` unless its key exists: when several processes do so at once, one wins and all continue."""
    insert_missing(connection, table, [row])


def insert_missing(connection: SqlConnection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert those of ``rows`` whose key does not exist."""
    if rows:
        connection.execute(insert_into(connection, table).on_conflict_do_nothing(), list(rows))


def insert_into(connection: SqlConnection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT that has ``on_conflict_do_update`` and ``on_conflict_do_nothing``."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def locked(connection: SqlConnection, query: Select[*Ts], *, skip_locked: bool = False) -> Select[*Ts]:
    """Return ``query`` so that it locks the rows that it selects. SQLite has one writer and no row locks."""
    return query if connection.dialect.name == "sqlite" else query.with_for_update(skip_locked=skip_locked)


def chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Split ``items`` so that no statement has too many parameters."""
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


def newest(
    connection: SqlConnection, table: Table, states: Iterable[str], limit: int, conditions: Iterable[ColumnElement[bool]]
) -> list[bytes]:
    """Return the payloads of the ``limit`` newest rows of ``table`` in any of ``states`` that meet all ``conditions``.

    One query for each state, since an index has the rows in this order only within one state.
    """
    query = select(table.c.created_at, table.c.id, table.c.payload).where(*conditions)
    rows: list[tuple[float, str, bytes]] = []
    for state in states:
        part = query.where(table.c.state == state).order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
        rows += connection.execute(part).all()
    return [payload for _, _, payload in sorted(rows, key=lambda row: row[:2], reverse=True)[:limit]]


def drop_some(connection: SqlConnection, table: Table, where: ColumnElement[bool], limit: int) -> int:
    """Delete up to ``limit`` rows of ``table`` and return how many. Other writers wait for the transaction, so it is bounded."""
    columns = list(table.primary_key.columns)
    keys = connection.execute(select(*columns).where(where).limit(limit)).all()
    if keys:
        statement = delete(table).where(*(column == bindparam(f"key_{number}") for number, column in enumerate(columns)))
        connection.execute(statement, [{f"key_{number}": value for number, value in enumerate(row)} for row in keys])
    return len(keys)


def first_within(limit: int, sizes: Iterable[tuple[Item, int]]) -> list[Item]:
    """Return the keys of the first (key, size) whose sizes have up to ``limit`` in total, but at least one."""
    keys: list[Item] = []
    total = 0
    for key, size in sizes:
        total += size
        if keys and total > limit:
            break
        keys.append(key)
    return keys


_REFUSED_LOGIN = re.compile(
    r"FATAL: +((?:password authentication failed|no pg_hba\.conf entry|role|database|permission denied for database) [^\n]{0,200})"
)
"""What PostgreSQL answers to a login that no later attempt changes. It names the user and the database, never the password."""


def database_error(error: Exception) -> StateError | None:
    """Return the typed form of an error that the database raised; None for any other error."""
    return state_error(error) if isinstance(error, DBAPIError | sqlite3.Error) else None


def state_error(error: DBAPIError | sqlite3.Error) -> StateError:
    """Return the typed form of a database error, never with the parameters of a statement."""
    orig = error.orig if isinstance(error, DBAPIError) else error
    text = str(orig).lower()
    if "disk is full" in text or "no space left" in text or "database or disk is full" in text or "could not extend file" in text:
        return _full()
    if "locked" in text or "busy" in text:
        return StateError(
            "another process holds the database",
            code="RC7004",
            hint="It is retried; find the process that has it open with fuser(1).",
        )
    if "malformed" in text or "not a database" in text:
        return StateError(
            f"the database is damaged: {_first_line(orig)}",
            code="RC7009",
            hint="Stop the program, then run `reconciler doctor`: it names the file and the next step.",
        )
    if "disk i/o error" in text:
        return StateError(
            "the disk of the state reported an error", code="RC7072", hint="Check the disk and the file system, then start again."
        )
    if "readonly" in text or "read-only" in text or "unable to open" in text:
        return StateError("the database cannot be written", code="RC7002", hint="Check owner and mode of the state folder.")
    if (refused := _REFUSED_LOGIN.search(str(orig))) is not None:
        return StateError(
            f"the database refuses the connection: {refused[1]}",
            code="RC7007",
            hint="Check user, password and database in `state.url`, and the server's pg_hba.conf.",
        )
    if isinstance(error, OperationalError | sqlite3.OperationalError):
        return StateError(
            f"the database does not answer: {type(orig).__name__}",
            code="RC7007",
            hint="It is retried; check that it runs.",
        )
    return StateError(f"the database refused: {type(orig).__name__}: {_first_line(orig)}", code="RC7001")


def _first_line(error: BaseException | None) -> str:
    """Return the message alone: PostgreSQL shows the failed row in the lines after it."""
    return str(error).split("\n", 1)[0][:200]


def _full() -> StorageFull:
    return StorageFull(
        "the disk of the state is full; no remote write is made until there is room",
        hint="Free disk space; work continues by itself.",
    )


def keep_reserve(folder: Path) -> bool:
    """Reserve 16 MiB, so that the outcome of a running write can be recorded on a full disk. Returns False if there is no room."""
    path = folder / "reserve"
    try:
        if path.exists() and path.stat().st_size == RESERVE_BYTES:
            return True
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        except OSError:
            os.ftruncate(descriptor, 0)
            raise
        finally:
            os.close(descriptor)
    except OSError as error:
        return error.errno not in {errno.ENOSPC, errno.EDQUOT}  # any other reason: continue without a reserve
    return True


def drop_reserve(folder: Path) -> bool:
    """Free the reserve. Returns False if there was none."""
    path = folder / "reserve"
    try:
        size = path.stat().st_size
        path.unlink()
    except OSError:
        return False
    return size > 0
