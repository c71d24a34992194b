"""Filters of the lists of workflow runs, with the date syntax of GitHub's search (docs: search-github, query for dates). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from reconciler.sandbox.github.records import StoredRun
from reconciler.sandbox.github.request import refuse
from reconciler.sandbox.github.run_shapes import phase_at

FILTERS = ("event", "branch", "head_sha", "actor", "created", "status")


def matches(run: StoredRun, filters: Mapping[str, str], now: float) -> bool:
    """Whether a run is one that passes the filters of a list (`FILTERS`); raises a 422 for an invalid date."""
    plain = {"event": run["event"], "branch": run["head_branch"], "head_sha": run["head_sha"], "actor": run["actor"]}
    if any(key in filters and filters[key] != value for key, value in plain.items()):
        return False
    if "status" in filters:
        phase = phase_at(run["attempts"][-1], now)
        if filters["status"] not in (phase.status, phase.conclusion):
            return False
    return "created" not in filters or _in_span(int(run["created_at"]), filters["created"])


def _in_span(at: int, text: str) -> bool:
    """Whether ``at`` is in GitHub's search syntax for dates: ``>=T``, ``<=T``, ``>T``, ``<T``, ``A..B``, ``*..B``, ``T``."""
    low, dots, high = text.partition("..")
    if dots:
        return (low == "*" or at >= _epoch(low)) and (high == "*" or at <= _epoch(high, end=True))
    sign = next((operator for operator in (">=", "<=", ">", "<") if text.startswith(operator)), "")
    first, last = _epoch(text.removeprefix(sign)), _epoch(text.removeprefix(sign), end=True)
    return {">=": at >= first, "<=": at <= last, ">": at > last, "<": at < first, "": first <= at <= last}[sign]


def _epoch(text: str, *, end: bool = False) -> float:
    """Return the first second of a date or time, or its last (a date is a whole day)."""
    try:
        then = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        raise refuse(422, "Invalid created date") from None
    then = then if then.tzinfo is not None else then.replace(tzinfo=UTC)
    return then.timestamp() + (86_399 if end and len(text) == len("2026-01-01") else 0)
