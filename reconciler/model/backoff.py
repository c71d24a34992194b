"""Back-off: the one formula for the pause between tries. Pure but for the jitter."""

from __future__ import annotations

import random

_MAX_DOUBLINGS = 30


def exponential(failures: int, low_s: float, high_s: float = float("inf")) -> float:
    """Return the pause in seconds after ``failures`` failures in a row (from 0): ``low_s``, doubled for each, at most ``high_s``."""
    return float(min(high_s, low_s * 2 ** min(failures, _MAX_DOUBLINGS)))


def jittered(pause_s: float, low: float, high: float) -> float:
    """Return ``pause_s`` times a random factor in [``low``, ``high``], so that many that failed together do not retry together."""
    return pause_s * random.uniform(low, high)  # noqa: S311 - spreads load
