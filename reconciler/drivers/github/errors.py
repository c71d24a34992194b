"""What GitHub's answers mean. Pure.

The message of an answer decides more than its status: a 403 may be a rate limit, a missing permission or an archived
repository; a 422 may be a duplicate. Bodies may be JSON, HTML or empty; ``errors`` may hold objects or strings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from reconciler.drivers.github.api import renamed_to
from reconciler.drivers.http.errors import circumstances, retry_after
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
"""Besides the shared table, since GitHub's own words say more: a bad request here is a proxy's doing or ours, not a manifest's."""
_FIELD_CODES = frozenset({"missing", "missing_field", "invalid", "custom", "unprocessable"})
_SPOKEN = re.compile(
    r"\b(?:urls?|events?|config|content_type|insecure_ssl|secret|permitted key|ref|refs|sha|inputs?|workflow_dispatch|"
    r"event_type|client_payload|description|target_url|environment|environment_url|log_url|properties|return_run_details)\b",
    re.IGNORECASE,
)
"""Words for what we send to GitHub: fields of hooks, dispatches, statuses and Deployments."""
MAX_WAIT_S = 86_400.0
"""No limit of GitHub's lasts longer than this; a header that says so is not believed."""


def classify(status: int, headers: Mapping[str, str], body: Any, request: str, *, now: float) -> ProviderError | None:
    """Return the typed error of an answer, or None where the meaning of its status alone holds (404, 409, 5xx)."""
    text = message_of(body)
    where: dict[str, Any] = {"status": status, "request": request}
    if status == 401:
        return AuthFailed(f"{request}: GitHub refused the credential (401{_said(text)})", **where)
    if status in (403, 429):
        limited = _rate_limited(status, headers, text, request, now)
        return limited or (_denied(headers, text, request) if status == 403 else None)
    if status == 422:
        said = ", ".join(details_of(body)) or text
        if "already exists" in said.lower():
            return Conflict(f"{request}: {said or 'it exists already'}", **where)
        if _about_values(body, said):
            return ValidationFailed(f"{request}: GitHub refused the values (422{_said(said)})", **where)
        return Declined(f"{request}: GitHub refused it (422{_said(said)})", **where)
    if status in (301, 302, 307, 308):
        named = body.get("url") if isinstance(body, Mapping) else None
        target = headers.get("location") or (named if isinstance(named, str) else "")
        return Moved(f"{request}: renamed at GitHub ({status})", target=target, within=bool(renamed_to(target)), **where)
    if status in _ALSO_DECLINED:
        until = retry_after(headers, now)
        return Declined(f"{request}: GitHub refused the request ({status}{_said(text)})", retry_at=until, **where)
    return None


def _about_values(body: Any, said: str) -> bool:
    """Whether a 422 is about what was sent, so that only another manifest can help: it names a field, or speaks of one.

    Everything else is tried again, rarely: to be wrong there costs a request now and then, and to be wrong here is for ever.
    """
    entries = body.get("errors") if isinstance(body, Mapping) else None
    rows = [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []
    if rows and all(row.get("field") and row.get("code") in _FIELD_CODES and not circumstances(_message(row)) for row in rows):
        return True
    return bool(_SPOKEN.search(said)) and not circumstances(said)


def _message(row: Mapping[str, Any]) -> str:
    return str(row.get("message") or "")


def _rate_limited(status: int, headers: Mapping[str, str], text: str, request: str, now: float) -> RateLimited | None:
    """The hourly limit names its end; a secondary one names a pause, or nothing: the budget then waits longer each time."""
    where: dict[str, Any] = {"status": status, "request": request}
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
    wanted = headers.get("x-accepted-github-permissions", "")
    scopes = headers.get("x-accepted-oauth-scopes", "")
    hint = ""
    if "archived" in text.lower():
        return ReadOnly(
            f"{request}: GitHub changes nothing in an archived repository",
            status=403,
            request=request,
            hint="The repository is archived: unarchive it, or take it out of the manifest (its hook is then left as it is).",
        )
    if headers.get("x-github-sso", "").startswith("required"):
        hint = "The organization asks for single sign-on: authorize the token for it."
    elif wanted and "allows_permissionless_access" not in wanted:
        hint = f"Grant the credential {_permissions(wanted)}."
    elif scopes:
        hint = f"Grant the token one of the scopes {scopes}."
    return PermissionDenied(f"{request}: GitHub does not permit it (403{_said(text)})", status=403, request=request, hint=hint)


def _permissions(grammar: str) -> str:
    """``contents=write; contents=write,workflows=write`` → ``contents: write, or contents: write and workflows: write``."""
    ways = [" and ".join(part.strip().replace("=", ": ") for part in way.split(",")) for way in grammar.split(";") if way.strip()]
    return ", or ".join(ways)[:_MAX_TEXT]


def message_of(body: Any) -> str:
    """Return what an answer says, short; empty for HTML and for bodies of another shape."""
    message = body.get("message") or body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(message, str) and isinstance(body, str) and not body.lstrip().startswith("<"):
        message = body
    return " ".join(message.split())[:_MAX_TEXT] if isinstance(message, str) else ""


def details_of(body: Any) -> list[str]:
    """Return each entry of ``errors`` in words: an entry is a string, or has a message, or a field and a code. Never a value."""
    entries = body.get("errors") if isinstance(body, Mapping) else None
    words = []
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, str):
            words.append(entry)
        elif isinstance(entry, Mapping):
            message = entry.get("message")
            words.append(
                message if isinstance(message, str) else f"{entry.get('field', 'a field')}: {entry.get('code', 'invalid')}"
            )
    return [" ".join(word.split())[:_MAX_TEXT] for word in words[:10]]


def _said(text: str) -> str:
    return f": {text}" if text else ""


def _seconds(text: str | None) -> float | None:
    """Return a whole number of seconds, or None for anything else."""
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 16 else None
