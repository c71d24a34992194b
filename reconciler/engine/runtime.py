"""The transport of work: DBOS Transact behind one small class, the same code on SQLite and PostgreSQL.

The state tables are the truth and DBOS's tables are disposable: a workflow names an integration or an execution, reads everything
again, and is safe to run twice. DBOS adds delivery to one of several processes, and take-over when a process dies. Exclusion is
the lease (`reconciler.engine.lease`), since a process that was stopped continues its workflow beside its peer. Every workflow id
contains the incarnation of the state; otherwise a restored or new state would reuse ids that have succeeded, and nothing would run.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.log import get_logger
from reconciler.model.errors import StateError
from reconciler.model.resources import ResourceId
from reconciler.state.database import database_error
from reconciler.state.files import discard_database, whole_or_gone

if TYPE_CHECKING:
    from dbos import DBOSConfig

_log = get_logger("queue")

APPLICATION_VERSION = "slices-v1"
"""Changed only when the steps of a workflow change: workflows of other versions never run here."""
QUEUE = "reconcile"
STAGES = "stages"
POLL_S = 1.0
STAGES_POLL_S = 0.2
"""Short, since an execution takes two or more consecutive steps, and each waits for a poll."""
_NOT_THE_TABLES = frozenset({"RC7002", "RC7004", "RC7005", "RC7072"})
"""Errors that new tables would not fix."""
RunSlice = Callable[[ResourceId], Awaitable[None]]
RunStep = Callable[[str], Awaitable[None]]
"""Runs one step of the execution with this id."""


@dataclass(slots=True)
class _Bridge:
    """The event loop for workflow threads; one per process, as DBOS itself."""

    loop: asyncio.AbstractEventLoop | None = None
    run: RunSlice | None = None
    step: RunStep | None = None
    done: dict[str, list[Future[None]]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


_bridge = _Bridge()


def _reconcile_slice(integration: str) -> str:
    """The workflow of one reconcile. It never ends in an error, since its id would then never run again."""
    loop, run = _bridge.loop, _bridge.run
    if loop is None or run is None or loop.is_closed():
        return "stopping"
    try:
        asyncio.run_coroutine_threadsafe(_as_coroutine(run, ResourceId.from_path(integration)), loop).result()
    except Exception as error:  # noqa: BLE001  the workflow records it, and the next pass tries again
        return f"failed: {type(error).__name__}"
    return "done"


def _stage_step(execution_id: str) -> str:
    """The workflow of one step of an execution; it never ends in an error either."""
    loop, step = _bridge.loop, _bridge.step
    if loop is None or step is None or loop.is_closed():
        return "stopping"
    try:
        asyncio.run_coroutine_threadsafe(_as_step(step, execution_id), loop).result()
    except Exception as error:  # noqa: BLE001  the workflow records it, and the next pass tries again
        return f"failed: {type(error).__name__}"
    return "done"


async def _as_step(step: RunStep, execution_id: str) -> None:
    await step(execution_id)


async def _as_coroutine(run: RunSlice, integration: ResourceId) -> None:
    await run(integration)


def _unusable(error: Exception) -> StateError:
    return StateError(
        f"the queue's tables cannot be used: {type(error).__name__}",
        code="RC7073",
        hint="On SQLite remove engine.db in the state folder: it is created again. On PostgreSQL check the rights on schema `dbos`.",
    )


class Runtime:
    """The process's durable queue. `start` and `stop` are called once; `enqueue` from the event loop."""

    def __init__(self, url: str, *, incarnation: str, executor_id: str, concurrency: int = 16) -> None:
        self._url = url
        self._incarnation = incarnation
        self.executor_id = executor_id
        self._concurrency = concurrency
        self._workflow: Callable[[str], str] | None = None
        self._step: Callable[[str], str] | None = None
        self._shared = url.startswith("postgresql")
        """Whether other processes may take the work: only then it goes through the queue."""

    async def start(self, run: RunSlice, step: RunStep | None = None) -> None:
        """Launch DBOS and listen on the queues; ``run`` reconciles one integration and ``step`` works on one execution, on this loop."""
        _bridge.loop, _bridge.run, _bridge.step = asyncio.get_running_loop(), run, step
        await asyncio.to_thread(self._launch)

    def _launch(self) -> None:
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
        self._begin(config)

    def _begin(self, config: DBOSConfig) -> None:
        """Launch with ``config``. Unusable tables on SQLite are created again: they contain nothing that the state does not know."""
        from dbos import DBOS

        file = None if self._shared else Path(self._url.removeprefix("sqlite:///"))
        if file is not None and (fault := whole_or_gone(file)):
            _log.warning("queue_recreated", error=fault, outcome="made again")
        try:
            self._try(config)
        except Exception as error:
            typed = database_error(error)
            DBOS.destroy()
            lasting = typed is not None and typed.code in _NOT_THE_TABLES
            if file is None or lasting:
                raise (typed or _unusable(error)) from error
            _log.warning("queue_recreated", error=type(error).__name__, outcome="made again")
            discard_database(file)
            self._try_again(config)

    def _try_again(self, config: DBOSConfig) -> None:
        from dbos import DBOS

        try:
            self._try(config)
        except Exception as error:
            DBOS.destroy()
            raise (database_error(error) or _unusable(error)) from error

    def _try(self, config: DBOSConfig) -> None:
        from dbos import DBOS

        DBOS(config=config)
        self._workflow = DBOS.workflow(name="reconcile_slice")(_reconcile_slice)
        self._step = DBOS.workflow(name="stage_step")(_stage_step)
        DBOS.listen_queues([QUEUE, STAGES])
        DBOS.launch()
        for queue, pause in ((QUEUE, POLL_S), (STAGES, STAGES_POLL_S)):
            DBOS.register_queue(queue, partition_concurrency=1, worker_concurrency=self._concurrency, polling_interval_sec=pause)

    async def enqueue(self, integration: ResourceId, token: str) -> str:
        """Request a reconcile of ``integration``; the same ``token`` twice is one request. Returns the workflow id."""
        return await asyncio.to_thread(self._enqueue, integration, token)

    async def enqueue_step(self, execution_id: str, token: str) -> str:
        """Request a step of an execution; the same ``token`` twice is one step, over all processes. Returns the workflow id."""
        return await asyncio.to_thread(self._enqueue_step, execution_id, token)

    def _enqueue(self, integration: ResourceId, token: str) -> str:
        identity = f"slice/{self._incarnation}/{integration.path}/{token}"
        return self._submit(QUEUE, self._workflow, integration.path, identity)

    def _enqueue_step(self, execution_id: str, token: str) -> str:
        return self._submit(STAGES, self._step, execution_id, f"step/{self._incarnation}/{execution_id}/{token}")

    def _submit(self, queue: str, workflow: Callable[[str], str] | None, argument: str, identity: str) -> str:
        from dbos import DBOS, SetEnqueueOptions, SetWorkflowID

        if workflow is None:
            raise RuntimeError("the runtime is not started")
        if not self._shared:
            # One process: the work begins at once and is still durable. A lock of its own runs one at a time for each integration or
            # execution; the queue would only add the delay of its poll.
            with SetWorkflowID(identity):
                DBOS.start_workflow(workflow, argument)
            return identity
        with SetWorkflowID(identity), SetEnqueueOptions(queue_partition_key=argument):
            DBOS.enqueue_workflow(queue, workflow, argument)
        return identity

    async def pending(self) -> int:
        """Return the number of queued and running workflows of all processes."""
        return await asyncio.to_thread(self._pending)

    def _pending(self) -> int:
        from dbos import DBOS

        return len(DBOS.list_workflows(status=["ENQUEUED", "PENDING"], load_input=False, load_output=False))

    async def recover(self, executor_id: str) -> int:
        """Take over the workflows of a dead process; returns how many. It uses public API only, so partitions are kept."""
        return await asyncio.to_thread(self._recover, executor_id)

    def _recover(self, executor_id: str) -> int:
        from dbos import DBOS

        left = DBOS.list_workflows(status="PENDING", executor_id=executor_id, load_input=False, load_output=False)
        for workflow in left:
            DBOS.resume_workflows([workflow.workflow_id], queue_name=workflow.queue_name)
        return len(left)

    async def prune(self, before: str, limit: int) -> int:
        """Delete up to ``limit`` finished workflows older than ``before`` (RFC 3339); returns how many."""
        return await asyncio.to_thread(self._prune, before, limit)

    def _prune(self, before: str, limit: int) -> int:
        from dbos import DBOS

        old = DBOS.list_workflows(
            status=["SUCCESS", "ERROR", "CANCELLED"], end_time=before, load_input=False, load_output=False, limit=limit
        )
        if old:
            DBOS.delete_workflows([workflow.workflow_id for workflow in old])
        return len(old)

    async def stop(self, timeout_s: int = 10) -> None:
        """Wait for running workflows (at most ``timeout_s``) and stop DBOS."""
        with contextlib.suppress(Exception):
            await asyncio.to_thread(self._destroy, timeout_s)
        _bridge.loop = _bridge.run = _bridge.step = None

    def _destroy(self, timeout_s: int) -> None:
        from dbos import DBOS

        DBOS.destroy(workflow_completion_timeout_sec=timeout_s)


__all__: list[Any] = ["APPLICATION_VERSION", "QUEUE", "RunSlice", "Runtime"]
