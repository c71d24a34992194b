"""Writes statuses back to the code host: for each target in order, each exactly once, also after a crash."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from reconciler.engine.backoff import pause_after
from reconciler.engine.context import Context
from reconciler.engine.current import Current
from reconciler.engine.grants import AGAIN_S, granted_just_now
from reconciler.failpoints import failpoint
from reconciler.model.codec import to_json
from reconciler.model.errors import (
    AuthFailed,
    NotFound,
    NotImplementedYet,
    PermissionDenied,
    ProviderError,
    ReconcilerError,
    RetryKind,
    StateError,
)
from reconciler.model.executions import DeploymentRequest, ReportKind, StatusReport
from reconciler.model.resources import ResourceId
from reconciler.model.traces import SpanRecord
from reconciler.stages.exclusion import Guard, exclusive
from reconciler.stages.executors import ExecutorResolver
from reconciler.stages.statuses import NewDeployment, ReportPayload, payload_of
from reconciler.stages.traces import report_context, reported
from reconciler.state.reports import PendingReport
from reconciler.state.values import FenceLost
from reconciler.tracing import error_word, within

LEASE_S = 120.0
BATCH = 50
DESCRIPTION = 140
GIVE_UP_S = 24 * 3600.0
"""A status that cannot be written for a day is abandoned, with an error in the log."""


class ReportLoop:
    """Sends due statuses. One process at a time works on one item."""

    def __init__(self, current: Current, executors: ExecutorResolver, *, holder: str) -> None:
        self._current = current
        self._context: Context = current.context
        self._executors = executors
        self._holder = holder

    async def send_due(self) -> int:
        """Send due statuses; returns the number of attempts."""
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
        tracer = self._context.tracer
        item = await self._context.store.item(report.item_id) if tracer.on else None
        with within(report_context(tracer, item, report)):
            async with exclusive(self._context, f"report/{report.item_id}", self._holder, LEASE_S) as guard:
                if guard is not None:
                    await self._write(report, guard)

    async def _spans(self, report: PendingReport, now: float, error: str = "") -> list[SpanRecord]:
        tracer = self._context.tracer
        if not tracer.on:
            return []
        first = payload_of(report).failed_at
        item = await self._context.store.item(report.item_id)
        return reported(tracer, item, report, since=report.due_at if first is None else first, now=now, error=error)

    async def _write(self, report: PendingReport, guard: Guard) -> None:
        store = self._context.store
        try:
            target = await self._send(report, guard)
            now = await store.now()
            await store.end_report(report, now, target=target, spans=await self._spans(report, now))
            self._context.log.info("status_reported", kind=report.kind, state=report.state, item=report.item_id)
        except FenceLost:
            return  # the process that took over writes it
        except ReconcilerError as error:
            await self._failed(report, error)

    async def _send(self, report: PendingReport, guard: Guard) -> Mapping[str, str]:
        payload = payload_of(report)
        reporter, client = await self._executors.reporter(ResourceId.from_path(payload.integration))
        api = guard(client)
        target = payload.target
        if not target and payload.lookup:
            target = await reporter.commit(api, payload.repository, payload.lookup)
        elif not target and payload.create is not None:
            target = await reporter.deployment(api, _request(report.item_id, payload.repository, payload.create))
        failpoint("report-before-send")
        await reporter.report(api, _status(report, payload, target))
        failpoint("report-after-send")
        return {"target": target}

    async def _failed(self, report: PendingReport, error: ReconcilerError) -> None:
        store = self._context.store
        now = await store.now()
        payload = payload_of(report)
        failures = payload.failures + 1
        first = payload.failed_at if payload.failed_at is not None else now
        final = isinstance(error, NotFound) or (isinstance(error, ProviderError) and error.retry is RetryKind.SPEC)
        never = isinstance(error, NotImplementedYet)  # the event's provider accepts no statuses
        if never or (final and failures > 2) or now - first > GIVE_UP_S:
            self._context.log.error("status_abandoned", **_fields(report, error))
            spans = await self._spans(report, now, error_word(error))
            await store.end_report(report, now, error=error.message, spans=spans)
            return
        pause = pause_after(self._context, failures, error)
        refused = isinstance(error, PermissionDenied | AuthFailed) and payload.integration
        if refused and await granted_just_now(self._current, ResourceId.from_path(payload.integration), now):
            pause = AGAIN_S
        self._context.log.warning("status_retry_scheduled", **_fields(report, error))
        failed = replace(payload, failures=failures, failed_at=first, error=error.message)
        await store.put_off_report(report, now + pause, to_json(failed))


def _fields(report: PendingReport, error: ReconcilerError) -> dict[str, str]:
    """Return the fields of a log line about a status that could not be written."""
    return {
        "kind": report.kind,
        "state": report.state,
        "item": report.item_id,
        "code": error.code,
        "error": error.message,
    }


def _request(item_id: str, repository: str, create: NewDeployment) -> DeploymentRequest:
    return DeploymentRequest(
        repository=repository,
        ref=create.ref,
        environment=create.environment,
        marker=item_id,
        task=create.task,
        description=create.description[:DESCRIPTION],
        transient=create.transient,
        production=create.production,
        through=create.through,
    )


def _status(report: PendingReport, payload: ReportPayload, target: str) -> StatusReport:
    message = "" if report.state in ("success", "queued", "in_progress", "pending") else payload.message.strip()
    text = f"{payload.label}: {message or report.state.replace('_', ' ')}"
    marker = report.item_id
    room = DESCRIPTION - len(marker) - 3
    text = text if len(text) <= room else text[: room - 1] + "…"
    return StatusReport(
        kind=ReportKind(report.kind),
        repository=payload.repository,
        target=target,
        state=report.state,
        description=f"{text} ({marker})",
        marker=marker,
        context=payload.context,
        environment_url=payload.environment_url,
        log_url=payload.log_url or payload.url,
    )
