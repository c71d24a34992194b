"""Secrets in OpenBao or HashiCorp Vault: login, KV version 2, and what exactly is wrong if a value cannot be read.

Facts: https://openbao.org/api-docs/ (``auth/jwt``, ``auth/approle``, ``auth/token``, ``secret/kv/kv-v2``, ``system``). Nothing but
the login, the read and questions about the own token is sent; nothing is written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from reconciler.credentials.remote import Loaded
from reconciler.credentials.vault_answers import (
    VaultHealth,
    VaultLoginAnswer,
    VaultMountAnswer,
    VaultTokenAnswer,
    VaultVersion,
    VaultVersionAnswer,
    VersionMetadata,
    capabilities_on,
    parsed,
    refuses_token,
    said_by,
)
from reconciler.drivers.auth import ApiResponse, Expiring, IssueIdToken, SendTokenRequest, TokenCache, TokenRequest
from reconciler.drivers.refusals import claims_in, explain
from reconciler.manifests.secret_spec import SecretSpec, VaultSpec
from reconciler.model.errors import ReconcilerError, SecretUnavailable
from reconciler.model.resources import Resource, SecretRef
from reconciler.model.secrets import SecretValue

ENDLESS_S = 86_400.0
"""A token without an end is looked up again after this time."""
MAX_VALUE = 64 << 10
_INACTIVE = frozenset({412, 429, 472, 473, 501, 503})
"""Statuses that say nothing about the credential: behind in replication, limit or standby, recovery, performance standby, not
initialized, sealed."""


@dataclass(frozen=True, slots=True)
class _VaultPlace:
    """One Secret, for requests and for messages."""

    secret: Resource
    spec: VaultSpec
    read: Callable[[SecretRef], SecretValue]

    @property
    def what(self) -> str:
        return f"{self.secret.id}: {self.spec.address}"

    @property
    def path(self) -> str:
        return f"{self.spec.mount.strip('/')}/data/{self.spec.path.strip('/')}"

    def credential(self, name: str) -> str:
        """Return the value of ``vault.auth.<name>``. Raises `SecretUnavailable`."""
        return self.read(self.secret.secret_refs(f"/vault/auth/{name}")[""]).reveal()

    def error(self, code: str, text: str, hint: str = "") -> SecretUnavailable:
        return SecretUnavailable(f"{self.what}: {text}", code=code, hint=hint)


class VaultBackend:
    """Loads Secrets of provider ``vault``. Tokens are shared by the process and are renewed before they end."""

    def __init__(
        self,
        send: SendTokenRequest,
        id_token: IssueIdToken,
        *,
        clock: Callable[[], float],
        conceal: Callable[[str], None],
    ) -> None:
        self._send, self._id_token, self._clock, self._conceal = send, id_token, clock, conceal
        self._tokens = TokenCache(clock)

    def mark(self, secret: Resource) -> str:
        """Nothing but the spec decides what is read."""
        return ""

    def needs(self, secret: Resource) -> Iterable[SecretRef]:
        """Return the references in ``vault.auth``."""
        return secret.secret_refs().values()

    def peer(self, secret: Resource) -> str:
        """Return the address of the server."""
        spec = secret.typed(SecretSpec).vault
        return spec.address if spec is not None else ""

    def retry_now(self) -> None:
        """Let refused logins be tried again at once: a person asked."""
        self._tokens.retry_now()

    async def load(
        self, secret: Resource, read: Callable[[SecretRef], SecretValue], known: Loaded | None, *, again: bool = False
    ) -> Loaded:
        """Return the values of the newest version. Raises `SecretUnavailable`, each cause with a code of its own."""
        spec = secret.typed(SecretSpec).vault
        if spec is None:
            raise SecretUnavailable(f"{secret.id} has no block vault", code="RC4002")
        place = _VaultPlace(secret, spec, read)
        version = await self._newest(place)
        # The time of its creation tells a version from one of the same number after the path was deleted and written again.
        name = f"{version.metadata.version} {version.metadata.created_time}"
        if known is not None and known.version == name:
            return known
        return _values(place, version.data or {}, name)

    async def _newest(self, place: _VaultPlace) -> VaultVersion:
        token = await self._token(place)
        answer = await self._call(place, "GET", place.path, token)
        if answer.status == 403 and await self._ended(place, token):
            self._tokens.forget(_key(place))
            token = await self._token(place)
            answer = await self._call(place, "GET", place.path, token)
        if answer.status == 403:
            raise await self._denied(place, token)
        found = parsed(answer, VaultVersionAnswer)
        if answer.status == 404:
            raise await self._missing(place, token, found.data.metadata if found is not None else None)
        if answer.status != 200 or found is None or found.data.data is None:
            raise await self._wrong_version(place, token, answer)
        return found.data

    # -- login ------------------------------------------------------------------------------------------------------

    async def _token(self, place: _VaultPlace) -> str:
        try:
            return (await self._tokens.get(_key(place), lambda: self._log_in(place))).reveal()
        except SecretUnavailable as error:  # from memory, it may name another Secret with the same login
            text = error.message.partition(f": {place.spec.address}: ")[2]
            raise (place.error(error.code, text, error.hint) if text else error) from None

    async def _log_in(self, place: _VaultPlace) -> Expiring[SecretValue]:
        auth, proof = place.spec.auth, ""
        if auth.use == "token":
            return await self._own_token(place)
        if auth.use == "oidc":
            proof = (await self._id_token(place.secret.id, auth.audience or place.spec.address)).reveal()
            body = {"role": auth.role or "", "jwt": proof}
        else:
            body = {"role_id": auth.role_id or "", "secret_id": place.credential("secretId")}
        mount = auth.mount or {"oidc": "jwt"}.get(auth.use, auth.use)
        answer = await self._call(place, "POST", f"auth/{mount.strip('/')}/login", "", body)
        login = parsed(answer, VaultLoginAnswer)
        if answer.status != 200 or login is None:
            raise self._refused(place, mount, answer, proof)
        self._conceal(login.auth.client_token)
        return Expiring(SecretValue(login.auth.client_token), self._clock() + (login.auth.lease_duration or ENDLESS_S))

    def _refused(self, place: _VaultPlace, mount: str, answer: ApiResponse, proof: str) -> SecretUnavailable:
        auth, said = place.spec.auth, said_by(answer)
        if answer.status == 404 or "no handler for route" in said or "unsupported path" in said:
            return place.error("RC4082", f"there is no auth method at {mount!r}: {said}", "Set `vault.auth.mount`.")
        text = f"login by {auth.use} at auth/{mount} was refused ({answer.status}): {said}"
        if answer.status == 403:  # a wrong credential is a 400
            hint = f"Set `vault.auth.mount`: a server also answers so if there is no auth method at {mount!r}. Or the role binds other addresses."
            return place.error("RC4082", text, hint)
        if not proof:
            return place.error("RC4082", text, "Check roleId, and replace the SecretID: it ends after its uses or its time.")
        why = explain("vault", claims_in(proof), answer.status, said)
        if why is not None:
            return place.error("RC4082", f"{text}. In short: {why.message}", why.hint)
        hint = (
            f"The role {auth.role!r} must accept the audience {auth.audience or place.spec.address!r} and the subject of "
            f"{place.secret.id}; the auth method must trust the issuer's present keys."
        )
        return place.error("RC4082", text, hint)

    async def _own_token(self, place: _VaultPlace) -> Expiring[SecretValue]:
        """Look up the token of the manifest, and renew it if it ends. One that may not look itself up is used as it is."""
        token = place.credential("token")
        self._conceal(token)
        answer = await self._call(place, "GET", "auth/token/lookup-self", token)
        found = parsed(answer, VaultTokenAnswer)
        if refuses_token(answer):
            raise place.error("RC4082", "the token is not valid: it has ended or was revoked", "Put a new token into its Secret.")
        ttl = found.data.ttl if found is not None else 0
        if found is not None and found.data.renewable and ttl:
            renewed = parsed(await self._call(place, "POST", "auth/token/renew-self", token, {}), VaultLoginAnswer)
            ttl = renewed.auth.lease_duration if renewed is not None else ttl
        return Expiring(SecretValue(token), self._clock() + (ttl or ENDLESS_S))

    # -- what is wrong ----------------------------------------------------------------------------------------------

    async def _ended(self, place: _VaultPlace, token: str) -> bool:
        """Whether ``token`` itself is refused, and not only the path."""
        return refuses_token(await self._call(place, "GET", "auth/token/lookup-self", token))

    async def _denied(self, place: _VaultPlace, token: str) -> SecretUnavailable:
        answer = await self._call(place, "POST", "sys/capabilities-self", token, {"paths": [place.path]})
        granted = capabilities_on(answer, place.path)
        me = parsed(await self._call(place, "GET", "auth/token/lookup-self", token), VaultTokenAnswer)
        policies = ", ".join(me.data.policies[:20]) if me is not None and me.data.policies else "not told by the server"
        text = f"permission denied: read on {place.path!r} is missing (granted: {granted}; policies: {policies})"
        hint = f'Add `path "{place.path}" {{ capabilities = ["read"] }}` to a policy of the login, or fix mount and path.'
        return place.error("RC4083", text, hint)

    async def _missing(self, place: _VaultPlace, token: str, metadata: VersionMetadata | None) -> SecretUnavailable:
        if metadata is not None:
            how = "destroyed" if metadata.destroyed else f"deleted at {metadata.deletion_time}"
            text = f"version {metadata.version} of {place.spec.path!r} in {place.spec.mount!r} is {how}"
            return place.error("RC4084", text, "Undelete it, or write a new version.")
        wrong = await self._wrong_mount(place, token)
        if wrong is not None:
            return wrong
        text = f"there is nothing at {place.spec.path!r} in the mount {place.spec.mount!r}"
        return place.error("RC4084", text, "Fix `vault.path` (without `data/`), or write the value.")

    async def _wrong_version(self, place: _VaultPlace, token: str, answer: ApiResponse) -> SecretUnavailable:
        wrong = await self._wrong_mount(place, token)
        if wrong is not None:
            return wrong
        return place.error("RC4080", f"the answer ({answer.status}) to GET {place.path} cannot be read: {said_by(answer)}")

    async def _wrong_mount(self, place: _VaultPlace, token: str) -> SecretUnavailable | None:
        answer = await self._call(place, "GET", f"sys/internal/ui/mounts/{place.spec.mount.strip('/')}", token)
        mount = parsed(answer, VaultMountAnswer)
        if mount is None:
            if answer.status in {400, 403, 404}:
                text = f"there is no mount {place.spec.mount!r}, or the login may not use it"
                return place.error("RC4084", text, "Set `vault.mount` to the mount of the KV version 2 engine.")
            return None
        version = (mount.data.options or {}).get("version", "1")
        if mount.data.type != "kv" or version != "2":
            kind = f"KV version {version}" if mount.data.type == "kv" else f"an engine of type {mount.data.type!r}"
            hint = "Name a mount of KV version 2, or upgrade this one: `bao kv enable-versioning`."
            return place.error("RC4084", f"the mount {place.spec.mount!r} is {kind}, not KV version 2", hint)
        return None

    # -- requests ---------------------------------------------------------------------------------------------------

    async def _call(
        self, place: _VaultPlace, method: str, path: str, token: str, body: Mapping[str, object] | None = None
    ) -> ApiResponse:
        """Return the answer of an active server. Raises `SecretUnavailable` for one that does not answer, or is not active."""
        answer = await self._once(place, method, path, token, body)
        if answer.status in {301, 302, 307, 308}:
            raise place.error(
                "RC4081",
                "the server redirects: it is a standby that does not forward requests",
                "Write the address of the active server into `vault.address`.",
            )
        if answer.status in _INACTIVE or answer.status >= 500:
            raise await self._inactive(place, answer)
        return answer

    async def _inactive(self, place: _VaultPlace, answer: ApiResponse) -> SecretUnavailable:
        health = parsed(await self._once(place, "GET", "sys/health", "", None, namespace=""), VaultHealth)
        if health is not None and not health.initialized:
            return place.error("RC4081", "the server is not initialized", "Run `bao operator init`.")
        if health is not None and health.sealed:
            return place.error("RC4081", "the server is sealed", "Unseal it: `bao operator unseal`.")
        if health is not None and health.standby:
            hint = "Write the address of the active server into `vault.address`."
            return place.error("RC4081", "the server is a standby, and no server is active", hint)
        hint = "It is tried again within a minute."
        return place.error("RC4080", f"the server answered {answer.status}: {said_by(answer)}", hint)

    async def _once(
        self,
        place: _VaultPlace,
        method: str,
        path: str,
        token: str,
        body: Mapping[str, object] | None,
        *,
        namespace: str | None = None,
    ) -> ApiResponse:
        """Send one request; ``namespace`` replaces that of the Secret: the health of the server is no path of a namespace."""
        headers = {"x-vault-request": "true"}
        if token:
            headers["x-vault-token"] = token
        if within := place.spec.namespace if namespace is None else namespace:
            headers["x-vault-namespace"] = within
        content = None
        if body is not None:
            headers["content-type"], content = "application/json", json.dumps(body).encode()
        url = f"{place.spec.address.rstrip('/')}/v1/{quote(path, safe='/')}"
        try:
            return await self._send(TokenRequest(method, url, headers, content))
        except SecretUnavailable:
            raise
        except ReconcilerError as error:
            raise place.error("RC4080", error.message, error.hint or "It is tried again within a minute.") from None


def _values(place: _VaultPlace, fields: Mapping[str, Any], version: str) -> Loaded:
    wanted = place.spec.data
    names = {name: name for name in fields} if wanted is None else {key: entry.field or key for key, entry in wanted.items()}
    values: dict[str, SecretValue] = {}
    errors: dict[str, SecretUnavailable] = {}
    for key, name in names.items():
        text = _text(fields.get(name))
        if text:
            values[key] = SecretValue(text)
        elif name in fields:
            what = "is empty" if fields[name] in ("", None) else "is no text, or is larger than 64 KiB"
            errors[key] = place.error("RC4084", f"key {key!r}: the field {name!r} of {place.spec.path!r} {what}")
        else:
            hint = f"Its fields: {', '.join(sorted(fields)[:20]) or 'none'}."
            errors[key] = place.error("RC4084", f"key {key!r}: {place.spec.path!r} has no field {name!r}", hint)
    return Loaded(values, version, errors)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = value if isinstance(value, str) else json.dumps(value) if isinstance(value, int | float) else ""
    return text if len(text.encode("utf-8", "replace")) <= MAX_VALUE else ""


def _key(place: _VaultPlace) -> str:
    """Return what tells one login from another. A rotated credential is another login; an ID token names its Secret."""
    auth = place.spec.auth
    own = place.secret.id.path
    if auth.use != "oidc":
        credential = place.credential("token" if auth.use == "token" else "secretId")
        own = hashlib.sha256(f"{auth.role_id}\n{credential}".encode()).hexdigest()
    where = (place.spec.address, place.spec.namespace or "", auth.use, auth.mount or "", auth.role or "", auth.audience or "")
    return "\n".join((*where, own))


__all__ = ["VaultBackend"]
