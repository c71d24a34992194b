"""Tasks of a project: found by name or id, and what ``run_now`` wants to be told.

Facts: the scheduler of the provider's open server code. A parameter that the task does not declare is dropped without a word,
so that only a task which declares ours carries it into its runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.drivers.base import Api
from reconciler.drivers.semaphore.api import TASKS, Item, items_of, listed, path_of, text_of
from reconciler.model.errors import ProviderProtocolError, ValidationFailed
from reconciler.model.values import JsonObject

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
