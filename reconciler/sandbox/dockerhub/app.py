"""A simulated Docker Hub: the login of the Hub API, repositories, and the registry's tokens, on one address.

Facts: the OpenAPI description of the Hub API and the token protocol of the registry. State: ``tokens`` (access tokens and passwords:
``{SECRET: {"user", "actions": ["pull"], "problem": ""}}``; ``problem`` is ``2fa`` or ``sso``) and ``repositories`` (``{USER: [NAME]}``).
Tokens of the Hub API live 600 s. As the real one, the registry answers 200 without a credential, and drops what is not granted.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NotRequired, TypedDict, cast

import orjson

from reconciler.sandbox.app import Call, RefusedCall, Reply, Route, Simulator, SlidingLimit
from reconciler.sandbox.shapes import is_object

TOKEN, USER = "dckr_pat_" + "sandbox" + "0" * 20, "acme"  # opens nothing but this simulator
_PROBLEMS = {
    "2fa": "Require secondary authentication on MFA enabled account",
    "sso": "Password login is not allowed: the organization enforces SSO",
}


class HubCredential(TypedDict):
    """An access token or a password."""

    user: str
    actions: list[str]
    problem: NotRequired[str]


class DockerHubRecords(TypedDict):
    """The whole state."""

    tokens: dict[str, HubCredential]
    repositories: dict[str, list[str]]


def _jwt(claims: Mapping[str, object]) -> str:
    """Return a token whose signature nobody checks here: only its issuer reads it."""
    parts = ({"alg": "RS256", "typ": "JWT"}, claims)
    return ".".join([*(base64.urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=").decode() for part in parts), "c2ln"])


class DockerHub(Simulator):
    """Implements `reconciler.sandbox.app.Simulator`."""

    provider = "dockerhub"
    defaults: Mapping[str, object] = {"requests_per_minute": 180, "token_life_s": 600}  # the limit: with ``rate_limits``

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._issued: dict[str, tuple[str, float]] = {}
        super().__init__(clock=clock)

    @property
    def records(self) -> DockerHubRecords:
        """The state, by type."""
        return cast("DockerHubRecords", self.state)

    def seed(self) -> dict[str, object]:
        return {"tokens": {TOKEN: {"user": USER, "actions": ["pull", "push"]}}, "repositories": {USER: ["web"]}}

    def restored(self) -> None:
        self._limit = SlidingLimit(int(self.number("requests_per_minute")), 60.0)

    def patch_settings(self, patch: Mapping[str, object]) -> None:
        """Change settings; a new limit starts with a fresh count."""
        super().patch_settings(patch)
        self.restored()

    def routes(self) -> Iterable[Route]:
        return [
            ("POST", "/v2/auth/token", self._log_in),
            ("GET", "/v2/namespaces/{namespace}/repositories", self._repositories),
            ("GET", "/token", self._registry_token),
        ]

    def before(self, call: Call) -> None:
        """Check the rate limit and, except where a credential is exchanged, the token."""
        if self.settings["rate_limits"] and (wait_s := self._limit.take(self.clock())):
            until = str(int(self.clock() + wait_s) + 1)  # a time, not a duration
            raise RefusedCall(Reply(429, {"detail": "Rate limit exceeded", "error": False}, {"x-retry-after": until}))
        if call.path not in {"/v2/auth/token", "/token"} and self._user_of(call) is None:
            raise RefusedCall(Reply(401, {"detail": "unauthorized", "message": "unauthorized"}))

    def not_found(self, call: Call) -> Reply:
        return Reply(404, {"detail": "object not found", "message": "object not found"})

    def _user_of(self, call: Call) -> str | None:
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        user, end = self._issued.get(token, ("", 0.0))
        return user if scheme in {"Bearer", "JWT"} and end > self.clock() else None

    def _log_in(self, call: Call) -> Reply:
        try:
            body = call.json()
        except ValueError:
            body = None
        if not is_object(body) or set(body) != {"identifier", "secret"}:
            return Reply(400, {"detail": "identifier and secret are required", "message": "bad request"})
        known = self.records["tokens"].get(str(body["secret"]))
        if known is None or known["user"] != body["identifier"]:
            return Reply(401, {"detail": "Incorrect authentication credentials", "message": "unauthorized"})
        if known.get("problem"):
            return Reply(401, {"detail": _PROBLEMS[known["problem"]], "message": "unauthorized"})
        token = _jwt({"sub": known["user"], "jti": secrets.token_hex(8)})
        self._issued[token] = (known["user"], self.clock() + self.number("token_life_s"))
        return Reply(200, {"access_token": token})

    def _repositories(self, call: Call, namespace: str) -> Reply:
        names = self.records["repositories"].get(namespace)
        if names is None:
            return self.not_found(call)
        size = min(int(call.query.get("page_size", "10")), 100)
        start = (max(int(call.query.get("page", "1")), 1) - 1) * size
        rows = [{"name": name, "namespace": namespace} for name in names[start : start + size]]
        return Reply(200, {"count": len(names), "next": None, "previous": None, "results": rows})

    def _registry_token(self, call: Call) -> Reply:
        scheme, _, pair = call.headers.get("authorization", "").partition(" ")
        granted: list[str] = []
        if scheme == "Basic":
            try:
                user, _, secret = base64.b64decode(pair, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                user, secret = "", ""
            known = self.records["tokens"].get(secret)
            if known is None or known["user"] != user:
                return Reply(401, {"details": "incorrect username or password"})
            granted = known["actions"]
        kind, _, rest = call.query.get("scope", "").partition(":")
        name, _, actions = rest.rpartition(":")
        kept = [action for action in actions.split(",") if action in granted]
        access = [{"type": kind, "name": name, "actions": kept}] if kept else []
        token = _jwt({"aud": "registry.docker.io", "access": access})
        return Reply(200, {"token": token, "access_token": token, "expires_in": 300, "issued_at": "2026-01-01T00:00:00Z"})
