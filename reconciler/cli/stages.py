"""``executions``, ``logs``, ``approve``, ``cancel`` and ``rerun``: queued items and executions, and what people decide about them."""

from __future__ import annotations

import asyncio

from reconciler.cli.daemon_client import Ask, act, look, looking
from reconciler.cli.options import ApproveOptions, CancelOptions, ExecutionsOptions, LogsOptions, RerunOptions
from reconciler.cli.output import say
from reconciler.cli.session import configuration
from reconciler.cli.sink import coloured, out, reader_left
from reconciler.cli.tables import ENDED, fields, reason_of, table, values, waits_for
from reconciler.model.errors import ReconcilerError, UsageError
from reconciler.model.exit_codes import EXIT_OK
from reconciler.model.views import (
    ApprovedItem,
    Cancelled,
    ExecutionDetail,
    ExecutionList,
    ExecutionView,
    ItemView,
    LaterView,
    LogView,
    OriginView,
    PreviousView,
    QueuedItem,
    ReportView,
    RunsView,
)

POLL_S = 1.0
"""Pause between two reads of a growing log."""


def executions(options: ExecutionsOptions) -> int:
    """List queued items and executions, or show one of them in detail."""
    config = configuration(options)
    if options.id:
        look(config, {"verb": "execution", "id": options.id}, ExecutionDetail).show(options.output, _show)
        return EXIT_OK
    request = {"verb": "executions", "stage": options.stage, "state": options.state, "limit": options.limit}
    look(config, request, ExecutionList).show(options.output, _list)
    return EXIT_OK


def _list(answer: ExecutionList) -> None:
    rows = [(item.id, item.stage, item.label, "queued", item.created_at, _queued_because(item)) for item in answer.queued]
    rows += [(run.id, run.stage, run.label, run.result or run.state, run.created_at, _outcome(run)) for run in answer.executions]
    table(("ID", "STAGE", "LABEL", "STATE", "CREATED", "WHY"), rows, none="no queued items and no executions")
    if answer.next:
        say("there are older executions: increase --limit")


def _queued_because(item: ItemView) -> str:
    return "; ".join(text for text in (waits_for(item), came_from(item.origin)) if text)


def came_from(origin: OriginView) -> str:
    """Return the origin of an item in one line: repository, ref, commit, its first line and the people."""
    subject = f'"{origin.message}"' if origin.message else ""
    people = " ".join(dict.fromkeys(f"by {person}" for person in (origin.author, origin.sender) if person))
    about = _joined(origin.repository, origin.ref, origin.commit[:12], subject, people)
    return f"{origin.type}: {about}" if about else ""


def _joined(*texts: str) -> str:
    return " ".join(text for text in texts if text)


def _origin(origin: OriginView) -> list[tuple[str, str]]:
    """Return what an approver needs to know about the origin."""
    deployment = f"#{origin.deployment} to {origin.environment}".removesuffix(" to ") if origin.deployment else ""
    return [
        ("event", " from ".join(text for text in (origin.type, origin.source) if text)),
        ("sender", origin.sender),
        ("repository", origin.repository),
        ("ref", origin.ref or (f"{origin.deleted_ref} (deleted)" if origin.deleted_ref else "")),
        ("commit", _joined(origin.commit, origin.commit_url)),
        ("author", origin.author),
        ("message", origin.message),
        ("deployment", deployment),
    ]


def _runs(runs: RunsView) -> str:
    """Return what runs: executor, resource and its parameters."""
    return _joined(runs.type, runs.resource, values(runs.spec))


def _before(previous: PreviousView | None) -> str:
    """Return the previous execution of the stage, with its commit."""
    if previous is None:
        return "nothing"
    commit = previous.origin.commit[:12]
    return _joined(previous.id, previous.label, previous.result, f"at {commit}" if commit else "", previous.finished_at)


def _outcome(execution: ExecutionView) -> str:
    """Return the result of an execution, or its progress, with the URL of its run."""
    return "; ".join(text for text in (_reason(execution), execution.url) if text)


def _reason(execution: ExecutionView) -> str:
    reason = execution.reason if execution.reason != "ok" else ""
    message = execution.message if execution.message != execution.result else ""
    message = message or ("" if execution.result else execution.status)
    cancelling = f"cancelled by {execution.cancel_requested_by}" if execution.cancel_requested_by else ""
    return "; ".join(text for text in (reason_of(reason, message), cancelling) if text)


def _later(later: LaterView | None) -> str:
    """Return the result of a run that was restarted at the provider after its execution had ended."""
    return f"attempt {later.attempt} {later.result}, seen {later.seen_at}; the result above stays" if later is not None else ""


