"""Error answers: ``{"errors": [{"message"}]}`` for every failure, and which scope of a token a refused request wanted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from reconciler.drivers.http.errors import circumstances, retry_after
from reconciler.model.errors import (
    AuthFailed,
    Conflict,
    Declined,
    NotFound,
    PermissionDenied,
    ProviderError,
    RateLimited,
    ValidationFailed,
)

_TAKEN = re.compile(r"\b(?:already|taken|exists|in use|not unique|duplicate)\b", re.IGNORECASE)
_SHARED = frozenset({408, 409, 412})
_VALUES = re.compile(
    r"\b(?:names?|identifier|type|scope|tokens?|keys?|secrets?|e-?mail|shop|urls?|user(?:name|s)?|groups?|password|app_id|tenant_id|audience|"
    r"region|role_assumptions|arn|duration|permissions|access_level|pipelines?|projects?|auth_type|config|events?|target_url|"
    r"revision|branch|tag|variables?|comment|operation|parameters?|fields?|values?|valid|invalid|required|missing|must|should|"
    r"blank|empty|unknown|wrong|bad|incorrect|format|not found|does not exist|not allowed)\b",
    re.IGNORECASE,
)
"""Words by which a 400 speaks of what was sent; any other refusal is tried again, rarely."""
_IDENTITY = re.compile(r"\bidentifier\b", re.IGNORECASE)
_FAMILIES = (("/integrations", "INTEGRATION"), ("/webhooks", "WEBHOOK"))
_RUNNING = {"GET": "EXECUTION_INFO", "POST": "EXECUTION_RUN"}
_VERBS = {"GET": "INFO", "POST": "ADD", "PATCH": "MANAGE", "PUT": "MANAGE", "DELETE": "MANAGE"}


def message_of(body: Any) -> str:
    """Return the provider's own words, several joined, cut to 300 characters; empty without any."""
    if isinstance(body, str):
        return "" if body.lstrip().startswith("<") else " ".join(body.split())[:300]
    errors = body.get("errors") if isinstance(body, Mapping) else None
    words = [str(one.get("message", "")) for one in errors if isinstance(one, Mapping)] if isinstance(errors, list) else []
    return " ".join("; ".join(word for word in words if word).split())[:300]


def classify(status: int, headers: Mapping[str, str], body: Any, request: str, *, now: float) -> ProviderError | None:
    """Return the typed error of an answer, or None where the shared mapping of statuses says it all."""
    words = message_of(body)
    where: dict[str, Any] = {"status": status, "request": request}
    said = f": {words}" if words else ""
    if status == 401:
        return AuthFailed(
            f"{request}: Buddy refused the token (401){said}", **where, hint="Provide a token that is valid and not expired."
        )
    if status == 403:
        return _denied(words, request, where)
    if status == 404:
        return NotFound(f"{request}: not found (404){said}", **where)
    if status == 429:
        return RateLimited(f"{request}: rate limit (429){said}", retry_at=_reset(headers, now), **where)
    if status in {400, 422}:
        if _TAKEN.search(words) and _IDENTITY.search(words):
            return Conflict(f"{request}: {words}", **where)
        error = ValidationFailed if _VALUES.search(words) and not circumstances(words) else Declined
        return error(f"{request}: refused ({status}){said}", **where)
    if 400 <= status < 500 and words and status not in _SHARED:
        return Declined(f"{request}: refused ({status}){said}", retry_at=retry_after(headers, now), **where)
    return None


def scope_wanted(request: str) -> str:
    """Return the token scope that ``request`` ("PATCH /workspaces/…") needs."""
    method, _, path = request.partition(" ")
    if "/executions" in path or path.endswith("/pipelines"):
        return _RUNNING.get(method, "EXECUTION_MANAGE")
    family = next((name for part, name in _FAMILIES if part in path), "")
    return f"{family}_{_VERBS.get(method, 'MANAGE')}" if family else "WORKSPACE"


def _denied(words: str, request: str, where: dict[str, Any]) -> PermissionDenied:
    if "disabled in this workspace" in words:
        return PermissionDenied(f"{request}: {words}", **where, hint="Enable the API in the workspace's security settings.")
    scope = scope_wanted(request)
    admins = " Webhooks also need a workspace administrator." if scope.startswith("WEBHOOK") else ""
    return PermissionDenied(
        f"{request}: the token may not do this (403){': ' + words if words else ''}",
        **where,
        hint=f"Grant the token the scope {scope}, and its owner the right in the workspace.{admins}",
    )


def _reset(headers: Mapping[str, str], now: float) -> float | None:
    """Return when ``X-Rate-Limit-Reset`` (epoch seconds) is, if it makes sense: within a day from ``now``."""
    text = headers.get("x-rate-limit-reset", "").strip()
    return float(text) if text.isdigit() and now < int(text) < now + 86_400 else None
