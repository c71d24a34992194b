"""The ID token of the real daemon, exchanged by the SDK of AWS: the simulator reads the daemon's published keys."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from reconciler.sandbox.aws.app import Aws
from reconciler.sandbox.aws.records import ACCOUNT, REGION
from reconciler.sandbox.server import SandboxServer
from tests.aws.cloud import READS, document, role
from tests.support.issuing import Issuer

PROVIDER = f"arn:aws:iam::{ACCOUNT}:oidc-provider/daemon"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/web"
SUBJECT = "reconciler:acme:default:Integration:cloud"


def clients(url: str, **credentials: Any) -> tuple[Any, ...]:
    names = ("sts", "secretsmanager", "ssm")
    return tuple(boto3.client(name, REGION, endpoint_url=url, **credentials) for name in names)


def trusting(issuer: str) -> dict[str, Any]:
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": PROVIDER},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {f"{issuer}:aud": "sts.amazonaws.com", f"{issuer}:sub": SUBJECT}},
    }
    return {
        "roles": {ROLE: role(document(statement), *READS)},
        "providers": {PROVIDER: {"url": issuer, "client_ids": ["sts.amazonaws.com"]}},
    }


@pytest.mark.slow
def test_the_sdk_exchanges_the_token_of_the_daemon_until_its_key_is_revoked(tmp_path: Path) -> None:
    daemon = Issuer(tmp_path, path="/tenants/acme")
    with SandboxServer(Aws()) as server, contextlib.ExitStack() as stack:
        daemon.start()
        stack.callback(daemon.stop)
        server.admin.put_state(trusting(daemon.issuer))
        token = daemon.token()
        anyone = clients(server.url, aws_access_key_id="x", aws_secret_access_key="x")
        call = {"RoleArn": ROLE, "RoleSessionName": "sdk", "WebIdentityToken": token}
        answer = anyone[0].assume_role_with_web_identity(**call)
        assert (answer["SubjectFromWebIdentityToken"], answer["Audience"]) == (SUBJECT, "sts.amazonaws.com")
        opened = answer["Credentials"]
        sts, manager, systems = own = clients(
            server.url,
            aws_access_key_id=opened["AccessKeyId"],
            aws_secret_access_key=opened["SecretAccessKey"],
            aws_session_token=opened["SessionToken"],
        )
        for each in (*anyone, *own):
            stack.callback(each.close)
        assert sts.get_caller_identity()["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/web/sdk"
        assert manager.get_secret_value(SecretId="ci/app")["SecretString"] == '{"password":"sandbox"}'
        assert systems.get_parameter(Name="/ci/token", WithDecryption=True)["Parameter"]["Value"] == "sandbox"
        with pytest.raises(ClientError, match="Incorrect token audience"):
            anyone[0].assume_role_with_web_identity(**call | {"WebIdentityToken": daemon.token("--audience", "other")})
        daemon.must("oidc", "rotate", "--emergency", "--yes")
        assert anyone[0].assume_role_with_web_identity(**call | {"WebIdentityToken": daemon.token()})
        with pytest.raises(ClientError, match="verification key"):
            anyone[0].assume_role_with_web_identity(**call)
