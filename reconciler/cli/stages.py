"""``executions``, ``logs``, ``approve``, ``cancel`` and ``rerun``: what waits, what ran, and what people say to it."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from typing import Any

from reconciler.cli.daemon_client import Ask, act, look, looking
from reconciler.cli.output import emit_json, say
from reconciler.cli.session import configuration
from reconciler.cli.sink import coloured, out, reader_left
from reconciler.cli.tables import ENDED, fields, table, values, waits_for
from reconciler.model.errors import ReconcilerError, UsageError
from reconciler.model.exit_codes import EXIT_OK

LOOK_S = 1.0
"""Pause between two looks at a log that still grows."""


def executions(options: argparse.Namespace) -> int:
    """Show what waits and what ran, or one of them with everything that belongs to it."""
    config = configuration(options)
    if options.id:
        answer = look(config, {"verb": "execution", "id": options.id})
    else:
        answer = look(config, {"verb": "executions", "stage": options.stage, "state": options.state, "limit": options.limit})
    if options.output == "json":
        emit_json({name: one for name, one in answer.items() if name != "ok"})
    elif options.id:
        _one(answer)
    else:
        _list(answer)
    return EXIT_OK


def _list(answer: Mapping[str, Any]) -> None:
    rows = [
        (
            one["id"],
            one["stage"],
            one["label"],
            "queued",
            one["createdAt"],
            "; ".join(w for w in (waits_for(one), came_from(one)) if w),
        )
        for one in answer["queued"]
    ]
    for one in answer["executions"]:
        rows.append((one["id"], one["stage"], one["label"], one["result"] or one["state"], one["createdAt"], _became(one)))
    table(("ID", "STAGE", "LABEL", "STATE", "CREATED", "WHY"), rows, none="nothing waits and nothing ran")
    if answer.get("next"):
        say("there are older ones: raise --limit")


def came_from(item: Mapping[str, Any]) -> str:
    """Return in one line what an item is about: repository, ref, commit, its first line and the people."""
    origin = item["origin"]
    commit = origin["commit"][:12]
    subject = f'"{origin["message"]}"' if origin["message"] else ""
    people = " ".join(dict.fromkeys(f"by {one}" for one in (origin["author"], origin["sender"]) if one))
    what = " ".join(word for word in (origin["repository"], origin["ref"], commit, subject, people) if word)
    return f"{origin['type']}: {what}" if what else ""


def _origin(origin: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what whoever approves needs to know of where it began."""
    deployment = f"#{origin['deployment']} to {origin['environment']}".removesuffix(" to ") if origin["deployment"] else ""
    return [
        ("began with", " from ".join(one for one in (origin["type"], origin["source"]) if one)),
        ("sender", origin["sender"]),
        ("repository", origin["repository"]),
        ("ref", origin["ref"] or (f"{origin['deletedRef']} (deleted)" if origin["deletedRef"] else "")),
        ("commit", " ".join(one for one in (origin["commit"], origin["commitUrl"]) if one)),
        ("author", origin["author"]),
        ("message", origin["message"]),
        ("deployment", deployment),
    ]


def _runs(runs: Mapping[str, Any]) -> str:
    """Return what runs: executor, resource and what it is asked for."""
    return " ".join(one for one in (runs["type"], runs["resource"], values(runs["spec"])) if one) if runs else ""


def _before(previous: Mapping[str, Any] | None) -> str:
    """Return what the stage ran before, with its commit."""
    if previous is None:
        return "nothing"
    commit = previous["origin"]["commit"][:12]
    at = f"at {commit}" if commit else ""
    return " ".join(one for one in (previous["id"], previous["label"], previous["result"], at, previous["finishedAt"]) if one)


def _became(execution: Mapping[str, Any]) -> str:
    """How an execution ended, or where it is."""
    why = execution["reason"] if execution["reason"] != "ok" else ""
    cancelling = f"cancelled by {execution['cancelRequestedBy']}" if execution["cancelRequestedBy"] else ""
    message = execution["message"] or ("" if execution["result"] else execution["status"])
    return "; ".join(word for word in (f"{why}: {message}".strip(": "), cancelling, execution["url"]) if word)


def _again(later: Mapping[str, Any] | None) -> str:
    """What became of the run when somebody started it again at the provider, after its execution had ended."""
    return f"attempt {later['attempt']} {later['result']}, seen {later['seenAt']}; the result above stands" if later else ""


