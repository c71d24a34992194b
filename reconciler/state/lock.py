"""One process for each state folder: flock(2), which the kernel releases however the process ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from reconciler.model.errors import StateError, storage_error


class StateLock:
    """Lock of a state folder; raises `StateError` naming the holder's pid when it is held."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Acquire the lock, or raise `StateError` at once."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise storage_error(error, f"the state folder {self._path.parent}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StateError(
                f"the state in {self._path.parent} is held by pid {holder}",
                code="RC7003",
                hint="Use the running daemon (its commands work while it runs), or stop it first.",
            ) from None
        with contextlib.suppress(OSError):  # a full disk: the lock holds, but an error cannot name its holder
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
                os.close(self._descriptor)
            self._descriptor = None


def holder_of(folder: Path) -> int:
    """Return the pid of the process that holds the lock of ``folder``; 0 if none does, or that is not known."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        return int(pid) if pid.isdecimal() else 0
    finally:
        os.close(descriptor)
    return 0
