"""Semaphore's API: paths, the shapes of its answers, lists, times and tasks.

Two families behind one root. The gateway (notifications, secrets) pages with tokens. The others answer bare arrays: projecthub
numbers its pages, and the pipelines API has a Link header whose absolute URLs name ``http`` and an inner host. Fields that an
answer leaves out and fields that are null mean the same here.
Facts: the provider's open server code (public-api/v1alpha, projecthub-rest-api, periodic_scheduler).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Protocol, TypeVar
from urllib.parse import quote

import msgspec

from reconciler.drivers.base import ApiResponse
from reconciler.drivers.common import NonEmpty, epoch_of_iso
from reconciler.drivers.connection import Api
from reconciler.drivers.http.paging import ListBound, read_list
from reconciler.drivers.wire import decode, matches
from reconciler.model.errors import ProviderProtocolError, ValidationFailed
from reconciler.model.values import JsonObject, JsonValue

PROJECTS = "/api/v1alpha/projects"
WORKFLOWS = "/api/v1alpha/plumber-workflows"
PIPELINES = "/api/v1alpha/pipelines"
TASKS = "/api/v1alpha/tasks"
PAGE_SIZE = 100
MAX_PROJECT_PAGES = 100
"""The provider's own bound (500 projects a page)."""
HOOK, MANUAL_RUN = "hook", "manual_run"
_TRIGGERS = (HOOK, "schedule", "api", MANUAL_RUN)
_SHOWN = 5
_REF_TYPES = (("refs/heads/", "BRANCH"), ("refs/tags/", "TAG"))
_MAX_EPOCH = 253_402_300_800.0
"""The year 10000: no clock of a provider is there."""


class SemaphoreMetadata(msgspec.Struct, frozen=True):
    """Of an object of the gateway, and of a project."""

    id: NonEmpty
    name: NonEmpty
    update_time: str | int | None = None
    creator_id: str | None = None


class SemaphoreProject(msgspec.Struct, frozen=True):
    metadata: SemaphoreMetadata
    spec: JsonValue = None


class SemaphoreWorkflow(msgspec.Struct, frozen=True):
    """A workflow: one run of a project, with its pipelines."""

    id: NonEmpty = msgspec.field(name="wf_id")
    initial_ppl_id: str | None = None
    triggered_by: int | str | None = None
    rerun_of: str | None = None
    organization_id: str | None = None
    created_at: JsonValue = None

    @property
    def trigger(self) -> str:
        """What started it, in lower case; empty if unknown. Lists give a number, a single workflow gives a word."""
        match self.triggered_by:
            case int(number):
                return _TRIGGERS[number] if 0 <= number < len(_TRIGGERS) else ""
            case word:
                return (word or "").lower()


class Variable(msgspec.Struct, frozen=True):
    name: str | None = None
    value: str | None = None


class SemaphorePipeline(msgspec.Struct, frozen=True):
    """A pipeline; lists give fewer fields than a single one."""

    id: NonEmpty = msgspec.field(name="ppl_id")
    wf_id: str | None = None
    name: str | None = None
    yaml_file_name: str | None = None
    working_directory: str | None = None
    state: str | None = None
    result: str | None = None
    result_reason: str | None = None
    error_description: str | None = None
    branch_name: str | None = None
    commit_sha: str | None = None
    commit_message: str | None = None
    partial_rerun_of: str | None = None
    env_vars: list[Variable] | None = None
    created_at: JsonValue = None
    pending_at: JsonValue = None
    queuing_at: JsonValue = None
    running_at: JsonValue = None
    stopping_at: JsonValue = None
    done_at: JsonValue = None

    @property
    def is_done(self) -> bool:
        return lower(self.state) == "done"

    def variable(self, name: str) -> str:
        """Return the value of the variable ``name`` that it was started with; empty if it has none."""
        return next((one.value or "" for one in self.env_vars or () if one.name == name), "")


class SemaphoreJob(msgspec.Struct, frozen=True):
    job_id: str | None = None
    id: str | None = None
    name: str | None = None
    index: int | None = None
    status: str | None = None
    result: str | None = None

    @property
    def key(self) -> str:
        """Its id, under either of its names; empty for a job that has none yet."""
        return self.job_id or self.id or ""


