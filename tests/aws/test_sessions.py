"""A strict Security Token Service: clocks that differ, and refusals that are not asked for again within a minute."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import json
import time
from typing import Any

import pytest

from reconciler.drivers.auth import AuthRequest, TokenCache, TokenRequest
from reconciler.drivers.aws.driver import driver
from reconciler.drivers.http.errors import Response
from reconciler.model.errors import AuthFailed
from reconciler.model.secrets import SecretValue
from tests.aws.test_answers import ROLE, refusal
from tests.aws.test_moto import access_key
from tests.support.authentication import auth_context
from tests.support.driving import resource


class Strict:
    """Refuses signatures whose time is more than 5 minutes off its own clock, and all calls with ``refuses``."""

    def __init__(self, ahead_s: float, refuses: str = "") -> None:
        self.ahead_s, self.refuses, self.shown_s, self.calls = ahead_s, refuses, 0.0, 0

    async def __call__(self, request: TokenRequest) -> Response:
        self.calls += 1
        self.shown_s = self.ahead_s  # by its Date
        text = request.headers["x-amz-date"]
        at = datetime.datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC).timestamp()
        late = abs(at - time.time() - self.ahead_s) > 300
        if late or self.refuses:
            return Response(403, {}, refusal("SignatureDoesNotMatch" if late else self.refuses).encode(), "POST sts/")
        end = datetime.datetime.fromtimestamp(time.time() + self.ahead_s + 3600, datetime.UTC).isoformat()
        keys = f"<AccessKeyId>ASIA{'Q' * 16}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
        result = f"<AssumeRoleResult><Credentials>{keys}<Expiration>{end}</Expiration></Credentials></AssumeRoleResult>"
        return Response(200, {}, f"<AssumeRoleResponse>{result}</AssumeRoleResponse>".encode(), "POST sts/")


def authenticator(peer: Strict) -> tuple[Any, TokenCache]:
    declared = resource("Integration", "aws", {"type": "aws", "auth": access_key({"arn": ROLE})}, secrets=["credentials"])
    tokens = TokenCache(time.time)
    values = {"id": "AKIA" + "Q" * 16, "secret": "s"}
    context = auth_context(lambda ref: SecretValue(values[ref.key]), tokens=tokens)
    context = dataclasses.replace(context, send=peer, provider_time=lambda: time.time() + peer.shown_s)
    return driver.authenticator(driver.connect(declared, declared.secret_refs("/auth")), context), tokens


@pytest.mark.parametrize("ahead_s", [-600.0, 0.0, 600.0])
async def test_a_clock_that_is_ten_minutes_off_costs_one_more_call(ahead_s: float) -> None:
    peer = Strict(ahead_s)
    signer, tokens = authenticator(peer)
    request = AuthRequest("GET", "https://sts.us-east-1.amazonaws.com/", {})
    await signer.authorize(request)
    assert peer.calls == (2 if ahead_s else 1)
    assert request.headers["x-amz-security-token"] == "t"
    (key,) = tokens.values()
    assert tokens.ends_at(key) == pytest.approx(time.time() + 3600, abs=5)  # by the clock of this host


async def test_a_refused_role_is_not_asked_for_again_within_a_minute() -> None:
    peer = Strict(0.0, "AccessDenied")
    signer, _ = authenticator(peer)
    for _ in range(5):
        with pytest.raises(AuthFailed) as caught:
            await signer.authorize(AuthRequest("GET", "https://sts.us-east-1.amazonaws.com/", {}))
        assert caught.value.code == "RC4061"
        assert not await signer.refresh()
    assert peer.calls == 1


ISSUED = {"iss": "https://ci.example.com", "sub": "reconciler:acme:default:Integration:aws", "aud": "sts.amazonaws.com"}


def web_identity(answers: list[Response], clock: list[float]) -> tuple[Any, list[TokenRequest]]:
    """Return an authenticator with `auth.use: oidc`, and the requests that it sends; the last answer is repeated."""
    auth = {"use": "oidc", "oidc": {"audience": "sts.amazonaws.com", "roleArn": ROLE}}
    declared = resource("Integration", "aws", {"type": "aws", "auth": auth})
    sent: list[TokenRequest] = []

    async def send(request: TokenRequest) -> Response:
        sent.append(request)
        return answers[min(len(sent), len(answers)) - 1]

    async def id_token(*_: object, **__: object) -> SecretValue:
        claims = {**ISSUED, "kind": "Integration", "name": "aws", "canvas": "default"}
        parts = (base64.urlsafe_b64encode(json.dumps(each).encode()).decode().rstrip("=") for each in ({"kid": "k"}, claims))
        return SecretValue(".".join((*parts, "signature")))

    def now() -> float:
        return clock[0]

    context = auth_context(lambda ref: SecretValue(""), tokens=TokenCache(now), clock=now)
    context = dataclasses.replace(context, send=send, id_token=id_token, provider_time=now)
    return driver.authenticator(driver.connect(declared, declared.secret_refs("/auth")), context), sent


@pytest.mark.parametrize(
    ("status", "code", "text", "claim"),
    [
        (403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", f"sub is {ISSUED['sub']}"),
        (400, "InvalidIdentityToken", "Incorrect token audience", "aud is sts.amazonaws.com"),
        (400, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://x", f"iss is {ISSUED['iss']}"),
    ],
)
async def test_a_refused_id_token_names_the_claim_that_differs(status: int, code: str, text: str, claim: str) -> None:
    answer = Response(status, {}, refusal(code, text).encode(), "POST sts/")
    signer, sent = web_identity([answer], [1_000_000.0])
    for _ in range(5):
        with pytest.raises(AuthFailed) as caught:
            await signer.authorize(AuthRequest("GET", "https://sts.us-east-1.amazonaws.com/", {}))
        assert (caught.value.code, claim in caught.value.message) == ("RC4050", True), caught.value.message
        assert "reconciler oidc trust aws Integration/aws" in caught.value.hint
    assert len(sent) == 1


async def test_sessions_that_aws_refuses_are_not_opened_in_a_storm() -> None:
    """A role whose sessions are refused (revoked, or a region that is not active) is opened again once a minute at most."""
    clock = [1_000_000.0]
    end = datetime.datetime.fromtimestamp(clock[0] + 3600, datetime.UTC).isoformat()
    keys = f"<AccessKeyId>ASIA{'Q' * 16}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
    body = f"<AssumeRoleWithWebIdentityResult><Credentials>{keys}<Expiration>{end}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>"
    good = Response(
        200, {}, f"<AssumeRoleWithWebIdentityResponse>{body}</AssumeRoleWithWebIdentityResponse>".encode(), "POST sts/"
    )
    signer, sent = web_identity([good], clock)
    request = AuthRequest("GET", "https://sts.us-east-1.amazonaws.com/", {})
    for minute in range(1, 4):
        for _ in range(10):
            await signer.authorize(request)
            await signer.refresh()
        assert len(sent) == minute
        clock[0] += 61
        assert await signer.refresh()
