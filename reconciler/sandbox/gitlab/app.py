"""A simulated GitLab: access tokens and what they show of themselves, with GitLab's refusals and rate limit.

Facts: GitLab's REST API (version 4). State: ``tokens`` (``{TOKEN: {"name", "scopes", "user", "expires_at", "revoked"}}``) and
``users`` (``{ID: {"username", "name"}}``); the user of a project or group token is a bot. The setting ``token_page`` False is a server
before 15.5, which has no page for a token about itself.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import NotRequired, TypedDict, cast

from reconciler.sandbox.app import Call, RefusedCall, Reply, Route, Simulator, SlidingLimit

TOKEN = "glpat-sandbox-" + "x" * 20  # opens nothing but this simulator
_READS_USER = frozenset({"api", "read_api", "read_user"})


class SimulatedGitLabToken(TypedDict):
    """A token. ``expires_at`` is a date or null; without ``active`` it is active until then."""

    name: str
    scopes: list[str]
    user: int
    expires_at: NotRequired[str | None]
    revoked: NotRequired[bool]
    active: NotRequired[bool]


class GitLabRecords(TypedDict):
    """The whole state."""

    tokens: dict[str, SimulatedGitLabToken]
    users: dict[str, dict[str, str]]


class GitLab(Simulator):
    """Implements `reconciler.sandbox.app.Simulator`."""

    provider = "gitlab"
    defaults: Mapping[str, object] = {"requests_per_minute": 2_000, "token_page": True}  # enforced with ``rate_limits``

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock=clock)

    @property
    def records(self) -> GitLabRecords:
        """The state, by type."""
        return cast("GitLabRecords", self.state)

    def seed(self) -> dict[str, object]:
        token = {"name": "ci", "scopes": ["api"], "user": 7, "expires_at": None}
        return {"tokens": {TOKEN: token}, "users": {"7": {"username": "ops", "name": "Ops"}}}

    def restored(self) -> None:
        self._limit = SlidingLimit(int(self.number("requests_per_minute")), 60.0)

    def patch_settings(self, patch: Mapping[str, object]) -> None:
        """Change settings; a new limit starts with a fresh count."""
        super().patch_settings(patch)
        self.restored()

    def routes(self) -> Iterable[Route]:
        return [("GET", f"{root}{path}", handler) for root in ("", "/api/v4") for path, handler in self._paths()]

    def _paths(self) -> Iterable[tuple[str, Callable[..., Reply]]]:
        return [("/personal_access_tokens/self", self._own_token), ("/user", self._user), ("/version", self._version)]

    def before(self, call: Call) -> None:
        """Refuse an unknown, revoked or expired token, all alike; then the rate limit, whose body is plain text."""
        token = self._token(call)
        if token is None or token.get("revoked") or self._ended(token):
            raise RefusedCall(Reply(401, {"message": "401 Unauthorized"}))
        if self.settings["rate_limits"] and (wait_s := self._limit.take(self.clock())):
            raise RefusedCall(Reply(429, "Retry later\n", {"retry-after": str(int(wait_s) + 1)}))

    def after(self, call: Call, reply: Reply) -> Reply:
        """Add the headers of the throttle, which are sent while it is on."""
        if not self.settings["rate_limits"]:
            return reply
        headers = {"ratelimit-limit": str(self.settings["requests_per_minute"]), "ratelimit-name": "throttle_authenticated_api"}
        return dataclasses.replace(reply, headers={**headers, **reply.headers})

    def not_found(self, call: Call) -> Reply:
        return Reply(404, {"error": "404 Not Found"})

    def _token(self, call: Call) -> SimulatedGitLabToken | None:
        scheme, _, bearer = call.headers.get("authorization", "").partition(" ")
        return self.records["tokens"].get(call.headers.get("private-token") or (bearer if scheme == "Bearer" else ""))

    def _ended(self, token: SimulatedGitLabToken) -> bool:
        end = token.get("expires_at")
        return end is not None and datetime.fromtimestamp(self.clock(), UTC).date().isoformat() >= end

    def _own_token(self, call: Call) -> Reply:
        token = self._token(call)
        if token is None or not self.settings["token_page"]:
            return self.not_found(call)
        shown = {"id": 42, "name": token["name"], "revoked": False, "created_at": "2026-01-01T00:00:00.000Z", "description": ""}
        ends = {"scopes": token["scopes"], "user_id": token["user"], "last_used_at": None, "expires_at": token.get("expires_at")}
        return Reply(200, {**shown, **ends, "active": token.get("active", True)})

    def _user(self, call: Call) -> Reply:
        token = self._token(call)
        if token is None or not _READS_USER.intersection(token["scopes"]):
            text = "The request requires higher privileges than provided by the access token."
            raise RefusedCall(
                Reply(403, {"error": "insufficient_scope", "error_description": text, "scope": "api read_user read_api"})
            )
        return Reply(200, {"id": token["user"], "state": "active", **self.records["users"].get(str(token["user"]), {})})

    def _version(self, call: Call) -> Reply:
        return Reply(200, {"version": "19.0.0", "revision": "0123456789a"})
