"""The driver, a simulated Buddy over HTTP on loopback, and every exchange held against the documented shapes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.drivers.buddy.driver import driver
from reconciler.drivers.http.client import HttpSession
from reconciler.sandbox.buddy.app import TOKEN, Buddy
from reconciler.sandbox.server import SandboxServer
from tests.buddy.simulator import Hands
from tests.support.driving import Contract, World, client, integration, session
from tests.support.receiving import receiver


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    app = Buddy()
    contract = Contract("buddy", app)
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
    values = {"credentials/token": TOKEN, **{f"keys/{name}": f"canary-{name}" for name in ("token", "a", "b")}}
    declared = integration("buddy", "https://app.buddy.works/acme", server.url)
    connection = driver.connect(declared, declared.secret_refs("/auth"))
    return World(driver, client(driver, connection, session, values), values)


__all__ = ["receiver", "session"]
