"""The driver against the strict simulator: each refusal is a condition of its own, says what differs, and is sent once a minute."""

from __future__ import annotations

import time
from typing import Any

import pytest

from reconciler.drivers.auth import AuthRequest
from reconciler.model.errors import AuthFailed, ProviderUnavailable, RateLimited, ReconcilerError
from reconciler.model.times import iso
from reconciler.sandbox.aws.records import ACCOUNT, KEY_ID, SECRET, USER
from tests.aws.cloud import AUDIENCE, CHAINED, EXTERNAL, HOST, PROVIDER, SUBJECT, WEB_ROLE, Cloud, access_key, oidc, web_trust
from tests.support.relying import ISSUER

NOTHING = f"arn:aws:iam::{ACCOUNT}:role/nothing"


async def error_of(cloud: Cloud, auth: dict[str, Any], kind: type[ReconcilerError] = AuthFailed) -> ReconcilerError:
    """Return the error of five checks within a minute, of which one was sent."""
    before = len(cloud.sent())
    client = cloud.client(auth)
    for _ in range(5):
        with pytest.raises(kind) as caught:
            await client.authenticator.authorize(AuthRequest("GET", f"{cloud.server.url}/", {}))
    assert len(cloud.sent()) - before == 1
    assert SECRET not in f"{caught.value.message}{caught.value.hint}"
    assert KEY_ID not in f"{caught.value.message}{caught.value.hint}"
    return caught.value


async def test_every_form_of_identity_is_accepted(cloud: Cloud) -> None:
    assert (await cloud.check(access_key())).identity == USER
    external = {"arn": EXTERNAL, "externalId": "x-1"}
    assert (await cloud.check(access_key(external))).identity.endswith("assumed-role/external/reconciler-default-aws")
    assert (await cloud.check(oidc())).identity.endswith("assumed-role/web/reconciler-default-aws")
    chained = await cloud.check(oidc({"arn": CHAINED, "duration": 3600}))
    assert chained.identity == "arn:aws:sts::210987654321:assumed-role/target/reconciler-default-aws"
    assert {row["status"] for row in cloud.sent()} == {200}


@pytest.mark.parametrize(
    ("auth", "patch", "parts"),
    [
        (oidc(audience="other"), {}, ("aud is other", "client ids")),
        (oidc(), {"providers": {PROVIDER: {"url": f"{ISSUER}/"}}}, (f"iss is {ISSUER},", "there is none of this URL")),
        (oidc(), {"providers": {PROVIDER: {"client_ids": ["x"]}}}, (f"aud is {AUDIENCE}", "client ids")),
        (
            oidc(),
            {"roles": {WEB_ROLE: {"trust": web_trust(sub="another")}}},
            (f"sub is {SUBJECT}", "trust policy", f"ours is {AUDIENCE}"),
        ),
        (oidc(), {"roles": {WEB_ROLE: {"trust": web_trust(aud="another")}}}, (f"sub is {SUBJECT}", f"ours is {AUDIENCE}")),
        (oidc(roleArn=NOTHING), {}, (f"sub is {SUBJECT}", "does not exist", NOTHING)),
        (oidc(subject="mine"), {}, ("sub is mine",)),
    ],
)
async def test_a_refused_id_token_names_the_claim_that_differs(
    cloud: Cloud, auth: dict[str, Any], patch: dict[str, Any], parts: tuple[str, ...]
) -> None:
    cloud.put(**patch)
    error = await error_of(cloud, auth)
    assert error.code == "RC4050"
    assert [part for part in parts if part not in error.message] == []
    assert "oidc trust aws" in error.hint
    cloud.ahead_s = 61.0
    with pytest.raises(AuthFailed):
        await cloud.check(auth)
    assert len(cloud.sent()) == 2


async def test_keys_that_aws_cannot_read_are_told_apart_from_the_claims(cloud: Cloud) -> None:
    cloud.issuing.published = False
    error = await error_of(cloud, oidc())
    assert (error.code, "cannot read the keys of the issuer" in error.message) == ("RC4050", True)
    assert f"{ISSUER}/.well-known/openid-configuration" in error.hint


@pytest.mark.parametrize("skew_s", [-1200.0, -600.0, 600.0, 1200.0])
async def test_a_host_whose_clock_is_off_signs_by_the_time_of_aws(cloud: Cloud, skew_s: float) -> None:
    cloud.server.admin.settings(clock_skew_s=skew_s)
    assert (await cloud.check(access_key())).identity == USER
    refused = [row for row in cloud.sent() if row["status"] != 200]
    assert len(refused) == (1 if abs(skew_s) > 900 else 0)
    await cloud.check(access_key({"arn": EXTERNAL, "externalId": "x-1"}))
    assert [row for row in cloud.sent() if row["status"] != 200] == refused  # the time is known by now


async def test_an_id_token_of_a_slow_clock_has_ended_and_says_so(cloud: Cloud) -> None:
    cloud.server.admin.settings(clock_skew_s=1200.0)
    error = await error_of(cloud, oidc())
    assert error.code == "RC4050"
    assert "exp is" in error.message
    assert iso(time.time() + 1200)[:15] in error.message  # the time of AWS
    cloud.server.admin.settings(clock_skew_s=-1200.0)
    cloud.tokens.retry_now()
    error = await error_of(cloud, oidc())
    assert "nbf is" in error.message
    assert "a time that has passed" in error.message
    cloud.server.admin.settings(clock_skew_s=0.0)
    cloud.tokens.retry_now()
    assert (await cloud.check(oidc())).valid


