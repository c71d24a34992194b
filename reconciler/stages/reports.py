"""Writes statuses back to the code host: those of one target in order, each exactly once, also after a crash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.engine.backoff import pause_after
from reconciler.engine.context import Context
from reconciler.engine.current import Current
from reconciler.failpoints import failpoint
from reconciler.model.errors import NotFound, NotImplementedYet, ProviderError, ReconcilerError, RetryKind, StateError
from reconciler.model.executions import DeploymentRequest, ReportKind, StatusReport
from reconciler.model.resources import ResourceId
from reconciler.stages.exclusion import Guard, exclusive
from reconciler.stages.executors import ExecutorResolver
from reconciler.state.reports import PendingReport
from reconciler.state.values import FenceLost

LEASE_S = 120.0
BATCH = 50
DESCRIPTION = 140
GIVE_UP_S = 24 * 3600.0
"""A status that could not be written for a day is given up, with an error in the log."""


class ReportLoop:
    """Sends due statuses. One process at a time works on one item."""

    def __init__(self, current: Current, executors: ExecutorResolver, *, holder: str) -> None:
        self._current = current
        self._context: Context = current.context
        self._executors = executors
        self._holder = holder

    async def send_due(self) -> int:
        """Send due statuses; returns how many were tried."""
        store = self._context.store
        due = await store.due_reports(await store.now(), BATCH)
        for report in due:
            try:
                await self._send_exclusively(report)
            except StateError:
                raise
            except Exception as error:  # an unexpected error must not delay the others
                self._context.log.exception("report_failed", item=report.item_id, code="RC9001", error=type(error).__name__)
                await self._failed(report, ReconcilerError(f"a defect of this program: {type(error).__name__}", code="RC9001"))
        return len(due)

    async def _send_exclusively(self, report: PendingReport) -> None:
        async with exclusive(self._context, f"report/{report.item_id}", self._holder, LEASE_S) as guard:
            if guard is not None:
                await self._write(report, guard)

    async def _write(self, report: PendingReport, guard: Guard) -> None:
        store = self._context.store
        try:
            target = await self._send(report, guard)
            await store.end_report(report, await store.now(), target=target)
            self._context.log.info("status_reported", kind=report.kind, state=report.state, item=report.item_id)
        except FenceLost:
            return  # the process that took over writes it
        except ReconcilerError as error:
            await self._failed(report, error)

    async def _send(self, report: PendingReport, guard: Guard) -> Mapping[str, Any]:
        payload = report.payload
        reporter, client = await self._executors.reporter(ResourceId.from_path(str(payload["integration"])))
        api = guard(client)
        target = str(payload.get("target", ""))
        if not target and payload.get("lookup"):
            target = await reporter.commit(api, str(payload["repository"]), str(payload["lookup"]))
        elif not target:
            target = await reporter.deployment(api, _request(report))
        failpoint("report-before-send")
        await reporter.report(api, _status(report, target))
        failpoint("report-after-send")
        return {"target": target}

    async def _failed(self, report: PendingReport, error: ReconcilerError) -> None:
        store = self._context.store
        now = await store.now()
        failures = int(report.payload.get("failures", 0)) + 1
        first = float(report.payload.get("failed_at", now))
        final = isinstance(error, NotFound) or (isinstance(error, ProviderError) and error.retry is RetryKind.SPEC)
        never = isinstance(error, NotImplementedYet)  # the event's provider accepts no statuses
        if never or (final and failures > 2) or now - first > GIVE_UP_S:
            self._context.log.error(
                "status_abandoned",
                kind=report.kind,
                state=report.state,
                item=report.item_id,
                code=error.code,
                error=error.message,
            )
            await store.end_report(report, now, error=error.message)
            return
        pause = pause_after(self._context, failures, error)
        self._context.log.warning(
            "status_retry_scheduled",
            kind=report.kind,
            state=report.state,
            item=report.item_id,
            code=error.code,
            error=error.message,
        )
        payload = {**report.payload, "failures": failures, "failed_at": first, "error": error.message}
        await store.put_off_report(report, now + pause, payload)


def _request(report: PendingReport) -> DeploymentRequest:
    make = report.payload["create"]
    return DeploymentRequest(
        repository=str(report.payload["repository"]),
        ref=make["ref"],
        environment=make["environment"],
        marker=report.item_id,
        task=make.get("task", "deploy"),
        description=make.get("description", "")[:DESCRIPTION],
        transient=bool(make.get("transient", False)),
        production=make.get("production"),
        through=tuple(make.get("through", ())),
    )


def _status(report: PendingReport, target: str) -> StatusReport:
    payload = report.payload
    message = (
        str(payload.get("message", "")).strip() if report.state not in ("success", "queued", "in_progress", "pending") else ""
    )
    text = (
        f"{payload.get('label', '')}: {message}" if message else f"{payload.get('label', '')}: {report.state.replace('_', ' ')}"
    )
    marker = report.item_id
    room = DESCRIPTION - len(marker) - 3
    text = text if len(text) <= room else text[: room - 1] + "…"
    return StatusReport(
        kind=ReportKind(report.kind),
        repository=str(payload["repository"]),
        target=target,
        state=report.state,
        description=f"{text} ({marker})",
        marker=marker,
        context=str(payload.get("context", "")),
        environment_url=str(payload.get("environment_url", "")),
        log_url=str(payload.get("log_url", "")) or str(payload.get("url", "")),
    )
