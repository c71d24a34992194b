"""A plan as one JSON document (``formatVersion`` 1). Its schema is ``schemas/plan.json``."""

from __future__ import annotations

import json

from reconciler.model.errors import Problem
from reconciler.model.plan import Change, FieldChange, Loss, ResourceChange
from reconciler.model.printable import plain_json
from reconciler.model.values import JsonValue
from reconciler.planning.behaviour import Fact
from reconciler.planning.render.document import PlanDocument, PlanEntry, PlanSection
from reconciler.planning.render.values import VALUE_LIMIT, without_tokens
from reconciler.planning.render.words import SECRET

FORMAT_VERSION = 1


def json_text(document: PlanDocument) -> str:
    """Return the document as text, keys in a fixed order."""
    return plain_json(json.dumps(json_document(document), indent=2, ensure_ascii=False)) + "\n"


def json_document(document: PlanDocument) -> JsonValue:
    """Return the plan as JSON values: everything that was decided, and no secret."""
    return {
        "formatVersion": FORMAT_VERSION,
        "kind": "Plan",
        "revision": document.revision,
        "sha256": document.sha256,
        "approvable": document.approvable,
        "plans": [_section(section) for section in document.sections],
        "resources": [_resource(entry) for entry in document.manifests],
        "problems": [problem_document(problem) for problem in document.problems],
        "unread": [problem_document(problem) for problem in document.unread],
        "summary": {"text": document.summary, "counts": dict(document.counts)},
    }


def problem_document(problem: Problem) -> JsonValue:
    """Return one problem as JSON values."""
    return {
        "code": problem.code,
        "severity": problem.severity.value,
        "message": problem.message,
        "hint": problem.hint,
        "file": problem.location.file,
        "line": problem.location.line,
        "column": problem.location.column,
        "pointer": problem.pointer,
        "resource": problem.resource.path if problem.resource else None,
    }


def change_summary(change: Change) -> dict[str, JsonValue]:
    """Return the decision about an object, without its fields."""
    return {
        "address": change.address,
        "action": change.action.value,
        "class": change.cls.value,
        "disposition": change.disposition.value,
        "reason": change.reason,
        "message": change.message,
    }


def _section(section: PlanSection) -> JsonValue:
    plan, blocked = section.plan, section.blocked
    entries = [entry for group in section.groups for entry in group.entries]
    by_address = {entry.source.address: entry for entry in entries if isinstance(entry.source, Change)}
    return {
        "integration": plan.integration.path,
        "identity": section.identity,
        "sha256": plan.sha256,
        "owned": plan.owned,
        "blocked": {"sha256": blocked.sha256, "addresses": [c.address for c in plan.blocked]} if blocked is not None else None,
        "changes": [_change(change, by_address[change.address]) for change in plan.changes],
        "notes": list(plan.notes),
        "orphans": [{"scope": str(o.scope), "externalId": o.external_id, "url": o.url} for o in plan.orphans],
    }


def _change(change: Change, entry: PlanEntry) -> JsonValue:
    return {
        **change_summary(change),
        "explanation": list(entry.why),
        "resource": change.resource.path,
        "type": change.scope.type,
        "scope": change.scope.key,
        "externalId": change.external_id,
        "previous": change.previous,
        "dependsOn": list(change.depends_on),
        "file": entry.location.file,
        "line": entry.location.line,
        "column": entry.location.column,
        "retryAt": change.retry_at,
        "fields": [_field(field) for field in change.fields],
        "desired": _attributes_of(change),
        "lost": _lost(change.loss) if change.loss is not None else None,
    }


def _resource(entry: PlanEntry) -> JsonValue:
    change = entry.source
    if not isinstance(change, ResourceChange):
        return None
    return {
        "resource": change.resource.path,
        "action": change.action.value,
        "digest": change.digest,
        "file": change.location.file,
        "line": change.location.line,
        "column": change.location.column,
        "explanation": list(entry.why),
        "facts": [_fact(fact) for fact in entry.facts],
        "changedFacts": [
            {"name": d.name, "before": d.before, "after": d.after} for d in entry.details if d.fact and d.before != d.after
        ],
        "fields": [_field(field) for field in change.fields],
    }


def _fact(fact: Fact) -> JsonValue:
    return {"name": fact.name, "text": fact.text}


def _field(field: FieldChange) -> JsonValue:
    before, after = (SECRET, SECRET) if field.sensitive else (_value(field.before), _value(field.after))
    return {"path": field.path, "class": field.cls.value, "before": before, "after": after, "sensitive": field.sensitive}


def _attributes_of(change: Change) -> JsonValue:
    """Return what a create is about to write, with each write-only value as its reference."""
    if change.desired is None:
        return None
    references: JsonValue = {secret.pointer: str(secret.ref) for secret in change.desired.write_only}
    return {"attributes": _value(change.desired.attributes), "writeOnly": references}


def _lost(loss: Loss) -> JsonValue:
    return {"attributes": _value(loss.attributes), "writeOnly": list(loss.write_only)}


def _value(value: JsonValue) -> JsonValue:
    """Return ``value`` without tokens; a text longer than the limit is cut, and the number of its characters follows."""
    return _cut(without_tokens(value))


def _cut(value: JsonValue) -> JsonValue:
    if isinstance(value, str):
        return value if len(value) <= VALUE_LIMIT else f"{value[:VALUE_LIMIT]}… (+{len(value) - VALUE_LIMIT})"
    if isinstance(value, dict):
        return {key: _cut(item) for key, item in value.items()}
    return [_cut(item) for item in value] if isinstance(value, list | tuple) else value
