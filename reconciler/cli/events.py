"""``events``, ``trigger``, ``redeliver`` and ``replay``: received events, new ones, missed ones and those routed again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from reconciler.cli import listing
from reconciler.cli.daemon_client import act, look
from reconciler.cli.listing import Listing, Style
from reconciler.cli.options import EventsOptions, RedeliverOptions, ReplayOptions, TriggerOptions
from reconciler.cli.progress import waiting
from reconciler.cli.session import configuration
from reconciler.cli.sink import json_document, out
from reconciler.cli.tables import fields, prefixed, reason_of, table, values
from reconciler.config.settings import Config
from reconciler.model.errors import UsageError
from reconciler.model.events import NOT_ROUTED
from reconciler.model.exit_codes import EXIT_OK, EXIT_PARTIAL
from reconciler.model.views import EventDetail, EventList, EventView, ItemView, ReplayedEvent, SweptList, TriggeredEvent

SWEEP_S = 600.0
MOST_PAGES = 20
"""Pages that are read to find events among test deliveries."""


def events(options: EventsOptions) -> int:
    """List received events, or show one with its payload and its effects."""
    config = configuration(options)
    if options.id:
        return listing.show(options, lambda: _detail(config, options.id or ""))
    return listing.show(options, lambda: _list(config, options))


def _detail(config: Config, identity: str) -> Listing:
    answer = look(config, {"verb": "event", "id": identity}, EventDetail)
    return Listing(answer.document, [answer.view.id], lambda style: _show(answer.view, style))


def _list(config: Config, options: EventsOptions) -> Listing:
    """Return the events without the deliveries by which providers test a webhook; ``-o json`` has all of them.

    Test deliveries do not count towards ``--limit``: more pages are read for them.
    """
    request = {"verb": "events", "limit": options.limit, "source": options.source, "state": options.state}
    answer = look(config, request, EventList)
    view = answer.view
    if options.output == "json":
        return Listing(answer.document, [], lambda _: None)
    shown, hidden = _routed(view.events, options)
    for _ in range(MOST_PAGES):
        if len(shown) >= options.limit or not view.next:
            break
        view = look(config, {**request, "before": view.next}, EventList).view
        more, tests = _routed(view.events, options)
        shown, hidden = shown + more, hidden + tests
    older = bool(view.next) or len(shown) > options.limit
    shown = shown[: options.limit]

    def text(style: Style) -> None:
        if hidden and not shown:
            prefixed("", f"no events but {hidden} {_TESTS[hidden != 1]}: use --all")
            return
        _table(shown, style)
        if hidden:
            style.note(f"{hidden} {_TESTS[hidden != 1]} not shown: use --all")
        if older:
            style.note("there are older events: increase --limit")

    return Listing(answer.document, [event.id for event in shown], text, key=shown)


def _routed(events: Sequence[EventView], options: EventsOptions) -> tuple[list[EventView], int]:
    """Return the events to show, and the number of test deliveries among the others."""
    shown = [event for event in events if options.all or event.type not in NOT_ROUTED]
    return shown, len(events) - len(shown)


_TESTS = ("test delivery", "test deliveries")


def _table(events: Sequence[EventView], style: Style) -> None:
    head = ["EVENT", style.clock.head, "SOURCE", "TYPE", "STATE", "LED TO"]
    rows = [
        [event.id, style.clock.age(event.received_at), event.source, event.type, event.state, _result(event)] for event in events
    ]
    if style.wide:
        head[5:5] = ["ORIGIN", "DELIVERY"]
        for row, event in zip(rows, events, strict=True):
            row[5:5] = [event.origin, event.delivery_id]
    table(head, rows, none="no events")


def _result(event: EventView) -> str:
    """Return what an event led to: the items of stages, and why others rejected it."""
    led = [f"{effect.stage} {effect.result or effect.state}" for effect in event.effects]
    own = [reason_of(event.reason, event.message)] if event.reason or event.message else []
    refused = [f"not {target.target}: {target.message or target.reason}" for target in event.rejected_by]
    nothing = [] if event.type in NOT_ROUTED or event.state != "processed" else ["nothing"]
    return "; ".join([*led, *own, *refused] or nothing)


def _show(event: EventDetail, style: Style) -> None:
    import orjson

    fields(
        event.id,
        [
            ("source", event.source),
            ("type", event.type),
            ("state", event.state),
            ("why", reason_of(event.reason, event.message)),
            ("origin", event.origin),
            ("delivery", event.delivery_id),
            ("received", style.clock.ago(event.received_at)),
            ("occurred", style.clock.ago(event.occurred_at) if event.occurred_at else ""),
            *(("rejected by", f"{target.target} ({target.reason}): {target.message}") for target in event.rejected_by),
            *(("no report", f"{report.kind} of {report.item}: {report.reason}") for report in event.unreported),
            *(("queued as", f"{item.id} at {item.stage}: {_state(event, item)} {values(item.inputs)}") for item in event.items),
        ],
    )
    out("payload")
    json_document(orjson.dumps(event.payload, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())


def _state(event: EventDetail, item: ItemView) -> str:
    """Return the result of an item's newest execution, else the item's state."""
    return next((effect.result for effect in event.effects if effect.item == item.id and effect.result), item.state)


# -- commands -----------------------------------------------------------------------------------------------------------


def trigger(options: TriggerOptions) -> int:
    """Create an event of a source; with ``--wait``, follow its items."""
    config = configuration(options)
    request = {
        "verb": "trigger",
        "source": options.source,
        "payload": payload_of(options.payload),
        "type": options.type,
        "key": options.key,
    }
    answer = act(config, {name: value for name, value in request.items() if value is not None}, TriggeredEvent)
    if options.wait:
        from reconciler.cli.wait import wait_for_event

        return wait_for_event(config, answer.view.event, options)
    answer.show(options.output, _show_triggered)
    return EXIT_OK


def _show_triggered(answer: TriggeredEvent) -> None:
    done = "created" if answer.new else "created before with this key:"
    out(f"{done} {answer.event}; see: reconciler events {answer.event}")


def payload_of(text: str | None) -> dict[str, object] | None:
    """Return the payload that ``--payload`` gives: JSON, ``@FILE`` or ``-`` (stdin). Raises `UsageError`."""
    import orjson

    if text is None:
        return None
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        payload: object = orjson.loads(text)
    except OSError as error:
        raise UsageError(f"the payload cannot be read: {error.strerror or type(error).__name__}") from None
    except UnicodeDecodeError:
        raise UsageError("the payload cannot be read: it is not UTF-8") from None
    except orjson.JSONDecodeError as error:
        raise UsageError(f"the payload is not JSON: {error}") from None
    if not isinstance(payload, dict):
        raise UsageError("the payload must be a JSON object", hint="""For example: --payload '{"version": "1.2.3"}'""")
    return payload


def redeliver(options: RedeliverOptions) -> int:
    """Recover missed deliveries now."""
    from reconciler.config.values import parse_duration
    from reconciler.model.errors import ConfigError

    try:
        since = parse_duration(options.since) if options.since else None
    except ConfigError as error:
        raise UsageError(f"--since {options.since}: {error.message}") from None
    request = {"verb": "redeliver", "source": options.source or "", "since": since}
    with waiting("recovering deliveries"):
        answer = act(configuration(options), request, SweptList, timeout_s=SWEEP_S)
    answer.show(options.output, _show_swept)
    return EXIT_PARTIAL if any(row.failed or row.error for row in answer.view.sources) else EXIT_OK


def _show_swept(answer: SweptList) -> None:
    rows = [
        (row.source, str(row.missed), str(row.redelivered), str(row.recovered), str(row.failed), row.error)
        for row in answer.sources
    ]
    head = ("SOURCE", "MISSED", "REDELIVERED", "RECOVERED", "FAILED", "ERROR")
    table(head, rows, none="no source has a provider that can list its deliveries")


def replay(options: ReplayOptions) -> int:
    """Route a stored event again."""
    answer = act(configuration(options), {"verb": "replay", "id": options.id}, ReplayedEvent)
    answer.show(options.output, lambda replayed: out(f"routed again; see: reconciler events {replayed.event}"))
    return EXIT_OK
