"""A simulated Gate, the API of Spinnaker: its health and its users.

Facts: Gate's source. State: ``users`` by name (``password``, ``email``, ``roles``, ``accounts``) and ``tokens`` (OAuth access tokens:
``{TOKEN: {"user": NAME}}``). Setting ``login``: how it answers without a user: 302 (to ``/login``), 401 or 403; 0: it takes everybody,
and does not look at a credential at all.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import TypedDict, cast

from reconciler.sandbox.app import Call, RefusedCall, Reply, Route, Simulator, SlidingLimit

TOKEN, USER, PASSWORD = "spinnaker-sandbox-token", "ci", "spinnaker-sandbox-password"  # they open nothing but this simulator
OPEN = frozenset({"/health", "/login"})


class GateAccount(TypedDict):
    """A user of Gate."""

    password: str
    email: str
    roles: list[str]
    accounts: list[str]


class GateToken(TypedDict):
    """An access token."""

    user: str


class SpinnakerRecords(TypedDict):
    """The whole state."""

    users: dict[str, GateAccount]
    tokens: dict[str, GateToken]


class Spinnaker(Simulator):
    """Implements `reconciler.sandbox.app.Simulator`."""

    provider = "spinnaker"
    defaults: Mapping[str, object] = {"login": 302, "health": "UP", "requests_per_minute": 60}  # the limit: with ``rate_limits``

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock=clock)

    @property
    def records(self) -> SpinnakerRecords:
        """The state, by type."""
        return cast("SpinnakerRecords", self.state)

    def seed(self) -> dict[str, object]:
        user = {"password": PASSWORD, "email": "ci@example.com", "roles": ["deployers"], "accounts": ["prod"]}
        return {"users": {USER: user}, "tokens": {TOKEN: {"user": USER}}}

    def restored(self) -> None:
        self._limit = SlidingLimit(int(self.number("requests_per_minute")), 60.0)

    def patch_settings(self, patch: Mapping[str, object]) -> None:
        """Change settings; a new limit starts with a fresh count."""
        super().patch_settings(patch)
        self.restored()

    def routes(self) -> Iterable[Route]:
        return [("GET", "/auth/user", self._user), ("GET", "/health", self._health)]

    def before(self, call: Call) -> None:
        """Check the rate limit and, except where nobody has to log in, the user."""
        if self.settings["rate_limits"] and (wait_s := self._limit.take(self.clock())):
            reset = str(int((self.clock() + wait_s) * 1000) + 1)  # milliseconds
            headers = {"x-ratelimit-capacity": str(self._limit.limit), "x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}
            raise RefusedCall(Reply(429, self._error(429, "Too Many Requests", "Rate capacity exceeded"), headers))
        if call.path not in OPEN and self._name_of(call) is None:
            raise RefusedCall(self._login(call))

    def after(self, call: Call, reply: Reply) -> Reply:
        """Add the id of the request."""
        return dataclasses.replace(reply, headers={"x-spinnaker-request-id": str(uuid.uuid4()), **reply.headers})

    def not_found(self, call: Call) -> Reply:
        return Reply(404, {**self._error(404, "Not Found", "No message available"), "url": call.path})

    def _error(self, status: int, error: str, message: str) -> dict[str, object]:
        return {"timestamp": int(self.clock() * 1000), "status": status, "error": error, "message": message}

    def _login(self, call: Call) -> Reply:
        status = int(self.number("login"))
        if status == 302:
            return Reply(302, None, {"location": f"{call.base_url}/login"})
        return Reply(
            status, self._error(status, "Unauthorized" if status == 401 else "Forbidden", "Full authentication is required")
        )

    def _name_of(self, call: Call) -> str | None:
        """Return the user of a request; None if it must log in first."""
        if not self.settings["login"]:
            return "anonymous"
        scheme, _, proof = call.headers.get("authorization", "").partition(" ")
        if scheme == "Bearer":
            token = self.records["tokens"].get(proof)
            return token["user"] if token is not None else None
        if scheme != "Basic":
            return None
        try:
            name, _, password = base64.b64decode(proof, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        user = self.records["users"].get(name)
        return name if user is not None and user["password"] == password else None

    def _user(self, call: Call) -> Reply:
        name = self._name_of(call) or ""
        user = self.records["users"].get(name, {"password": "", "email": name, "roles": [], "accounts": []})
        return Reply(
            200,
            {
                "username": name,
                "email": user["email"],
                "firstName": None,
                "lastName": None,
                "roles": user["roles"],
                "allowedAccounts": user["accounts"],
                "enabled": True,
            },
        )

    def _health(self, call: Call) -> Reply:
        state = str(self.settings["health"])
        return Reply(200 if state == "UP" else 503, {"status": state})
