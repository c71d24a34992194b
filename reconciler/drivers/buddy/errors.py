"""Error answers: ``{"errors": [{"message"}]}`` for every failure, and the token scope that a refused request needs."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from reconciler.drivers.http.errors import Where, circumstances, retry_after
from reconciler.drivers.wire import matches
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
from reconciler.model.values import JsonValue

_TAKEN = re.compile(r"\b(?:already|taken|exists|in use|not unique|duplicate)\b", re.IGNORECASE)
_SHARED = frozenset({408, 409, 412})
_VALUES = re.compile(
    r"\b(?:names?|identifier|type|scope|tokens?|keys?|secrets?|e-?mail|shop|urls?|user(?:name|s)?|groups?|password|app_id|tenant_id|audience|"
    r"region|role_assumptions|arn|duration|permissions|access_level|pipelines?|projects?|auth_type|config|events?|target_url|"
    r"revision|branch|tag|variables?|comment|operation|parameters?|fields?|values?|valid|invalid|required|missing|must|should|"
    r"blank|empty|unknown|wrong|bad|incorrect|format|not found|does not exist|not allowed)\b",
    re.IGNORECASE,
)
"""A 400 with one of these words is about the request itself; any other refusal is retried, rarely."""
_IDENTITY = re.compile(r"\bidentifier\b", re.IGNORECASE)
_FAMILIES = (("/integrations", "INTEGRATION"), ("/webhooks", "WEBHOOK"))
_RUNNING = {"GET": "EXECUTION_INFO", "POST": "EXECUTION_RUN"}
_VERBS = {"GET": "INFO", "POST": "ADD", "PATCH": "MANAGE", "PUT": "MANAGE", "DELETE": "MANAGE"}


class _BuddyError(msgspec.Struct, frozen=True):
    message: JsonValue = ""


class _Errors(msgspec.Struct, frozen=True):
    errors: list[JsonValue]


def message_of(body: object) -> str:
    """Return the provider's messages, joined and cut to 300 characters; empty without any."""
    text = matches(body, str)
    if text is not None:
        return "" if text.lstrip().startswith("<") else " ".join(text.split())[:300]
    answer = matches(body, _Errors)
    errors = [matches(error, _BuddyError) for error in answer.errors] if answer is not None else []
    return " ".join("; ".join(str(error.message) for error in errors if error is not None and error.message).split())[:300]


def classify(status: int, headers: Mapping[str, str], body: object, request: str, *, now: float) -> ProviderError | None:
    words = message_of(body)
    where: Where = {"status": status, "request": request}
    suffix = f": {words}" if words else ""
    if status == 401:
        return AuthFailed(
            f"{request}: Buddy refused the token (401){suffix}", **where, hint="Provide a valid token that has not expired."
        )
    if status == 403:
        return _denied(words, request, where)
    if status == 404:
        return NotFound(f"{request}: not found (404){suffix}", **where)
    if status == 429:
        return RateLimited(
            f"{request}: rate limit (429){suffix}", retry_at=_reset(headers, now) or retry_after(headers, now), **where
        )
    if status in {400, 422}:
        if _TAKEN.search(words) and _IDENTITY.search(words):
            return Conflict(f"{request}: {words}", **where)
        error = ValidationFailed if _VALUES.search(words) and not circumstances(words) else Declined
        return error(f"{request}: refused ({status}){suffix}", **where)
    if 400 <= status < 500 and words and status not in _SHARED:
        return Declined(f"{request}: refused ({status}){suffix}", retry_at=retry_after(headers, now), **where)
    return None


def required_scope(request: str) -> str:
    """Return the token scope that ``request`` ("PATCH /workspaces/…") needs."""
    method, _, path = request.partition(" ")
    if "/executions" in path or path.endswith("/pipelines"):
        return _RUNNING.get(method, "EXECUTION_MANAGE")
    family = next((name for part, name in _FAMILIES if part in path), "")
    return f"{family}_{_VERBS.get(method, 'MANAGE')}" if family else "WORKSPACE"


def _denied(words: str, request: str, where: Where) -> PermissionDenied:
    if "disabled in this workspace" in words:
        return PermissionDenied(f"{request}: {words}", **where, hint="Enable the API in the workspace's security settings.")
    scope = required_scope(request)
    admins = " Webhooks also need a workspace administrator." if scope.startswith("WEBHOOK") else ""
    return PermissionDenied(
        f"{request}: the token may not do this (403){': ' + words if words else ''}",
        **where,
        hint=f"Grant the token the scope {scope}, and its owner the permission in the workspace.{admins}",
    )


def _reset(headers: Mapping[str, str], now: float) -> float | None:
    """Return ``X-Rate-Limit-Reset`` (epoch seconds) if it is within a day from ``now``."""
    text = headers.get("x-rate-limit-reset", "").strip()
    return float(text) if text.isdigit() and now < int(text) < now + 86_400 else None