def _one(answer: Mapping[str, Any]) -> None:
    item = answer["item"]
    queued = item["state"] == "queued"
    fields(
        item["id"],
        [
            ("stage", item["stage"]),
            ("label", item["label"]),
            ("state", item["state"]),
            ("waits for" if queued else "why", waits_for(item) if queued else f"{item['reason']}: {item['message']}".strip(": ")),
            ("event", item["event"]),
            ("connection", item["connection"]),
            *_origin(item["origin"]),
            ("revision", item["revision"]),
            ("runs", _runs(answer["runs"])),
            ("inputs", values(item["inputs"])),
            ("ran before", _before(answer["previous"])),
            ("attempt", str(item["attempt"]) if item["attempt"] > 1 else ""),
            ("created", item["createdAt"]),
            ("repeats", item["rerunOf"]),
            ("digest", item["digest"]),
            *(("approval", f"{one['by']} at {one['at']}") for one in item["approvals"]),
        ],
    )
    for one in answer["executions"]:
        fields(
            one["id"],
            [
                ("state", one["result"] or one["state"]),
                ("why", _became({**one, "url": ""})),
                ("run", one["url"] or one["externalId"]),
                ("started", one["startedAt"]),
                ("finished", one["finishedAt"]),
                ("outputs", values(one["outputs"])),
                ("run again", _again(one.get("later"))),
            ],
        )
    for report in answer["reports"]:
        if report["state"] == "none":
            out(f"report {report['kind']}: nothing to write to: {report['error']}")
            continue
        when = f"written at {report['writtenAt']}" if report["writtenAt"] else "not written yet"
        error = f": {report['error']}" if report["error"] else ""
        out(f"report {report['kind']} {report['repository']} {report['target']} {report['state']}, {when}{error}")


# -- logs ---------------------------------------------------------------------------------------------------------------


def logs(options: argparse.Namespace) -> int:
    """Print the log of the run outside, as its provider has it; ``--follow`` until it is complete."""
    asyncio.run(_logs(options))
    return EXIT_OK


async def _logs(options: argparse.Namespace) -> None:
    async with looking(configuration(options)) as ask:
        identity = await _execution_of(ask, options)
        cursor = ""
        while True:
            piece = await ask({"verb": "logs", "id": identity, "cursor": cursor})
            for line in piece["lines"]:
                coloured(line)
            moved, cursor = piece["cursor"] != cursor, piece["cursor"]
            if reader_left() or piece["complete"] or not (options.follow or (moved and piece["lines"])):
                return
            if not piece["lines"]:
                await asyncio.sleep(LOOK_S)


async def _execution_of(ask: Ask, options: argparse.Namespace) -> str:
    """Return the execution that is meant: an item's newest; with ``--follow`` one is waited for."""
    if not options.id.startswith("itm-"):
        return str(options.id)
    while True:
        found = await ask({"verb": "execution", "id": options.id})
        item = found["item"]
        if found["executions"]:
            return str(found["executions"][-1]["id"])
        if not options.follow or item["state"] in ENDED:
            why = waits_for(item) if item["state"] == "queued" else f"{item['state']}: {item['message']}"
            raise ReconcilerError(f"{item['id']} has not run: {why}", code="RC6035")
        await asyncio.sleep(LOOK_S)


# -- doing --------------------------------------------------------------------------------------------------------------


def approve(options: argparse.Namespace) -> int:
    """Approve an item that waits, or a blocked set of changes."""
    if options.id.startswith("sha256:"):
        if options.digest:
            raise UsageError("--digest goes with an item; sha256:… is the digest of a blocked set itself")
        from reconciler.cli.control import approve_set

        return approve_set(options)
    answer = act(configuration(options), {"verb": "approve", "id": options.id, "digest": options.digest or ""})
    out(f"approved {answer['item']}; approvals so far: {', '.join(answer['approvals'])}")
    return EXIT_OK


def cancel(options: argparse.Namespace) -> int:
    """Take an item out of its queue, or end an execution."""
    answer = act(configuration(options), {"verb": "cancel", "id": options.id})
    if answer["state"] == "discarded":
        out(f"discarded {answer['item']}")
    else:
        out(f"asked for the end of {answer['execution']}; see: reconciler executions {answer['execution']}")
    return EXIT_OK


def rerun(options: argparse.Namespace) -> int:
    """Repeat what has ended, as it was."""
    config = configuration(options)
    answer = act(config, {"verb": "rerun", "id": options.id, "key": options.key or ""})
    if options.wait:
        from reconciler.cli.wait import wait_for_item

        return wait_for_item(config, str(answer["item"]), options)
    if options.output == "json":
        emit_json({"item": answer["item"], "new": answer["new"]})
    else:
        done = "queued" if answer["new"] else "queued before under this key:"
        out(f"{done} {answer['item']}; see: reconciler executions {answer['item']}")
    return EXIT_OK
