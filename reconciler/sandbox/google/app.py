"""A simulated Google Cloud: token endpoints, STS, IAM credentials and the public certificates of service accounts, on one host.

Facts: the discovery documents of sts, iamcredentials and cloudresourcemanager. State: ``accounts`` by e-mail (``keys`` by id with
``certificate``, ``disabled``; ``disabled``; ``users``: principals that may impersonate), ``providers`` by resource name (``issuer``,
``allowedAudiences``, ``attributeCondition``: ``assertion.CLAIM == 'VALUE'`` joined by ``&&``, ``disabled``), ``projects``, ``issuers``
(see `reconciler.sandbox.relying`). The action ``create_key`` {email, expires_at?} returns a key file, like
``gcloud``; ``revoke_tokens`` ends all tokens.
"""

from __future__ import annotations

import datetime as dt
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn, TypedDict, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey, RSAKey

from reconciler.sandbox.app import Action, Call, Options, RefusedCall, Reply, Route, Simulator
from reconciler.sandbox.relying import InvalidIdToken, form_of, unverified, verify
from reconciler.sandbox.shapes import json_object, texts

ACCOUNT = "deployer@acme-prod.iam.gserviceaccount.com"
PROVIDER = "projects/482910/locations/global/workloadIdentityPools/ci-pool/providers/reconciler"
TOKEN_URI = "https://oauth2.googleapis.com/token"
JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
CLOUD_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
IAM_SCOPE = "https://www.googleapis.com/auth/iam"
LIFE_S = 3599
SKEW_S = 300
DAY_S = 86_400
EXCHANGE: Mapping[str, frozenset[str]] = {
    "grant_type": frozenset({"urn:ietf:params:oauth:grant-type:token-exchange"}),
    "requested_token_type": frozenset({"urn:ietf:params:oauth:token-type:access_token"}),
    "subject_token_type": frozenset({"urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"}),
    "scope": frozenset({CLOUD_SCOPE, IAM_SCOPE}),
}
_NO_TARGET = (
    'The target service indicated by the "audience" parameters is invalid. This might either be because the pool or provider is '
    "disabled or deleted or because it doesn't exist."
)
_TIMES = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim."


class GoogleAccount(TypedDict):
    """A service account."""

    disabled: bool
    keys: dict[str, dict[str, object]]
    users: list[str]


class GoogleRecords(TypedDict):
    """The whole state."""

    accounts: dict[str, GoogleAccount]
    providers: dict[str, dict[str, object]]
    projects: dict[str, dict[str, object]]
    issuers: dict[str, str]


