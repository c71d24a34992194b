"""A simulated AWS with our issuer, and one Integration of it, as the engine makes it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from reconciler.drivers.auth import TokenCache
from reconciler.drivers.aws.driver import driver
from reconciler.drivers.http.budget import Budget
from reconciler.drivers.http.client import ApiClient, HttpSession
from reconciler.drivers.http.exchange import TokenEndpoints
from reconciler.model.secrets import SecretValue
from reconciler.model.status import CredentialReport
from reconciler.sandbox.aws.app import Aws
from reconciler.sandbox.aws.records import ACCOUNT, KEY_ID, REGION, SECRET, USER
from reconciler.sandbox.server import SandboxServer
from tests.support.authentication import auth_context
from tests.support.driving import resource
from tests.support.relying import ISSUER, Issuing, issuing

AUDIENCE = "sts.amazonaws.com"
SUBJECT = "reconciler:team-a:default:Integration:aws"
HOST = ISSUER.removeprefix("https://")
PROVIDER = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{HOST}"
WEB_ROLE = f"arn:aws:iam::{ACCOUNT}:role/web"
CHAINED = "arn:aws:iam::210987654321:role/target"
EXTERNAL = f"arn:aws:iam::{ACCOUNT}:role/external"
DB = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:db-AbCdEf"
TOKEN = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/app/token"
READS = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret", "ssm:GetParameter", "ssm:GetParameters"]


def document(*statements: Mapping[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(*actions: str, resource: str = "*") -> dict[str, Any]:
    return document({"Effect": "Allow", "Action": list(actions), "Resource": resource})


def web_trust(**condition: str) -> dict[str, Any]:
    wanted = {f"{HOST}:aud": AUDIENCE, f"{HOST}:sub": SUBJECT} | {f"{HOST}:{key}": value for key, value in condition.items()}
    return document(
        {
            "Effect": "Allow",
            "Principal": {"Federated": PROVIDER},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {"StringEquals": wanted},
        }
    )


def role(trust: Mapping[str, Any], *actions: str, **fields: Any) -> dict[str, Any]:
    return {"id": "AROA" + "T" * 16, "trust": trust, "policies": [allow(*actions)], "max_session_s": 3600, **fields}


def principal(arn: str, condition: Mapping[str, Any] | None = None) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": {"AWS": arn}, "Action": "sts:AssumeRole"}
    return document({**statement, "Condition": condition} if condition else statement)


def state(issuer: Issuing) -> dict[str, Any]:
    """Return roles, an identity provider, and values: ``db`` in Secrets Manager, ``/app/token`` in the Parameter Store."""
    secret = {
        "name": "db",
        "key": "",
        "deleted_at": 0,
        "versions": {"v1": {"text": '{"password":"hunter2"}', "stages": ["AWSCURRENT"]}},
    }
    return {
        "issuers": {ISSUER: issuer.url},
        "providers": {PROVIDER: {"url": ISSUER, "client_ids": [AUDIENCE]}},
        "roles": {
            WEB_ROLE: role(web_trust(), "sts:AssumeRole", *READS, max_session_s=7200),
            CHAINED: role(principal(WEB_ROLE), *READS, max_session_s=43200),
            EXTERNAL: role(principal(USER, {"StringEquals": {"sts:ExternalId": "x-1"}}), *READS),
        },
        "secrets": {DB: secret},
        "parameters": {
            TOKEN: {"name": "/app/token", "type": "SecureString", "key": "", "versions": {"1": "s3cr3t"}, "labels": {}}
        },
    }


def values_of(part: str) -> dict[str, Any]:
    return {"valueFrom": {"secret": {"name": "credentials", "key": part}}}


def access_key(*roles: Mapping[str, Any]) -> dict[str, Any]:
    auth: dict[str, Any] = {"use": "access-key", "accessKey": {"id": values_of("id"), "secret": values_of("secret")}}
    return {**auth, "roleAssumptions": list(roles)} if roles else auth


def oidc(*roles: Mapping[str, Any], **block: Any) -> dict[str, Any]:
    auth = {"use": "oidc", "oidc": {"audience": AUDIENCE, "roleArn": WEB_ROLE, **block}}
    return {**auth, "roleAssumptions": list(roles)} if roles else auth


class Cloud:
    """The simulator, our issuer, and this host with a clock of its own."""

    def __init__(self, server: SandboxServer, issuer: Issuing, session: HttpSession) -> None:
        self.server, self.issuing, self.session = server, issuer, session
        self.ahead_s = 0.0
        self.values = {"id": KEY_ID, "secret": SECRET}
        self.clock: Callable[[], float] = lambda: time.time() + self.ahead_s  # one function: clocks of providers belong to it
        self.tokens = TokenCache(self.clock)

    def client(self, auth: Mapping[str, Any], **spec: Any) -> ApiClient:
        declared = resource(
            "Integration",
            "aws",
            {"type": "aws", "region": REGION, "apiUrl": self.server.url, "auth": auth, **spec},
            secrets=["credentials"],
        )
        connection = driver.connect(declared, declared.secret_refs("/auth"))
        context = auth_context(
            lambda ref: SecretValue(self.values[ref.key]),
            session=self.session,
            id_token=self.issuing.issuer,
            clock=self.clock,
            tokens=self.tokens,
        )
        seen = self.session.clock_of(connection.api_url, self.clock)
        context = dataclasses.replace(context, send=TokenEndpoints(self.session, seen), provider_time=seen.now)
        budget = Budget(connection.credential_id, driver.limits, store=None, clock=self.clock)
        signer = driver.authenticator(connection, context)
        return ApiClient(connection, driver, signer, session=self.session, budget=budget, clock=self.clock)

    async def check(self, auth: Mapping[str, Any]) -> CredentialReport:
        return await driver.check(self.client(auth), {})

    def sent(self) -> list[dict[str, Any]]:
        return self.server.admin.requests()

    def put(self, **patch: Any) -> None:
        self.server.admin.put_state(patch)


@contextmanager
def simulated(clock: Callable[[], float] = time.time) -> Iterator[tuple[SandboxServer, Issuing]]:
    """Run the simulator and the documents of our issuer."""
    with SandboxServer(Aws()) as server, issuing(clock) as issuer:
        server.admin.put_state(state(issuer))
        yield server, issuer
