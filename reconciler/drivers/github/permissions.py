"""Which permission of a GitHub App each call of this driver needs. Data, and its lookup.

Facts: github/docs, data of "Permissions required for GitHub Apps" (server-to-server-permissions.json). A path that is not listed is
a defect: the driver must not call what it has no permission for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import unquote

from reconciler.model.errors import ReconcilerError

NAMES: Mapping[str, str] = MappingProxyType({"webhooks": "repository_hooks"})
"""Name of a permission in manifests → GitHub's, where they differ."""
LEVELS = ("read", "write", "admin")
METADATA = "metadata"
_REPO = r"/(?:repos/(?P<owner>[^/]+)/(?P<repo>[^/]+)|repositories/(?P<id>\d+))"
_ORG = r"/org(?:s|anizations)/(?P<org>[^/]+)"
_JWT = re.compile(r"/app(?:/.*)?|/(?:orgs|users)/[^/]+/installation|/repos/[^/]+/[^/]+/installation|/app-manifests/.*", re.ASCII)
_TABLE: tuple[tuple[str, str, str, str], ...] = (
    # path below the repository or organization, permission, level of GET and HEAD, level of the other methods
    (rf"{_REPO}/hooks/\d+/(?:pings|tests)", "repository_hooks", "read", "read"),
    (rf"{_REPO}/hooks(?:/.*)?", "repository_hooks", "read", "write"),
    (rf"{_ORG}/hooks/\d+/(?:pings|tests)", "organization_hooks", "read", "read"),
    (rf"{_ORG}/hooks(?:/.*)?", "organization_hooks", "read", "write"),
    (rf"{_REPO}/actions/.+", "actions", "read", "write"),
    (rf"{_REPO}/dispatches", "contents", "read", "write"),
    (rf"{_REPO}/deployments(?:/.*)?", "deployments", "read", "write"),
    (rf"{_REPO}/statuses/.+", "statuses", "read", "write"),
    (rf"{_REPO}/commits/[^/]+/status(?:es)?", "statuses", "read", "read"),
    (rf"{_REPO}/commits/[^/]+/check-(?:runs|suites)", "checks", "read", "read"),
    (rf"{_REPO}/(?:commits|contents|git|branches|compare|tarball|zipball)(?:/.*)?", "contents", "read", "write"),
    (rf"{_REPO}/check-(?:runs|suites)(?:/.*)?", "checks", "read", "write"),
    (rf"{_REPO}/(?:pulls|issues)(?:/.*)?", "pull_requests", "read", "write"),
    (rf"{_REPO}/collaborators(?:/.*)?", METADATA, "read", "read"),
    (_REPO, METADATA, "read", "read"),
    (rf"{_ORG}(?:/repos)?", METADATA, "read", "read"),
    (r"/installation/repositories|/rate_limit|/users/[^/]+|/meta|/", METADATA, "read", "read"),
)
_RULES = tuple((re.compile(path, re.ASCII), permission, read, write) for path, permission, read, write in _TABLE)


@dataclass(frozen=True, slots=True)
class Need:
    """What one call needs: a permission, and the repository that it is about (empty: it is about none)."""

    permission: str
    level: str
    repository: str = ""
    """Name without its owner."""
    repository_id: int = 0
    owner: str = ""
    """Account of the repository, in lower case; empty where the call names it by its id."""


def needs_jwt(path: str) -> bool:
    """Whether a call acts as the App itself, and not as an installation."""
    return _JWT.fullmatch(path) is not None


def need_of(method: str, path: str) -> Need:
    """Return what a call of an installation needs. Raises `ReconcilerError` for a path that is not in the table."""
    for pattern, permission, read, write in _RULES:
        match = pattern.fullmatch(path)
        if match is not None:
            where = match.groupdict()
            level = read if method in {"GET", "HEAD"} else write
            repository, owner = unquote(where.get("repo") or "").lower(), unquote(where.get("owner") or "").lower()
            return Need(permission, level, repository, int(where.get("id") or 0), owner)
    raise ReconcilerError(f"{method} {path}: the permission of this call is not known", code="RC9001")


def own_name(permission: str) -> str:
    """Return GitHub's name of a permission that a manifest names."""
    return NAMES.get(permission, permission)


