"""The four forms in which Semaphore writes a time, as seconds since the epoch. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

_END = 253_402_300_800.0
"""The year 10000: no clock of a provider is there."""


def epoch_of(value: Any) -> float | None:
    """Return when ``value`` is; None for no time, and for 1970, which is how the provider says "never".

    Forms: ``"1571083003"`` (gateway), ``{"seconds", "nanos"}`` (lists), ``"2019-10-14 12:11:47.824128Z"`` (a pipeline),
    ``"2019-12-10T13:09:54Z"`` (webhooks).
    """
    seconds = _seconds(value)
    return seconds if seconds is not None and 0 < seconds < _END else None


def iso_of(value: Any) -> str | None:
    """Return ``value`` as webhooks write it, in whole seconds (1970 for "never"); None for what is no time."""
    seconds = _seconds(value)
    if seconds is None or not 0 <= seconds < _END:
        return None
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(value: Any) -> float | None:
    if isinstance(value, Mapping):
        whole, nanos = value.get("seconds"), value.get("nanos", 0)
        return whole + nanos / 1e9 if _is_number(whole) and _is_number(nanos) else None
    if _is_number(value):
        return float(value)
    if not isinstance(value, str) or not value:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = datetime.datetime.fromisoformat(value)
    except ValueError:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)).timestamp()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
