"""Times for people: how long ago, or how long until. ``--utc`` shows RFC 3339 times instead. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.times import epoch_of

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400


@dataclass(frozen=True, slots=True)
class Clock:
    """How times are shown. ``now``: seconds since the epoch. ``utc``: as RFC 3339 times, not as ages."""

    now: float
    utc: bool = False

    @property
    def head(self) -> str:
        """The header of a column of times."""
        return "TIME" if self.utc else "AGE"

    def age(self, at: str) -> str:
        """Return the age of the RFC 3339 time ``at``: ``3m``, or ``in 3m`` if it is to come; ``-`` for an empty text."""
        if not at:
            return "-"
        if self.utc:
            return at
        try:
            passed = self.now - epoch_of(at)
        except ValueError:
            return at
        return span(passed) if passed > -1 else f"in {span(-passed)}"

    def due(self, at: str) -> str:
        """Return the time ``at`` of something to come: ``in 3m``, ``now`` if it has passed, or the time itself."""
        shown = self.age(at)
        return shown if self.utc or shown in {at, "-"} or shown.startswith("in ") else "now"

    def ago(self, at: str) -> str:
        """Return the time ``at`` for a sentence: ``3m ago``, ``in 3m``, or the time itself."""
        shown = self.age(at)
        return shown if self.utc or shown in {at, "-"} or shown.startswith("in ") else f"{shown} ago"


def span(seconds: float) -> str:
    """Return a duration in its largest unit: ``45s``, ``3m``, ``2h``, ``9d``; below two of a unit with the next smaller one."""
    whole = max(0, int(seconds))
    if whole < _MINUTE_S:
        return f"{whole}s"
    for unit_s, name, smaller_s, smaller in (
        (_DAY_S, "d", _HOUR_S, "h"),
        (_HOUR_S, "h", _MINUTE_S, "m"),
        (_MINUTE_S, "m", 1, "s"),
    ):
        if whole >= unit_s:
            rest = whole % unit_s // smaller_s
            return f"{whole // unit_s}{name}{rest}{smaller}" if whole < 2 * unit_s and rest else f"{whole // unit_s}{name}"
    return f"{whole}s"
