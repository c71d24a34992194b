"""Typed errors of calls without an answer, from what the HTTP libraries raise."""

from __future__ import annotations

import socket
import ssl
import zlib
from typing import TypeVar

import aiohttp

from reconciler.model.errors import (
    AddressRefused,
    OutcomeUnknown,
    ProviderError,
    ProviderProtocolError,
    ProviderUnavailable,
    TLSFailed,
)

E = TypeVar("E", bound=BaseException)


class Flight:
    """One send: whether any byte of the request may have left, and the status of its answer (0: none yet).

    ``exact_url``: a URL that is sent as it is spelled; else empty.
    """

    __slots__ = ("exact_url", "sent", "status", "write")

    def __init__(self, *, write: bool, exact_url: str = "") -> None:
        self.write = write
        self.exact_url = exact_url
        self.sent = False
        self.status = 0


def failure(error: BaseException, name: str, flight: Flight) -> ProviderError:
    """Return the typed error of a call without an answer. A request that was certainly not sent never has an unknown outcome."""
    causes = _causes(error)
    refused = _first(causes, AddressRefused)
    if refused is not None:
        return refused
    if not flight.sent or _has(causes, aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError):
        if _has(causes, ssl.SSLError, aiohttp.ClientSSLError):
            return TLSFailed(
                f"{name}: TLS refused: {_tls_reason(causes)}",
                request=name,
                hint="Fix the certificate, or name your CA in `network.caBundle`.",
            )
        return ProviderUnavailable(f"{name}: no connection ({_reason(causes)})", request=name)
    reason = "no answer in time" if _has(causes, TimeoutError) else "the connection ended before the answer"
    if flight.write:
        return OutcomeUnknown(f"{name}: {reason}; the outcome of the write is unknown", status=flight.status, request=name)
    if _has(causes, aiohttp.ClientResponseError, zlib.error):
        return ProviderProtocolError(f"{name}: the answer is not valid HTTP", request=name)
    return ProviderUnavailable(f"{name}: {reason}", request=name)


def error_kind(error: BaseException) -> str:
    """Return the kind of a call without an answer: ``refused-address``, ``tls``, ``timeout``, ``protocol`` or ``connection``."""
    causes = _causes(error)
    kinds: tuple[tuple[str, tuple[type[BaseException], ...]], ...] = (
        ("refused-address", (AddressRefused,)),
        ("tls", (ssl.SSLError, aiohttp.ClientSSLError)),
        ("timeout", (TimeoutError,)),
        ("protocol", (aiohttp.ClientResponseError, zlib.error)),
    )
    return next((kind for kind, types in kinds if _has(causes, *types)), "connection")


def _causes(error: BaseException) -> list[BaseException]:
    """Return ``error`` and its causes, with those that aiohttp keeps in attributes."""
    causes: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and len(causes) < 10:
        hidden = (getattr(current, "os_error", None), getattr(current, "certificate_error", None))
        causes += [current, *(cause for cause in hidden if cause is not None)]
        current = current.__cause__ or current.__context__
    return causes


def _first(causes: list[BaseException], kind: type[E]) -> E | None:
    return next((cause for cause in causes if isinstance(cause, kind)), None)


def _has(causes: list[BaseException], *kinds: type[BaseException]) -> bool:
    return any(isinstance(cause, kinds) for cause in causes)


def _tls_reason(causes: list[BaseException]) -> str:
    for cause in causes:
        # aiohttp's own certificate error is an `ssl.SSLError` without these attributes
        reason = getattr(cause, "verify_message", None) or getattr(cause, "reason", None)
        if isinstance(cause, ssl.SSLError) and reason:
            text = str(reason)
            return text.replace("_", " ").lower() if text.isupper() else text
    return "the handshake failed"


def _reason(causes: list[BaseException]) -> str:
    if _has(causes, socket.gaierror, aiohttp.ClientConnectorDNSError):
        return "unknown host name"
    if _has(causes, ConnectionRefusedError):
        return "refused"
    if _has(causes, ConnectionResetError):
        return "reset by the peer"
    return "timed out" if _has(causes, TimeoutError) else "failed"
