"""Buddy's API: paths, the shapes of its answers, and lists.

A list that is small has no pages; the others are read page by page. Lists may be summaries of their items.
Facts: the provider's API documentation (getting started, integrations, webhooks, pipelines, executions).
"""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Generic, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Meta

from reconciler.drivers.base import Write
from reconciler.drivers.common import NonEmpty, decode_write, epoch_of_iso, read_each
from reconciler.drivers.connection import Api
from reconciler.drivers.http.paging import ListBound
from reconciler.drivers.wire import decode, find
from reconciler.model.errors import NotFound, PermissionDenied, ProviderProtocolError, ScopeGone
from reconciler.model.objects import Container, NotModified, Observed, ObservedObject, Scope
from reconciler.model.values import ExternalId, JsonObject, JsonValue

PER_PAGE = 100
MAX_PAGES = 500
GONE = "The workspace is gone or renamed, or the token may not see it. Nothing is pruned on it."
ENDED = frozenset({"SUCCESSFUL", "FAILED", "TERMINATED", "SKIPPED", "NOT_EXECUTED"})
"""Statuses after which nothing more happens, unless somebody retries: the same execution then runs again."""
Key = NonEmpty | int
"""An id or a name."""


class BuddyWorkspace(msgspec.Struct, frozen=True):
    """A workspace, as the list of workspaces shows it."""

    domain: NonEmpty
    id: Key | None = None


class BuddyProject(msgspec.Struct, frozen=True):
    """A project; ``name`` is the part of its URL."""

    name: NonEmpty


class BuddyPipeline(msgspec.Struct, frozen=True):
    id: int
    name: str | None = None
    identifier: str | None = None
    disabled: bool | None = None


class BuddyMember(msgspec.Struct, frozen=True):
    """A member of a workspace; ``email`` only with the scope MEMBER_EMAIL."""

    id: int
    email: str | None = None


class BuddyGroup(msgspec.Struct, frozen=True):
    id: int
    name: str | None = None


class ActionName(msgspec.Struct, frozen=True):
    id: JsonValue = None
    name: str | None = None


class ActionExecution(msgspec.Struct, frozen=True):
    """The execution of one action; without an id it is only planned."""

    action_execution_id: Key | None = None
    status: JsonValue = None
    action: ActionName | None = None

    @property
    def name(self) -> str:
        return str((self.action and (self.action.name or self.action.id)) or "action")


class BuddyExecution(msgspec.Struct, frozen=True):
    """An execution of a pipeline, as the API and webhooks show it; a list has no actions."""

    id: int | Annotated[str, Meta(pattern=r"^[0-9]{1,19}\Z")]
    status: JsonValue = None
    start_date: JsonValue = None
    finish_date: JsonValue = None
    comment: str | None = None
    html_url: str | None = None
    action_executions: list[ActionExecution] | None = None

    @property
    def number(self) -> str:
        return str(self.id)


ItemT = TypeVar("ItemT")


def workspace_path(workspace: str, *parts: str) -> str:
    """Return ``/workspaces/<workspace>/<parts…>``, each part escaped."""
    return "/".join(["/workspaces", *(quote(part, safe="") for part in (workspace, *parts))])


def executions_path(workspace: str, project: str, pipeline: int, *parts: str) -> str:
    """Return the path of a pipeline's executions, or of ``parts`` below."""
    return workspace_path(workspace, "projects", project, "pipelines", str(pipeline), "executions", *parts)


# lists


async def whole_list(api: Api, path: str, name: str, kind: type[list[ItemT]]) -> list[ItemT]:
    """Return a list of a workspace that has no pages. A 404 is the workspace's: raises `ScopeGone`."""
    try:
        return decode((await api.request("GET", path)).json(), kind, f"GET {path}", name)
    except NotFound as error:
        raise ScopeGone(error.message, status=404, request=error.request, hint=GONE) from None


async def _paged_list(
    api: Api,
    path: str,
    kind: type[list[ItemT]],
    key: Callable[[ItemT], Key],
    is_last: Callable[[Sequence[ItemT], object, int], bool] = lambda _items, _answer, _number: False,
) -> list[ItemT]:
    """Return all pages of a list, each item once: a list that grows while it is read repeats some.

    The last part of ``path`` is the name of the list in the answer. It ends with an empty page, with one that has nothing new (a list
    without pages), or with one that ``is_last`` (its items, the whole answer, its number). The provider's largest page size is not
    documented, so a short page proves nothing.
    """
    items: dict[Key, ItemT] = {}
    bound = ListBound(path)
    for number in range(1, MAX_PAGES + 1):
        response = await api.request("GET", path, params={"page": number, "per_page": PER_PAGE})
        bound.take(response)
        answer = response.json()
        page = decode(answer, kind, f"GET {path}", path.rpartition("/")[2])
        bound.count(len(page))
        known = len(items)
        for item in page:
            items.setdefault(key(item), item)
        if len(items) == known or is_last(page, answer, number):
            return list(items.values())
    raise ProviderProtocolError(f"GET {path}: more than {MAX_PAGES} pages", request=f"GET {path}")


async def workspaces_of(api: Api) -> list[BuddyWorkspace]:
    return await _paged_list(api, "/workspaces", list[BuddyWorkspace], lambda row: row.domain)


async def projects_of(api: Api, workspace: str) -> list[BuddyProject]:
    return await _paged_list(api, workspace_path(workspace, "projects"), list[BuddyProject], lambda row: row.name)


async def pipelines_of(api: Api, workspace: str, project: str) -> list[BuddyPipeline]:
    return await _paged_list(
        api, workspace_path(workspace, "projects", project, "pipelines"), list[BuddyPipeline], lambda row: row.id
    )


