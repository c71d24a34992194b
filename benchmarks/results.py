"""What a benchmark says: rows of measured values, floors and ratios, and how they are printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One measured thing. ``ratio`` is what the goal limits; ``limit`` is its bound (at most, or at least if ``at_least``)."""

    id: str
    what: str
    measured: str
    floor: str = ""
    ratio: float | None = None
    limit: float | None = None
    unit: str = ""
    at_least: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        """``pass`` or ``FAIL`` where there is a bound."""
        if self.ratio is None or self.limit is None:
            return ""
        return "pass" if (self.ratio >= self.limit if self.at_least else self.ratio <= self.limit) else "FAIL"

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict}


def exactly(id_: str, what: str, found: int, wanted: int, *, note: str = "") -> Row:
    """Return the row of a count that must be just that."""
    return Row(id_, what, str(found), str(wanted), float(abs(found - wanted)), 0.0, "off by", note=note)


def seconds(value: float) -> str:
    """Return a duration as people read it."""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, which is what docs/performance.md shows."""
    lines = [("id", "what", "measured", "floor", "ratio", "goal", "")]
    for row in rows:
        sign = "≥" if row.at_least else "≤"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f} {row.unit}".strip()
        goal = "" if row.limit is None else f"{sign} {row.limit:g}"
        lines.append((row.id, row.what, row.measured, row.floor, ratio, goal, row.verdict))
    widths = [max(len(line[column]) for line in lines) for column in range(7)]
    out = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines]
    out.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    out += ["", *(f"{row.id}: {row.note}" for row in rows if row.note)]
    return "\n".join(out)
