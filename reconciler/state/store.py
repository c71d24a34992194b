"""The store: one class that joins the parts, and the life of the database: open, check, migrate, close."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import stat
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import delete, inspect, select, text

from reconciler.model.errors import StateError, storage_error
from reconciler.state.activity import ActivityStore
from reconciler.state.approvals import ApprovalStore
from reconciler.state.attempts import AttemptStore
from reconciler.state.audit import AuditStore
from reconciler.state.cache import BlobCache
from reconciler.state.claims import ClaimStore
from reconciler.state.clock_shift import ClockShiftStore
from reconciler.state.credentials import CredentialStore
from reconciler.state.database import insert_new, keep_reserve, make_engine, upsert
from reconciler.state.executions import ExecutionStore
from reconciler.state.files import ANCHOR, discard, fault_of, make_database, traces_of
from reconciler.state.inbox import InboxStore
from reconciler.state.incidents import IncidentStore
from reconciler.state.joins import JoinStore
from reconciler.state.journal import JournalStore
from reconciler.state.leases import LeaseStore
from reconciler.state.migrate import HEAD, current_revision, known_revisions, make_schema, upgrade
from reconciler.state.notice_log import NoticeLogStore
from reconciler.state.notices import NoticeStore
from reconciler.state.objects import ObjectStore
from reconciler.state.observations import ObservationStore
from reconciler.state.oidc_keys import OidcKeyStore
from reconciler.state.queue import QueueStore
from reconciler.state.reports import ReportStore
from reconciler.state.requests import RequestStore
from reconciler.state.reviews import ReviewStore
from reconciler.state.routing import RoutingStore
from reconciler.state.sessions import SessionStore
from reconciler.state.statuses import StatusStore
from reconciler.state.tables import meta


class Store(
    StatusStore,
    ObservationStore,
    ActivityStore,
    ApprovalStore,
    JournalStore,
    ObjectStore,
    AuditStore,
    LeaseStore,
    InboxStore,
    AttemptStore,
    RoutingStore,
    JoinStore,
    QueueStore,
    ExecutionStore,
    ReportStore,
    RequestStore,
    ClaimStore,
    ClockShiftStore,
    OidcKeyStore,
    CredentialStore,
    IncidentStore,
    NoticeStore,
    NoticeLogStore,
    ReviewStore,
    SessionStore,
):
    """The state of one installation. It is synchronous; on SQLite one thread at a time uses it (`reconciler.state.async_store.AsyncStore`)."""

    _cache: BlobCache | None = None

    @classmethod
    def open(cls, url: str, *, state_dir: Path, create: bool = True, key_file: Path | None = None) -> Store:
        """Open, check and migrate. Raises `StateError` when it is damaged (the file stays untouched), newer, or missing with ``create`` False.

        ``key_file``: when the master key exists, an empty database file is not a new state.
        """
        file = _file(url)
        fresh = file is not None and not file.exists()  # a state that was removed may be rebuilt in its place
        if file is not None:
            try:
                _prepare(file, key_file, create=create)
            except OSError as error:
                raise storage_error(error, f"the state {file}") from None
        engine = make_engine(url)
        store = cls(engine, state_dir)
        try:
            store._migrate(file, create=create, fresh=fresh)
            if create:
                store._name_incarnation()
        except BaseException:
            engine.dispose()
            raise
        if create and file is not None:
            store._reserved = keep_reserve(state_dir)
        return store

    def _migrate(self, file: Path | None, *, create: bool, fresh: bool) -> None:
        with self._read() as connection:
            tables = inspect(connection).get_table_names()  # first: a peer's migration may be committed between the two
            schema = current_revision(connection)
        if schema == HEAD:
            return
        if schema is not None and schema not in known_revisions():
            raise StateError(
                f"the state was written by a newer version (schema {schema}, this program knows {HEAD})",
                code="RC7008",
                hint="Use the newer version again, or restore the backup from before the upgrade.",
            )
        if schema is None and tables and "meta" in tables:
            raise StateError(
                "the state has tables but no schema version",
                code="RC7001",
                hint="Restore a backup, or use `reconciler recover` on a new state.",
            )
        if file is not None and not fresh and schema is None and not tables and (traces := traces_of(file, None)):
            raise emptied(file, traces)
        if not create and schema is None:
            raise StateError("there is no state yet", code="RC7021", hint="The first `reconciler run` or `apply` creates it.")
        if file is not None and schema is not None:
            back_up(file, file.with_suffix(f".before-{HEAD}.db"))
        with self._write() as connection:
            (make_schema if schema is None else upgrade)(connection)

    def _name_incarnation(self) -> None:
        """Give a new state its id: when several processes open it at once, one of them chooses. The old anchor is removed."""
        if self.get_meta("incarnation") is None:
            discard(self._state_dir / ANCHOR)
            with self._write() as connection:
                insert_new(connection, meta, {"key": "incarnation", "value": secrets.token_hex(8)})

    def close(self) -> None:
        """Close every connection."""
        if self._cache is not None:
            self._cache.close()
        self._engine.dispose()

    def check(self) -> None:
        """Check the database's own structure; raises `StateError`."""
        if self.dialect == "sqlite":
            with self._read() as connection:
                result = connection.execute(text("PRAGMA quick_check(1)")).scalar_one()
            if result != "ok":
                raise damaged(Path(str(self._engine.url.database)), str(result))
        else:
            with self._read() as connection:
                connection.execute(text("SELECT 1"))

    def checkpoint(self) -> None:
        """Move the write-ahead log into the database, as far as that is possible without waiting."""
        if self.dialect == "sqlite":
            with self._engine.connect() as connection:
                raw = connection.connection.driver_connection
                if raw is not None:  # outside a transaction: SQLite refuses it inside one
                    raw.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def get_meta(self, key: str) -> str | None:
        """Return the value of ``key``, or None."""
        with self._read() as connection:
            return connection.execute(select(meta.c.value).where(meta.c.key == key)).scalar()

    def set_meta(self, key: str, value: str | None) -> None:
        """Store the value of ``key``; None deletes it."""
        if value is not None and self.get_meta(key) == value:
            return
        with self._write() as connection:
            if value is None:
                connection.execute(delete(meta).where(meta.c.key == key))
            else:
                upsert(connection, meta, [{"key": key, "value": value}])

    def blob_cache(self) -> BlobCache:
        """Return the disposable cache of parsed files."""
        if self._cache is None:
            self._cache = BlobCache(self._state_dir / "cache.db")
        return self._cache


