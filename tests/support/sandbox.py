"""Simulators over real HTTP, and clients of drivers against them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from reconciler.drivers.base import Driver
from reconciler.drivers.connection import Connection
from reconciler.drivers.http.budget import UNLIMITED, Budget
from reconciler.drivers.http.client import ApiClient, HttpSession
from reconciler.model.resources import Resource, SecretRef
from reconciler.model.secrets import SecretValue
from reconciler.sandbox.server import SandboxServer
from tests.support.authentication import auth_context

LOOPBACK = ("127.0.0.1",)


class SimulatorClient:
    """A client that checks the status of every answer and keeps the last one."""

    def __init__(self, server: SandboxServer, authorization: str, root: str = "") -> None:
        self.server, self.admin = server, server.admin
        self.http = httpx.Client(base_url=server.url + root, trust_env=False, headers={"authorization": authorization})
        self.last: httpx.Response

    def __call__(self, method: str, path: str, body: Any = None, *, status: int = 200, **options: Any) -> Any:
        """Return the decoded JSON, whatever type the answer declares, else its text; None for an empty answer."""
        self.last = self.http.request(method, path, json=body, **options)
        assert self.last.status_code == status, (self.last.status_code, self.last.text)
        try:
            return self.last.json()
        except ValueError:
            return self.last.text or None


@asynccontextmanager
async def client(
    driver: Driver,
    connection: Connection,
    secret: str | Callable[[], str],
    *,
    read_only: bool = False,
    limits: Any = UNLIMITED,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[ApiClient]:
    """An `ApiClient` with the driver's own authenticator; ``secret`` is what every secret reads as."""

    def read(_ref: SecretRef) -> SecretValue:
        return SecretValue(secret if isinstance(secret, str) else secret())

    async with HttpSession(allow=LOOPBACK) as session:
        budget = Budget(connection.credential_id, limits, store=None, clock=clock)
        authenticator = driver.authenticator(connection, auth_context(read, session=session, clock=clock))
        yield ApiClient(connection, driver, authenticator, session=session, budget=budget, clock=clock, read_only=read_only)


def connected(driver: Driver, resource: Resource, url: str, secrets: Mapping[str, SecretRef]) -> Connection:
    """The connection of ``resource``, with its requests sent to ``url``."""
    import dataclasses

    moved = dataclasses.replace(resource, spec={**resource.spec, "apiUrl": url})
    return driver.connect(moved, secrets)
