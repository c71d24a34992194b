"""Error answers: three families behind one root (gateway, pipelines API, projecthub), and the plain text of the edge."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from reconciler.drivers.http.errors import Where, circumstances
from reconciler.drivers.wire import matches
from reconciler.model.errors import (
    AuthFailed,
    Conflict,
    Declined,
    NotFound,
    PermissionDenied,
    ProviderError,
    ScopeGone,
    ValidationFailed,
)
from reconciler.model.values import JsonValue

_FAILED_PRECONDITION = 9
"""gRPC: the system is not in the state that the request needs (an organization's setting); the request itself is valid."""
_VALUES = re.compile(
    r"\b(?:rule|notify|target|pattern|regex|valid|invalid|name|value|entry|parameters?|reference|branch|tag|commit|pipeline_file|file|"
    r"required|missing|must|should|malformed|uuid|format|env_vars?|page|task|project|endpoint|does not exist|not found|secret)\b",
    re.IGNORECASE,
)
"""A 400 with one of these words is about the request itself; any other refusal is retried, rarely."""
_TAKEN = "already been taken"
_NO_RIGHT = "Permission denied"
_GATEWAY = re.compile(r" /api/(?:v1alpha/notifications|v1beta/secrets)(?:/|$)")
_PROJECTS = re.compile(r" /api/v1alpha/projects(?:/|$)")
_RIGHTS = {"notifications": "organization.notifications", "secrets": "organization.secrets", "projects": "project"}


class _Failure(msgspec.Struct, frozen=True):
    message: str = ""
    code: JsonValue = None


def _failure(body: JsonValue) -> _Failure:
    """Return the message, with the spaces of one line and cut to 200 characters, and the gRPC code of any body shape."""
    failure = matches(body, _Failure) or _Failure(matches(body, str) or "")
    text = failure.message
    return _Failure("" if text.lstrip().startswith("<") else " ".join(text.split())[:200], failure.code)


def classify(status: int, headers: Mapping[str, str], body: object, request: str, *, now: float) -> ProviderError | None:  # noqa: ARG001  one signature for all providers
    failure, is_json = _failure(body), isinstance(body, dict)
    words = failure.message
    where: Where = {"status": status, "request": request}
    if status in {400, 422}:
        return _refused(words, failure.code, request, where)
    if status == 401:
        if (_PROJECTS.search(request) and is_json) or words == _NO_RIGHT:
            return _denied(words, request, where)  # projecthub and the logs answer 401 for a missing permission
        return AuthFailed(
            f"{request}: the organization refused the API token (401)",
            **where,
            hint="Provide a valid API token. The provider caches tokens: a change may take five minutes to show.",
        )
    if status == 403:
        return _denied(words, request, where)
    if status == 404:
        return _not_found(words, request, where, is_json=is_json)
    return None


def _refused(words: str, code: object, request: str, where: Where) -> ProviderError:
    if _TAKEN in words:  # code 9 from notifications, code 3 from secrets: never a 409
        return Conflict(f"{request}: {words}", **where)
    hint = ""
    if code == _FAILED_PRECONDITION and "can not be updated" in words:
        hint = "This organization hides secret values, so a secret is never changed in place: it is deleted and created again."
    error = ValidationFailed if code != _FAILED_PRECONDITION and _VALUES.search(words) and not circumstances(words) else Declined
    return error(f"{request}: refused: {words or 'no reason given'}", **where, hint=hint)


def _denied(words: str, request: str, where: Where) -> PermissionDenied:
    family = next((name for name in _RIGHTS if f"/{name}" in request), "")
    right = f"{_RIGHTS[family]}.{'view' if request.startswith('GET ') else 'manage'}" if family else "a permission"
    return PermissionDenied(
        f"{request}: the token lacks {right}" + (f" ({words})" if words else ""),
        **where,
        hint=f"Grant {right} to the role of the token's user or service account.",
    )


def _not_found(words: str, request: str, where: Where, *, is_json: bool) -> ProviderError:
    """The gateway and projecthub answer JSON; plain text is from the edge: the organization does not exist, or an allow list blocks us."""
    if (_GATEWAY.search(request) or _PROJECTS.search(request)) and not is_json:
        return ScopeGone(
            f"{request}: the organization was not found (404)",
            **where,
            hint="Check `spec.url`; an IP allow list of the organization answers 404 as well.",
        )
    return NotFound(
        f"{request}: not found (404){': ' + words if words else ''}",
        **where,
        hint="Semaphore also answers 404 when the token lacks the permission to view or manage the object.",
    )
