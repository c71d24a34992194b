"""Why a relying party refuses our ID token: which claim differs from what its policy wants.

A driver that exchanges an ID token calls `explain` with a refusal of the token endpoint, and raises the error of the result:

    token = (await context.id_token(integration, audience, subject=subject)).reveal()
    answer = await context.send(...)
    if answer.status != 200:
        refusal = explain("aws", claims_in(token), answer.status, answer.text, provider_now=context.provider_time())
        if refusal is not None:
            raise refusal.error(request=answer.request, status=answer.status)
        ...  # another problem: a limit, an outage, or a refusal of something other than the token

Nothing here does I/O. A result shows our own claims and at most `MAX_SHOWN` characters that the refusal quotes; the rest of the
refusal's text is untrusted and is not shown.

Facts: AWS STS ``AssumeRoleWithWebIdentity``, Microsoft Entra error codes (AADSTS…), Google STS token exchange, the JWT auth method
of Vault (`path_login.go`) and OpenBao 2.7, Buddy ``POST /user/oidc/tokens``.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from reconciler.model.errors import AuthFailed
from reconciler.model.printable import plain
from reconciler.model.resources import ResourceId
from reconciler.model.times import iso

MAX_SHOWN = 300
"""Characters of a claim, or of a value that a refusal quotes, in a message."""
MAX_READ = 20_000
"""Characters of a refusal that are searched."""
_TIMES = frozenset({"exp", "nbf", "iat"})
_ANSWERS = frozenset({400, 401, 403, 404})


@dataclass(frozen=True, slots=True)
class TokenRefusal:
    """What a relying party does not accept."""

    claim: str
    """``sub``, ``aud``, ``iss``, ``exp``, ``nbf``, ``iat`` or another claim; ``kid`` for a key that it does not know or cannot read;
    empty if no claim of the token is the cause."""
    ours: str
    """The value in our token."""
    wanted: str
    """What the policy wants: the value if the refusal names it, else where it stands."""
    message: str
    hint: str

    def error(self, *, request: str = "", status: int = 0) -> AuthFailed:
        """Return the error to raise: the credential is refused, and no other call of the integration can succeed."""
        return AuthFailed(self.message, status=status, request=request, code="RC4050", hint=self.hint)


@dataclass(frozen=True, slots=True)
class _RefusalRule:
    """One refusal. ``wanted``, ``problem`` and ``hint`` may name claims (``{sub}``) and groups of ``text``."""

    text: str
    """A regular expression for the refusal's text, not case-sensitive."""
    claim: str
    wanted: str
    hint: str = ""
    problem: str = ""
    """The message where "CLAIM is X, the policy wants Y" does not fit."""


_CLOCKS = "Compare the clock of this host with a time server; a token is valid from 30 s before it is issued."
_KEYS = (
    "Open {iss}/.well-known/openid-configuration and the jwks_uri in it from outside: both must answer with JSON over public https. "
    "If the issuer is published elsewhere, run `reconciler oidc export DIR` and upload both files again."
)
_TRUST = "Run `reconciler oidc trust {party} {resource}` for a policy that fits, or change the manifest to what the policy wants."

