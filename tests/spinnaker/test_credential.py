"""Gate's ways to say no: logins, redirects, users that are nobody, limits in milliseconds; and a stage that is not run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.drivers.http.client import HttpSession
from reconciler.drivers.registry import DRIVERS
from reconciler.model.errors import AuthFailed, ProviderProtocolError, ProviderUnavailable, RateLimited
from reconciler.model.status import CredentialReport
from reconciler.sandbox.server import SandboxServer
from reconciler.sandbox.spinnaker.app import PASSWORD, TOKEN, USER, Spinnaker
from tests.support.driving import client, resource, session
from tests.support.forms import ref

__all__ = ["session"]
AUTH: dict[str, dict[str, Any]] = {
    "token": {"use": "token", "token": ref("token")},
    "basic": {"use": "basic", "basic": {"username": USER, "password": ref("password")}},
    "none": {"use": "none"},
}
driver: Any = DRIVERS["spinnaker"]


@pytest.fixture
def gate() -> Iterator[SandboxServer]:
    with SandboxServer(Spinnaker()) as server:
        yield server


async def check(gate: SandboxServer, session: HttpSession, use: str = "token", **values: str) -> CredentialReport:
    declared = resource("Integration", "gate", {"type": "spinnaker", "url": gate.url, "auth": AUTH[use]}, secrets=["credentials"])
    connection = driver.connect(declared, declared.secret_refs("/auth"))
    known = {"credentials/token": TOKEN, "credentials/password": PASSWORD}
    known |= {f"credentials/{name}": value for name, value in values.items()}
    return await driver.check(client(driver, connection, session, known), {"pipelines": "read"})


@pytest.mark.parametrize("use", ["token", "basic"])
async def test_the_user_is_known_and_what_it_may_do_is_not(gate: SandboxServer, session: HttpSession, use: str) -> None:
    report = await check(gate, session, use)
    assert (report.valid, report.identity) == (True, "ci (ci@example.com)")
    assert report.granted == ("role deployers", "account prod")
    assert set(report.unknown) == {"missing", "expiresAt"}
    gate.admin.put_state({"users": {USER: {"accounts": [f"a{number:03}" for number in range(200)]}}})
    assert (await check(gate, session, use)).granted[-1] == "and 151 more"


@pytest.mark.parametrize("login", [302, 401, 403])
@pytest.mark.parametrize("use", ["token", "basic"])
async def test_a_wrong_secret_is_refused_however_gate_says_it(
    gate: SandboxServer, session: HttpSession, use: str, login: int
) -> None:
    gate.admin.settings(login=login)
    with pytest.raises(AuthFailed) as caught:
        await check(gate, session, use, token="wrong-canary", password="wrong-canary")
    assert str(login) in caught.value.message
    assert "wrong-canary" not in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.hint
    assert [row["path"] for row in gate.admin.requests()] == ["/auth/user"]  # the redirect is not followed


@pytest.mark.parametrize("use", ["token", "basic"])
async def test_a_gate_that_takes_no_notice_of_the_credential_is_not_valid(
    gate: SandboxServer, session: HttpSession, use: str
) -> None:
    gate.admin.settings(login=0)
    with pytest.raises(AuthFailed, match="took no notice") as caught:
        await check(gate, session, use)
    assert caught.value.code == "RC4500"
    gate.admin.fault(path="/auth/user", times=0, status=200)
    with pytest.raises(AuthFailed, match="took no notice"):
        await check(gate, session, use)
    gate.admin.fault(path="/health", times=0, status=200)
    with pytest.raises(ProviderProtocolError):
        await check(gate, session, use)


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("http://gate.internal:8084/login", AuthFailed),  # a proxy ends TLS in front of it
        ("https://idp.example/app/saml/sso?x=1", AuthFailed),
        ("/oauth2/authorization/github", AuthFailed),
        ("https://www.example.com/", ProviderProtocolError),
        ("", ProviderProtocolError),
    ],
)
async def test_a_redirect_to_a_login_is_a_refusal_and_any_other_is_not(
    gate: SandboxServer, session: HttpSession, location: str, error: type[Exception]
) -> None:
    gate.admin.fault(path="/auth/user", times=0, status=302, headers={"location": location})
    with pytest.raises(error) as caught:
        await check(gate, session)
    assert type(caught.value) is error


async def test_without_a_credential_it_is_gate_that_is_up(gate: SandboxServer, session: HttpSession) -> None:
    with pytest.raises(AuthFailed, match="302") as caught:
        await check(gate, session, "none")
    assert "without a credential" in caught.value.hint
    gate.admin.settings(login=0)
    report = await check(gate, session, "none")
    assert (report.valid, report.identity) == (True, "anonymous")
    assert report.unknown["expiresAt"] == "there is no credential that could end"
    assert all("authorization" not in row["headers"] for row in gate.admin.requests())
    gate.admin.settings(health="DOWN")
    with pytest.raises(ProviderUnavailable, match="Gate is DOWN"):
        await check(gate, session, "none")


async def test_the_reset_of_a_limit_is_in_milliseconds(gate: SandboxServer, session: HttpSession) -> None:
    gate.admin.settings(rate_limits=True, requests_per_minute=1)
    await check(gate, session)
    with pytest.raises(RateLimited) as caught:
        await check(gate, session)
    assert caught.value.retry_at is not None
    assert 30 < caught.value.retry_at - time.time() <= 62


def test_its_executor_is_not_part_of_this_version() -> None:
    assert driver.executors == {}