class Block(msgspec.Struct, frozen=True):
    name: str | None = None
    state: str | None = None
    result: str | None = None
    result_reason: str | None = None
    jobs: list[SemaphoreJob] | None = None


class PipelineAnswer(msgspec.Struct, frozen=True):
    pipeline: SemaphorePipeline
    blocks: list[Block] | None = None


class SemaphoreTask(msgspec.Struct, frozen=True):
    id: NonEmpty
    name: str | None = None
    paused: bool | None = None
    suspended: bool | None = None
    parameters: list[Variable] | None = None


class _Timestamp(msgspec.Struct, frozen=True):
    """A protobuf timestamp as the pipelines API writes it in lists."""

    seconds: int | float
    nanos: int | float = 0


class _NextPage(msgspec.Struct, frozen=True):
    next_page_token: str | None = None


class Row(Protocol):
    @property
    def id(self) -> str:
        """Its id."""


ItemT = TypeVar("ItemT")
RowT = TypeVar("RowT", bound=Row)


def path_of(root: str, *parts: str) -> str:
    """Return ``root`` and ``parts``, each escaped, as a path."""
    return "/".join([root, *(quote(part, safe="") for part in parts)])


# lists


async def list_all(api: Api, path: str, name: str, kind: type[list[ItemT]], *, page_size: int) -> list[ItemT]:
    """Return every item of the gateway list ``name`` at ``path``; raises `ProviderProtocolError` for any other answer."""

    def next_page(response: ApiResponse) -> str | None:
        token = decode(response.json(), _NextPage, f"GET {path}").next_page_token
        return f"{path}?page_size={page_size}&page_token={quote(token, safe='')}" if token else None

    return await read_list(api, f"{path}?page_size={page_size}", kind, name, next_page=next_page)


async def list_rows(api: Api, path: str, kind: type[list[RowT]], params: Mapping[str, str | int]) -> list[RowT]:
    """Return all pages of the array at ``path``, each object once: a list that grows while it is read repeats some.

    Raises `ProviderProtocolError` for any other answer.
    """
    rows: dict[str, RowT] = {}
    for row in await read_list(api, path, kind, params={**params, "page_size": PAGE_SIZE}):
        rows.setdefault(row.id, row)
    return list(rows.values())


async def projects(api: Api) -> list[SemaphoreProject]:
    """Return all projects that the token may view, by name. A page may be short or empty although others follow."""
    by_name: dict[str, SemaphoreProject] = {}
    bound = ListBound(PROJECTS)
    for number in range(1, MAX_PROJECT_PAGES + 1):
        response = await api.request("GET", PROJECTS, params={"page": number})
        bound.take(response)
        page = decode(response.json(), list[JsonValue], f"GET {PROJECTS}")
        bound.count(len(page))
        for item in page:  # what the token may not view is listed without metadata
            project = matches(item, SemaphoreProject)
            if project is not None:
                by_name[project.metadata.name] = project
        if response.headers.get("x-has-more") != "true":
            return [by_name[name] for name in sorted(by_name)]
    raise ProviderProtocolError(
        f"GET {PROJECTS}: more than {MAX_PROJECT_PAGES} pages",
        request=f"GET {PROJECTS}",
        hint="Semaphore shows no further pages; use an integration whose token sees fewer projects.",
    )


async def project_names(api: Api) -> list[str]:
    """Return the names of all projects that the token may view, sorted."""
    return [project.metadata.name for project in await projects(api)]


# single objects


async def project_id(api: Api, name: str) -> str:
    """Return the id of the project ``name``; raises `NotFound` if it does not exist."""
    answer = (await api.request("GET", path_of(PROJECTS, name))).json()
    project = decode(answer, SemaphoreProject, f"GET {PROJECTS}/…")
    _require_same(project.metadata.name, name, PROJECTS)
    return project.metadata.id


async def pipeline_of(api: Api, pipeline: str) -> PipelineAnswer:
    """Return a pipeline with its blocks and jobs; raises `NotFound`."""
    body = (await api.request("GET", path_of(PIPELINES, pipeline), params={"detailed": "true"})).json()
    answer = decode(body, PipelineAnswer, f"GET {PIPELINES}/…")
    _require_same(answer.pipeline.id, pipeline, PIPELINES)
    return answer


