"""A simulated Google Cloud, our issuer, and the driver between them."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.drivers.auth import TokenCache
from reconciler.drivers.google.driver import driver
from reconciler.drivers.http.budget import Budget
from reconciler.drivers.http.client import ApiClient, HttpSession
from reconciler.model.secrets import SecretValue
from reconciler.model.status import CredentialReport
from reconciler.sandbox.google.app import ACCOUNT, PROVIDER, Google
from reconciler.sandbox.server import SandboxServer
from tests.support.authentication import auth_context
from tests.support.driving import resource, session
from tests.support.relying import ISSUER, Issuing, issuing

AUDIENCE = f"//iam.googleapis.com/{PROVIDER}"
SUBJECT = "reconciler:team-a:default:Integration:google"
PRINCIPAL = f"principal://iam.googleapis.com/{PROVIDER.partition('/providers/')[0]}/subject/{SUBJECT}"
TRUST = {"issuer": ISSUER, "allowedAudiences": [AUDIENCE], "attributeCondition": f"assertion.sub == '{SUBJECT}'"}


@dataclasses.dataclass
class Cloud:
    """The simulator and one integration of it. ``ahead_s`` is added to the clock of this host."""

    server: SandboxServer
    session: HttpSession
    issuing: Issuing
    ahead_s: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = TokenCache(self.clock)
        self.key: dict[str, Any] = self.server.admin.do("create_key")
        self.server.admin.put_state(
            {"issuers": {ISSUER: self.issuing.url}, "providers": {PROVIDER: TRUST}, "accounts": {ACCOUNT: {"users": [PRINCIPAL]}}}
        )

    def clock(self) -> float:
        return time.time() + self.ahead_s

    def trust(self, **fields: Any) -> None:
        """Change the workload identity provider."""
        self.server.admin.put_state({"providers": {PROVIDER: fields}})

    def change_key(self, **fields: Any) -> None:
        """Change the key at Google."""
        self.server.admin.put_state({"accounts": {ACCOUNT: {"keys": {self.key["private_key_id"]: fields}}}})

    def client(self, use: str = "service-account-key", **block: str) -> ApiClient:
        auth: dict[str, Any] = {"use": use, "serviceAccountKey": {"valueFrom": {"secret": {"name": "google", "key": "key"}}}}
        if use == "oidc":
            auth = {"use": use, "oidc": {"audience": AUDIENCE, "workloadIdentityProvider": PROVIDER, **block}}
        declared = resource(
            "Integration", "google", {"type": "google", "apiUrl": self.server.url, "auth": auth}, secrets=["google"]
        )
        connection = driver.connect(declared, declared.secret_refs("/auth"))
        context = auth_context(
            lambda _ref: SecretValue(json.dumps(self.key)),
            session=self.session,
            id_token=self.issuing.issuer,
            clock=self.clock,
            tokens=self.tokens,
        )
        budget = Budget(connection.credential_id, driver.limits, store=None, clock=time.time)
        signer = driver.authenticator(connection, context)
        return ApiClient(connection, driver, signer, session=self.session, budget=budget, clock=time.time)

    async def check(self, use: str = "service-account-key", **block: str) -> CredentialReport:
        return await driver.check(self.client(use, **block), {})

    def sent(self, path: str = "/token") -> list[dict[str, Any]]:
        return [row for row in self.server.admin.requests() if row["path"].endswith(path)]


@pytest.fixture
def cloud(session: HttpSession) -> Iterator[Cloud]:
    with SandboxServer(Google()) as server, issuing() as issuer:
        yield Cloud(server, session, issuer)


__all__ = ["session"]
