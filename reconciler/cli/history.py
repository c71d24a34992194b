"""``explain`` and ``history``: why a resource is in its state, and past changes. Both work without a daemon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from reconciler.cli import listing
from reconciler.cli.listing import Listing, Style
from reconciler.cli.options import ExplainOptions, HistoryOptions
from reconciler.cli.session import configuration, require_state
from reconciler.cli.sink import out
from reconciler.cli.status import no_resource, read
from reconciler.cli.tables import counted, name_of, place_of, prefixed, table
from reconciler.config.settings import Config
from reconciler.model.errors import UsageError
from reconciler.model.exit_codes import EXIT_ERROR, EXIT_OK
from reconciler.model.resources import ResourceId
from reconciler.model.status_document import ResourceRow
from reconciler.model.times import iso

if TYPE_CHECKING:
    from reconciler.model.records import AuditEntry, JournalEntry
    from reconciler.state import Store

JOURNAL_ROWS = 40
INTENT = "intent"
"""Outcome of an audit row that is committed before its write."""


def explain(options: ExplainOptions) -> int:
    """Show why a resource is in its state, from the status file and the journal."""
    config = configuration(options)
    return listing.show(options, lambda: _explained(config, options))


def _explained(config: Config, options: ExplainOptions) -> Listing:
    from reconciler.manifests.resource_argument import parse_resource

    file = Path(config.status.file)
    rows = read(file).resources if file.exists() else ()
    by_id = {ResourceId(row.kind, row.canvas, row.name): row for row in rows}
    store = _store(config)
    try:
        known = by_id.keys() | {ResourceId.from_path(path) for path in store.resources()}
        identity = parse_resource(options.resource, known)
        entries = store.journal_of(identity, JOURNAL_ROWS)
    finally:
        store.close()
    row = by_id.get(identity)
    if row is None and not entries:
        raise no_resource(str(identity), map(str, known))
    journal = [{"at": iso(e.at), "event": e.event, "revision": e.revision, **e.detail} for e in entries]
    status = msgspec.to_builtins(row) if row is not None else None
    document = {"resource": identity.path, "status": status, "journal": journal}

    def text(style: Style) -> None:
        out(str(identity))
        if row is not None:
            _show_status(row, style)
        out("  journal (newest last)")
        for entry in reversed(entries):
            what = f"{style.revision(entry.revision)} {_event(entry, identity.path, style)}".strip()
            prefixed(f"    {style.clock.age(iso(entry.at)):6} ", what)

    return Listing(document, [str(identity)], text)


def _show_status(row: ResourceRow, style: Style) -> None:
    clock = style.clock
    out(f"  declared   {row.file}:{row.line}" + (" (removed; being deleted)" if row.deleting else ""))
    for condition in row.conditions:
        since = f", since {clock.ago(condition.last_transition_time)}" if condition.last_transition_time else ""
        out(f"  condition  {condition.type}={condition.status} {condition.reason}{since}")
        if condition.message:
            prefixed("             ", condition.message)
    path = ResourceId(row.kind, row.canvas, row.name).path
    for managed in row.objects:
        prefixed("  object     ", f"{place_of(managed.address, path)} #{managed.external_id}")
    for drift in row.drift:
        prefixed("  drift      ", f"{place_of(drift.address, path)} {drift.path or '(missing)'} ({drift.cls})")
    attempts = f", after {counted(row.attempts, 'attempt')}" if row.attempts else ""
    if row.next_reconcile_at:
        prefixed("  next       ", f"{clock.due(row.next_reconcile_at)}{attempts}")


class _JournalDetail(msgspec.Struct, frozen=True):
    """The details that the journal keeps of a change, a failure or the next retry."""

    action: str = ""
    address: str = ""
    cls: str = ""
    code: str = ""
    disposition: str = ""
    duration_ms: int | float = 0
    error: str = ""
    external_id: str | None = None
    fields: tuple[str, ...] = ()
    file: str = ""
    reason: str = ""
    request: str = ""


def _event(entry: JournalEntry, resource: str, style: Style) -> str:
    """Return what happened to an object of ``resource`` (a path), or to its items and executions."""
    if entry.event == "next_try":
        return f"next try {style.clock.ago(iso(float(str(entry.detail['at']))))}"
    if "id" in entry.detail:  # an item or an execution
        pairs = " ".join(f"{key}={value}" for key, value in entry.detail.items() if key != "id" and value not in ("", None))
        return f"{entry.event.replace('_', ' ')}  {entry.detail['id']} {pairs}"
    detail = msgspec.convert(entry.detail, _JournalDetail)
    place = place_of(detail.address, resource)
    if entry.event == "planned":
        fields = f" {', '.join(detail.fields)}" if detail.fields else ""
        reason = f" — {detail.reason}" if detail.reason else ""
        change = f"{detail.action} ({detail.cls}, {detail.disposition}) {place}{fields}{reason}"
        return f"planned  {change} from {detail.file}"
    if entry.event == "applied":
        number = f" #{detail.external_id}" if detail.external_id else ""
        return f"applied  {detail.action} {place}{number} in {detail.duration_ms} ms"
    if entry.event == "failed":
        request = "" if detail.request in detail.error else f" ({detail.request})"
        return f"failed   {detail.action} {place}: {detail.code} {detail.error}{request}"
    return f"{entry.event:8} {detail.code} {detail.error}"


# -- history ------------------------------------------------------------------------------------------------------------


def history(options: HistoryOptions) -> int:
    """Show the audit log, newest first, or verify it."""
    config = configuration(options)
    if not options.verify:
        return listing.show(options, lambda: _list(config, options))
    store = _store(config)
    try:
        intact, message = verify_audit(config, store, options.anchor)
    finally:
        store.close()
    out(message)
    return EXIT_OK if intact else EXIT_ERROR


def _list(config: Config, options: HistoryOptions) -> Listing:
    from reconciler.manifests.resource_argument import parse_resource

    store = _store(config)
    try:
        known = {ResourceId.from_path(path) for path in store.resources()}
        identity = parse_resource(options.resource, known) if options.resource else None
        each_row = options.output in {"json", "wide"}
        limit = options.limit if each_row else 2 * options.limit  # a change has two rows
        rows = store.audit_tail(limit, resource=identity.path if identity is not None else None)
    finally:
        store.close()
    if identity is not None and not rows and identity not in known:
        raise no_resource(str(identity), map(str, known))
    if not each_row:
        rows = settled(rows)[: options.limit]
    names = list(dict.fromkeys(name_of(entry.resource) for _, entry in rows if entry.resource))
    return Listing({"rows": [_row(number, entry) for number, entry in rows]}, names, lambda style: _table(rows, style))


def settled(rows: Sequence[tuple[int, AuditEntry]]) -> list[tuple[int, AuditEntry]]:
    """Return ``rows`` (newest first) without the intents that have an outcome; one without outcome is a write that is not settled."""
    open_outcomes: Counter[tuple[str, str, str]] = Counter()
    kept = []
    for number, entry in rows:
        write = (entry.verb, entry.resource, entry.address or entry.external_id)
        if entry.outcome == INTENT and open_outcomes[write]:
            open_outcomes[write] -= 1
            continue
        if entry.outcome != INTENT:
            open_outcomes[write] += 1
        kept.append((number, entry))
    return kept


def _table(rows: Sequence[tuple[int, AuditEntry]], style: Style) -> None:
    if not rows:
        style.note("no changes yet")
        return
    head = ("ROW", style.clock.head, "RESOURCE", "CHANGE", "BY", "REVISION", "WHAT")
    table(head, [_cells(number, entry, style) for number, entry in rows], none="")


def _cells(number: int, entry: AuditEntry, style: Style) -> list[str]:
    detail = msgspec.convert(entry.detail, _AuditDetail)
    why = " ".join(text for text in (detail.cls, detail.reason, detail.error) if text)
    what = [
        place_of(entry.address, entry.resource),
        f"[{', '.join(detail.fields)}]" if detail.fields else "",
        f"({why})" if why else "",
    ]
    return [
        str(number),
        style.clock.age(iso(entry.at)),
        name_of(entry.resource) or "-",
        f"{entry.verb} {entry.outcome}".strip(),
        entry.actor,
        style.revision(entry.revision) or "-",
        " ".join(text for text in what if text),
    ]


def _row(number: int, entry: AuditEntry) -> Mapping[str, object]:
    return {
        "seq": number,
        "at": iso(entry.at),
        "actor": entry.actor,
        "verb": entry.verb,
        "outcome": entry.outcome,
        "address": entry.address,
        "resource": entry.resource,
        "externalId": entry.external_id,
        "revision": entry.revision,
        "detail": dict(entry.detail),
    }


class _AuditDetail(msgspec.Struct, frozen=True, rename={"cls": "class"}):
    fields: tuple[str, ...] = ()
    cls: str = ""
    reason: str = ""
    error: str = ""


def verify_audit(config: Config, store: Store, given: str | None = None) -> tuple[bool, str]:
    """Verify the audit log with the key, and against the stored anchor and ``given`` (``ROW:HASH`` of a log line).

    Returns whether it is intact, and the result as text.
    """
    from reconciler.credentials.keys import load_keyring
    from reconciler.daemon.session import audit_keys
    from reconciler.state.audit_walk import Anchor

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
        return False, f"{error}: somebody replaced it. Verify with `history --verify --anchor ROW:HASH` from the daemon's log"
    report = store.verify_audit(anchors=[*anchors, *([kept] if kept is not None else [])])
    if not report.ok:
        return False, str(report)
    if kept is None and report.rows:
        return False, f"{report}, but its anchor is missing: rows at the end may be missing"
    return True, f"{report}" + (f", up to the anchor at row {kept.seq} and beyond" if kept is not None else "")


def _store(config: Config) -> Store:
    from reconciler.state import Store

    require_state(config)
    return Store.open(config.state.url, state_dir=config.state_dir, create=False, key_file=Path(config.master_key.file))
