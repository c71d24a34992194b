"""``status``: the resources and their conditions, from the status file. Works without a daemon."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from reconciler.cli import listing
from reconciler.cli.ages import Clock
from reconciler.cli.listing import Listing, Style
from reconciler.cli.options import StatusOptions
from reconciler.cli.output import say
from reconciler.cli.parser import did_you_mean
from reconciler.cli.session import configuration
from reconciler.cli.sink import out, reader_left
from reconciler.cli.tables import name_of, prefixed, table
from reconciler.config.settings import Config
from reconciler.model.errors import ReconcilerError, StateError, UsageError
from reconciler.model.exit_codes import EXIT_ERROR, EXIT_OK
from reconciler.model.resources import Kind
from reconciler.model.status import ConditionType
from reconciler.model.status_document import (
    CredentialRow,
    PlanRow,
    ResourceRow,
    ScheduleRow,
    SourceRow,
    StageRow,
    StatusDocument,
)
from reconciler.model.times import epoch_of

NOT_READY = 2
MAX_AGE_S = 120.0
MAX_PROBLEMS = 10
LABELS = {"valid": "valid", "identity": "who", "granted": "granted", "missing": "missing", "expiresAt": "ends"}
"""What the questions about a credential are called."""


def status(options: StatusOptions) -> int:
    """Show the status file."""
    config = configuration(options)
    path = Path(config.status.file)
    if options.watch:
        _wait_for(path)
        _check_name(read(path), options.resource)
        return listing.show(options, lambda: _list(read(path), options))
    document = read(path)
    _check_name(document, options.resource)
    listing.show(options, lambda: _list(document, options))
    if not options.exit_code:
        return EXIT_OK
    if document.daemon.phase == "running" and not _answers(config):
        return EXIT_ERROR
    rows = [row for row in document.resources if _matches(row, options.resource)] if options.resource else None
    return exit_code(document, time.time(), rows)


def _wait_for(path: Path) -> None:
    """Wait until there is a status file: ``--watch`` may start before the daemon."""
    if not path.exists():
        say(f"waiting for {path}; start the daemon with: reconciler run")
    while not path.exists() and not reader_left():
        time.sleep(0.5)


def _check_name(document: StatusDocument, text: str | None) -> None:
    """Raise an error for an unknown kind or resource: otherwise a misspelled name would count as Ready."""
    if not text or any(_matches(row, text) for row in document.resources):
        return
    body, _, canvas = text.partition("@")
    kind, _, name = body.partition("/")
    kinds = {known.value.lower(): known.value for known in Kind}
    if kind.lower() in kinds and not name and not canvas:
        return  # none of this kind is declared
    if kind.lower() not in kinds:
        raise UsageError(f"no kind {kind!r}", hint=did_you_mean(kind, kinds.values(), f"Kinds: {', '.join(kinds.values())}."))
    raise no_resource(text, map(_name, document.resources))


def no_resource(text: str, known: Iterable[str]) -> ReconcilerError:
    """Return the error for a resource that does not exist, with the nearest one."""
    return ReconcilerError(f"no resource {text}", code="RC6025", hint=_guess(text, known))


def _guess(text: str, known: Iterable[str]) -> str:
    return did_you_mean(text, known, "See `reconciler status`.")


def _answers(config: Config) -> bool:
    """Whether a daemon listens on this state; True if that is unknown (another user's daemon, or another machine's)."""
    from reconciler.server.admin import SOCKET, NoDaemon, call

    if not config.state_dir.is_dir():
        return True
    try:
        call(config.state_dir, {"verb": "ping"}, timeout_s=5)
    except NoDaemon:
        say(f"no daemon listens on {config.state_dir / SOCKET}: this is the status that the last one wrote")
        return False
    except (ReconcilerError, OSError):
        return True
    return True


def read(path: Path) -> StatusDocument:
    """Return the status document. Raises `StateError` if the file does not exist or cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=StatusDocument)
    except FileNotFoundError as error:
        raise StateError(
            f"there is no status file at {path}",
            code="RC7020",
            hint="Start `reconciler run`, or make one pass with `reconciler run --once`.",
        ) from error
    except msgspec.ValidationError as error:
        raise StateError(
            f"{path} is not a status file of this version: {error}",
            code="RC7020",
            hint="Command and daemon should have the same version; the daemon rewrites the file at its next heartbeat.",
        ) from error
    except (OSError, ValueError) as error:
        raise StateError(
            f"the status file {path} cannot be read: {type(error).__name__}",
            code="RC7020",
            hint="The daemon rewrites it at its next heartbeat.",
        ) from error


