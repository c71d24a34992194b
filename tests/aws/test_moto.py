"""The driver against a real moto server: chains of roles, web identity, secrets, refusals."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import boto3
import pytest

from reconciler.drivers.auth import TokenCache
from reconciler.drivers.aws.driver import driver
from reconciler.drivers.http.budget import Budget
from reconciler.drivers.http.client import ApiClient, HttpSession
from reconciler.model.errors import AuthFailed, SecretUnavailable
from reconciler.model.resources import ResourceId, SecretRef
from reconciler.model.secrets import SecretValue
from tests.support.authentication import auth_context
from tests.support.driving import resource, session
from tests.support.moto import moto

__all__ = ["session"]
KEY_ID, SECRET = "AKIA" + "Q" * 16, "canary-secret-access-key-71"
ROLES = ("arn:aws:iam::123456789012:role/first", "arn:aws:iam::210987654321:role/second")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with moto() as url:
        yield url


def values_of(part: str) -> dict[str, Any]:
    return {"valueFrom": {"secret": {"name": "credentials", "key": part}}}


def access_key(*roles: Mapping[str, Any]) -> dict[str, Any]:
    auth: dict[str, Any] = {"use": "access-key", "accessKey": {"id": values_of("id"), "secret": values_of("secret")}}
    return {**auth, "roleAssumptions": list(roles)} if roles else auth


class Peer:
    """One Integration at a server, and all that the engine would make for it."""

    def __init__(self, url: str, auth: Mapping[str, Any], session: HttpSession, **context: Any) -> None:
        spec = {"type": "aws", "region": "eu-central-1", "apiUrl": url, "auth": auth}
        declared = resource("Integration", "aws", spec, secrets=["credentials"])
        self.values = {"id": KEY_ID, "secret": SECRET}
        self.tokens = TokenCache(time.time)
        self.connection = driver.connect(declared, declared.secret_refs("/auth"))
        self.context = auth_context(self.read, session=session, tokens=self.tokens, **context)
        self.authenticator = driver.authenticator(self.connection, self.context)
        budget = Budget(self.connection.credential_id, driver.limits, store=None, clock=time.time)
        self.api = ApiClient(self.connection, driver, self.authenticator, session=session, budget=budget, clock=time.time)

    def read(self, ref: SecretRef) -> SecretValue:
        return SecretValue(self.values[ref.key])


async def test_an_access_key_is_known_and_what_aws_does_not_tell_is_unknown(server: str, session: HttpSession) -> None:
    report = await driver.check(Peer(server, access_key(), session).api, {})
    assert (report.valid, report.identity) == (True, "arn:aws:sts::123456789012:user/moto")
    assert set(report.unknown) == {"granted", "missing", "expiresAt"}
    assert KEY_ID not in repr(report)


async def test_roles_are_assumed_in_order_and_their_session_is_kept(server: str, session: HttpSession) -> None:
    peer = Peer(server, access_key({"arn": ROLES[0], "externalId": "x-1"}, {"arn": ROLES[1], "duration": 900.0}), session)
    report = await driver.check(peer.api, {})
    assert report.identity == "arn:aws:sts::210987654321:assumed-role/second/reconciler-default-aws"
    assert "renewed" in report.unknown["expiresAt"]
    (key,) = peer.tokens.values()
    assert peer.tokens.ends_at(key) == pytest.approx(time.time() + 900, abs=10)
    assert SECRET not in key
    await driver.check(peer.api, {})
    assert set(peer.tokens.values()) == {key}
    peer.values["secret"] = "another"
    await driver.check(peer.api, {})
    assert len(peer.tokens.values()) == 2  # a replaced access key opens another session


async def test_an_id_token_opens_the_first_session(server: str, session: HttpSession) -> None:
    asked = []

    async def id_token(integration: ResourceId, audience: str, *, subject: str = "") -> SecretValue:
        asked.append((str(integration), audience, subject))
        return SecretValue("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.")

    oidc = {"audience": "sts.amazonaws.com", "subject": "ws:acme", "roleArn": ROLES[0], "sessionName": "mine"}
    peer = Peer(server, {"use": "oidc", "oidc": oidc, "roleAssumptions": [{"arn": ROLES[1]}]}, session, id_token=id_token)
    report = await driver.check(peer.api, {})
    assert report.identity == "arn:aws:sts::210987654321:assumed-role/second/reconciler-default-aws"
    assert asked == [("Integration/aws", "sts.amazonaws.com", "ws:acme")]


async def test_an_unknown_key_is_refused_and_never_shown_whole(session: HttpSession) -> None:
    with moto(authenticate=True) as url:
        for auth in (access_key(), access_key({"arn": ROLES[0]})):
            with pytest.raises(AuthFailed) as caught:
                await driver.check(Peer(url, auth, session).api, {})
            assert "AWS does not know the access key (InvalidClientTokenId" in caught.value.message
            assert KEY_ID not in caught.value.message + caught.value.hint


@pytest.fixture
def stored(server: str) -> Iterator[Any]:
    options: dict[str, Any] = {
        "endpoint_url": server,
        "region_name": "eu-central-1",
        "aws_access_key_id": KEY_ID,
        "aws_secret_access_key": SECRET,
    }
    manager, systems = boto3.client("secretsmanager", **options), boto3.client("ssm", **options)
    manager.create_secret(Name="db", SecretString='{"password": "hunter2", "port": 5432, "more": {}}')
    manager.create_secret(Name="raw", SecretBinary=b"\xff\xfe")
    systems.put_parameter(Name="/app/token", Value="s3cr3t", Type="SecureString")
    yield manager, systems
    for name in ("db", "raw"):
        manager.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    systems.delete_parameter(Name="/app/token")
    manager.close()
    systems.close()


async def value_of(peer: Peer, **entry: str) -> tuple[str, str]:
    """Return the value that an entry of a Secret's ``data`` names, and its version."""
    store = driver.secret_store
    source = store.source(entry)
    stored = await store.read(peer.api, source)
    assert await store.version(peer.api, source) == stored.version
    return store.value(entry, source, stored.text).reveal(), stored.version


