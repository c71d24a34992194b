"""Protects the memory and files of this process from other processes of the same user."""

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
    """Return a function for ``Popen(preexec_fn=…)`` that makes the kernel send SIGTERM to the new process when its parent dies.

    It returns None on systems other than Linux. The thread that starts the process must live as long as the process.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl, parent = ctypes.CDLL(None, use_errno=True).prctl, os.getpid()  # here, since the child must not load libraries

    def request_signal() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the call
            os._exit(128 + signal.SIGTERM)

    return request_signal
