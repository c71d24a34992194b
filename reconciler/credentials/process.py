"""Make this process's memory and files harder to read for others of the same user."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4  # prctl(2)


def harden() -> None:
    """Set umask 077, no core dumps, and not dumpable: ``/proc/<pid>/environ`` and ``mem`` become unreadable to the same user."""
    os.umask(0o077)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def end_with_parent() -> Callable[[], None] | None:
    """Return what makes a new process get SIGTERM when its parent dies, however that happens; for ``Popen(preexec_fn=…)``.

    The kernel does it, on Linux; elsewhere there is nothing of the kind. Start the process from a thread that lives as long.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl, parent = ctypes.CDLL(None, use_errno=True).prctl, os.getpid()  # looked up here: a child may not load libraries

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # died meanwhile
            os._exit(128 + signal.SIGTERM)

    return ask