def age_s(document: StatusDocument, now: float) -> float:
    """Return the age of the heartbeat in seconds."""
    return now - epoch_of(document.daemon.heartbeat_at)


def exit_code(document: StatusDocument, now: float, rows: Sequence[ResourceRow] | None = None) -> int:
    """Return 0 if all is Ready, 1 if no daemon keeps it so (it stopped, or its heartbeat is too old), 2 if something is not Ready.

    ``rows`` limits the check to these resources. Without it, errors of the source and of credentials count, too.
    """
    phase = document.daemon.phase
    if phase == "stopped" or (phase != "once" and age_s(document, now) > MAX_AGE_S):
        return EXIT_ERROR
    good = document.source.error is None
    good = good and all(row.ready.status == "True" for row in (document.resources if rows is None else rows))
    if rows is None:
        good = good and not any(problem.severity == "error" for problem in document.source.problems)
        good = good and all(credential.valid is not False for credential in document.credentials)
    return EXIT_OK if good else NOT_READY


# -- text ---------------------------------------------------------------------------------------------------------------


def _list(document: StatusDocument, options: StatusOptions) -> Listing:
    rows = [row for row in document.resources if _matches(row, options.resource)]
    shown = msgspec.structs.replace(document, resources=tuple(rows))
    return Listing(
        msgspec.to_builtins(shown),
        [_name(row) for row in rows],
        lambda style: _show(shown, style),
        key=[shown.source.last_valid, shown.summary, shown.plans, shown.stages, [(_name(row), row.conditions) for row in rows]],
    )


def _show(document: StatusDocument, style: Style) -> None:
    _show_source(document.source, style)
    _show_daemon(document, style)
    for credential in document.credentials:
        _show_credential(credential, style.clock)
    for plan in document.plans:
        _show_blocked(plan)
    out("")
    rows = document.resources
    _show_resources(rows, style)
    shown = {(row.kind, row.canvas, row.name) for row in rows}
    _show_stages([stage for stage in document.stages if (Kind.STAGE.value, stage.canvas, stage.name) in shown], style)
    sources = [row for row in document.schedules if (Kind.EVENT_SOURCE.value, row.canvas, row.name) in shown]
    _show_schedules(sources, style.clock)


def _show_source(source: SourceRow, style: Style) -> None:
    applied = f", applied {style.revision(source.last_applied)}" if source.last_applied not in {"", source.last_valid} else ""
    fetched = f", fetched {style.clock.ago(source.last_fetched_at)}" if source.last_fetched_at else ""
    revision = style.revision(source.last_valid) or "(nothing read yet)"
    prefixed("source   ", f"{source.url} {revision}{applied}{fetched}")
    if source.error is not None:
        prefixed("         ", f"{source.error.code}: {source.error.message}", "31")
    for problem in source.problems[:MAX_PROBLEMS]:
        prefixed("         ", f"{problem.location}: {problem.code}: {problem.message}", "31")


def _show_daemon(document: StatusDocument, style: Style) -> None:
    daemon, events = document.daemon, document.events
    heartbeat = style.clock.ago(daemon.heartbeat_at)
    prefixed("daemon   ", f"{daemon.phase}, pid {daemon.pid}, version {daemon.version}, heartbeat {heartbeat}")
    counts = msgspec.structs.asdict(document.summary).items()
    prefixed("summary  ", ", ".join(f"{count} {name}" for name, count in counts if count or name in {"total", "ready"}))
    for count, state, why in (
        (events.quarantined, "quarantined", "their evaluation took too much time or memory, or crashed the process"),
        (events.failed, "failed", "they had no effect because of an error in a filter or mapping"),
    ):
        if count:
            prefixed("events   ", f"{count} {state}: {why}; see: reconciler events --state {state}", "31")


