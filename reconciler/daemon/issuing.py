"""Builds the OIDC issuer of a process from the configuration."""

from __future__ import annotations

import time

from reconciler.config.settings import Config
from reconciler.credentials.id_tokens import FetchJson, IdTokenIssuer, IssuerSettings
from reconciler.credentials.issuer import Lifetimes
from reconciler.credentials.keys import KeyRing
from reconciler.credentials.redact import Redactor
from reconciler.drivers.auth import TokenRequest
from reconciler.drivers.http.clock import ProviderClock
from reconciler.drivers.http.exchange import TokenEndpoints
from reconciler.drivers.http.transport import HttpSession
from reconciler.model.errors import ProviderProtocolError, ProviderUnavailable
from reconciler.state.async_store import AsyncStore


def open_issuer(
    config: Config,
    store: AsyncStore,
    ring: KeyRing,
    redactor: Redactor,
    session: HttpSession,
    *,
    actor: str,
    read_only: bool = False,
) -> IdTokenIssuer | None:
    """Return the issuer of the configuration; None if it names no URL for one. Reads and creates nothing yet."""
    if not config.issuer:
        return None
    settings = IssuerSettings(
        config.issuer,
        config.owner,
        Lifetimes(config.oidc.key_rotation, config.oidc.token_lifetime),
        actor,
        elsewhere=config.issuer != config.own_issuer,
        read_only=read_only,
    )
    return IdTokenIssuer(settings, store=store, ring=ring, redactor=redactor, fetch=_fetch_with(session))


def _fetch_with(session: HttpSession) -> FetchJson:
    send = TokenEndpoints(session, ProviderClock(time.time), provider="oidc-issuer")

    async def fetch(url: str) -> object:
        try:
            answer = await send(TokenRequest("GET", url, hosts=(_host(url),)))
        except ProviderUnavailable as error:
            if not error.status:
                raise
            raise ProviderProtocolError(f"the answer is an HTML page with status {error.status}", status=error.status) from None
        if answer.status != 200:
            raise ProviderProtocolError(f"the answer has status {answer.status}", status=answer.status)
        document: object = answer.json()
        return document

    return fetch


def _host(url: str) -> str:
    from urllib.parse import urlsplit

    return urlsplit(url).hostname or ""


__all__ = ["open_issuer"]
