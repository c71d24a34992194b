"""Reads of the pipelines API: projects by name, lists of workflows and pipelines, and one of each, with the shapes checked.

Facts: the provider's open server code (public-api/v1alpha). Lists are bare arrays with a Link header, whose absolute URLs say
``http`` and an inner host.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from reconciler.drivers.base import Api, ApiResponse
from reconciler.drivers.http.paging import ListBound, paginate
from reconciler.model.errors import OutcomeUnknown, ProviderProtocolError, ValidationFailed
from reconciler.model.values import JsonObject

PROJECTS = "/api/v1alpha/projects"
WORKFLOWS = "/api/v1alpha/plumber-workflows"
PIPELINES = "/api/v1alpha/pipelines"
TASKS = "/api/v1alpha/tasks"
PAGE_SIZE = 100
HOOK, MANUAL_RUN = "hook", "manual_run"
_TRIGGERS = (HOOK, "schedule", "api", MANUAL_RUN)
Item = Mapping[str, Any]


def path_of(root: str, *parts: str) -> str:
    """Return ``root`` and ``parts``, each escaped, as a path."""
    return "/".join([root, *(quote(part, safe="") for part in parts)])


async def project_id(api: Api, name: str) -> str:
    """Return the id of the project called ``name``; raises `NotFound` where there is none."""
    item = (await api.request("GET", path_of(PROJECTS, name))).json()
    if not is_item(item):
        raise ProviderProtocolError(f"GET {PROJECTS}/…: no project with id and name", request=f"GET {PROJECTS}")
    if item["metadata"]["name"] != name:
        raise ProviderProtocolError(f"GET {PROJECTS}/…: not the project that was asked for", request=f"GET {PROJECTS}")
    return str(item["metadata"]["id"])


async def listed(api: Api, path: str, key: str, params: Mapping[str, str | int]) -> list[Item]:
    """Return all pages of the list at ``path``, each object with its id ``key`` once.

    A list that grows while it is read shows some objects twice, and none too few. Raises `ProviderProtocolError` for another shape.
    """
    found: dict[str, Item] = {}
    bound = ListBound(path)
    async for response in paginate(api, path, params={**params, "page_size": PAGE_SIZE}, bound=bound):
        page = response.json()
        if not isinstance(page, list) or not all(isinstance(one, Mapping) and text_of(one, key) for one in page):
            raise ProviderProtocolError(f"GET {path}: not a list of objects with '{key}'", request=f"GET {path}")
        bound.count(len(page))
        for one in page:
            found.setdefault(one[key], one)
    return list(found.values())


async def pipeline_of(api: Api, pipeline: str) -> tuple[Item, list[Item]]:
    """Return a pipeline and its blocks, jobs included; raises `NotFound`."""
    body = (await api.request("GET", path_of(PIPELINES, pipeline), params={"detailed": "true"})).json()
    found = body.get("pipeline") if isinstance(body, Mapping) else None
    if not isinstance(found, Mapping) or text_of(found, "ppl_id") != pipeline:
        raise ProviderProtocolError(f"GET {PIPELINES}/…: not the pipeline that was asked for", request=f"GET {PIPELINES}")
    return found, items_of(body.get("blocks"))


async def workflow_of(api: Api, workflow: str) -> Item:
    """Return a workflow; raises `NotFound`."""
    body = (await api.request("GET", path_of(WORKFLOWS, workflow))).json()
    found = body.get("workflow") if isinstance(body, Mapping) else None
    if not isinstance(found, Mapping) or text_of(found, "wf_id") != workflow:
        raise ProviderProtocolError(f"GET {WORKFLOWS}/…: not the workflow that was asked for", request=f"GET {WORKFLOWS}")
    return found


def items_of(value: Any) -> list[Item]:
    """Return the objects of a list; none for what is no list."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def text_of(item: Item, key: str) -> str:
    """Return a text; empty where there is none."""
    value = item.get(key)
    return value if isinstance(value, str) else ""


