"""Tokens of Google Cloud: by the key of a service account, or by an ID token of ours (workload identity federation).

Facts: the discovery documents sts.v1 and iamcredentials.v1, "Using OAuth 2.0 for Server to Server Applications", RFC 7523, RFC 8693.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from reconciler.drivers.auth import ApiResponse, AuthContext, AuthRequest, Expiring, TokenRequest
from reconciler.drivers.connection import Connection
from reconciler.drivers.google.key import AccountKey, read_key
from reconciler.drivers.google.spec import SPEC
from reconciler.drivers.oauth import (
    FORM,
    Bearer,
    GrantedToken,
    Refused,
    bearer,
    fingerprint,
    forget_refused,
    granted,
    refusal_of,
    text_of,
)
from reconciler.drivers.refusals import claims_in, explain
from reconciler.drivers.wire import find
from reconciler.model.errors import AuthFailed, ProviderUnavailable, ValidationFailed
from reconciler.model.secrets import SecretValue
from reconciler.model.times import epoch_of

T = TypeVar("T")
CLOUD_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
IAM_SCOPE = "https://www.googleapis.com/auth/iam"
"""Enough to impersonate, and nothing else."""
JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
LIFE_S = 3600
BACKDATE_S = 10
"""Google refuses an ``iat`` in the future."""
CLOCK_MOVED_S = 30.0
ACCESS = "access"
ROOT = "https://www.googleapis.com"
PROVIDER = re.compile(r"projects/[0-9]{1,20}/locations/global/workloadIdentityPools/[a-z0-9-]{4,32}/providers/[a-z0-9-]{4,32}")


class ImpersonatedToken(msgspec.Struct, frozen=True, rename="camel"):
    """The answer of ``generateAccessToken``; ``expire_time`` is RFC 3339."""

    access_token: str
    expire_time: str


class GeneratedIdToken(msgspec.Struct, frozen=True):
    """The answer of ``generateIdToken``."""

    token: str


class GrantedIdToken(msgspec.Struct, frozen=True):
    """The answer of the JWT grant with ``target_audience``."""

    id_token: str


class GoogleAuthenticator:
    """Implements `reconciler.drivers.connection.Authenticator`: an access token for APIs of Google, an ID token for services of one's own."""

    def __init__(self, connection: Connection, context: AuthContext) -> None:
        self._context, self._connection = context, connection
        self._ref = connection.secrets.get("/serviceAccountKey")
        self.federated = connection.auth.get("use") == "oidc"
        block = find(connection.auth, dict[str, object], "oidc") or {}
        self.account = text_of(block, "serviceAccount")
        self._subject = text_of(block, "subject")
        self.provider = text_of(block, "workloadIdentityProvider").removeprefix("https:").removeprefix("//iam.googleapis.com/")
        self._audience = text_of(block, "audience") or SPEC.audience.format(workloadIdentityProvider=self.provider)
        if self.federated and not PROVIDER.fullmatch(self.provider):
            raise ValidationFailed(
                f"{connection.integration}: auth.oidc.workloadIdentityProvider is not the resource name of a provider",
                hint="Its form is projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER, with the project's number.",
            )
        if not self.federated and self._ref is None:
            raise ValidationFailed(
                f"{connection.integration}: auth.serviceAccountKey names no secret",
                hint="Set `auth.serviceAccountKey.valueFrom.secret`.",
            )
        self._last = ""

    # -- requests ---------------------------------------------------------------------------------------------------

    async def authorize(self, request: AuthRequest) -> None:
        """Add a token. Raises `AuthFailed` and other typed errors of a refused grant.

        A host of Google's APIs gets the access token. Any other host gets an ID token that is good for one audience only: the one
        that the manifest names or, as on Cloud Run, the origin of the URL; a function of the first generation has a URL of its own.
        """
        audience = self._id_audience(request)
        token = await self.token(f"id|{audience}" if audience else ACCESS)
        request.headers["authorization"] = f"Bearer {token.reveal()}"

    async def refresh(self) -> bool:
        """After a 401: drop the token that was sent, unless it is new."""
        return forget_refused(self._context.tokens, self._last or self.cache_key(ACCESS), self._context.clock())

    def _id_audience(self, request: AuthRequest) -> str:
        """Return the audience of the ID token for a request; empty for the access token. Raises `ValidationFailed` without one."""
        parts = urlsplit(request.url)
        host = (parts.hostname or "").lower()
        audience = request.called.audience if request.called is not None else ""
        own = request.url.startswith(self._connection.api_url.rstrip("/") + "/")
        if host.endswith(".googleapis.com") or (own and not audience):
            return ""
        if audience:
            return audience
        if host.endswith(".cloudfunctions.net"):
            return f"https://{host}/{parts.path.strip('/').split('/')[0]}"
        if host.endswith(".run.app"):
            return f"https://{host}"
        if request.called is not None:
            return f"{parts.scheme}://{parts.netloc.lower()}"
        raise ValidationFailed(
            f"{self._connection.integration}: no token for {host}: the host does not say which audience it accepts",
            hint="Set the audience to what the service checks, usually its URL.",
        )

    # -- tokens -----------------------------------------------------------------------------------------------------

    async def token(self, what: str = ACCESS) -> SecretValue:
        """Return the access token, or with ``id|AUDIENCE`` an ID token.

        Raises `AuthFailed`, `RateLimited`, `ProviderUnavailable`, `SecretUnavailable`.
        """
        self._last = self.cache_key(what)
        return (await self._context.tokens.get(self._last, lambda: self._mint(what))).token

    def cache_key(self, what: str) -> str:
        """Return the key of ``what`` in the token cache. It changes with the secret."""
        proof = fingerprint(self._context.read(self._ref)) if self._ref is not None else f"{self._audience}|{self._subject}"
        return f"{self._connection.integration}|{self.provider}|{self.account}|{proof}|{what}"

    def ends_at(self, what: str = ACCESS) -> float:
        """Return when the cached token of ``what`` ends (epoch seconds); 0 if there is none."""
        return self._context.tokens.ends_at(self.cache_key(what)) or 0.0

    async def cached(self, what: str, seconds: float, read: Callable[[], Awaitable[T]]) -> T:
        """Return what ``read`` returned within the last ``seconds``."""

        async def fresh() -> Expiring[T]:
            return Expiring(await read(), self._context.clock() + seconds)

        return await self._context.tokens.get(self.cache_key(what), fresh)

    async def _mint(self, what: str) -> Expiring[Bearer]:
        audience = what.removeprefix("id|") if what != ACCESS else ""
        if not self.federated:
            return await self._by_key(audience)
        if not self.account:
            if audience:
                raise ValidationFailed(
                    f"{self._connection.integration}: an ID token needs a service account",
                    hint="Set `auth.oidc.serviceAccount`: Google gives ID tokens to service accounts only.",
                )
            return await self._exchanged(CLOUD_SCOPE)
        return await self._impersonated(audience)

    # by a key

    def account_key(self) -> AccountKey:
        """Return the key of the service account. Raises `AuthFailed` for a secret that is no such key."""
        ref = self._ref
        if ref is None:
            raise ValidationFailed(f"{self._connection.integration}: auth.serviceAccountKey names no secret")
        return read_key(self._context.read(ref), f"{self._connection.integration}: auth.serviceAccountKey", self._root())

    async def _by_key(self, audience: str) -> Expiring[Bearer]:
        key = self.account_key()
        before = self._ahead()
        answer = await self._grant(key, audience)
        if answer.status in (400, 401) and abs(self._ahead() - before) > CLOCK_MOVED_S:
            answer = await self._grant(key, audience)  # the refusal showed that Google's clock is another one
        refused = refusal_of(answer, "Google", self._context.provider_time())
        if refused is not None:
            raise _key_refused(key, refused)
        if audience:
            return self._kept(granted(answer, GrantedIdToken, "the ID token of Google").id_token, LIFE_S, answer)
        token = granted(answer, GrantedToken, "the token of Google")
        return self._kept(token.access_token, token.expires_in, answer)

    async def _grant(self, key: AccountKey, audience: str) -> ApiResponse:
        now = int(self._context.provider_time()) - BACKDATE_S
        wanted = {"target_audience": audience} if audience else {"scope": CLOUD_SCOPE}
        assertion = key.signed({"iss": key.client_email, "aud": key.token_uri, "iat": now, "exp": now + LIFE_S, **wanted})
        return await self._post(
            self.url("oauth2", "/token", key.universe), {"grant_type": JWT_GRANT, "assertion": assertion.reveal()}
        )

    # by an ID token of ours

    async def _exchanged(self, scope: str) -> Expiring[Bearer]:
        issued = await self._context.id_token(self._connection.integration, self._audience, subject=self._subject)
        form = {
            "grant_type": EXCHANGE_GRANT,
            "audience": f"//iam.googleapis.com/{self.provider}",
            "scope": scope,
            "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "subject_token": issued.reveal(),
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        }
        answer = await self._post(self.url("sts", "/v1/token"), form)
        now = self._context.provider_time()
        refused = refusal_of(answer, "Google STS", now)
        if refused is None:
            token = granted(answer, GrantedToken, "the token of Google STS")
            return self._kept(token.access_token, token.expires_in, answer)
        why = explain("google", claims_in(issued.reveal()), refused.status, answer.text, provider_now=now)
        if why is not None:
            raise why.error(request=refused.request, status=refused.status)
        raise AuthFailed(
            f"Google STS refused our ID token ({refused.text})",
            status=refused.status,
            request=refused.request,
            code="RC4066",
            hint=f"Compare the provider {self.provider} with `reconciler oidc trust google {self._connection.integration}`.",
        )

    async def _impersonated(self, audience: str) -> Expiring[Bearer]:
        fed = await self._context.tokens.get(self.cache_key("federated"), lambda: self._exchanged(IAM_SCOPE))
        method = "generateIdToken" if audience else "generateAccessToken"
        body: dict[str, object] = (
            {"audience": audience, "includeEmail": True} if audience else {"scope": [CLOUD_SCOPE], "lifetime": f"{LIFE_S}s"}
        )
        url = self.url("iamcredentials", f"/v1/projects/-/serviceAccounts/{quote(self.account, safe='@')}:{method}")
        headers = {"authorization": f"Bearer {fed.token.reveal()}", "content-type": "application/json"}
        answer = await self._context.send(TokenRequest("POST", url, headers, msgspec.json.encode(body), hosts=SPEC.hosts))
        refused = refusal_of(answer, "Google IAM", self._context.provider_time())
        if refused is not None:
            self._context.tokens.forget(self.cache_key("federated"))
            raise self._impersonation_refused(refused, answer)
        if audience:
            return self._kept(granted(answer, GeneratedIdToken, "the ID token of Google").token, LIFE_S, answer)
        token = granted(answer, ImpersonatedToken, "the token of Google")
        try:
            left_s = epoch_of(token.expire_time) - self._context.provider_time()
        except ValueError:
            raise ProviderUnavailable(f"{answer.request}: expireTime is no time", request=answer.request) from None
        return self._kept(token.access_token, left_s, answer)

    def _impersonation_refused(self, refused: Refused, answer: ApiResponse) -> AuthFailed:
        disabled = "SERVICE_DISABLED" in answer.text
        grant = f"Grant roles/iam.workloadIdentityUser on {self.account} to the principal of this daemon; `reconciler oidc trust google` prints it."
        return AuthFailed(
            f"Google does not let this daemon act as {self.account} ({refused.text})",
            status=refused.status,
            request=refused.request,
            code="RC4069",
            hint="Enable the API iamcredentials.googleapis.com in the project of the pool." if disabled else grant,
        )

    # -- sending ----------------------------------------------------------------------------------------------------

    def url(self, service: str, path: str, universe: str = "googleapis.com") -> str:
        """Return the URL of ``path`` at a service. An `apiUrl` that is not Google's own stands in for every service."""
        root = self._root()
        return f"{root}{path}" if root else f"https://{service}.{universe}{path}"

    async def public(self, path: str, universe: str = "googleapis.com") -> ApiResponse:
        """Return what Google publishes at ``path``, read without a credential."""
        return await self._context.send(TokenRequest("GET", self.url("www", path, universe), hosts=SPEC.hosts))

    def now(self) -> float:
        """Return the time by Google's clock (epoch seconds)."""
        return self._context.provider_time()

    async def own_subject(self) -> str:
        """Return the ``sub`` of an ID token of ours."""
        issued = await self._context.id_token(self._connection.integration, self._audience, subject=self._subject)
        return str(claims_in(issued.reveal()).get("sub", ""))

    def _root(self) -> str:
        return "" if self._connection.api_url == ROOT else self._connection.api_url

    def _ahead(self) -> float:
        return self._context.provider_time() - self._context.clock()

    async def _post(self, url: str, form: Mapping[str, str]) -> ApiResponse:
        return await self._context.send(
            TokenRequest("POST", url, {"content-type": FORM}, urlencode(form).encode(), hosts=SPEC.hosts)
        )

    def _kept(self, token: str, life_s: float, answer: ApiResponse) -> Expiring[Bearer]:
        kept = bearer(token, life_s, self._context.clock(), answer.request)
        self._context.conceal(kept.value.token)
        return kept


def _key_refused(key: AccountKey, refused: Refused) -> AuthFailed:
    lower = refused.description.lower()
    hint = "The key was deleted or disabled, or belongs to another account: create another key."
    if "reasonable timeframe" in lower or "check your iat" in lower:
        hint = "The clocks of this host and of Google differ: synchronize this host's (NTP)."
    elif "account not found" in lower:
        hint = "The service account was deleted, or `client_email` in the key is wrong."
    elif "disabled" in lower:
        hint = "Enable the service account again, or use another one."
    return AuthFailed(
        f"Google refused the key {key.private_key_id} of {key.client_email} ({refused.text})",
        status=refused.status,
        request=refused.request,
        code="RC4066",
        hint=hint,
    )


__all__ = ["ACCESS", "ROOT", "GoogleAuthenticator"]
