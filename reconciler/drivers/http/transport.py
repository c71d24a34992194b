"""Bytes to and from a provider: deadlines, size caps, checked addresses, no proxy from the environment, no second send of a write.

httpx's requests and transports run over aiohttp's connections, because httpx's own pool is quadratic in open connections. httpx
is used in this module only: another transport changes `HttpSession` and nothing else.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from httpx_aiohttp import AiohttpTransport

from reconciler.drivers.http.clock import ProviderClock
from reconciler.drivers.http.failures import Flight, error_kind, failure
from reconciler.drivers.http.network import NetworkPolicy
from reconciler.drivers.http.spans import answered, carrying, request_span
from reconciler.model.errors import (
    ConfigError,
    OutcomeUnknown,
    ProviderProtocolError,
    ReconcilerError,
)
from reconciler.tracing import NO_TRACER, Tracer, current

if TYPE_CHECKING:
    from reconciler.drivers.http.budget import Budget

READS = frozenset({"GET", "HEAD", "QUERY"})
"""Methods that change nothing. ``QUERY`` is our name for a POST that only reads (GraphQL); on the wire it is a POST."""

for _name in ("httpx", "httpcore", "aiohttp"):
    logging.getLogger(_name).setLevel(logging.ERROR)  # their INFO lines contain URLs, their warnings cookies


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of every call. ``max_bytes`` counts the decoded body."""

    connect_s: float = 10.0
    read_s: float = 30.0
    write_s: float = 60.0
    max_bytes: int = 16 << 20
    per_host: int = 100


class NetworkOptions(Protocol):
    """What `HttpSession.from_config` reads from the configuration."""

    @property
    def allow(self) -> tuple[str, ...]: ...

    @property
    def ca_bundle(self) -> str: ...

    @property
    def proxy(self) -> str: ...


_FLIGHT: ContextVar[Flight | None] = ContextVar("flight", default=None)


class _SecondSend(aiohttp.ClientError):
    """aiohttp sends GET, PUT and DELETE again when a connection breaks; the engine decides about retries instead."""


async def _on_headers(session: aiohttp.ClientSession, context: Any, params: aiohttp.TraceRequestHeadersSentParams) -> None:  # noqa: ARG001  aiohttp's signature
    """Record that the request is about to leave: aiohttp calls this before it writes."""
    flight = _FLIGHT.get()
    if flight is None:
        return
    if flight.sent:
        raise _SecondSend
    flight.sent = True


