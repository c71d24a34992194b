from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from reconciler.sandbox.server import SandboxServer, simulator
from tests.flow.inside import inside
from tests.notifications.notified import Notified


@pytest.fixture(scope="session")
def slack_server() -> Iterator[SandboxServer]:
    with SandboxServer(simulator("slack")) as server:
        yield server


@pytest.fixture(scope="session")
def pagerduty_server() -> Iterator[SandboxServer]:
    with SandboxServer(simulator("pagerduty")) as server:
        yield server


@pytest.fixture
def slack(slack_server: SandboxServer) -> Iterator[SandboxServer]:
    yield slack_server
    slack_server.admin.reset()


@pytest.fixture
def pagerduty(pagerduty_server: SandboxServer) -> Iterator[SandboxServer]:
    yield pagerduty_server
    pagerduty_server.admin.reset()


@pytest.fixture
async def notified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Notified]:
    async with contextlib.AsyncExitStack() as stack:
        made = await stack.enter_async_context(inside(tmp_path))
        yield Notified(made, monkeypatch)
