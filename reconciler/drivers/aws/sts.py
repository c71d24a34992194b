"""Sessions of the Security Token Service: a chain of roles, from an access key or from an ID token of this daemon.

Facts: AWS STS API Reference (2011-06-15): AssumeRole and AssumeRoleWithWebIdentity. A session that another session assumes lasts one
hour at most; a longer duration is refused, not shortened.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

import msgspec

from reconciler.drivers.auth import RETRY_AFTER_S, ApiResponse, AuthContext, AuthRequest, Expiring, TokenRequest
from reconciler.drivers.aws.answers import result, role_error
from reconciler.drivers.aws.regions import STS_HOSTS, SigningScope, scope_of
from reconciler.drivers.aws.signing import AccessKey, sign
from reconciler.drivers.aws.spec import SPEC
from reconciler.drivers.connection import Connection
from reconciler.drivers.refusals import claims_in
from reconciler.model.errors import AuthFailed, ProviderProtocolError, ValidationFailed
from reconciler.model.json import as_list, as_map, text_at
from reconciler.model.secrets import SecretValue
from reconciler.model.times import epoch_of

VERSION = "2011-06-15"
CLOCK_MOVED_S = 60.0
"""A signature is tried again if an answer showed that the clock is off by more than this."""
_FORM = {"content-type": "application/x-www-form-urlencoded; charset=utf-8", "accept": "text/xml"}
_NAME = re.compile(r"[^\w+=,.@-]", re.ASCII)


class Credentials(msgspec.Struct, frozen=True, rename="pascal"):
    """Short-lived credentials."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    expiration: str


class AssumedRole(msgspec.Struct, frozen=True, rename="pascal"):
    """The result of both actions, as far as it is read."""

    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Role:
    """One link of a chain. ``duration_s`` 0 is the default of AWS, one hour."""

    arn: str
    external_id: str = ""
    duration_s: int = 0


@dataclass(frozen=True, slots=True)
class WebIdentity:
    """How the first session is opened with an ID token."""

    role: Role
    audience: str
    subject: str
    session_name: str


def chain_of(connection: Connection) -> tuple[Role, ...]:
    """Return the roles of ``auth.roleAssumptions``, in order."""
    rows = (as_map(row) for row in as_list(connection.auth.get("roleAssumptions")))
    return tuple(Role(str(row["arn"]), text_at(row, "externalId") or "", _seconds(row.get("duration"))) for row in rows)


def web_identity_of(connection: Connection) -> WebIdentity:
    """Return ``auth.oidc``; raises `ValidationFailed` if it names no role."""
    oidc = as_map(connection.auth.get("oidc"))
    arn = text_at(oidc, "roleArn")
    if not arn:
        raise ValidationFailed(f"{connection.integration}: auth.oidc names no role", hint="Set `auth.oidc.roleArn`.")
    role = Role(arn, duration_s=_seconds(oidc.get("duration")))
    name = text_at(oidc, "sessionName") or session_name(connection)
    return WebIdentity(role, text_at(oidc, "audience") or SPEC.audience, text_at(oidc, "subject") or "", name)


def session_name(connection: Connection) -> str:
    """Return the name under which sessions appear in CloudTrail: 2 to 64 characters."""
    identity = connection.integration
    return _NAME.sub("-", f"reconciler-{identity.canvas}-{identity.name}")[:64]


def _seconds(duration: object) -> int:
    return int(duration) if isinstance(duration, int | float) else 0


