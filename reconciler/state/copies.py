"""Copies of a SQLite database in use: whole files, or none."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reconciler.durable import make_durable
from reconciler.failpoints import failpoint
from reconciler.model.errors import StateError
from reconciler.state.values import StorageFull


@dataclass(frozen=True, slots=True)
class Copy:
    """A finished copy."""

    file: Path
    size: int
    """Bytes."""
    sha256: str


def _accept(_copy: Path) -> None: ...


def copy_database(file: Path, target: Path, *, check: Callable[[Path], None] = _accept) -> Copy:
    """Copy the database ``file``, which may be in use, to ``target``; an existing ``target`` is replaced at the end, at once.

    ``check`` looks at the finished copy before that; what it raises leaves ``target`` as it was.

    The copy is one moment of the database, with all that was committed, and without a log beside it. Writers do not wait for it. Raises
    `StateError` and OSError.
    """
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=30)) as source, contextlib.closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log
        check(part)
        digest = _digest(part)
        size = part.stat().st_size
        part.replace(target)
        make_durable(target.parent)
    except sqlite3.OperationalError as error:
        if "disk is full" in str(error):
            raise StorageFull(
                f"there is no room for {target}, a copy of {file}",
                hint="No file was changed. Free disk space, or name another file.",
            ) from None
        raise
    finally:
        part.unlink(missing_ok=True)
    return Copy(target, size, digest)


def copy_before_upgrade(file: Path, head: str) -> Path:
    """Copy a database before its schema changes, next to it. An older copy of the same name is replaced: it is from an earlier upgrade.

    Raises `StorageFull` if there is no room for the copy and for the migration, which writes the changed tables once more.
    """
    size = sum(part.stat().st_size for part in (file, file.with_name(file.name + "-wal")) if part.exists())
    free = shutil.disk_usage(file.parent).free
    if free < 2 * size:
        raise StorageFull(
            f"the upgrade of {file} needs {megabytes(2 * size)} of free disk space, and {megabytes(free)} are free",
            hint="Nothing was changed. Free disk space, then start again; the older version still works with this state.",
        )
    target = file.with_suffix(f".before-{head}.db")
    copy = copy_database(file, target.with_name(f".{target.name}.new"))
    if schema_in(copy.file) == head:  # another command has migrated it meanwhile, and has made the copy
        copy.file.unlink()
    else:
        copy.file.replace(target)
        make_durable(target.parent)
    failpoint("state-copied")
    return target


def megabytes(size: int) -> str:
    """Return ``size`` (bytes) in MiB, rounded up."""
    return f"{-(-size // (1 << 20))} MiB"


def digest_of(file: Path) -> str:
    """Return the SHA-256 of ``file`` in hex. Raises OSError."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _digest(part: Path) -> str:
    """Make ``part`` durable and return its SHA-256."""
    make_durable(part)
    return digest_of(part)


def schema_in(file: Path) -> str:
    """Return the schema of a database file that is not in use; empty if it is no state. Raises `StateError`."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return ""
        raise StateError(f"{file} cannot be read: {error}", code="RC7002", hint="Check its owner and mode.") from None
    return str(row[0]) if row else ""
