"""What all renderings share: words, counts, values as text. A sensitive value is never more than "(secret)"."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping

from reconciler.model.plan import Action, Change, ChangeClass, Disposition, FieldChange, PlanSet
from reconciler.model.values import JsonValue

SECRET = "(secret)"
SYMBOLS = {
    Action.CREATE: "+",
    Action.UPDATE: "~",
    Action.REPLACE: "±",
    Action.DELETE: "-",
    Action.ADOPT: "^",
    Action.REMARK: ">",
    Action.RECORD: "=",
    Action.FORGET: "x",
}
CLASS_TITLES = {
    ChangeClass.COMMIT: "Committed in Git",
    ChangeClass.DRIFT: "Drift: changed at the provider",
    ChangeClass.UNPROVABLE: "Unprovable: write-only values",
}
_VERBS = {
    Action.CREATE: "to create",
    Action.UPDATE: "to update",
    Action.REPLACE: "to replace",
    Action.DELETE: "to delete",
    Action.ADOPT: "to adopt",
    Action.REMARK: "to re-mark",
    Action.RECORD: "to record",
    Action.FORGET: "to forget",
}
_DISPOSITIONS = {Disposition.BLOCKED: "blocked", Disposition.HELD: "held", Disposition.WAITING: "waiting"}

_USERINFO = re.compile(r"(://)[^/@\s\"]+@")
_QUERY = re.compile(r"(://[^\s?#\"]*\?)[^\s\"]+")


def summary(planset: PlanSet) -> str:
    """Return the summary line: ``Plan: 3 to create, 1 to update; 2 blocked``."""
    changes = planset.changes
    failed = sum(problem.is_error for problem in planset.unread)
    unread = f" {failed} could not be read." if failed else ""
    if not changes:
        return f"Plan: nothing to do in what could be read.{unread}" if unread else "Plan: nothing to do."
    actions = Counter(change.action for change in changes if change.disposition is Disposition.EXECUTE)
    rest = Counter(change.disposition for change in changes)
    doing = ", ".join(f"{actions[action]} {verb}" for action, verb in _VERBS.items() if actions[action]) or "nothing to do now"
    waiting = ", ".join(f"{rest[disposition]} {word}" for disposition, word in _DISPOSITIONS.items() if rest[disposition])
    return f"Plan: {doing}" + (f"; {waiting}" if waiting else "") + "." + unread


def by_class(changes: tuple[Change, ...]) -> list[tuple[ChangeClass, list[Change]]]:
    """Return the changes of each class that has any, in the plan's order."""
    return [(cls, found) for cls in ChangeClass if (found := [change for change in changes if change.cls is cls])]


def value_text(value: JsonValue) -> str:
    """Return ``value`` as JSON on one line, without characters that a terminal or a page would act upon."""
    return plain(json.dumps(without_tokens(value), ensure_ascii=False, sort_keys=True))


def without_tokens(value: JsonValue) -> JsonValue:
    """Return ``value`` with the userinfo and the query's values of every URL cut: in somebody else's hook they are often a token."""
    if isinstance(value, str):
        return _QUERY.sub(r"\1…", _USERINFO.sub(r"\1", value)) if "://" in value else value
    if isinstance(value, Mapping):
        return {key: without_tokens(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_tokens(item) for item in value]
    return value


def plain(text: str) -> str:
    """Return ``text`` with control and direction characters escaped: provider names are not to be trusted."""
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def field_text(field: FieldChange) -> str:
    """Return one difference: ``/events: ["push"] → ["push", "release"]``."""
    if field.sensitive:
        return f"{plain(field.path)}: {SECRET}"
    return f"{plain(field.path)}: {value_text(field.before)} → {value_text(field.after)}"


def state_text(change: Change) -> str:
    """Return why a change is made, or why it is not: empty for a plain one."""
    if change.disposition is Disposition.EXECUTE:
        return change.reason
    return f"{_DISPOSITIONS[change.disposition]}: {change.reason}"


def cut(text: str, width: int) -> str:
    """Return ``text`` in at most ``width`` characters."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def attributes_of(change: Change) -> JsonValue:
    """Return what a create is about to write, with each write-only value as "(secret)"."""
    if change.desired is None:
        return None
    return {"attributes": change.desired.attributes, "writeOnly": {w.pointer: SECRET for w in change.desired.write_only}}
