"""The request that an ``http`` executor's spec asks for. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.drivers.base import Api
from reconciler.drivers.builtin.origins import origin_of, path_of, shown
from reconciler.model.errors import ValidationFailed
from reconciler.model.executions import UNSETTABLE_HEADERS, RunIntent
from reconciler.model.values import JsonObject, text_of

IDEMPOTENT = frozenset({"GET", "PUT", "DELETE"})
"""Methods that, sent twice, intend what they intend sent once (RFC 9110 §9.2.2)."""
SUCCESSFUL = frozenset(range(200, 300))
POLL_S = 15.0
_BODILESS = frozenset({"GET", "DELETE"})
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class Poll:
    """What is asked until one of the conditions holds."""

    path: str
    success_when: str
    failure_when: str
    interval_s: float


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request to the origin that a client is bound to."""

    method: str
    path: str
    """Path and query."""
    shown: str
    """The URL as it may be stored."""
    headers: Mapping[str, str]
    payload: JsonObject | None
    passing: frozenset[int]
    poll: Poll | None

    @property
    def name(self) -> str:
        """What messages call it: method and path."""
        return f"{self.method} {self.path.partition('?')[0]}"


def request_of(api: Api, intent: RunIntent) -> HttpRequest:
    """Return the request of ``intent``; raises `ValidationFailed` for one that cannot be sent as it stands."""
    spec = intent.spec
    url, method = str(spec.get("url") or ""), method_of(intent)
    path = _path(api, url, "url")
    payload = spec.get("payload", None if method in _BODILESS else {})
    codes = spec.get("responsePolicy", {}).get("statusCodes")
    passing = frozenset(codes) if codes else SUCCESSFUL
    return HttpRequest(method, path, shown(url), _headers(intent), payload, passing, _poll(api, spec.get("poll")))


def method_of(intent: RunIntent) -> str:
    """Return the method: POST unless the spec has another."""
    return str(intent.spec.get("method", "POST"))


def _poll(api: Api, spec: JsonObject | None) -> Poll | None:
    if spec is None:
        return None
    path = _path(api, str(spec.get("url") or ""), "poll.url")
    interval_s = float(spec.get("interval") or POLL_S)
    return Poll(path, str(spec["successWhen"]), str(spec.get("failureWhen", "")), interval_s)


def _path(api: Api, url: str, name: str) -> str:
    if origin_of(url) != api.connection.api_url:
        raise ValidationFailed(
            f"`{name}` is not on {api.connection.api_url}",
            hint="One execution talks to one scheme, host and port: that of `url`.",
        )
    return path_of(url)


def _headers(intent: RunIntent) -> dict[str, str]:
    """Return the spec's headers, except those that are ours to set, and the execution's id under both its names."""
    found: dict[str, str] = {}
    for name, value in (intent.spec.get("headers") or {}).items():
        text = text_of(value)
        if not _NAME.fullmatch(name) or not text.isascii() or not text.isprintable():
            raise ValidationFailed(
                f"the header {ascii(name)[:80]} cannot be sent", hint="A value is one line of printable ASCII."
            )
        if name.lower() not in UNSETTABLE_HEADERS:
            found[name.lower()] = text.strip()
    return {**found, "idempotency-key": intent.correlation, "x-reconciler-execution": intent.correlation}
