"""Bytes to and from a provider: deadlines, size caps, checked addresses, no environment, no second send of a write.

httpx's requests and transports over aiohttp's connections: httpx's own pool is quadratic in open connections. Whoever wants
another transport changes `HttpSession` and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
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
from reconciler.drivers.http.network import NetworkPolicy
from reconciler.model.errors import (
    AddressRefused,
    ConfigError,
    OutcomeUnknown,
    ProviderError,
    ProviderProtocolError,
    ProviderUnavailable,
    ReconcilerError,
    TLSFailed,
)

if TYPE_CHECKING:
    from reconciler.drivers.http.budget import Budget

READS = frozenset({"GET", "HEAD"})

for _name in ("httpx", "httpcore", "aiohttp"):
    logging.getLogger(_name).setLevel(logging.ERROR)  # their INFO lines hold URLs, their warnings cookies


@dataclass(frozen=True, slots=True)
class Bounds:
    """What no call may exceed. ``max_bytes`` counts the decoded body."""

    connect_s: float = 10.0
    read_s: float = 30.0
    write_s: float = 60.0
    max_bytes: int = 16 << 20
    per_host: int = 100


class NetworkOptions(Protocol):
    """What the factory needs of the configuration."""

    @property
    def allow(self) -> tuple[str, ...]: ...

    @property
    def ca_bundle(self) -> str: ...

    @property
    def proxy(self) -> str: ...


class _Flight:
    """One send: whether any byte of the request may have left."""

    __slots__ = ("sent", "write")

    def __init__(self, *, write: bool) -> None:
        self.write = write
        self.sent = False


_FLIGHT: ContextVar[_Flight | None] = ContextVar("flight", default=None)


class _SecondSend(aiohttp.ClientError):
    """aiohttp itself sends GET, PUT and DELETE again when a connection breaks; how often is decided elsewhere."""


async def _on_headers(session: aiohttp.ClientSession, context: Any, params: aiohttp.TraceRequestHeadersSentParams) -> None:
    """Note that the request is about to leave: aiohttp calls this before it writes."""
    flight = _FLIGHT.get()
    if flight is None:
        return
    if flight.sent:
        raise _SecondSend
    flight.sent = True


class _CheckedResolver(AbstractResolver):
    """Resolves once and hands out only addresses that may be connected to."""

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
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole: header names in lower case, the body decoded."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class HttpSession:
    """Connections of one process, shared by all clients; an async context manager.

    ``ca_bundle`` names a PEM file that is trusted instead of the system's. With ``proxy`` (``http://host:port``) the names
    are resolved by the proxy, so that only the spelling of a URL, and not its addresses, is checked here.
    """

    def __init__(
        self, *, allow: tuple[str, ...] = (), ca_bundle: str | None = None, proxy: str | None = None, bounds: Bounds | None = None
    ) -> None:
        self.allow = allow
        self.bounds = bounds or Bounds()
        self._ca_bundle = ca_bundle
        self._proxy = proxy
        self._budgets: dict[int, Budget] = {}
        self._clocks: dict[str, ProviderClock] = {}
        self._transport: AiohttpTransport | None = None
        self._public: AiohttpTransport | None = None
        """For URLs that an answer gives: nothing that is not public, whatever ``allow`` opens, and no connection of the others."""

    @classmethod
    def from_config(cls, config: NetworkOptions) -> HttpSession:
        """Return the session that section ``network`` of the configuration asks for."""
        return cls(allow=config.allow, ca_bundle=config.ca_bundle or None, proxy=config.proxy or None)

    async def __aenter__(self) -> HttpSession:
        context = _tls(self._ca_bundle)
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
        """Share ``budget``'s last writes when the session ends."""
        self._budgets[id(budget)] = budget

    def clock_of(self, api_url: str, clock: Callable[[], float]) -> ProviderClock:
        """Return what is known of the clock at ``api_url``, shared by all of its clients; ``clock`` is this host's."""
        found = self._clocks.get(api_url)
        if found is None or found.clock is not clock:
            found = self._clocks[api_url] = ProviderClock(clock)
        return found

    async def send(self, request: httpx.Request, name: str, *, deadline_s: float, public: bool = False) -> Answer:
        """Send once and read the whole answer; every way this can fail is a typed error, none holds a query or a body.

        ``name`` is what errors call the request (``GET /user``). After a write may have left, a failure is `OutcomeUnknown`.
        With ``public`` only public addresses are connected to; the spelling of the URL is the caller's to check.
        """
        transport = self._public if public else self._transport
        if transport is None:
            raise RuntimeError("the HTTP session is not open")
        request.extensions = {"timeout": {"connect": self.bounds.connect_s}}
        flight = _Flight(write=request.method not in READS)
        token = _FLIGHT.set(flight)
        try:
            async with asyncio.timeout(deadline_s):
                response = await transport.handle_async_request(request)
                try:
                    content = await _read_capped(response, name, self.bounds.max_bytes)
                finally:
                    await response.aclose()
        except ProviderProtocolError as error:
            if flight.write:
                raise OutcomeUnknown(error.message, request=name) from None
            raise
        except ReconcilerError:
            raise
        except (httpx.HTTPError, aiohttp.ClientError, OSError, TimeoutError, zlib.error) as error:
            raise failure(error, name, flight) from None
        finally:
            _FLIGHT.reset(token)
        return Answer(response.status_code, {key.lower(): value for key, value in response.headers.items()}, content)


