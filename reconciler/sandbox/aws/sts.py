"""The Security Token Service: sessions of roles, from a key, from another session, or from an ID token.

Facts: AWS STS API Reference (2011-06-15); IAM User Guide, "Create an OpenID Connect identity provider" and "Available keys for OIDC
federation".
"""

from __future__ import annotations

import datetime as dt
import re
import secrets
from collections.abc import Callable, Mapping

from reconciler.sandbox.app import Reply
from reconciler.sandbox.aws.policies import allowed, trusts, trusts_token
from reconciler.sandbox.aws.records import AwsPrincipal, AwsProvider, AwsRecords, AwsSession, Context, account_of, is_role
from reconciler.sandbox.aws.replies import Refuse, element, xml
from reconciler.sandbox.relying import InvalidIdToken, unverified, verify

VERSION = "2011-06-15"
DEFAULT_S, SHORTEST_S, LONGEST_S, CHAINED_S = 3_600, 900, 43_200, 3_600
ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"})
AHEAD_S = 300
"""How far in the future a token may begin."""
_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_EXTERNAL = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
_FIELDS = frozenset({"Action", "Version", "RoleArn", "RoleSessionName", "DurationSeconds", "ExternalId", "WebIdentityToken"})
"""Session policies and tags would change what is allowed, so they are refused and not ignored."""
_INVALID = {
    "form": "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)",
    "algorithm": "Unsupported signing algorithm in the provided web identity token",
    "kid": "Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements",
    "issuer": "Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements",
    "signature": "Couldn't retrieve verification key from your identity provider, please reference AssumeRoleWithWebIdentity documentation for requirements",
}
_REFUSED_TOKEN = "Not authorized to perform sts:AssumeRoleWithWebIdentity"