async def _as_spelled(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Send a signed URL as it is spelled. aiohttp decodes and encodes URLs, so that the signature would not cover what it sends."""
    flight = _FLIGHT.get()
    if flight is not None and flight.exact_url:
        request.url = type(request.url)(flight.exact_url, encoded=True)
    return await handler(request)


class _CheckedResolver(AbstractResolver):
    """Resolves a name once, and returns only addresses that the policy allows."""

    def __init__(self, policy: NetworkPolicy) -> None:
        self._policy = policy

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        rows = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family, proto=socket.IPPROTO_TCP)
        self._policy.check_addresses(host, [str(row[4][0]) for row in rows], port or None)
        return [
            ResolveResult(hostname=host, host=str(row[4][0]), port=port, family=row[0], proto=row[2], flags=socket.AI_NUMERICHOST)
            for row in rows
        ]

    async def close(self) -> None:
        """There is nothing to close."""


def wire_method(method: str) -> str:
    """Return the method that is sent for ``method``."""
    return "POST" if method == "QUERY" else method


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """One request. ``name`` is what errors call it (``GET /user``): never with a query or a body."""

    method: str
    url: str
    name: str
    headers: Mapping[str, str]
    content: bytes | None = None
    exact: bool = False
    """Whether ``url`` is sent as it is spelled; else in the normal form of the HTTP library."""
    provider: str = "other"
    """Type of the provider, for the metrics: never a name from outside."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: header names in lower case, the body decoded."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class HttpSession:
    """Connections of one process, shared by all clients; an async context manager.

    ``ca_bundle`` names a PEM file that is trusted instead of the system's. With ``proxy`` (``http://host:port``) the proxy
    resolves the names, so only the spelling of a URL is checked here, and not its addresses.
    """

    def __init__(
        self, *, allow: tuple[str, ...] = (), ca_bundle: str | None = None, proxy: str | None = None, bounds: Bounds | None = None
    ) -> None:
        self.allow = allow
        self.bounds = bounds or Bounds()
        self.tracer: Tracer = NO_TRACER
        """Records each request that is made within a span."""
        self._ca_bundle = ca_bundle
        self._proxy = proxy
        self._budgets: dict[int, Budget] = {}
        self._clocks: dict[str, ProviderClock] = {}
        self.on_request: Callable[[str, str, float], None] = lambda _provider, _outcome, _seconds: None
        """Called after every send with the type of the provider, the outcome (``2xx`` to ``5xx``, or the `error_kind`), and its
        duration."""
        self._transport: AiohttpTransport | None = None
        self._public: AiohttpTransport | None = None
        """For URLs out of answers: public addresses only, whatever ``allow`` opens, and no shared connections."""

    @classmethod
    def from_config(cls, config: NetworkOptions) -> HttpSession:
        """Return the session of section ``network`` of the configuration."""
        return cls(allow=config.allow, ca_bundle=config.ca_bundle or None, proxy=config.proxy or None)

    async def __aenter__(self) -> HttpSession:
        context = tls_context(self._ca_bundle)
        self._transport = self._connections(context, self.allow)
        self._public = self._connections(context, ())
        return self

    def _connections(self, context: ssl.SSLContext, allow: tuple[str, ...]) -> AiohttpTransport:
        proxy_host = urlsplit(self._proxy).netloc.rpartition("@")[2] if self._proxy else ""
        policy = NetworkPolicy(allow=(*allow, proxy_host) if proxy_host else allow)
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_on_headers)
        connector = aiohttp.TCPConnector(
            limit=0,
            limit_per_host=self.bounds.per_host,
            ssl=context,
            resolver=_CheckedResolver(policy),
            ttl_dns_cache=10,
            keepalive_timeout=30,
        )
        session = aiohttp.ClientSession(
            connector=connector,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent",),
            trace_configs=[trace],
            middlewares=(_as_spelled,),
        )
        return AiohttpTransport(
            verify=context, client=session, trust_env=False, proxy=httpx.Proxy(self._proxy) if self._proxy else None
        )

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for budget in self._budgets.values():
            await budget.aclose()
        for transport in (self._transport, self._public):
            if transport is not None:
                await transport.aclose()
        self._transport = self._public = None

    def adopt(self, budget: Budget) -> None:
        """Save the last writes of ``budget`` when the session ends."""
        self._budgets[id(budget)] = budget

    def clock_of(self, api_url: str, clock: Callable[[], float]) -> ProviderClock:
        """Return the clock of the provider at ``api_url``, shared by all of its clients; ``clock`` is this host's."""
        shared = self._clocks.get(api_url)
        if shared is None or shared.clock is not clock:
            shared = self._clocks[api_url] = ProviderClock(clock)
        return shared

    async def send(self, outgoing: OutgoingRequest, *, deadline_s: float, public: bool = False) -> Answer:
        """Send once and read the whole answer; every failure is a typed error, and none contains a query or a body.

        After a write may have left, a failure is `OutcomeUnknown`. With ``public`` only public addresses are allowed; the caller
        checks the spelling of the URL.
        """
        if not self.tracer.on or current() is None:
            return await self._exchange(outgoing, deadline_s, self._public if public else self._transport)
        with request_span(self.tracer, wire_method(outgoing.method), outgoing.url, outgoing.provider) as live:
            headers = carrying(self.tracer, outgoing.url, outgoing.headers)
            outgoing = dataclasses.replace(outgoing, headers=headers)
            answer = await self._exchange(outgoing, deadline_s, self._public if public else self._transport)
            answered(live, answer.status)
            return answer

    async def _exchange(self, outgoing: OutgoingRequest, deadline_s: float, transport: AiohttpTransport | None) -> Answer:
        if transport is None:
            raise RuntimeError("the HTTP session is not open")
        request = httpx.Request(
            wire_method(outgoing.method),
            outgoing.url,
            headers=outgoing.headers,
            content=outgoing.content,
            extensions={"timeout": {"connect": self.bounds.connect_s}},
        )
        name = outgoing.name
        flight = Flight(write=outgoing.method not in READS, exact_url=outgoing.url if outgoing.exact else "")
        token = _FLIGHT.set(flight)
        began, outcome = time.monotonic(), "cancelled"
        try:
            async with asyncio.timeout(deadline_s):
                response = await transport.handle_async_request(request)
                flight.status = response.status_code
                try:
                    content = await _read_capped(response, name, self.bounds.max_bytes)
                finally:
                    await response.aclose()
            outcome = f"{response.status_code // 100}xx"
        except ProviderProtocolError as error:
            outcome = "protocol"
            if flight.write:
                raise OutcomeUnknown(error.message, status=error.status, request=name) from None
            raise
        except ReconcilerError:
            outcome = "refused-address"
            raise
        except (httpx.HTTPError, aiohttp.ClientError, OSError, TimeoutError, zlib.error) as error:
            outcome = error_kind(error)
            raise failure(error, name, flight) from None
        finally:
            _FLIGHT.reset(token)
            self.on_request(outgoing.provider, outcome, time.monotonic() - began)
        return Answer(response.status_code, {key.lower(): value for key, value in response.headers.items()}, content)


def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Return a context that verifies chain and host name. Python's default one logs session keys if ``SSLKEYLOGFILE`` is set."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if ca_bundle is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cafile=ca_bundle)
    except OSError as error:
        reason = "it contains no certificate in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"network.caBundle: {ca_bundle} cannot be used: {reason}") from None
    return context


async def _read_capped(response: httpx.Response, name: str, limit: int) -> bytes:
    """Read the decoded body up to the cap, in steps: a compression bomb must not fill the memory even for a moment."""
    declared: str = response.headers.get("content-length", "")
    coding: str = response.headers.get("content-encoding", "identity")
    coding = coding.strip().lower()
    if coding not in {"identity", "", "gzip", "x-gzip"}:
        raise ProviderProtocolError(
            f"{name}: the answer has an unexpected content coding", status=response.status_code, request=name
        )
    if declared.isdecimal() and int(declared[:18]) > limit:
        raise _too_large(response, name, limit)
    inflate = zlib.decompressobj(wbits=31) if "gzip" in coding else None
    parts: list[bytes] = []
    size = 0
    async for raw in response.stream:  # type: ignore[union-attr]
        part = raw if inflate is None else inflate.decompress(raw, limit - size + 1)
        size += len(part)
        if size > limit:
            raise _too_large(response, name, limit)
        parts.append(part)
    if inflate is not None and parts and not inflate.eof:
        raise ProviderProtocolError(f"{name}: the compressed answer is cut off", status=response.status_code, request=name)
    return b"".join(parts)


def _too_large(response: httpx.Response, name: str, limit: int) -> ProviderProtocolError:
    size = f"{limit >> 20} MiB" if limit >= 1 << 20 else f"{limit} bytes"
    return ProviderProtocolError(f"{name}: the decoded answer is larger than {size}", status=response.status_code, request=name)
