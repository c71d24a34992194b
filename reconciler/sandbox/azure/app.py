"""A simulated Azure: the token endpoint of Entra, subscriptions of Resource Manager, and applications of Microsoft Graph, on one host.

Facts: Microsoft Learn. State: ``applications`` by client id (``tenant``, ``object_id``, ``roles``, ``reads_itself``, ``secrets`` with
``value`` and ``endDateTime``, ``federated`` with ``issuer``, ``subject``, ``audiences``), ``subscriptions`` by id (``displayName``,
``state``, ``tenantId``, ``readers``: client ids), ``issuers`` (see `reconciler.sandbox.relying`).
"""

from __future__ import annotations

import base64
import datetime as dt
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn, TypedDict, cast

import orjson

from reconciler.sandbox.app import Action, Call, Options, RefusedCall, Reply, Route, Simulator
from reconciler.sandbox.relying import InvalidIdToken, form_of, unverified, verify

TENANT = "7d1b4f0e-3c1a-4b52-9d0e-0a6f5f0e9a11"
CLIENT = "c0ffee00-1111-4222-8333-444455556666"
SECRET = "sbx8Q~sandbox-secret-of-no-real-application"  # opens nothing but this simulator
SUBSCRIPTION = "5b5c0e6a-9f0d-4a3a-8a44-2d1f6a3b7c55"
LIFE_S = 3599
SKEW_S = 300
RESOURCES = frozenset({"https://management.azure.com", "https://graph.microsoft.com", "https://vault.azure.net"})
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
BASE = frozenset({"client_id", "scope", "grant_type"})
FORMS = (BASE | {"client_secret"}, BASE | {"client_assertion_type", "client_assertion"})
_TENANT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[a-z0-9-]+(\.[a-z0-9-]+)+", re.IGNORECASE)


class AzureApplication(TypedDict):
    """An application with its service principal."""

    tenant: str
    object_id: str
    roles: list[str]
    reads_itself: bool
    secrets: list[dict[str, str]]
    federated: list[dict[str, object]]


class AzureRecords(TypedDict):
    """The whole state."""

    applications: dict[str, AzureApplication]
    subscriptions: dict[str, dict[str, object]]
    issuers: dict[str, str]


