"""The one HTTP client factory: deadlines, size caps, no redirects, no environment, checked addresses, typed errors.

httpx's API over an aiohttp transport: httpx's own pool is quadratic in open connections. Whoever wants another transport
changes `HttpSession` and nothing else.
"""

from __future__ import annotations

import asyncio
import json as jsonlib
import logging
import random
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any

import aiohttp
import httpx
import orjson
from aiohttp.abc import AbstractResolver, ResolveResult
from httpx_aiohttp import AiohttpTransport

from reconciler import __version__
from reconciler.drivers.base import Authenticator, Connection, Driver
from reconciler.drivers.budget import Budget
from reconciler.drivers.net import NetworkPolicy
from reconciler.failpoints import failpoint
from reconciler.model.errors import (
    AddressRefused,
    AuthFailed,
    Conflict,
    Moved,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    ProviderError,
    ProviderProtocolError,
    ProviderUnavailable,
    RateLimited,
    ReconcilerError,
    TLSFailed,
    ValidationFailed,
)

READ_S, WRITE_S, CONNECT_S = 30.0, 60.0, 10.0
MAX_BYTES = 16 << 20
READ_RETRIES = 2
USER_AGENT = f"reconciler/{__version__}"
_READS = frozenset({"GET", "HEAD"})

for _name in ("httpx", "httpcore", "aiohttp"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # their INFO lines hold URLs


class _CheckedResolver(AbstractResolver):
    """Resolves once and hands out only addresses that may be connected to."""

    def __init__(self, policy: NetworkPolicy) -> None:
        self._policy = policy

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        rows = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family, proto=socket.IPPROTO_TCP)
        self._policy.check_addresses(host, [str(row[4][0]) for row in rows], port or None)
        return [ResolveResult(hostname=host, host=str(row[4][0]), port=port, family=row[0], proto=row[2], flags=socket.AI_NUMERICHOST) for row in rows]

    async def close(self) -> None:
        """Nothing is held."""


class HttpSession:
    """Connections of one process, shared by all clients; an async context manager."""

    def __init__(self, *, allow: tuple[str, ...] = (), ca_bundle: str | None = None, proxy: str | None = None, per_host: int = 100) -> None:
        self.allow = allow
        self._ca_bundle = ca_bundle
        self._proxy = proxy
        self._per_host = per_host
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> HttpSession:
        context = ssl.create_default_context(cafile=self._ca_bundle) if self._ca_bundle else ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        connector = aiohttp.TCPConnector(limit=0, limit_per_host=self._per_host, ssl=context, resolver=_CheckedResolver(NetworkPolicy(allow=self.allow)),
                                         ttl_dns_cache=10, keepalive_timeout=30, enable_cleanup_closed=False)
        session = aiohttp.ClientSession(connector=connector, trust_env=False, cookie_jar=aiohttp.DummyCookieJar(), skip_auto_headers=("User-Agent",))
        transport = AiohttpTransport(client=session, trust_env=False, proxy=httpx.Proxy(self._proxy) if self._proxy else None)
        self._client = httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False,
                                         timeout=httpx.Timeout(None, connect=CONNECT_S))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._client is not None:
            await self._client.aclose()

    @property
    def client(self) -> httpx.AsyncClient:
        """The open client."""
        if self._client is None:
            raise RuntimeError("the HTTP session is not open")
        return self._client


