"""Buddy's API: paths, the shapes of its answers, and lists.

A list that is small has no pages; the others are read page by page. Lists may be summaries of their items.
Facts: the provider's API documentation (getting started, integrations, webhooks, pipelines, executions).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Meta

from reconciler.drivers.base import Api
from reconciler.drivers.common import ListPage, NonEmpty, epoch_of_iso, read_each
from reconciler.drivers.http.paging import ListBound
from reconciler.drivers.wire import decode
from reconciler.model.errors import NotFound, PermissionDenied, ProviderProtocolError, ScopeGone
from reconciler.model.objects import Container, Scope
from reconciler.model.values import ExternalId, JsonValue

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
    """A pipeline of a project."""

    id: int
    name: str | None = None
    identifier: str | None = None
    disabled: bool | None = None


class BuddyMember(msgspec.Struct, frozen=True):
    """A member of a workspace; ``email`` only with the scope MEMBER_EMAIL."""

    id: int
    email: str | None = None


class BuddyGroup(msgspec.Struct, frozen=True):
    """A group of a workspace."""

    id: int
    name: str | None = None


class ActionName(msgspec.Struct, frozen=True):
    """The action of an action execution."""

    id: JsonValue = None
    name: str | None = None


class ActionExecution(msgspec.Struct, frozen=True):
    """The execution of one action; without an id it is only planned."""

    action_execution_id: Key | None = None
    status: JsonValue = None
    action: ActionName | None = None

    @property
    def name(self) -> str:
        """What users call the action."""
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
        """The id as text."""
        return str(self.id)


class _Workspaces(msgspec.Struct, frozen=True):
    items: list[BuddyWorkspace] = msgspec.field(name="workspaces")


class _Projects(msgspec.Struct, frozen=True):
    items: list[BuddyProject] = msgspec.field(name="projects")


class _Pipelines(msgspec.Struct, frozen=True):
    items: list[BuddyPipeline] = msgspec.field(name="pipelines")


class _Members(msgspec.Struct, frozen=True):
    items: list[BuddyMember] = msgspec.field(name="members")


class _Groups(msgspec.Struct, frozen=True):
    items: list[BuddyGroup] = msgspec.field(name="groups")


class _Executions(msgspec.Struct, frozen=True):
    items: list[BuddyExecution] = msgspec.field(name="executions")
    total_page_count: int | None = None


ItemT = TypeVar("ItemT")
StructT = TypeVar("StructT", bound=msgspec.Struct)


def workspace_path(workspace: str, *parts: str) -> str:
    """Return ``/workspaces/<workspace>/<parts…>``, each part escaped."""
    return "/".join(["/workspaces", *(quote(part, safe="") for part in (workspace, *parts))])


def executions_path(workspace: str, project: str, pipeline: int, *parts: str) -> str:
    """Return the path of a pipeline's executions, or of ``parts`` below."""
    return workspace_path(workspace, "projects", project, "pipelines", str(pipeline), "executions", *parts)


# lists


async def whole_list(api: Api, path: str, kind: type[ListPage[ItemT]]) -> list[ItemT]:
    """Return a list of a workspace that has no pages. A 404 is the workspace's: raises `ScopeGone`."""
    try:
        return list(decode((await api.request("GET", path)).json(), kind, f"GET {path}").items)
    except NotFound as error:
        raise ScopeGone(error.message, status=404, request=error.request, hint=GONE) from None


async def _paged_list(api: Api, path: str, kind: type[ListPage[ItemT]], key: Callable[[ItemT], Any]) -> list[ItemT]:
    """Return all pages of a list, each item once.

    The list ends with an empty page, or with one that has nothing new (a list without pages). The provider's largest page size is not
    documented, so a short page proves nothing.
    """
    items: dict[Any, ItemT] = {}
    bound = ListBound(path)
    for page in range(1, MAX_PAGES + 1):
        response = await api.request("GET", path, params={"page": page, "per_page": PER_PAGE})
        bound.take(response)
        answer = decode(response.json(), kind, f"GET {path}")
        new = {key(item): item for item in answer.items if key(item) not in items}
        if not new:
            return list(items.values())
        bound.count(len(new))
        items.update(new)
    raise _too_many_pages(path)


def _too_many_pages(path: str) -> ProviderProtocolError:
    return ProviderProtocolError(f"GET {path}: more than {MAX_PAGES} pages", request=f"GET {path}")


async def workspaces_of(api: Api) -> list[BuddyWorkspace]:
    """Return all workspaces that the token sees."""
    return await _paged_list(api, "/workspaces", _Workspaces, lambda row: row.domain)


