"""Executions of pipelines: their statuses and times, and their lists, newest first."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Sequence
from typing import Any

from reconciler.drivers.base import Api
from reconciler.drivers.buddy.api import MAX_PAGES, PER_PAGE, Item, items_of, workspace_path
from reconciler.drivers.http.paging import ListBound
from reconciler.model.errors import ProviderProtocolError

ENDED = frozenset({"SUCCESSFUL", "FAILED", "TERMINATED", "SKIPPED", "NOT_EXECUTED"})
"""Statuses after which nothing more happens, unless somebody asks for a retry: the same execution then runs again."""


def executions_path(workspace: str, project: str, pipeline: int, *parts: str) -> str:
    """Return the path of a pipeline's executions, or of what ``parts`` name below."""
    return workspace_path(workspace, "projects", project, "pipelines", str(pipeline), "executions", *parts)


def epoch_of(value: Any) -> float | None:
    """Return an ISO 8601 time (UTC where it has no zone) as seconds since the epoch; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.datetime.fromisoformat(value)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


async def executions_since(api: Api, path: str, since: float) -> list[Item]:
    """Return the executions of the list at ``path`` that were started after ``since`` (epoch seconds) or not yet, and some more.

    The list shows the newest first and is read as far as it is new: to the first page that is in this order and all older.
    One that grows meanwhile shows some twice (each is returned once) and none too few.
    """
    found: dict[Any, Item] = {}
    bound = ListBound(path)
    for page in range(1, MAX_PAGES + 1):
        response = await api.request("GET", path, params={"page": page, "per_page": PER_PAGE})
        bound.take(response)
        body = response.json()
        items = items_of(body, path, "executions", "id")
        bound.count(len(items))
        known = len(found)
        for item in items:
            found.setdefault(item["id"], item)
        if len(found) == known or _last_page(body, page) or _all_older(items, since):
            return list(found.values())
    raise ProviderProtocolError(f"GET {path}: more than {MAX_PAGES} pages", request=f"GET {path}")


def _last_page(body: Item, page: int) -> bool:
    pages = body.get("total_page_count")
    return isinstance(pages, int) and page >= pages


def _all_older(items: Sequence[Item], since: float) -> bool:
    times = [epoch_of(item.get("start_date")) for item in items]
    started = [at for at in times if at is not None]
    ordered = all(before >= after for before, after in itertools.pairwise(started))
    return len(started) == len(times) and ordered and all(at < since for at in started)
