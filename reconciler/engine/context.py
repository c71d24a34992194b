"""The dependencies of the engine, built by the composition root: explicit, frozen, nothing global."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reconciler.drivers.auth import IssueIdToken, no_issuer
from reconciler.tracing import NO_TRACER, Tracer

if TYPE_CHECKING:
    from reconciler.config.settings import Config
    from reconciler.credentials.keys import KeyRing
    from reconciler.credentials.redact import Redactor
    from reconciler.drivers.http.client import HttpSession
    from reconciler.log import Logger
    from reconciler.state.async_store import AsyncStore


def no_look() -> None:
    """Do nothing: this process issues no ID tokens."""


@dataclass(frozen=True, slots=True)
class Context:
    """All dependencies with side effects."""

    config: Config
    store: AsyncStore
    keyring: KeyRing
    session: HttpSession
    clock: Callable[[], float]
    """Seconds since the epoch."""
    log: Logger
    actor: str
    """The writer in the audit log: ``daemon:<host>:<pid>`` or ``cli:<user>``."""
    owner: str
    redactor: Redactor
    sandbox: bool = False
    id_token: IssueIdToken = no_issuer
    """Issues ID tokens for integrations, as the OIDC issuer that this daemon is."""
    tracer: Tracer = NO_TRACER
    look_again: Callable[[], None] = no_look
    """Lets the issuer look at once whether its key is published: a person asked."""
