"""The executor that runs nothing: every execution passes at once. What its outputs are is made up by the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.drivers.base import Api
from reconciler.drivers.common import NoJobToken
from reconciler.model.executions import LogLines, Result, Run, RunIntent, RunReport, RunStatus
from reconciler.model.values import JsonObject


class NoopExecutor(NoJobToken):
    """Implements `reconciler.drivers.base.Executor`; never uses its client."""

    type = "noop"
    needs_integration = False
    settle_s = 0.0
    by_clock = False
    poll_s = 1.0

    def permissions(self, executor: JsonObject) -> Mapping[str, str]:
        """Nothing is asked for."""
        return {}

    async def start(self, api: Api, intent: RunIntent) -> Run | None:
        """Return a run that is over."""
        return Run(intent.correlation, detail={"done": True})

    async def find(self, api: Api, intent: RunIntent) -> Run | None:
        """Return the same: there is nothing that could be missing."""
        return await self.start(api, intent)

    async def poll(self, api: Api, intent: RunIntent, run: Run) -> RunReport:
        """Passed."""
        return RunReport(run, RunStatus.FINISHED, Result.PASSED, self.type)

    async def cancel(self, api: Api, intent: RunIntent, run: Run) -> None:
        """Already ended."""

    async def logs(self, api: Api, intent: RunIntent, run: Run, cursor: str) -> LogLines:
        """Return no line."""
        return LogLines((), cursor, complete=True)

    def run_id_of(self, event_type: str, payload: Any) -> str:
        """No event is about it."""
        return ""

    def attempt_of(self, event_type: str, payload: Any) -> int:
        """No event is about it."""
        return 0