class TokenService:
    """The actions of the service, over the state of the simulator."""

    def __init__(self, records: Callable[[], AwsRecords], clock: Callable[[], float]) -> None:
        self._records, self._clock = records, clock
        self.sessions: dict[str, AwsSession] = {}

    def caller(self, principal: AwsPrincipal) -> Reply:
        """GetCallerIdentity, which needs no permission."""
        parts = {"Arn": principal.arn, "UserId": principal.user_id, "Account": principal.account}
        return xml("GetCallerIdentity", "".join(element(name, text) for name, text in parts.items()))

    def assume_role(self, principal: AwsPrincipal, form: Mapping[str, str], refuse: Refuse) -> Reply:
        """AssumeRole: the trust policy of the role must accept the principal; its own policy too, unless it is named there."""
        arn, name = self._checked(form, refuse)
        external = form.get("ExternalId")
        if external is not None and not _EXTERNAL.fullmatch(external):
            self._invalid("externalId", external, "satisfy regular expression pattern: [\\w+=,.@:\\/-]*", refuse)
        context: Context = {**principal.context, "sts:rolesessionname": [name]}
        if external is not None:
            context["sts:externalid"] = [external]
        role = self._records()["roles"].get(arn)
        accepted, named = trusts(role["trust"], "sts:AssumeRole", principal, context) if role is not None else (False, False)
        direct = named and account_of(arn) == principal.account
        if not accepted or not (direct or allowed(principal.policies, "sts:AssumeRole", arn, context)):
            refuse(403, "AccessDenied", f"User: {principal.arn} is not authorized to perform: sts:AssumeRole on resource: {arn}")
        life_s = self._life(form, arn, refuse, chained=bool(principal.role))
        return self._opened("AssumeRole", self._open(arn, name, life_s))

    def with_web_identity(self, form: Mapping[str, str], refuse: Refuse) -> Reply:
        """AssumeRoleWithWebIdentity: no signature, only the token."""
        arn, name = self._checked(form, refuse)
        token = form.get("WebIdentityToken", "")
        if not 4 <= len(token) <= 20_000:
            self._invalid("webIdentityToken", "", "have length between 4 and 20000", refuse)
        provider, audience, claims = self._believed(token, arn, refuse)
        key = provider["url"].removeprefix("https://")
        context: Context = {"sts:rolesessionname": [name], f"{key}:aud": [audience], f"{key}:sub": [str(claims["sub"])]}
        provider_arn = self._arn_of(provider, arn)
        role = self._records()["roles"].get(arn)
        if role is None or not trusts_token(role["trust"], provider_arn, {k.casefold(): v for k, v in context.items()}):
            refuse(403, "AccessDenied", _REFUSED_TOKEN)
        life_s = self._life(form, arn, refuse, chained=False)
        more = {"SubjectFromWebIdentityToken": claims["sub"], "Provider": provider_arn, "Audience": audience}
        return self._opened("AssumeRoleWithWebIdentity", self._open(arn, name, life_s), more)

    def _believed(self, token: str, role: str, refuse: Refuse) -> tuple[AwsProvider, str, dict[str, object]]:
        """Return the identity provider, the audience and the claims of a token that is valid now."""
        try:
            _, claims = unverified(token)
        except InvalidIdToken as error:
            refuse(400, "InvalidIdentityToken", _INVALID[error.reason])
        missing = next((claim for claim in ("iss", "aud", "sub", "exp", "iat") if claim not in claims), "")
        if missing:
            refuse(400, "InvalidIdentityToken", f"Missing a required claim: {missing}")
        account, issuer = account_of(role), str(claims["iss"])
        provider = next(
            (each for arn, each in self._records()["providers"].items() if account_of(arn) == account and each["url"] == issuer),
            None,
        )
        if provider is None:
            refuse(400, "InvalidIdentityToken", f"No OpenIDConnect provider found in your account for {issuer}")
        given = claims.get("azp") or claims["aud"]
        audience = next(
            (str(each) for each in (given if isinstance(given, list) else [given]) if each in provider["client_ids"]), ""
        )
        if not audience:
            refuse(400, "InvalidIdentityToken", "Incorrect token audience")
        try:
            verify(token, ALGORITHMS, self._records()["issuers"])
        except InvalidIdToken as error:
            refuse(400, "InvalidIdentityToken", _INVALID[error.reason])
        self._check_times(claims, refuse)
        return provider, audience, claims

    def _check_times(self, claims: Mapping[str, object], refuse: Refuse) -> None:
        now, end = self._clock(), claims["exp"]
        if not isinstance(end, int) or not isinstance(claims["iat"], int):
            refuse(400, "InvalidIdentityToken", "The ID Token provided is not a valid JWT.")
        if end <= now:
            refuse(
                400,
                "ExpiredTokenException",
                f"Token expired: current date/time {int(now)} must be before the expiration date/time {end}",
            )
        start = claims.get("nbf", claims["iat"])
        if isinstance(start, int) and start > now + AHEAD_S:
            refuse(400, "InvalidIdentityToken", f"Token is not valid yet: current date/time {int(now)} is before {start}")

    def _arn_of(self, provider: AwsProvider, role: str) -> str:
        account = account_of(role)
        return next(arn for arn, each in self._records()["providers"].items() if each is provider and account_of(arn) == account)

    # -- fields -----------------------------------------------------------------------------------------------------

    def _checked(self, form: Mapping[str, str], refuse: Refuse) -> tuple[str, str]:
        other = sorted(form.keys() - _FIELDS)
        if other:
            refuse(400, "ValidationError", f"{other[0]} is not part of this simulator")
        arn, name = form.get("RoleArn", ""), form.get("RoleSessionName", "")
        if not 20 <= len(arn) <= 2048:
            self._invalid("roleArn", arn, "have length greater than or equal to 20", refuse)
        if not is_role(arn):
            refuse(400, "ValidationError", f"{arn} is invalid")
        if not _NAME.fullmatch(name):
            self._invalid("roleSessionName", name, "satisfy regular expression pattern: [\\w+=,.@-]*", refuse)
        return arn, name

    def _life(self, form: Mapping[str, str], arn: str, refuse: Refuse, *, chained: bool) -> int:
        text = form.get("DurationSeconds", str(DEFAULT_S))
        if not text.isdigit() or int(text) < SHORTEST_S:
            self._invalid("durationSeconds", text, f"have value greater than or equal to {SHORTEST_S}", refuse)
        if int(text) > LONGEST_S:
            self._invalid("durationSeconds", text, f"have value less than or equal to {LONGEST_S}", refuse)
        if chained and int(text) > CHAINED_S:
            message = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
            refuse(400, "ValidationError", message)
        if int(text) > self._records()["roles"][arn]["max_session_s"]:
            refuse(400, "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
        return int(text)

    @staticmethod
    def _invalid(field: str, value: str, rule: str, refuse: Refuse) -> None:
        refuse(
            400,
            "ValidationError",
            f"1 validation error detected: Value '{value}' at '{field}' failed to satisfy constraint: Member must {rule}",
        )

    # -- sessions ---------------------------------------------------------------------------------------------------

    def _open(self, arn: str, name: str, life_s: int) -> AwsSession:
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
        key = "ASIA" + "".join(secrets.choice(letters) for _ in range(16))
        session = AwsSession(key, secrets.token_urlsafe(30), secrets.token_urlsafe(240), self._clock() + life_s, arn, name)
        self.sessions[key] = session
        return session

    def _opened(self, action: str, session: AwsSession, more: Mapping[str, object] | None = None) -> Reply:
        end = dt.datetime.fromtimestamp(session.ends_at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        credentials = {
            "AccessKeyId": session.key_id,
            "SecretAccessKey": session.secret,
            "SessionToken": session.token,
            "Expiration": end,
        }
        user = {"AssumedRoleId": f"{self._records()['roles'][session.role]['id']}:{session.name}", "Arn": session.arn}
        parts = [
            *(element(name, text) for name, text in (more or {}).items()),
            f"<AssumedRoleUser>{''.join(element(name, text) for name, text in user.items())}</AssumedRoleUser>",
            f"<Credentials>{''.join(element(name, text) for name, text in credentials.items())}</Credentials>",
        ]
        return xml(action, "".join(parts))
