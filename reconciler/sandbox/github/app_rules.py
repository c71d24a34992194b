"""What GitHub holds Apps to: permissions and the events that they allow, JSON web tokens, manifests. Pure.

Facts: docs, apps/creating-github-apps/authenticating-with-a-github-app and apps/sharing-github-apps/registering-a-github-app-from-a-manifest;
names of permissions from GitHub's OpenAPI description (``app-permissions``).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from reconciler.sandbox.github.records import StoredApp
from reconciler.sandbox.github.request import refuse
from reconciler.sandbox.shapes import fits, is_object, json_object, texts

LEVELS = ("read", "write", "admin")
MOST_AHEAD_S = 600
"""The latest ``exp`` of a JSON web token, counted from GitHub's now."""
LONGEST_NAME = 34
UNREADABLE = "A JSON web token could not be decoded"
_IAT = "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"
_EXP = "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires"
PERMISSIONS = frozenset(
    {
        *("actions", "actions_variables", "administration", "artifact_metadata", "attestations", "checks", "code_quality"),
        *("codespaces", "contents", "dependabot_secrets", "deployments", "discussions", "environments", "issues", "merge_queues"),
        *("metadata", "packages", "pages", "pull_requests", "repository_custom_properties", "repository_hooks"),
        *("repository_projects", "secret_scanning_alerts", "secrets", "security_events", "single_file", "statuses"),
        *("vulnerability_alerts", "workflows", "members", "organization_administration", "organization_custom_properties"),
        *("organization_custom_roles", "organization_events", "organization_hooks", "organization_packages"),
        *("organization_plan", "organization_projects", "organization_secrets", "organization_self_hosted_runners"),
        *("organization_user_blocking", "organization_personal_access_tokens"),
    }
)
_EVENTS: Mapping[str, tuple[str, ...]] = {
    "actions": ("workflow_dispatch", "workflow_job", "workflow_run"),
    "administration": ("branch_protection_configuration", "branch_protection_rule", "repository_ruleset"),
    "checks": ("check_run", "check_suite"),
    "contents": ("commit_comment", "create", "delete", "fork", "gollum", "push", "release", "repository_dispatch"),
    "deployments": ("deployment", "deployment_protection_rule", "deployment_review", "deployment_status"),
    "discussions": ("discussion", "discussion_comment"),
    "issues": ("issue_comment", "issues", "label", "milestone"),
    "merge_queues": ("merge_group",),
    "metadata": ("label", "member", "public", "repository", "star", "watch"),
    "members": ("membership", "organization", "team", "team_add"),
    "packages": ("package", "registry_package"),
    "pages": ("page_build",),
    "pull_requests": (
        *("issue_comment", "label", "milestone", "pull_request", "pull_request_review"),
        *("pull_request_review_comment", "pull_request_review_thread"),
    ),
    "security_events": ("code_scanning_alert",),
    "secret_scanning_alerts": ("secret_scanning_alert", "secret_scanning_alert_location", "secret_scanning_scan"),
    "statuses": ("status",),
    "vulnerability_alerts": ("dependabot_alert", "repository_vulnerability_alert"),
}
ALWAYS = frozenset({"installation", "installation_repositories", "github_app_authorization", "installation_target", "ping"})
"""Events that every App gets, and that none subscribes to."""


def unsupported(events: Iterable[str], permissions: Mapping[str, str]) -> list[str]:
    """Return those of ``events`` that an App with ``permissions`` cannot subscribe to."""
    allowed = {event for name in ("metadata", *permissions) for event in _EVENTS.get(name, ())}
    return sorted(set(events) - allowed)


def wider(requested: Mapping[str, object], granted: Mapping[str, str]) -> list[str]:
    """Return the permissions of ``requested`` that ``granted`` does not cover."""
    return sorted(name for name, level in requested.items() if not _covered(level, granted.get(name, "")))


def _covered(level: object, granted: str) -> bool:
    return level in LEVELS and granted in LEVELS and LEVELS.index(str(level)) <= LEVELS.index(granted)


def valid_permissions(value: object) -> dict[str, str]:
    """Return permissions by name. Raises GitHub's 422 for unknown names and levels."""
    if value is None:
        return {}
    if not fits(value, dict[str, str]):
        raise refuse(422, "Invalid request.\n\nFor 'properties/permissions', it is not an object of levels by name.")
    permissions = {name: str(level) for name, level in json_object(value).items()}
    for name, level in permissions.items():
        if name not in PERMISSIONS:
            raise refuse(422, f"Invalid request.\n\n'{name}' is not a permission.")
        if level not in LEVELS:
            raise refuse(422, f"Invalid request.\n\nFor 'properties/permissions/{name}', '{level}' is not a level.")
    return permissions


def signed_by(value: str, apps: Iterable[StoredApp], now: float) -> StoredApp:
    """Return the App that a JSON web token is of. Raises GitHub's refusal of a token that is not good at ``now``."""
    claims = _claims(value)
    issuer = claims.get("iss")
    if not isinstance(issuer, str | int) or isinstance(issuer, bool):
        raise refuse(401, "Missing 'issuer' claim ('iss') in assertion")
    app = next((app for app in apps if str(issuer) in (str(app["id"]), app["client_id"])), None)
    if app is None:
        raise refuse(404, "Integration not found")
    try:
        jwt.decode(value, RSAKey.import_key(app["public_key"]), algorithms=["RS256"])
    except (JoseError, ValueError):
        raise refuse(401, UNREADABLE) from None
    issued, ends = claims.get("iat"), claims.get("exp")
    if not isinstance(issued, int) or isinstance(issued, bool) or issued > now:
        raise refuse(401, _IAT)
    if not isinstance(ends, int | float) or isinstance(ends, bool) or ends <= now:
        raise refuse(401, _EXP)
    if ends > now + MOST_AHEAD_S:
        raise refuse(401, "'Expiration time' claim ('exp') is too far in the future")
    return app


def _claims(value: str) -> dict[str, object]:
    parts = value.split(".")
    try:
        claims = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))) if len(parts) == 3 else None
    except (binascii.Error, ValueError):
        claims = None
    if not is_object(claims):
        raise refuse(401, UNREADABLE)
    return claims


def manifest_problem(manifest: Mapping[str, object]) -> str:
    """Return what GitHub has against a manifest; empty if it takes it."""
    for field in ("name", "url", "redirect_url"):
        if not isinstance(manifest.get(field), str) or not manifest[field]:
            return f"{field} is missing"
    if len(str(manifest["name"])) > LONGEST_NAME:
        return f"Name is too long (maximum is {LONGEST_NAME} characters)"
    for field in ("url", "redirect_url"):
        if not str(manifest[field]).startswith(("https://", "http://")):
            return f"{field} must be a valid URL"
    hook = json_object(manifest.get("hook_attributes"))
    if hook and not hook.get("url"):
        return "hook_attributes.url is missing"
    unknown_hook = sorted(set(hook) - {"url", "active"})
    if unknown_hook:
        return f"hook_attributes has unknown fields: {', '.join(unknown_hook)}"
    permissions = json_object(manifest.get("default_permissions"))
    unknown = sorted(name for name, level in permissions.items() if name not in PERMISSIONS or level not in LEVELS)
    if unknown:
        return f"Default permission records resource is not included in the list: {', '.join(unknown)}"
    events = unsupported(texts(manifest.get("default_events")), {name: str(level) for name, level in permissions.items()})
    return f"Default events are not supported by permissions: {', '.join(events)}" if events else ""
