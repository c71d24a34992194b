"""``events``, ``trigger``, ``redeliver`` and ``replay``: what came in, is made by hand, was missed, and is looked at anew."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconciler.cli.daemon_client import act, look
from reconciler.cli.output import emit_json, say
from reconciler.cli.session import configuration
from reconciler.cli.sink import json_document, out
from reconciler.cli.tables import fields, table, values
from reconciler.model.errors import UsageError
from reconciler.model.exit_codes import EXIT_OK, EXIT_PARTIAL

SWEEP_S = 600.0


def events(options: argparse.Namespace) -> int:
    """Show what came in, or one event with its payload and what it led to."""
    config = configuration(options)
    if options.id:
        answer = look(config, {"verb": "event", "id": options.id})
        return _shown(answer, options, _one)
    request = {"verb": "events", "limit": options.limit, "source": options.source, "state": options.state}
    return _shown(look(config, request), options, _list)


def _shown(answer: Mapping[str, Any], options: argparse.Namespace, text: Any) -> int:
    if options.output == "json":
        emit_json({name: one for name, one in answer.items() if name != "ok"})
    else:
        text(answer)
    return EXIT_OK


def _list(answer: Mapping[str, Any]) -> None:
    rows = [(one["id"], one["receivedAt"], one["source"], one["type"], one["state"], _why(one)) for one in answer["events"]]
    table(("EVENT", "RECEIVED", "SOURCE", "TYPE", "STATE", "WHY"), rows, none="no events")
    if answer["next"]:
        say("there are older ones: raise --limit")


def _why(event: Mapping[str, Any]) -> str:
    """Return why an event was rejected, and by which targets."""
    own = [f"{event['reason']}: {event['message']}".strip(": ")] if event["reason"] or event["message"] else []
    return "; ".join([*own, *(f"{one['target']}: {one['message'] or one['reason']}" for one in event["rejectedBy"])])


def _one(event: Mapping[str, Any]) -> None:
    import orjson

    fields(
        event["id"],
        [
            ("source", event["source"]),
            ("type", event["type"]),
            ("state", event["state"]),
            ("why", f"{event['reason']}: {event['message']}".strip(": ")),
            ("origin", event["origin"]),
            ("delivery", event["deliveryId"]),
            ("received", event["receivedAt"]),
            ("happened", event["occurredAt"]),
            *(("rejected by", f"{one['target']} ({one['reason']}): {one['message']}") for one in event["rejectedBy"]),
            *(("no report", f"{one['kind']} of {one['item']}: {one['reason']}") for one in event["unreported"]),
            *(("queued as", f"{one['id']} at {one['stage']}: {one['state']} {values(one['inputs'])}") for one in event["items"]),
        ],
    )
    out("payload")
    json_document(orjson.dumps(event["payload"], option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())


# -- doing --------------------------------------------------------------------------------------------------------------


def trigger(options: argparse.Namespace) -> int:
    """Make an event of a source, and with ``--wait`` follow what becomes of it."""
    config = configuration(options)
    request = {"verb": "trigger", "source": options.source, "payload": payload_of(options.payload), "type": options.type}
    request |= {"key": options.key}
    answer = act(config, {name: one for name, one in request.items() if one is not None})
    if not options.wait:
        return _shown(answer, options, lambda one: out(f"made {one['event']}; see: reconciler events {one['event']}"))
    from reconciler.cli.wait import wait_for_event

    return wait_for_event(config, str(answer["event"]), options)


def payload_of(text: str | None) -> dict[str, Any] | None:
    """Return the payload that ``--payload`` names: JSON, ``@FILE`` or ``-`` (stdin). Raises `UsageError`."""
    import orjson

    if text is None:
        return None
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        found = orjson.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the payload cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from None
    except orjson.JSONDecodeError as error:
        raise UsageError(f"the payload is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise UsageError("the payload is no JSON object", hint="""For example: --payload '{"version": "1.2.3"}'""")
    return found


def redeliver(options: argparse.Namespace) -> int:
    """Look for missed deliveries now."""
    from reconciler.config.values import parse_duration
    from reconciler.model.errors import ConfigError

    try:
        since = parse_duration(options.since) if options.since else None
    except ConfigError as error:
        raise UsageError(f"--since {options.since}: {error.message}") from None
    answer = act(configuration(options), {"verb": "redeliver", "source": options.source or "", "since": since}, timeout_s=SWEEP_S)
    _shown(answer, options, _swept)
    return EXIT_PARTIAL if any(one["failed"] or one["error"] for one in answer["sources"]) else EXIT_OK


def replay(options: argparse.Namespace) -> int:
    """Hand a stored event on anew."""
    answer = act(configuration(options), {"verb": "replay", "id": options.id})
    return _shown(answer, options, lambda one: out(f"routed again; see: reconciler events {one['event']}"))


def _swept(answer: Mapping[str, Any]) -> None:
    numbers = ("missed", "redelivered", "recovered", "failed")
    rows = [(one["source"], *(str(one[name]) for name in numbers), one["error"]) for one in answer["sources"]]
    head = ("SOURCE", *(name.upper() for name in numbers), "ERROR")
    table(head, rows, none="no source has a provider that can be asked")
