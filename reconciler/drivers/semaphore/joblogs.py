"""The log of a run: its jobs' events as lines, each job's from where it was left.

Every request brings all events of a job again; the cursor is JSON, ``{job id: lines handed on, or null once read to its end}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from reconciler.drivers.base import Api
from reconciler.drivers.semaphore.api import Item, items_of, path_of, text_of
from reconciler.drivers.semaphore.following import Attempt
from reconciler.drivers.semaphore.payload import job_id
from reconciler.model.errors import NotFound, ProviderProtocolError
from reconciler.model.executions import LogLines
from reconciler.model.values import canonical_json

LOGS = "/api/v1alpha/logs"
Cursor = dict[str, int | None]


async def read(api: Api, attempt: Attempt, cursor: str) -> LogLines:
    """Return what the jobs said after ``cursor``, in the order of blocks and jobs."""
    jobs = [(block, job) for block in attempt.blocks for job in items_of(block.get("jobs")) if job_id(job)]
    positions, lines = positions_of(cursor), []
    for block, job in jobs:
        number = job_id(job)
        at = positions.get(number, 0)
        if at is None:
            continue
        said, ended = await _job(api, number, done=attempt.done)
        prefix = f"[{text_of(block, 'name')}/{text_of(job, 'name')}] " if len(jobs) > 1 else ""
        lines += [prefix + line for line in said[at:]]
        positions[number] = None if ended else max(at, len(said))
    return LogLines(tuple(lines), canonical_json(positions).decode(), attempt.done)


async def _job(api: Api, number: str, *, done: bool) -> tuple[list[str], bool]:
    """Return all lines of a job, and whether there will be no more. A job that never began has no log, and its 404 is no error."""
    try:
        body = (await api.download(path_of(LOGS, number))).json()
    except NotFound:
        return [], done
    events = body.get("events") if isinstance(body, Mapping) else None
    if not isinstance(events, list):
        raise ProviderProtocolError(f"GET {LOGS}/…: no list of events", request=f"GET {LOGS}")
    shown = [_event(one) for one in events]
    ended = done or any(one.get("event") == "job_finished" for one in shown)
    return list(lines_of(shown, ended=ended)), ended


def lines_of(events: list[Item], *, ended: bool) -> Iterator[str]:
    """Yield commands as ``$ command`` and what they wrote, by line; a line that is not yet ended is left for the next time."""
    rest = ""
    for event in events:
        kind = event.get("event")
        if kind == "cmd_output":
            *whole, rest = (rest + text_of(event, "output")).split("\n")
            yield from (line.removesuffix("\r") for line in whole)
        elif kind in ("cmd_started", "cmd_finished", "job_finished"):
            if rest:
                yield rest.removesuffix("\r")
                rest = ""
            if kind == "cmd_started":
                yield from f"$ {text_of(event, 'directive')}".splitlines()
    if rest and ended:
        yield rest.removesuffix("\r")


def positions_of(cursor: str) -> Cursor:
    """Return the positions in ``cursor``; none for a text that is no cursor."""
    try:
        found = orjson.loads(cursor) if cursor else {}
    except orjson.JSONDecodeError:
        found = {}
    if not isinstance(found, dict):
        return {}
    return {job: at for job, at in found.items() if at is None or (isinstance(at, int) and at >= 0)}


def _event(value: Any) -> Item:
    """Agents of one's own hand their events on as text."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            value = {}
    return value if isinstance(value, Mapping) else {}
