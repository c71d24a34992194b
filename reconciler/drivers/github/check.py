"""Trying a credential: who it is, what it may do, when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from reconciler.drivers.base import Api, ApiResponse
from reconciler.model.errors import PermissionDenied
from reconciler.model.status import CredentialReport

_ANY_REPO = ("repo",)
SCOPES: Mapping[str, tuple[str, ...]] = {
    "webhooks": ("repo", "admin:repo_hook", "write:repo_hook"),
    "organization_hooks": ("admin:org_hook",),
    "deployments": ("repo", "repo_deployment"),
    "statuses": ("repo", "repo:status"),
    "actions": _ANY_REPO,
    "contents": _ANY_REPO,
    "checks": (),  # no classic token may write checks
}
"""Scopes of a classic token of which one covers the permission (GitHub's "scopes for OAuth apps")."""
_READ_SCOPES = {"webhooks": ("read:repo_hook",)}
_RATE = {"limit": "x-ratelimit-limit", "remaining": "x-ratelimit-remaining", "resetAt": "x-ratelimit-reset"}


async def check(api: Api, needs: Mapping[str, str]) -> CredentialReport:
    """Return what GitHub says of the credential; raises `AuthFailed` if it is refused.

    Only classic tokens tell their scopes. What a fine-grained or an installation token may do is not told by any cheap
    call: it shows in the first refusal, which names the missing permission.
    """
    try:
        answer = await api.request("GET", "/user")
        body = answer.json()
        identity = body.get("login") if isinstance(body, Mapping) else None
    except PermissionDenied:
        answer = await api.request("GET", "/installation/repositories", params={"per_page": 1})
        identity = f"an installation of a GitHub App on {api.connection.account}"
    scopes = _scopes(answer)
    return CredentialReport(
        valid=True,
        identity=identity if isinstance(identity, str) else "",
        expires_at=expiry(answer.headers.get("github-authentication-token-expiration", "")),
        granted=tuple(sorted(scopes or ())),
        missing=() if scopes is None else missing(scopes, needs),
        rate=_rate(answer.headers),
    )


def missing(scopes: frozenset[str], needs: Mapping[str, str]) -> tuple[str, ...]:
    """Return which of ``needs`` no scope of a classic token covers, each with the scopes that would."""
    lacking = []
    for name, level in sorted(needs.items()):
        covering = SCOPES.get(name)
        if covering is None:
            continue
        covering += _READ_SCOPES.get(name, ()) if level == "read" else ()
        if not scopes & set(covering):
            lacking.append(f"{name}: {level}" + (f" (scope {' or '.join(covering)})" if covering else ""))
    return tuple(lacking)


def expiry(text: str) -> str:
    """Return the end of a token in RFC 3339 from either of GitHub's two spellings; empty if there is none.

    Seen: ``2024-10-04 11:29:00 UTC`` and ``2026-02-06 07:42:23 +0100``.
    """
    try:
        at = datetime.strptime(text.strip().replace(" UTC", " +0000"), "%Y-%m-%d %H:%M:%S %z")
    except ValueError:
        return ""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _scopes(answer: ApiResponse) -> frozenset[str] | None:
    header = answer.headers.get("x-oauth-scopes")
    return None if header is None else frozenset(scope.strip() for scope in header.split(",") if scope.strip())


def _rate(headers: Mapping[str, Any]) -> dict[str, int]:
    found = {name: str(headers.get(header, "")) for name, header in _RATE.items()}
    return {name: int(value) for name, value in found.items() if value.isascii() and value.isdigit()}
