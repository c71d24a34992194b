"""Where an event comes from, in the words of a code host: what results are written back to. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from reconciler.drivers.capabilities import Path
from reconciler.drivers.specs import COMMITS, REFS
from reconciler.model.values import is_no_commit

_FOLDERS = {"branch": "refs/heads/", "tag": "refs/tags/"}
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LONGEST_REF = 1_024

_MARKED = re.compile(r"\(itm-[0-9a-f]{16,40}\)\Z")
MOST_STAGES = 64
"""Of what a Deployment says it came through; anybody who may make Deployments may write it."""


def origin_of(integration: str, event_type: str, payload: Any) -> dict[str, Any]:
    """Return ``integration``, ``repository`` (owner/name), ``sha``, ``ref``, ``deployment`` (id), ``automatic`` and ``through``, as far as known.

    ``lookup``: the ref whose commit is meant, where the payload names no commit. ``deleted``: the ref that the event deleted.
    ``automatic``: the Deployment was made by a workflow job's own ``environment:`` (the payload then names its run). ``through``:
    the stages that led to a Deployment of ours. ``event_type`` and ``payload`` come from outside: what they say of
    themselves never names an Integration, or else a sender could have its credential write anywhere.
    """
    if not isinstance(payload, Mapping):
        return {}
    origin: dict[str, Any] = {"integration": integration} if integration else {}
    repository = _at(payload, ("repository", "full_name")) or _at(payload, ("repository", "slug"))
    if isinstance(repository, str) and repository.count("/") == 1:
        origin["repository"] = repository
    gone = deleted_ref(event_type, payload)
    if gone:
        return {**origin, "deleted": gone}
    commit, ref = _commit(event_type, payload), _ref(event_type, payload)
    if commit:
        origin["sha"] = commit
    if ref:
        origin["ref"] = ref
        if not commit and (named := _named_only(event_type, payload, ref)):
            origin["lookup"] = named
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


def deleted_ref(event_type: str, payload: Any) -> str:
    """Return the ref that the event deleted, as ``refs/heads/x``; empty for any other event."""
    if not isinstance(payload, Mapping) or not isinstance(payload.get("ref"), str):
        return ""
    ref: str = payload["ref"][:_LONGEST_REF]
    if event_type == "delete":
        return _FOLDERS.get(str(payload.get("ref_type")), "") + ref
    gone = event_type == "push" and (payload.get("deleted") is True or is_no_commit(payload.get("after")))
    return ref if gone else ""


def same_ref(one: str, other: str) -> bool:
    """Whether two names are of one ref: ``main`` and ``refs/heads/main`` are."""
    return bool(one) and bool(other) and (one == other or one in _short_forms(other) or other in _short_forms(one))


def short_ref(ref: str) -> str:
    """Return ``main`` for ``refs/heads/main``, ``v1`` for ``refs/tags/v1``."""
    return next((ref.removeprefix(folder) for folder in _FOLDERS.values() if ref.startswith(folder)), ref)


def _short_forms(ref: str) -> tuple[str, ...]:
    return short_ref(ref), ref.removeprefix("refs/")


def _commit(event_type: str, payload: Mapping[str, Any]) -> str:
    paths = COMMITS.get(event_type) or COMMITS.get(event_type.upper(), ())
    if event_type == "push" and str(payload.get("ref")).startswith("refs/heads/"):
        paths = (*paths, ("after",))  # of a branch it is always a commit
    for value in (_at(payload, path) for path in paths):
        if isinstance(value, str) and _SHA.fullmatch(value.lower()) and not is_no_commit(value):
            return value.lower()
    return ""


def _ref(event_type: str, payload: Mapping[str, Any]) -> str:
    paths = REFS.get(event_type) or REFS.get(event_type.upper(), ())
    values = (_at(payload, path) for path in paths)
    return next((value for value in values if isinstance(value, str) and 0 < len(value) <= _LONGEST_REF), "")


def _named_only(event_type: str, payload: Mapping[str, Any], ref: str) -> str:
    """Return the whole ref of an event that says which ref it is about, and not at which commit that is."""
    if event_type == "create":
        folder = _FOLDERS.get(str(payload.get("ref_type")), "")
        return folder + ref if folder else ""
    if event_type == "release":
        draft = _at(payload, ("release", "draft")) is True  # a draft's tag is not there yet
        return "" if draft else f"refs/tags/{ref}"
    if event_type == "workflow_dispatch":
        return ref if ref.startswith("refs/") else f"refs/heads/{ref}"
    return f"refs/heads/{ref}" if event_type == "repository_dispatch" else ""


def reported_by_us(event_type: str, payload: Any) -> bool:
    """Whether the event is a commit status that a stage wrote: its description ends with the id of an item."""
    description = payload.get("description") if event_type == "status" and isinstance(payload, Mapping) else None
    return isinstance(description, str) and _MARKED.search(description) is not None


def handed_on(payload: Any) -> dict[str, Any]:
    """Return the origin in an event of a stage or a group: that of what it came from. Only for events that were made here."""
    found = payload.get("origin") if isinstance(payload, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def _at(value: Any, path: Path) -> Any:
    if not path:
        return None
    for part in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value
