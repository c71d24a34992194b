"""Reads of the pipelines API: projects by name, lists of workflows and pipelines, and one of each, with the shapes checked.

Facts: the provider's open server code (public-api/v1alpha). Lists are bare arrays with a Link header, whose absolute URLs say
``http`` and an inner host.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from reconciler.drivers.base import Api
from reconciler.drivers.http.paging import ListBound, paginate
from reconciler.drivers.semaphore.lists import is_item
from reconciler.model.errors import ProviderProtocolError

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