async def workflow_of(api: Api, workflow: str) -> SemaphoreWorkflow:
    """Return a workflow; raises `NotFound`."""
    body = (await api.request("GET", path_of(WORKFLOWS, workflow))).json()
    answer = decode(body, SemaphoreWorkflow, f"GET {WORKFLOWS}/…", "workflow")
    _require_same(answer.id, workflow, WORKFLOWS)
    return answer


def _require_same(actual: str, requested: str, path: str) -> None:
    if actual != requested:
        raise ProviderProtocolError(f"GET {path}/…: the answer is about another object", request=f"GET {path}")


# tasks


async def task_of(api: Api, project: str, reference: JsonValue) -> str:
    """Return the id of the project's task for ``reference``; raises `ValidationFailed` if no task or several match.

    ``{name: …}`` is a name and ``{id: …}`` an id. A text is a name; if no task has that name, it may be an id. Of several tasks with
    the same name, the one that is neither paused nor suspended is used.
    """
    tasks = await list_rows(api, TASKS, list[SemaphoreTask], {"project_id": project})
    form = reference if isinstance(reference, Mapping) else {}
    name = str(form.get("name") or form.get("id") or "") if form else str(reference)
    named = [] if "id" in form else [task for task in tasks if task.name == name]
    named = [task for task in named if not task.paused and not task.suspended] or named
    ids = sorted(task.id for task in named)
    same_id = [] if "name" in form else [name for task in tasks if task.id == name]
    if len({*ids, *same_id}) == 1:
        return (ids or same_id)[0]
    if ids:
        raise ValidationFailed(
            f"{len({*ids, *same_id})} tasks are called '{name}' (ids {', '.join([*ids, *same_id][:_SHOWN])})",
            hint="Give the id: `task: {id: …}`.",
        )
    known = sorted(task.name or "" for task in tasks)
    raise ValidationFailed(
        f"the project has no task '{name}'",
        hint=f"It has {', '.join(known[:_SHOWN])}{' and others' if len(known) > _SHOWN else ''}."
        if known
        else "It has no tasks.",
    )


async def declares(api: Api, task: str, parameter: str) -> bool:
    """Return whether the task passes ``parameter`` on to its runs: it silently drops parameters that it does not declare."""
    body = (await api.request("GET", path_of(TASKS, task))).json()
    declared = decode(body, SemaphoreTask, f"GET {TASKS}/…", "schedule").parameters
    return any(row.name == parameter for row in declared or ())


def reference_of(ref: str) -> JsonObject:
    """Return ``ref`` as an object: the API refuses a text, despite the documentation. A bare name is a branch."""
    for prefix, kind in _REF_TYPES:
        if ref.startswith(prefix):
            return {"type": kind, "name": ref.removeprefix(prefix)}
    if ref.startswith("refs/"):
        raise ValidationFailed(
            f"a task runs on a branch or a tag, not on '{ref}'", hint="Set `ref` to refs/heads/… or refs/tags/…."
        )
    return {"type": "BRANCH", "name": ref}


# texts and times


def lower(text: str | None) -> str:
    """Return ``text`` in lower case; empty for null."""
    return (text or "").lower()


def epoch_of(value: JsonValue) -> float | None:
    """Return a time in seconds since the epoch; None for anything else, and for 1970, which the provider writes for "never".

    Forms: ``"1571083003"`` (gateway), ``{"seconds", "nanos"}`` (lists), ``"2019-10-14 12:11:47.824128Z"`` (a pipeline),
    ``"2019-12-10T13:09:54Z"`` (webhooks).
    """
    seconds = _seconds(value)
    return seconds if seconds is not None and 0 < seconds < _MAX_EPOCH else None


def iso_of(value: JsonValue) -> str | None:
    """Return ``value`` as webhooks write it, in whole seconds (1970 for "never"); None if it is no time."""
    seconds = _seconds(value)
    if seconds is None or not 0 <= seconds < _MAX_EPOCH:
        return None
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(value: JsonValue) -> float | None:
    match value:
        case bool():
            return None
        case int() | float():
            return float(value)
        case str():
            return float(value) if value.isascii() and value.isdigit() else epoch_of_iso(value)
        case _:
            stamp = matches(value, _Timestamp)
            return None if stamp is None else stamp.seconds + stamp.nanos / 1e9