def _show(answer: ExecutionDetail) -> None:
    _show_item(answer)
    for run in answer.executions:
        fields(
            run.id,
            [
                ("state", run.result or run.state),
                ("why", _reason(run)),
                ("run", run.url or run.external_id),
                ("started", run.started_at),
                ("finished", run.finished_at),
                ("outputs", values(run.outputs or {})),
                ("run again", _later(run.later)),
            ],
        )
    for report in answer.reports:
        _show_report(report)


def _show_item(answer: ExecutionDetail) -> None:
    item = answer.item
    why = ("waits for", waits_for(item)) if item.state == "queued" else ("why", reason_of(item.reason, item.message))
    fields(
        item.id,
        [
            ("stage", item.stage),
            ("label", item.label),
            ("state", item.state),
            why,
            ("event id", item.event),
            ("connection", item.connection),
            *_origin(item.origin),
            ("revision", item.revision),
            ("runs", _runs(answer.runs)),
            ("inputs", values(item.inputs)),
            ("ran before", _before(answer.previous)),
            ("attempt", str(item.attempt) if item.attempt > 1 else ""),
            ("created", item.created_at),
            ("rerun of", item.rerun_of),
            ("digest", item.digest),
            *(("approval", f"{approval.by} at {approval.at}") for approval in item.approvals),
        ],
    )


def _show_report(report: ReportView) -> None:
    if report.state == "none":
        out(f"report {report.kind}: nothing to write to: {report.error}")
        return
    when = f"written at {report.written_at}" if report.written_at else "not written yet"
    error = f": {report.error}" if report.error else ""
    out(f"report {report.kind} {report.repository} {report.target} {report.state}, {when}{error}")


# -- logs ---------------------------------------------------------------------------------------------------------------


def logs(options: LogsOptions) -> int:
    """Print the log of a run as its provider has it; with ``--follow``, until it is complete."""
    asyncio.run(_logs(options))
    return EXIT_OK


async def _logs(options: LogsOptions) -> None:
    async with looking(configuration(options)) as ask:
        identity = await _execution_of(ask, options)
        cursor = ""
        while True:
            piece = await ask({"verb": "logs", "id": identity, "cursor": cursor}, LogView)
            for line in piece.lines:
                coloured(line)
            moved, cursor = piece.cursor != cursor, piece.cursor
            if reader_left() or piece.complete or not (options.follow or (moved and piece.lines)):
                return
            if not piece.lines:
                await asyncio.sleep(POLL_S)


async def _execution_of(ask: Ask, options: LogsOptions) -> str:
    """Return the id of the execution: for an item, its newest; with ``--follow``, wait until there is one."""
    if not options.id.startswith("itm-"):
        return options.id
    while True:
        detail = await ask({"verb": "execution", "id": options.id}, ExecutionDetail)
        item = detail.item
        if detail.executions:
            return detail.executions[-1].id
        if not options.follow or item.state in ENDED:
            why = waits_for(item) if item.state == "queued" else f"{item.state}: {item.message}"
            raise ReconcilerError(f"{item.id} has not run: {why}", code="RC6035")
        await asyncio.sleep(POLL_S)


# -- commands -----------------------------------------------------------------------------------------------------------


def approve(options: ApproveOptions) -> int:
    """Approve a waiting item, or blocked changes."""
    if options.id.startswith("sha256:"):
        if options.digest:
            raise UsageError("--digest is only for an item; sha256:… is the digest of blocked changes already")
        from reconciler.cli.control import approve_set

        return approve_set(options)
    request = {"verb": "approve", "id": options.id, "digest": options.digest or ""}
    answer = act(configuration(options), request, ApprovedItem).view
    out(f"approved {answer.item}; approvals so far: {', '.join(answer.approvals)}")
    return EXIT_OK


def cancel(options: CancelOptions) -> int:
    """Remove an item from its queue, or cancel an execution."""
    answer = act(configuration(options), {"verb": "cancel", "id": options.id}, Cancelled).view
    if answer.state == "discarded":
        out(f"discarded {answer.item}")
    else:
        out(f"cancelling {answer.execution}; see: reconciler executions {answer.execution}")
    return EXIT_OK


def rerun(options: RerunOptions) -> int:
    """Repeat a finished execution."""
    config = configuration(options)
    answer = act(config, {"verb": "rerun", "id": options.id, "key": options.key or ""}, QueuedItem)
    if options.wait:
        from reconciler.cli.wait import wait_for_item

        return wait_for_item(config, answer.view.item, options)
    answer.show(options.output, _show_queued)
    return EXIT_OK


def _show_queued(answer: QueuedItem) -> None:
    done = "queued" if answer.new else "queued before with this key:"
    out(f"{done} {answer.item}; see: reconciler executions {answer.item}")
