"""The driver, a simulated organization over HTTP on loopback, and every exchange held against the documented shapes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.drivers.http.client import HttpSession
from reconciler.drivers.semaphore.driver import driver
from reconciler.model.resources import Resource
from reconciler.sandbox.semaphore.app import TOKEN, Semaphore
from reconciler.sandbox.server import SandboxServer
from tests.semaphore.simulator import Hands
from tests.support.driving import Contract, World, client, integration, resource, session
from tests.support.receiving import receiver


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    app = Semaphore()
    contract = Contract("semaphore", app)
    with SandboxServer(app) as running:
        yield running
    contract.check()


@pytest.fixture
def hands(server: SandboxServer) -> Iterator[Hands]:
    opened = Hands(server)
    with opened.http:
        yield opened


@pytest.fixture
def world(server: SandboxServer, session: HttpSession) -> World:
    values = {"credentials/token": TOKEN}
    declared = integration("semaphore", "https://acme.semaphoreci.com", server.url)
    connection = driver.connect(declared, declared.secret_refs("/auth"))
    return World(driver, client(driver, connection, session, values), values)


@pytest.fixture
def source() -> Resource:
    return resource(
        "EventSource", "pipelines", {"integration": {"name": "semaphore"}, "resource": {"type": "project", "name": "payments"}}
    )


__all__ = ["receiver", "session"]