async def test_values_are_read_with_a_version_that_changes_with_them(server: str, session: HttpSession, stored: Any) -> None:
    manager, systems = stored
    peer = Peer(server, access_key({"arn": ROLES[0]}), session)
    first = await value_of(peer, secretId="db", jsonKey="password")
    assert (first[0], (await value_of(peer, secretId="db", jsonKey="port"))[0]) == ("hunter2", "5432")
    manager.put_secret_value(SecretId="db", SecretString='{"password": "hunter3"}')
    second = await value_of(peer, secretId="db", jsonKey="password")
    assert (second[0], second[1] != first[1]) == ("hunter3", True)
    before = await value_of(peer, parameter="/app/token")
    systems.put_parameter(Name="/app/token", Value="newer", Type="SecureString", Overwrite=True)
    assert [before, await value_of(peer, parameter="/app/token")] == [("s3cr3t", "1"), ("newer", "2")]


async def test_values_that_cannot_be_read_name_the_reason(server: str, session: HttpSession, stored: Any) -> None:
    peer = Peer(server, access_key(), session)
    for entry, text in (
        ({"secretId": "nothing"}, "does not exist (ResourceNotFoundException"),
        ({"parameter": "/nothing"}, "does not exist (ParameterNotFound"),
        ({"secretId": "db", "jsonKey": "pasword"}, "has no key 'pasword'"),
        ({"secretId": "db", "jsonKey": "more"}, "neither text nor a number"),
        ({"secretId": "raw"}, "is not UTF-8 text"),
    ):
        with pytest.raises(SecretUnavailable) as caught:
            await value_of(peer, **entry)
        assert text in caught.value.message
        assert "hunter" not in caught.value.message
