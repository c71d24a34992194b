"""What Buddy asks of an integration of each type and form of authentication, beyond its schema. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_REQUIRED: dict[tuple[str, str], tuple[str, ...]] = {
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
}
_TOKEN = frozenset(
    {
        "GIT_HUB",
        "GIT_LAB",
        "DIGITAL_OCEAN",
        "SENTRY",
        "SENTRY_ENTERPRISE",
        "ROLLBAR",
        "DATADOG",
        "HONEYBADGER",
        "VULTR",
        "LOGGLY",
        "FIREBASE",
    }
    | {"GHOST_INSPECTOR", "NEW_RELIC"}
)


def buddy_problems(spec: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield (code, pointer, message) of what is wrong with the spec of a BuddyIntegration that fits its schema."""
    kind, auth = spec["type"], spec.get("auth_type", "")
    if spec["scope"] == "PROJECT" and "project_name" not in spec:
        yield "RC1203", "/spec", "scope PROJECT needs project_name"
    if spec["scope"] != "PROJECT" and "project_name" in spec:
        yield "RC1206", "/spec/project_name", f"project_name goes with scope PROJECT, not {spec['scope']}"
    if "allowed_pipelines" in spec and spec.get("all_pipelines_allowed", False):
        yield "RC1206", "/spec/allowed_pipelines", "allowed_pipelines goes with all_pipelines_allowed: false"
    for index, user in enumerate((spec.get("permissions") or {}).get("users") or ()):
        if "id" not in user and "@" not in str(user.get("email") or user.get("name")):
            said = "a user is given by e-mail address (`email`) or `id`: a display name is what anyone can choose"
            yield "RC1255", f"/spec/permissions/users/{index}", said
    needed = _REQUIRED.get((kind, auth or "DEFAULT")) or _REQUIRED.get((kind, ""))
    if kind in _TOKEN:
        needed = ("token",)
    if kind == "CLOUDFLARE":
        needed = ("token",) if "token" in spec else ("api_key", "email")
    if kind == "SHOPIFY":
        needed = ("token",)
    for key in needed or ():
        if not spec.get(key):
            yield "RC1203", "/spec", f"{kind}{f' with auth_type {auth}' if auth else ''} needs {key}"
