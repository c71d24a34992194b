"""``status``, ``explain`` and ``history``: what is, why it is so, and what was changed. All offline."""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reconciler.cli.main import EXIT_ERROR, EXIT_OK
from reconciler.cli.output import colour, emit_json, say
from reconciler.cli.session import configuration, configuration_state
from reconciler.config import Config
from reconciler.model.errors import StateError, UsageError

NOT_READY = 2
MAX_AGE_S = 120.0
_COLOURS = {"True": "32", "False": "31", "Unknown": "33"}


def status(options: argparse.Namespace) -> int:
    """Show the status file."""
    config = configuration(options)
    path = Path(config.status.file)
    if options.watch:
        return _watch(path, options)
    document = read(path)
    _show(document, options)
    return exit_code(document, time.time()) if options.exit_code else EXIT_OK


def read(path: Path) -> dict[str, Any]:
    """Return the status document; raises `StateError` when there is none or it is not readable."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise StateError(
            f"there is no status file at {path}",
            code="RC7020",
            hint="Start `reconciler run`, or make one pass with `reconciler run --once`.",
        ) from error
    except (OSError, ValueError) as error:
        raise StateError(
            f"the status file {path} cannot be read: {type(error).__name__}",
            code="RC7020",
            hint="It is written again at the next heartbeat.",
        ) from error
    if not isinstance(document, dict) or document.get("kind") != "StatusReport":
        raise StateError(f"{path} is no status file of this program", code="RC7020")
    return document


def age_s(document: Mapping[str, Any], now: float) -> float:
    """Return how old the heartbeat is, in seconds."""
    beat = dt.datetime.fromisoformat(document["daemon"]["heartbeatAt"].replace("Z", "+00:00"))
    return now - beat.timestamp()


def exit_code(document: Mapping[str, Any], now: float) -> int:
    """Return 0 when all is Ready, 1 when the heartbeat of a daemon is too old, 2 when something is not Ready."""
    if document["daemon"]["phase"] != "once" and age_s(document, now) > MAX_AGE_S:
        return EXIT_ERROR
    summary = document["summary"]
    return EXIT_OK if summary["ready"] == summary["total"] and not document["source"].get("error") else NOT_READY


def _watch(path: Path, options: argparse.Namespace) -> int:
    before = 0.0
    while True:
        try:
            changed = path.stat().st_mtime
        except FileNotFoundError:
            changed = 0.0
        if changed != before and changed:
            before = changed
            if sys.stdout.isatty():
                print("\x1b[2J\x1b[H", end="")
            _show(read(path), options)
        time.sleep(0.5)


def _show(document: dict[str, Any], options: argparse.Namespace) -> None:
    rows = [row for row in document["resources"] if _wanted(row, options.resource)]
    if options.output == "json":
        emit_json({**document, "resources": rows})
        return
    paint = _painter()
    source, summary, daemon = document["source"], document["summary"], document["daemon"]
    print(
        f"source   {source['url']} {source['lastValid'] or '(nothing read yet)'}"
        + (f"  applied {source['lastApplied']}" if source["lastApplied"] and source["lastApplied"] != source["lastValid"] else "")
    )
    if source.get("error"):
        print(paint("31", f"         {source['error']['code']}: {source['error']['message']}"))
    for problem in source.get("problems", [])[:10]:
        print(paint("31", f"         {problem['location']}: {problem['code']}: {problem['message']}"))
    print(f"daemon   {daemon['phase']}, pid {daemon['pid']}, version {daemon['version']}, heartbeat {daemon['heartbeatAt']}")
    print("summary  " + ", ".join(f"{count} {name}" for name, count in summary.items() if count or name in {"total", "ready"}))
    events = document.get("events", {})
    for state, why in (("quarantined", "took too much time or memory, or the process with them"), ("failed", "led to nothing")):
        if events.get(state):
            print(paint("31", f"events   {events[state]} {state}: they {why}; see: reconciler events --state {state}"))
    for credential in document["credentials"]:
        _show_credential(credential, paint)
    for plan in document["plans"]:
        if plan["blocked"]:
            print(
                paint(
                    "33",
                    f"blocked  {plan['integration']}: {len(plan['blocked']['changes'])} changes; approve with: {plan['blocked']['approve']}",
                )
            )
    print()
    _table(rows, paint)
    shown = {(row["canvas"], row["name"]) for row in rows if row["kind"] == "Stage"}
    _stages([one for one in document["stages"] if (one["canvas"], one["name"]) in shown], paint)


def _stages(stages: Sequence[Mapping[str, Any]], paint: Callable[[str, str], str]) -> None:
    """What waits, what runs, and how it ended last."""
    if not stages:
        return
    names = [one["name"] + ("" if one["canvas"] == "default" else f"@{one['canvas']}") for one in stages]
    width = max(len("STAGE"), *(len(name) for name in names))
    print(f"\n{'STAGE':{width}}  WAITING  RUNNING  LAST")
    for name, one in zip(names, stages, strict=True):
        last = one["last"] or {}
        word = last.get("result") or last.get("state") or "-"
        when = f" {last['finishedAt'] or last['createdAt']}" if last else ""
        colour_of = {"passed": "32", "failed": "31"}.get(word, "0")
        print(f"{name:{width}}  {one['queue']:>7}  {one['running']:>7}  {paint(colour_of, word)}{when}".rstrip())


def _show_credential(credential: Mapping[str, Any], paint: Callable[[str, str], str]) -> None:
    if credential["valid"] and not credential["missing"]:
        return
    words = "refused" if not credential["valid"] else "missing " + ", ".join(credential["missing"])
    print(paint("31", f"credential {credential['name']}: {words}"))


def _table(rows: list[dict[str, Any]], paint: Callable[[str, str], str]) -> None:
    lines = []
    for row in rows:
        ready = row["conditions"][0]
        name = f"{row['kind']}/{row['name']}" + ("" if row["canvas"] == "default" else f"@{row['canvas']}")
        also = [
            c["type"]
            for c in row["conditions"][1:]
            if c["type"] not in {"CredentialsValid", "Delivering"} and c["status"] == "True"
        ]
        also += [
            f"not delivering: {c['reason']}" for c in row["conditions"] if c["type"] == "Delivering" and c["status"] == "False"
        ]
        lines.append(
            (name, ready["status"], ready["reason"], " ".join([ready["message"], *(f"[{word}]" for word in also)]).strip())
        )
    if not lines:
        print("no resources")
        return
    widths = [max(len(line[i]) for line in [("RESOURCE", "READY", "REASON", ""), *lines]) for i in range(3)]
    print(f"{'RESOURCE':{widths[0]}}  {'READY':{widths[1]}}  {'REASON':{widths[2]}}  MESSAGE")
    for name, state, reason, message in lines:
        shown = message if len(message) <= 160 else message[:157] + "…"
        print(f"{name:{widths[0]}}  {paint(_COLOURS[state], f'{state:{widths[1]}}')}  {reason:{widths[2]}}  {shown}".rstrip())


def _painter() -> Callable[[str, str], str]:
    on = colour(sys.stdout)
    return lambda code, text: f"\x1b[{code}m{text}\x1b[0m" if on else text


def _wanted(row: Mapping[str, Any], text: str | None) -> bool:
    if not text:
        return True
    body, _, canvas = text.partition("@")
    kind, _, name = body.partition("/")
    return row["kind"].lower() == kind.lower() and (not name or row["name"] == name) and (not canvas or row["canvas"] == canvas)


# -- explain and history ------------------------------------------------------------------------------------------------


def explain(options: argparse.Namespace) -> int:
    """Tell the causal chain of one resource from the journal."""
    config = configuration(options)
    document = read(Path(config.status.file)) if Path(config.status.file).exists() else {"resources": []}
    asyncio.run(_explain(config, document, options))
    return EXIT_OK


async def _explain(config: Config, document: Mapping[str, Any], options: argparse.Namespace) -> None:
    from reconciler.engine.control import parse_resource
    from reconciler.engine.reporting import iso
    from reconciler.model.resources import ResourceId

    known = {ResourceId(row["kind"], row["canvas"], row["name"]) for row in document["resources"]}
    store = _store(config)
    try:
        identity = parse_resource(options.resource, known | {ResourceId.from_path(path) for path in store.resources()})
        entries = store.journal_of(identity, 40)
    finally:
        store.close()
    row = next(
        (
            r
            for r in document["resources"]
            if (r["kind"], r["canvas"], r["name"]) == (identity.kind, identity.canvas, identity.name)
        ),
        None,
    )
    if row is None and not entries:
        raise UsageError(
            f"nothing is known of {identity}", hint="See `reconciler status`; the journal keeps what `retention.history` says."
        )
    if options.output == "json":
        emit_json(
            {
                "resource": identity.path,
                "status": row,
                "journal": [{"at": iso(e.at), "event": e.event, "revision": e.revision, **e.detail} for e in entries],
            }
        )
        return
    print(identity)
    if row is not None:
        print(f"  declared   {row['file']}:{row['line']}" + (" (removed; being deleted)" if row["deleting"] else ""))
        for condition in row["conditions"]:
            print(
                f"  condition  {condition['type']}={condition['status']} {condition['reason']} since {condition['lastTransitionTime']}"
            )
            if condition["message"]:
                print(f"             {condition['message']}")
        for one in row["objects"]:
            print(f"  object     {one['address']} = {one['externalId']}")
        for drifted in row["drift"]:
            print(f"  drift      {drifted.get('address', '')} {drifted['path'] or '(missing)'} ({drifted['class']})")
        print(f"  next look  {row['nextReconcileAt'] or '-'}, attempts {row['attempts']}")
    print("  journal (newest last)")
    for entry in reversed(entries):
        print("    " + _line(entry.event, entry.detail, iso(entry.at), entry.revision, iso))


def _line(event: str, detail: Mapping[str, Any], at: str, revision: str, iso: Callable[[float], str]) -> str:
    short = revision.partition(":")[0].partition("@")[0] + ("@" + revision.partition(":")[2][:8] if ":" in revision else "")
    if event == "planned":
        fields = f" {', '.join(detail.get('fields', []))}" if detail.get("fields") else ""
        why = f" — {detail['reason']}" if detail.get("reason") else ""
        what = f"{detail['action']} ({detail['cls']}, {detail['disposition']}) {detail['address']}{fields}{why}"
        return f"{at} {short} planned  {what} from {detail.get('file', '')}"
    if event == "applied":
        return f"{at} {short} applied  {detail['action']} {detail['address']} → {detail.get('external_id') or '-'} in {detail.get('duration_ms', 0)} ms"
    if event == "failed":
        return f"{at} {short} failed   {detail['action']} {detail['address']}: {detail['code']} {detail['error']} {detail.get('request', '')}".rstrip()
    if event == "next_try":
        return f"{at} {short} next try {iso(float(detail['at']))}"
    if "id" in detail:  # something of a stage: an item or an execution
        told = " ".join(f"{key}={value}" for key, value in detail.items() if key != "id" and value not in ("", None))
        return f"{at} {short} {event.replace('_', ' ')}  {detail['id']} {told}".rstrip()
    return f"{at} {short} {event:8} {detail.get('code', '')} {detail.get('error', '')}".rstrip()


def history(options: argparse.Namespace) -> int:
    """Show the audit log, newest first, or check its chain."""
    from reconciler.engine.control import parse_resource
    from reconciler.engine.reporting import iso
    from reconciler.model.resources import ResourceId

    store = _store(configuration(options))
    try:
        if options.verify:
            report = store.verify_audit()
            print(f"{report.rows} rows: the chain holds" if report.ok else f"the chain is broken at row {report.first_bad_seq}")
            return EXIT_OK if report.ok else EXIT_ERROR
        path = None
        if options.resource:
            path = parse_resource(options.resource, {ResourceId.from_path(one) for one in store.resources()}).path
        rows = store.audit_tail(options.limit, resource=path)
    finally:
        store.close()
    if options.output == "json":
        emit_json(
            {
                "rows": [
                    {
                        "seq": seq,
                        "at": iso(e.at),
                        "actor": e.actor,
                        "verb": e.verb,
                        "outcome": e.outcome,
                        "address": e.address,
                        "resource": e.resource,
                        "externalId": e.external_id,
                        "revision": e.revision,
                        "detail": dict(e.detail),
                    }
                    for seq, e in rows
                ]
            }
        )
        return EXIT_OK
    for seq, entry in rows:
        fields = ", ".join(entry.detail.get("fields", []))
        why = " ".join(str(entry.detail[key]) for key in ("class", "reason", "error") if entry.detail.get(key))
        print(
            f"{seq:>6} {iso(entry.at)} {entry.actor} {entry.verb} {entry.outcome} {entry.address or entry.resource}"
            + (f" [{fields}]" if fields else "")
            + (f" ({why})" if why else "")
            + (f" {entry.revision}" if entry.revision else "")
        )
    if not rows:
        say("nothing was changed yet")
    return EXIT_OK


def _store(config: Config) -> Any:
    from reconciler.state import Store

    configuration_state(config)
    return Store.open(config.state.url, state_dir=config.state_dir, create=False)
