"""Field differences between what is declared and what a provider shows, at JSON pointers.

Only what the desired object names is compared; objects are recursed into, lists are compared whole. One function,
`merged_attributes`, decides both what is written and what is compared, so that an ignored field is ignored in both.

A field that an answer leaves out is unknown, which is not the same as ``null``: what was written last stands for it, and
without a record it proves no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.model.objects import ManagedObject, ObservedObject, RecordedObject
from reconciler.model.plan import ChangeClass, FieldChange
from reconciler.model.resources import IgnoreRule
from reconciler.model.times import has_passed
from reconciler.model.values import JsonObject, JsonValue

ABSENT: Any = object()
"""What `value_at` returns where there is nothing; distinct from ``null``."""
UNKNOWN: Any = object()
"""Placeholder for the last write where it is not recorded."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What we know of the last write: tells a commit from a drift. None means "unknown" and proves nothing."""

    attributes: JsonObject | None = None
    fingerprints: Mapping[str, str] | None = None
    updated_at: str = ""
    unshown: tuple[str, ...] = ()

    @classmethod
    def of(cls, recorded: RecordedObject | None) -> Basis:
        """Return what ``recorded`` knows."""
        return (
            cls() if recorded is None else cls(recorded.attributes, recorded.fingerprints, recorded.updated_at, recorded.unshown)
        )


def field_changes(
    desired: ManagedObject, observed: ObservedObject, recorded: RecordedObject | None, *, now: float
) -> tuple[FieldChange, ...]:
    """Return every difference, sorted by pointer, each with its class. ``now`` is seconds since the epoch."""
    return changes_since(desired, observed, Basis.of(recorded), now=now)


def changes_since(desired: ManagedObject, observed: ObservedObject, basis: Basis, *, now: float) -> tuple[FieldChange, ...]:
    """Return every difference, classed by ``basis`` (see `field_changes`)."""
    wanted = merged_attributes(desired, observed, now)
    unreadable = frozenset(desired.unreadable)
    visible = [
        FieldChange(path, before, after, _class_of(path, after, basis))
        for path, before, after in _walk(wanted, observed.attributes, _last_written(basis), "", unreadable)
    ]
    hidden = _unreadable_changes(desired, basis, now) if unreadable else ()
    secret = _write_only_changes(desired, observed, basis, visible=bool(visible), now=now) if desired.write_only else ()
    changes = [*visible, *hidden, *secret]
    return tuple(sorted(changes, key=lambda change: change.path)) if len(changes) > 1 else tuple(changes)


def merged_attributes(desired: ManagedObject, observed: ObservedObject | None, now: float) -> JsonObject:
    """Return what is to be written: the desired attributes, with every ignored field as it was observed.

    A field that is ignored and not there stays away. ``now`` (seconds since the epoch) ends rules with ``until``.
    """
    if observed is None or not desired.lifecycle.ignore:
        return desired.attributes
    merged: JsonValue = desired.attributes
    for rule in active_rules(desired.lifecycle.ignore, now):
        if any(covers(rule.path, pointer) for pointer in desired.unreadable):
            continue  # what is never shown cannot be kept as observed
        merged = _put(merged, pointer_parts(rule.path), value_at(observed.attributes, rule.path))
    return merged  # type: ignore[no-any-return]


def active_rules(rules: Iterable[IgnoreRule], now: float) -> tuple[IgnoreRule, ...]:
    """Return the rules that still hold at ``now`` (seconds since the epoch)."""
    return tuple(rule for rule in rules if not has_passed(rule.until, now))


def overall_class(fields: Iterable[FieldChange]) -> ChangeClass:
    """Return the class of a change with these fields: a commit if any is, else a drift if any is."""
    classes = {change.cls for change in fields}
    if ChangeClass.COMMIT in classes or not classes:
        return ChangeClass.COMMIT
    return ChangeClass.DRIFT if ChangeClass.DRIFT in classes else ChangeClass.UNVERIFIABLE


def fingerprint_moved(fingerprint: str, known: str | None) -> bool:
    """Whether a write-only value is another than the one last written.

    A reference fingerprint (``ref:…``, made without credentials) says nothing about a keyed one.
    """
    if known is not None and fingerprint.startswith("ref:") != known.startswith("ref:"):
        return False
    return fingerprint != known