_AWS = (
    _RefusalRule(r"Incorrect token audience", "aud", "one of the client ids of the IAM identity provider of {iss}", _TRUST),
    _RefusalRule(
        r"No OpenIDConnect provider found in your account(?: for (?P<value>[^\s<]+))?",
        "iss",
        "the URL of an IAM identity provider in the account of the role; there is none of this URL",
        _TRUST,
    ),
    _RefusalRule(r"Missing a required claim: (?P<name>\w+)", "{name}", "a value"),
    _RefusalRule(
        r"ExpiredToken|Token (?:is|has) expired",
        "exp",
        "a time that is still to come",
        _CLOCKS,
    ),
    _RefusalRule(r"not valid yet|not yet valid", "nbf", "a time that has passed", _CLOCKS),
    _RefusalRule(
        r"IDPCommunicationError|Couldn'?t retrieve verification key|(?:could not|cannot) be (?:reached|verified)",
        "kid",
        "a key set that AWS can read",
        _KEYS,
        "AWS cannot read the keys of the issuer {iss}",
    ),
    _RefusalRule(r"IDPRejectedClaim", "sub", "a token that the identity provider confirms", _KEYS),
    _RefusalRule(
        r"Not authorized to perform:? sts:AssumeRoleWithWebIdentity",
        "sub",
        "another `sub` or `aud` (ours is {aud}) in the conditions of the role's trust policy, or the role does not exist",
        _TRUST,
    ),
    _RefusalRule(r"InvalidIdentityToken", "kid", "a token that it can verify", _KEYS),
)
_AZURE = (
    _RefusalRule(
        r"AADSTS7002138|matches with case-insensitive comparison",
        "sub",
        "the same text in another case: the comparison is case-sensitive",
        _TRUST,
    ),
    _RefusalRule(r"AADSTS700213\d?\b.*?Subject is '(?P<value>[^'\r\n]+)'", "sub", "'{value}'", _TRUST),
    _RefusalRule(
        r"AADSTS700213\d?\b", "sub", "the `subject` of a federated credential of the application; none has ours", _TRUST
    ),
    _RefusalRule(
        r"AADSTS700212\d?\b", "aud", "the `audiences` of a federated credential of the application; none has ours", _TRUST
    ),
    _RefusalRule(r"AADSTS700211\d?\b", "iss", "the `issuer` of a federated credential of the application; none has ours", _TRUST),
    _RefusalRule(
        r"AADSTS70021\b",
        "sub",
        "the `subject` of a federated credential that also has issuer {iss} and audience {aud}",
        "A new federated credential is in force after some minutes. " + _TRUST,
    ),
    _RefusalRule(r"AADSTS700024\b", "exp", "a token that is valid now by the clock of Azure (5 minutes of tolerance)", _CLOCKS),
    _RefusalRule(
        r"AADSTS(?:7000272|700027)\b",
        "kid",
        "a key in the published key set of {iss}",
        _KEYS,
        "Azure does not find the key that signed our token in the key set of the issuer {iss}",
    ),
    _RefusalRule(
        r"AADSTS(?:50166\d?|90061)\b",
        "kid",
        "a key set that Azure can read",
        _KEYS,
        "Azure cannot read the documents of the issuer {iss}",
    ),
    _RefusalRule(
        r"AADSTS(?:50027\d?|5002738)\b", "kid", "a JWT signed with RS256", _KEYS, "Azure cannot read our token as a JWT"
    ),
    _RefusalRule(
        r"AADSTS700016\b",
        "",
        "",
        "Check clientId and tenantId in the manifest.",
        "Azure does not know the application (clientId) in this tenant",
    ),
    _RefusalRule(r"AADSTS(?:90002|900023)\b", "", "", "Check tenantId in the manifest.", "Azure does not know the tenant"),
)
_GOOGLE = (
    _RefusalRule(
        r"audience in ID Token \[[^\]]*\] does not match the expected audience:? (?P<value>[^\s\"<]+[^\s\"<.])",
        "aud",
        "'{value}'",
        _TRUST,
    ),
    _RefusalRule(
        r"audience in ID Token .*?does not match the expected audience",
        "aud",
        "one of the allowed audiences of the provider; without a list, the provider's resource name",
        _TRUST,
    ),
    _RefusalRule(
        r"issuer in ID Token \[?[^\]]*\]? does not match the expected (?:issuer|ones?):? ?(?P<value>https?://[^\s\"<]*[^\s\"<.])?",
        "iss",
        "the issuer URI of the workload identity provider",
        _TRUST,
    ),
    _RefusalRule(
        r"rejected by the attribute condition",
        "sub",
        "what the attribute condition of the workload identity provider demands",
        _TRUST,
    ),
    _RefusalRule(r"google\.subject.*?(?:exceeds|127)|127 bytes", "sub", "at most 127 bytes after the attribute mapping", _TRUST),
    _RefusalRule(
        r"ID Token issued at .* is stale|stale to sign-in",
        "iat",
        "a time of the last 24 hours by the clock of Google",
        _CLOCKS,
    ),
    _RefusalRule(r"(?:ID Token|credential|JWT).*?(?:is|has) expired", "exp", "a time that is still to come", _CLOCKS),
    _RefusalRule(
        r"(?:issued|used|valid) (?:in the future|too early|before)|not yet valid", "iat", "a time that has passed", _CLOCKS
    ),
    _RefusalRule(
        r"Error connecting to the given credential's issuer",
        "kid",
        "a key set that Google can read",
        _KEYS + " Google also takes an uploaded key set (`--jwk-json-path`).",
        "Google cannot read the documents of the issuer {iss}",
    ),
    _RefusalRule(
        r"(?:signature|public key|\bkid\b|key id)",
        "kid",
        "a key in the published or uploaded key set of {iss}",
        _KEYS,
        "Google does not find the key that signed our token in the key set of the issuer {iss}",
    ),
    _RefusalRule(
        r"invalid_target|Invalid value for \\?\"?audience",
        "",
        "",
        "Check workloadIdentityProvider in the manifest. Its form is projects/NUMBER/locations/global/workloadIdentityPools/POOL/"
        "providers/PROVIDER, with the number of the project.",
        "Google does not know the workload identity provider, or it is disabled or deleted",
    ),
)
_VAULT = (
    _RefusalRule(r"no audiences bound to the role", "aud", "no audience: the role has no `bound_audiences`", _TRUST),
    _RefusalRule(r"invalid audience|audience claim does not match", "aud", "one of the role's `bound_audiences`", _TRUST),
    _RefusalRule(r"invalid subject|sub claim does not match|invalid bound_subject", "sub", "the role's `bound_subject`", _TRUST),
    _RefusalRule(r"invalid issuer", "iss", "the `bound_issuer` of the auth method", _TRUST),
    _RefusalRule(r"token is expired|invalid expiration time", "exp", "a time that is still to come", _CLOCKS),
    _RefusalRule(r"invalid not before|token not yet valid|nbf\) claim", "nbf", "a time that has passed", _CLOCKS),
    _RefusalRule(r"invalid issued at|iat\) claim", "iat", "a time that has passed", _CLOCKS),
    _RefusalRule(
        r"claim \\?\"(?P<name>[\w./-]{1,64})\\?\" (?:does not match any associated bound claim|is missing)",
        "{name}",
        "one of the values in the role's `bound_claims`",
        _TRUST,
    ),
    _RefusalRule(
        r"verify(?:ing)? (?:id )?token signature|no known key|failed to verify",
        "kid",
        "a key in the key set that the auth method reads",
        _KEYS,
        "the auth method does not find the key that signed our token, or cannot read the key set of the issuer {iss}",
    ),
    _RefusalRule(
        r"role \\?\"(?P<name>[^\"\\]{1,128})\\?\" (?:could not be found|not found)",
        "",
        "",
        _TRUST,
        "the auth method has no role '{name}'",
    ),
    _RefusalRule(
        r"could not load configuration|no handler for route|unsupported path",
        "",
        "",
        "Enable the auth method, or correct its path in the manifest. " + _TRUST,
        "there is no configured JWT auth method at this path",
    ),
)
_BUDDY = (
    _RefusalRule(r"audience|\baud\b", "aud", "the audience of the identity provider in Buddy", _TRUST),
    _RefusalRule(r"expired|\bexp\b|lifetime", "exp", "a time that is still to come", _CLOCKS),
    _RefusalRule(
        r"signature|jwks|\bkeys?\b|discovery",
        "kid",
        "a key set that Buddy can read",
        _KEYS,
        "Buddy cannot verify our token with the key set of the issuer {iss}",
    ),
    _RefusalRule(r"issuer|\biss\b", "iss", "the issuer of the identity provider in Buddy", _TRUST),
    _RefusalRule(
        r"condition|claim|subject|\bsub\b|not trusted|untrusted",
        "sub",
        "what the trust conditions of the identity provider in Buddy demand",
        _TRUST,
    ),
    _RefusalRule(
        r"provider.*?(?:not found|not exist|unknown|disabled)|not found",
        "",
        "",
        "Compare providerId in the manifest with the workspace settings, page Identity provider.",
        "Buddy has no identity provider with this id",
    ),
)
_PEERS: Mapping[str, tuple[str, tuple[_RefusalRule, ...]]] = MappingProxyType(
    {
        "aws": ("AWS STS", _AWS),
        "azure": ("Microsoft Entra", _AZURE),
        "google": ("Google STS", _GOOGLE),
        "vault": ("the JWT login", _VAULT),
        "buddy": ("Buddy", _BUDDY),
    }
)
PARTIES = frozenset(_PEERS)
"""Relying parties by the names that `explain` takes. ``vault`` is also OpenBao."""


