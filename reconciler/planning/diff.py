"""Differences between the fields of a desired object and of the observed one, by JSON pointer.

Only fields of the desired object are compared: mappings key by key, lists as a whole. `merged_attributes` gives the value that is
written and the value that is compared, so that an ignored field is ignored in both.

A field that an answer leaves out is unknown, which differs from ``null``: the value of the last write is used for it, and without
a record of that there is no difference.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeGuard

from reconciler.model.json import Json, as_map, escape, pointer_parts
from reconciler.model.objects import ManagedObject, ObservedObject, RecordedObject
from reconciler.model.plan import ChangeClass, FieldChange
from reconciler.model.resources import IgnoreRule
from reconciler.model.times import has_passed
from reconciler.model.values import JsonObject


class _Gap(enum.Enum):
    ABSENT = "absent"
    UNKNOWN = "unknown"


ABSENT: Final = _Gap.ABSENT
"""The result of `value_at` where there is no value; distinct from ``null``."""
UNKNOWN: Final = _Gap.UNKNOWN
"""Stands for the last write where it is not recorded."""
Value: TypeAlias = "Json | _Gap"


@dataclass(frozen=True, slots=True)
class Basis:
    """The recorded last write, which distinguishes a commit from a drift. None is "unknown" and proves nothing."""

    attributes: JsonObject | None = None
    fingerprints: Mapping[str, str] | None = None
    updated_at: str = ""
    unshown: tuple[str, ...] = ()

    @classmethod
    def of(cls, recorded: RecordedObject | None) -> Basis:
        """Return the last write of ``recorded``."""
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
    merged = merged_attributes(desired, observed, now)
    unreadable = frozenset(desired.unreadable)
    visible = [
        FieldChange(path, before, after, _class_of(path, after, basis))
        for path, before, after in _walk(merged, observed.attributes, _last_written(basis), "", unreadable)
    ]
    hidden = _unreadable_changes(desired, basis, now) if unreadable else ()
    secret = _write_only_changes(desired, observed, basis, visible=bool(visible), now=now) if desired.write_only else ()
    changes = [*visible, *hidden, *secret]
    return tuple(sorted(changes, key=lambda change: change.path)) if len(changes) > 1 else tuple(changes)


def merged_attributes(desired: ManagedObject, observed: ObservedObject | None, now: float) -> JsonObject:
    """Return the attributes to write: the desired ones, with every ignored field as it was observed.

    An ignored field that was not observed is left out. ``now`` (seconds since the epoch) ends rules with ``until``.
    """
    if observed is None or not desired.lifecycle.ignore:
        return desired.attributes
    merged: Mapping[str, Json] = desired.attributes
    for rule in active_rules(desired.lifecycle.ignore, now):
        if any(covers(rule.path, pointer) for pointer in desired.unreadable):
            continue  # a field that is never shown cannot be kept as observed
        merged = as_map(_put(merged, pointer_parts(rule.path), value_at(observed.attributes, rule.path)))
    return merged


def active_rules(rules: Iterable[IgnoreRule], now: float) -> tuple[IgnoreRule, ...]:
    """Return the rules that are in force at ``now`` (seconds since the epoch)."""
    return tuple(rule for rule in rules if not has_passed(rule.until, now))


def overall_class(fields: Iterable[FieldChange]) -> ChangeClass:
    """Return the class of a change with these fields: a commit if any is, else a drift if any is."""
    classes = {change.cls for change in fields}
    if ChangeClass.COMMIT in classes or not classes:
        return ChangeClass.COMMIT
    return ChangeClass.DRIFT if ChangeClass.DRIFT in classes else ChangeClass.UNVERIFIABLE


def fingerprint_moved(fingerprint: str, known: str | None) -> bool:
    """Whether a write-only value differs from the last written one.

    A reference fingerprint (``ref:…``, made without credentials) cannot be compared with a keyed one.
    """
    if known is not None and fingerprint.startswith("ref:") != known.startswith("ref:"):
        return False
    return fingerprint != known


def covers(outer: str, inner: str) -> bool:
    """Whether the pointer ``inner`` is ``outer`` or lies below it."""
    return inner == outer or inner.startswith(outer + "/")


def value_at(document: Json, pointer: str) -> Value:
    """Return the value at ``pointer``, or `ABSENT`."""
    for part in pointer_parts(pointer):
        if isinstance(document, Mapping) and part in document:
            document = document[part]
        elif _is_list(document) and part.isdigit() and int(part) < len(document):
            document = document[int(part)]
        else:
            return ABSENT
    return document


def same(first: Value, second: Value) -> bool:
    """Whether two JSON values are equal: a tuple is a list, ``null`` is "missing", and ``true`` is not ``1``."""
    if first is second:
        return True
    if first is None or second is None or first is ABSENT or second is ABSENT:
        return (first is None or first is ABSENT) and (second is None or second is ABSENT)
    if isinstance(first, Mapping):
        return (
            isinstance(second, Mapping)
            and first.keys() == second.keys()
            and all(same(value, second[key]) for key, value in first.items())
        )
    if _is_list(first):
        return _is_list(second) and len(first) == len(second) and all(map(same, first, second))
    return bool(first == second) and isinstance(first, bool) is isinstance(second, bool)


def _walk(desired: Json, seen: Value, last: Value, path: str, skip: frozenset[str]) -> Iterator[tuple[str, Json, Json]]:
    """Yield (pointer, before, after) of each difference. ``last`` is the last write, which is used for fields that are not shown."""
    if path in skip:
        return
    if isinstance(desired, Mapping) and isinstance(seen, Mapping):
        for key, value in desired.items():
            written = _below(last, key)
            # A field that is not shown counts as last written; without a record, as declared.
            shown = seen.get(key, value if written is UNKNOWN else written)
            yield from _walk(value, shown, written, f"{path}/{escape(key)}", skip)
    elif not same(desired, seen) and not (
        _is_list(desired) and _is_list(seen) and same(desired, _completed(seen, desired, last))
    ):
        yield path, _json(seen), desired


def _completed(seen: Json, desired: Value, last: Value) -> Json:
    """Return ``seen`` with each missing field as it was last written, or as in ``desired`` where that is not known."""
    if isinstance(desired, Mapping) and isinstance(seen, Mapping):
        completed = {key: _completed(value, desired.get(key, ABSENT), _below(last, key)) for key, value in seen.items()}
        for key, value in desired.items():
            written = _below(last, key)
            if key not in seen and written is not ABSENT:
                completed[key] = value if isinstance(written, _Gap) else written
        return completed
    if _is_list(desired) and _is_list(seen) and len(desired) == len(seen):
        before: Sequence[Value] = last if _is_list(last) and len(last) == len(seen) else [UNKNOWN] * len(seen)
        return [_completed(*three) for three in zip(seen, desired, before, strict=True)]
    return seen


def _below(last: Value, key: str) -> Value:
    """Return the part of the last write below ``key``."""
    if last is UNKNOWN:
        return UNKNOWN
    return last.get(key, ABSENT) if isinstance(last, Mapping) else ABSENT


def _json(value: Value) -> Json:
    """Return ``value``, with None for a gap."""
    return None if isinstance(value, _Gap) else value


def _last_written(basis: Basis) -> Value:
    return UNKNOWN if basis.attributes is None else basis.attributes


def _class_of(path: str, desired: Json, basis: Basis) -> ChangeClass:
    """Return drift if the desired value is the last written one, so that the provider changed it. Without a record it is a commit."""
    if basis.attributes is not None and same(value_at(basis.attributes, path), desired):
        return ChangeClass.DRIFT
    return ChangeClass.COMMIT


def _unreadable_changes(desired: ManagedObject, basis: Basis, now: float) -> Iterator[FieldChange]:
    """Compare the fields that the provider never shows with the last write."""
    if basis.attributes is None:
        return
    rules = active_rules(desired.lifecycle.ignore, now)
    for pointer in desired.unreadable:
        if any(covers(rule.path, pointer) for rule in rules):
            continue
        before, after = value_at(basis.attributes, pointer), value_at(desired.attributes, pointer)
        if not same(before, after):
            yield FieldChange(pointer, _json(before), _json(after))


def _write_only_changes(
    desired: ManagedObject, observed: ObservedObject, basis: Basis, *, visible: bool, now: float
) -> Iterator[FieldChange]:
    rules = active_rules(desired.lifecycle.ignore, now)
    # If a visible field changed too, that explains a changed time stamp.
    touched = bool(basis.updated_at and observed.updated_at and basis.updated_at != observed.updated_at and not visible)
    for value in desired.write_only:
        if any(covers(rule.path, value.pointer) for rule in rules):
            continue
        moved = basis.fingerprints is not None and fingerprint_moved(value.fingerprint, basis.fingerprints.get(value.pointer))
        is_shown = observed.present_write_only is not None and value.pointer not in basis.unshown
        unset = is_shown and value.pointer not in (observed.present_write_only or ())
        if moved or unset or touched:
            yield FieldChange(value.pointer, cls=ChangeClass.UNVERIFIABLE, sensitive=True)


def _put(document: Json, parts: Sequence[str], value: Value) -> Json:
    """Return ``document`` with ``value`` at ``parts``, or without the field if it is `ABSENT`. A path that does not exist changes nothing."""
    if not parts:
        return document if isinstance(value, _Gap) else value
    head, rest = parts[0], parts[1:]
    if isinstance(document, Mapping):
        copy = dict(document)
        if rest:
            if head in copy or value is not ABSENT:
                copy[head] = _put(copy.get(head, {}), rest, value)
        elif isinstance(value, _Gap):
            copy.pop(head, None)
        else:
            copy[head] = value
        return copy
    if _is_list(document) and head.isdigit() and int(head) < len(document):
        index = int(head)
        item = _put(document[index], rest, value) if rest else value
        return [*document[:index], *([] if isinstance(item, _Gap) else [item]), *document[index + 1 :]]
    return document


def _is_list(value: Value) -> TypeGuard[Sequence[Json]]:
    return isinstance(value, list | tuple)
