"""The credential check of GitLab: a personal, project or group access token, on gitlab.com or an installation of one's own.

Facts: GitLab's REST API (version 4). ``GET /personal_access_tokens/self`` answers for every kind of token and every scope; the token
is never rotated here, since the use of a rotated token revokes its successor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from reconciler.drivers.connection import Api
from reconciler.drivers.gitlab.spec import SPEC
from reconciler.drivers.provider import ProviderDriver
from reconciler.drivers.wire import decode, find
from reconciler.model.errors import AuthFailed, NotFound, PermissionDenied, ValidationFailed
from reconciler.model.status import CredentialReport

_SELF = "/personal_access_tokens/self"
_READS_USER = frozenset({"api", "read_api", "read_user"})
_BOT = re.compile(r"(project|group)_(\d+)_bot(?:_[0-9a-f]+|\d*)")
_SCOPES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("contents", "read"): ("read_repository", "write_repository"),
    ("contents", "write"): ("write_repository",),
    ("packages", "read"): ("read_registry", "write_registry"),
    ("packages", "write"): ("write_registry",),
}
"""Permission and level → scopes besides ``api`` (and ``read_api``, for reading) that grant it."""


class GitLabToken(msgspec.Struct, frozen=True):
    """What is read of a token about itself. ``expires_at`` is a date: the token ends when that day begins, in UTC."""

    scopes: list[str]
    name: str = ""
    user_id: int = 0
    revoked: bool = False
    active: bool = True
    expires_at: str | None = None


class GitLabUser(msgspec.Struct, frozen=True):
    """The user of a token; that of a project or group token is a bot."""

    username: str
    name: str = ""


class GitLabDriver(ProviderDriver):
    """Implements `reconciler.drivers.base.Driver`."""

    spec = SPEC

    def address(self, url: str) -> tuple[str, str]:
        """The API is at the root of the host; below a path (a relative URL root) ``spec.apiUrl`` names it."""
        parts = urlsplit(url)
        if not parts.hostname:
            raise ValidationFailed(f"'{url}' names no host", hint="Set `spec.url` to https://gitlab.com or to your installation.")
        return f"{parts.scheme}://{parts.netloc}/api/v4", parts.path.strip("/")

    def classify(self, status: int, headers: Mapping[str, str], body: object, request: str, *, now: float) -> Exception | None:
        """Return the errors of a refused token and of a missing scope; the body has one of three forms."""
        if status == 401:
            return AuthFailed(
                f"{request}: GitLab refused the token (401{_reason(body)})",
                status=status,
                request=request,
                hint="GitLab answers alike for a token that is wrong, expired or revoked: create a new one under Access tokens.",
            )
        if status == 403 and find(body, str, "error") == "insufficient_scope":
            scope = find(body, str, "scope") or "api"
            return PermissionDenied(
                f"{request}: the token lacks the scope {scope} (403)",
                status=status,
                request=request,
                hint=f"Create a token with the scope {scope}.",
            )
        return None

    async def check(self, api: Api, needs: Mapping[str, str]) -> CredentialReport:
        """Read the token's own page. A server older than 15.5 has none: there the user is read."""
        try:
            answer = await api.request("GET", _SELF)
        except NotFound:
            return await _check_user(api)
        token = decode(answer.json(), GitLabToken, f"GET {_SELF}")
        if token.revoked or not token.active:
            raise AuthFailed(
                f"the GitLab token '{token.name}' is {'revoked' if token.revoked else 'not active'}",
                request=f"GET {_SELF}",
                hint="Create a new token under Access tokens.",
            )
        unknown = {} if token.expires_at else {"expiresAt": "the token has no end date"}
        return CredentialReport(
            True,
            await _identity(api, token),
            f"{token.expires_at}T00:00:00Z" if token.expires_at else "",
            tuple(sorted(token.scopes)),
            _missing(frozenset(token.scopes), needs),
            unknown=unknown,
        )


async def _check_user(api: Api) -> CredentialReport:
    user = decode((await api.request("GET", "/user")).json(), GitLabUser, "GET /user")
    reason = "this GitLab server has no page for a token about itself (before 15.5)"
    return CredentialReport(True, user.username, unknown=dict.fromkeys(("granted", "missing", "expiresAt"), reason))


async def _identity(api: Api, token: GitLabToken) -> str:
    label = f"token '{token.name}'" if token.name else "a token"
    if not _READS_USER.intersection(token.scopes):
        return f"{label} of user {token.user_id}"
    try:
        user = decode((await api.request("GET", "/user")).json(), GitLabUser, "GET /user")
    except (PermissionDenied, NotFound):
        return f"{label} of user {token.user_id}"
    bot = _BOT.fullmatch(user.username)
    return f"{label} of {bot[1]} {bot[2]} ({user.username})" if bot else f"{user.username} ({label})"


def _missing(scopes: frozenset[str], needs: Mapping[str, str]) -> tuple[str, ...]:
    """Return the scopes that are needed and not granted; ``api`` grants everything, ``read_api`` every read."""
    if "api" in scopes:
        return ()
    missing = set()
    for name, level in needs.items():
        level = "read" if level == "read" else "write"
        enough = (*_SCOPES.get((name, level), ()), *(("read_api",) if level == "read" else ()))
        if not scopes.intersection(enough):
            missing.add(enough[0] if enough else "api")
    return tuple(sorted(missing))


def _reason(body: object) -> str:
    text = find(body, str, "error_description") or find(body, str, "message") or ""
    text = " ".join(text.split())[:200]
    return f": {text}" if text and text != "401 Unauthorized" else ""


driver = GitLabDriver()

__all__ = ["GitLabDriver", "driver"]
