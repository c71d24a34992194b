"""The forms in which GitHub writes a time, as seconds since the epoch. Pure.

RFC 3339 with ``Z``, with an offset, with fractions; and seconds as a number (``repository.pushed_at`` of a push).
"""

from __future__ import annotations

import datetime
from typing import Any

_END = 253_402_300_800.0
"""The year 10000: no clock of a provider is there."""


def epoch_of(value: Any) -> float | None:
    """Return when ``value`` is, in seconds since the epoch; None for what is no time."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            moment = datetime.datetime.fromisoformat(value)
            value = (moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
    return float(value) if isinstance(value, int | float) and 0 < value < _END else None


def stamp_of(at: float) -> str:
    """Return ``at`` (seconds since the epoch) as GitHub's search takes it, in whole seconds: ``2026-11-21T05:38:12Z``."""
    return datetime.datetime.fromtimestamp(int(at), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
