"""Make this process's memory and files harder to read for others of the same user."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource

PR_SET_DUMPABLE = 4  # prctl(2)


def harden() -> None:
    """Set umask 077, no core dumps, and not dumpable: ``/proc/<pid>/environ`` and ``mem`` become unreadable to the same user."""
    os.umask(0o077)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
