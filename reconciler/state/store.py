"""The store: opened once a process, closed at its end. The rest of it lies in the modules it is made of."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from pathlib import Path

from sqlalchemy import delete, inspect, select, text

from reconciler.model.errors import StateError
from reconciler.state.base import keep_reserve, make_engine
from reconciler.state.cache import BlobCache
from reconciler.state.findings import Findings
from reconciler.state.migrate import HEAD, current_revision, known_revisions, upgrade
from reconciler.state.routing import Routings
from reconciler.state.tables import meta
from reconciler.state.turned import Turned

_HEADER = b"SQLite format 3\x00"


class Store(Findings, Routings, Turned):
    """The state of one installation; sync, and on SQLite used from one thread at a time (see `reconciler.engine.deps.StateThread`)."""

    _cache: BlobCache | None = None

    @classmethod
    def open(cls, url: str, *, state_dir: Path, create: bool = True) -> Store:
        """Open, check and migrate. Raises `StateError` when it is damaged (the file stays untouched), newer, or missing with ``create`` False."""
        file = _file(url)
        if file is not None:
            _prepare(file, create=create)
        engine = make_engine(url)
        store = cls(engine, state_dir)
        try:
            store._migrate(file, create=create)
            if create:
                store._name_incarnation()
        except BaseException:
            engine.dispose()
            raise
        if create and file is not None:
            store._reserved = keep_reserve(state_dir)
        return store

    def _migrate(self, file: Path | None, *, create: bool) -> None:
        with self._read() as connection:
            tables = inspect(connection).get_table_names()  # first: a peer's migration may be committed between the two
            found = current_revision(connection)
        if found == HEAD:
            return
        if found is not None and found not in known_revisions():
            raise StateError(
                f"the state was written by a newer version (schema {found}, this program knows {HEAD})",
                code="RC7008",
                hint="Use the newer version again, or restore the backup from before the upgrade.",
            )
        if found is None and tables and "meta" in tables:
            raise StateError(
                "the state has tables but no schema version",
                code="RC7001",
                hint="Restore a backup, or use `reconciler rebuild` on a new state.",
            )
        if not create and found is None:
            raise StateError("there is no state yet", code="RC7021", hint="It is made by the first `reconciler run` or `apply`.")
        if file is not None and found is not None:
            back_up(file, file.with_suffix(f".before-{HEAD}.db"))
        with self._write() as connection:
            upgrade(connection)

    def _name_incarnation(self) -> None:
        """Give a new state its id; of several processes that open it at once, one chooses."""
        if self.get_meta("incarnation") is None:
            with self._write() as connection:
                self._insert_new(connection, meta, {"key": "incarnation", "value": secrets.token_hex(8)})

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

    def get_meta(self, key: str) -> str | None:
        """Return a single value, or None."""
        with self._read() as connection:
            row = connection.execute(select(meta.c.value).where(meta.c.key == key)).first()
        return str(row[0]) if row is not None else None

    def set_meta(self, key: str, value: str | None) -> None:
        """Store a single value; None drops it."""
        if value is not None and self.get_meta(key) == value:
            return
        with self._write() as connection:
            if value is None:
                connection.execute(delete(meta).where(meta.c.key == key))
            else:
                self._upsert(connection, meta, [{"key": key, "value": value}])

    def blob_cache(self) -> BlobCache:
        """Return the disposable cache of parsed files."""
        if self._cache is None:
            self._cache = BlobCache(self._state_dir / "cache.db")
        return self._cache


def _file(url: str) -> Path | None:
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


def _prepare(file: Path, *, create: bool) -> None:
    """Make the folder and file with narrow modes; refuse a damaged file before anything could change it."""
    if not file.exists():
        if not create:
            raise StateError(
                f"there is no state at {file}", code="RC7021", hint="It is made by the first `reconciler run` or `apply`."
            )
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise StateError(
                f"the state {file} cannot be made: {error.strerror}",
                code="RC7002",
                hint="Give the folder to this user, or name another in state.url.",
            ) from None
        return
    if file.stat().st_mode & 0o077:
        file.chmod(0o600)
    with file.open("rb") as opened:
        header = opened.read(16)
    if header and header != _HEADER:
        raise damaged(file, "its header is not SQLite's")
    try:
        connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)
        try:
            result = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        if "locked" in str(error) or "unable to open" in str(error):
            return  # another process writes; what is wrong, if anything, is found when it is opened
        raise damaged(file, str(error)) from None
    if result != "ok":
        raise damaged(file, str(result))


def back_up(file: Path, copy: Path) -> None:
    """Copy a database in use to ``copy``, whole (its write-ahead log included) or not at all; a copy that is there stays."""
    if copy.exists():
        return
    part = copy.with_name(copy.name + ".part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_WRONLY, 0o600))
    with contextlib.closing(sqlite3.connect(file, timeout=30)) as source, contextlib.closing(sqlite3.connect(part)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
    descriptor = os.open(part, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    part.rename(copy)


def damaged(file: Path, reason: str) -> StateError:
    """Return the error of a database that fails its own check."""
    return StateError(
        f"the state {file} is damaged: {reason}",
        code="RC7009",
        hint=f"Nothing was changed. Restore {_backups(file)}, or move it away (mv {file} {file}.damaged) and run `reconciler rebuild`: "
        "every object is found again by its marker.",
    )


def _backups(file: Path) -> str:
    found = sorted(file.parent.glob(f"{file.stem}.before-*.db"))
    return f"a backup of it (from before the upgrade: {found[-1]})" if found else "a backup of it"


__all__ = ["Store", "damaged"]