@pytest.mark.parametrize(
    ("auth", "code", "text", "hint"),
    [
        (access_key({"arn": EXTERNAL}), "RC4061", EXTERNAL, "externalId"),
        (access_key({"arn": EXTERNAL, "externalId": "x-2"}), "RC4061", "AccessDenied", "externalId"),
        (access_key({"arn": WEB_ROLE}), "RC4061", WEB_ROLE, "trust policy"),
        (access_key({"arn": EXTERNAL, "externalId": "x-1", "duration": 7200}), "RC4061", "MaxSessionDuration", "duration"),
    ],
)
async def test_a_role_that_is_denied_says_what_to_compare(
    cloud: Cloud, auth: dict[str, Any], code: str, text: str, hint: str
) -> None:
    error = await error_of(cloud, auth, ReconcilerError)
    assert (error.code, text in error.message, hint in error.hint) == (code, True, True), error.message + error.hint


async def test_a_chain_that_breaks_names_the_role_and_repeats_neither_hop(cloud: Cloud) -> None:
    client = cloud.client(oidc({"arn": EXTERNAL}))
    for _ in range(5):
        with pytest.raises(AuthFailed) as caught:
            await client.authenticator.authorize(AuthRequest("GET", f"{cloud.server.url}/", {}))
    assert EXTERNAL in caught.value.message
    assert [row["status"] for row in cloud.sent()] == [200, 403]


async def test_a_key_that_is_wrong_or_deleted(cloud: Cloud) -> None:
    cloud.values["secret"] = "wrong" + SECRET
    with pytest.raises(AuthFailed) as caught:
        await cloud.check(access_key())
    assert caught.value.code == "RC4062"
    assert len(cloud.sent()) == 1
    cloud.values["secret"] = SECRET
    cloud.put(keys={KEY_ID: {"active": False}})
    with pytest.raises(AuthFailed, match="does not know the access key"):
        await cloud.check(access_key())
    cloud.put(keys={KEY_ID: {"active": True}})
    assert (await cloud.check(access_key())).valid


@pytest.mark.parametrize("auth", [oidc(), access_key({"arn": EXTERNAL, "externalId": "x-1"})], ids=["oidc", "role"])
@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        ({"status": 429, "headers": {"retry-after": "120"}, "body": ""}, RateLimited, "429"),
        (
            {"status": 400, "body": "<ErrorResponse><Error><Code>Throttling</Code></Error></ErrorResponse>"},
            RateLimited,
            "Throttling",
        ),
        (
            {"status": 503, "body": "<ErrorResponse><Error><Code>ServiceUnavailable</Code></Error></ErrorResponse>"},
            ProviderUnavailable,
            "failed",
        ),
        ({"status": 500, "body": ""}, ProviderUnavailable, "500"),
        (
            {"status": 400, "body": "<ErrorResponse><Error><Code>IDPCommunicationError</Code></Error></ErrorResponse>"},
            ProviderUnavailable,
            "IDP",
        ),
        ({"status": 403, "body": "blocked"}, ReconcilerError, "403"),
        ({"status": 404, "body": ""}, ReconcilerError, "no endpoint"),
        ({"status": 200, "body": "<!DOCTYPE html><html><body>Log in</body></html>"}, ProviderUnavailable, "HTML page"),
        ({"status": 403, "body": "<html><body>Firewall</body></html>"}, ProviderUnavailable, "HTML page"),
        ({"status": 200, "body": "<AssumeRoleResponse/>"}, ReconcilerError, "cannot be read"),
        ({"effect": "malformed"}, ReconcilerError, "not XML"),
        ({"effect": "reset"}, ProviderUnavailable, ""),
    ],
)
async def test_each_failure_of_the_token_service_is_its_own_and_is_not_repeated(
    cloud: Cloud, auth: dict[str, Any], fault: dict[str, Any], kind: type[ReconcilerError], text: str
) -> None:
    cloud.server.admin.fault(times=0, **fault)
    error = await error_of(cloud, auth, kind)
    assert text in error.message + error.hint
    if kind is not ReconcilerError:
        assert not isinstance(error, AuthFailed)
    assert error.code != "RC4050"


async def test_a_revoked_session_is_opened_again_once(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.drivers.aws.sts.RETRY_AFTER_S", 0.0)  # the session is not a new one
    client = cloud.client(oidc())
    await client.request("GET", "/", params={"Action": "GetCallerIdentity", "Version": "2011-06-15"})
    cloud.server.admin.do("revoke_sessions")
    cloud.server.admin.clear_requests()
    await client.request("GET", "/", params={"Action": "GetCallerIdentity", "Version": "2011-06-15"})
    assert [row["status"] for row in cloud.sent()] == [403, 200, 200]


def test_the_printed_trust_policy_is_what_the_simulator_accepts() -> None:
    from reconciler.drivers.trust import TrustRequest, aws

    printed = aws(TrustRequest(ISSUER, SUBJECT, AUDIENCE, {"roleArn": WEB_ROLE}))
    assert printed.policy == web_trust()
    assert HOST in PROVIDER
