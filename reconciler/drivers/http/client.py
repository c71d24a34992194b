"""The HTTP client of all drivers: an authenticated client per connection over one shared `HttpSession`.

A request passes the rules for its path, the rate budget of its credential and one send (`reconciler.drivers.http.transport`); the
driver, or else the shared table (`reconciler.drivers.http.errors`), turns a refusal into a typed error.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlencode, urljoin, urlsplit

import orjson

from reconciler import __version__
from reconciler.drivers.auth import AuthRequest
from reconciler.drivers.base import Driver
from reconciler.drivers.connection import Authenticator, Connection, RevokingAuthenticator
from reconciler.drivers.http.budget import Budget
from reconciler.drivers.http.errors import REDIRECTS, Response, foreign_redirect, page_of_a_proxy, retry_after, shared_error
from reconciler.drivers.http.network import NetworkPolicy
from reconciler.drivers.http.paging import same_host_path
from reconciler.drivers.http.transport import READS, Bounds, HttpSession, NetworkOptions, OutgoingRequest, wire_method
from reconciler.failpoints import failpoint
from reconciler.model.backoff import exponential, jittered
from reconciler.model.errors import (
    AddressRefused,
    AuthFailed,
    Moved,
    OutcomeUnknown,
    ProviderError,
    ProviderProtocolError,
    ProviderUnavailable,
    RateLimited,
    ReconcilerError,
    ValidationFailed,
)

__all__ = ["ApiClient", "Bounds", "HttpSession", "NetworkOptions", "Response", "retry_after", "shared_error"]

READ_RETRIES = 2
RETRY_PAUSE_S = 0.2
USER_AGENT = f"reconciler/{__version__}"
CONDITION = "if-none-match"
"""The tag of a conditional request; an authenticator may replace it, because a provider's tags depend on the credential."""
_ANY = frozenset(range(100, 1000))
_PATH_SAFE = "/%:@!$&'()*+,;=~-._?"


class _Call:
    """One request and the rest of its time, which its attempts share."""

    __slots__ = ("content", "extra", "left_s", "method", "name", "url", "write")

    def __init__(self, method: str, path: str, *, url: str, content: bytes | None, extra: Mapping[str, str] | None) -> None:
        self.method, self.url, self.content, self.extra = method, url, content, extra
        self.name = f"{method} {path.partition('?')[0]}"
        self.write = method not in READS
        self.left_s = 0.0


