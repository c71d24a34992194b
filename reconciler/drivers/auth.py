"""What an authenticator works with: the request to sign, secrets, ID tokens, token endpoints, and a cache of short-lived tokens.

A provider's `Authenticator` gets an `AuthContext` when a client is built. The cache outlives the client, so that a new revision of
the manifests does not cost a new token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, cast

from reconciler.model.errors import ProviderError, ProviderUnavailable, ReconcilerError, SecretUnavailable
from reconciler.model.resources import ResourceId, SecretRef
from reconciler.model.secrets import SecretValue

T = TypeVar("T")

RENEW_BEFORE_S = 300.0
"""Renew a token this long before it ends; one that lives less than twice as long at half of its life."""
RETRY_AFTER_S = 60.0
"""After a refused or failed request for a token, the next one is not sent earlier."""
LONGEST_RETRY_S = 3600.0
"""A provider's ``Retry-After`` is not followed for longer."""


class ApiResponse(Protocol):
    """One complete answer, of bounded size."""

    @property
    def request(self) -> str:
        """The name of the request in errors: method and path, without a query."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers, names in lower case."""

    def json(self) -> object:
        """Return the decoded body; raise `ProviderProtocolError` if it is not JSON."""

    @property
    def text(self) -> str:
        """The body as text; undecodable bytes are replaced."""

    @property
    def content(self) -> bytes:
        """The body after content decoding."""


@dataclass(frozen=True, slots=True)
class CalledService:
    """What the manifest of a stage says about the service that it calls. An empty value is derived from the host of the URL."""

    audience: str = ""
    """The audience of a token."""
    service: str = ""
    """What a signature is for."""
    region: str = ""


@dataclass(slots=True)
class AuthRequest:
    """A request before it is sent. The authenticator adds to ``headers``; the rest is for signatures and for narrow tokens.

    An authenticator that signs the URL may spell it in another way, and sets ``exact``: then it is sent as it is spelled.
    """

    method: str
    url: str
    headers: dict[str, str] = field(repr=False)
    content: bytes | None = field(default=None, repr=False)
    called: CalledService | None = None
    """The service that a stage calls; None: the API of the provider itself."""
    exact: bool = False


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A request to a token endpoint. It carries its own proof, so it is sent without the credential of the integration."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes | None = field(default=None, repr=False)
    hosts: tuple[str, ...] = ()
    """Hosts of the provider that need no ``network.allow``."""


class SendTokenRequest(Protocol):
    """Sends a `TokenRequest` once. Returns any answer, whatever its status.

    Raises `AddressRefused`, `TLSFailed`, `ProviderUnavailable` and `ProviderProtocolError`; never `OutcomeUnknown`, since a token
    that nobody received does no harm.
    """

    async def __call__(self, request: TokenRequest) -> ApiResponse: ...


class IssueIdToken(Protocol):
    """Returns an ID token of this daemon's OIDC issuer for ``integration``, with one ``audience``.

    ``subject`` replaces the default subject. Raises `SecretUnavailable` if no issuer is configured, or if its signing key is not
    published.
    """

    async def __call__(self, integration: ResourceId, audience: str, *, subject: str = "") -> SecretValue: ...


async def no_issuer(integration: ResourceId, audience: str, *, subject: str = "") -> SecretValue:  # noqa: ARG001  the protocol's
    """Raise `SecretUnavailable`: this process issues no ID tokens."""
    raise SecretUnavailable(
        f"{integration}: auth 'oidc' needs an ID token of this daemon, which issues none",
        code="RC4020",
        hint="Set `oidc.issuer` (default: `server.publicUrl`) in the configuration to an https URL that the provider can reach.",
    )


@dataclass(frozen=True, slots=True)
class Expiring(Generic[T]):
    """A short-lived credential and when it ends (epoch seconds of the host)."""

    value: T
    expires_at: float


@dataclass(slots=True)
class _Cached:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    token: Expiring[object] | None = None
    renew_at: float = 0.0
    error: ReconcilerError | None = None
    retry_at: float = 0.0


def _alive(token: Expiring[T], now: float) -> Expiring[T]:
    """Return ``token``. Raises `ProviderUnavailable` for one that has ended: it would be requested again at every call."""
    if token.expires_at > now:
        return token
    raise ProviderUnavailable(
        "the credential that was granted has ended already", hint="Compare the clock of this host with a time server."
    )


