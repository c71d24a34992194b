"""A provider's clock as seen from here: learned from the ``Date`` of its answers (RFC 9110 §6.6.1), one for each API root.

A host's clock may be minutes off, or be turned while the program runs. What is looked for at a provider by time is therefore
looked for by the provider's own clock; and what proves something by its absence is believed only while that clock is known.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

TOO_FAR_S = 300.0
"""A host's clock that is further off than this is broken: nothing is concluded from times (Kerberos draws the same line)."""
OLD_S = 600.0
"""A better reading is kept this long against worse ones: clocks drift."""
_TICK_S = 0.5
"""A Date has whole seconds: on average, half of one is cut off."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How far the provider's clock is ahead of ours, and how well that is known."""

    ahead_s: float
    within_s: float
    taken: float
    """Monotonic seconds."""


class ProviderClock:
    """What is known of one provider's clock. ``clock`` is this host's, in seconds since the epoch."""

    def __init__(self, clock: Callable[[], float], monotonic: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._monotonic = monotonic
        self._reading: Reading | None = None

    @property
    def ahead_s(self) -> float | None:
        """How far the provider is ahead of this host; None where its answers tell no time."""
        return self._reading.ahead_s if self._reading is not None else None

    @property
    def trusted(self) -> bool:
        """Whether times may prove something: the offset is known, and no sign of a broken clock."""
        return self.ahead_s is not None and abs(self.ahead_s) <= TOO_FAR_S

    def now(self) -> float:
        """Return what the provider's clock shows, as far as that is known; else this host's."""
        return self.clock() + (self.ahead_s or 0.0)

    def here(self, at: float) -> float:
        """Return the instant ``at`` of the provider's clock by this host's."""
        return at - (self.ahead_s or 0.0)

    def told(self, headers: Mapping[str, str], took_s: float) -> None:
        """Take up the Date of an answer that just came, ``took_s`` after its request was sent."""
        at = date_of(headers)
        if at is None:
            return
        now = self._monotonic()
        found = Reading(at + _TICK_S - (self.clock() - took_s / 2), _TICK_S + took_s / 2, now)
        if self._reading is None or self._better(found, self._reading):
            self._reading = found

    def _better(self, found: Reading, kept: Reading) -> bool:
        moved = abs(found.ahead_s - kept.ahead_s) > found.within_s + kept.within_s  # one of the two clocks was turned
        return moved or found.within_s <= kept.within_s or found.taken - kept.taken > OLD_S


def date_of(headers: Mapping[str, str]) -> float | None:
    """Return the Date of an answer in seconds since the epoch; None without one, and for what a cache has kept."""
    text = headers.get("date", "").strip()
    if not text or headers.get("age", "0").strip() not in ("", "0"):
        return None
    return http_date(text)


def http_date(text: str) -> float | None:
    """Return an HTTP date (RFC 9110 §5.6.7) in seconds since the epoch; None for anything else."""
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:  # the old forms of a date have no zone and mean UTC
            date = date.replace(tzinfo=datetime.UTC)
        return date.timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
