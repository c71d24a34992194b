"""What is on the disk, and not only in the cache of the kernel."""

from __future__ import annotations

import os
from pathlib import Path


def make_durable(path: Path) -> None:
    """Write a file, or the names in a folder, to the disk (fsync(2)). Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = ["make_durable"]
