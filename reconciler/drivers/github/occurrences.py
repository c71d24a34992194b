"""Whether a payload can be of one occurrence only, so that an equal one is the same event said again. Pure.

GitHub signs the body and neither the id nor the event's name: a captured body may come again under another id and name. So this
is told by the payload itself, by an id or a time in it that no second occurrence has. Where there is none (somebody joins a team,
leaves and joins again) two equal payloads are two events, and only GitHub's id tells a repetition.
Facts: GitHub's "Webhook events and payloads" and its example payloads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class _Shape:
    """Payloads that have the object ``key``, none of ``without``, and one of ``actions`` (empty: any but ``unmoved``)."""

    key: str
    mark: str
    """Field of the object: an id, where the action happens once to one object; else a time that every such action moves."""
    actions: frozenset[str] = frozenset()
    unmoved: frozenset[str] = frozenset()
    """Actions that leave the time as it is."""
    without: frozenset[str] = frozenset()

    def tells(self, payload: Mapping[str, Any]) -> bool:
        found, action = payload.get(self.key), payload.get("action")
        if not isinstance(found, Mapping) or found.get(self.mark) is None or self.without & payload.keys():
            return False
        return action in self.actions if self.actions else action not in self.unmoved


def _once(key: str, *actions: str, mark: str = "id", without: frozenset[str] = frozenset()) -> _Shape:
    return _Shape(key, mark, frozenset(actions), without=without)


def _moving(key: str, *unmoved: str, without: frozenset[str] = frozenset()) -> _Shape:
    return _Shape(key, "updated_at", unmoved=frozenset(unmoved), without=without)


_ABOUT_OTHERS = frozenset({"comment", "review", "thread"})
_QUIET = ("locked", "unlocked", "pinned", "unpinned")
_SHAPES = (
    _once("workflow_run", "requested", "in_progress", "completed"),
    _once("workflow_job", "queued", "waiting", "in_progress", "completed"),
    _once("check_run", "created", "completed"),
    _once("check_suite", "requested", "completed", mark="updated_at"),
    _once("deployment_status", "created"),
    _once("deployment", "created", without=frozenset({"deployment_status"})),
    _once("release", "created", "deleted"),
    _once("release", "published", mark="published_at"),
    _once("comment", "created", "deleted"),
    _once("comment", "edited", mark="updated_at"),
    _once("review", "submitted", mark="submitted_at"),
    _once("review", "dismissed"),
    _once("key", "created", "deleted"),
    _once("milestone", "created", "deleted"),
    _Shape("merge_group", "head_sha"),
    _moving("pull_request", *_QUIET, without=_ABOUT_OTHERS),
    _moving("issue", *_QUIET, without=_ABOUT_OTHERS),
    _moving("discussion", *_QUIET, without=_ABOUT_OTHERS),
    *(_moving(key) for key in ("package", "registry_package", "alert", "repository_advisory", "security_advisory")),
    *(_moving(key) for key in ("project", "project_card", "project_column", "projects_v2_item", "projects_v2_status_update")),
    *(_moving(key) for key in ("repository_ruleset", "rule")),
)
_OF_EVERY_PAYLOAD = frozenset({"action", "repository", "organization", "sender", "enterprise", "installation"})
_STATUS = frozenset({"id", "sha", "state", "context"})


def is_unique(payload: Mapping[str, Any]) -> bool:
    """Whether ``payload`` has an id or a time that no other occurrence has."""
    return any(shape.tells(payload) for shape in _SHAPES) or _is_unique_without_object(payload)


def _is_unique_without_object(payload: Mapping[str, Any]) -> bool:
    repository, action = payload.get("repository"), payload.get("action")
    repository = repository if isinstance(repository, Mapping) else {}
    if "after" in payload:  # a push; its repository has the time, since a branch may go to and fro between two commits
        return True
    if payload.keys() >= _STATUS or "build" in payload:
        return payload.get("id") is not None
    if payload.get("starred_at") is not None or "pages" in payload:  # a page's sha is of a commit, which has a time
        return True
    if "forkee" in payload:
        return True
    alone = payload.keys() <= _OF_EVERY_PAYLOAD  # of the repository itself
    return alone and action in ("created", "deleted") and repository.get("id") is not None
