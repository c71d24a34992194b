"""A provider's clock, measured by the ``Date`` of its answers (RFC 9110 §6.6.1), one for each API root.

A host's clock may be minutes off, or change while the program runs. So a search by time at a provider uses the provider's own
clock, and the absence of a result proves something only while that clock is known.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

TOO_FAR_S = 300.0
"""A host's clock that is further off is broken, and times prove nothing (Kerberos uses the same limit)."""
OLD_S = 600.0
"""How long a precise reading wins against less precise ones: clocks drift."""
_TICK_S = 0.5
"""A Date has whole seconds: on average, it loses half of one."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How far the provider's clock is ahead of ours, and how precise that is."""

    ahead_s: float
    within_s: float
    taken: float
    """Monotonic seconds."""


class ProviderClock:
    """The offset of one provider's clock. ``clock`` is this host's, in seconds since the epoch."""

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._monotonic = monotonic
        self._reading: Reading | None = None

    @property
    def ahead_s(self) -> float | None:
        """How far the provider is ahead of this host; None if its answers have no date."""
        return self._reading.ahead_s if self._reading is not None else None

    @property
    def trusted(self) -> bool:
        """Whether times may prove something: the offset is known and plausible."""
        return self.ahead_s is not None and abs(self.ahead_s) <= TOO_FAR_S

    def now(self) -> float:
        """Return the time by the provider's clock; by this host's, if the offset is not known."""
        return self.clock() + (self.ahead_s or 0.0)

    def here(self, at: float) -> float:
        """Return the time by this host's clock at ``at`` of the provider's."""
        return at - (self.ahead_s or 0.0)

    def record_date(self, headers: Mapping[str, str], took_s: float) -> None:
        """Record the Date of an answer that arrived just now, ``took_s`` after its request was sent."""
        at = date_of(headers)
        if at is None:
            return
        now = self._monotonic()
        reading = Reading(at + _TICK_S - (self.clock() - took_s / 2), _TICK_S + took_s / 2, now)
        if self._reading is None or _is_better(reading, self._reading):
            self._reading = reading


def _is_better(new: Reading, old: Reading) -> bool:
    moved = abs(new.ahead_s - old.ahead_s) > new.within_s + old.within_s  # somebody set one of the two clocks
    return moved or new.within_s <= old.within_s or new.taken - old.taken > OLD_S


def date_of(headers: Mapping[str, str]) -> float | None:
    """Return the Date of an answer in seconds since the epoch; None without one, and for an answer out of a cache."""
    text = headers.get("date", "").strip()
    if not text or headers.get("age", "0").strip() not in ("", "0"):
        return None
    return http_date(text)


def http_date(text: str) -> float | None:
    """Return an HTTP date (RFC 9110 §5.6.7) in seconds since the epoch; None for any other text."""
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:  # the obsolete forms of a date have no zone and mean UTC
            date = date.replace(tzinfo=datetime.UTC)
        return date.timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