async def projects_of(api: Api, workspace: str) -> list[BuddyProject]:
    """Return all projects of a workspace."""
    return await _paged_list(api, workspace_path(workspace, "projects"), _Projects, lambda row: row.name)


async def pipelines_of(api: Api, workspace: str, project: str) -> list[BuddyPipeline]:
    """Return all pipelines of a project."""
    return await _paged_list(api, workspace_path(workspace, "projects", project, "pipelines"), _Pipelines, lambda row: row.id)


async def members_of(api: Api, workspace: str) -> list[BuddyMember]:
    """Return all members of a workspace."""
    return await _paged_list(api, workspace_path(workspace, "members"), _Members, lambda row: row.id)


async def groups_of(api: Api, workspace: str) -> list[BuddyGroup]:
    """Return all groups of a workspace."""
    return await _paged_list(api, workspace_path(workspace, "groups"), _Groups, lambda row: row.id)


async def executions_since(api: Api, path: str, since: float) -> list[BuddyExecution]:
    """Return the executions of the list at ``path`` that started after ``since`` (epoch seconds) or not yet, and some older ones.

    The list shows the newest first; it is read up to the first page that is in this order and entirely older. A list that grows
    meanwhile repeats some; each is returned once.
    """
    executions: dict[str, BuddyExecution] = {}
    bound = ListBound(path)
    for page in range(1, MAX_PAGES + 1):
        response = await api.request("GET", path, params={"page": page, "per_page": PER_PAGE})
        bound.take(response)
        answer = decode(response.json(), _Executions, f"GET {path}")
        bound.count(len(answer.items))
        known = len(executions)
        for execution in answer.items:
            executions.setdefault(execution.number, execution)
        is_last = answer.total_page_count is not None and page >= answer.total_page_count
        if len(executions) == known or is_last or _all_older(answer.items, since):
            return list(executions.values())
    raise _too_many_pages(path)


def _all_older(executions: Sequence[BuddyExecution], since: float) -> bool:
    times = [epoch_of(execution.start_date) for execution in executions]
    started = [at for at in times if at is not None]
    ordered = all(before >= after for before, after in itertools.pairwise(started))
    return len(started) == len(times) and ordered and all(at < since for at in started)


# managed objects


async def workspace_of(api: Api, scope: Scope, known: str) -> Container | None:
    """Return the workspace of ``scope``, or the one with the id ``known``; None if the list shows no such id.

    Raises `ScopeGone` if the list has no workspace of that name.
    """
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


async def complete(
    api: Api, path: str, items: Sequence[StructT], key: Callable[[StructT], Key], required: Sequence[str]
) -> list[StructT]:
    """Return ``items``; each that lacks one of the ``required`` fields is read on its own, since lists may be summaries.

    An item that is gone when it is read stays as the list showed it: a 404 on an item alone proves nothing.
    """

    async def full(item: StructT) -> StructT:
        try:
            answer = (await api.request("GET", f"{path}/{quote(str(key(item)), safe='')}")).json()
        except NotFound:
            return item
        kind = type(item)
        read = decode(answer, kind, f"GET {path}/…")
        if key(read) != key(item):
            raise ProviderProtocolError(f"GET {path}/…: the answer is about another object", request=f"GET {path}")
        return msgspec.convert({**msgspec.to_builtins(item), **msgspec.to_builtins(read)}, kind)

    summaries = [item for item in items if any(getattr(item, name) is UNSET for name in required)]
    read = {key(item): item for item in await read_each(summaries, full)}
    return [read.get(key(item), item) for item in items]


async def delete_item(
    api: Api, path: str, external_id: ExternalId, kind: type[ListPage[ItemT]], key: Callable[[ItemT], Key], *, hint: str
) -> None:
    """Delete an item of the list at ``path``; a 404 is success only if the list exists and does not have it."""
    try:
        await api.request("DELETE", f"{path}/{quote(external_id, safe='')}")
    except NotFound:
        if any(str(key(item)) == external_id for item in await whole_list(api, path, kind)):
            raise PermissionDenied(
                f"DELETE {path}: answered 404, but the object is still listed",
                status=404,
                request=f"DELETE {path}",
                hint=hint,
            ) from None


# values


def word_of(status: JsonValue) -> str:
    """Return a status in upper case; empty for anything but a text."""
    return status.upper() if isinstance(status, str) else ""


def epoch_of(value: JsonValue) -> float | None:
    """Return an ISO 8601 time (UTC if it has no zone) in seconds since the epoch; None for anything else."""
    return epoch_of_iso(value) if isinstance(value, str) else None
