"""Origin of an event: the repository, ref and commit that it is about, and where results are written back to. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from reconciler.drivers.capabilities import Path
from reconciler.drivers.specs import COMMITS, REFS
from reconciler.model.json import Json, at
from reconciler.model.values import JsonObject, is_no_commit

_FOLDERS = {"branch": "refs/heads/", "tag": "refs/tags/"}
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LONGEST_REF = 1_024
_MARKED = re.compile(r"\(itm-[0-9a-f]{16,40}\)\Z")
MOST_STAGES = 64
"""The most stages that are read from the payload of a Deployment: anyone who may create Deployments can write it."""


def origin_of(integration: str, event_type: str, payload: Json) -> dict[str, Json]:
    """Return the origin of an event from outside, as far as known.

    Keys: ``integration``: path of the Integration of its source. ``repository``: owner/name. ``sha``, ``ref``. ``lookup``: the ref whose
    commit is meant, if the payload has no commit. ``deleted``: the ref that the event deleted. ``deployment``: its id, with
    ``environment``. ``automatic``: whether the ``environment:`` of a workflow job created the Deployment (the payload then has its
    run). ``through``: the stages that led to a Deployment that we created.

    ``event_type`` and ``payload`` are untrusted: they never name the Integration, or a sender could have its credential write
    anywhere.
    """
    if not isinstance(payload, Mapping):
        return {}
    origin: dict[str, Json] = {"integration": integration} if integration else {}
    repository = text_at(payload, ("repository", "full_name")) or text_at(payload, ("repository", "slug"))
    if repository.count("/") == 1:
        origin["repository"] = repository
    deleted = deleted_ref(event_type, payload)
    if deleted:
        return {**origin, "deleted": deleted}
    commit, ref = _commit(event_type, payload), _ref(event_type, payload)
    if commit:
        origin["sha"] = commit
    if ref:
        origin["ref"] = ref
        if not commit and (lookup := _ref_to_look_up(event_type, payload, ref)):
            origin["lookup"] = lookup
    if event_type == "deployment":
        origin |= _deployment(payload)
    through = at(payload, "deployment", "payload", "stages")
    if isinstance(through, list) and through:
        origin["through"] = [str(stage) for stage in through[:MOST_STAGES]]
    return origin


def through_of(origin: JsonObject) -> tuple[str, ...]:
    """Return the paths of the stages that an event with this origin came through."""
    stages = origin.get("through")
    return tuple(map(str, stages)) if isinstance(stages, list | tuple) else ()


def _deployment(payload: JsonObject) -> dict[str, Json]:
    number = at(payload, "deployment", "id")
    if not isinstance(number, int):
        return {}
    environment = str(at(payload, "deployment", "environment") or "")
    return {
        "deployment": str(number),
        "environment": environment,
        "automatic": isinstance(at(payload, "workflow_run"), Mapping),
    }


def deleted_ref(event_type: str, payload: Json) -> str:
    """Return the ref that the event deleted, as ``refs/heads/x``; empty for any other event."""
    ref = text_at(payload, ("ref",))[:_LONGEST_REF]
    if event_type == "delete":
        return _FOLDERS.get(str(at(payload, "ref_type")), "") + ref if ref else ""
    gone = at(payload, "deleted") is True or is_no_commit(at(payload, "after"))
    return ref if event_type == "push" and gone else ""


def same_ref(name: str, other: str) -> bool:
    """Whether two names mean the same ref, as ``main`` and ``refs/heads/main`` do."""
    return bool(name) and bool(other) and (name == other or name in _short_forms(other) or other in _short_forms(name))


def short_ref(ref: str) -> str:
    """Return ``main`` for ``refs/heads/main``, ``v1`` for ``refs/tags/v1``."""
    return next((ref.removeprefix(folder) for folder in _FOLDERS.values() if ref.startswith(folder)), ref)


def _short_forms(ref: str) -> tuple[str, ...]:
    return short_ref(ref), ref.removeprefix("refs/")


def _commit(event_type: str, payload: JsonObject) -> str:
    paths = COMMITS.get(event_type) or COMMITS.get(event_type.upper(), ())
    if event_type == "push" and text_at(payload, ("ref",)).startswith("refs/heads/"):
        paths = (*paths, ("after",))  # of a branch it is always a commit
    values = (text_at(payload, path).lower() for path in paths)
    return next((value for value in values if _SHA.fullmatch(value) and not is_no_commit(value)), "")


def _ref(event_type: str, payload: JsonObject) -> str:
    paths = REFS.get(event_type) or REFS.get(event_type.upper(), ())
    values = (text_at(payload, path) for path in paths)
    return next((value for value in values if 0 < len(value) <= _LONGEST_REF), "")


def _ref_to_look_up(event_type: str, payload: JsonObject, ref: str) -> str:
    """Return the full ref of an event that names a ref without its commit; empty for any other event."""
    if event_type == "create":
        folder = _FOLDERS.get(text_at(payload, ("ref_type",)), "")
        return folder + ref if folder else ""
    if event_type == "release":
        draft = at(payload, "release", "draft") is True  # the tag of a draft does not exist yet
        return "" if draft else f"refs/tags/{ref}"
    if event_type == "workflow_dispatch":
        return ref if ref.startswith("refs/") else f"refs/heads/{ref}"
    return f"refs/heads/{ref}" if event_type == "repository_dispatch" else ""


def reported_by_us(event_type: str, payload: Json) -> bool:
    """Whether the event is a commit status that a stage wrote: its description ends with the id of an item."""
    return event_type == "status" and _MARKED.search(text_at(payload, ("description",))) is not None


def inherited_origin(payload: Json) -> dict[str, Json]:
    """Return the origin that an event of a stage or a group passes on. Only for events that were made here."""
    origin = at(payload, "origin")
    return dict(origin) if isinstance(origin, Mapping) else {}


def text_at(value: Json, path: Path) -> str:
    """Return the text at ``path``; empty if there is none, or a value that is not text."""
    text = at(value, *path)
    return text if isinstance(text, str) else ""
