"""Rules of kinds that belong to a single provider, as its record declares them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.drivers.capabilities import ObjectKind, Path


def canonical_object(rules: ObjectKind, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``spec`` in the provider's own spelling: one of each pair of aliases, and the default scope."""
    canonical = {rules.key_aliases.get(key, key): value for key, value in spec.items()}
    canonical["type"] = rules.type_aliases.get(canonical["type"], canonical["type"])
    scopes = tuple(rules.scopes)
    canonical.setdefault(rules.scope, next((scope for scope, key in rules.scopes.items() if key in canonical), scopes[-1]))
    return canonical


def object_problems(rules: ObjectKind, spec: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield (code, pointer, message) of each problem in the canonical ``spec``, which matches its schema."""
    scope = spec[rules.scope]
    for name, key in rules.scopes.items():
        if key and name == scope and key not in spec:
            yield "RC1203", "/spec", f"{rules.scope} {name} needs {key}"
        if key and name != scope and key in spec:
            yield "RC1206", f"/spec/{key}", f"{key} goes with {rules.scope} {name}, not {scope}"
    for key, flag in rules.unless.items():
        if key in spec and spec.get(flag, False):
            yield "RC1206", f"/spec/{key}", f"{key} goes with {flag}: false"
    for path in rules.by_email:
        for index, person in enumerate(_at(spec, path)):
            if "id" not in person and "@" not in str(person.get("email") or person.get("name")):
                message = f"a {rules.people[path]} is given by e-mail address (`email`) or `id`: anyone can choose a display name"
                yield "RC1255", f"/spec/{'/'.join(path)}/{index}", message
    yield from _missing(rules, spec)


def repeatable(rules: ObjectKind, spec: Mapping[str, Any]) -> Iterator[tuple[list[Any], str, str]]:
    """Yield (items, pointer, name of an item) of every list in which an item may be given once."""
    for key, what in rules.lists.items():
        yield list(spec.get(key, ())), f"/spec/{key}", what
    for path, what in rules.people.items():
        people = [next((person[key] for key in ("id", "name", "email") if key in person), None) for person in _at(spec, path)]
        yield people, f"/spec/{'/'.join(path)}", what


def _missing(rules: ObjectKind, spec: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    kind, auth = spec["type"], spec.get("auth_type", "")
    alternatives = rules.required.get((kind, auth or "DEFAULT")) or rules.required.get((kind, ""), ((),))
    keys = next((keys for keys in alternatives if keys and keys[0] in spec), alternatives[-1])
    for key in keys:
        if not spec.get(key):
            yield "RC1203", "/spec", f"{kind}{f' with auth_type {auth}' if auth else ''} needs {key}"


def _at(spec: Mapping[str, Any], path: Path) -> list[Mapping[str, Any]]:
    value: Any = spec
    for key in path:
        value = value.get(key) or {}
    return list(value or ())
