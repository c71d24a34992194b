"""``explain`` and ``history``: why a resource is as it is, and what was changed. Both work without a daemon."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.cli.output import emit_json, say
from reconciler.cli.session import configuration, configuration_state
from reconciler.cli.sink import out
from reconciler.cli.status import read
from reconciler.config.settings import Config
from reconciler.model.errors import UsageError
from reconciler.model.exit_codes import EXIT_ERROR, EXIT_OK

if TYPE_CHECKING:
    from reconciler.state import Store


def explain(options: argparse.Namespace) -> int:
    """Tell the causal chain of one resource from the journal."""
    config = configuration(options)
    document = read(Path(config.status.file)) if Path(config.status.file).exists() else {"resources": []}
    asyncio.run(_explain(config, document, options))
    return EXIT_OK


async def _explain(config: Config, document: Mapping[str, Any], options: argparse.Namespace) -> None:
    from reconciler.engine.control import parse_resource
    from reconciler.model.resources import ResourceId
    from reconciler.model.times import iso

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
    out(str(identity))
    if row is not None:
        out(f"  declared   {row['file']}:{row['line']}" + (" (removed; being deleted)" if row["deleting"] else ""))
        for condition in row["conditions"]:
            out(
                f"  condition  {condition['type']}={condition['status']} {condition['reason']} since {condition['lastTransitionTime']}"
            )
            if condition["message"]:
                out(f"             {condition['message']}")
        for one in row["objects"]:
            out(f"  object     {one['address']} = {one['externalId']}")
        for drifted in row["drift"]:
            out(f"  drift      {drifted.get('address', '')} {drifted['path'] or '(missing)'} ({drifted['class']})")
        out(f"  next look  {row['nextReconcileAt'] or '-'}, attempts {row['attempts']}")
    out("  journal (newest last)")
    for entry in reversed(entries):
        out("    " + _line(entry.event, entry.detail, iso(entry.at), entry.revision, iso))


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
        values = " ".join(f"{key}={value}" for key, value in detail.items() if key != "id" and value not in ("", None))
        return f"{at} {short} {event.replace('_', ' ')}  {detail['id']} {values}".rstrip()
    return f"{at} {short} {event:8} {detail.get('code', '')} {detail.get('error', '')}".rstrip()


def history(options: argparse.Namespace) -> int:
    """Show the audit log, newest first, or check its chain."""
    from reconciler.engine.control import parse_resource
    from reconciler.model.resources import ResourceId
    from reconciler.model.times import iso

    config = configuration(options)
    store = _store(config)
    try:
        if options.verify:
            ok, message = verify_audit(config, store, options.anchor)
            out(message)
            return EXIT_OK if ok else EXIT_ERROR
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
        out(
            f"{seq:>6} {iso(entry.at)} {entry.actor} {entry.verb} {entry.outcome} {entry.address or entry.resource}"
            + (f" [{fields}]" if fields else "")
            + (f" ({why})" if why else "")
            + (f" {entry.revision}" if entry.revision else "")
        )
    if not rows:
        say("nothing was changed yet")
    return EXIT_OK


def verify_audit(config: Config, store: Store, given: str | None = None) -> tuple[bool, str]:
    """Check the audit log with the key and against the anchor that is kept, and ``given`` (``ROW:HASH`` of a log line).

    Returns whether it holds, and what there is to say.
    """
    from reconciler.credentials.keys import load_keyring
    from reconciler.daemon.session import audit_keys
    from reconciler.state.audit import Anchor

    keyring = load_keyring(config, stored_check=store.get_meta("key.check"), create_allowed=False)
    store.use_audit_keys(audit_keys(keyring))
    anchors = []
    if given:
        row, _, digest = given.partition(":")
        if not row.isdigit() or not digest:
            raise UsageError("--anchor is ROW:HASH", hint="Take both from a line `audit_anchor` of the daemon's log.")
        anchors.append(Anchor(int(row), digest))
    try:
        kept = store.kept_anchor()
    except ValueError as error:
        return False, f"{error}: somebody replaced it. Check with `history --verify --anchor ROW:HASH` of the daemon's log"
    report = store.verify_audit(anchors=[*anchors, *([kept] if kept is not None else [])])
    if not report.ok:
        return False, str(report)
    if kept is None and report.rows:
        return False, f"{report}, but its anchor is missing: rows at the end may be missing"
    return True, f"{report}" + (f", up to the anchor at row {kept.seq} and beyond" if kept is not None else "")


def _store(config: Config) -> Store:
    from reconciler.state import Store

    configuration_state(config)
    return Store.open(config.state.url, state_dir=config.state_dir, create=False, key_file=Path(config.master_key.file))
