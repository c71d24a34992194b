"""Refusals of relying parties, in the words they use, and the claim that each names."""

from __future__ import annotations

import base64
import json

import pytest

from reconciler.drivers.refusals import MAX_SHOWN, PARTIES, claims_in, explain
from reconciler.model.errors import AuthFailed

ISSUER = "https://ci.example.com"
SUBJECT = "reconciler:acme:default:Integration:cloud"
CLAIMS = {
    "iss": ISSUER,
    "sub": SUBJECT,
    "aud": "sts.amazonaws.com",
    "iat": 1_800_000_000,
    "nbf": 1_799_999_970,
    "exp": 1_800_000_600,
    "owner": "acme",
    "kid": "k1",
}


def aws(code: str, message: str) -> str:
    return (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    )


def azure(text: str, error: str = "invalid_client") -> str:
    return json.dumps({"error": error, "error_description": f"{text}\r\nTrace ID: t\r\nTimestamp: 2026-01-09 02:02:12Z"})


def google(text: str, error: str = "invalid_grant") -> str:
    return json.dumps({"error": error, "error_description": text})


def vault(text: str) -> str:
    return json.dumps({"errors": [text]})


def buddy(text: str) -> str:
    return json.dumps({"errors": [{"message": text}]})


NO_RECORD = "No matching federated identity record found for presented assertion"
CHECK = "Check your federated identity credential Subject, Audience and Issuer against the presented assertion."

REFUSALS = [
    ("aws", 400, aws("InvalidIdentityToken", "Incorrect token audience"), "aud", "client ids"),
    ("aws", 400, aws("InvalidIdentityToken", f"No OpenIDConnect provider found in your account for {ISSUER}"), "iss", "account"),
    (
        "aws",
        400,
        aws("InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider, please reference docs"),
        "kid",
        "cannot read the keys of the issuer https://ci.example.com",
    ),
    ("aws", 400, aws("InvalidIdentityToken", "Missing a required claim: sub"), "sub", "a value"),
    ("aws", 400, aws("ExpiredTokenException", "Token expired: current date/time 1800009999"), "exp", "still to come"),
    ("aws", 400, aws("InvalidIdentityToken", "Token is not valid yet"), "nbf", "passed"),
    ("aws", 403, aws("IDPRejectedClaim", "The identity provider rejected the claim"), "sub", "confirms"),
    ("aws", 400, aws("IDPCommunicationError", "The identity provider did not answer"), "kid", "cannot read"),
    ("aws", 403, aws("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"), "sub", "trust policy"),
    ("aws", 400, aws("InvalidIdentityToken", "The ID Token provided is not a valid JWT"), "kid", "verify"),
    ("azure", 401, azure(f"AADSTS700213: {NO_RECORD} subject '{SUBJECT}'. {CHECK}"), "sub", "none has ours"),
    (
        "azure",
        401,
        azure(f"AADSTS7002137: {NO_RECORD} subject '{SUBJECT}'. Make sure the credential Subject is 'deploy-bot'."),
        "sub",
        "'deploy-bot'",
    ),
    (
        "azure",
        401,
        azure(
            f"AADSTS7002138: {NO_RECORD} subject '{SUBJECT}'. The subject matches with case-insensitive comparison, but not with "
            "case-sensitive comparison."
        ),
        "sub",
        "case-sensitive",
    ),
    ("azure", 401, azure(f"AADSTS700212: {NO_RECORD} audience 'x'. {CHECK}"), "aud", "audiences"),
    ("azure", 400, azure(f"AADSTS700211: {NO_RECORD} issuer '{ISSUER}'. {CHECK}"), "iss", "issuer"),
    ("azure", 400, azure(f"AADSTS70021: {NO_RECORD}. Assertion Issuer: '{ISSUER}'."), "sub", ISSUER),
    ("azure", 401, azure("AADSTS700024: Client assertion is not within its valid time range."), "exp", "valid now"),
    ("azure", 401, azure("AADSTS700027: The certificate used to sign the client assertion is unknown"), "kid", "key set"),
    ("azure", 401, azure("AADSTS7000272: The certificate with identifier X could not be found"), "kid", "key set"),
    ("azure", 400, azure("AADSTS50166: Request to External OIDC endpoint failed."), "kid", "cannot read the documents"),
    ("azure", 400, azure("AADSTS501661: Request to External OIDC endpoint failed."), "kid", "cannot read the documents"),
    ("azure", 400, azure("AADSTS90061: Request to External OIDC endpoint failed."), "kid", "cannot read the documents"),
    ("azure", 401, azure("AADSTS5002738: Invalid JWT token."), "kid", "as a JWT"),
    ("azure", 400, azure("AADSTS700016: Application not found in the directory"), "", "clientId"),
    ("azure", 400, azure("AADSTS90002: Tenant 'x' not found."), "", "tenant"),
    (
        "google",
        400,
        google(f"The audience in ID Token [sts.amazonaws.com] does not match the expected audience {ISSUER}/x."),
        "aud",
        f"'{ISSUER}/x'",
    ),
    ("google", 400, google("The audience in ID Token [..] does not match the expected audience."), "aud", "allowed audiences"),
    (
        "google",
        403,
        google("The given credential is rejected by the attribute condition.", "unauthorized_client"),
        "sub",
        "condition",
    ),
    ("google", 400, google("ID Token issued at 1800000000 is stale to sign-in."), "iat", "24 hours"),
    ("google", 400, google("Error connecting to the given credential's issuer."), "kid", "cannot read the documents"),
    ("google", 400, google("The size of mapped attribute google.subject exceeds the 127 bytes limit."), "sub", "127 bytes"),
    (
        "google",
        400,
        google('Invalid value for "audience". This value should be the full resource name', "invalid_request"),
        "",
        "identity provider",
    ),
    ("google", 400, google("The target service indicated by the audience is invalid", "invalid_target"), "", "identity provider"),
    (
        "vault",
        400,
        vault("error validating token: invalid audience (aud) claim: audience claim does not match any expected audience"),
        "aud",
        "bound_audiences",
    ),
    ("vault", 400, vault("audience claim found in JWT but no audiences bound to the role"), "aud", "no audience"),
    ("vault", 400, vault("error validating token: invalid subject (sub) claim"), "sub", "bound_subject"),
    ("vault", 400, vault("sub claim does not match bound subject"), "sub", "bound_subject"),
    ("vault", 400, vault("error validating token: invalid issuer (iss) claim"), "iss", "bound_issuer"),
    (
        "vault",
        400,
        vault("error validating token: invalid expiration time (exp) claim: token is expired"),
        "exp",
        "still to come",
    ),
    ("vault", 400, vault("error validating token: invalid not before (nbf) claim: token not yet valid"), "nbf", "passed"),
    (
        "vault",
        400,
        vault("error validating token: error verifying token signature: failed to verify id token signature"),
        "kid",
        "does not find the key",
    ),
    (
        "vault",
        400,
        vault('error validating claims: claim "owner" does not match any associated bound claim values'),
        "owner",
        "bound_claims",
    ),
    ("vault", 400, vault('role "ci" could not be found'), "", "no role 'ci'"),
    ("vault", 404, vault('no handler for route "auth/jwt/login". route entry not found.'), "", "no configured JWT auth method"),
    ("buddy", 400, buddy("Token audience is invalid"), "aud", "audience"),
    ("buddy", 403, buddy("Trust conditions are not met"), "sub", "trust conditions"),
    ("buddy", 400, buddy("Unknown issuer"), "iss", "issuer"),
    ("buddy", 401, buddy("Token expired"), "exp", "still to come"),
    ("buddy", 400, buddy("Invalid signature"), "kid", "cannot verify"),
    ("buddy", 404, buddy("Identity provider not found"), "", "no identity provider"),
]


