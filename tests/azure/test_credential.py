"""The driver of Azure against the simulator: both forms, every refusal, and no storm."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import parse_qs

import pytest

from reconciler.drivers.auth import AuthRequest, CalledService
from reconciler.drivers.azure.driver import driver
from reconciler.model.errors import AuthFailed, ProviderUnavailable, RateLimited, ReconcilerError, ValidationFailed
from reconciler.model.times import iso
from reconciler.sandbox.azure.app import CLIENT, SECRET, SUBSCRIPTION, TENANT
from tests.azure.conftest import AUDIENCE, FEDERATED, Directory
from tests.support.driving import resource

pytestmark = pytest.mark.asyncio
OTHER = "deadbeef-0000-4000-8000-000000000000"


def secret(value: str = SECRET, days: float = 30, **fields: str) -> dict[str, str]:
    return {"value": value, "endDateTime": iso(time.time() + days * 86_400), **fields}


async def test_a_secret_is_checked_in_full_and_its_end_is_known(directory: Directory) -> None:
    directory.put(secrets=[secret("abc-of-somebody-else", 3), secret(SECRET, 30)], roles=["Reader.All"])
    report = await directory.check()
    assert (report.valid, report.missing, report.granted) == (True, (), ("Reader.All",))
    assert CLIENT in report.identity
    assert TENANT in report.identity
    assert report.expires_at == iso(time.time() + 30 * 86_400)[:10] + report.expires_at[10:]
    assert "federated credential" in report.message
    assert SECRET not in repr(report)
    (first, second) = directory.sent()  # for Resource Manager, and for Graph
    assert set(parse_qs(first["body"])) == {"client_id", "scope", "grant_type", "client_secret"}
    assert parse_qs(second["body"])["scope"] == ["https://graph.microsoft.com/.default"]
    await directory.check()
    assert len(directory.sent()) == 2  # both tokens are kept
    assert len(directory.sent("/v1.0/")) == 1  # and the end of the secret


async def test_an_id_token_needs_no_secret_and_has_no_end(directory: Directory) -> None:
    report = await directory.check("oidc")
    assert (report.valid, report.expires_at, report.message) == (True, "", "")
    assert "no end" in report.unknown["expiresAt"]
    (row,) = directory.sent()
    assert set(parse_qs(row["body"])) == {"client_id", "scope", "grant_type", "client_assertion_type", "client_assertion"}


async def test_graph_that_refuses_is_an_unknown_and_no_error(directory: Directory) -> None:
    directory.put(reads_itself=False)
    report = await directory.check()
    assert (report.valid, report.expires_at) == (True, "")
    assert "Application.Read.All" in report.unknown["expiresAt"]


async def test_two_secrets_that_begin_alike_give_the_earlier_end(directory: Directory) -> None:
    directory.put(secrets=[secret(SECRET, 30), secret(SECRET[:3] + "other", 9), secret(SECRET[:3] + "old", -9)])
    assert (await directory.check()).expires_at[:10] == iso(time.time() + 9 * 86_400)[:10]
    directory.tokens = type(directory.tokens)(directory.clock)
    directory.put(secrets=[secret(SECRET, 30, hint="zzz")])
    assert (await directory.check()).expires_at  # the simulator gives hints itself


async def test_a_subscription_without_a_role_is_missing_and_a_disabled_one_is_named(directory: Directory) -> None:
    directory.server.admin.put_state({"subscriptions": {SUBSCRIPTION: {"readers": []}}})
    assert "Reader" in (await directory.check()).missing[0]
    directory.server.admin.put_state({"subscriptions": {SUBSCRIPTION: {"readers": [CLIENT], "state": "Disabled"}}})
    assert "Production is Disabled" in (await directory.check()).message
    assert SUBSCRIPTION[:4] in (await directory.check(subscriptionId=SUBSCRIPTION[:4] + OTHER[4:])).missing[0]


@pytest.mark.parametrize(
    ("fields", "block", "text", "hint"),
    [
        ({"secrets": [secret("another")]}, {}, "7000215", "not its id"),
        ({"secrets": [secret(SECRET, -1)]}, {}, "7000222", "federated"),
        ({}, {"clientId": OTHER}, "700016", "clientId"),
        ({}, {"tenantId": OTHER}, "90002", "tenantId"),
        ({}, {"tenantId": "no tenant"}, "900023", "GUID"),
    ],
)
async def test_each_refusal_of_a_secret_says_what_to_do(
    directory: Directory, fields: dict[str, Any], block: dict[str, str], text: str, hint: str
) -> None:
    directory.put(**fields)
    for _ in range(5):
        with pytest.raises(AuthFailed) as caught:
            await directory.check(**block)
    assert (caught.value.code, text in caught.value.message, hint in caught.value.hint) == ("RC4065", True, True)
    assert SECRET not in f"{caught.value.message}{caught.value.hint}"
    assert len(directory.sent("oauth2/v2.0/token")) == 1
    directory.ahead_s = 61.0
    with pytest.raises(AuthFailed):
        await directory.check(**block)
    assert len(directory.sent()) == 2


@pytest.mark.parametrize(
    ("fields", "claim"),
    [
        ({"federated": [{**FEDERATED, "issuer": "https://reconciler.example/ci/"}]}, "iss is https://reconciler.example/ci,"),
        ({"federated": [{**FEDERATED, "subject": "reconciler:team-b"}]}, "sub is reconciler:team-a"),
        ({"federated": [{**FEDERATED, "audiences": ["api://other"]}]}, f"aud is {AUDIENCE}"),
    ],
)
async def test_a_refused_id_token_names_the_claim_that_differs(directory: Directory, fields: dict[str, Any], claim: str) -> None:
    directory.put(**fields)
    with pytest.raises(AuthFailed) as caught:
        await directory.check("oidc")
    assert (caught.value.code, claim in caught.value.message) == ("RC4050", True), caught.value.message


async def test_keys_that_are_not_published_and_a_clock_that_is_off(directory: Directory) -> None:
    directory.issuing.published = False
    with pytest.raises(AuthFailed, match="cannot read the documents"):
        await directory.check("oidc")
    directory.issuing.published = True
    directory.server.admin.settings(clock_skew_s=-660.0)
    directory.tokens.retry_now()
    with pytest.raises(AuthFailed, match="exp is"):
        await directory.check("oidc")
    directory.server.admin.settings(clock_skew_s=0.0)
    directory.tokens.retry_now()
    assert (await directory.check("oidc")).valid


@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        ({"status": 429, "headers": {"retry-after": "120"}, "body": {"error": "x"}}, RateLimited, "429"),
        ({"status": 503, "body": {"error": "temporarily_unavailable"}}, ProviderUnavailable, "503"),
        ({"status": 408, "body": ""}, ProviderUnavailable, "failed (408)"),
        ({"status": 400, "body": {"error": "server_error"}}, ProviderUnavailable, "failed (400)"),
        ({"status": 403, "body": {"message": "blocked"}}, AuthFailed, "no token endpoint"),
        ({"status": 404, "body": ""}, AuthFailed, "no token endpoint"),
        ({"status": 200, "body": "<html><body>Log in</body></html>"}, ProviderUnavailable, "HTML page"),
        ({"status": 200, "body": {"token_type": "Bearer"}}, ProviderUnavailable, "access_token"),
        ({"effect": "reset"}, ProviderUnavailable, ""),
        ({"status": 200, "body": {"access_token": "x", "expires_in": 0}}, ProviderUnavailable, "cannot be used"),
        ({"status": 200, "body": {"access_token": "x\ny", "expires_in": 60}}, ProviderUnavailable, "cannot be used"),
        ({"effect": "malformed"}, ProviderUnavailable, "not JSON"),
    ],
)
async def test_each_failure_of_the_token_endpoint_is_its_own(
    directory: Directory, fault: dict[str, Any], error: type[ReconcilerError], text: str
) -> None:
    directory.server.admin.fault(path="/oauth2/", times=0, **fault)
    for _ in range(3):
        with pytest.raises(error) as caught:
            await directory.check()
    assert text in caught.value.message
    assert len(directory.sent()) == 1
    if error is RateLimited:
        assert 100 < caught.value.retry_at - time.time() < 130  # type: ignore[attr-defined]


async def test_a_new_secret_is_used_at_once_and_one_refused_token_is_replaced_once(directory: Directory) -> None:
    directory.secret = "wrong-" + "0" * 30
    with pytest.raises(AuthFailed):
        await directory.check()
    directory.secret = SECRET
    assert (await directory.check()).valid
    directory.ahead_s = 100.0
    directory.server.admin.do("revoke_tokens")
    assert (await directory.check()).valid
    directory.server.admin.clear_requests()
    directory.server.admin.fault(
        path="/subscriptions", times=0, status=401, body={"error": {"code": "InvalidAuthenticationToken"}}
    )
    for _ in range(4):
        with pytest.raises(AuthFailed, match="InvalidAuthenticationToken"):
            await directory.check()
    assert not directory.sent()  # the token is new: another would be refused as well


async def test_a_stage_names_the_audience_also_where_the_host_stands_in_for_azure(directory: Directory) -> None:
    signer, url = directory.client("oidc").authenticator, f"{directory.server.url}/api/run"
    for called in (None, CalledService(), CalledService("api://billing/"), CalledService("api://billing/.default")):
        await signer.authorize(AuthRequest("POST", url, {}, called=called))
    scopes = [parse_qs(row["body"])["scope"][0] for row in directory.sent()]
    assert scopes == ["https://management.azure.com/.default", "api://billing/.default"]  # each token is asked for once
    with pytest.raises(ValidationFailed, match="is a service of Azure itself"):
        await signer.authorize(AuthRequest("POST", url, {}, called=CalledService("https://graph.microsoft.com")))


async def test_the_host_decides_which_token_a_request_carries(directory: Directory) -> None:
    signer = directory.client("oidc").authenticator
    request = AuthRequest("POST", "https://billing.azurewebsites.net/api/run", {}, called=CalledService("api://billing"))
    await signer.authorize(request)
    assert request.headers["authorization"].startswith("Bearer ey")
    await signer.authorize(AuthRequest("GET", "https://acme.vault.azure.net/secrets/x", {}))
    scopes = [parse_qs(row["body"])["scope"][0] for row in directory.sent()]
    assert scopes == ["api://billing/.default", "https://vault.azure.net/.default"]
    for url, audience in (
        ("https://evil.example/", ""),
        ("https://evil.example/", "https://management.azure.com"),
        ("https://evil.example/", "https://graph.microsoft.com/.default"),
        ("https://evil.example/", "https://management.core.windows.net/"),
        ("https://management.azure.com.evil.example/", ""),
        ("https://evilvault.azure.net/", "https://vault.azure.net"),
        ("https://evil.example/", "00000003-0000-0000-c000-000000000000"),
    ):
        with pytest.raises(ValidationFailed):
            await signer.authorize(AuthRequest("GET", url, {}, called=CalledService(audience)))


@pytest.mark.parametrize(
    ("url", "root", "login"),
    [
        ("", "https://management.azure.com", "login.microsoftonline.com"),
        ("https://portal.azure.us", "https://management.usgovcloudapi.net", "login.microsoftonline.us"),
        ("https://portal.azure.cn", "https://management.chinacloudapi.cn", "login.chinacloudapi.cn"),
    ],
)
async def test_the_url_names_the_cloud(directory: Directory, url: str, root: str, login: str) -> None:
    auth = {"use": "oidc", "oidc": {"tenantId": TENANT, "clientId": CLIENT, "audience": "x"}}
    connection = driver.connect(resource("Integration", "azure", {"type": "azure", "url": url, "auth": auth}), {})
    assert connection.api_url == root
    signer = directory.client("oidc").authenticator.__class__(connection, None)  # type: ignore[call-arg]
    assert signer.url_of(signer.cloud.login, "/t") == f"https://{login}/t"
    with pytest.raises(ValidationFailed, match="not the portal"):
        driver.connect(resource("Integration", "azure", {"type": "azure", "url": "https://azure.evil.example", "auth": auth}), {})
