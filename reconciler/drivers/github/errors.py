"""What GitHub's error answers mean. Pure.

The message of an answer matters more than its status: a 403 may be a rate limit, a missing permission or an archived
repository; a 422 may be a duplicate. Bodies may be JSON, HTML or empty; ``errors`` may hold objects or texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from reconciler.drivers.github.api import renamed_to
from reconciler.drivers.http.errors import Where, circumstances, retry_after
from reconciler.drivers.wire import find, matches
from reconciler.model.errors import (
    AuthFailed,
    Conflict,
    Declined,
    Moved,
    PermissionDenied,
    ProviderError,
    RateLimited,
    ReadOnly,
    ValidationFailed,
)

_SECONDARY = ("secondary rate limit", "abuse detection")
_MAX_TEXT = 300
_ALSO_DECLINED = frozenset({400, 402, 410, 413, 423, 451})
"""Declined in addition to the shared table, because GitHub is more precise: a proxy or this driver causes a 400, not a manifest."""
_FIELD_CODES = frozenset({"missing", "missing_field", "invalid", "custom", "unprocessable"})
_SENT_FIELDS = re.compile(
    r"\b(?:urls?|events?|config|content_type|insecure_ssl|secret|permitted key|ref|refs|sha|inputs?|workflow_dispatch|"
    r"event_type|client_payload|description|target_url|environment|environment_url|log_url|properties|return_run_details)\b",
    re.IGNORECASE,
)
"""Names of the fields that this driver sends: of hooks, dispatches, statuses and Deployments."""
MAX_WAIT_S = 86_400.0
"""No rate limit of GitHub's lasts longer; a header with a later time is ignored."""


class ErrorEntry(msgspec.Struct, frozen=True):
    """One entry of ``errors``; a bare text is an entry that has only a message."""

    message: str | None = None
    field: str | None = None
    code: str | None = None

    @property
    def names_field(self) -> bool:
        """Whether the entry blames a field of the request, and not a limit or another circumstance."""
        return bool(self.field) and self.code in _FIELD_CODES and not circumstances(self.message or "")


def classify(status: int, headers: Mapping[str, str], body: object, request: str, *, now: float) -> ProviderError | None:
    """Return the typed error of an answer, or None where its status alone is enough (404, 409, 5xx)."""
    text = message_of(body)
    where: Where = {"status": status, "request": request}
    if status == 401:
        return AuthFailed(f"{request}: GitHub refused the credential (401{_suffix(text)})", **where)
    if status in (403, 429):
        limited = _rate_limited(status, headers, text, request, now)
        return limited or (_denied(headers, text, request) if status == 403 else None)
    if status == 422:
        return _unprocessable(body, text, request)
    if status in (301, 302, 307, 308):
        target = headers.get("location") or find(body, str, "url") or ""
        return Moved(f"{request}: renamed at GitHub ({status})", target=target, within=bool(renamed_to(target)), **where)
    if status in _ALSO_DECLINED:
        until = retry_after(headers, now)
        return Declined(f"{request}: GitHub refused the request ({status}{_suffix(text)})", retry_at=until, **where)
    return None


def _unprocessable(body: object, text: str, request: str) -> ProviderError:
    details = ", ".join(details_of(body)) or text
    if "already exists" in details.lower():
        return Conflict(f"{request}: {details}", status=422, request=request)
    if _blames_values(body, details):
        return ValidationFailed(f"{request}: GitHub refused the values (422{_suffix(details)})", status=422, request=request)
    return Declined(f"{request}: GitHub refused the request (422{_suffix(details)})", status=422, request=request)


def _blames_values(body: object, details: str) -> bool:
    """Whether a 422 blames the values that were sent, so that only a changed manifest can help.

    Anything else is retried at a low rate: an error in that direction costs a request now and then, an error in this one stops
    the resource for good.
    """
    entries = _entries(body)
    if entries and all(entry.names_field for entry in entries):
        return True
    return bool(_SENT_FIELDS.search(details)) and not circumstances(details)


def _rate_limited(status: int, headers: Mapping[str, str], text: str, request: str, now: float) -> RateLimited | None:
    """The hourly limit names its end. A secondary limit names a pause or nothing: the budget then backs off."""
    where: Where = {"status": status, "request": request}
    after = retry_after(headers, now)
    secondary = any(word in text.lower() for word in _SECONDARY)
    if headers.get("x-ratelimit-remaining") == "0" and not secondary:
        reset = _seconds(headers.get("x-ratelimit-reset"))
        retry_at = None if reset is None or reset <= now else min(reset, now + MAX_WAIT_S)
        return RateLimited(f"{request}: GitHub's hourly rate limit is used up", retry_at=retry_at, **where)
    if secondary or after is not None or status == 429:
        retry_at = None if after is None else max(after, now + 1.0)
        return RateLimited(f"{request}: GitHub's secondary rate limit", retry_at=retry_at, **where)
    return None


def _denied(headers: Mapping[str, str], text: str, request: str) -> PermissionDenied:
    permissions = headers.get("x-accepted-github-permissions", "")
    scopes = headers.get("x-accepted-oauth-scopes", "")
    hint = ""
    if "archived" in text.lower():
        return ReadOnly(
            f"{request}: GitHub does not change archived repositories",
            status=403,
            request=request,
            hint="The repository is archived: unarchive it, or remove it from the manifest; its hook then stays as it is.",
        )
    if headers.get("x-github-sso", "").startswith("required"):
        hint = "The organization requires single sign-on: authorize the token for it."
    elif permissions and "allows_permissionless_access" not in permissions:
        hint = f"Grant the credential {_alternatives(permissions)}."
    elif scopes:
        hint = f"Grant the token one of the scopes {scopes}."
    return PermissionDenied(f"{request}: GitHub does not permit it (403{_suffix(text)})", status=403, request=request, hint=hint)


def _alternatives(permissions: str) -> str:
    """``contents=write; contents=write,workflows=write`` → ``contents: write, or contents: write and workflows: write``."""
    ways = [way for way in permissions.split(";") if way.strip()]
    return ", or ".join(" and ".join(part.strip().replace("=", ": ") for part in way.split(",")) for way in ways)[:_MAX_TEXT]


def message_of(body: object) -> str:
    """Return the message of an answer, shortened; empty for HTML and for bodies of another form."""
    plain = matches(body, str) or ""
    message = find(body, str, "message") or find(body, str, "error") or ("" if plain.lstrip().startswith("<") else plain)
    return " ".join(message.split())[:_MAX_TEXT]


def details_of(body: object) -> list[str]:
    """Return the first ten entries of ``errors`` as text: the message, or field and code. Never a value that was sent."""
    details = (
        f"{entry.field or 'a field'}: {entry.code or 'invalid'}" if entry.message is None else entry.message
        for entry in _entries(body)[:10]
    )
    return [" ".join(detail.split())[:_MAX_TEXT] for detail in details]


def _entries(body: object) -> list[ErrorEntry]:
    """Return the entries of ``errors`` that can be read."""
    entries = (
        ErrorEntry(message=entry) if isinstance(entry, str) else matches(entry, ErrorEntry)
        for entry in find(body, list[object], "errors") or ()
    )
    return [entry for entry in entries if entry is not None]


def _suffix(text: str) -> str:
    return f": {text}" if text else ""


def _seconds(text: str | None) -> float | None:
    """Return a whole number of seconds; None for any other text."""
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 16 else None
