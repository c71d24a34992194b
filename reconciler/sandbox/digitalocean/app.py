"""A simulated DigitalOcean: the account of a token, with the provider's refusals and rate limit.

Facts: the provider's OpenAPI description. State: ``account``, and ``tokens`` (``{TOKEN: {"scopes": ["account:read"]}}``); a token
without ``account:read`` is valid and gets 403, ``droplet_limit`` is shown with ``droplet:read`` only.
"""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import NotRequired, TypedDict, cast

from reconciler.sandbox.app import Call, RefusedCall, Reply, Route, Simulator, SlidingLimit

TOKEN = "dop_v1_" + "5a" * 32  # opens nothing but this simulator
HOUR_S, MINUTE_S = 3_600.0, 60.0


def _error(status: int, name: str, message: str, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, {"id": name, "message": message}, headers or {})


class DigitalOceanToken(TypedDict):
    """A token and its scopes."""

    scopes: list[str]
    expires_in_seconds: NotRequired[int | None]


class DigitalOceanRecords(TypedDict):
    """The whole state."""

    account: dict[str, object]
    tokens: dict[str, DigitalOceanToken]


class DigitalOcean(Simulator):
    """Implements `reconciler.sandbox.app.Simulator`."""

    provider = "digitalocean"
    defaults: Mapping[str, object] = {
        "requests_per_hour": 5_000,
        "requests_per_minute": 250,
        "token_info": True,
    }  # limits: with ``rate_limits``

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._sent: list[float] = []
        super().__init__(clock=clock)

    @property
    def records(self) -> DigitalOceanRecords:
        """The state, by type."""
        return cast("DigitalOceanRecords", self.state)

    def seed(self) -> dict[str, object]:
        account = {
            "email": "ops@example.com",
            "name": "Ops",
            "uuid": uuid.uuid4().hex,
            "email_verified": True,
            "status": "active",
        }
        limits = {"droplet_limit": 25, "status_message": "", "team": {"uuid": uuid.uuid4().hex, "name": "Ops"}}
        return {"account": {**account, **limits}, "tokens": {TOKEN: {"scopes": ["account:read", "droplet:read"]}}}

    def restored(self) -> None:
        self._burst = SlidingLimit(int(self.number("requests_per_minute")), MINUTE_S)
        self._sent.clear()

    def routes(self) -> Iterable[Route]:
        return [("GET", "/v2/account", self._account), ("GET", "/v1/oauth/token/info", self._info)]

    def before(self, call: Call) -> None:
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or token not in self.records["tokens"]:
            raise RefusedCall(_error(401, "unauthorized", "Unable to authenticate you."))
        now = self.clock()
        self._sent = [at for at in self._sent if at > now - HOUR_S]
        wait_s = self._burst.take(now) if self.settings["rate_limits"] else 0.0
        if wait_s or (self.settings["rate_limits"] and len(self._sent) >= self.number("requests_per_hour")):
            headers = {"retry-after": str(int(wait_s) + 1)} if wait_s else {}  # sent for a burst only
            raise RefusedCall(_error(429, "too_many_requests", "API Rate limit exceeded.", headers))
        self._sent.append(now)

    def after(self, call: Call, reply: Reply) -> Reply:
        """Add the id of the request and, to a valid token, the rate: it resets when the oldest request leaves the hour."""
        headers = {"x-request-id": str(uuid.uuid4())}
        if reply.status != 401:
            left = max(int(self.number("requests_per_hour")) - len(self._sent), 0)
            reset = int((self._sent[0] if self._sent else self.clock()) + HOUR_S)
            headers["ratelimit-limit"] = str(self.settings["requests_per_hour"])
            headers |= {"ratelimit-remaining": str(left), "ratelimit-reset": str(reset)}
        return dataclasses.replace(reply, headers={**headers, **reply.headers})

    def not_found(self, call: Call) -> Reply:
        return _error(404, "not_found", "The resource you requested could not be found.")

    def _info(self, call: Call) -> Reply:
        token = self.records["tokens"][call.headers["authorization"].partition(" ")[2]]
        if not self.settings["token_info"]:
            return self.not_found(call)
        facts = {"resource_owner_id": "1", "scopes": token["scopes"], "application": {"uid": None}, "created_at": 1_780_000_000}
        return Reply(200, {**facts, "expires_in_seconds": token.get("expires_in_seconds")})

    def _account(self, call: Call) -> Reply:
        scopes = self.records["tokens"][call.headers["authorization"].partition(" ")[2]]["scopes"]
        if "account:read" not in scopes:
            raise RefusedCall(_error(403, "forbidden", "You are not authorized to perform this operation"))
        hidden = set() if "droplet:read" in scopes else {"droplet_limit"}
        return Reply(200, {"account": {key: value for key, value in self.records["account"].items() if key not in hidden}})
