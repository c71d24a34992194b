"""Where an event comes from, in the words of a code host: what results are written back to. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SHA = {
    "push": ("after",),
    "pull_request": ("pull_request", "head", "sha"),
    "pull_request_review": ("pull_request", "head", "sha"),
    "workflow_run": ("workflow_run", "head_sha"),
    "workflow_job": ("workflow_job", "head_sha"),
    "check_run": ("check_run", "head_sha"),
    "check_suite": ("check_suite", "head_sha"),
    "deployment": ("deployment", "sha"),
    "deployment_status": ("deployment", "sha"),
    "status": ("sha",),
    "pipeline_done": ("revision", "commit_sha"),
}
_REF = {
    "push": ("ref",),
    "pull_request": ("pull_request", "head", "ref"),
    "workflow_run": ("workflow_run", "head_branch"),
    "workflow_job": ("workflow_job", "head_branch"),
    "deployment": ("deployment", "ref"),
    "deployment_status": ("deployment", "ref"),
    "release": ("release", "tag_name"),
    "create": ("ref",),
    "pipeline_done": ("revision", "reference"),
}

_MARKED = re.compile(r"\(itm-[0-9a-f]{16,40}\)\Z")
MOST_STAGES = 64
"""Of what a Deployment says it came through; anybody who may make Deployments may write it."""


def origin_of(integration: str, event_type: str, payload: Any) -> dict[str, Any]:
    """Return ``integration``, ``repository`` (owner/name), ``sha``, ``ref``, ``deployment`` (id), ``automatic`` and ``through``, as far as told.

    ``automatic``: the Deployment was made by a workflow job's own ``environment:`` (the payload then names its run). ``through``:
    the stages that led to a Deployment of ours. ``event_type`` and ``payload`` are a stranger's words: what they say of
    themselves never names an Integration, or else a sender could have its credential write anywhere.
    """
    if not isinstance(payload, Mapping):
        return {}
    origin: dict[str, Any] = {"integration": integration} if integration else {}
    repository = _at(payload, ("repository", "full_name")) or _at(payload, ("repository", "slug"))
    if isinstance(repository, str) and repository.count("/") == 1:
        origin["repository"] = repository
    for name, paths in (("sha", _SHA), ("ref", _REF)):
        value = _at(payload, paths.get(event_type, ()))
        if isinstance(value, str) and value.strip("0"):  # a branch that was deleted is at 000…: no commit
            origin[name] = value
    if event_type == "deployment":
        number = _at(payload, ("deployment", "id"))
        if isinstance(number, int):
            origin["deployment"] = str(number)
            origin["environment"] = str(_at(payload, ("deployment", "environment")) or "")
            origin["automatic"] = isinstance(payload.get("workflow_run"), Mapping)
    made_by = _at(payload, ("deployment", "payload", "stages"))
    if isinstance(made_by, list) and made_by:
        origin["through"] = [str(one) for one in made_by[:MOST_STAGES]]
    return origin


def reported_by_us(event_type: str, payload: Any) -> bool:
    """Whether the event is a commit status that a stage wrote: its description ends with the id of an item."""
    said = payload.get("description") if event_type == "status" and isinstance(payload, Mapping) else None
    return isinstance(said, str) and _MARKED.search(said) is not None


def handed_on(payload: Any) -> dict[str, Any]:
    """Return the origin in an event of a stage or a group: that of what it came from. Only for events that were made here."""
    found = payload.get("origin") if isinstance(payload, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def _at(value: Any, path: tuple[str, ...]) -> Any:
    if not path:
        return None
    for part in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value