def covers(granted: Mapping[str, str], permission: str, level: str) -> bool:
    """Whether ``granted`` contains ``permission`` at ``level`` or a higher one. Metadata can be read by every App."""
    has = granted.get(own_name(permission), "read" if permission == METADATA else "")
    return has in LEVELS and LEVELS.index(has) >= LEVELS.index(level)


def gaps(granted: Mapping[str, str], needs: Mapping[str, str]) -> tuple[str, ...]:
    """Return the ``needs`` that ``granted`` does not cover, as ``deployments: write``, sorted."""
    return tuple(f"{own_name(name)}: {level}" for name, level in sorted(needs.items()) if not covers(granted, name, level))


def surplus(granted: Mapping[str, str], needs: Mapping[str, str]) -> tuple[str, ...]:
    """Return what is granted and not needed: permissions without a need, and levels above it."""
    needed = {own_name(name): level for name, level in needs.items()}
    return tuple(
        f"{name}: {level}"
        for name, level in sorted(granted.items())
        if name != METADATA and not (name in needed and not _above(level, needed[name]))
    )


def _above(level: str, needed: str) -> bool:
    return level in LEVELS and needed in LEVELS and LEVELS.index(level) > LEVELS.index(needed)


_EVENTS: Mapping[str, Iterable[str]] = {
    "actions": ("workflow_dispatch", "workflow_job", "workflow_run"),
    "administration": ("branch_protection_configuration", "branch_protection_rule", "repository_ruleset"),
    "checks": ("check_run", "check_suite"),
    "contents": ("commit_comment", "create", "delete", "fork", "gollum", "push", "release", "repository_dispatch"),
    "deployments": ("deployment", "deployment_protection_rule", "deployment_review", "deployment_status"),
    "discussions": ("discussion", "discussion_comment"),
    "issues": ("issue_comment", "issues", "label", "milestone"),
    "merge_queues": ("merge_group",),
    "metadata": ("repository", "star", "watch", "member", "public"),
    "packages": ("package", "registry_package"),
    "pull_requests": (
        "issue_comment",
        "label",
        "milestone",
        "pull_request",
        "pull_request_review",
        "pull_request_review_comment",
        "pull_request_review_thread",
    ),
    "statuses": ("status",),
}
"""Permission (read is enough) → the events that an App with it can subscribe to."""


PERMISSIONS = frozenset(
    {
        *("actions", "actions_variables", "administration", "artifact_metadata", "attestations", "checks", "code_quality"),
        *("codespaces", "contents", "dependabot_secrets", "deployments", "discussions", "environments", "issues"),
        *("members", "merge_queues", METADATA, "organization_administration", "organization_announcement_banners"),
        *("organization_custom_org_roles", "organization_custom_properties", "organization_custom_roles"),
        *("organization_events", "organization_hooks", "organization_packages", "organization_personal_access_tokens"),
        *("organization_personal_access_token_requests", "organization_plan", "organization_projects"),
        *("organization_secrets", "organization_self_hosted_runners", "organization_user_blocking", "packages", "pages"),
        *("pull_requests", "repository_custom_properties", "repository_hooks", "repository_projects"),
        *("secret_scanning_alerts", "secrets", "security_events", "single_file", "statuses", "vulnerability_alerts", "workflows"),
    }
)
"""Permissions that an App can request: ``app-permissions`` in GitHub's OpenAPI description, and ``actions_variables``."""

ALWAYS_SENT = frozenset(
    {"installation", "installation_repositories", "installation_target", "github_app_authorization", "meta", "ping"}
)
"""Events about the App itself, which it cannot subscribe to: GitHub sends them anyway."""


def permissions_for(event: str) -> tuple[str, ...]:
    """Return the permissions any of which lets an App subscribe to ``event``; empty if no App can."""
    return tuple(sorted(permission for permission, events in _EVENTS.items() if event in events))


def events_for(granted: Mapping[str, str]) -> frozenset[str]:
    """Return the events that an App with ``granted`` can subscribe to."""
    return frozenset(event for permission, events in _EVENTS.items() if covers(granted, permission, "read") for event in events)


__all__ = [
    "ALWAYS_SENT",
    "LEVELS",
    "METADATA",
    "PERMISSIONS",
    "Need",
    "covers",
    "events_for",
    "gaps",
    "need_of",
    "needs_jwt",
    "own_name",
    "permissions_for",
    "surplus",
]
