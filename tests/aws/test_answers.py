"""Answers and hosts of AWS: each refusal is a condition of its own, and no answer is trusted."""

from __future__ import annotations

import sys

import pytest

from reconciler.drivers.auth import AuthRequest
from reconciler.drivers.aws.answers import MAX_BYTES, parsed, request_error, role_error
from reconciler.drivers.aws.regions import SigningScope, scope_of, sts_endpoint
from reconciler.drivers.aws.signing import AccessKey, sign
from reconciler.drivers.aws.spec import SPEC
from reconciler.drivers.http.errors import Response
from reconciler.drivers.http.network import NetworkPolicy
from reconciler.model.errors import AddressRefused, AuthFailed, ProviderError
from reconciler.model.secrets import SecretValue

ROLE = "arn:aws:iam::123456789012:role/deploy"


def refusal(code: str, message: str = "") -> str:
    return (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    )


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "text"),
    [
        (403, refusal("InvalidClientTokenId", "of AKIAQQQQQQQQQQQQQQQQ"), "AuthFailed", "RC5011", "does not know the access key"),
        (403, refusal("SignatureDoesNotMatch"), "AuthFailed", "RC4062", "refused the signature"),
        (403, refusal("RequestExpired"), "AuthFailed", "RC4062", "refused the signature"),
        (403, refusal("ExpiredToken"), "AuthFailed", "RC5011", "the session has ended"),
        (403, refusal("RegionDisabledException"), "AuthFailed", "RC5011", "not active in this region"),
        (400, refusal("Throttling", "Rate exceeded"), "RateLimited", "RC5017", "limits the rate"),
        (429, "", "RateLimited", "RC5017", "limits the rate"),
        (503, refusal("ServiceUnavailable"), "ProviderUnavailable", "RC5019", "AWS failed"),
        (404, "nothing", "ProviderProtocolError", "RC5021", "nothing answers as AWS STS"),
    ],
)
def test_each_refusal_of_a_request_is_its_own_condition(status: int, body: str, kind: str, code: str, text: str) -> None:
    error = request_error(status, {}, body, "GET /", 0.0)
    assert isinstance(error, ProviderError)
    assert (type(error).__name__, error.code) == (kind, code)
    assert text in error.message
    assert "AKIAQQQQQQQQQQQQQQQQ" not in error.message


@pytest.mark.parametrize(
    ("action", "status", "code", "message", "expected", "hint"),
    [
        ("AssumeRole", 403, "AccessDenied", "no", "RC4061", "externalId"),
        (
            "AssumeRole",
            400,
            "ValidationError",
            "DurationSeconds exceeds the MaxSessionDuration",
            "RC4061",
            "maximum session duration",
        ),
        ("AssumeRoleWithWebIdentity", 403, "AccessDenied", "no", "RC4061", "oidc trust aws"),
        ("AssumeRoleWithWebIdentity", 400, "InvalidIdentityToken", "Incorrect token audience", "RC4050", "oidc trust aws"),
        ("AssumeRoleWithWebIdentity", 400, "InvalidIdentityToken", "something new", "RC4050", "openid-configuration"),
        ("AssumeRoleWithWebIdentity", 400, "ExpiredTokenException", "Token expired", "RC4050", "clock"),
        ("AssumeRoleWithWebIdentity", 400, "IDPCommunicationError", "try again", "RC5019", ""),
    ],
)
def test_each_refusal_of_a_role_says_what_to_change(
    action: str, status: int, code: str, message: str, expected: str, hint: str
) -> None:
    claims = {"iss": "https://i", "aud": "a", "sub": "s", "exp": 1, "kid": "k"} if "Web" in action else None
    error = role_error(Response(status, {}, refusal(code, message).encode(), "POST sts/"), action, ROLE, 0.0, claims)
    assert error.code == expected
    assert hint in error.hint


