"""``status``: the resources and their conditions, from the status file. Works without a daemon."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reconciler.cli.output import emit_json, say
from reconciler.cli.session import configuration
from reconciler.cli.sink import Ink, clear_screen, out, reader_left
from reconciler.cli.tables import painter
from reconciler.config.settings import Config
from reconciler.model.errors import ReconcilerError, StateError, UsageError
from reconciler.model.exit_codes import EXIT_ERROR, EXIT_OK
from reconciler.model.resources import Kind
from reconciler.model.times import epoch_of

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
    _check_name(document, options.resource)
    _show(document, options)
    if not options.exit_code:
        return EXIT_OK
    if document["daemon"]["phase"] == "running" and not _answers(config):
        return EXIT_ERROR
    rows = [row for row in document["resources"] if _wanted(row, options.resource)] if options.resource else None
    return exit_code(document, time.time(), rows)


def _check_name(document: Mapping[str, Any], text: str | None) -> None:
    """Raise `UsageError` for a kind or resource that there is not: of nothing, nothing can be Ready."""
    if not text or any(_wanted(row, text) for row in document["resources"]):
        return
    body, _, canvas = text.partition("@")
    kind, _, name = body.partition("/")
    kinds = {one.value.lower(): one.value for one in Kind}
    if kind.lower() in kinds and not name and not canvas:
        return  # none of this kind is declared
    if kind.lower() not in kinds:
        raise UsageError(f"no kind {kind!r}", hint=_near(kind, list(kinds.values())))
    known = [
        f"{row['kind']}/{row['name']}" + ("" if row["canvas"] == "default" else f"@{row['canvas']}")
        for row in document["resources"]
    ]
    raise ReconcilerError(f"no resource {text}", code="RC6025", hint=_near(text, known))


def _near(text: str, known: Sequence[str]) -> str:
    by_lower = {one.lower(): one for one in known}
    found = difflib.get_close_matches(text.lower(), list(by_lower), n=3, cutoff=0.5)
    return f"Did you mean {', '.join(by_lower[one] for one in found)}?" if found else "See `reconciler status`."


def _answers(config: Config) -> bool:
    """Whether a daemon listens on this state; True where that cannot be found out (another user's, or another machine's)."""
    from reconciler.server.admin import SOCKET, NoDaemon, call

    if not config.state_dir.is_dir():
        return True
    try:
        call(config.state_dir, {"verb": "ping"}, timeout_s=5)
    except NoDaemon:
        say(f"no daemon listens on {config.state_dir / SOCKET}: what is shown is what the last one wrote")
        return False
    except (ReconcilerError, OSError):
        return True
    return True


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
        raise StateError(f"{path} is not a status file of this program", code="RC7020")
    return document


def age_s(document: Mapping[str, Any], now: float) -> float:
    """Return how old the heartbeat is, in seconds."""
    return now - epoch_of(document["daemon"]["heartbeatAt"])


def exit_code(document: Mapping[str, Any], now: float, rows: Sequence[Mapping[str, Any]] | None = None) -> int:
    """Return 0 when all is Ready, 1 when no daemon keeps it so (stopped, or its heartbeat is too old), 2 when something is not Ready.

    ``rows``: those alone are looked at, by default all.
    """
    phase = document["daemon"]["phase"]
    if phase == "stopped" or (phase != "once" and age_s(document, now) > MAX_AGE_S):
        return EXIT_ERROR
    looked_at = document["resources"] if rows is None else rows
    good = all(row["conditions"][0]["status"] == "True" for row in looked_at) and not document["source"].get("error")
    if rows is None:  # of everything: what no resource shows counts, too
        problems = document["source"].get("problems", ())
        good = good and not any(problem.get("severity", "error") == "error" for problem in problems)
        good = good and all(credential["valid"] for credential in document.get("credentials", ()))
    return EXIT_OK if good else NOT_READY


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
                clear_screen()
            _show(read(path), options)
            if reader_left():
                return EXIT_OK
        time.sleep(0.5)


def _show(document: dict[str, Any], options: argparse.Namespace) -> None:
    rows = [row for row in document["resources"] if _wanted(row, options.resource)]
    if options.output == "json":
        emit_json({**document, "resources": rows})
        return
    paint = painter()
    source, summary, daemon = document["source"], document["summary"], document["daemon"]
    out(
        f"source   {source['url']} {source['lastValid'] or '(nothing read yet)'}"
        + (f"  applied {source['lastApplied']}" if source["lastApplied"] and source["lastApplied"] != source["lastValid"] else "")
    )
    if source.get("error"):
        out(paint("31", f"         {source['error']['code']}: {source['error']['message']}"))
    for problem in source.get("problems", [])[:10]:
        out(paint("31", f"         {problem['location']}: {problem['code']}: {problem['message']}"))
    out(f"daemon   {daemon['phase']}, pid {daemon['pid']}, version {daemon['version']}, heartbeat {daemon['heartbeatAt']}")
    out("summary  " + ", ".join(f"{count} {name}" for name, count in summary.items() if count or name in {"total", "ready"}))
    events = document.get("events", {})
    for state, why in (("quarantined", "took too much time or memory, or the process with them"), ("failed", "led to nothing")):
        if events.get(state):
            out(paint("31", f"events   {events[state]} {state}: they {why}; see: reconciler events --state {state}"))
    for credential in document["credentials"]:
        _show_credential(credential, paint)
    for plan in document["plans"]:
        if plan["blocked"]:
            out(
                paint(
                    "33",
                    f"blocked  {plan['integration']}: {len(plan['blocked']['changes'])} changes; approve with: {plan['blocked']['approve']}",
                )
            )
    out("")
    _table(rows, paint)
    shown = {(row["canvas"], row["name"]) for row in rows if row["kind"] == "Stage"}
    _stages([one for one in document["stages"] if (one["canvas"], one["name"]) in shown], paint)
    shown = {(row["canvas"], row["name"]) for row in rows if row["kind"] == "EventSource"}
    _schedules([one for one in document.get("schedules", ()) if (one["canvas"], one["name"]) in shown])


def _schedules(schedules: Sequence[Mapping[str, Any]]) -> None:
    """Show when each schedule fires next."""
    if schedules:
        out()
    for one in schedules:
        when = f"suspended: {one['suspended']}" if one["suspended"] else one["nextAt"] or "no time in the next 400 days"
        out(f"schedule {one['name']}{'' if one['canvas'] == 'default' else '@' + one['canvas']}: next {when}")


def _stages(stages: Sequence[Mapping[str, Any]], paint: Callable[[str, str], Ink]) -> None:
    """What waits, what runs, and how it ended last."""
    if not stages:
        return
    names = [one["name"] + ("" if one["canvas"] == "default" else f"@{one['canvas']}") for one in stages]
    width = max(len("STAGE"), *(len(name) for name in names))
    out("")
    out(f"{'STAGE':{width}}  WAITING  RUNNING  LAST")
    for name, one in zip(names, stages, strict=True):
        last = one["last"] or {}
        word = last.get("result") or last.get("state") or "-"
        when = f" {last['finishedAt'] or last['createdAt']}" if last else ""
        colour_of = {"passed": "32", "failed": "31"}.get(word, "")
        out(f"{name:{width}}  {one['queue']:>7}  {one['running']:>7}  ", paint(colour_of, word), when)


def _show_credential(credential: Mapping[str, Any], paint: Callable[[str, str], Ink]) -> None:
    if credential["valid"] and not credential["missing"]:
        return
    words = "refused" if not credential["valid"] else "missing " + ", ".join(credential["missing"])
    out(paint("31", f"credential {credential['name']}: {words}"))


def _table(rows: list[dict[str, Any]], paint: Callable[[str, str], Ink]) -> None:
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
        out("no resources")
        return
    widths = [max(len(line[i]) for line in [("RESOURCE", "READY", "REASON", ""), *lines]) for i in range(3)]
    out(f"{'RESOURCE':{widths[0]}}  {'READY':{widths[1]}}  {'REASON':{widths[2]}}  MESSAGE")
    for name, state, reason, message in lines:
        shown = message if len(message) <= 160 else message[:157] + "…"
        out(f"{name:{widths[0]}}  ", paint(_COLOURS[state], f"{state:{widths[1]}}"), f"  {reason:{widths[2]}}  {shown}")


def _wanted(row: Mapping[str, Any], text: str | None) -> bool:
    if not text:
        return True
    body, _, canvas = text.partition("@")
    kind, _, name = body.partition("/")
    return row["kind"].lower() == kind.lower() and (not name or row["name"] == name) and (not canvas or row["canvas"] == canvas)
