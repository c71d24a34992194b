"""The files of the state folder: their permissions, their integrity, and how disposable ones are removed."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from reconciler.model.errors import StateError, storage_error

_HEADER = b"SQLite format 3\x00"
_PARTS = ("", "-wal", "-shm")
ANCHOR = "audit.anchor"
PRIVATE = ("state.db", "cache.db", "lock", "reserve", ANCHOR)
"""Files that only their owner may read. The mode of `master.key` is refused, not repaired: others may have read it already."""
_WRITABLE_BY_OTHERS = 0o022


def set_anchor_aside(folder: Path) -> None:
    """Keep the anchor of the audit log from before a restore: it is the only proof of the rows that the backup lacks. Raises OSError."""
    anchor = folder / ANCHOR
    if anchor.exists():
        anchor.replace(anchor.with_name(f"{ANCHOR}.before-restore"))


def make_database(file: Path) -> None:
    """Create a database without tables, completely or not at all, so that an empty file always means lost content. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    try:
        with contextlib.closing(sqlite3.connect(part)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")  # writes the header
        with contextlib.suppress(FileExistsError):  # another process has created it
            os.link(part, file)
    except sqlite3.Error:
        raise OSError(28, "No space left on device", str(file)) from None
    finally:
        for suffix in _PARTS:
            part.with_name(part.name + suffix).unlink(missing_ok=True)


def files_in_use(file: Path, folder: Path) -> list[Path]:
    """Return the files that a process with the database ``file`` and the state folder ``folder`` keeps."""
    names = [folder / (name + suffix) for name in (*PRIVATE, "snapshot.json") for suffix in _PARTS]
    return [*names, *(file.with_name(file.name + suffix) for suffix in (*_PARTS, "-journal"))]


def traces_of(file: Path, key_file: Path | None) -> list[Path]:
    """Return the existing files that only a state leaves behind; ``key_file`` counts if it is given."""
    siblings = [file.parent / name for name in (ANCHOR, "snapshot.json")]
    return [path for path in ([key_file] if key_file is not None else []) + siblings if path.exists()]


def fault_of(file: Path) -> str:
    """Return why ``file`` is a damaged database; empty when it is intact, is empty, or cannot be checked now. Raises OSError."""
    with file.open("rb") as opened:
        header = opened.read(16)
    if header and header != _HEADER:
        return "its header is not SQLite's"
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as connection:
            result = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        # Another process writes, or the log cannot be opened: opening the database reports what is wrong.
        return "" if "locked" in str(error) or "unable to open" in str(error) else str(error)
    return "" if result == "ok" else result


def discard(path: Path) -> None:
    """Remove a disposable file. A folder in its place is moved aside, since its content may be needed."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            path.rename(path.with_name(f"{path.name}.other-{secrets.token_hex(4)}"))
        else:
            path.unlink(missing_ok=True)


def discard_database(file: Path) -> None:
    """Remove a disposable database with its log and index files."""
    for suffix in _PARTS:
        discard(file.with_name(file.name + suffix))


def remove_leftovers(folder: Path) -> None:
    """Remove what earlier versions kept in the state folder: the database of a queue, with nothing that the state does not contain."""
    discard_database(folder / "engine.db")


# -- permissions --------------------------------------------------------------------------------------------------------


def secure(folder: Path) -> list[str]:
    """Make the state folder writable, and its private files readable, for its owner only. Returns the repairs.

    Raises `StateError` if that is not possible: a user who can write there can replace the state.
    """
    repaired = []
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        info = folder.stat()
        if not stat.S_ISDIR(info.st_mode):
            raise NotADirectoryError(20, "Not a directory", str(folder))
        if info.st_mode & _WRITABLE_BY_OTHERS:
            _narrow_folder(folder, info)
            repaired.append(f"{folder}: mode {stat.S_IMODE(info.st_mode):04o} to {stat.S_IMODE(folder.stat().st_mode):04o}")
    except OSError as error:
        raise storage_error(error, f"the state folder {folder}") from None
    for path, mode in too_open(folder):
        try:
            path.chmod(0o600)
        except OSError:
            raise StateError(
                f"{path} has mode {mode:04o} and belongs to another user", code="RC7071", hint=f"chown {os.geteuid()} {path}"
            ) from None
        repaired.append(f"{path}: mode {mode:04o} to 0600")
    return repaired


def _narrow_folder(folder: Path, info: os.stat_result) -> None:
    mode = stat.S_IMODE(info.st_mode)
    if info.st_mode & stat.S_ISVTX:
        raise StateError(
            f"the state folder {folder} has mode {mode:04o}: it is shared with other users",
            code="RC7071",
            hint="Use a folder of its own: name another in state.url and status.file.",
        )
    try:
        folder.chmod(mode & ~_WRITABLE_BY_OTHERS)
    except OSError:
        raise StateError(
            f"the state folder {folder} has mode {mode:04o}: other users may replace its files, and it belongs to uid {info.st_uid}",
            code="RC7071",
            hint=f"chown {os.geteuid()} {folder} && chmod 700 {folder}",
        ) from None


def too_open(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield private files that other users may read or write, with their modes."""
    for name in PRIVATE:
        for suffix in _PARTS:
            path = folder / (name + suffix)
            with contextlib.suppress(FileNotFoundError):
                info = path.lstat()
                if stat.S_ISREG(info.st_mode) and info.st_mode & 0o077:
                    yield path, stat.S_IMODE(info.st_mode)
