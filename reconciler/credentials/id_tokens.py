"""ID tokens of this daemon: keeps the signing keys in the state, rotates them, and signs for Integrations and Secrets."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import orjson

from reconciler.credentials.issuer import (
    KEYS_PATH,
    MAX_SUBJECT,
    PUBLISH_AHEAD_S,
    SUBJECT_PREFIX,
    IssuerKey,
    Lifetimes,
    TokenSpec,
    claims_of,
    discovery_document,
    key_set,
    new_key,
    next_sign_from,
    published_at,
    resealed,
    sign,
    signing_key_at,
    subject_of,
    unseal,
)
from reconciler.credentials.keys import KeyRing
from reconciler.credentials.redact import Redactor
from reconciler.model.errors import ReconcilerError, SecretUnavailable, StateError, ValidationFailed
from reconciler.model.records import AuditEntry
from reconciler.model.resources import ResourceId
from reconciler.model.secrets import SecretValue
from reconciler.model.values import JsonValue

REREAD_S = 5.0
"""How long the keys of the state are cached: a peer may have rotated them."""
CHECK_PUBLISHED_S = 300.0
"""How long a look at documents that are published elsewhere is valid."""
MISSING_AGAIN_S = 60.0
"""How long a failed look is remembered."""


class KeyStore(Protocol):
    """The keys in the state (`reconciler.state.oidc_keys`)."""

    async def oidc_keys(self) -> tuple[IssuerKey, ...]: ...

    async def add_oidc_key(self, key: IssuerKey, *, revoke: float | None, audit: AuditEntry) -> bool: ...

    async def reseal_oidc_keys(self, keys: Sequence[IssuerKey]) -> None: ...

    async def append_audit(self, entries: Sequence[AuditEntry]) -> None: ...


FetchJson = Callable[[str], Awaitable[object]]
"""Returns the JSON at a URL. Raises a typed error."""


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """Who the issuer is, and how it works."""

    issuer: str
    owner: str
    lifetimes: Lifetimes
    actor: str
    """Who creates keys, in the audit log."""
    elsewhere: bool = False
    """Whether the documents are published as files at another address than this daemon's. Then a key that is not there signs nothing."""
    read_only: bool = False
    """Sign with the keys that exist, and create none."""