class Google(Simulator):
    """Implements `reconciler.sandbox.app.Simulator`."""

    provider = "google"
    defaults: Mapping[str, object] = {"token_life_s": LIFE_S}

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._granted: dict[str, tuple[str, str, float]] = {}
        """Token → principal, scope, end."""
        super().__init__(clock=clock)

    @property
    def records(self) -> GoogleRecords:
        """The state, by type."""
        return cast("GoogleRecords", self.state)

    def seed(self) -> dict[str, object]:
        return {
            "accounts": {ACCOUNT: {"disabled": False, "keys": {}, "users": []}},
            "providers": {},
            "projects": {
                "acme-prod": {"name": "projects/482910", "projectId": "acme-prod", "state": "ACTIVE", "members": [ACCOUNT]}
            },
            "issuers": {},
        }

    def routes(self) -> Iterable[Route]:
        return [
            ("POST", "/token", self._jwt_grant),
            ("POST", "/v1/token", self._exchange),
            ("POST", "/v1/projects/-/serviceAccounts/{method}", self._impersonate),
            ("GET", "/service_accounts/v1/metadata/x509/{email}", self._certificates),
            ("GET", "/v3/projects/{project}", self._project),
        ]

    def actions(self) -> Mapping[str, Action]:
        return {"create_key": self._create_key, "revoke_tokens": self._revoke}

    def _revoke(self, _options: Options) -> dict[str, object]:
        count = len(self._granted)
        self._granted.clear()
        return {"revoked": count}

    def not_found(self, call: Call) -> Reply:
        return Reply(404, _body(404, "NOT_FOUND", "Requested entity was not found."))

    # -- keys -------------------------------------------------------------------------------------------------------

    def _create_key(self, options: Options) -> dict[str, object]:
        email = str(options.get("email") or ACCOUNT)
        key = rsa.generate_private_key(65537, 2048)
        number = uuid.uuid4().hex + uuid.uuid4().hex[:8]
        end = options.get("expires_at")
        until = dt.datetime.fromisoformat(str(end)) if end else dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, email[:64])])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(dt.datetime.fromtimestamp(self.clock() - DAY_S, dt.UTC))
            .not_valid_after(until)
            .sign(key, hashes.SHA256())
        )
        pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        self.records["accounts"][email]["keys"][number] = {"certificate": pem, "disabled": False}
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return {
            "type": "service_account",
            "project_id": "acme-prod",
            "private_key_id": number,
            "private_key": private.decode(),
            "client_email": email,
            "client_id": "103",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": TOKEN_URI,
            "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
            "client_x509_cert_url": f"https://www.googleapis.com/robot/v1/metadata/x509/{email}",
            "universe_domain": "googleapis.com",
        }

    def _certificates(self, call: Call, email: str) -> Reply:
        account = self.records["accounts"].get(email)
        if account is None:
            return self.not_found(call)
        return Reply(200, {kid: row["certificate"] for kid, row in account["keys"].items() if not row["disabled"]})

    # -- grants -----------------------------------------------------------------------------------------------------

    def _jwt_grant(self, call: Call) -> Reply:
        form = form_of(call.headers.get("content-type", ""), call.body)
        if form is None or set(form) != {"grant_type", "assertion"}:
            _refuse(400, "invalid_request", "Missing or unexpected parameters.")
        if form["grant_type"] != JWT_GRANT:
            _refuse(400, "unsupported_grant_type", "Invalid grant_type: " + form["grant_type"])
        claims, email = self._assertion(form["assertion"])
        now, start, end = self.clock(), claims.get("iat"), claims.get("exp")
        if (
            not isinstance(start, int)
            or not isinstance(end, int)
            or start > now + SKEW_S
            or end <= now - SKEW_S
            or end - start > 3600
        ):
            _refuse(400, "invalid_grant", _TIMES)
        if claims.get("aud") not in {TOKEN_URI, "https://accounts.google.com/o/oauth2/token", f"{self.base_url}/token"}:
            _refuse(
                400,
                "invalid_grant",
                "Invalid JWT: Failed audience check. The right audience is https://oauth2.googleapis.com/token",
            )
        if "target_audience" in claims:
            return Reply(200, {"id_token": self._id_token(email, str(claims["target_audience"]))})
        scope = str(claims.get("scope", ""))
        if not scope or any(not each.startswith("https://www.googleapis.com/auth/") for each in scope.split()):
            _refuse(400, "invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        return self._granted_reply(email, scope)

    def _assertion(self, assertion: str) -> tuple[dict[str, object], str]:
        try:
            header, claims = unverified(assertion)
        except InvalidIdToken:
            _refuse(400, "invalid_grant", "Bad Request")
        email = str(claims.get("iss", ""))
        account = self.records["accounts"].get(email)
        if account is None:
            _refuse(400, "invalid_grant", "Invalid grant: account not found")
        if account["disabled"]:
            _refuse(401, "invalid_grant", "Service account is disabled.")
        row = account["keys"].get(str(header.get("kid", "")))
        if row is None or row["disabled"] or not _signed(assertion, str(row["certificate"])):
            _refuse(400, "invalid_grant", "Invalid JWT Signature.")
        return claims, email

    def _exchange(self, call: Call) -> Reply:
        if "authorization" in call.headers:
            _refuse(401, "invalid_client", "The OAuth client was not found.")
        form = form_of(call.headers.get("content-type", ""), call.body)
        if form is None:
            _refuse(400, "invalid_request", "Invalid content type.")
        extra = set(form) - {*EXCHANGE, "audience", "subject_token", "options"}
        wrong = [name for name, values in EXCHANGE.items() if form.get(name) not in values]
        if extra or wrong or not form.get("subject_token"):
            _refuse(400, "invalid_request", f"Invalid value for {', '.join([*sorted(extra), *wrong]) or 'subject_token'}.")
        name = form.get("audience", "").removeprefix("//iam.googleapis.com/")
        provider = self.records["providers"].get(name)
        if provider is None or provider.get("disabled") or not form["audience"].startswith("//iam.googleapis.com/"):
            _refuse(400, "invalid_target", _NO_TARGET)
        subject = self._subject(name, provider, form["subject_token"])
        pool = name.partition("/providers/")[0]
        reply = self._granted_reply(f"principal://iam.googleapis.com/{pool}/subject/{subject}", form["scope"])
        return Reply(200, {**json_object(reply.body), "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"})

    def _subject(self, name: str, provider: Mapping[str, object], token: str) -> str:
        """Return the subject of an ID token that the provider accepts. Raises `RefusedCall`."""
        try:
            _, claims = unverified(token)
            if claims.get("iss") != provider["issuer"]:
                _refuse(
                    400,
                    "invalid_grant",
                    f"The issuer in ID Token {claims.get('iss')} does not match the expected ones: {provider['issuer']}",
                )
            verify(token, frozenset({"RS256", "ES256"}), self.records["issuers"])
        except InvalidIdToken as error:
            _refuse(400, "invalid_grant" if error.reason != "form" else "invalid_request", _INVALID[error.reason])
        full = f"//iam.googleapis.com/{name}"
        allowed = texts(provider.get("allowedAudiences")) or [full, f"https:{full}"]
        if claims.get("aud") not in allowed:
            _refuse(400, "invalid_grant", f"The audience in ID Token [{claims.get('aud')}] does not match the expected audience.")
        now, start, end = self.clock(), claims.get("iat"), claims.get("exp")
        if not isinstance(start, int) or start > now or start < now - DAY_S:
            _refuse(400, "invalid_grant", f"ID Token issued at {start} is stale to sign-in.")
        if not isinstance(end, int) or end <= now or end - start > DAY_S:
            _refuse(400, "invalid_grant", f"The ID Token has expired: {end}.")
        subject = str(claims.get("sub") or "")
        if not subject or len(subject.encode()) > 127:
            _refuse(400, "invalid_request", "The mapped attribute google.subject exceeds 127 bytes.")
        for condition in str(provider.get("attributeCondition") or "").split("&&"):
            match = re.fullmatch(r"\s*assertion\.(\w+) == '([^']*)'\s*", condition)
            if condition.strip() and (match is None or claims.get(match[1]) != match[2]):
                _refuse(403, "unauthorized_client", "The given credential is rejected by the attribute condition.")
        return subject

    def _granted_reply(self, principal: str, scope: str) -> Reply:
        life_s = int(self.number("token_life_s"))
        token = f"ya29.sandbox-{uuid.uuid4().hex}"
        self._granted[token] = (principal, scope, self.clock() + life_s)
        return Reply(200, {"access_token": token, "expires_in": life_s, "token_type": "Bearer"})

    def _id_token(self, email: str, audience: str) -> str:
        now = int(self.clock())
        claims: dict[str, object] = {
            "iss": "https://accounts.google.com",
            "aud": audience,
            "sub": "103",
            "azp": "103",
            "email": email,
        }
        claims |= {"email_verified": True, "iat": now, "exp": now + 3600}
        return jwt.encode({"alg": "HS256", "typ": "JWT"}, claims, _SANDBOX_KEY)

    # -- APIs -------------------------------------------------------------------------------------------------------

    def _caller(self, call: Call, scopes: frozenset[str]) -> str:
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        principal, scope, end = self._granted.get(token, ("", "", 0.0))
        if scheme != "Bearer" or end <= self.clock():
            text = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential."
            raise RefusedCall(Reply(401, _body(401, "UNAUTHENTICATED", text)))
        if not scopes & set(scope.split()):
            text = "Request had insufficient authentication scopes."
            raise RefusedCall(Reply(403, _body(403, "PERMISSION_DENIED", text, "ACCESS_TOKEN_SCOPE_INSUFFICIENT")))
        return principal

    def _impersonate(self, call: Call, method: str) -> Reply:
        principal = self._caller(call, frozenset({CLOUD_SCOPE, IAM_SCOPE}))
        email, _, verb = method.partition(":")
        account = self.records["accounts"].get(email)
        permission = {"generateAccessToken": "getAccessToken", "generateIdToken": "getOpenIdToken"}.get(verb)
        if permission is None:
            return self.not_found(call)
        if account is None or principal not in account["users"] or account["disabled"]:
            text = f"Permission 'iam.serviceAccounts.{permission}' denied on resource (or it may not exist)."
            return Reply(403, _body(403, "PERMISSION_DENIED", text, "IAM_PERMISSION_DENIED"))
        body = json_object(call.json())
        if verb == "generateIdToken":
            if not body.get("audience") or set(body) - {"audience", "delegates", "includeEmail"}:
                return Reply(400, _body(400, "INVALID_ARGUMENT", "Request contains an invalid argument."))
            return Reply(200, {"token": self._id_token(email, str(body["audience"]))})
        match = re.fullmatch(r"([0-9]{1,5})s", str(body.get("lifetime", "3600s")))
        if (
            not texts(body.get("scope"))
            or match is None
            or int(match[1]) > 3600
            or set(body) - {"scope", "lifetime", "delegates"}
        ):
            return Reply(400, _body(400, "INVALID_ARGUMENT", "Request contains an invalid argument."))
        granted = json_object(self._granted_reply(email, " ".join(texts(body["scope"]))).body)
        end = dt.datetime.fromtimestamp(self.clock() + int(match[1]), dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Reply(200, {"accessToken": granted["access_token"], "expireTime": end})

    def _project(self, call: Call, project: str) -> Reply:
        principal = self._caller(call, frozenset({CLOUD_SCOPE}))
        row = self.records["projects"].get(project)
        if row is None or principal not in texts(row.get("members")):
            where = f"//cloudresourcemanager.googleapis.com/projects/{project}"
            text = f"Permission 'resourcemanager.projects.get' denied on resource '{where}' (or it may not exist)."
            return Reply(403, _body(403, "PERMISSION_DENIED", text, "IAM_PERMISSION_DENIED"))
        return Reply(200, {key: value for key, value in row.items() if key != "members"})


_SANDBOX_KEY = OctKey.import_key("an id token of the sandbox opens nothing")
_INVALID: Mapping[str, str] = {
    "form": "Unable to parse the ID Token.",
    "algorithm": "The ID Token must be signed with RS256 or ES256.",
    "kid": "The ID Token has no kid in its header.",
    "issuer": "Error connecting to the given credential's issuer.",
    "signature": "Invalid signature: no public key matches the kid of the ID Token.",
}


def _signed(assertion: str, certificate: str) -> bool:
    public = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        jwt.decode(assertion, RSAKey.import_key(pem), algorithms=["RS256"])
    except (JoseError, ValueError):
        return False
    return True


def _refuse(status: int, error: str, text: str) -> NoReturn:
    raise RefusedCall(Reply(status, {"error": error, "error_description": text}))


def _body(code: int, status: str, message: str, reason: str = "") -> dict[str, object]:
    details = (
        [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}] if reason else []
    )
    return {"error": {"code": code, "message": message, "status": status, **({"details": details} if details else {})}}