def _retry_at(error: ReconcilerError, now: float) -> float:
    """Return when the request may be sent again: after a minute, or when the provider has asked for it (one hour at most)."""
    asked = error.retry_at if isinstance(error, ProviderError) else None
    return max(now + RETRY_AFTER_S, min(asked or 0.0, now + LONGEST_RETRY_S))


class TokenCache:
    """Short-lived credentials by key. Concurrent callers share one request; a failure is repeated from memory for a minute."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[str, _Cached] = {}
        self._prefix = ""

    def scoped(self, prefix: str) -> TokenCache:
        """Return a view in which every key begins with ``prefix``, which the caller does not see."""
        view = TokenCache(self._clock)
        view._entries, view._prefix = self._entries, self._prefix + prefix
        return view

    async def get(self, key: str, mint: Callable[[], Awaitable[Expiring[T]]]) -> T:
        """Return the token of ``key``; ``mint`` requests a new one where there is none or it ends soon.

        A token that is still valid is returned if its renewal fails. Raises what ``mint`` raised, again without a request until
        `RETRY_AFTER_S` have passed, or the time that the provider named.
        """
        entry = self._entries.setdefault(self._prefix + key, _Cached())
        async with entry.lock:
            now = self._clock()
            if entry.token is not None and now < entry.renew_at:
                return cast("T", entry.token.value)
            usable = entry.token is not None and now < entry.token.expires_at
            if now < entry.retry_at and entry.error is not None:
                if usable and entry.token is not None:
                    return cast("T", entry.token.value)
                raise entry.error.with_traceback(None)  # else each repetition adds to its traceback
            try:
                token = _alive(await mint(), now)
            except ReconcilerError as error:
                entry.error, entry.retry_at = error, _retry_at(error, now)
                if usable and entry.token is not None:
                    return cast("T", entry.token.value)
                raise
            entry.token = Expiring(token.value, token.expires_at)
            life_s = token.expires_at - now
            entry.renew_at = token.expires_at - min(RENEW_BEFORE_S, life_s / 2)
            entry.error, entry.retry_at = None, 0.0
            return token.value

    def ends_at(self, key: str) -> float | None:
        """Return when the cached token of ``key`` ends (epoch seconds); None if there is none."""
        entry = self._entries.get(self._prefix + key)
        return entry.token.expires_at if entry is not None and entry.token is not None else None

    def forget(self, key: str) -> bool:
        """Drop the token of ``key``, because the provider refused it; return whether there was one."""
        entry = self._entries.get(self._prefix + key)
        if entry is None or entry.token is None:
            return False
        entry.token, entry.renew_at = None, 0.0
        return True

    def retry_now(self, prefix: str = "") -> None:
        """Let failed requests of keys that begin with ``prefix`` be sent again at once: a person asked, or an event says it helps."""
        for key, entry in self._entries.items():
            if key.startswith(self._prefix + prefix):
                entry.retry_at = 0.0

    def pull_back(self, seconds: float) -> None:
        """Shift all times by which the host's clock was set back, so that nothing counts as valid for longer than it is."""
        for entry in self._entries.values():
            entry.renew_at -= seconds
            entry.retry_at -= seconds
            if entry.token is not None:
                entry.token = Expiring(entry.token.value, entry.token.expires_at - seconds)

    def values(self, prefix: str = "") -> Mapping[str, object]:
        """Return the cached tokens by key, those of keys that begin with ``prefix``: for their revocation at shutdown."""
        start, skipped = self._prefix + prefix, len(self._prefix)
        return {
            key[skipped:]: entry.token.value
            for key, entry in self._entries.items()
            if entry.token is not None and key.startswith(start)
        }


@dataclass(frozen=True, slots=True)
class AuthContext:
    """What authenticators may use."""

    read: Callable[[SecretRef], SecretValue]
    """Read a secret on demand. Raises `SecretUnavailable`."""
    send: SendTokenRequest
    id_token: IssueIdToken
    tokens: TokenCache
    """Those of the connection's credential: a person or an event lets its refused requests be sent again at once."""
    conceal: Callable[[SecretValue], None]
    """Tell the redactor of a credential that was received, so that no log line and no status shows it."""
    clock: Callable[[], float]
    """Seconds since the epoch, of this host."""
    provider_time: Callable[[], float]
    """Seconds since the epoch by the provider's clock, as far as its answers have shown it; else of this host."""


__all__ = [
    "ApiResponse",
    "AuthContext",
    "AuthRequest",
    "CalledService",
    "Expiring",
    "IssueIdToken",
    "SendTokenRequest",
    "TokenCache",
    "TokenRequest",
    "no_issuer",
]