def explain(
    party: str, claims: Mapping[str, object], status: int, text: str, *, provider_now: float | None = None
) -> TokenRefusal | None:
    """Return why ``party`` (one of `PARTIES`) refuses a token with ``claims``.

    ``text`` is the body of the answer, or its error code and message. ``provider_now`` is the time by the clock of the relying party
    (epoch seconds), if it is known. Returns None for a status that judges no token (429, 5xx), and for a text that says nothing
    about one.
    """
    if status not in _ANSWERS:
        return None
    peer, rules = _PEERS[party]
    read = text[:MAX_READ]
    for rule in rules:
        match = re.search(rule.text, read, re.IGNORECASE | re.DOTALL)
        if match is not None:
            return _refusal(rule, peer, _values(party, claims, match.groupdict()), provider_now)
    return None


def claims_in(token: str) -> dict[str, object]:
    """Return the claims of our own ``token`` (JWS compact form) and the ``kid`` of its header. Verifies nothing.

    Raises `ValueError` for a text of another form.
    """
    try:
        header, claims, _ = token.split(".")
        both = [msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in (header, claims)]
        return {**both[1], "kid": both[0].get("kid", "")}
    except (ValueError, AttributeError, TypeError, msgspec.DecodeError):
        raise ValueError("not a JWT in compact form") from None