def trigger_of(workflow: Item) -> str:
    """Return what started a workflow, in lower case: lists tell it as a number, a single workflow as a word; empty if untold."""
    value = workflow.get("triggered_by")
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(_TRIGGERS):
        return _TRIGGERS[value]
    return value.lower() if isinstance(value, str) else ""


MAX_PROJECT_PAGES = 100
"""The provider's own bound (500 projects a page)."""


async def list_all(api: Api, path: str, field: str, *, page_size: int) -> list[Mapping[str, Any]]:
    """Return every item of the list at ``path``; raises `ProviderProtocolError` for an answer that is no such list."""

    def following(response: ApiResponse) -> str | None:
        token = _object(response, path).get("next_page_token") or ""
        return f"{path}?page_size={page_size}&page_token={quote(str(token), safe='')}" if token else None

    items: list[Mapping[str, Any]] = []
    bound = ListBound(path)
    async for response in paginate(api, f"{path}?page_size={page_size}", next_page=following, bound=bound):
        page = _object(response, path).get(field)
        if not isinstance(page, list) or not all(is_item(item) for item in page):
            raise ProviderProtocolError(
                f"GET {path}: the list has no '{field}' of objects with id and name", request=f"GET {path}"
            )
        bound.count(len(page))
        items += page
    return items


async def projects(api: Api) -> list[Mapping[str, Any]]:
    """Return all projects that the token may view, by name. A page may be short, or empty, and others follow."""
    found: dict[str, Mapping[str, Any]] = {}
    bound = ListBound("/api/v1alpha/projects")
    for number in range(1, MAX_PROJECT_PAGES + 1):
        response = await api.request("GET", "/api/v1alpha/projects", params={"page": number})
        bound.take(response)
        page = response.json()
        if not isinstance(page, list):
            raise ProviderProtocolError("GET /api/v1alpha/projects: not a list", request="GET /api/v1alpha/projects")
        bound.count(len(page))
        found.update((str(item["metadata"]["name"]), item) for item in page if is_item(item))
        if response.headers.get("x-has-more") != "true":
            return [found[name] for name in sorted(found)]
    raise ProviderProtocolError(
        f"GET /api/v1alpha/projects: more than {MAX_PROJECT_PAGES} pages",
        request="GET /api/v1alpha/projects",
        hint="Semaphore shows no further pages; use an integration whose token sees fewer projects.",
    )


async def project_names(api: Api) -> list[str]:
    """Return the names of all projects that the token may view, sorted."""
    return [str(item["metadata"]["name"]) for item in await projects(api)]


def written(response: ApiResponse, request: str) -> Mapping[str, Any]:
    """Return the object that a write was answered with.

    Raises `OutcomeUnknown` for another answer: the write was accepted, so that it must be looked up and not refused.
    """
    try:
        item = response.json()
    except ProviderProtocolError:
        item = None
    if not is_item(item):
        raise OutcomeUnknown(f"{request}: accepted, and the answer is not understood; the object is looked up", request=request)
    return item  # type: ignore[no-any-return]


def is_item(item: Any) -> bool:
    """Whether ``item`` is an object with ``metadata.id`` and ``metadata.name``."""
    metadata = item.get("metadata") if isinstance(item, Mapping) else None
    return isinstance(metadata, Mapping) and all(isinstance(metadata.get(key), str) and metadata[key] for key in ("id", "name"))


def _object(response: ApiResponse, path: str) -> Mapping[str, Any]:
    body = response.json()
    if not isinstance(body, Mapping):
        raise ProviderProtocolError(f"GET {path}: not an object", request=f"GET {path}")
    return body


_END = 253_402_300_800.0
"""The year 10000: no clock of a provider is there."""


def epoch_of(value: Any) -> float | None:
    """Return when ``value`` is; None for no time, and for 1970, which is how the provider says "never".

    Forms: ``"1571083003"`` (gateway), ``{"seconds", "nanos"}`` (lists), ``"2019-10-14 12:11:47.824128Z"`` (a pipeline),
    ``"2019-12-10T13:09:54Z"`` (webhooks).
    """
    seconds = _seconds(value)
    return seconds if seconds is not None and 0 < seconds < _END else None


