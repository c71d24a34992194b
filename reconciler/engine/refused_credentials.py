"""Refused credentials: none is tried again within a minute, over restarts and over all processes, unless it or a person changes that."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from reconciler.credentials.backends import SecretResolver
from reconciler.drivers.auth import RETRY_AFTER_S
from reconciler.drivers.connection import Connection
from reconciler.engine.context import Context
from reconciler.model.errors import AuthFailed, SecretUnavailable
from reconciler.model.records import CredentialRefusal
from reconciler.model.resources import ResourceId


@dataclass(frozen=True, slots=True)
class CredentialProof:
    """Digests of a credential and its values: in memory only, since a short secret could be guessed from one."""

    shared: str = ""
    """Equal for all Integrations that send the same secret to the same place; empty without a secret."""
    own: str = ""
    """Of one Integration: an ID token names it, and a right may be refused to its account only."""


def proof_of(connection: Connection, secrets: SecretResolver, *, fresh: bool = True) -> CredentialProof:
    """Return the proof of a connection's credential, read afresh unless ``fresh`` is False.

    A value that cannot be read counts as empty: its use fails.
    """
    form = msgspec.json.encode([connection.provider, connection.api_url, _without_references(connection.auth)], order="sorted")
    digest = hashlib.sha256(form)
    for pointer, ref in sorted(connection.secrets.items()):
        if fresh:
            secrets.forget(ref)
        try:
            value = secrets.read(ref).reveal()
        except SecretUnavailable:
            value = ""
        digest.update(f"\0{pointer}\0{value}".encode())
    shared = digest.hexdigest()
    own = hashlib.sha256(
        f"{shared}|{connection.integration}|{connection.account}|{connection.credential_id}".encode()
    ).hexdigest()
    return CredentialProof(shared if connection.secrets else "", own)


def _without_references(value: object) -> object:
    """Return ``auth`` without the names of Secrets: the same value may have several."""
    if isinstance(value, Mapping):
        return {key: _without_references(item) for key, item in value.items() if key != "valueFrom"}
    return [_without_references(item) for item in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A refused call, and until when (epoch seconds) no other is made with this ``proof``."""

    error: AuthFailed
    proof: CredentialProof
    until: float


def _error(refusal: CredentialRefusal) -> AuthFailed:
    return AuthFailed(
        refusal.message, status=refusal.status, request=refusal.request, code=refusal.code or None, hint=refusal.hint
    )


class RefusedCredentials:
    """Remembers refusals in the state, under a keyed digest. With ``read_only`` it neither reads nor writes them."""

    def __init__(self, context: Context, *, read_only: bool) -> None:
        self._context = context
        self._read_only = read_only
        self._raised: dict[ResourceId, AuthFailed] = {}
        """Refusals that were raised from the state, and not by a request."""
        self._suspected: dict[ResourceId, Suspicion] = {}

    async def admit(self, integration: ResourceId, proof: CredentialProof, *, explicit: bool) -> None:
        """Raise the last refusal of the credential if it was refused within `RETRY_AFTER_S` and no person asks (``explicit``)."""
        self._raised.pop(integration, None)
        if explicit:
            self._suspected.pop(integration, None)
        if self._read_only:
            return
        if explicit:
            await self._context.store.forget_refusals(self._sealed(proof))
            return
        refusal = await self._context.store.refusal_of(self._sealed(proof), RETRY_AFTER_S)
        if refusal is not None:
            error = self._raised[integration] = _error(refusal)
            raise error

    async def require_accepted(self, integration: ResourceId, proof: CredentialProof) -> None:
        """Raise the refusal of a credential that was not accepted since: only a reconcile of its Integration tries it again.

        A refusal of another call than a reconcile's (`suspect`) counts for `RETRY_AFTER_S`.
        """
        suspected = self._suspected.get(integration)
        if suspected is not None and suspected.proof == proof and self._context.clock() < suspected.until:
            raise suspected.error
        if self._read_only:
            return
        refusal = await self._context.store.standing_refusal(self._sealed(proof))
        if refusal is not None:
            raise _error(refusal)

    def suspect(self, integration: ResourceId, proof: CredentialProof, error: AuthFailed) -> None:
        """Remember that a call was refused."""
        self._suspected[integration] = Suspicion(error, proof, self._context.clock() + RETRY_AFTER_S)

    async def note(self, integration: ResourceId, proof: CredentialProof, error: AuthFailed | None) -> None:
        """Record that the credential was refused with ``error``, or accepted (None)."""
        if error is None:
            self._suspected.pop(integration, None)
        if self._read_only or (error is not None and self._raised.get(integration) is error):
            return
        sealed = self._sealed(proof)
        if error is None:
            await self._context.store.forget_refusals(sealed)
            return
        redact = self._context.redactor.redact
        refusal = CredentialRefusal(
            redact(error.message), error.code, redact(error.hint), status=error.status, request=redact(error.request)
        )
        everywhere = error.status == 401 and proof.shared  # the secret itself, and not a right of this Integration
        await self._context.store.refuse_credential(sealed[0] if everywhere else sealed[-1], refusal, RETRY_AFTER_S)

    def _sealed(self, proof: CredentialProof) -> list[str]:
        """Return the digests under which the state knows a credential: of all who use it, if it has a secret, and of one."""
        key = self._context.keyring.current.derive("credential-proof")
        parts = [part for part in (proof.shared, proof.own) if part]
        return [hmac.new(key, part.encode(), hashlib.sha256).hexdigest() for part in parts]


__all__ = ["CredentialProof", "RefusedCredentials", "proof_of"]
