"""The folder of a demo: never one with foreign files, never one that another demo uses; what a killed demo left is removed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from reconciler.model.errors import UsageError

MARK = ".reconciler-demo"
"""A file that the demo locks while it uses the folder."""
PREFIX = "reconciler-demo-"
DRAIN_S = 40.0
"""Longest time that a daemon takes to end."""
YOUNG_S = 60.0
"""A younger mark may not be locked yet."""


@contextlib.contextmanager
def demo_folder(chosen: str | None) -> Iterator[Path]:
    """Claim a folder for a demo: ``chosen``, which stays, or a temporary one. Raises `UsageError` if ``chosen`` cannot be used."""
    if chosen is None:
        _remove_abandoned(Path(tempfile.gettempdir()))
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    else:
        folder = Path(chosen)
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"--dir {folder}: this is not a folder")
        folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    with _claimed(folder):
        try:
            yield folder
        finally:
            if chosen is None:
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    names = {path.name for path in folder.iterdir()}
    if names and MARK not in names:
        raise UsageError(
            f"--dir {folder}: the folder is not empty, and no demo made it", hint="Name a new or empty folder: the demo fills it."
        )
    with (folder / MARK).open("a") as mark:
        if not _locked(mark.fileno()):
            raise UsageError(
                f"--dir {folder}: another demo is using the folder", hint="Stop it with Ctrl-C, or name another folder."
            )
        _await_daemon(folder / "state" / "lock")
        for name in names - {MARK}:
            _remove(folder / name)
        yield


def _await_daemon(lock: Path) -> None:
    """Wait until the daemon of a killed demo has ended: the kernel has signalled it."""
    deadline = time.monotonic() + DRAIN_S
    with contextlib.suppress(FileNotFoundError), lock.open("r+") as file:
        while not _locked(file.fileno()):
            if time.monotonic() > deadline:
                raise UsageError(
                    f"{lock}: the daemon of an earlier demo is still running", hint="End it, or name another folder."
                )
            time.sleep(0.1)


def _remove_abandoned(parent: Path) -> None:
    """Remove the temporary folders of demos that were killed: no process holds their locks."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / MARK).open("r+") as mark:
                if time.time() - os.fstat(mark.fileno()).st_mtime > YOUNG_S and _locked(mark.fileno()):
                    shutil.rmtree(folder, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _locked(descriptor: int) -> bool:
    """Whether this process got the lock; the kernel releases it when the process ends, however it ends."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