def _file(url: str) -> Path | None:
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


def _prepare(file: Path, key_file: Path | None, *, create: bool) -> None:
    """Create folder and file with narrow modes; refuse a damaged file before anything changes it."""
    try:
        info = file.stat()
    except FileNotFoundError:
        if not create:
            raise StateError(
                f"there is no state at {file}", code="RC7021", hint="The first `reconciler run` or `apply` creates it."
            ) from None
        make_database(file)
        return
    if not stat.S_ISREG(info.st_mode):
        raise StateError(
            f"the state {file} is not a file",
            code="RC7001",
            hint=f"Move it away (mv {file} {file}.other), or name the database's file in state.url.",
        )
    if info.st_size == 0 and (traces := traces_of(file, key_file)):
        raise emptied(file, traces)
    if info.st_mode & 0o077:
        file.chmod(0o600)
    reason = fault_of(file)
    if reason:
        raise damaged(file, reason)


def emptied(file: Path, traces: Sequence[Path]) -> StateError:
    """Return the error for an empty file in place of a database."""
    return StateError(
        f"the state {file} is empty, but {traces[0].name} shows that there was one",
        code="RC7070",
        hint=f"Nothing was changed. Restore {_backups(file)}, or remove it (rm {file}) and run `reconciler recover`: every object is "
        "found by its marker.",
    )


def back_up(file: Path, copy: Path) -> None:
    """Copy a database in use to ``copy``, complete with its write-ahead log or not at all. An existing copy stays."""
    if copy.exists():
        return
    part = copy.with_name(copy.name + ".part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_WRONLY, 0o600))
    with contextlib.closing(sqlite3.connect(file, timeout=30)) as source, contextlib.closing(sqlite3.connect(part)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")  # one file, without a log
    descriptor = os.open(part, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    part.rename(copy)


def damaged(file: Path, reason: str) -> StateError:
    """Return the error for a database that fails its integrity check."""
    return StateError(
        f"the state {file} is damaged: {reason}",
        code="RC7009",
        hint=f"Nothing was changed. Restore {_backups(file)}, or move it away (mv {file} {file}.damaged) and run `reconciler recover`: "
        "every object is found by its marker.",
    )


def _backups(file: Path) -> str:
    backups = sorted(file.parent.glob(f"{file.stem}.before-*.db"))
    return f"a backup of it (from before the upgrade: {backups[-1]})" if backups else "a backup of it"


__all__ = ["Store", "damaged"]