def pointer_parts(pointer: str) -> list[str]:
    """Return the unescaped parts of a JSON pointer (RFC 6901)."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def covers(outer: str, inner: str) -> bool:
    """Whether the pointer ``inner`` is ``outer`` or lies below it."""
    return inner == outer or inner.startswith(outer + "/")


def value_at(document: JsonValue, pointer: str) -> JsonValue:
    """Return the value at ``pointer``, or `ABSENT`."""
    for part in pointer_parts(pointer):
        if isinstance(document, Mapping):
            document = document.get(part, ABSENT)
        elif _is_list(document) and part.isdigit() and int(part) < len(document):
            document = document[int(part)]
        else:
            return ABSENT
    return document


def same(one: JsonValue, other: JsonValue) -> bool:
    """Whether two JSON values are equal: tuples are lists, ``null`` is "missing", and ``true`` is not ``1``."""
    if one is other:
        return True
    if one is None or other is None or one is ABSENT or other is ABSENT:
        return (one is None or one is ABSENT) and (other is None or other is ABSENT)
    if isinstance(one, Mapping):
        return isinstance(other, Mapping) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if _is_list(one):
        return _is_list(other) and len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) and isinstance(one, bool) is isinstance(other, bool)


def _walk(
    wanted: JsonValue, seen: JsonValue, last: JsonValue, path: str, skip: frozenset[str]
) -> Iterator[tuple[str, JsonValue, JsonValue]]:
    """Yield (pointer, before, after) of each difference; ``last`` is what was written last, and stands for what is not shown."""
    if path in skip:
        return
    if isinstance(wanted, Mapping) and isinstance(seen, Mapping):
        for key in wanted:
            written = _below(last, key)
            # What is not shown is compared as if it were as last written; without a record, as if it were as declared.
            shown = seen[key] if key in seen else wanted[key] if written is UNKNOWN else written
            yield from _walk(wanted[key], shown, written, f"{path}/{escape(key)}", skip)
    elif not same(wanted, seen) and not (_is_list(wanted) and same(wanted, _completed(seen, wanted, last))):
        yield path, None if seen is ABSENT else seen, None if wanted is ABSENT else wanted


def _completed(seen: JsonValue, wanted: JsonValue, last: JsonValue) -> JsonValue:
    """Return ``seen`` with each field that it leaves out as it was last written, or as ``wanted`` where that is not known."""
    if isinstance(wanted, Mapping) and isinstance(seen, Mapping):
        missing = {key: wanted[key] if _below(last, key) is UNKNOWN else _below(last, key) for key in wanted if key not in seen}
        found = {key: _completed(seen[key], wanted.get(key, ABSENT), _below(last, key)) for key in seen}
        return {**found, **{key: value for key, value in missing.items() if value is not ABSENT}}
    if _is_list(wanted) and _is_list(seen) and len(wanted) == len(seen):
        before = last if _is_list(last) and len(last) == len(seen) else [UNKNOWN] * len(seen)
        return [_completed(*three) for three in zip(seen, wanted, before, strict=True)]
    return seen


def _below(last: JsonValue, key: str) -> JsonValue:
    """Return the part of the last write below ``key``."""
    if last is UNKNOWN:
        return UNKNOWN
    return last.get(key, ABSENT) if isinstance(last, Mapping) else ABSENT


def _last_written(basis: Basis) -> JsonValue:
    return UNKNOWN if basis.attributes is None else basis.attributes


def _class_of(path: str, wanted: JsonValue, basis: Basis) -> ChangeClass:
    """Return drift if the declared value is the one last written: then the provider changed. Without a record, Git decides."""
    if basis.attributes is not None and same(value_at(basis.attributes, path), wanted):
        return ChangeClass.DRIFT
    return ChangeClass.COMMIT


def _unreadable_changes(desired: ManagedObject, basis: Basis, now: float) -> Iterator[FieldChange]:
    """The provider never shows these: what was written last stands for what is there."""
    if basis.attributes is None:
        return
    rules = active_rules(desired.lifecycle.ignore, now)
    for pointer in desired.unreadable:
        if any(covers(rule.path, pointer) for rule in rules):
            continue
        before, after = value_at(basis.attributes, pointer), value_at(desired.attributes, pointer)
        if not same(before, after):
            yield FieldChange(pointer, None if before is ABSENT else before, None if after is ABSENT else after)


def _write_only_changes(
    desired: ManagedObject, observed: ObservedObject, basis: Basis, *, visible: bool, now: float
) -> Iterator[FieldChange]:
    rules = active_rules(desired.lifecycle.ignore, now)
    # A stamp that moved together with a visible field is explained by that field.
    touched = bool(basis.updated_at and observed.updated_at and basis.updated_at != observed.updated_at and not visible)
    for value in desired.write_only:
        if any(covers(rule.path, value.pointer) for rule in rules):
            continue
        moved = basis.fingerprints is not None and fingerprint_moved(value.fingerprint, basis.fingerprints.get(value.pointer))
        is_shown = observed.present_write_only is not None and value.pointer not in basis.unshown
        unset = is_shown and value.pointer not in (observed.present_write_only or ())
        if moved or unset or touched:
            yield FieldChange(value.pointer, cls=ChangeClass.UNVERIFIABLE, sensitive=True)


def _put(document: JsonValue, parts: Sequence[str], value: JsonValue) -> JsonValue:
    """Return ``document`` with ``value`` at ``parts`` (removed if ABSENT); what lies on no such path is left as it is."""
    if not parts:
        return document if value is ABSENT else value
    head, rest = parts[0], parts[1:]
    if isinstance(document, Mapping):
        copy = dict(document)
        if rest:
            if head in copy or value is not ABSENT:
                copy[head] = _put(copy.get(head, {}), rest, value)
        elif value is ABSENT:
            copy.pop(head, None)
        else:
            copy[head] = value
        return copy
    if _is_list(document) and head.isdigit() and int(head) < len(document):
        index = int(head)
        item = _put(document[index], rest, value) if rest else value
        return [*document[:index], *([] if item is ABSENT else [item]), *document[index + 1 :]]
    return document


def _is_list(value: JsonValue) -> bool:
    return isinstance(value, list | tuple)


def escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1") if "~" in key or "/" in key else key
