"""Whose identity a stage's request carries: that of an Integration, or an ID token of this daemon, and to which hosts it may go.

A commit chooses the URL, so the URL alone must not decide who receives a credential: only hosts at which the provider itself answers
(`ProviderSpec.service_hosts`) and those in ``network.allow`` do. Hosts where everybody can run code (functions, containers, gateways)
belong to their tenants, and must be allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import orjson

from reconciler.drivers.auth import AuthRequest, CalledService, IssueIdToken
from reconciler.drivers.builtin.urls import origin_of
from reconciler.drivers.capabilities import ProviderSpec
from reconciler.drivers.connection import Authenticator, ReadsAnswers
from reconciler.drivers.http.network import NetworkPolicy
from reconciler.model.errors import AddressRefused, ValidationFailed
from reconciler.model.resources import ResourceId
from reconciler.model.values import JsonValue, is_loopback

_SHORTEST = 16
"""Characters from which a sent value counts as a credential that an answer must not repeat."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls. ``headers``: what the credential sets, in lower case. ``hosts``: hosts that receive it without ``network.allow``."""

    name: str
    """``Integration/cloud``, or what else the identity is."""
    provider: str = ""
    """Title of the provider; empty for the daemon itself."""
    headers: frozenset[str] = frozenset({"authorization"})
    hosts: tuple[str, ...] = ()


def principal_of(integration: ResourceId, spec: ProviderSpec) -> Principal:
    """Return the principal that ``integration`` is. Raises `ValidationFailed` (RC4403) for a provider that gives no identity."""
    if spec.caller is None:
        raise ValidationFailed(f"{integration}: {no_identity(spec)}", code="RC4403", hint=NO_IDENTITY_HINT)
    return Principal(str(integration), spec.title, frozenset(spec.caller.headers), spec.service_hosts)


NO_IDENTITY_HINT = "Name an Integration of type aws, azure or google, or use `auth: {oidc: {audience: …}}`."


def no_identity(spec: ProviderSpec) -> str:
    """Return why an Integration of this provider is no identity for calls of other services."""
    return f"an Integration of type {spec.name} has a credential that opens {spec.title} itself, and no other service may see it"


def check_target(url: str, principal: Principal, allow: tuple[str, ...]) -> None:
    """Raise `AddressRefused` unless the credential of ``principal`` may be sent to ``url``."""
    origin = origin_of(url)
    scheme, _, place = origin.partition("://")
    if scheme != "https" and not is_loopback(urlsplit(origin).hostname or ""):
        raise AddressRefused(
            f"the credential of {principal.name} is not sent to {place} over {scheme}: anybody on the way could read it",
            code="RC4402",
            hint="Use https. Only an address of this host itself, in `network.allow`, may be called over http.",
        )
    try:
        NetworkPolicy(principal.hosts, allow).check_url(origin)
    except AddressRefused:
        own = f"neither a host of {principal.provider} itself nor" if principal.provider else "not"
        raise AddressRefused(
            f"the credential of {principal.name} is not sent to {place}: it is {own} in `network.allow`",
            code="RC4401",
            hint=f"If it may have the credential, add {place} to `network.allow` in the configuration: a commit alone cannot send a credential anywhere.",
        ) from None


class OwnIdToken:
    """Sends a new ID token of this daemon with each request; implements `reconciler.drivers.connection.Authenticator`."""

    def __init__(self, issue: IssueIdToken, stage: ResourceId, audience: str) -> None:
        self._issue, self._stage, self._audience = issue, stage, audience

    async def authorize(self, request: AuthRequest) -> None:
        """Raises `SecretUnavailable` if this daemon issues no tokens."""
        token = await self._issue(self._stage, self._audience)
        request.headers["authorization"] = f"Bearer {token.reveal()}"

    async def refresh(self) -> bool:
        """Return False: the token was new."""
        return False


@dataclass(slots=True)
class CallIdentity:
    """The identity of the requests of one execution, bound to the origin of ``url``; implements `Authenticator`.

    Raises `AddressRefused` when it is made for a URL to which the credential may not be sent.
    """

    principal: Principal
    inner: Authenticator
    called: CalledService
    url: str
    allow: tuple[str, ...] = ()
    _sent: tuple[bytes, ...] = field(default=(), init=False, repr=False)

    def __post_init__(self) -> None:
        check_target(self.url, self.principal, self.allow)

    async def authorize(self, request: AuthRequest) -> None:
        """Raises `AddressRefused` for another origin, `ValidationFailed` for a header of the credential, and errors of the credential."""
        if origin_of(request.url) != origin_of(self.url):
            raise AddressRefused(
                f"the credential of {self.principal.name} is bound to {origin_of(self.url)}",
                code="RC4401",
                hint="One execution uses one scheme, host and port: those of `url`.",
            )
        taken = sorted(self.principal.headers & request.headers.keys())
        if taken:
            raise ValidationFailed(
                f"the header {taken[0]} is that of the identity",
                code="RC4406",
                hint="Remove it from `headers`, or remove `auth`.",
            )
        request.called = self.called
        await self.inner.authorize(request)
        texts = (request.headers.get(name, "").rpartition(" ")[2] for name in sorted(self.principal.headers))
        self._sent = tuple(text.encode() for text in texts if len(text) >= _SHORTEST)

    async def refresh(self) -> bool:
        return await self.inner.refresh()

    async def prepare(self) -> None:
        """Get the credential now, so that a later request needs no other call first. Raises as `authorize`."""
        await self.authorize(AuthRequest("GET", self.url, {}))

    def refused(self, status: int, headers: Mapping[str, str], body: object) -> str:
        """Return why an answer refuses the credential itself, which a new one may help; empty if it does not."""
        said = self.inner.refused(status, headers, body) if isinstance(self.inner, ReadsAnswers) else ""
        return said or ("401" if status == 401 else "")

    def failure(self, headers: Mapping[str, str]) -> str:
        """Return why the work failed although the status says success; empty if it did not."""
        return self.inner.failure(headers) if isinstance(self.inner, ReadsAnswers) else ""

    def is_in(self, value: JsonValue) -> bool:
        """Whether ``value`` repeats the credential that was sent last."""
        text = orjson.dumps(value)
        return any(sent in text for sent in self._sent)


__all__ = ["NO_IDENTITY_HINT", "CallIdentity", "OwnIdToken", "Principal", "check_target", "no_identity", "principal_of"]