def _show_credential(credential: CredentialRow, clock: Clock) -> None:
    texts = [] if credential.valid else ["not checked" if credential.valid is None else "refused"]
    texts += ["missing " + ", ".join(credential.missing)] if credential.missing else []
    texts += [f"ends {clock.age(credential.expires_at)}"] if credential.valid and credential.expires_at else []
    red = credential.valid is False or credential.missing
    if texts:
        prefixed(f"credential {name_of(credential.name)}: ", "; ".join(texts), "31" if red else "33")


def _show_blocked(plan: PlanRow) -> None:
    if plan.blocked is not None:
        text = f"{len(plan.blocked.changes)} change{'' if len(plan.blocked.changes) == 1 else 's'}; approve with: {plan.blocked.approve}"
        prefixed("blocked  ", f"{name_of(plan.integration)}: {text}", "33")


def _show_resources(rows: Sequence[ResourceRow], style: Style) -> None:
    head = ["RESOURCE", "READY", "REASON", style.clock.head, "MESSAGE"]
    lines = [
        [_name(row), row.ready.status, row.ready.reason, style.clock.age(row.ready.last_transition_time), _message(row)]
        for row in rows
    ]
    if style.wide:
        head[4:4] = ["DECLARED", "CHANGED", "NEXT"]
        for line, row in zip(lines, rows, strict=True):
            times = (style.clock.age(row.last_changed_at), style.clock.age(row.next_reconcile_at))
            line[4:4] = [f"{row.file}:{row.line}", *times]
    table(head, lines, none="no resources")


def _message(row: ResourceRow) -> str:
    """Return the message of Ready, and the other conditions that say something."""
    quiet = {ConditionType.CREDENTIALS_VALID, ConditionType.DELIVERING}
    quiet |= {ConditionType(row.ready.reason)} if row.ready.reason in set(ConditionType) else set()
    notes = [f"[{c.type}]" for c in row.conditions[1:] if c.type not in quiet and c.status == "True"]
    notes += [
        f"[not delivering: {c.reason}]" for c in row.conditions if c.type == ConditionType.DELIVERING and c.status == "False"
    ]
    return " ".join([row.ready.message, *notes]).strip()


def _show_stages(stages: Sequence[StageRow], style: Style) -> None:
    """Show the queue of each stage, and its last execution."""
    if not stages:
        return
    out("")
    rows = []
    for stage in stages:
        last = stage.last
        result = (last.result or last.state) if last is not None else "-"
        finished = (last.finished_at or last.created_at) if last is not None else ""
        name = f"{Kind.STAGE.value}/{_in_canvas(stage.name, stage.canvas)}"
        rows.append([name, str(stage.queue), str(stage.running), result, style.clock.age(finished), last.id if last else "-"])
    table(("STAGE", "WAITING", "RUNNING", "LAST", style.clock.head, "EXECUTION"), rows, none="")


def _show_schedules(schedules: Sequence[ScheduleRow], clock: Clock) -> None:
    """Show when each schedule fires next."""
    if not schedules:
        return
    out("")
    rows = []
    for schedule in schedules:
        suspended = f"suspended: {schedule.suspended}" if schedule.suspended else ""
        when = suspended or (clock.age(schedule.next_at) if schedule.next_at else "no time in the next 400 days")
        rows.append((f"{Kind.EVENT_SOURCE.value}/{_in_canvas(schedule.name, schedule.canvas)}", when))
    table(("SCHEDULE", "NEXT RUN"), rows, none="")


def _name(row: ResourceRow) -> str:
    return f"{row.kind}/{_in_canvas(row.name, row.canvas)}"


def _in_canvas(name: str, canvas: str) -> str:
    return name if canvas == "default" else f"{name}@{canvas}"


def _matches(row: ResourceRow, text: str | None) -> bool:
    """Whether ``text`` (``KIND[/NAME][@CANVAS]``) selects the resource; without a text, every resource matches."""
    if not text:
        return True
    body, _, canvas = text.partition("@")
    kind, _, name = body.partition("/")
    return row.kind.lower() == kind.lower() and (not name or row.name == name) and (not canvas or row.canvas == canvas)
