"""Lists, items and answers, with the shapes checked."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from reconciler.drivers.base import Api, ApiResponse
from reconciler.drivers.http.paging import ListBound
from reconciler.model.errors import NotFound, OutcomeUnknown, ProviderProtocolError, ScopeGone
from reconciler.model.objects import Container, ObservedObject, Scope

PER_PAGE = 100
MAX_PAGES = 500
GONE = "The workspace is gone or renamed, or the token may not see it. Nothing is pruned on it."
TOGETHER = 8
"""Requests at one time, where one list leads to many reads."""
Item = Mapping[str, Any]
Show = Callable[[Item], ObservedObject]
_MISSHAPED = (TypeError, ValueError, KeyError, AttributeError)  # what other JSON than promised makes of plain access


def workspace_path(workspace: str, *parts: str) -> str:
    """Return ``/workspaces/<workspace>/<parts…>``, each part escaped."""
    return "/".join(["/workspaces", *(quote(part, safe="") for part in (workspace, *parts))])


async def whole_list(api: Api, path: str, field: str, key: str) -> list[Item]:
    """Return a list that has no pages: items with a ``key``. A 404 is the workspace's: raises `ScopeGone`."""
    try:
        return items_of((await api.request("GET", path)).json(), path, field, key)
    except NotFound as error:
        raise ScopeGone(
            error.message,
            status=404,
            request=error.request,
            hint=GONE,
        ) from None


async def paged_list(api: Api, path: str, field: str, key: str) -> list[Item]:
    """Return all pages of a list.

    It ends with an empty page, or with one that shows nothing new (a list without pages): how many items the provider
    puts on a page at most is not documented, so that a short page proves nothing.
    """
    found: dict[Any, Item] = {}
    bound = ListBound(path)
    for page in range(1, MAX_PAGES + 1):
        response = await api.request("GET", path, params={"page": page, "per_page": PER_PAGE})
        bound.take(response)
        fresh = {item[key]: item for item in items_of(response.json(), path, field, key) if item[key] not in found}
        if not fresh:
            return list(found.values())
        bound.count(len(fresh))
        found.update(fresh)
    raise ProviderProtocolError(f"GET {path}: more than {MAX_PAGES} pages", request=f"GET {path}")


async def workspace_of(api: Api, scope: Scope, known: str) -> Container | None:
    """Return the workspace of ``scope``, or the one with the id ``known``; None where the list shows no such id.

    Raises `ScopeGone` where the list has no workspace of that name.
    """
    prefix = "workspaces/"
    for item in await paged_list(api, "/workspaces", "workspaces", "domain"):
        number, domain = str(item.get("id") or ""), str(item["domain"])
        if number and (prefix + number == known if known else domain == scope.key):
            return Container(prefix + number, domain)
        if not known and domain == scope.key:
            return None
    if known:
        return None
    raise ScopeGone(f"{scope.key} is not there, or the token does not see it", status=404, request="GET /workspaces")


async def completed(api: Api, path: str, items: Sequence[Item], key: str, wanted: Sequence[str]) -> list[Item]:
    """Return ``items``, each that lacks one of ``wanted`` read on its own: lists may be summaries.

    What is gone when it is read stays as the list showed it: a 404 on an item alone proves nothing.
    """
    gate = asyncio.Semaphore(TOGETHER)

    async def full(item: Item) -> Item:
        if all(field in item for field in wanted):
            return item
        async with gate:
            try:
                body = (await api.request("GET", f"{path}/{quote(str(item[key]), safe='')}")).json()
            except NotFound:
                return item
        if not isinstance(body, Mapping) or body.get(key) != item[key]:
            raise ProviderProtocolError(f"GET {path}/…: not the object that was asked for", request=f"GET {path}")
        return {**item, **body}

    return list(await asyncio.gather(*(full(item) for item in items)))


def all_shown(items: Sequence[Item], show: Show, path: str) -> tuple[ObservedObject, ...]:
    """Return listed items as they are compared; raises `ProviderProtocolError` for one of another shape than promised."""
    try:
        return tuple(show(item) for item in items)
    except _MISSHAPED as error:
        raise ProviderProtocolError(f"GET {path}: not understood ({type(error).__name__})", request=f"GET {path}") from None


def written(response: ApiResponse, key: str, request: str, show: Show) -> ObservedObject:
    """Return the object that a write was answered with.

    Raises `OutcomeUnknown` for another answer: the write was accepted, so that it must be looked up and not refused.
    """
    try:
        item = response.json()
    except ProviderProtocolError:
        item = None
    if isinstance(item, Mapping) and _is_key(item.get(key)):
        with contextlib.suppress(*_MISSHAPED):
            return show(item)
    raise OutcomeUnknown(f"{request}: accepted, and the answer is not understood; the object is looked up", request=request)


def items_of(body: Any, path: str, field: str, key: str) -> list[Item]:
    """Return the items of one answer; raises `ProviderProtocolError` unless each has a ``key``."""
    items = body.get(field) if isinstance(body, Mapping) else None
    if not isinstance(items, list) or not all(isinstance(item, Mapping) and _is_key(item.get(key)) for item in items):
        raise ProviderProtocolError(f"GET {path}: no list of '{field}', each with '{key}'", request=f"GET {path}")
    return items


def _is_key(value: Any) -> bool:
    """Whether ``value`` may be an id or a name: text that is not empty, or a number."""
    return (isinstance(value, str) and value != "") or (isinstance(value, int) and not isinstance(value, bool))


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
