"""The store: one class that joins the parts, and the life of the database: open, check, migrate, close."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import delete, inspect, select, text

from reconciler.failpoints import failpoint
from reconciler.model.errors import StateError, storage_error
from reconciler.state.activity import ActivityStore
from reconciler.state.approvals import ApprovalStore
from reconciler.state.attempts import AttemptStore
from reconciler.state.audit import AuditStore
from reconciler.state.backlog import BacklogStore
from reconciler.state.cache import BlobCache
from reconciler.state.claims import ClaimStore
from reconciler.state.clock_shift import ClockShiftStore
from reconciler.state.copies import copy_before_upgrade
from reconciler.state.credentials import CredentialStore
from reconciler.state.database import insert_new, keep_reserve, make_engine, upsert
from reconciler.state.executions import ExecutionStore
from reconciler.state.files import ANCHOR, discard, fault_of, make_database, traces_of
from reconciler.state.inbox import InboxStore
from reconciler.state.incidents import IncidentStore
from reconciler.state.joins import JoinStore
from reconciler.state.journal import JournalStore
from reconciler.state.leases import LeaseStore
from reconciler.state.lock import holder_of
from reconciler.state.migrate import HEAD, current_revision, known_revisions, make_schema, upgrade, wait_for_peers
from reconciler.state.notice_log import NoticeLogStore
from reconciler.state.notices import NoticeStore
from reconciler.state.objects import ObjectStore
from reconciler.state.observations import ObservationStore
from reconciler.state.oidc_keys import OidcKeyStore
from reconciler.state.queue import QueueStore
from reconciler.state.reports import ReportStore
from reconciler.state.requests import RequestStore
from reconciler.state.restoration import RestorationStore
from reconciler.state.reviews import ReviewStore
from reconciler.state.routing import RoutingStore
from reconciler.state.sessions import SessionStore
from reconciler.state.spans import SpanStore
from reconciler.state.statuses import StatusStore
from reconciler.state.tables import meta
from reconciler.state.versions import VersionStore, may_use, refuse_alive, sign, too_new


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A migration of the schema."""

    before: str
    after: str
    duration_s: float = 0.0
    copy: Path | None = None
    """The copy of the database from before; None on PostgreSQL."""


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
    BacklogStore,
    RestorationStore,
    VersionStore,
    SpanStore,
):
    """The state of one installation. It is synchronous; on SQLite one thread at a time uses it (`reconciler.state.async_store.AsyncStore`)."""

    _cache: BlobCache | None = None
    upgraded: Upgrade | None = None
    """What `open` migrated."""

    @classmethod
    def open(
        cls,
        url: str,
        *,
        state_dir: Path,
        create: bool = True,
        key_file: Path | None = None,
        announce: Callable[[Upgrade], None] = lambda _: None,
    ) -> Store:
        """Open, check and migrate. Raises `StateError` when it is damaged (the file stays untouched), newer, or missing with ``create`` False.

        ``key_file``: when the master key exists, an empty database file is not a new state. ``announce`` is called before a migration,
        which may take minutes.
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
            store._migrate(file, create=create, fresh=fresh, announce=announce)
            if create:
                store._name_incarnation()
        except BaseException:
            engine.dispose()
            raise
        if create and file is not None:
            store._reserved = keep_reserve(state_dir)
        return store

    def _migrate(self, file: Path | None, *, create: bool, fresh: bool, announce: Callable[[Upgrade], None]) -> None:
        with self._read() as connection:
            tables = inspect(connection).get_table_names()  # first: a peer's migration may be committed between the two
            schema = current_revision(connection)
            if schema == HEAD:
                return
            if schema is not None and schema not in known_revisions():
                if may_use(connection):
                    return
                copies = sorted(file.parent.glob(f"{file.stem}.before-*.db")) if file is not None else []
                raise too_new(connection, schema, copies[-1] if copies else None)
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
        if schema is None:
            with self._write() as connection:
                self._upgrade(connection)
            return
        if file is not None:
            _refuse_held(self._state_dir)
        announce(Upgrade(schema, HEAD))
        began = time.monotonic()
        copy = copy_before_upgrade(file, HEAD) if file is not None else None
        with self._write() as connection:
            migrated = self._upgrade(connection)
        failpoint("state-migrated")
        if migrated:
            self.upgraded = Upgrade(schema, HEAD, time.monotonic() - began, copy)

    def _upgrade(self, connection: SqlConnection) -> bool:
        """Make or upgrade the schema in the transaction of ``connection``; False if another process did so meanwhile."""
        if self.dialect == "postgresql":
            wait_for_peers(connection)
        schema = current_revision(connection)
        if schema is not None and schema >= HEAD:
            return False
        if schema is None:
            make_schema(connection)
        else:
            refuse_alive(connection, schema)
            upgrade(connection)
        sign(connection)
        return True

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


def _refuse_held(folder: Path) -> None:
    """Raise `StateError` if another process, an older daemon, works on the state: it would lose its tables under its feet."""
    pid = holder_of(folder)
    if pid and pid != os.getpid():
        raise StateError(
            f"the state in {folder} is used by pid {pid}, which runs an older version",
            code="RC7003",
            hint="Nothing was changed. Restart that daemon with this version, which upgrades the state, and try again.",
        )


def emptied(file: Path, traces: Sequence[Path]) -> StateError:
    """Return the error for an empty file in place of a database."""
    return StateError(
        f"the state {file} is empty, but {traces[0].name} shows that there was one",
        code="RC7070",
        hint=f"Nothing was changed. Restore {_backups(file)}, or remove it (rm {file}) and run `reconciler recover`: every object is "
        "found by its marker.",
    )


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


__all__ = ["Store", "Upgrade", "damaged"]
