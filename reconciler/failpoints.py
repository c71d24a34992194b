"""Named points at which a test may kill the process, to prove that any crash is survived. Off unless asked for.

``RECONCILER_FAILPOINTS=1`` compiles them in; ``RECONCILER_FAILPOINT=name[:n]`` sends SIGKILL at the n-th hit of one.
"""

from __future__ import annotations

import os
import signal

KNOWN = (
    "apply-before-begin",
    "apply-after-begin",
    "apply-before-settle",
    "apply-after-settle",
    "apply-between-delete-and-create",
    "http-before-send",
    "http-after-send",
    "state-begin-before-commit",
    "state-begin-after-commit",
    "state-settle-before-commit",
    "state-settle-after-commit",
    "state-copied",
    "state-migrate-step",
    "state-migrate",
    "state-migrated",
    "loop-git",
    "inbox-before-commit",
    "inbox-after-commit",
    "events-before-settle",
    "events-after-settle",
    "execution-after-intent",
    "execution-after-start",
    "execution-after-record",
    "execution-before-finish",
    "execution-after-finish",
    "report-before-send",
    "report-after-send",
    "notice-before-send",
    "notice-after-send",
    "notice-after-record",
    "review-after-intent",
    "review-after-check",
    "review-after-open",
    "review-after-plan",
    "review-after-close",
    "review-after-comment",
    "review-after-cancel",
    "review-before-grant",
    "telemetry-after-send",
)
"""Every name in the code; a test fails when one is missing here or has no case."""

_ENABLED = os.environ.get("RECONCILER_FAILPOINTS") == "1"
_NAME, _, _COUNT = os.environ.get("RECONCILER_FAILPOINT", "").partition(":")
_left = int(_COUNT) if _COUNT.isdigit() else 1
if _ENABLED and _NAME and _NAME not in KNOWN:
    raise ValueError(f"RECONCILER_FAILPOINT: no such failpoint: {_NAME!r}")  # a test that kills nothing proves nothing


def known() -> tuple[str, ...]:
    """Return every name there is, for tests that go through them all."""
    return KNOWN


def failpoint(name: str) -> None:
    """End the process with SIGKILL if this is the chosen point; otherwise nothing."""
    global _left
    if not _ENABLED or name != _NAME:
        return
    _left -= 1
    if _left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
