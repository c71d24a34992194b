"""The runtime that slices go through: DBOS Transact behind one small class, SQLite or PostgreSQL, same code.

State tables are the truth and the engine's tables are disposable: a slice is named by id, reads everything again and is
safe to run twice. What the runtime adds is a queue with one slice at a time for each integration, over any number of
processes, and take-over. Every workflow id carries the state's incarnation, else a restored or new state meets ids that
have already succeeded and nothing ever runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from reconciler.model.resources import ResourceId

APPLICATION_VERSION = "slices-v1"
"""Bumped only when a workflow's steps change order: other versions' workflows never run here."""
QUEUE = "reconcile"
POLL_S = 1.0
RunSlice = Callable[[ResourceId], Awaitable[None]]


@dataclass(slots=True)
class _Bridge:
    """Where workflow threads find the event loop; one per process, as DBOS itself is."""

    loop: asyncio.AbstractEventLoop | None = None
    run: RunSlice | None = None
    done: dict[str, list[Future[None]]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


_bridge = _Bridge()


def _reconcile_slice(integration: str) -> str:
    """The workflow: never ends in an error, since its id would then block that number for ever."""
    loop, run = _bridge.loop, _bridge.run
    if loop is None or run is None or loop.is_closed():
        return "stopping"
    try:
        asyncio.run_coroutine_threadsafe(_as_coroutine(run, ResourceId.from_path(integration)), loop).result()
    except Exception as error:
        return f"failed: {type(error).__name__}"
    return "done"


async def _as_coroutine(run: RunSlice, integration: ResourceId) -> None:
    await run(integration)


class Runtime:
    """The process's durable queue. `start` and `stop` are called once; `enqueue` from the event loop."""

    def __init__(self, url: str, *, incarnation: str, executor_id: str, concurrency: int = 16) -> None:
        self._url = url
        self._incarnation = incarnation
        self.executor_id = executor_id
        self._concurrency = concurrency
        self._workflow: Callable[[str], str] | None = None
        self._shared = url.startswith("postgresql")
        """Whether other processes may take slices: then, and only then, they go through the queue."""

    async def start(self, run: RunSlice) -> None:
        """Launch DBOS and listen on the queue; ``run`` reconciles one integration on this event loop."""
        _bridge.loop, _bridge.run = asyncio.get_running_loop(), run
        await asyncio.to_thread(self._launch)

    def _launch(self) -> None:
        from dbos import DBOS, DBOSConfig

        config: DBOSConfig = {
            "name": "reconciler",
            "system_database_url": self._url,
            "application_version": APPLICATION_VERSION,
            "executor_id": self.executor_id,
            "log_level": "WARNING",
            "console_log_level": "WARNING",
            "enable_otlp": False,
            "max_executor_threads": self._concurrency + 4,
        }
        if self._shared:
            config["dbos_system_schema"] = "dbos"
        DBOS(config=config)
        self._workflow = DBOS.workflow(name="reconcile_slice")(_reconcile_slice)
        DBOS.listen_queues([QUEUE])
        DBOS.launch()
        DBOS.register_queue(QUEUE, partition_concurrency=1, worker_concurrency=self._concurrency, polling_interval_sec=POLL_S)

    async def enqueue(self, integration: ResourceId, token: str) -> str:
        """Ask for a slice of ``integration``; the same ``token`` twice is one slice. Returns the workflow id."""
        return await asyncio.to_thread(self._enqueue, integration, token)

    def _enqueue(self, integration: ResourceId, token: str) -> str:
        from dbos import DBOS, SetEnqueueOptions, SetWorkflowID

        if self._workflow is None:
            raise RuntimeError("the runtime is not started")
        identity = f"slice/{self._incarnation}/{integration.path}/{token}"
        if not self._shared:
            # One process: the slice begins at once, durable all the same. One at a time for each integration is the engine's
            # own lock; the queue's poll, a second at worst, would be all that it adds.
            with SetWorkflowID(identity):
                DBOS.start_workflow(self._workflow, integration.path)
            return identity
        with SetWorkflowID(identity), SetEnqueueOptions(queue_partition_key=integration.path):
            DBOS.enqueue_workflow(QUEUE, self._workflow, integration.path)
        return identity

    async def pending(self) -> int:
        """Return how many slices are queued or running, in all processes."""
        return await asyncio.to_thread(self._pending)

    def _pending(self) -> int:
        from dbos import DBOS

        return len(DBOS.list_workflows(status=["ENQUEUED", "PENDING"], load_input=False, load_output=False))

    async def recover(self, executor_id: str) -> int:
        """Take over what a dead process left; returns how many slices. Public API only, so partitions are kept."""
        return await asyncio.to_thread(self._recover, executor_id)

    def _recover(self, executor_id: str) -> int:
        from dbos import DBOS

        left = DBOS.list_workflows(status="PENDING", executor_id=executor_id, load_input=False, load_output=False)
        for workflow in left:
            DBOS.resume_workflows([workflow.workflow_id], queue_name=workflow.queue_name)
        return len(left)

    async def prune(self, before: str) -> int:
        """Delete finished workflows older than ``before`` (RFC 3339); returns how many."""
        return await asyncio.to_thread(self._prune, before)

    def _prune(self, before: str) -> int:
        from dbos import DBOS

        old = DBOS.list_workflows(
            status=["SUCCESS", "ERROR", "CANCELLED"], end_time=before, load_input=False, load_output=False, limit=5_000
        )
        if old:
            DBOS.delete_workflows([workflow.workflow_id for workflow in old])
        return len(old)

    async def stop(self, timeout_s: int = 10) -> None:
        """Let running slices finish (bounded) and leave."""
        with contextlib.suppress(Exception):
            await asyncio.to_thread(self._destroy, timeout_s)
        _bridge.loop = _bridge.run = None

    def _destroy(self, timeout_s: int) -> None:
        from dbos import DBOS

        DBOS.destroy(workflow_completion_timeout_sec=timeout_s)


__all__: list[Any] = ["APPLICATION_VERSION", "QUEUE", "RunSlice", "Runtime"]