class ApiClient:
    """An authenticated client bound to one connection; implements `reconciler.drivers.connection.Api`.

    ``clock`` returns seconds since the epoch. With ``read_only`` any method other than GET and HEAD is a defect. Raises
    `AddressRefused` if the policy does not allow the connection's API root.
    """

    def __init__(
        self,
        connection: Connection,
        driver: Driver,
        authenticator: Authenticator,
        *,
        session: HttpSession,
        budget: Budget,
        clock: Callable[[], float],
        read_only: bool = False,
    ) -> None:
        NetworkPolicy(driver.hosts, session.allow).check_url(connection.api_url)
        if "?" in connection.api_url or "#" in connection.api_url:
            raise AddressRefused("the API root has a query or a fragment", hint="`apiUrl` is scheme, host and path only.")
        self.connection = connection
        self._driver = driver
        self.authenticator = authenticator
        self._session = session
        self._budget = budget
        self.clock = session.clock_of(connection.api_url, clock)
        self._read_only = read_only
        self.on_refusal: Callable[[AuthFailed], None] | None = None
        """Is called with each refusal of the credential before it is raised."""
        self._before_write: Callable[[], Awaitable[None]] | None = None
        session.adopt(budget)

    def guarded(self, before_write: Callable[[], Awaitable[None]]) -> ApiClient:
        """Return this client with a last check before each write, after all waiting for the budget: if it raises, nothing is
        sent.
        """
        client = copy.copy(self)
        client._before_write = before_write  # noqa: SLF001  its own copy
        return client

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        ok: frozenset[int] = frozenset(),
    ) -> Response:
        """Send one request; see `reconciler.drivers.connection.Api.request`."""
        call = self._call(method, path, params, json, headers)
        refreshed, failures = False, 0
        while True:
            try:
                return await self._outcome(await self._attempt(call), ok)
            except AuthFailed as error:
                if refreshed or not await self.authenticator.refresh():
                    if self.on_refusal is not None:
                        self.on_refusal(error)
                    raise
                refreshed = True
            except ProviderUnavailable as error:
                pause_s = jittered(exponential(failures, RETRY_PAUSE_S), 0.5, 1.5)
                failures += 1
                if call.write or failures > READ_RETRIES or error.retry_at is not None or call.left_s <= pause_s:
                    raise
                await asyncio.sleep(pause_s)

    async def close(self) -> None:
        """Revoke the short-lived credentials of this client, if its provider allows that."""
        if isinstance(self.authenticator, RevokingAuthenticator):
            await self.authenticator.close()

    async def learn_time(self) -> None:
        """Make one request if no answer has shown the provider's clock yet; raises typed errors if there is no answer."""
        if self.clock.ahead_s is None:
            await self.request("GET", "/", ok=_ANY)

    async def download(self, path: str) -> Response:
        """Follow the redirect of ``path`` without the credential; see `reconciler.drivers.connection.Api.download`."""
        answer = await self._attempt(self._call("GET", path, None, None, None))
        if answer.status not in REDIRECTS:
            return await self._outcome(answer, frozenset())
        target = _joined(self.connection.api_url, answer.headers.get("location", ""))
        own = _origin(target) in {_origin(self.connection.api_url), _origin(self.connection.url)}
        # `network.allow` opens hosts for the integration that names them, not for a target that an answer names.
        NetworkPolicy((_host(target),), self._session.allow if own else ()).check_url(target)
        name = f"GET {path.partition('?')[0]} (redirected)"
        request = OutgoingRequest("GET", target, name, {"user-agent": USER_AGENT, "accept-encoding": "gzip"})
        file = await self._session.send(request, deadline_s=self._session.bounds.read_s, public=not own)
        response = Response(file.status, file.headers, file.content, name)
        if file.status in REDIRECTS:
            raise ProviderProtocolError(f"{name}: redirected twice", status=file.status, request=name)
        if not 200 <= file.status < 300:
            raise shared_error(response, self.clock.clock())
        return response

    def _call(
        self, method: str, path: str, params: Mapping[str, str | int] | None, body: Any, extra: Mapping[str, str] | None
    ) -> _Call:
        path = self._checked_path(path)
        url = self.connection.api_url.rstrip("/") + path
        if params:
            url += ("&" if "?" in path else "?") + urlencode(params)
        call = _Call(method, path, url=url, content=orjson.dumps(body) if body is not None else None, extra=extra)
        if self._read_only and call.write:
            raise ReconcilerError(f"{call.name}: a write in a read-only session", code="RC9001")
        bounds = self._session.bounds
        call.left_s = bounds.write_s if call.write else bounds.read_s
        return call

    def _checked_path(self, path: str) -> str:
        """Return ``path`` below the API root: a name that climbs out of it would request something else with our credential."""
        if path.startswith(("http://", "https://")):
            path = same_host_path(self, path)
        if not path.startswith("/"):
            raise ReconcilerError(f"{path!r} is not a path below the API root", code="RC9001")
        route, mark, query = path.partition("?")
        if any(unquote(part) in {".", ".."} for part in route.split("/")):
            raise ValidationFailed("a name in the request's path is '.' or '..'", request=quote(route, safe=_PATH_SAFE))
        return quote(route, safe=_PATH_SAFE) + mark + query

    async def _attempt(self, call: _Call) -> Response:
        await self._budget.acquire(write=call.write)
        try:
            async with self._budget.gate:
                headers = {"user-agent": USER_AGENT, "accept": "application/json", "accept-encoding": "gzip"}
                if call.content is not None:
                    headers["content-type"] = "application/json"
                if call.extra:
                    headers.update({key.lower(): value for key, value in call.extra.items()})
                request = AuthRequest(wire_method(call.method), call.url, headers, call.content)
                await self.authenticator.authorize(request)
                if call.extra:  # a media type of this call wins over the authenticator's own
                    headers.update({key.lower(): value for key, value in call.extra.items() if key.lower() != CONDITION})
                _check_headers(headers, call.name)
                if call.write and self._before_write is not None:
                    await self._before_write()
                provider = self._driver.provider
                outgoing = OutgoingRequest(call.method, request.url, call.name, headers, call.content, request.exact, provider)
                return await self._send(outgoing, call)
        finally:
            self._budget.release(write=call.write)

    async def _send(self, request: OutgoingRequest, call: _Call) -> Response:
        failpoint("http-before-send")
        now = asyncio.get_running_loop().time
        started = now()
        try:
            answer = await self._session.send(request, deadline_s=call.left_s)
        finally:
            took_s = now() - started
            call.left_s -= took_s
        failpoint("http-after-send")
        self.clock.record_date(answer.headers, took_s)
        self._budget.record_answer(
            answer.headers, wrote=call.write and 200 <= answer.status < 300, ahead_s=self.clock.ahead_s or 0.0
        )
        return Response(answer.status, answer.headers, answer.content, call.name)

    async def _outcome(self, response: Response, ok: frozenset[int]) -> Response:
        if 200 <= response.status < 300 or response.status == 304 or response.status in ok:
            return response
        error = self._error(response)
        if isinstance(error, RateLimited):
            error.retry_at = self._budget.stop(error.retry_at, "refused by the provider")
            await self._budget.flush()
        raise error

    def _error(self, response: Response) -> Exception:
        blocked = page_of_a_proxy(response)
        if blocked is not None:
            return blocked
        now, body = self.clock.now(), response.body()
        error = self._driver.classify(response.status, response.headers, body, response.request, now=now)
        foreign = foreign_redirect(response, self.connection.api_url)
        if foreign is not None and not (isinstance(error, Moved) and error.within):
            return foreign
        error = error or shared_error(response, now)
        if response.wrote and isinstance(error, ProviderUnavailable):
            error = OutcomeUnknown(error.message, status=response.status, request=response.request, retry_at=error.retry_at)
        if isinstance(error, ProviderError):
            error.body = body if error.body is None else error.body
            error.retry_at = None if error.retry_at is None else self.clock.here(error.retry_at)
        return error


def _origin(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port; an unreadable URL equals no other origin."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return "", url, None


def _joined(base: str, location: str) -> str:
    try:
        return urljoin(base, location)
    except ValueError:
        return location  # `check_url` refuses it


def _host(url: str) -> str:
    return _origin(url)[1]


def _check_headers(headers: Mapping[str, str], name: str) -> None:
    """Refuse a credential that no header can contain: the errors of the HTTP library would show its value."""
    for value in headers.values():
        if not value.isascii() or not value.isprintable():
            raise AuthFailed(
                f"{name}: the credential has a character that is invalid in an HTTP header",
                request=name,
                hint="The secret may end in a line break, or come from the wrong file.",
            )
