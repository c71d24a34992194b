"""Errors, pages and times of the simulated Buddy."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import NoReturn, TypeVar

from reconciler.sandbox.app import Call, RefusedCall, Reply
from reconciler.sandbox.shapes import is_object, whole

PER_PAGE = 20
T = TypeVar("T")
R = TypeVar("R", bound=Mapping[str, object])


def errors(*messages: str) -> dict[str, object]:
    """Return the body of every refusal."""
    return {"errors": [{"message": message} for message in messages]}


def refuse(status: int, *messages: str) -> NoReturn:
    """End the handler with a refusal."""
    raise RefusedCall(Reply(status, errors(*messages)))


def body_of(call: Call) -> dict[str, object]:
    """Return the body, which must be an object."""
    try:
        body = call.json()
    except ValueError:
        body = None
    if not is_object(body):
        refuse(400, "The body is not valid JSON")
    return body


def find(items: Sequence[R], field: str, key: str) -> R:
    """Return the item whose ``field`` reads ``key``; else refuse."""
    match = next((row for row in items if str(row[field]) == key), None)
    if match is None:
        refuse(404, "Resource not found")
    return match


def page_of(call: Call, settings: Mapping[str, object]) -> tuple[int, int]:
    """Return number and size of the page that was requested."""
    size = min(whole(call.query.get("per_page") or PER_PAGE), whole(settings["page_size"] or settings["max_per_page"]))
    return max(whole(call.query.get("page") or 1), 1), max(size, 1)


def paged(call: Call, settings: Mapping[str, object], rows: Sequence[T]) -> list[T]:
    """Return the page of ``rows`` that was requested."""
    number, size = page_of(call, settings)
    return list(rows[(number - 1) * size : number * size])


def iso(at: float | None) -> str | None:
    """Return a time as the provider writes it; null for what has not happened."""
    if at is None:
        return None
    return dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
