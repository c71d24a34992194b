"""Times: seconds since the epoch inside the program, RFC 3339 in manifests, in the status file and on the wire. Pure."""

from __future__ import annotations

import datetime as dt


def iso(at: float) -> str:
    """Return ``at`` (seconds since the epoch) as RFC 3339 in UTC, in whole seconds; empty for 0."""
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else ""


def epoch_of(text: str) -> float:
    """Return an RFC 3339 time (UTC if it has no offset) as seconds since the epoch. Raises ValueError for any other text."""
    try:
        moment = dt.datetime.fromisoformat(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)).timestamp()
    except OverflowError as error:
        raise ValueError(str(error)) from None


def has_passed(until: str | None, now: float) -> bool:
    """Whether the RFC 3339 time ``until`` is not after ``now`` (seconds since the epoch). None and an empty text never pass."""
    return bool(until) and epoch_of(str(until)) <= now
