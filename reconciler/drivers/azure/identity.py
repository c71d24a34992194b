"""Tokens of Microsoft Entra: the client credentials grant, with a secret or with an ID token of ours (a federated credential).

Facts: Microsoft Learn, "OAuth 2.0 client credentials flow" and "Microsoft Entra authentication and authorization error codes".
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import quote, urlencode, urlsplit

from reconciler.drivers.auth import ApiResponse, AuthContext, AuthRequest, Expiring, TokenRequest
from reconciler.drivers.azure.spec import CLOUDS, SPEC, cloud_at
from reconciler.drivers.connection import Connection
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
from reconciler.model.errors import AuthFailed, ValidationFailed
from reconciler.model.secrets import SecretValue

T = TypeVar("T")
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
WHO = "Microsoft Entra"
_CODE = re.compile(r"AADSTS(\d{4,8})")
_HINTS = {
    "7000215": "The client secret is wrong. Provide the secret's value, not its id; Azure shows the value only once.",
    "7000222": "The client secret has expired. Create another one, or use a federated credential (`auth.use: oidc`), which has no end.",
    "700016": "The application (clientId) is not in this tenant: check `clientId` and `tenantId`.",
    "90002": "There is no such tenant: check `tenantId`, and that `url` names its cloud.",
    "900023": "`tenantId` is neither a GUID nor a domain.",
    "70011": "The application does not know this scope: check the audience.",
    "1002012": "The scope must end in `/.default`: check the audience.",
    "500011": "There is no application with this audience in the tenant.",
    "53003": "A conditional access policy blocks the application.",
}


class AzureAuthenticator:
    """Implements `reconciler.drivers.connection.Authenticator`: a token for each scope, which the host of a request decides."""

    def __init__(self, connection: Connection, context: AuthContext) -> None:
        self._context, self._connection = context, connection
        self.cloud = cloud_at(connection.api_url, connection.url)
        self.federated = connection.auth.get("use") == "oidc"
        block = find(connection.auth, dict[str, object], "oidc" if self.federated else "clientSecret") or {}
        self._secret = connection.secrets.get("/clientSecret/secret")
        self.tenant, self.client = text_of(block, "tenantId"), text_of(block, "clientId")
        self.subscription = text_of(block, "subscriptionId")
        self._audience = text_of(block, "audience") or self.cloud.audience
        self._subject = text_of(block, "subject")
        name = "oidc" if self.federated else "clientSecret"
        if not self.tenant or not self.client or (self._secret is None and not self.federated):
            raise ValidationFailed(
                f"{connection.integration}: auth.{name} is incomplete",
                hint=f"Set `tenantId` and `clientId` in `auth.{name}`{'' if self.federated else ' and `secret.valueFrom.secret`'}.",
            )
        self._last = ""

    # -- which token ------------------------------------------------------------------------------------------------

    @property
    def arm_scope(self) -> str:
        """The scope of Azure Resource Manager."""
        return f"https://{self.cloud.arm}/.default"

    @property
    def graph_scope(self) -> str:
        """The scope of Microsoft Graph."""
        return f"https://{self.cloud.graph}/.default"

    def url_of(self, host: str, path: str) -> str:
        """Return the URL of ``path`` at a host of the cloud. An `apiUrl` that is not Azure's own stands in for every host."""
        own = urlsplit(self._connection.api_url).hostname == self.cloud.arm
        return f"https://{host}{path}" if own else f"{self._connection.api_url}{path}"

    def scope_for(self, url: str, audience: str = "") -> str:
        """Return the scope of the token that a request to ``url`` carries.

        Raises `ValidationFailed` for a host that is no service of the cloud, without an audience or with that of such a service:
        nobody else may get a token that opens Azure itself.
        """
        host = (urlsplit(url).hostname or "").lower()
        own = url.startswith(self._connection.api_url.rstrip("/") + "/")
        if host == self.cloud.arm or (own and not audience):
            return self.arm_scope
        if host == self.cloud.graph:
            return self.graph_scope
        for domain, scope in self.cloud.services.items():
            if host.endswith("." + domain):
                return scope
        wanted = audience if not audience or audience.endswith("/.default") else audience.rstrip("/") + "/.default"
        if not wanted or self._opens_azure(wanted):
            reason = f"{audience} is a service of Azure itself" if wanted else "the host does not say which token it takes"
            raise ValidationFailed(
                f"{self._connection.integration}: no token for {host}: {reason}",
                hint="Set the audience to the application id URI of the service that is called (`api://…`).",
            )
        return wanted

    def _opens_azure(self, scope: str) -> bool:
        host = (urlsplit(scope).hostname or "").lower()
        own = {name for cloud in CLOUDS for name in (cloud.arm, cloud.graph)} | {
            "management.core.windows.net",
            "graph.windows.net",
        }
        shared = {urlsplit(each).hostname for cloud in CLOUDS for each in cloud.services.values()}
        # First-party applications are also known by their ids: those of ARM and of Graph.
        ids = ("797f4846-ba00-4fd7-ba43-dac1f8f63013", "00000003-0000-0000-c000-000000000000")
        return host in own | shared or any(each in scope.lower() for each in ids)

    # -- requests ---------------------------------------------------------------------------------------------------

    async def authorize(self, request: AuthRequest) -> None:
        """Add the token. Raises `AuthFailed` and other typed errors of a refused grant."""
        audience = request.called.audience if request.called is not None else ""
        token = await self.token(self.scope_for(request.url, audience))
        request.headers["authorization"] = f"Bearer {token.reveal()}"

    async def refresh(self) -> bool:
        """After a 401: drop the token that was sent, unless it is new."""
        return bool(self._last) and forget_refused(self._context.tokens, self._last, self._context.clock())

    async def token(self, scope: str) -> SecretValue:
        """Return a token for ``scope``. Raises `AuthFailed`, `RateLimited`, `ProviderUnavailable`, `SecretUnavailable`."""
        self._last = self.key(scope)
        return (await self._context.tokens.get(self._last, lambda: self._mint(scope))).token

    def key(self, what: str) -> str:
        """Return the key of ``what`` in the token cache. It changes with the secret."""
        proof = fingerprint(self._context.read(self._secret)) if self._secret is not None else f"{self._audience}|{self._subject}"
        return f"{self.cloud.login}|{self._connection.integration}|{self.tenant}|{self.client}|{proof}|{what}"

    async def get(self, host: str, path: str, scope: str) -> ApiResponse:
        """Return the answer of a host of the cloud to GET, whatever its status."""
        headers = {"authorization": f"Bearer {(await self.token(scope)).reveal()}"}
        return await self._context.send(TokenRequest("GET", self.url_of(host, path), headers, hosts=SPEC.hosts))

    def secret_start(self, characters: int) -> str:
        """Return the first ``characters`` of the client secret, by which Microsoft Graph names it; empty without a secret."""
        return self._context.read(self._secret).reveal()[:characters] if self._secret is not None else ""

    def now(self) -> float:
        """Return the time by Azure's clock (epoch seconds)."""
        return self._context.provider_time()

    async def cached(self, what: str, seconds: float, read: Callable[[], Awaitable[T]]) -> T:
        """Return what ``read`` returned within the last ``seconds``."""

        async def fresh() -> Expiring[T]:
            return Expiring(await read(), self._context.clock() + seconds)

        return await self._context.tokens.get(self.key(what), fresh)

    async def _mint(self, scope: str) -> Expiring[Bearer]:
        form = {"client_id": self.client, "scope": scope, "grant_type": "client_credentials"}
        assertion = ""
        if self._secret is not None and not self.federated:
            form["client_secret"] = self._context.read(self._secret).reveal()
        else:
            issued = await self._context.id_token(self._connection.integration, self._audience, subject=self._subject)
            assertion = issued.reveal()
            form |= {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
        url = self.url_of(self.cloud.login, f"/{quote(self.tenant, safe='')}/oauth2/v2.0/token")
        request = TokenRequest("POST", url, {"content-type": FORM}, urlencode(form).encode(), hosts=SPEC.hosts)
        answer = await self._context.send(request)
        refused = refusal_of(answer, WHO, self._context.provider_time())
        if refused is not None:
            raise self._error(refused, answer.text, assertion)
        token = granted(answer, GrantedToken, "the token of Microsoft Entra")
        kept = bearer(token.access_token, token.expires_in, self._context.clock(), answer.request)
        self._context.conceal(kept.value.token)
        return kept

    def _error(self, refused: Refused, text: str, assertion: str) -> AuthFailed:
        """The kind of error depends on OAuth's ``error`` only; Microsoft changes codes, so they choose nothing but the advice."""
        if assertion and refused.error in {"invalid_client", "invalid_request", "invalid_grant"}:
            why = explain("azure", claims_in(assertion), refused.status, text, provider_now=self._context.provider_time())
            if why is not None and why.claim:
                return why.error(request=refused.request, status=refused.status)
        code = _CODE.search(refused.description)
        return AuthFailed(
            f"{WHO} refused the application {self.client} ({refused.text})",
            status=refused.status,
            request=refused.request,
            code="RC4065",
            hint=_HINTS.get(code.group(1) if code else "", "Check `tenantId`, `clientId` and the credential of the application."),
        )


__all__ = ["WHO", "AzureAuthenticator"]