async def members_of(api: Api, workspace: str) -> list[BuddyMember]:
    return await _paged_list(api, workspace_path(workspace, "members"), list[BuddyMember], lambda row: row.id)


async def groups_of(api: Api, workspace: str) -> list[BuddyGroup]:
    return await _paged_list(api, workspace_path(workspace, "groups"), list[BuddyGroup], lambda row: row.id)


async def executions_since(api: Api, path: str, since: float) -> list[BuddyExecution]:
    """Return the executions of the list at ``path`` that started after ``since`` (epoch seconds) or not yet, and some older ones.

    The list shows the newest first; it is read up to the first page that is in this order and entirely older.
    """

    def is_last(page: Sequence[BuddyExecution], answer: object, number: int) -> bool:
        return number >= (find(answer, int, "total_page_count") or MAX_PAGES) or _all_older(page, since)

    return await _paged_list(api, path, list[BuddyExecution], lambda row: row.number, is_last)


def _all_older(executions: Sequence[BuddyExecution], since: float) -> bool:
    times = [epoch_of(execution.start_date) for execution in executions]
    started = [at for at in times if at is not None]
    ordered = all(before >= after for before, after in itertools.pairwise(started))
    return len(started) == len(times) and ordered and all(at < since for at in started)


# managed objects


class BuddyObject(msgspec.Struct, frozen=True, omit_defaults=True):
    """A managed object; a field that is left out of an answer is unknown, a null field is empty."""

    @property
    def key(self) -> Key:
        """Its id in paths."""
        raise NotImplementedError


ObjectT = TypeVar("ObjectT", bound=BuddyObject)


class WorkspaceType(Generic[ObjectT]):
    """What both managed types share: a scope is a workspace, with one list of the objects, each of which may be read on its own."""

    type: str
    collection: str
    """The list's name in paths and answers."""
    kind: builtins.type[ObjectT]
    rows: builtins.type[list[ObjectT]]
    detailed: tuple[str, ...]
    """Fields that a list may leave out."""
    delete_hint: str
    write_only_fixed = False

    def show(self, item: ObjectT, workspace: str) -> ObservedObject:
        """Return the provider's object in the form that is compared."""
        raise NotImplementedError

    def body(self, write: Write) -> JsonObject:
        """Return the whole object as it is sent."""
        raise NotImplementedError

    def changes(self, write: Write) -> JsonObject:
        return self.body(write)

    async def observe(self, api: Api, scope: Scope, validators: JsonObject | None) -> NotModified | Observed:
        """Lists may be summaries: what the list only sums up is read on its own.

        An item that is gone when it is read stays as the list showed it: a 404 on an item alone proves nothing.
        """
        path = workspace_path(scope.key, self.collection)
        items = await whole_list(api, path, self.collection, self.rows)
        summaries = [item for item in items if any(getattr(item, name) is UNSET for name in self.detailed)]
        full = {item.key: item for item in await read_each(summaries, partial(self._full, api, path))}
        return Observed(scope, tuple(self.show(full.get(item.key, item), scope.key) for item in items))

    async def _full(self, api: Api, path: str, item: ObjectT) -> ObjectT:
        try:
            answer = (await api.request("GET", _item(path, item.key))).json()
        except NotFound:
            return item
        full = decode(answer, self.kind, f"GET {path}/…")
        if full.key != item.key:
            raise ProviderProtocolError(f"GET {path}/…: the answer is about another object", request=f"GET {path}")
        return msgspec.convert({**msgspec.to_builtins(item), **msgspec.to_builtins(full)}, self.kind)

    async def container(self, api: Api, scope: Scope, known: str = "") -> Container | None:
        """Return the workspace: its id stays, its domain may change."""
        for workspace in await workspaces_of(api):
            container = Container(f"workspaces/{workspace.id}", workspace.domain) if workspace.id else None
            if known:
                if container is not None and container.id == known:
                    return container
            elif workspace.domain == scope.key:
                return container
        if known:
            return None
        raise ScopeGone(f"{scope.key} does not exist, or the token cannot see it", status=404, request="GET /workspaces")

    async def create(self, api: Api, write: Write) -> ObservedObject:
        workspace = write.desired.scope.key
        path = workspace_path(workspace, self.collection)
        response = await api.request("POST", path, json=self.body(write))
        return self.show(decode_write(response, self.kind, f"POST {path}"), workspace)

    async def update(self, api: Api, external_id: ExternalId, write: Write) -> ObservedObject:
        workspace = write.desired.scope.key
        path = workspace_path(workspace, self.collection)
        response = await api.request("PATCH", _item(path, external_id), json=self.changes(write))
        return self.show(decode_write(response, self.kind, f"PATCH {path}"), workspace)

    async def delete(self, api: Api, scope: Scope, external_id: ExternalId) -> None:
        """A 404 is success only if the workspace's list exists without the object."""
        path = workspace_path(scope.key, self.collection)
        try:
            await api.request("DELETE", _item(path, external_id))
        except NotFound:
            if any(str(item.key) == external_id for item in await whole_list(api, path, self.collection, self.rows)):
                raise PermissionDenied(
                    f"DELETE {path}: answered 404, but the object is still listed",
                    status=404,
                    request=f"DELETE {path}",
                    hint=self.delete_hint,
                ) from None


def _item(path: str, key: Key) -> str:
    return f"{path}/{quote(str(key), safe='')}"


# values


def word_of(status: JsonValue) -> str:
    """Return a status in upper case; empty for anything but a text."""
    return status.upper() if isinstance(status, str) else ""


def epoch_of(value: JsonValue) -> float | None:
    """Return an ISO 8601 time (UTC if it has no zone) in seconds since the epoch; None for anything else."""
    return epoch_of_iso(value) if isinstance(value, str) else None