def iso_of(value: Any) -> str | None:
    """Return ``value`` as webhooks write it, in whole seconds (1970 for "never"); None for what is no time."""
    seconds = _seconds(value)
    if seconds is None or not 0 <= seconds < _END:
        return None
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(value: Any) -> float | None:
    if isinstance(value, Mapping):
        whole, nanos = value.get("seconds"), value.get("nanos", 0)
        return whole + nanos / 1e9 if _is_number(whole) and _is_number(nanos) else None
    if _is_number(value):
        return float(value)
    if not isinstance(value, str) or not value:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = datetime.datetime.fromisoformat(value)
    except ValueError:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)).timestamp()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_SHOWN = 5
_KINDS = (("refs/heads/", "BRANCH"), ("refs/tags/", "TAG"))


async def task_of(api: Api, project: str, wanted: Any) -> str:
    """Return the id of the project's task that ``wanted`` means; raises `ValidationFailed` for none and for several.

    ``{name: …}`` is a name and ``{id: …}`` an id. A text is a name; where no task has it, it may be an id. Of several tasks with one
    name, the one that is neither paused nor suspended is meant.
    """
    tasks = await listed(api, TASKS, "id", {"project_id": project})
    given = wanted if isinstance(wanted, Mapping) else {}
    named = str(given.get("name") or given.get("id") or "") if given else str(wanted)
    rows = [] if "id" in given else [task for task in tasks if task.get("name") == named]
    rows = [task for task in rows if not task.get("paused") and not task.get("suspended")] or rows
    found = sorted(str(task["id"]) for task in rows)
    same_id = [] if "name" in given else [named for task in tasks if task["id"] == named]
    if len({*found, *same_id}) == 1:
        return (found or same_id)[0]
    if found:
        raise ValidationFailed(
            f"{len({*found, *same_id})} tasks are called '{named}' (ids {', '.join([*found, *same_id][:_SHOWN])})",
            hint="Give the id: `task: {id: …}`.",
        )
    known = sorted(text_of(task, "name") for task in tasks)
    raise ValidationFailed(
        f"the project has no task '{named}'",
        hint=f"It has {', '.join(known[:_SHOWN])}{' and others' if len(known) > _SHOWN else ''}."
        if known
        else "It has no tasks.",
    )


async def declares(api: Api, task: str, parameter: str) -> bool:
    """Return whether the task hands ``parameter`` on to its runs."""
    body = (await api.request("GET", path_of(TASKS, task))).json()
    schedule = body.get("schedule") if isinstance(body, dict) else None
    if not isinstance(schedule, dict):
        raise ProviderProtocolError(f"GET {TASKS}/…: no task", request=f"GET {TASKS}")
    return any(text_of(one, "name") == parameter for one in items_of(schedule.get("parameters")))


def reference_of(ref: str) -> JsonObject:
    """Return ``ref`` as an object: a text is refused, whatever the documentation says. A bare name is a branch's."""
    for prefix, kind in _KINDS:
        if ref.startswith(prefix):
            return {"type": kind, "name": ref.removeprefix(prefix)}
    if ref.startswith("refs/"):
        raise ValidationFailed(
            f"a task runs on a branch or a tag, not on '{ref}'", hint="Set `ref` to refs/heads/… or refs/tags/…."
        )
    return {"type": "BRANCH", "name": ref}


def carries(pipeline: Item, parameter: str) -> str:
    """Return the value of ``parameter`` that a pipeline was started with; empty without it."""
    return next((text_of(one, "value") for one in items_of(pipeline.get("env_vars")) if one.get("name") == parameter), "")


def job_id(job: Item) -> str:
    """Return the id of a block's job."""
    return text_of(job, "job_id") or text_of(job, "id")
