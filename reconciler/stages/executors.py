"""How a stage reaches what it runs: its executor, and a client for its integration or, for `http`, for the URL's own host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.drivers.base import Executor, Reporter
from reconciler.drivers.builtin import WebDriver, connection_to
from reconciler.drivers.builtin.executor import Evaluate, require_written_out
from reconciler.drivers.http.client import ApiClient
from reconciler.drivers.registry import driver_for
from reconciler.engine.connections import Client
from reconciler.engine.controller import Controller
from reconciler.model.errors import NotImplementedYet
from reconciler.model.executions import Execution, RunIntent
from reconciler.model.resources import Resource, ResourceId

LOCAL = frozenset({"http", "noop"})
"""Executors without an integration; the `web` driver has them."""


_NOBODY = "https://localhost"


def intent_of(execution: Execution, stage: Resource, spec: Mapping[str, Any]) -> RunIntent:
    """Return what an executor is asked about ``execution`` of ``stage``; ``spec`` is ``executor.spec`` as far as it is resolved."""
    executor = stage.spec["executor"]
    return RunIntent(
        execution_id=execution.id,
        correlation=execution.correlation,
        type=executor["type"],
        resource=execution.resource or str(executor.get("resource", {}).get("name", "")),
        spec=spec,
        intended_at=execution.intended_at + (execution.ahead_s or 0.0),
        tries=execution.failures,
        resource_id=int(executor.get("resource", {}).get("id", 0)),
    )


class ExecutorResolver:
    """Finds executors and clients. Clients are those of the reconciling side: one budget a credential."""

    def __init__(self, engine: Controller, holds: Evaluate | None = None) -> None:
        self._engine = engine
        self._local = WebDriver(holds)

    def executor(self, stage: Resource) -> Executor:
        """Return what runs a stage; raises `NotImplementedYet` for a provider that has no executor in this version."""
        kind = str(stage.spec["executor"]["type"])
        driver = self._local if kind in LOCAL else driver_for(kind)
        executor = driver.executors.get(kind) if driver is not None else None
        if executor is None:
            raise NotImplementedYet(
                f"the executor {kind!r} is not part of this version yet",
                hint="The manifest is valid; nothing is run until the driver lands.",
            )
        return executor

    async def api(self, execution: Execution, stage: Resource, spec: Mapping[str, Any]) -> ApiClient:
        """Return the client that an execution uses; raises `ReconcilerError` when there is none."""
        if execution.integration:
            return (await self.link(ResourceId.from_path(execution.integration))).api
        if stage.spec["executor"]["type"] == "noop":  # asks nobody for anything
            return await self._engine.links.local(connection_to(_NOBODY, stage.id), self._engine.secrets, hosts=("localhost",))
        url = str(spec.get("url", ""))
        require_written_out(str(stage.spec["executor"].get("spec", {}).get("url", "")), url)
        return await self._engine.links.local(connection_to(url, stage.id), self._engine.secrets)

    async def link(self, integration: ResourceId) -> Client:
        """Return the link of an integration, declared or kept in the state."""
        engine = self._engine
        stored = await engine.deps.store.connections()
        return await engine.links.link(integration, engine.live, stored, engine.secrets)

    async def reporter(self, integration: ResourceId) -> tuple[Reporter, ApiClient]:
        """Return who writes results back, with its client."""
        link = await self.link(integration)
        if link.driver.reporter is None:
            raise NotImplementedYet(f"{integration} is no code host that results are written to")
        return link.driver.reporter, link.api