@pytest.mark.parametrize(("party", "status", "text", "claim", "part"), REFUSALS)
def test_a_refusal_names_the_claim_our_value_and_what_the_policy_wants(party: str, status: int, text: str, claim: str, part: str):
    refusal = explain(party, CLAIMS, status, text)
    assert refusal is not None, text
    assert refusal.claim == claim
    assert part in refusal.message
    assert "{" not in refusal.message + refusal.hint
    assert refusal.hint or "a value" in refusal.message
    if claim in {"sub", "aud", "iss", "owner"}:
        assert f"{claim} is {CLAIMS[claim]}, the policy wants" in refusal.message


def test_every_party_has_refusals_in_the_table():
    assert {row[0] for row in REFUSALS} == PARTIES


@pytest.mark.parametrize("party", sorted(PARTIES))
@pytest.mark.parametrize(
    ("status", "text"),
    [
        (429, "Incorrect token audience AADSTS700213 invalid subject audience"),
        (503, "Incorrect token audience AADSTS700213 invalid subject audience"),
        (400, ""),
        (400, "<html>Bad Request</html>"),
        (403, "Throttling"),
    ],
)
def test_an_answer_that_judges_no_token_is_not_explained(party: str, status: int, text: str):
    assert explain(party, CLAIMS, status, text) is None


def test_a_refused_time_is_shown_beside_the_clock_of_the_relying_party():
    text = vault("error validating token: invalid expiration time (exp) claim: token is expired")
    refusal = explain("vault", CLAIMS, 400, text, provider_now=1_800_000_660.0)
    assert refusal is not None
    assert "exp is 2027-01-15T08:10:00Z" in refusal.message
    assert "its clock shows 2027-01-15T08:11:00Z" in refusal.message


def test_a_refusal_cannot_put_its_own_text_into_the_message():
    long = "x" * 5000
    text = google(f"The audience in ID Token [a] does not match the expected audience https://e\u202e.com/\x1b[31m{long}")
    refusal = explain("google", {**CLAIMS, "aud": "{iss}" + long}, 400, text)
    assert refusal is not None
    assert "\u202e" not in refusal.message
    assert "\x1b" not in refusal.message
    assert len(refusal.message) < 3 * MAX_SHOWN
    assert refusal.ours.startswith("{iss}")


def test_a_hostile_text_is_searched_quickly():
    import time

    started = time.monotonic()
    for party in PARTIES:
        for text in ("audience in ID Token [" * 50_000, "AADSTS700213 " * 50_000, 'claim "' * 50_000, "provider " * 50_000):
            explain(party, CLAIMS, 400, text)
    assert time.monotonic() - started < 5.0


def test_the_error_is_a_refused_credential_with_a_code_of_its_own():
    refusal = explain("azure", CLAIMS, 401, azure(f"AADSTS700213: {NO_RECORD} subject '{SUBJECT}'. {CHECK}"))
    assert refusal is not None
    error = refusal.error(request="POST login.microsoftonline.com/t/oauth2/v2.0/token", status=401)
    assert isinstance(error, AuthFailed)
    assert (error.code, error.status) == ("RC4050", 401)
    assert "oidc trust azure" in error.hint


def test_the_claims_of_a_token_are_read_without_its_signature():
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in ({"kid": "k1"}, {"sub": "s"})]
    assert claims_in(".".join([*parts, "sig"])) == {"sub": "s", "kid": "k1"}
    for text in ("", "a.b", "a.b.c", "..", f"{parts[0]}.{base64.urlsafe_b64encode(b'[1]').decode()}.x"):
        with pytest.raises(ValueError, match="compact form"):
            claims_in(text)
