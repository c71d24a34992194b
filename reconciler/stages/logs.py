"""Logs of runs, read from the provider on request. Nothing of them is stored."""

from __future__ import annotations

from reconciler.engine.current import Current
from reconciler.manifests.kinds import StageSpec
from reconciler.model.codec import resource_from_json
from reconciler.model.errors import ReconcilerError
from reconciler.model.executions import Execution, ExecutionState, LogLines
from reconciler.model.values import JsonObject
from reconciler.stages.executors import ExecutorResolver, intent_of


class NoLog(ReconcilerError):
    """There is nothing to show."""

    code = "RC6035"


class LogReader:
    """Reads logs piece by piece."""

    def __init__(self, current: Current, executors: ExecutorResolver) -> None:
        self._context = current.context
        self._executors = executors
        self._redact = current.context.redactor

    async def read(self, execution_id: str, cursor: str = "") -> LogLines:
        """Return the lines after ``cursor``, secrets redacted; ``complete``: no further lines will come. Raises `NoLog`."""
        store = self._context.store
        execution: Execution | None = await store.execution(execution_id)
        if execution is None:
            raise ReconcilerError(f"no execution {execution_id}", code="RC6030", hint="See `reconciler executions`.")
        if execution.run is None:
            if execution.state is ExecutionState.FINISHED:
                raise NoLog(f"{execution_id} never ran: {execution.message}")
            return LogLines((), cursor, complete=False)
        pinned = await store.pinned(execution.spec_digest)
        if pinned is None:
            raise NoLog(f"the configuration of {execution_id} is gone")
        stage = resource_from_json(pinned)
        spec = stage.typed(StageSpec).executor.spec
        executor = self._executors.executor(stage)
        api = await self._executors.api(execution, stage, {"url": execution.run.detail.get("origin", ""), **_plain(spec)})
        piece = await executor.logs(api, intent_of(execution, stage, spec), execution.run, cursor)
        complete = piece.complete and execution.state is ExecutionState.FINISHED
        return LogLines(tuple(self._redact.redact(line) for line in piece.lines), piece.cursor, complete)


def _plain(spec: JsonObject) -> dict[str, str]:
    """Return the URL of an `http` executor, unless it has templates: then the run's own detail has the origin."""
    url = str(spec.get("url", ""))
    return {"url": url} if url and "${{" not in url else {}
