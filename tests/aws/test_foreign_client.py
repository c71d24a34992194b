"""The simulator of AWS is believable: the SDK of AWS signs for it, gets sessions and values from it, and reads its refusals."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from reconciler.sandbox.aws.records import ACCOUNT, KEY_ID, REGION, ROLE, SECRET, USER
from reconciler.sandbox.server import SandboxServer
from tests.aws.cloud import (
    AUDIENCE,
    CHAINED,
    DB,
    EXTERNAL,
    HOST,
    PROVIDER,
    SUBJECT,
    TOKEN,
    WEB_ROLE,
    allow,
    document,
    simulated,
    web_trust,
)
from tests.support.relying import ISSUER, Issuing


class Sdk:
    """Clients of boto3 for the simulator."""

    def __init__(self, server: SandboxServer, issuer: Issuing) -> None:
        self.server, self.issuer, self._open = server, issuer, []

    _open: list[Any]

    def client(
        self, service: str, key: str = KEY_ID, secret: str = SECRET, token: str | None = None, region: str = REGION
    ) -> Any:
        made = boto3.client(
            service,
            region,
            endpoint_url=self.server.url,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            aws_session_token=token,
            config=Config(retries={"total_max_attempts": 1}),
        )
        self._open.append(made)
        return made

    def assumed(self, credentials: dict[str, Any], service: str = "sts") -> Any:
        return self.client(service, credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])

    def web(self, token: str = "", **fields: Any) -> dict[str, Any]:
        token = token or self.issuer.token(sub=SUBJECT, aud=AUDIENCE)
        call = {"RoleArn": WEB_ROLE, "RoleSessionName": "sdk", "WebIdentityToken": token, **fields}
        answer: dict[str, Any] = self.client("sts").assume_role_with_web_identity(**call)
        return answer

    def close(self) -> None:
        for each in self._open:
            each.close()


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[SandboxServer, Issuing]]:
    with simulated() as both:
        yield both


@pytest.fixture
def sdk(server: tuple[SandboxServer, Issuing]) -> Iterator[Sdk]:
    made = Sdk(*server)
    before = made.server.admin.state()
    yield made
    made.server.admin.put_state(before, replace=True)
    made.server.admin.settings(clock_skew_s=0.0, rate_limits=False, endpoint_region="", clock_error="SignatureDoesNotMatch")
    made.close()


@contextmanager
def refused(code: str, text: str = "") -> Iterator[None]:
    with pytest.raises(ClientError) as caught:
        yield
    error = caught.value.response["Error"]
    assert (error["Code"], text in error.get("Message", "")) == (code, True), error


def test_a_key_a_role_and_a_chain_say_who_they_are(sdk: Sdk) -> None:
    sts = sdk.client("sts")
    assert sts.get_caller_identity()["Arn"] == USER
    first = sts.assume_role(RoleArn=ROLE, RoleSessionName="one", DurationSeconds=900)
    assert first["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/deploy/one"
    left = first["Credentials"]["Expiration"] - datetime.datetime.now(datetime.UTC)
    assert 890 < left.total_seconds() < 910
    assert sdk.assumed(first["Credentials"]).get_caller_identity()["Account"] == ACCOUNT
    web = sdk.web()
    assert (web["SubjectFromWebIdentityToken"], web["Provider"], web["Audience"]) == (SUBJECT, PROVIDER, AUDIENCE)
    second = sdk.assumed(web["Credentials"]).assume_role(RoleArn=CHAINED, RoleSessionName="two")
    assert sdk.assumed(second["Credentials"]).get_caller_identity()["Arn"].endswith("assumed-role/target/two")


def test_the_default_chain_of_the_sdk_exchanges_a_token_in_a_file(
    sdk: Sdk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text(sdk.issuer.token(sub=SUBJECT, aud=AUDIENCE))
    for name, value in {
        "AWS_ENDPOINT_URL": sdk.server.url,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(file),
        "AWS_ROLE_ARN": WEB_ROLE,
        "AWS_ROLE_SESSION_NAME": "file",
        "AWS_DEFAULT_REGION": REGION,
    }.items():
        monkeypatch.setenv(name, value)
    manager = boto3.session.Session().client("secretsmanager")
    assert manager.get_secret_value(SecretId="db")["SecretString"] == '{"password":"hunter2"}'
    manager.close()


@pytest.mark.parametrize(
    ("claims", "code", "text"),
    [
        ({"aud": "other"}, "InvalidIdentityToken", "Incorrect token audience"),
        ({"iss": f"{ISSUER}/"}, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for"),
        ({"sub": "another"}, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"),
        ({"sub": None}, "InvalidIdentityToken", "Missing a required claim: sub"),
        ({"exp": 1_000_000_000}, "ExpiredTokenException", "Token expired"),
        ({"exp": 4_000_000_600, "nbf": 4_000_000_000, "iat": 4_000_000_000}, "InvalidIdentityToken", "not valid yet"),
        ({"azp": "other"}, "InvalidIdentityToken", "Incorrect token audience"),
        ("foreign", "InvalidIdentityToken", "verification key"),
        ("text", "InvalidIdentityToken", "not a valid JWT"),
    ],
)
def test_each_wrong_token_is_refused_in_the_words_of_aws(sdk: Sdk, claims: dict[str, Any] | str, code: str, text: str) -> None:
    good = {"sub": SUBJECT, "aud": AUDIENCE}
    made = {"foreign": lambda: sdk.issuer.foreign(**good), "text": lambda: "no.token"}
    token = made[claims]() if isinstance(claims, str) else sdk.issuer.token(**{**good, **claims})
    with refused(code, text):
        sdk.web(token)


def test_audiences_in_a_list_and_a_missing_role_or_key_set(sdk: Sdk) -> None:
    assert sdk.web(sdk.issuer.token(sub=SUBJECT, aud=["x", AUDIENCE]))["Audience"] == AUDIENCE
    with refused("AccessDenied", "Not authorized"):
        sdk.web(RoleArn=f"arn:aws:iam::{ACCOUNT}:role/nothing")
    with refused("InvalidIdentityToken", "No OpenIDConnect provider"):
        sdk.web(RoleArn="arn:aws:iam::999999999999:role/web")
    sdk.issuer.published = False
    with refused("InvalidIdentityToken", "verification key"):
        sdk.web()
    sdk.issuer.published = True
    trust = web_trust()
    trust["Statement"][0]["Condition"] = {"StringLike": {f"{HOST}:sub": "reconciler:team-a:*"}}
    sdk.server.admin.put_state({"roles": {WEB_ROLE: {"trust": trust}}})
    assert sdk.web(sdk.issuer.token(sub="reconciler:team-a:else", aud=AUDIENCE))
    with refused("AccessDenied"):
        sdk.web(sdk.issuer.token(sub="reconciler:team-b:else", aud=AUDIENCE))


def test_roles_keys_and_durations_are_judged(sdk: Sdk) -> None:
    sts = sdk.client("sts")
    with refused("AccessDenied", f"User: {USER} is not authorized to perform: sts:AssumeRole on resource: {EXTERNAL}"):
        sts.assume_role(RoleArn=EXTERNAL, RoleSessionName="one")
    with refused("AccessDenied"):
        sts.assume_role(RoleArn=EXTERNAL, RoleSessionName="one", ExternalId="x-2")
    assert sts.assume_role(RoleArn=EXTERNAL, RoleSessionName="one", ExternalId="x-1")
    with refused("AccessDenied"):
        sts.assume_role(RoleArn=WEB_ROLE, RoleSessionName="one")
    with refused("ValidationError", "MaxSessionDuration"):
        sts.assume_role(RoleArn=ROLE, RoleSessionName="one", DurationSeconds=7200)
    with refused("ValidationError", "43200"):
        sts.assume_role(RoleArn=ROLE, RoleSessionName="one", DurationSeconds=50_000)
    with refused("ValidationError", "Policy is not part of this simulator"):
        sts.assume_role(RoleArn=ROLE, RoleSessionName="one", Policy="{}")
    with refused("ValidationError", "regular expression"):
        sts.assume_role(RoleArn=ROLE, RoleSessionName="a b")
    chained = sdk.assumed(sdk.web()["Credentials"])
    with refused("ValidationError", "role chaining"):
        chained.assume_role(RoleArn=CHAINED, RoleSessionName="two", DurationSeconds=3601)
    with refused("InvalidClientTokenId"):
        sdk.client("sts", key="AKIA" + "Z" * 16).get_caller_identity()
    with refused("SignatureDoesNotMatch", "does not match the signature you provided"):
        sdk.client("sts", secret="wrong").get_caller_identity()
    credentials = sdk.web()["Credentials"]
    with refused("InvalidClientTokenId"):
        sdk.client("sts", credentials["AccessKeyId"], credentials["SecretAccessKey"]).get_caller_identity()
    sdk.server.admin.put_state({"keys": {KEY_ID: {"active": False}}})
    with refused("InvalidClientTokenId"):
        sts.get_caller_identity()


def test_a_deny_wins_and_a_condition_that_is_not_known_is_not_skipped(sdk: Sdk) -> None:
    deny = {"Effect": "Deny", "Action": "secretsmanager:*", "Resource": DB}
    sdk.server.admin.put_state({"users": {USER: {"policies": [allow("*"), document(deny)]}}})
    with refused("AccessDeniedException", "secretsmanager:GetSecretValue"):
        sdk.client("secretsmanager").get_secret_value(SecretId="db")
    trust = document(
        {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:*"},
        {"Effect": "Deny", "Principal": {"AWS": USER}, "Action": "sts:AssumeRole"},
    )
    sdk.server.admin.put_state({"users": {USER: {"policies": [allow("*")]}}, "roles": {ROLE: {"trust": trust}}})
    with refused("AccessDenied"):
        sdk.client("sts").assume_role(RoleArn=ROLE, RoleSessionName="one")
    trust["Statement"].pop()
    sdk.server.admin.put_state({"roles": {ROLE: {"trust": trust}}})
    assert sdk.client("sts").assume_role(RoleArn=ROLE, RoleSessionName="one")  # the account is trusted, and the policy allows it
    trust = web_trust()
    trust["Statement"].append({**trust["Statement"][0], "Effect": "Deny", "Condition": {"StringLike": {f"{HOST}:sub": "*"}}})
    sdk.server.admin.put_state({"roles": {WEB_ROLE: {"trust": trust}}})
    with refused("AccessDenied"):
        sdk.web()
    trust = web_trust()
    trust["Statement"][0]["Condition"] = {"NumericLessThan": {"aws:x": "1"}}
    with pytest.raises(RuntimeError):
        sdk.server.admin.put_state({"roles": {WEB_ROLE: {"trust": trust}}})


@pytest.mark.parametrize(("skew_s", "text"), [(1200.0, "Signature expired"), (-1200.0, "Signature not yet current")])
def test_times_that_are_off_by_more_than_15_minutes_are_refused(sdk: Sdk, skew_s: float, text: str) -> None:
    with patch("botocore.endpoint.Endpoint._needs_retry", return_value=False):
        for small in (600.0, -600.0):
            sdk.server.admin.settings(clock_skew_s=small)
            assert sdk.client("sts").get_caller_identity()["Arn"] == USER
        sdk.server.admin.settings(clock_skew_s=skew_s)
        with refused("SignatureDoesNotMatch", text):
            sdk.client("sts").get_caller_identity()
        with refused("InvalidSignatureException", text):
            sdk.client("ssm").get_parameter(Name="/app/token")


def test_sessions_end_and_regions_and_rates_are_limited(sdk: Sdk) -> None:
    credentials = sdk.web(DurationSeconds=900)["Credentials"]
    sdk.server.admin.settings(clock_skew_s=901.0)
    with refused("ExpiredToken", "is expired"):
        sdk.assumed(credentials).get_caller_identity()
    sdk.server.admin.settings(clock_skew_s=0.0, endpoint_region="eu-central-1")
    with refused("SignatureDoesNotMatch", "valid region"):
        sdk.client("sts").get_caller_identity()
    assert sdk.client("sts", region="eu-central-1").get_caller_identity()
    sdk.server.admin.settings(endpoint_region="", rate_limits=True, calls_per_second=1)
    sts, ssm = sdk.client("sts"), sdk.client("ssm")
    with refused("Throttling", "Rate exceeded"):
        for _ in range(20):
            sts.get_caller_identity()
    with refused("ThrottlingException"):
        for _ in range(20):
            ssm.get_parameter(Name="/app/token")


def test_values_are_read_with_their_versions(sdk: Sdk) -> None:
    manager, systems = sdk.client("secretsmanager"), sdk.client("ssm")
    described = manager.describe_secret(SecretId="db")
    assert described["VersionIdsToStages"] == {"v1": ["AWSCURRENT"]}
    assert manager.get_secret_value(SecretId=DB)["VersionId"] == "v1"
    sdk.server.admin.do("put_secret", arn=DB, text="next")
    assert manager.get_secret_value(SecretId="db")["SecretString"] == "next"
    assert manager.get_secret_value(SecretId="db", VersionStage="AWSPREVIOUS")["VersionId"] == "v1"
    shut, opened = (systems.get_parameter(Name="/app/token", WithDecryption=each)["Parameter"] for each in (False, True))
    assert (opened["Value"], opened["Version"], shut["Value"] == opened["Value"]) == ("s3cr3t", 1, False)
    found = systems.get_parameters(Names=["/app/token", "/none"], WithDecryption=True)
    assert ([row["Value"] for row in found["Parameters"]], found["InvalidParameters"]) == (["s3cr3t"], ["/none"])
    sdk.server.admin.do("put_parameter", arn=TOKEN, value="newer")
    assert systems.get_parameter(Name="/app/token", WithDecryption=True)["Parameter"]["Version"] == 2
    assert systems.get_parameter(Name="/app/token:1", WithDecryption=True)["Parameter"]["Value"] == "s3cr3t"


def test_values_that_may_not_be_read_are_refused(sdk: Sdk) -> None:
    manager, systems = sdk.client("secretsmanager"), sdk.client("ssm")
    with refused("ResourceNotFoundException"):
        manager.get_secret_value(SecretId="nothing")
    with refused("ParameterNotFound"):
        systems.get_parameter(Name="/nothing")
    with refused("ParameterVersionNotFound"):
        systems.get_parameter(Name="/app/token:9")
    with refused("ResourceNotFoundException"):
        sdk.client("secretsmanager", region="eu-central-1").get_secret_value(SecretId="db")
    key = "arn:aws:kms:us-east-1:123456789012:key/1"
    sdk.server.admin.put_state({"secrets": {DB: {"key": key}}, "parameters": {TOKEN: {"key": key}}})
    with refused("AccessDeniedException", "KMS"):
        manager.get_secret_value(SecretId="db")
    with refused("AccessDeniedException", "kms:Decrypt"):
        systems.get_parameter(Name="/app/token", WithDecryption=True)
    sdk.server.admin.put_state(
        {"secrets": {DB: {"deleted_at": 1_700_000_000.0}}, "users": {USER: {"policies": [allow("ssm:*")]}}}
    )
    with refused("AccessDeniedException", "secretsmanager:DescribeSecret"):
        manager.describe_secret(SecretId="db")
    sdk.server.admin.put_state({"users": {USER: {"policies": [allow("*")]}}})
    with refused("InvalidRequestException", "marked for deletion"):
        manager.get_secret_value(SecretId="db")
    assert "DeletedDate" in manager.describe_secret(SecretId="db")
