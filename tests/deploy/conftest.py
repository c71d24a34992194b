from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.sandbox.server import SandboxServer, simulator
from tests.deploy.test_containers import GITHUB_TOKEN


@pytest.fixture
def github() -> Iterator[SandboxServer]:
    with SandboxServer(simulator("github")) as server:
        first = next(iter(server.admin.state()["tokens"].values()))
        server.admin.put_state({"tokens": {GITHUB_TOKEN: first}, "repos": {"your-organization/your-repository": {}}})
        yield server
