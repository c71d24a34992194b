"""Shared by all renderings: words, counts, values as text. A sensitive value is shown as "(secret)"."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping

from reconciler.model.json import escape
from reconciler.model.plan import Action, Change, ChangeClass, Disposition, FieldChange, PlanSet, ResourceChange
from reconciler.model.printable import plain
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
    ChangeClass.UNVERIFIABLE: "Unverifiable: write-only values",
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
RESOURCES_TITLE = "Manifests: new and changed resources"
_RESOURCE_VERBS = {Action.CREATE: "new", Action.UPDATE: "changed", Action.DELETE: "removed"}
_DISPOSITIONS = {Disposition.BLOCKED: "blocked", Disposition.HELD: "held", Disposition.WAITING: "waiting"}

_USERINFO = re.compile(r"(://)[^/@\s\"]+@")
_QUERY = re.compile(r"(://[^\s?#\"]*\?)[^\s\"]+")


def summary(planset: PlanSet) -> str:
    """Return the summary line: ``Plan: 3 to create, 1 to update; 2 blocked``."""
    changes = planset.changes
    failed = sum(problem.is_error for problem in planset.unread)
    unread = f" {failed} could not be read." if failed else ""
    if planset.empty:
        return f"Plan: nothing to do in what could be read.{unread}" if unread else "Plan: nothing to do."
    actions = Counter(change.action for change in changes if change.disposition is Disposition.EXECUTE)
    rest = Counter(change.disposition for change in changes)
    manifests = Counter(change.action for change in planset.resources)
    parts = [
        ", ".join(f"{actions[action]} {verb}" for action, verb in _VERBS.items() if actions[action]),
        ", ".join(f"{rest[disposition]} {word}" for disposition, word in _DISPOSITIONS.items() if rest[disposition]),
    ]
    if changes and not parts[0]:
        parts[0] = "nothing to do now"
    if manifests:
        parts.append("manifests: " + ", ".join(f"{manifests[a]} {word}" for a, word in _RESOURCE_VERBS.items() if manifests[a]))
    return f"Plan: {'; '.join(part for part in parts if part)}.{unread}"


def by_class(changes: tuple[Change, ...]) -> list[tuple[ChangeClass, list[Change]]]:
    """Return the changes of each class that has any, in the plan's order."""
    return [(cls, members) for cls in ChangeClass if (members := [change for change in changes if change.cls is cls])]


def value_text(value: JsonValue) -> str:
    """Return ``value`` as JSON on one line, without characters that control a terminal or a page."""
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


def field_text(field: FieldChange) -> str:
    """Return one difference: ``/events: ["push"] → ["push", "release"]``."""
    if field.sensitive:
        return f"{plain(field.path)}: {SECRET}"
    return f"{plain(field.path)}: {value_text(field.before)} → {value_text(field.after)}"


def details(change: Change) -> Iterator[str]:
    """Yield each difference; of a create, each attribute that it writes, write-only ones as references."""
    if change.action is Action.CREATE and change.desired is not None and not change.fields:
        for path, value in leaves(change.desired.attributes):
            yield f"{plain(path)}: {value_text(value)}"
        for value in sorted(change.desired.write_only, key=lambda value: value.pointer):
            yield f"{plain(value.pointer)}: {plain(str(value.ref))} (write-only)"
        return
    yield from map(field_text, change.fields)


def resource_details(change: ResourceChange) -> Iterator[str]:
    """Yield the values of a changed manifest: all values of a new manifest, otherwise the old and new ones."""
    for field in change.fields:
        if field.sensitive or change.action is Action.UPDATE:
            yield field_text(field)
        elif change.action is Action.CREATE:
            yield f"{plain(field.path)}: {value_text(field.after)}"


def leaves(value: JsonValue, path: str = "") -> Iterator[tuple[str, JsonValue]]:
    """Yield the values of ``value`` by JSON pointer (RFC 6901), sorted; lists stay whole."""
    if isinstance(value, Mapping) and value:
        for key in sorted(value):
            yield from leaves(value[key], f"{path}/{escape(key)}")
    elif path:
        yield path, value


def short(revision: str) -> str:
    """Return ``main@sha1:0123…`` with eight characters of the commit: enough for a person."""
    head, colon, digest = revision.rpartition(":")
    return f"{head}{colon}{digest[:8]}" if colon and len(digest) > 8 else revision


def state_text(change: Change) -> str:
    """Return the reason why a change is made or not made; empty for an ordinary one."""
    if change.disposition is Disposition.EXECUTE:
        return change.reason
    return f"{_DISPOSITIONS[change.disposition]}: {change.reason}"


def cut(text: str, width: int) -> str:
    """Return ``text`` in at most ``width`` characters."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def attributes_of(change: Change) -> JsonValue:
    """Return what a create is about to write, with each write-only value as its reference."""
    if change.desired is None:
        return None
    return {"attributes": change.desired.attributes, "writeOnly": {w.pointer: str(w.ref) for w in change.desired.write_only}}