class Azure(Simulator):
    """Implements `reconciler.sandbox.app.Simulator`."""

    provider = "azure"
    defaults: Mapping[str, object] = {"public_url": "", "token_life_s": LIFE_S}  # public_url: behind a proxy that ends TLS

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._granted: dict[str, tuple[str, str, float]] = {}
        """Token → client id, resource, end."""
        super().__init__(clock=clock)

    @property
    def records(self) -> AzureRecords:
        """The state, by type."""
        return cast("AzureRecords", self.state)

    def seed(self) -> dict[str, object]:
        end = dt.datetime.fromtimestamp(self._host_clock() + 400 * 86_400, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        application = {
            "tenant": TENANT,
            "object_id": "0b1ec700-aaaa-4bbb-8ccc-dddddddddddd",
            "roles": [],
            "reads_itself": True,
            "secrets": [{"keyId": str(uuid.uuid4()), "displayName": "ci", "value": SECRET, "endDateTime": end}],
            "federated": [],
        }
        subscription = {"displayName": "Production", "state": "Enabled", "tenantId": TENANT, "readers": [CLIENT]}
        return {"applications": {CLIENT: application}, "subscriptions": {SUBSCRIPTION: subscription}, "issuers": {}}

    def actions(self) -> Mapping[str, Action]:
        """``revoke_tokens``: no token that was granted is valid any more."""
        return {"revoke_tokens": self._revoke}

    def _revoke(self, _options: Options) -> dict[str, object]:
        count = len(self._granted)
        self._granted.clear()
        return {"revoked": count}

    def routes(self) -> Iterable[Route]:
        return [
            ("POST", "/{tenant}/oauth2/v2.0/token", self._token),
            ("GET", "/{tenant}/v2.0/.well-known/openid-configuration", self._configuration),
            ("GET", "/subscriptions/{number}", self._subscription),
            ("GET", "/subscriptions", self._subscriptions),
            ("GET", "/v1.0/{application}", self._application),
        ]

    def not_found(self, call: Call) -> Reply:
        return Reply(404, {"error": {"code": "ResourceNotFound", "message": f"No resource at {call.path}."}})

    # -- Entra ------------------------------------------------------------------------------------------------------

    def _configuration(self, call: Call, tenant: str) -> Reply:
        root = str(self.settings["public_url"] or self.base_url)
        return Reply(
            200,
            {
                "token_endpoint": f"{root}/{tenant}/oauth2/v2.0/token",
                "authorization_endpoint": f"{root}/{tenant}/oauth2/v2.0/authorize",
                "issuer": f"{root}/{tenant}/v2.0",
                "jwks_uri": f"{root}/{tenant}/discovery/v2.0/keys",
            },
        )

    def _token(self, call: Call, tenant: str) -> Reply:
        form = form_of(call.headers.get("content-type", ""), call.body)
        if form is None or "grant_type" not in form:
            self._refuse(400, "invalid_request", 900144, "The request body must contain the following parameter: 'grant_type'.")
        if not _TENANT.fullmatch(tenant):
            self._refuse(
                400,
                "invalid_request",
                900023,
                f"Specified tenant identifier '{tenant}' is neither a valid DNS name, nor a valid external domain.",
            )
        if tenant not in {each["tenant"] for each in self.records["applications"].values()}:
            self._refuse(
                400, "invalid_request", 90002, f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID."
            )
        if form["grant_type"] != "client_credentials":
            self._refuse(
                400, "unsupported_grant_type", 70003, f"The app requested an unsupported grant type '{form['grant_type']}'."
            )
        missing = sorted(BASE - form.keys())
        if missing:
            self._refuse(
                400, "invalid_request", 900144, f"The request body must contain the following parameter: '{missing[0]}'."
            )
        if set(form) - {"client_info"} not in FORMS:
            self._refuse(
                401,
                "invalid_client",
                7000218,
                "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
            )
        resource, mark, _ = form["scope"].rpartition("/.default")
        if not mark:
            self._refuse(
                400,
                "invalid_scope",
                1002012,
                f"The provided value for scope {form['scope']} is not valid. Client credential flows must have a scope value with "
                "/.default suffixed to the resource identifier.",
            )
        application = self.records["applications"].get(form["client_id"])
        if application is None or application["tenant"] != tenant:
            self._refuse(
                400,
                "unauthorized_client",
                700016,
                f"Application with identifier '{form['client_id']}' was not found in the directory '{tenant}'.",
            )
        if resource not in RESOURCES and not resource.startswith("api://"):
            self._refuse(
                400,
                "invalid_resource",
                500011,
                f"The resource principal named {resource} was not found in the tenant named {tenant}.",
            )
        if "client_secret" in form:
            self._check_secret(application, form)
        else:
            self._check_assertion(application, form)
        return self._grant(form["client_id"], application, resource)

    def _check_secret(self, application: AzureApplication, form: Mapping[str, str]) -> None:
        for row in application["secrets"]:
            if row["value"] == form["client_secret"]:
                if _epoch(row["endDateTime"]) <= self.clock():
                    self._refuse(
                        401,
                        "invalid_client",
                        7000222,
                        f"The provided client secret keys for app '{form['client_id']}' are expired.",
                    )
                return
        self._refuse(
            401,
            "invalid_client",
            7000215,
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the "
            f"client secret ID, for a secret added to app '{form['client_id']}'.",
        )

    def _check_assertion(self, application: AzureApplication, form: Mapping[str, str]) -> None:
        if form["client_assertion_type"] != ASSERTION_TYPE:
            self._refuse(
                400, "invalid_request", 900144, "The request body must contain the following parameter: 'client_assertion_type'."
            )
        try:
            _, claims = unverified(form["client_assertion"])
            self._match(application, claims)
            verify(form["client_assertion"], frozenset({"RS256"}), self.records["issuers"])
        except InvalidIdToken as error:
            self._refuse(*_INVALID[error.reason])
        now, end = self.clock(), claims.get("exp")
        start = claims.get("nbf", claims.get("iat"))
        if not isinstance(end, int) or end <= now - SKEW_S or not isinstance(start, int) or start > now + SKEW_S:
            self._refuse(401, "invalid_client", 700024, "Client assertion is not within its valid time range.")

    def _match(self, application: AzureApplication, claims: Mapping[str, object]) -> None:
        """Compare issuer, then subject, then audience, each exactly."""
        rows = [row for row in application["federated"] if row["issuer"] == claims.get("iss")]
        if not rows:
            self._refuse(
                401,
                "invalid_client",
                700211,
                f"No matching federated identity record found for presented assertion issuer '{claims.get('iss')}'.",
            )
        rows = [row for row in rows if row["subject"] == claims.get("sub")]
        if not rows:
            self._refuse(
                401,
                "invalid_client",
                700213,
                f"No matching federated identity record found for presented assertion subject '{claims.get('sub')}'.",
            )
        if not any(row["audiences"] == [claims.get("aud")] for row in rows):
            self._refuse(
                401,
                "invalid_client",
                700212,
                f"No matching federated identity record found for presented assertion audience '{claims.get('aud')}'.",
            )

    def _grant(self, client: str, application: AzureApplication, resource: str) -> Reply:
        now, life_s = int(self.clock()), int(self.number("token_life_s"))
        claims = {
            "aud": resource,
            "iss": f"https://sts.windows.net/{application['tenant']}/",
            "iat": now,
            "nbf": now,
            "exp": now + life_s,
            "appid": client,
            "oid": application["object_id"],
            "sub": application["object_id"],
            "tid": application["tenant"],
            "uti": uuid.uuid4().hex,
            **({"roles": application["roles"]} if application["roles"] else {}),
        }
        token = ".".join((_part({"typ": "JWT", "alg": "RS256", "kid": "sandbox"}), _part(claims), _part("sandbox")))
        self._granted[token] = (client, resource, now + life_s)
        return Reply(200, {"token_type": "Bearer", "expires_in": life_s, "ext_expires_in": life_s, "access_token": token})

    def _refuse(self, status: int, error: str, code: int, text: str) -> NoReturn:
        trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
        moment = dt.datetime.fromtimestamp(self.clock(), dt.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        raise RefusedCall(
            Reply(
                status,
                {
                    "error": error,
                    "error_description": f"AADSTS{code}: {text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {moment}",
                    "error_codes": [code],
                    "timestamp": moment,
                    "trace_id": trace,
                    "correlation_id": correlation,
                    "error_uri": f"https://login.microsoftonline.com/error?code={code}",
                },
            )
        )

    # -- Resource Manager and Graph ---------------------------------------------------------------------------------

    def _caller(self, call: Call, resource: str) -> str:
        """Return the client id of the token. Raises `RefusedCall` for one that does not open ``resource``."""
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        client, opens, end = self._granted.get(token, ("", "", 0.0))
        problem = "ExpiredAuthenticationToken" if client and end <= self.clock() else "InvalidAuthenticationToken"
        if scheme != "Bearer" or opens != resource or end <= self.clock():
            headers = {
                "www-authenticate": f'Bearer authorization_uri="https://login.windows.net/{TENANT}", error="invalid_token"'
            }
            raise RefusedCall(
                Reply(401, _error(problem, "The access token is invalid, expired or for another audience."), headers)
            )
        return client

    def _subscription(self, call: Call, number: str) -> Reply:
        client = self._caller(call, "https://management.azure.com")
        self._check_version(call)
        row = self.records["subscriptions"].get(number)
        if row is None:
            return Reply(404, _error("SubscriptionNotFound", f"The subscription '{number}' could not be found."))
        if client not in cast("list[str]", row["readers"]):
            text = (
                f"The client '{client}' does not have authorization to perform action 'Microsoft.Resources/subscriptions/read' over "
                f"scope '/subscriptions/{number}' or the scope is invalid. If access was recently granted, please refresh your credentials."
            )
            return Reply(403, _error("AuthorizationFailed", text))
        return Reply(200, _shown(number, row))

    def _subscriptions(self, call: Call) -> Reply:
        client = self._caller(call, "https://management.azure.com")
        self._check_version(call)
        rows = [
            _shown(key, row) for key, row in self.records["subscriptions"].items() if client in cast("list[str]", row["readers"])
        ]
        return Reply(200, {"value": rows, "count": {"type": "Total", "value": len(rows)}})

    @staticmethod
    def _check_version(call: Call) -> None:
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}(-preview)?", call.query.get("api-version", "")):
            text = "The api-version query parameter (?api-version=) is required for all requests."
            raise RefusedCall(Reply(400, _error("MissingApiVersionParameter", text)))

    def _application(self, call: Call, application: str) -> Reply:
        client = self._caller(call, "https://graph.microsoft.com")
        named = re.fullmatch(r"applications\(appId='([^']+)'\)", application)
        row = self.records["applications"].get(named[1]) if named else None
        if named is None or row is None:
            return Reply(404, _error("Request_ResourceNotFound", f"Resource '{application}' does not exist."))
        if named[1] != client or not row["reads_itself"]:
            return Reply(403, _error("Authorization_RequestDenied", "Insufficient privileges to complete the operation."))
        secrets = [
            {**{key: value for key, value in each.items() if key != "value"}, "hint": each["value"][:3], "secretText": None}
            for each in row["secrets"]
        ]
        return Reply(
            200, {"@odata.context": "https://graph.microsoft.com/v1.0/$metadata#applications", "passwordCredentials": secrets}
        )


_INVALID: Mapping[str, tuple[int, str, int, str]] = {
    "form": (400, "invalid_request", 50027, "JWT token is invalid or malformed."),
    "algorithm": (400, "invalid_request", 5002738, "Invalid JWT token. The signing algorithm is not supported."),
    "kid": (400, "invalid_request", 5002738, "Invalid JWT token. 'kid' is missing."),
    "issuer": (400, "invalid_request", 50166, "Request to External OIDC endpoint failed."),
    "signature": (
        401,
        "invalid_client",
        700027,
        "The certificate with identifier used to sign the client assertion is not registered.",
    ),
}


def _error(code: str, message: str) -> dict[str, object]:
    return {"error": {"code": code, "message": message}}


def _shown(number: str, row: Mapping[str, object]) -> dict[str, object]:
    own = {key: value for key, value in row.items() if key != "readers"}
    return {
        "id": f"/subscriptions/{number}",
        "authorizationSource": "RoleBased",
        "subscriptionId": number,
        "managedByTenants": [],
        **own,
    }


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


def _epoch(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()
