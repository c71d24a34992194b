"""A strict Security Token Service: clocks that differ, and refusals that are not asked for again within a minute."""

from __future__ import annotations

import dataclasses
import datetime
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