@dataclass(frozen=True, slots=True)
class Response:
    """One whole answer, decoded and size-capped; implements `reconciler.drivers.base.ApiResponse`."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    request: str

    def json(self) -> Any:
        """Return the decoded body; raises `ProviderProtocolError` if it is not JSON."""
        try:
            return orjson.loads(self.content)
        except orjson.JSONDecodeError:
            kind = "an HTML page" if self.content.lstrip()[:1] == b"<" else "no JSON"
            raise ProviderProtocolError(f"{self.request} was answered {self.status} with {kind}", status=self.status, request=self.request,
                                        hint="Check `apiUrl`: a proxy or a login page may stand there.") from None

    @property
    def text(self) -> str:
        """The body as text, undecodable bytes replaced."""
        return self.content.decode("utf-8", "replace")


class ApiClient:
    """An authenticated client bound to one connection; implements `reconciler.drivers.base.Api`."""

    def __init__(self, connection: Connection, driver: Driver, authenticator: Authenticator, *, session: HttpSession, budget: Budget,
                 clock: Callable[[], float], read_only: bool = False) -> None:
        self.connection = connection
        self._driver = driver
        self._authenticator = authenticator
        self._session = session
        self._budget = budget
        self._clock = clock
        self._read_only = read_only
        NetworkPolicy(driver.hosts, session.allow).check_url(connection.api_url)

    async def request(self, method: str, path: str, *, params: Mapping[str, str | int] | None = None, json: Any = None,
                      headers: Mapping[str, str] | None = None, ok: frozenset[int] = frozenset()) -> Response:
        """Send one request; see `reconciler.drivers.base.Api.request`."""
        name = f"{method} {path.partition('?')[0]}"
        if self._read_only and method not in _READS:
            raise ReconcilerError(f"{name}: a write in a read-only session", code="RC9001")
        url = self._url(path)
        refreshed = False
        for attempt in range(READ_RETRIES + 2):
            try:
                response = await self._attempt(method, url, name, params, json, headers)
                return self._accept(response, ok)
            except AuthFailed:
                if refreshed or not await self._authenticator.refresh():
                    raise
                refreshed = True
            except (ProviderUnavailable, OutcomeUnknown):
                if method not in _READS or attempt >= READ_RETRIES:
                    raise
                await asyncio.sleep(0.2 * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
        raise ProviderUnavailable(f"{name}: no answer", request=name)

    def _url(self, path: str) -> str:
        if path.startswith(("http://", "https://")):
            from reconciler.drivers.paging import same_host_path

            path = same_host_path(self, path)
        return self.connection.api_url.rstrip("/") + path

    async def _attempt(self, method: str, url: str, name: str, params: Mapping[str, str | int] | None, body: Any, extra: Mapping[str, str] | None) -> Response:
        write = method not in _READS
        headers = {"user-agent": USER_AGENT, "accept": "application/json", "accept-encoding": "gzip"}
        await self._authenticator.authorize(headers)
        if extra:
            headers.update(extra)
        content = None
        if body is not None:
            content = orjson.dumps(body)
            headers.setdefault("content-type", "application/json")
        async with self._budget.gate:
            await self._budget.acquire(write=write)
            failpoint("http-before-send")
            response = await self._send(httpx.Request(method, url, params=dict(params) if params else None, content=content, headers=headers), name, write=write)
            failpoint("http-after-send")
        self._budget.told(response.headers)
        if write:
            self._budget.save()
        return response

    async def _send(self, request: httpx.Request, name: str, *, write: bool) -> Response:
        """Send and read the whole answer; every way this can fail becomes a typed error, and none holds a URL's query or a body."""
        request.extensions = {"timeout": {"connect": CONNECT_S, "read": None, "write": None, "pool": None}}
        try:
            async with asyncio.timeout(WRITE_S if write else READ_S):
                answer = await self._session.client.send(request, stream=True)
                try:
                    content = await _read_capped(answer, name)
                finally:
                    await answer.aclose()
        except ReconcilerError as error:
            if write and isinstance(error, ProviderProtocolError):
                raise OutcomeUnknown(f"{name}: {error.message}", request=name) from None
            raise
        except (httpx.HTTPError, aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _failure(error, name, write=write) from None
        return Response(answer.status_code, {key.lower(): value for key, value in answer.headers.items()}, content, name)

    def _accept(self, response: Response, ok: frozenset[int]) -> Response:
        status = response.status
        if 200 <= status < 300 or status == 304 or status in ok:
            self._driver_ok()
            return response
        raise self._error(response)

    def _driver_ok(self) -> None:
        """Nothing to do: kept as the one place that sees every good answer."""

    def _error(self, response: Response) -> Exception:
        body: Any = None
        try:
            body = jsonlib.loads(response.content) if len(response.content) < 1 << 20 else None
        except ValueError:
            body = None
        now = self._clock()
        error = self._driver.classify(response.status, response.headers, body if body is not None else response.text[:2_000], response.request, now=now)
        error = error or shared_error(response, now)
        if isinstance(error, RateLimited):
            error.retry_at = self._budget.stop(error.retry_at, "told by the provider")
        write = response.request.partition(" ")[0] not in _READS
        if write and isinstance(error, ProviderUnavailable):
            error = OutcomeUnknown(error.message, status=response.status, request=response.request)
        if isinstance(error, ProviderError) and error.body is None:
            error.body = body
        return error


async def _read_capped(answer: httpx.Response, name: str) -> bytes:
    """Read the decoded body up to the cap: a small bomb must not become a large one in memory."""
    declared = answer.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MAX_BYTES:
        raise ProviderProtocolError(f"{name}: the answer is larger than {MAX_BYTES >> 20} MiB", request=name)
    parts: list[bytes] = []
    size = 0
    async for part in answer.aiter_bytes():
        size += len(part)
        if size > MAX_BYTES:
            raise ProviderProtocolError(f"{name}: the decoded answer is larger than {MAX_BYTES >> 20} MiB", request=name)
        parts.append(part)
    return b"".join(parts)


def _failure(error: BaseException, name: str, *, write: bool) -> ProviderError:
    """Return the typed error of a call that got no answer. What surely was not sent is never an unknown outcome."""
    chain = _chain(error)
    refused = next((one for one in chain if isinstance(one, AddressRefused)), None)
    if refused is not None:
        return refused
    if any(isinstance(one, ssl.SSLError | aiohttp.ClientSSLError) for one in chain):
        reason = next((one.verify_message for one in chain if isinstance(one, ssl.SSLCertVerificationError)), "handshake failed")
        return TLSFailed(f"{name}: TLS refused: {reason}", request=name)
    unsent = any(isinstance(one, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.ClientProxyConnectionError) for one in chain)
    if unsent:
        return ProviderUnavailable(f"{name}: no connection ({_reason(chain)})", request=name)
    timeout = any(isinstance(one, TimeoutError | httpx.TimeoutException) and not isinstance(one, httpx.ConnectTimeout) for one in chain)
    word = "no answer in time" if timeout else "the connection ended before the answer"
    if write:
        return OutcomeUnknown(f"{name}: {word}; whether it took effect is looked up", request=name)
    return ProviderUnavailable(f"{name}: {word}", request=name)


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and len(chain) < 10:
        chain.append(current)
        chain.extend(one for one in (getattr(current, "os_error", None),) if isinstance(one, BaseException))
        current = current.__cause__ or current.__context__
    return chain


def _reason(chain: list[BaseException]) -> str:
    if any(isinstance(one, socket.gaierror | aiohttp.ClientConnectorDNSError) for one in chain):
        return "the host name is not known"
    if any(isinstance(one, ConnectionRefusedError) for one in chain):
        return "refused"
    return "timed out" if any(isinstance(one, TimeoutError) for one in chain) else "failed"


def shared_error(response: Response, now: float) -> ProviderError:
    """Return the typed error that a status means where the provider has no rule of its own (RFC 9110 §15)."""
    status, name = response.status, response.request
    where = {"status": status, "request": name}
    if status == 401:
        return AuthFailed(f"{name}: the credential was refused (401)", **where)
    if status == 429 or (status == 403 and "retry-after" in response.headers):
        return RateLimited(f"{name}: rate limit ({status})", retry_at=retry_after(response.headers, now), **where)
    if status == 403:
        return PermissionDenied(f"{name}: not permitted (403)", **where)
    if status == 404:
        return NotFound(f"{name}: not found (404)", **where)
    if status in {409, 412}:
        return Conflict(f"{name}: conflict ({status})", **where)
    if status in {301, 302, 307, 308}:
        return Moved(f"{name}: moved ({status})", target=response.headers.get("location", ""), **where)
    if 400 <= status < 500:
        return ValidationFailed(f"{name}: refused ({status})", **where)
    if status >= 500:
        return ProviderUnavailable(f"{name}: the provider failed ({status})", retry_at=retry_after(response.headers, now) if status == 503 else None, **where)
    return ProviderProtocolError(f"{name}: unexpected status {status}", **where)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return when a ``Retry-After`` (seconds or an HTTP date, RFC 9110 §10.2.3) ends, in seconds since the epoch; None without one."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isdigit():
        return now + min(int(text), 86_400)
    try:
        return min(parsedate_to_datetime(text).timestamp(), now + 86_400)
    except (ValueError, TypeError):
        return None
