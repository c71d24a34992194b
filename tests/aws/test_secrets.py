"""Values of Secrets in the simulated AWS: what is asked in each interval, and a condition of its own for whatever is wrong."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from reconciler.config.settings import SecretsConfig
from reconciler.credentials.backends import SecretResolver
from reconciler.credentials.redact import Redactor
from reconciler.credentials.remote import RemoteSecrets
from reconciler.drivers.aws.driver import driver
from reconciler.engine.connections import Client
from reconciler.engine.provider_secrets import READ_AGAIN_S, ProviderSecrets
from reconciler.model.errors import AuthFailed, SecretUnavailable
from reconciler.model.resources import Location, Resource, ResourceId, SecretRef
from reconciler.sandbox.aws.records import ACCOUNT, KEY_ID, REGION, SECRET, USER
from tests.aws.cloud import DB, READS, TOKEN, WEB_ROLE, Cloud, access_key, allow, document, oidc

CLOUD = ResourceId("Integration", "default", "aws")
DATA = {"password": {"secretId": "db", "jsonKey": "password"}, "token": {"parameter": "/app/token"}}


def secret(name: str = "s", **data: dict[str, str]) -> Resource:
    spec = {"provider": "aws", "aws": {"integration": {"name": "aws"}, "data": data or DATA}}
    return Resource(ResourceId("Secret", "default", name), spec, Location("s.yaml"), references=(CLOUD,))


class Installation:
    """A resolver over the simulator, and the actions that were sent."""

    def __init__(self, cloud: Cloud, auth: dict[str, Any]) -> None:
        self.cloud, self.now, self.redactor, self.auth = cloud, 1_000.0, Redactor(), auth
        self.refusals: list[AuthFailed] = []
        self.refused_at, self.trial = 0.0, asyncio.Lock()
        backend = ProviderSecrets(self._connect, self, dict, clock=cloud.clock, monotonic=lambda: self.now)
        self.remote = RemoteSecrets({"aws": backend}, conceal=self.redactor.add, monotonic=lambda: self.now)
        self.api = cloud.client(auth)

    async def _connect(self, integration: ResourceId, *, explicit: bool) -> Client:
        assert integration == CLOUD
        if explicit:
            self.cloud.tokens.retry_now()
        elif self.refusals and self.now < self.refused_at + 60:  # as `ClientPool.current`
            raise self.refusals[-1]
        return Client(self.api.connection, driver, self.api, cast("Any", None), cast("Any", None))

    @contextlib.asynccontextmanager
    async def trying(self, integration: ResourceId) -> AsyncIterator[None]:
        async with self.trial:
            yield

    async def note_refusal(self, integration: ResourceId, error: AuthFailed | None) -> None:
        assert integration == CLOUD
        if error is not None:
            self.refusals.append(error)
            self.refused_at = self.now

    def resolver(self, *resources: Resource) -> SecretResolver:
        resolver = SecretResolver(
            {r.id: r for r in resources or (secret(),)}, SecretsConfig(), sandbox=True, redactor=self.redactor
        )
        resolver.remote = self.remote
        return resolver

    async def read(self, resolver: SecretResolver, key: str = "password", name: str = "s", *, again: bool = False) -> str:
        ref = SecretRef("default", name, key)
        await resolver.prepare([ref], again=again)
        return resolver.read(ref).reveal()

    async def error(self, resolver: SecretResolver, key: str = "password", *, again: bool = True) -> SecretUnavailable:
        with pytest.raises(SecretUnavailable) as caught:
            await self.read(resolver, key, again=again)
        text = f"{caught.value.message} {caught.value.hint}"
        assert [value for value in ("hunter2", "s3cr3t", SECRET, KEY_ID) if value in text] == []
        return caught.value

    def sent(self) -> list[str]:
        """Return the actions since the last call, in order."""
        rows = self.cloud.sent()
        self.cloud.server.admin.clear_requests()
        return [row["headers"].get("x-amz-target", "sts").partition(".")[2] or "sts" for row in rows]


@pytest.fixture(params=["keys", "oidc"])
def installation(cloud: Cloud, request: pytest.FixtureRequest) -> Installation:
    cloud.put(users={USER: {"policies": [allow(*READS)]}})
    return Installation(cloud, access_key() if request.param == "keys" else oidc())


async def test_values_are_read_once_and_then_only_their_versions_are_asked_for(installation: Installation) -> None:
    resolver = installation.resolver()
    assert (await installation.read(resolver), await installation.read(resolver, "token")) == ("hunter2", "s3cr3t")
    assert [each for each in installation.sent() if each != "sts"] == ["GetSecretValue", "GetParameter"]
    await installation.read(resolver)
    assert installation.sent() == []  # not before a minute has passed
    loaded = installation.remote._entries[secret().id].loaded
    installation.now += 61
    await installation.read(resolver)
    assert installation.sent() == ["DescribeSecret", "GetParameter"]
    assert installation.remote._entries[secret().id].loaded is loaded
    assert installation.redactor.redact("x hunter2 s3cr3t") == "x *** ***"


async def test_a_changed_value_is_read_within_a_minute_and_only_that(installation: Installation) -> None:
    resolver = installation.resolver()
    await installation.read(resolver)
    installation.sent()
    installation.cloud.server.admin.do("put_secret", arn=DB, text='{"password": "hunter3"}')
    installation.now += 61
    assert (await installation.read(resolver), await installation.read(resolver, "token")) == ("hunter3", "s3cr3t")
    assert installation.sent() == ["DescribeSecret", "GetSecretValue", "GetParameter"]
    installation.cloud.server.admin.do("put_parameter", arn=TOKEN, value="newer")
    installation.now += 61
    assert (await installation.read(resolver, "token"), await installation.read(resolver)) == ("newer", "hunter3")


async def test_several_keys_of_one_secret_cost_one_read(installation: Installation) -> None:
    installation.cloud.server.admin.do("put_secret", arn=DB, text='{"password": "a", "port": 5432}')
    whole = secret(a={"secretId": "db", "jsonKey": "password"}, b={"secretId": "db", "jsonKey": "port"}, c={"secretId": "db"})
    resolver = installation.resolver(whole)
    values = [await installation.read(resolver, key) for key in "abc"]
    assert values == ["a", "5432", '{"password": "a", "port": 5432}']
    assert [each for each in installation.sent() if each != "sts"] == ["GetSecretValue"]


async def test_without_the_right_to_describe_the_value_is_read_and_the_question_is_not_repeated(
    installation: Installation,
) -> None:
    cloud = installation.cloud
    reads = [allow("secretsmanager:GetSecretValue")]
    cloud.put(users={USER: {"policies": reads}}, roles={WEB_ROLE: {"policies": reads}})
    resolver = installation.resolver(secret(password=DATA["password"]))
    assert await installation.read(resolver) == "hunter2"
    installation.sent()
    for expected in (["DescribeSecret", "GetSecretValue"], ["GetSecretValue"], ["GetSecretValue"]):
        installation.now += 61
        assert await installation.read(resolver) == "hunter2"
        assert installation.sent() == expected


async def test_a_revoked_right_takes_the_value_away(installation: Installation) -> None:
    resolver = installation.resolver(secret(password=DATA["password"]))
    assert await installation.read(resolver) == "hunter2"
    deny = {"Effect": "Deny", "Action": "secretsmanager:GetSecretValue", "Resource": "*"}
    for rows in ({"users": {USER: {}}}, {"roles": {WEB_ROLE: {}}}):
        for row in rows.values():
            next(iter(row.values()))["policies"] = [allow(*READS), document(deny)]
        installation.cloud.put(**rows)
    installation.now += READ_AGAIN_S + 1
    error = await installation.error(resolver, again=False)
    assert error.code == "RC4083"
    assert "Secret/s key 'password': the secret 'db' in AWS Secrets Manager may not be read" in error.message
    assert "secretsmanager:GetSecretValue" in error.hint
    installation.sent()
    for _ in range(10):
        await installation.error(resolver, again=False)
    assert installation.sent() == []


@pytest.mark.parametrize(
    ("data", "patch", "code", "text"),
    [
        ({"secretId": "nothing"}, {}, "RC4064", "the secret 'nothing' in AWS Secrets Manager does not exist"),
        ({"parameter": "/nothing"}, {}, "RC4064", "the parameter '/nothing' of AWS Systems Manager does not exist"),
        ({"parameter": "/app/token:7"}, {}, "RC4064", "does not exist (ParameterVersionNotFound"),
        ({"secretId": "db", "jsonKey": "pasword"}, {}, "RC4064", "has no key 'pasword'"),
        ({"secretId": "db"}, {"secrets": {DB: {"versions": {"v1": {"text": ""}}}}}, "RC4064", "empty"),
        ({"secretId": "db"}, {"secrets": {DB: {"versions": {"v1": {"text": "x" * 65_537}}}}}, "RC", ""),
        ({"secretId": "db"}, {"secrets": {DB: {"deleted_at": 1_700_000_000}}}, "RC4064", "marked for deletion"),
        ({"secretId": "db"}, {"secrets": {DB: {"key": "arn:aws:kms:us-east-1:123456789012:key/1"}}}, "RC4083", "KMS"),
        ({"parameter": "/app/token"}, {"parameters": {TOKEN: {"key": "arn:aws:kms:us-east-1:1:key/1"}}}, "RC4083", "kms:Decrypt"),
        ({"secretId": f"arn:aws:secretsmanager:{REGION}:999999999999:secret:x"}, {}, "RC", "999999999999"),
    ],
)
async def test_each_missing_value_is_named_and_the_others_are_read(
    cloud: Cloud, data: dict[str, str], patch: dict[str, Any], code: str, text: str
) -> None:
    installation = Installation(cloud, oidc())
    cloud.put(**patch)
    cloud.server.admin.put_state(
        {
            "secrets": {
                DB.replace("db", "other"): {
                    "name": "other",
                    "key": "",
                    "deleted_at": 0,
                    "versions": {"1": {"text": "o", "stages": ["AWSCURRENT"]}},
                }
            }
        }
    )
    resolver = installation.resolver(secret(password=data, other={"secretId": "other"}))
    error = await installation.error(resolver)
    assert (error.code.startswith(code), text in error.message, "Secret/s key 'password'" in error.message) == (
        True,
        True,
        True,
    ), error
    assert await installation.read(resolver, "other") == "o"
    assert resolver.remote is not None
    assert resolver.remote.problem(secret()) is None or "password" in str(resolver.remote.problem(secret()))


async def test_an_arn_names_the_region_that_is_asked(cloud: Cloud) -> None:
    elsewhere = f"arn:aws:secretsmanager:eu-central-1:{ACCOUNT}:secret:far-AbCdEf"
    far = f"arn:aws:ssm:eu-central-1:{ACCOUNT}:parameter/far"
    version = {"1": {"text": "far", "stages": ["AWSCURRENT"]}}
    cloud.put(
        secrets={elsewhere: {"name": "far", "key": "", "deleted_at": 0, "versions": version}},
        parameters={far: {"name": "/far", "type": "String", "key": "", "versions": {"1": "p"}, "labels": {}}},
    )
    installation = Installation(cloud, oidc())
    resolver = installation.resolver(secret(password={"secretId": elsewhere}, token={"parameter": far}))
    assert [await installation.read(resolver), await installation.read(resolver, "token")] == ["far", "p"]


async def test_many_secrets_of_one_refused_identity_send_one_call_a_minute(cloud: Cloud) -> None:
    installation = Installation(cloud, access_key())
    cloud.put(keys={KEY_ID: {"active": False}})
    resources = [secret(f"s{n}", password=DATA["password"]) for n in range(20)]
    resolver = installation.resolver(*resources)

    async def all_fail(*, again: bool = False) -> None:
        refs = [SecretRef("default", each.id.name, "password") for each in resources]
        await resolver.prepare(refs, again=again)
        for ref in refs:
            with pytest.raises(SecretUnavailable) as caught:
                resolver.read(ref)
            assert caught.value.code == "RC4082"
            assert "Integration/aws" in caught.value.message
            assert f"Secret/{ref.name} key 'password'" in caught.value.message

    await all_fail()
    assert len(installation.sent()) == 1
    await all_fail()
    assert installation.sent() == []
    installation.now += 1
    await all_fail(again=True)
    assert len(installation.sent()) == 1
    installation.now += 61
    await all_fail()
    assert len(installation.sent()) == 1
    assert len(installation.refusals) == 3
    cloud.put(keys={KEY_ID: {"active": True}}, users={USER: {"policies": [allow(*READS)]}})
    installation.now += 61
    await resolver.prepare([SecretRef("default", each.id.name, "password") for each in resources])
    assert resolver.read(SecretRef("default", "s19", "password")).reveal() == "hunter2"


async def test_a_key_that_is_revoked_later_is_also_refused_once(cloud: Cloud) -> None:
    cloud.put(users={USER: {"policies": [allow(*READS)]}})
    installation = Installation(cloud, access_key())
    resources = [secret(f"s{n}", password=DATA["password"]) for n in range(10)]
    resolver = installation.resolver(*resources)
    refs = [SecretRef("default", each.id.name, "password") for each in resources]
    await resolver.prepare(refs)
    cloud.put(keys={KEY_ID: {"active": False}})
    installation.sent()
    installation.now += 61
    await resolver.prepare(refs)
    assert len(installation.sent()) == 1
    assert resolver.remote is not None
    assert {cast("Any", resolver.remote.problem(each)).code for each in resources} == {"RC4082"}


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        ({"status": 400, "body": {"__type": "ThrottlingException", "message": "Rate exceeded"}}, "RC4300", "limits the rate"),
        ({"status": 429, "headers": {"retry-after": "300"}, "body": ""}, "RC4300", "429"),
        ({"status": 500, "body": {"__type": "InternalServiceError"}}, "RC4080", "InternalServiceError"),
        ({"status": 503, "body": ""}, "RC4080", "503"),
        ({"status": 403, "body": "blocked"}, "RC4080", "403"),
        ({"status": 404, "body": ""}, "RC4080", "404"),
        ({"status": 200, "body": "<html><body>Log in</body></html>"}, "RC4080", "HTML page"),
        ({"status": 200, "body": {"Name": "db"}}, "RC4080", "VersionId"),
        ({"effect": "malformed"}, "RC4080", "JSON"),
        ({"effect": "reset"}, "RC4080", ""),
        (
            {"status": 400, "body": {"__type": "InvalidSignatureException", "message": "Signature expired: x"}},
            "RC4082",
            "signature",
        ),
        ({"status": 400, "body": {"__type": "ExpiredTokenException"}}, "RC4082", "session has ended"),
    ],
)
async def test_each_failure_of_a_store_is_its_own_and_takes_the_values_away(
    installation: Installation, fault: dict[str, Any], code: str, text: str
) -> None:
    if code == "RC4082" and installation.auth["use"] == "oidc":
        pytest.skip("the fault would also answer in place of the token service")
    resolver = installation.resolver(secret(password=DATA["password"]), secret("t", password=DATA["password"]))
    assert await installation.read(resolver) == "hunter2"
    installation.cloud.server.admin.fault(times=0, **fault)
    installation.now += 61
    installation.sent()
    error = await installation.error(resolver, again=False)
    assert (error.code, text in error.message, "Secret/s key 'password'" in error.message) == (code, True, True), error.message
    assert len(installation.sent()) <= (2 if "VersionId" in text else 1)  # a description may lack versions
    with pytest.raises(SecretUnavailable):
        await installation.read(resolver, name="t")
    assert installation.sent() == []
    installation.cloud.server.admin.clear_faults()
    if "headers" in fault:
        installation.now += 1
        await installation.error(resolver, again=True)  # the store has named a time
        assert installation.sent() == []
        installation.now += 240
    installation.now += 61
    assert await installation.read(resolver) == "hunter2"


async def test_a_session_that_was_revoked_is_opened_again(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.drivers.aws.sts.RETRY_AFTER_S", 0.0)  # the session is not a new one
    installation = Installation(cloud, oidc())
    resolver = installation.resolver()
    await installation.read(resolver)
    cloud.server.admin.do("revoke_sessions")
    installation.sent()
    installation.now += 61
    assert await installation.read(resolver) == "hunter2"
    assert installation.sent() == ["DescribeSecret", "sts", "DescribeSecret", "GetParameter"]


async def test_many_readers_share_one_read(installation: Installation) -> None:
    resolver = installation.resolver(secret(password=DATA["password"]))
    assert set(await asyncio.gather(*(installation.read(resolver) for _ in range(50)))) == {"hunter2"}
    assert [each for each in installation.sent() if each != "sts"] == ["GetSecretValue"]


async def test_a_secret_that_is_marked_for_deletion_is_not_used_any_more(installation: Installation) -> None:
    resolver = installation.resolver(secret(password=DATA["password"]))
    assert await installation.read(resolver) == "hunter2"
    installation.cloud.put(secrets={DB: {"deleted_at": 1_700_000_000}})
    installation.now += 61
    assert "is marked for deletion" in (await installation.error(resolver, again=False)).message
    installation.cloud.put(secrets={DB: {"deleted_at": 0}})
    installation.now += 61
    assert await installation.read(resolver) == "hunter2"


async def test_a_failure_right_after_a_success_is_not_repeated_by_the_other_secrets(installation: Installation) -> None:
    resources = [secret(name, password=DATA["password"]) for name in "abc"]
    resolver = installation.resolver(*resources)
    assert await installation.read(resolver, name="a") == "hunter2"
    installation.sent()
    installation.cloud.server.admin.fault(times=0, status=503, body="")
    installation.now += 1
    for name in "bc":
        with pytest.raises(SecretUnavailable):
            await installation.read(resolver, name=name)
    assert installation.sent() == ["GetSecretValue"]
    assert await installation.read(resolver, name="a") == "hunter2"
