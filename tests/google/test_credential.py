"""The driver of Google Cloud against the simulator: keys, federation, impersonation, every refusal, and no storm."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import pytest

from reconciler.drivers.auth import AuthRequest, CalledService
from reconciler.drivers.refusals import claims_in
from reconciler.model.errors import AuthFailed, ProviderUnavailable, RateLimited, ReconcilerError, ValidationFailed
from reconciler.sandbox.google.app import ACCOUNT, CLOUD_SCOPE, IAM_SCOPE, PROVIDER
from tests.google.conftest import SUBJECT, Cloud

pytestmark = pytest.mark.asyncio


async def test_a_key_is_checked_and_its_end_needs_no_permission(cloud: Cloud) -> None:
    report = await cloud.check()
    assert report.valid
    assert ACCOUNT in report.identity
    assert cloud.key["private_key_id"] in report.identity
    assert (report.expires_at, report.unknown["expiresAt"]) == ("", "the key never ends")
    for _ in range(3):
        await cloud.check()
    assert len(cloud.sent()) == 1
    (row,) = cloud.sent(ACCOUNT)
    assert "authorization" not in row["headers"]
    assert set(parse_qs(cloud.sent()[0]["body"])) == {"grant_type", "assertion"}
    cloud.key = cloud.server.admin.do("create_key", expires_at="2031-02-03T04:05:06+00:00")
    assert (await cloud.check()).expires_at == "2031-02-03T04:05:06Z"  # the new key is used at once


@pytest.mark.parametrize("fields", [{"disabled": True}, None])
async def test_a_key_that_is_gone_is_refused_once_a_minute(cloud: Cloud, fields: dict[str, Any] | None) -> None:
    await cloud.check()
    if fields is None:
        cloud.server.admin.put_state({"accounts": {ACCOUNT: {"keys": {cloud.key["private_key_id"]: None}}}})
    else:
        cloud.change_key(**fields)
    cloud.ahead_s = 1300.0  # what was known of the end is read again
    for _ in range(4):
        with pytest.raises(AuthFailed, match="Invalid JWT Signature") as caught:
            await cloud.check()
    assert (caught.value.code, "deleted or disabled" in caught.value.hint) == ("RC4066", True)
    assert len(cloud.sent()) == 2


async def test_a_federated_identity_acts_by_itself(cloud: Cloud) -> None:
    report = await cloud.check("oidc")
    assert report.valid
    assert SUBJECT in report.identity
    assert "no end" in report.unknown["expiresAt"]
    (row,) = cloud.sent("/v1/token")
    assert "authorization" not in row["headers"]
    assert parse_qs(row["body"])["scope"] == [CLOUD_SCOPE]


async def test_impersonation_asks_sts_for_no_more_than_it_needs(cloud: Cloud) -> None:
    report = await cloud.check("oidc", serviceAccount=ACCOUNT)
    assert report.identity == ACCOUNT
    assert "token ends at 20" in report.message
    (row,) = cloud.sent("/v1/token")
    assert parse_qs(row["body"])["scope"] == [IAM_SCOPE]
    (row,) = cloud.sent(":generateAccessToken")
    assert row["body"] == {"scope": [CLOUD_SCOPE], "lifetime": "3600s"}
    answer = await cloud.client("oidc", serviceAccount=ACCOUNT).request("GET", "/v3/projects/acme-prod")
    assert answer.json()["state"] == "ACTIVE"  # type: ignore[index]
    assert len(cloud.sent(":generateAccessToken")) == 1


async def test_impersonation_that_is_not_granted_says_which_role(cloud: Cloud) -> None:
    cloud.server.admin.put_state({"accounts": {ACCOUNT: {"users": []}}})
    for _ in range(3):
        with pytest.raises(AuthFailed, match="getAccessToken") as caught:
            await cloud.check("oidc", serviceAccount=ACCOUNT)
    assert (caught.value.code, "workloadIdentityUser" in caught.value.hint) == ("RC4069", True)
    assert len(cloud.sent(":generateAccessToken")) == len(cloud.sent("/v1/token")) == 1


@pytest.mark.parametrize(
    ("trust", "text"),
    [
        ({"issuer": "https://other.example"}, "iss is https://reconciler.example/ci, the policy wants .*other.example|issuer"),
        ({"allowedAudiences": ["https://other"]}, "aud is //iam"),
        ({"attributeCondition": "assertion.sub == 'another'"}, f"sub is {SUBJECT}"),
        ({"disabled": True}, "workload identity provider"),
    ],
)
async def test_a_refused_id_token_names_the_claim_that_differs(cloud: Cloud, trust: dict[str, Any], text: str) -> None:
    cloud.trust(**trust)
    for _ in range(3):
        with pytest.raises(AuthFailed, match=text) as caught:
            await cloud.check("oidc")
    assert caught.value.code == "RC4050"
    assert len(cloud.sent("/v1/token")) == 1


async def test_issuer_keys_that_cannot_be_read_and_clocks_that_differ(cloud: Cloud) -> None:
    cloud.issuing.published = False
    with pytest.raises(AuthFailed, match="cannot read the documents"):
        await cloud.check("oidc")
    cloud.issuing.published = True
    cloud.server.admin.settings(clock_skew_s=660.0)
    cloud.tokens.retry_now()
    with pytest.raises(AuthFailed, match="exp is"):
        await cloud.check("oidc")


@pytest.mark.parametrize("skew_s", [-600.0, 600.0])
async def test_a_key_works_by_the_clock_of_google(cloud: Cloud, skew_s: float) -> None:
    cloud.server.admin.settings(clock_skew_s=skew_s)
    assert (await cloud.check()).valid
    assert len(cloud.sent()) == 1  # the answer about the certificates has shown Google's clock


async def test_a_first_request_learns_the_clock_from_its_refusal(cloud: Cloud) -> None:
    cloud.server.admin.settings(clock_skew_s=-600.0)
    answer = await cloud.client().request("GET", "/v3/projects/acme-prod")
    assert (answer.status, len(cloud.sent())) == (200, 2)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"type": "authorized_user"}, "belongs to a person"),
        ({"type": "external_account"}, "workload identity federation"),
        ({"type": "?"}, "not service_account"),
        ({"client_email": ""}, "client_email is missing"),
        ({"private_key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}, "no RSA private key"),
        ({"private_key": 7}, "not the JSON file"),
        ({"token_uri": "https://evil.example/token"}, "evil.example"),
        ({"token_uri": "http://oauth2.googleapis.com/token"}, "is not Google's"),
        ({"token_uri": "https://oauth2.googleapis.com/token?x"}, "is not Google's"),
        ({"token_uri": "https://oauth2.googleapis.com.evil.example/token"}, "is not Google's"),
    ],
)
async def test_a_secret_that_is_no_key_sends_nothing(cloud: Cloud, change: dict[str, Any], text: str) -> None:
    private = cloud.key["private_key"]
    cloud.key = {**cloud.key, **change}
    cloud.server.admin.clear_requests()
    with pytest.raises(AuthFailed, match=text) as caught:
        await cloud.check()
    assert caught.value.code == "RC4068"
    assert private[30:60] not in f"{caught.value.message}{caught.value.hint}"
    assert not cloud.server.admin.requests()


@pytest.mark.parametrize(
    ("change", "text", "hint"),
    [
        ({"client_email": "gone@acme-prod.iam.gserviceaccount.com"}, "account not found", "client_email"),
        ({"private_key_id": "0" * 40}, "Invalid JWT Signature", "another key"),
    ],
)
async def test_a_key_that_google_does_not_know(cloud: Cloud, change: dict[str, str], text: str, hint: str) -> None:
    cloud.key = {**cloud.key, **change}
    with pytest.raises(AuthFailed, match=text) as caught:
        await cloud.check()
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        ({"status": 429, "headers": {"retry-after": "90"}, "body": ""}, RateLimited, "429"),
        ({"status": 503, "body": ""}, ProviderUnavailable, "503"),
        ({"status": 403, "body": {"x": 1}}, AuthFailed, "no token endpoint"),
        ({"status": 404, "body": ""}, AuthFailed, "no token endpoint"),
        ({"status": 401, "body": {"error": "unauthorized_client", "error_description": "no"}}, AuthFailed, "unauthorized_client"),
        ({"status": 200, "body": "<!doctype html><p>Sign in"}, ProviderUnavailable, "HTML page"),
        ({"status": 200, "body": {"token_type": "Bearer"}}, ProviderUnavailable, "access_token"),
        ({"status": 200, "body": {"access_token": "x", "expires_in": 0}}, ProviderUnavailable, "cannot be used"),
        ({"status": 200, "body": {"access_token": "x\ny", "expires_in": 60}}, ProviderUnavailable, "cannot be used"),
        ({"effect": "malformed"}, ProviderUnavailable, "not JSON"),
        ({"effect": "reset"}, ProviderUnavailable, ""),
    ],
)
@pytest.mark.parametrize("use", ["service-account-key", "oidc"])
async def test_each_failure_of_a_token_endpoint_is_its_own(
    cloud: Cloud, use: str, fault: dict[str, Any], error: type[ReconcilerError], text: str
) -> None:
    cloud.server.admin.fault(path="/token$", times=0, **fault)
    for _ in range(3):
        with pytest.raises(error) as caught:
            await cloud.check(use)
    assert text in caught.value.message
    assert len(cloud.sent()) == 1


async def test_certificates_that_cannot_be_read_are_an_unknown(cloud: Cloud) -> None:
    cloud.server.admin.fault(path="/x509/", times=0, status=500, body="")
    assert "answered 500" in (await cloud.check()).unknown["expiresAt"]
    cloud.server.admin.clear_faults()
    cloud.change_key(certificate="no certificate")  # and so the simulator cannot verify its signature
    cloud.ahead_s = 1000.0
    assert "did not say it" in (await cloud.check()).unknown["expiresAt"]


async def test_the_host_decides_which_token_a_request_carries(cloud: Cloud) -> None:
    async def sent(use: str, url: str, audience: str = "", **block: str) -> str:
        request = AuthRequest("POST", url, {}, called=CalledService(audience) if audience else None)
        await cloud.client(use, **block).authenticator.authorize(request)
        return request.headers["authorization"].removeprefix("Bearer ")

    run = "https://billing-abc-ew.a.run.app/jobs/7"
    assert (await sent("service-account-key", "https://storage.googleapis.com/b")).startswith("ya29.")
    for use, block in (("service-account-key", {}), ("oidc", {"serviceAccount": ACCOUNT})):
        token = await sent(use, run, **block)
        assert token.startswith("ey")
        assert token == await sent(use, run, **block)
        assert (await sent(use, "https://own.example/x", "billing", **block)) != token
    assert cloud.sent(":generateIdToken")[0]["body"] == {"audience": "https://billing-abc-ew.a.run.app", "includeEmail": True}
    for url in ("https://evil.example/", "https://googleapis.com.evil.example/", "https://evilgoogleapis.com/"):
        with pytest.raises(ValidationFailed, match="audience"):
            await sent("service-account-key", url)
    with pytest.raises(ValidationFailed, match="service account"):
        await sent("oidc", run)


@pytest.mark.parametrize(
    ("url", "named", "audience"),
    [
        ("https://billing-abc-ew.a.run.app/jobs/7?x=1", "", "https://billing-abc-ew.a.run.app"),
        ("https://billing-7.europe-west1.run.app:443/", "", "https://billing-7.europe-west1.run.app"),
        ("https://europe-west1-acme.cloudfunctions.net/charge/7", "", "https://europe-west1-acme.cloudfunctions.net/charge"),
        ("https://Own.example:8443/x", "", "https://own.example:8443"),
        ("https://own.example/x", "billing", "billing"),
        ("https://billing-abc-ew.a.run.app/", "https://custom.example", "https://custom.example"),
        ("SIMULATOR/x", "billing", "billing"),
        ("SIMULATOR/x", "", ""),
        ("https://run.googleapis.com/v2", "billing", ""),
    ],
)
async def test_the_audience_of_a_call_is_the_named_one_or_the_origin(cloud: Cloud, url: str, named: str, audience: str) -> None:
    request = AuthRequest("POST", url.replace("SIMULATOR", cloud.server.url), {}, called=CalledService(named))
    await cloud.client().authenticator.authorize(request)
    token = request.headers["authorization"].removeprefix("Bearer ")
    assert (claims_in(token)["aud"] if audience else token[:5]) == (audience or "ya29.")


async def test_a_provider_that_is_no_resource_name_is_refused_before_any_call(cloud: Cloud) -> None:
    with pytest.raises(ValidationFailed, match="resource name"):
        cloud.client("oidc", workloadIdentityProvider="projects/acme/locations/global/workloadIdentityPools/p/providers/x")
    assert (await cloud.check("oidc", workloadIdentityProvider=f"https://iam.googleapis.com/{PROVIDER}")).valid