def _tls(ca_bundle: str | None) -> ssl.SSLContext:
    """Return a context that verifies chain and host name. Not the default one: that logs session keys if the environment asks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if ca_bundle is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cafile=ca_bundle)
    except OSError as error:
        why = "it holds no certificate in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"network.caBundle: {ca_bundle} cannot be used: {why}") from None
    return context


async def _read_capped(response: httpx.Response, name: str, limit: int) -> bytes:
    """Read the decoded body up to the cap: a small bomb must not become a large one in memory, not even for a moment."""
    declared = response.headers.get("content-length", "")
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding not in {"identity", "", "gzip", "x-gzip"}:
        raise ProviderProtocolError(
            f"{name}: the answer has a coding that was not asked for", status=response.status_code, request=name
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


def failure(error: BaseException, name: str, flight: _Flight) -> ProviderError:
    """Return the typed error of a call that got no answer. What surely was not sent is never an unknown outcome."""
    chain = _chain(error)
    refused = next((one for one in chain if isinstance(one, AddressRefused)), None)
    if refused is not None:
        return refused
    if not flight.sent or any(isinstance(one, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError) for one in chain):
        if any(isinstance(one, ssl.SSLError | aiohttp.ClientSSLError) for one in chain):
            return TLSFailed(
                f"{name}: TLS refused: {_tls_reason(chain)}",
                request=name,
                hint="Mend the certificate, or name your CA in `network.caBundle`.",
            )
        return ProviderUnavailable(f"{name}: no connection ({_reason(chain)})", request=name)
    timeout = any(isinstance(one, TimeoutError) for one in chain)
    word = "no answer in time" if timeout else "the connection ended before the answer"
    if flight.write:
        return OutcomeUnknown(f"{name}: {word}; whether it took effect is looked up", request=name)
    if any(isinstance(one, aiohttp.ClientResponseError | zlib.error) for one in chain):
        return ProviderProtocolError(f"{name}: the answer is no HTTP", request=name)
    return ProviderUnavailable(f"{name}: {word}", request=name)


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and len(chain) < 10:
        chain.append(current)
        hidden = (getattr(current, "os_error", None), getattr(current, "certificate_error", None))
        chain.extend(one for one in hidden if isinstance(one, BaseException))
        current = current.__cause__ or current.__context__
    return chain


def _tls_reason(chain: list[BaseException]) -> str:
    for one in chain:
        reason = getattr(one, "verify_message", None) or getattr(one, "reason", None)
        if isinstance(one, ssl.SSLError) and isinstance(reason, str):
            return reason.replace("_", " ").lower() if reason.isupper() else reason
    return "the handshake failed"


def _reason(chain: list[BaseException]) -> str:
    if any(isinstance(one, socket.gaierror | aiohttp.ClientConnectorDNSError) for one in chain):
        return "the host name is not known"
    if any(isinstance(one, ConnectionRefusedError) for one in chain):
        return "refused"
    if any(isinstance(one, ConnectionResetError) for one in chain):
        return "reset by the other side"
    return "timed out" if any(isinstance(one, TimeoutError) for one in chain) else "failed"