class IdTokenIssuer:
    """The OIDC issuer of one installation. Several processes share its keys through the state."""

    def __init__(
        self,
        settings: IssuerSettings,
        *,
        store: KeyStore,
        ring: KeyRing,
        redactor: Redactor,
        fetch: FetchJson,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.issuer, self._owner, self._lifetimes = settings.issuer, settings.owner, settings.lifetimes
        self._store, self._ring, self._redactor, self._fetch, self._clock = store, ring, redactor, fetch, clock
        self._keys: tuple[IssuerKey, ...] = ()
        self._read_at: float | None = None
        self._private: dict[str, bytes] = {}
        self._lock = asyncio.Lock()
        self._seen: dict[str, tuple[float, str]] = {}
        """Key id → until when the look at the published key set is valid, and why the key is not in it (empty: it is)."""

    # -- keys -------------------------------------------------------------------------------------------------------

    async def keys(self) -> tuple[IssuerKey, ...]:
        """Return all keys of the state; creates the first one, and the next one when it is due."""
        async with self._lock:
            now = self._clock()
            if self._read_at is None or not 0 <= now - self._read_at < REREAD_S:
                self._keys = await self._store.oidc_keys()
                self._read_at = now
                await self._reseal()
            sign_from = next_sign_from(self._keys, now, self._lifetimes)
            if sign_from is not None and not self.settings.read_only:
                await self._add(sign_from, revoke=None, reason="first key" if not self._keys else "rotation is due")
            return self._keys

    async def rotate(self, *, emergency: bool = False, actor: str = "") -> IssuerKey:
        """Create a key that signs after `PUBLISH_AHEAD_S`. In an emergency it signs at once, and all older keys are revoked.

        ``actor`` is the person in the audit log, if one asked.
        """
        async with self._lock:
            now = self._clock()
            self._keys = await self._store.oidc_keys()
            if emergency or not self._keys:
                reason = "emergency" if emergency else "first key"
                return await self._add(now, revoke=now if emergency else None, reason=reason, actor=actor)
            newest = max(self._keys, key=lambda key: key.number)
            if newest.revoked_at is None and newest.sign_from > now:
                raise ValidationFailed(
                    f"the next OIDC key {newest.kid} is published already and does not sign yet",
                    hint="Wait until it signs, or use --emergency to replace all keys at once.",
                )
            return await self._add(now + _ahead(self._keys), revoke=None, reason="requested", actor=actor)

    async def _add(self, sign_from: float, *, revoke: float | None, reason: str, actor: str = "") -> IssuerKey:
        key = await asyncio.to_thread(new_key, _next_number(self._keys), self._ring, self._clock(), sign_from)
        entry = AuditEntry(
            at=self._clock(),
            actor=actor or self.settings.actor,
            verb="oidc-key",
            detail={"kid": key.kid, "reason": reason, "signFrom": int(sign_from)},
        )
        added = await self._store.add_oidc_key(key, revoke=revoke, audit=entry)
        self._keys = await self._store.oidc_keys()
        while not added and revoke is not None:  # a peer was faster. Its key serves as well, but it revokes nothing
            key = replace(key, number=_next_number(self._keys))
            added = await self._store.add_oidc_key(key, revoke=revoke, audit=entry)
            self._keys = await self._store.oidc_keys()
        self._read_at = self._clock()
        self._private.clear()
        self._seen.clear()
        return max(self._keys, key=lambda key: key.number)

    async def _reseal(self) -> None:
        """Encrypt keys again that the previous master key protects."""
        current = self._ring.current.key_id
        stale = [key for key in self._keys if key.seal_key_id != current and self._ring.by_id(key.seal_key_id) is not None]
        if stale and not self.settings.read_only:
            fresh = {}
            for key in stale:
                with contextlib.suppress(StateError):  # damaged: signing with it says so, and others stay usable
                    fresh[key.kid] = resealed(key, self._ring)
            await self._store.reseal_oidc_keys(tuple(fresh.values()))
            self._keys = tuple(fresh.get(key.kid, key) for key in self._keys)

    # -- documents --------------------------------------------------------------------------------------------------

    def discovery(self) -> dict[str, JsonValue]:
        """Return the discovery document."""
        return discovery_document(self.issuer)

    async def key_set(self) -> dict[str, JsonValue]:
        """Return the key set that is in force now."""
        return key_set(published_at(await self.keys(), self._clock(), self._lifetimes))

    # -- tokens -----------------------------------------------------------------------------------------------------

    def subject(self, resource: ResourceId, override: str = "") -> str:
        """Return the ``sub`` of ``resource``. Raises `ValidationFailed` for an override that claims the name of a resource."""
        return subject_for(self._owner, resource, override)

    def claims(self, resource: ResourceId, audience: str, *, subject: str = "", token_id: str = "") -> dict[str, JsonValue]:
        """Return the claims that a token of ``resource`` has now."""
        context: Mapping[str, JsonValue] = {
            "owner": self._owner,
            "canvas": resource.canvas,
            "kind": resource.kind,
            "name": resource.name,
        }
        spec = TokenSpec(self.issuer, self.subject(resource, subject), audience, context)
        return claims_of(spec, self._clock(), self._lifetimes.token_s, token_id or secrets.token_urlsafe(16))

    async def __call__(self, integration: ResourceId, audience: str, *, subject: str = "") -> SecretValue:
        """Return a signed token; implements `reconciler.drivers.auth.IssueIdToken`. Raises `SecretUnavailable`."""
        return await self._signed(integration, self.claims(integration, audience, subject=subject))

    async def shown(
        self, resource: ResourceId, audience: str, *, subject: str, actor: str
    ) -> tuple[SecretValue, Mapping[str, JsonValue]]:
        """Return a signed token for a person to see, with its claims. Records in the audit log that ``actor`` received it."""
        claims = self.claims(resource, audience, subject=subject)
        token = await self._signed(resource, claims)
        detail = {name: claims[name] for name in ("sub", "aud", "exp", "jti")}
        entry = AuditEntry(at=self._clock(), actor=actor, verb="oidc-token", resource=resource.path, detail=detail)
        await self._store.append_audit([entry])
        return token, claims

    async def _signed(self, resource: ResourceId, claims: Mapping[str, JsonValue]) -> SecretValue:
        key = signing_key_at(await self.keys(), self._clock())
        if key is None:
            raise SecretUnavailable(
                f"{resource}: there is no OIDC signing key in the state yet",
                code="RC4020",
                hint="Start the daemon, or run `reconciler apply`: the first of them creates it.",
            )
        await self._check_published(key)
        token = sign(claims, key, self._opened(key))
        self._redactor.add_passing(token.reveal())
        return token

    def _opened(self, key: IssuerKey) -> bytes:
        if key.kid not in self._private:
            self._private[key.kid] = unseal(key, self._ring)
        return self._private[key.kid]

    async def _check_published(self, key: IssuerKey) -> None:
        """Raise `SecretUnavailable` if the documents are published elsewhere and do not contain ``key``."""
        if not self.settings.elsewhere:
            return
        now = self._clock()
        until, reason = self._seen.get(key.kid, (0.0, ""))
        if not now < until <= now + CHECK_PUBLISHED_S:
            reason = await self._why_unpublished(key)
            self._seen[key.kid] = (now + (MISSING_AGAIN_S if reason else CHECK_PUBLISHED_S), reason)
        if reason:
            raise SecretUnavailable(
                f"no ID token is signed: {reason}",
                code="RC4023",
                hint="Run `reconciler oidc export DIR` and publish both files below the issuer's URL.",
            )

    def look_again(self) -> None:
        """Forget failed looks at the published key set: a person has asked for another one."""
        self._seen = {kid: look for kid, look in self._seen.items() if not look[1]}

    async def _why_unpublished(self, key: IssuerKey) -> str:
        url = self.issuer + KEYS_PATH
        try:
            document = await self._fetch(url)
        except ReconcilerError as error:
            return f"{url} cannot be read: {error.message}"
        keys = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(keys, list):
            return f"{url} is not a JSON Web Key Set"
        public = {name: key.public[name] for name in ("kid", "n", "e")}
        if any(isinstance(item, dict) and {name: item.get(name) for name in public} == public for item in keys):
            return ""
        return f"{url} does not contain the key {key.kid}"


def subject_for(owner: str, resource: ResourceId, override: str = "") -> str:
    """Return the ``sub`` of ``resource``: derived, or ``override``.

    Raises `ValidationFailed` for an override that claims the name of a resource, and for one that is too long.
    """
    if not override:
        return subject_of(owner, resource)
    if override.startswith(SUBJECT_PREFIX):
        raise ValidationFailed(
            f"{resource}: auth.oidc.subject {override!r} begins with '{SUBJECT_PREFIX}', which is for derived subjects only",
            hint=f"Leave it out for the derived subject {subject_of(owner, resource)!r}, or choose another text.",
        )
    if len(override.encode()) > MAX_SUBJECT:
        raise ValidationFailed(f"{resource}: auth.oidc.subject has more than {MAX_SUBJECT} bytes", hint="Use a shorter text.")
    return override


def _next_number(keys: Sequence[IssuerKey]) -> int:
    return max((key.number for key in keys), default=0) + 1


def _ahead(keys: Sequence[IssuerKey]) -> float:
    return PUBLISH_AHEAD_S if any(key.revoked_at is None for key in keys) else 0.0


def documents(issuer: str, keys: Mapping[str, JsonValue]) -> dict[str, bytes]:
    """Return the two public documents by path below the issuer's URL, as JSON with a final newline."""
    pretty = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return {
        ".well-known/openid-configuration": orjson.dumps(discovery_document(issuer), option=pretty),
        ".well-known/jwks.json": orjson.dumps(keys, option=pretty),
    }


__all__ = ["FetchJson", "IdTokenIssuer", "IssuerSettings", "KeyStore", "documents", "subject_for"]