class _Values(dict[str, str]):
    """What a rule's texts may name: claims, groups of the refusal, and the party. A missing one reads ``(none)``."""

    def __missing__(self, name: str) -> str:
        return "(none)"


def _values(party: str, claims: Mapping[str, object], groups: Mapping[str, str | None]) -> _Values:
    values = _Values({name: _shown(name, value) for name, value in claims.items()})
    values |= {name: plain(value)[:MAX_SHOWN] for name, value in groups.items() if value}
    values["party"], values["resource"] = party, _resource(claims)
    return values


def _resource(claims: Mapping[str, object]) -> str:
    """Return the resource of a token of ours, as the command line takes it."""
    kind, name, canvas = (claims.get(key) for key in ("kind", "name", "canvas"))
    if not isinstance(kind, str) or not isinstance(name, str) or not isinstance(canvas, str):
        return "RESOURCE"
    return plain(str(ResourceId(kind, canvas, name)))[:MAX_SHOWN]


def _refusal(rule: _RefusalRule, peer: str, values: _Values, provider_now: float | None) -> TokenRefusal:
    claim = rule.claim.format_map(values)
    ours, wanted = (values[claim] if claim else ""), rule.wanted.format_map(values)
    if claim in _TIMES and provider_now is not None:
        wanted = f"{wanted}; its clock shows {iso(provider_now)}"
    message = rule.problem.format_map(values) if rule.problem else f"{claim} is {ours}, the policy wants {wanted}"
    return TokenRefusal(claim, ours, wanted, f"{peer} refuses our ID token: {message}", rule.hint.format_map(values))


def _shown(name: str, value: object) -> str:
    if name in _TIMES and isinstance(value, int | float):
        return iso(value)
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return plain(text)[:MAX_SHOWN]


__all__ = ["MAX_SHOWN", "PARTIES", "TokenRefusal", "claims_in", "explain"]
