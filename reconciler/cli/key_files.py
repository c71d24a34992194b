"""New files for secrets: mode 0600, never in place of another file, and gone again if what they were made for fails."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from reconciler.model.errors import ReconcilerError
from reconciler.model.secrets import SecretValue


class KeyFiles:
    """Files that are reserved before there is anything to put into them."""

    def __init__(self) -> None:
        self._open: dict[Path, int] = {}

    def require_new(self, path: Path) -> None:
        """Raise `ReconcilerError` (RC4206) if there is a file at ``path``, or if no file can be made there."""
        if os.path.lexists(path):
            raise _refused(path, "it exists already")
        parent = next(folder for folder in path.absolute().parents if folder.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise _refused(path, f"{parent} is not a folder that you may write to")

    def reserve(self, path: Path) -> None:
        """Create an empty file. Raises `ReconcilerError` (RC4206)."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            os.fchmod(descriptor, 0o600)
        except FileExistsError:
            raise _refused(path, "it exists already") from None
        except OSError as error:
            raise _refused(path, error.strerror or type(error).__name__) from None
        self._open[path] = descriptor

    def write(self, path: Path, value: SecretValue) -> None:
        """Write ``value`` into the reserved file, and wait until it is on the disk. Raises `OSError`."""
        content = value.reveal().encode()
        descriptor = self._open[path]
        while content:
            content = content[os.write(descriptor, content) :]
        os.fsync(descriptor)

    def keep(self) -> None:
        """Close the files that were written; remove those that stayed empty."""
        for path, descriptor in self._open.items():
            empty = os.fstat(descriptor).st_size == 0
            os.close(descriptor)
            if empty:
                path.unlink(missing_ok=True)
        self._open.clear()

    def discard(self) -> None:
        """Remove all files that were reserved and are not kept."""
        for path, descriptor in self._open.items():
            os.close(descriptor)
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        self._open.clear()


def _refused(path: Path, reason: str) -> ReconcilerError:
    return ReconcilerError(
        f"{path} cannot be created: {reason}",
        code="RC4206",
        hint="Secrets never replace a file. Remove it if nothing uses it, or choose another folder: `--out DIR`.",
    )


__all__ = ["KeyFiles"]
