"""A simulated Azure, our issuer, and the driver between them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.drivers.auth import TokenCache
from reconciler.drivers.azure.driver import driver
from reconciler.drivers.http.budget import Budget
from reconciler.drivers.http.client import ApiClient, HttpSession
from reconciler.model.secrets import SecretValue
from reconciler.model.status import CredentialReport
from reconciler.sandbox.azure.app import CLIENT, SECRET, SUBSCRIPTION, TENANT, Azure
from reconciler.sandbox.server import SandboxServer
from tests.support.authentication import auth_context
from tests.support.driving import resource, session
from tests.support.relying import ISSUER, Issuing, issuing

AUDIENCE = "api://AzureADTokenExchange"
SUBJECT = "reconciler:team-a:default:Integration:azure"
FEDERATED = {"name": "reconciler", "issuer": ISSUER, "subject": SUBJECT, "audiences": [AUDIENCE]}


@dataclasses.dataclass
class Directory:
    """The simulator and one integration of it. ``now`` is added to the clock of this host."""

    server: SandboxServer
    session: HttpSession
    issuing: Issuing
    secret: str = SECRET
    ahead_s: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = TokenCache(self.clock)
        self.put(federated=[FEDERATED])
        self.server.admin.put_state({"issuers": {ISSUER: self.issuing.url}})

    def clock(self) -> float:
        return time.time() + self.ahead_s

    def put(self, **fields: Any) -> None:
        """Change the application."""
        self.server.admin.put_state({"applications": {CLIENT: fields}})

    def client(self, use: str = "client-secret", **block: str) -> ApiClient:
        ids = {"tenantId": TENANT, "clientId": CLIENT, "subscriptionId": SUBSCRIPTION}
        secret = {"secret": {"valueFrom": {"secret": {"name": "azure", "key": "secret"}}}}
        auth = {"use": use, "clientSecret": {**ids, **secret, **block}}
        if use == "oidc":
            auth = {"use": use, "oidc": {**ids, "audience": AUDIENCE, **block}}
        declared = resource("Integration", "azure", {"type": "azure", "apiUrl": self.server.url, "auth": auth}, secrets=["azure"])
        connection = driver.connect(declared, declared.secret_refs("/auth"))
        context = auth_context(
            lambda _ref: SecretValue(self.secret),
            session=self.session,
            id_token=self.issuing.issuer,
            clock=self.clock,
            tokens=self.tokens,
        )
        budget = Budget(connection.credential_id, driver.limits, store=None, clock=time.time)
        signer = driver.authenticator(connection, context)
        return ApiClient(connection, driver, signer, session=self.session, budget=budget, clock=time.time)

    async def check(self, use: str = "client-secret", **block: str) -> CredentialReport:
        return await driver.check(self.client(use, **block), {})

    def sent(self, path: str = "/oauth2/v2.0/token") -> list[dict[str, Any]]:
        return [row for row in self.server.admin.requests() if path in row["path"]]


@pytest.fixture
def directory(session: HttpSession) -> Iterator[Directory]:
    with SandboxServer(Azure()) as server, issuing() as issuer:
        yield Directory(server, session, issuer)


__all__ = ["session"]
