"""Logs of the run outside, from its provider, for whoever asks: nothing of them is kept here."""

from __future__ import annotations

from typing import Any

from reconciler.engine.current import Current
from reconciler.model.codec import resource_from_json
from reconciler.model.errors import ReconcilerError
from reconciler.model.executions import Execution, ExecutionState, LogLines
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
        """Return what there is after ``cursor``, secrets blotted out; ``complete`` when there will be no more. Raises `NoLog`."""
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
        spec: dict[str, Any] = dict(stage.spec["executor"].get("spec", {}))
        executor = self._executors.executor(stage)
        api = await self._executors.api(execution, stage, {"url": execution.run.detail.get("origin", ""), **_plain(spec)})
        found = await executor.logs(api, intent_of(execution, stage, spec), execution.run, cursor)
        complete = found.complete and execution.state is ExecutionState.FINISHED
        return LogLines(tuple(self._redact.redact(line) for line in found.lines), found.cursor, complete)


def _plain(spec: dict[str, Any]) -> dict[str, Any]:
    """The URL of an `http` executor, unless it is made of templates: then the run itself says where it went."""
    url = str(spec.get("url", ""))
    return {"url": url} if url and "${{" not in url else {}