class Sessions:
    """Opens and caches the session at the end of a connection's chain."""

    def __init__(self, connection: Connection, context: AuthContext, region: str) -> None:
        self._connection, self._context = connection, context
        self._roles = chain_of(connection)
        self._web = web_identity_of(connection) if connection.auth.get("use") == "oidc" else None
        host = urlsplit(connection.api_url).hostname or ""
        self._scope = scope_of(host) or SigningScope("sts", region)
        self._ahead_s = 0.0
        self._last = ""
        self._opened_at = float("-inf")

    async def key(self) -> AccessKey:
        """Return the key that signs: of the last session of the chain or, without roles, the access key itself.

        Raises `SecretUnavailable`, `AuthFailed` and the errors of the token endpoint, from memory for a minute after a refusal.
        """
        if self._web is None and not self._roles:
            return self._own_key()
        start = self._own_key() if self._web is None else None
        self._last = self._cache_key(start)
        return await self._context.tokens.get(self._last, lambda: self._open(start))

    def forget(self) -> bool:
        """Drop the session that signed last; False if there is none, or if it is so new that another would be refused as well."""
        now = self._context.clock()
        if not self._last or 0 <= now - self._opened_at < RETRY_AFTER_S:
            return False
        return self._context.tokens.forget(self._last)

    def ends_at(self) -> float | None:
        """Return when the session ends (epoch seconds); None for a long-lived access key."""
        return self._context.tokens.ends_at(self._last) if self._last else None

    def _own_key(self) -> AccessKey:
        """Return the access key in the Secret. Raises `AuthFailed` for one that no signature can name."""
        values = []
        for part in ("id", "secret"):
            ref = self._connection.secrets.get(f"/accessKey/{part}")
            if ref is None:
                name = f"auth.accessKey.{part}"
                raise ValidationFailed(
                    f"{self._connection.integration}: {name} names no secret", hint=f"Set `{name}.valueFrom.secret`."
                )
            values.append(self._context.read(ref))
        key, secret = values
        if not re.fullmatch(r"[\w]{16,128}", key.reveal(), re.ASCII):
            raise AuthFailed(
                f"{self._connection.integration}: auth.accessKey.id is no access key id (AKIA and 16 characters)",
                hint="Check which key of the Secret is named: id and secret may be exchanged.",
            )
        return AccessKey(key.reveal(), secret)

    def _cache_key(self, start: AccessKey | None) -> str:
        """Return the key of the session: another access key, chain or endpoint is another session."""
        own = "" if start is None else f"{start.id}\0{start.secret.reveal()}"
        digest = hashlib.sha256(repr((own, self._roles, self._web, self._connection.api_url)).encode()).hexdigest()
        return f"{self._connection.integration}|{digest}"

    async def _open(self, start: AccessKey | None) -> Expiring[AccessKey]:
        """Open the sessions of the chain one after the other, and return the last."""
        session = None
        if self._web is not None:
            session = await self._with_token(self._web)
        for role in self._roles:
            signer = session.value if session is not None else start
            if signer is None:  # neither: `key` opens no session then
                raise ValidationFailed(f"{self._connection.integration}: there is no key to begin the chain with")
            session = await self._assume(role, signer)
        if session is None:
            raise ValidationFailed(f"{self._connection.integration}: the chain of roles is empty")
        self._opened_at = self._context.clock()
        return session

    async def _with_token(self, web: WebIdentity) -> Expiring[AccessKey]:
        token = await self._context.id_token(self._connection.integration, web.audience, subject=web.subject)
        fields = {"RoleSessionName": web.session_name, "WebIdentityToken": token.reveal()}
        return await self._call("AssumeRoleWithWebIdentity", web.role, fields, None)

    async def _assume(self, role: Role, signer: AccessKey) -> Expiring[AccessKey]:
        fields = {"RoleSessionName": session_name(self._connection)}
        if role.external_id:
            fields["ExternalId"] = role.external_id
        try:
            return await self._call("AssumeRole", role, fields, signer)
        except AuthFailed as error:
            if error.code != "RC4062" or not self._clock_moved():
                raise
        return await self._call("AssumeRole", role, fields, signer)  # signed by the clock that the refusal has shown

    def _clock_moved(self) -> bool:
        return abs(self._context.provider_time() - self._context.clock() - self._ahead_s) > CLOCK_MOVED_S

    async def _call(self, action: str, role: Role, fields: dict[str, str], signer: AccessKey | None) -> Expiring[AccessKey]:
        form = {"Action": action, "Version": VERSION, "RoleArn": role.arn, **fields}
        if role.duration_s:
            form["DurationSeconds"] = str(role.duration_s)
        request = AuthRequest("POST", f"{self._connection.api_url}/", dict(_FORM), urlencode(form).encode())
        now = self._context.provider_time()
        self._ahead_s = now - self._context.clock()
        if signer is not None:
            sign(request, signer, self._scope, now)
        answer = await self._context.send(
            TokenRequest(request.method, request.url, request.headers, request.content, hosts=STS_HOSTS)
        )
        if answer.status != 200:
            token = fields.get("WebIdentityToken")
            claims = claims_in(token) if token else None
            raise role_error(answer, action, role.arn, self._context.provider_time(), claims)
        return self._session(result(answer, action, AssumedRole).credentials, answer)

    def _session(self, credentials: Credentials, answer: ApiResponse) -> Expiring[AccessKey]:
        secret, token = SecretValue(credentials.secret_access_key), SecretValue(credentials.session_token)
        self._context.conceal(secret)
        self._context.conceal(token)
        try:
            ends_at = epoch_of(credentials.expiration)
        except ValueError:
            raise ProviderProtocolError(f"{answer.request}: `Expiration` is no time", request=answer.request) from None
        ahead_s = self._context.provider_time() - self._context.clock()
        return Expiring(AccessKey(credentials.access_key_id, secret, token), ends_at - ahead_s)


__all__ = ["VERSION", "Role", "Sessions", "WebIdentity", "chain_of", "session_name", "web_identity_of"]
