"""How far recovery looks back, how long it waits, and what a sweep resulted in."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.resources import ResourceId

OVERLAP_S = 900.0
"""Overlap with the previous sweep: deliveries arrive late, and lists even later."""
MOST_S = 3 * 86_400.0
"""The longest look back: providers that keep deliveries keep them for three days or longer."""
YOUNG_S = 15.0
"""A delivery that started less than this ago may still arrive."""
ARRIVE_S = 8.0
"""How long to wait for deliveries that were redelivered."""


@dataclass(slots=True)
class RecoveryResult:
    """Result of a sweep of one source, or of one App (``source``: its Integration), in numbers of deliveries."""

    source: ResourceId
    missed: int = 0
    redelivered: int = 0
    recovered: int = 0
    failed: int = 0
    hooks: int = 0
    error: str = ""


def begin_of(cursor: object, now: float) -> float:
    """Return since when to look (epoch seconds); ``cursor``: the time of the last sweep."""
    before = cursor if isinstance(cursor, int | float) else now
    before = min(before or now, now)  # a clock that was ahead and was set back must not hide missed deliveries
    return max(before - OVERLAP_S, now - MOST_S)


__all__ = ["ARRIVE_S", "MOST_S", "OVERLAP_S", "YOUNG_S", "RecoveryResult", "begin_of"]
