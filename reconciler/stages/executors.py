"""Executors of stages, and their clients: of the Integration or, for `http`, of the host of the URL."""

from __future__ import annotations

from reconciler.drivers.base import Executor, Reporter
from reconciler.drivers.builtin import WebDriver, connection_to
from reconciler.drivers.builtin.executor import Evaluate
from reconciler.drivers.builtin.urls import require_written_out
from reconciler.drivers.http.client import ApiClient
from reconciler.drivers.registry import driver_for
from reconciler.engine.current import Current
from reconciler.manifests.kinds import StageSpec
from reconciler.model.errors import NotImplementedYet
from reconciler.model.executions import Execution, RunIntent
from reconciler.model.resources import Resource, ResourceId
from reconciler.model.values import JsonObject
from reconciler.stages.identity import identity_of

LOCAL = frozenset({"http", "noop"})
"""Executors without an Integration; they belong to the `web` driver."""

_NO_HOST = "https://localhost"


def intent_of(execution: Execution, stage: Resource, spec: JsonObject) -> RunIntent:
    """Return the intent to run ``execution`` of ``stage``; ``spec`` is ``executor.spec`` as far as it is resolved."""
    executor = stage.typed(StageSpec).executor
    return RunIntent(
        execution_id=execution.id,
        correlation=execution.correlation,
        type=executor.type,
        resource=execution.resource or executor.resource_name,
        spec=spec,
        intended_at=execution.intended_at + (execution.ahead_s or 0.0),
        tries=execution.failures,
        resource_id=(executor.resource.id or 0) if executor.resource is not None else 0,
    )


class ExecutorResolver:
    """Finds executors and clients. Clients are shared with reconciliation: one rate budget for each credential."""

    def __init__(self, current: Current, holds: Evaluate | None = None) -> None:
        self._current = current
        self._local = WebDriver(holds)

    def executor(self, stage: Resource) -> Executor:
        """Return the executor of a stage. Raises `NotImplementedYet` for a provider without one in this version."""
        kind = stage.typed(StageSpec).executor.type
        driver = self._local if kind in LOCAL else driver_for(kind)
        executor = driver.executors.get(kind) if driver is not None else None
        if executor is None:
            raise NotImplementedYet(
                f"the executor {kind!r} is not part of this version yet",
                hint="The manifest is valid; nothing is run until the driver lands.",
            )
        return executor

    async def api(self, execution: Execution, stage: Resource, spec: JsonObject) -> ApiClient:
        """Return the client of an execution. Raises `ReconcilerError` if there is none."""
        if execution.integration:
            return (await self._current.client(ResourceId.from_path(execution.integration))).api
        executor = stage.typed(StageSpec).executor
        if executor.type == "noop":  # sends no request
            return await self._current.local_client(connection_to(_NO_HOST, stage.id), hosts=("localhost",))
        url = str(spec.get("url", ""))
        require_written_out(str(executor.spec.get("url", "")), url)
        auth = executor.call_auth
        identity = await identity_of(self._current, stage, auth, url) if auth is not None else None
        return await self._current.local_client(connection_to(url, stage.id), identity=identity)

    async def reporter(self, integration: ResourceId) -> tuple[Reporter, ApiClient]:
        """Return the reporter of an Integration's code host, with its client. Raises `NotImplementedYet` for other providers."""
        client = await self._current.client(integration)
        if client.driver.reporter is None:
            raise NotImplementedYet(f"{integration} does not accept commit or deployment statuses")
        return client.driver.reporter, client.api
