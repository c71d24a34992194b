"""A plan as one JSON document (``formatVersion`` 1)."""

from __future__ import annotations

import json

from reconciler.model.errors import Problem
from reconciler.model.plan import Change, FieldChange, Plan, PlanSet, ResourceChange
from reconciler.model.values import JsonValue
from reconciler.planning.render.words import SECRET, attributes_of, without_tokens

FORMAT_VERSION = 1


def render_json(planset: PlanSet, problems: tuple[Problem, ...] = (), *, approvable: bool = True) -> str:
    """Return the document as text, keys in a fixed order."""
    return json.dumps(plan_document(planset, problems, approvable=approvable), indent=2, ensure_ascii=False) + "\n"


def plan_document(planset: PlanSet, problems: tuple[Problem, ...] = (), *, approvable: bool = True) -> JsonValue:
    """Return the plan as JSON values: everything that was decided, and no secret."""
    return {
        "formatVersion": FORMAT_VERSION,
        "kind": "Plan",
        "revision": planset.revision,
        "sha256": planset.sha256,
        "approvable": approvable,
        "plans": [_plan(plan, approvable) for plan in planset.plans],
        "resources": [resource_document(change) for change in planset.resources],
        "problems": [problem_document(problem) for problem in problems],
        "unread": [problem_document(problem) for problem in planset.unread],
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


def _plan(plan: Plan, approvable: bool) -> JsonValue:
    blocked = plan.blocked_sha256
    return {
        "integration": plan.integration.path,
        "sha256": plan.sha256,
        "owned": plan.owned,
        "blocked": {"sha256": blocked if approvable else None, "addresses": [c.address for c in plan.blocked]}
        if blocked
        else None,
        "changes": [change_document(change) for change in plan.changes],
        "notes": list(plan.notes),
        "orphans": [{"scope": str(o.scope), "externalId": o.external_id, "url": o.url} for o in plan.orphans],
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


def change_document(change: Change) -> JsonValue:
    """Return one change as JSON values."""
    return {
        **change_summary(change),
        "resource": change.resource.path,
        "type": change.scope.type,
        "scope": change.scope.key,
        "externalId": change.external_id,
        "previous": change.previous,
        "dependsOn": list(change.depends_on),
        "file": change.location.file,
        "line": change.location.line,
        "column": change.location.column,
        "retryAt": change.retry_at,
        "fields": [_field(field) for field in change.fields],
        "desired": attributes_of(change),
    }


def resource_document(change: ResourceChange) -> JsonValue:
    """Return one changed manifest as JSON values."""
    return {
        "resource": change.resource.path,
        "action": change.action.value,
        "digest": change.digest,
        "file": change.location.file,
        "line": change.location.line,
        "column": change.location.column,
        "fields": [_field(field) for field in change.fields],
    }


def _field(field: FieldChange) -> JsonValue:
    before, after = (SECRET, SECRET) if field.sensitive else (without_tokens(field.before), without_tokens(field.after))
    return {"path": field.path, "class": field.cls.value, "before": before, "after": after, "sensitive": field.sensitive}
