"""Required fields of an integration at the simulated Buddy, by type and way of authentication (provider's parameter tables and SDK)."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from reconciler.sandbox.shapes import Identified, Text, fits, is_object, json_objects

TOKEN_TYPES = ("GIT_LAB", "DIGITAL_OCEAN", "SENTRY", "SENTRY_ENTERPRISE", "ROLLBAR", "DATADOG", "HONEYBADGER", "VULTR", "LOGGLY",
               "FIREBASE", "GHOST_INSPECTOR", "GIT_HUB", "NEW_RELIC")  # fmt: skip
_REQUIRED: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("AMAZON", "DEFAULT"): ("access_key", "secret_key"),
    ("AMAZON", "TRUSTED"): ("role_assumptions",),
    ("AMAZON", "OIDC"): ("role_assumptions", "audience"),
    ("AZURE_CLOUD", "DEFAULT"): ("app_id", "tenant_id", "password"),
    ("AZURE_CLOUD", "OIDC"): ("app_id", "tenant_id", "audience"),
    ("GOOGLE_SERVICE_ACCOUNT", "DEFAULT"): ("api_key",),
    ("GOOGLE_SERVICE_ACCOUNT", "OIDC"): ("config", "google_project"),
    ("PUSHOVER", ""): ("token", "access_key"),
    ("RACKSPACE", ""): ("username", "token"),
    ("DO_SPACES", ""): ("access_key", "secret_key"),
    ("BACKBLAZE", ""): ("key_id", "application_key"),
    ("UPCLOUD", ""): ("username", "password"),
    ("DOCKER_HUB", ""): ("username", "password"),
    ("STACK_HAWK", ""): ("api_key",),
    **{(name, ""): ("token",) for name in TOKEN_TYPES},
}
DEFAULT_AUTH: Mapping[str, str] = {"GIT_HUB": "TOKEN", "GIT_LAB": "TOKEN"}
TYPES = frozenset(name for name, _ in _REQUIRED) | {"CLOUDFLARE", "SHOPIFY"}
SCOPES = ("WORKSPACE", "PROJECT", "ENVIRONMENT")
LEVELS = ("DENIED", "USE_ONLY", "MANAGE")
_TEXTS = ("name", "type", "scope", "auth_type", "identifier", "project_name")
AUTH_TYPES = ("OAUTH", "TOKEN", "API_KEY", "APP", "APP_SPRYKER", "TOKEN_APP_EXTENSION", "DEFAULT", "OIDC", "TRUSTED", "APP_RW")


def missing_fields(body: Mapping[str, object]) -> tuple[str, ...]:
    """Return the required fields that ``body`` does not have."""
    kind, auth = str(body.get("type") or ""), str(body.get("auth_type") or "DEFAULT")
    required = ("name", "type", *_needed(kind, auth, body))
    if body.get("scope") == "PROJECT":
        required = (*required, "project_name")
    return tuple(name for name in required if body.get(name) in (None, "", []))


def _needed(kind: str, auth: str, body: Mapping[str, object]) -> tuple[str, ...]:
    if kind == "CLOUDFLARE":
        return ("api_key", "email") if body.get("api_key") else ("token",)
    if kind == "SHOPIFY":
        return ("partner_token", "token") if body.get("partner_token") else ("shop", "token")
    return _REQUIRED.get((kind, auth)) or _REQUIRED.get((kind, "")) or _REQUIRED.get((kind, "DEFAULT")) or ()


class _Role(msgspec.Struct, frozen=True):
    arn: Text


class _TrustedRole(_Role, frozen=True):
    external_id: Text


def check_fields(body: Mapping[str, object]) -> str:
    """Return the first error in the values of ``body``, or an empty text."""
    wrong = next((name for name in _TEXTS if not fits(body.get(name), str | None)), None)
    if wrong is not None:
        return f"Field {wrong} must be a string"
    if body.get("type") and body["type"] not in TYPES:
        return f"Integration type {body['type']} cannot be added with the API"
    if body.get("scope") not in (None, *SCOPES):
        return "Scope is not valid"
    if body.get("auth_type") not in (None, *AUTH_TYPES):
        return "Auth type is not valid"
    if not fits(body.get("role_assumptions") or [], list[_Role]):
        return "Each role assumption needs an arn"
    if body.get("auth_type") == "TRUSTED" and not fits(body.get("role_assumptions") or [], list[_TrustedRole]):
        return "Each role assumption needs an external_id"
    if not fits(body.get("allowed_pipelines") or [], list[Identified]):
        return "Each allowed pipeline needs an id"
    permissions = body.get("permissions") or {}
    return _check_permissions(permissions) if is_object(permissions) else "Permissions are not valid"


def _check_permissions(permissions: Mapping[str, object]) -> str:
    levels = [permissions[key] for key in ("admins", "others") if permissions.get(key) is not None]
    lists = [permissions.get(key) or [] for key in ("users", "groups")]
    if not all(fits(rows, list[Identified]) for rows in lists):
        return "Each permission needs the id of a user or group"
    rows = [row for entries in lists for row in json_objects(entries)]
    levels += [row.get("access_level") for row in rows]
    return "" if all(level in LEVELS for level in levels) else "Access level is not valid"
