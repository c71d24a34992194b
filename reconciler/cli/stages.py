"""``executions``, ``logs``, ``approve``, ``cancel`` and ``rerun``: queued items and executions, and what people decide about them."""

from __future__ import annotations

import asyncio
import re

from reconciler.cli import listing
from reconciler.cli.ages import Clock
from reconciler.cli.daemon_client import Ask, act, look, looking
from reconciler.cli.listing import Listing, Style
from reconciler.cli.options import ApproveOptions, CancelOptions, ExecutionsOptions, LogsOptions, RerunOptions
from reconciler.cli.session import configuration
from reconciler.cli.sink import coloured, out, reader_left
from reconciler.cli.tables import ENDED, fields, prefixed, reason_of, table, values, waits_for
from reconciler.config.settings import Config
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
SHORT = 8
"""Characters of a commit in text."""
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def executions(options: ExecutionsOptions) -> int:
    """List queued items and executions, or show one of them in detail."""
    config = configuration(options)
    if options.id:
        return listing.show(options, lambda: _detail(config, options.id or ""))
    return listing.show(options, lambda: _list(config, options))


def _detail(config: Config, identity: str) -> Listing:
    answer = look(config, {"verb": "execution", "id": identity}, ExecutionDetail)
    view = answer.view
    shown = view.execution.id if view.execution is not None else view.item.id
    return Listing(answer.document, [shown], lambda style: _show(view, style))


def _list(config: Config, options: ExecutionsOptions) -> Listing:
    request = {"verb": "executions", "stage": options.stage, "state": options.state, "limit": options.limit}
    answer = look(config, request, ExecutionList)
    view = answer.view

    def text(style: Style) -> None:
        rows = [_item_row(item, style) for item in view.queued] + [_run_row(run, style) for run in view.executions]
        table(_head(style), rows, none="no queued items and no executions")
        if view.next:
            style.note("there are older executions: increase --limit")

    return Listing(answer.document, [*(item.id for item in view.queued), *(run.id for run in view.executions)], text)


def _head(style: Style) -> list[str]:
    wide = ["EVENT", "REVISION", "RUN"] if style.wide else []
    return ["ID", "STAGE", "LABEL", "STATE", style.clock.head, "COMMIT", *wide, "WHY"]


def _item_row(item: ItemView, style: Style) -> list[str]:
    wide = [item.event, item.revision, "-"] if style.wide else []
    age, why = style.clock.age(item.created_at), _joined_by("; ", waits_for(item), came_from(item.origin))
    return [item.id, item.stage, style.cut(item.label), "queued", age, style.digest(item.origin.commit) or "-", *wide, why]


def _run_row(run: ExecutionView, style: Style) -> list[str]:
    wide = ["-", run.revision, run.url or run.external_id or "-"] if style.wide else []
    commit = style.digest(run.origin.commit) if run.origin is not None else ""
    origin = came_from(run.origin) if run.origin is not None else ""
    why = _joined_by("; ", _reason(run), origin)
    age, state = style.clock.age(run.created_at), run.result or run.state
    return [run.id, run.stage, style.cut(run.label), state, age, commit or "-", *wide, why]


def came_from(origin: OriginView) -> str:
    """Return the origin of an item in one line: repository, ref, the first line of the commit and the people."""
    subject = f'"{origin.message}"' if origin.message else ""
    people = " ".join(dict.fromkeys(f"by {person}" for person in (origin.author, origin.sender) if person))
    about = _joined(origin.repository, origin.ref, subject, people)
    return f"{origin.type}: {about}" if about else origin.type


def _joined(*texts: str) -> str:
    return _joined_by(" ", *texts)


def _joined_by(between: str, *texts: str) -> str:
    return between.join(text for text in texts if text)


def _origin(origin: OriginView) -> list[tuple[str, str]]:
    """Return what an approver needs to know about the origin."""
    deployment = f"#{origin.deployment} to {origin.environment}".removesuffix(" to ") if origin.deployment else ""
    return [
        ("event", " from ".join(text for text in (origin.type, origin.source) if text)),
        ("sender", origin.sender),
        ("repository", origin.repository),
        ("ref", origin.ref or (f"{origin.deleted_ref} (deleted)" if origin.deleted_ref else "")),
        ("commit", _joined(origin.commit[:SHORT], origin.commit_url)),
        ("author", origin.author),
        ("message", origin.message),
        ("deployment", deployment),
    ]


def _runs(runs: RunsView) -> str:
    """Return what runs: executor, resource and its parameters."""
    return _joined(runs.type, runs.resource, values(runs.spec))


def _before(previous: PreviousView | None, clock: Clock) -> str:
    """Return the previous execution of the stage, with its commit."""
    if previous is None:
        return "nothing"
    commit = previous.origin.commit[:SHORT]
    finished = clock.ago(previous.finished_at) if previous.finished_at else ""
    return _joined(previous.id, previous.label, previous.result, f"at {commit}" if commit else "", finished)


def _reason(execution: ExecutionView) -> str:
    reason = execution.reason if execution.reason != "ok" else ""
    message = execution.message if execution.message != execution.result else ""
    message = message or ("" if execution.result else execution.status)
    cancelling = f"cancelled by {execution.cancel_requested_by}" if execution.cancel_requested_by else ""
    return _joined_by("; ", reason_of(reason, message), cancelling)


def _later(later: LaterView | None, clock: Clock) -> str:
    """Return the result of a run that was restarted at the provider after its execution had ended."""
    if later is None:
        return ""
    return f"attempt {later.attempt} {later.result}, seen {clock.ago(later.seen_at)}; the result above stays"


def _show(answer: ExecutionDetail, style: Style) -> None:
    clock = style.clock
    _show_item(answer, style)
    for run in answer.executions:
        fields(
            run.id,
            [
                ("state", run.result or run.state),
                ("why", _reason(run)),
                ("run", run.url or run.external_id),
                ("started", _moment(run.started_at, clock)),
                ("finished", _moment(run.finished_at, clock)),
                ("outputs", values(run.outputs or {})),
                ("run again", _later(run.later, clock)),
            ],
        )
    for report in answer.reports:
        _show_report(report, clock)


def _moment(at: str, clock: Clock) -> str:
    return clock.ago(at) if at else ""


def _show_item(answer: ExecutionDetail, style: Style) -> None:
    item, clock = answer.item, style.clock
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
            ("revision", style.revision(item.revision)),
            ("runs", _runs(answer.runs)),
            ("inputs", values(item.inputs)),
            ("ran before", _before(answer.previous, clock)),
            ("attempt", str(item.attempt) if item.attempt > 1 else ""),
            ("created", _moment(item.created_at, clock)),
            ("rerun of", item.rerun_of),
            ("digest", item.digest),
            *(("approval", f"{approval.by}, {clock.ago(approval.at)}") for approval in item.approvals),
        ],
    )


def _show_report(report: ReportView, clock: Clock) -> None:
    if report.state == "none":
        out(f"report {report.kind}: nothing to write to: {report.error}")
        return
    when = f"written {clock.ago(report.written_at)}" if report.written_at else "not written yet"
    error = f": {report.error}" if report.error else ""
    target = report.target[:SHORT] if _COMMIT.fullmatch(report.target) else report.target
    prefixed(f"report {report.kind} ", f"{report.repository} {target} {report.state}, {when}{error}")


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