@pytest.mark.parametrize(
    "content",
    [
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b'<?xml version="1.0" encoding="utf-16"?><a/',
        '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'.encode("utf-16"),
        b"<a>" * 20 + b"</a>" * 20,
        b"<r>" + b"<a/>" * 1000 + b"</r>",
        b"<a>" + b"x" * MAX_BYTES + b"</a>",
        b"\xff<a/>",
        b"",
    ],
)
def test_xml_that_is_no_small_plain_document_is_not_read(content: bytes) -> None:
    assert parsed(content) is None


@pytest.mark.parametrize(
    ("host", "scope"),
    [
        ("sts.eu-central-1.amazonaws.com", SigningScope("sts", "eu-central-1")),
        ("sts-fips.us-gov-west-1.amazonaws.com", SigningScope("sts", "us-gov-west-1")),
        ("sts.cn-north-1.amazonaws.com.cn", SigningScope("sts", "cn-north-1")),
        ("sts.amazonaws.com", SigningScope("sts", "us-east-1")),
        ("abc123.execute-api.eu-west-3.amazonaws.com", SigningScope("execute-api", "eu-west-3")),
        ("abc123.lambda-url.eu-west-3.on.aws", SigningScope("lambda", "eu-west-3")),
        ("lambda.us-east-1.api.aws", SigningScope("lambda", "us-east-1")),
        ("search-x.eu-west-1.es.amazonaws.com", SigningScope("es", "eu-west-1")),
        ("bucket.s3.dualstack.eu-west-1.amazonaws.com", SigningScope("s3", "eu-west-1")),
        ("bucket.s3.amazonaws.com", SigningScope("s3", "us-east-1")),
        ("eu-west-1.amazonaws.com", None),
        ("sts.eu-central-1.amazonaws.com.evil.example", None),
        ("evil-amazonaws.com", None),
    ],
)
def test_a_host_tells_service_and_region(host: str, scope: SigningScope | None) -> None:
    assert scope_of(host) == scope


def test_only_endpoints_of_the_service_are_called_without_being_allowed() -> None:
    policy = NetworkPolicy(SPEC.hosts)
    for region in ("eu-central-1", "us-gov-west-1", "cn-northwest-1", "il-central-1"):
        policy.check_url(sts_endpoint(region))
    for host in ("sts.s3-us-west-2.amazonaws.com", "sts.s3.amazonaws.com", "x.sts.eu-west-1.amazonaws.com", "sts.eu-.evil.com"):
        with pytest.raises(AddressRefused):
            policy.check_url(f"https://{host}")


def test_a_signature_covers_method_url_headers_and_body() -> None:
    key = AccessKey("AKIA" + "Q" * 16, SecretValue("s"), SecretValue("t"))

    def signature(
        method: str = "POST", url: str = "https://a.b/c?d=e", body: bytes = b"{}", at: float = 1e9, **headers: str
    ) -> str:
        request = AuthRequest(method, url, {"accept": "x", **headers}, body)
        sign(request, key, SigningScope("lambda", "eu-west-1"), at)
        assert request.headers["x-amz-security-token"] == "t"
        assert "accept;" not in request.headers["authorization"]
        return request.headers["authorization"]

    plain = signature()
    variants = [
        signature(method="PUT"),
        signature(url="https://a.b/c?d=f"),
        signature(url="https://x.b/c?d=e"),
        signature(body=b"[]"),
        signature(at=1e9 + 1),
        signature(idempotency="1"),
    ]
    assert len({plain, *variants}) == 7
    assert signature() == plain
    assert KEY_SHOWN not in repr(key)


KEY_SHOWN = "QQQQ"


def test_without_botocore_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.auth", None)
    with pytest.raises(AuthFailed) as caught:
        sign(AuthRequest("GET", "https://a.b/", {}), AccessKey("A" * 20, SecretValue("s")), SigningScope("sts", "eu-west-1"), 0.0)
    assert caught.value.code == "RC4060"
    assert "pip install 'integrations-reconciler[aws]'" in caught.value.hint
