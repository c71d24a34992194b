"""The rules of kinds that belong to a single provider, from its record. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reconciler.drivers.capabilities import ObjectKind, Path
from reconciler.model.json import Json, JsonMap, as_list, as_map, at, text_at


def canonical_object(rules: ObjectKind, spec: JsonMap) -> dict[str, Json]:
    """Return ``spec`` in the provider's own spelling: one of each pair of aliases, and the default scope."""
    canonical = {rules.key_aliases.get(key, key): value for key, value in spec.items()}
    kind = str(canonical["type"])
    canonical["type"] = rules.type_aliases.get(kind, kind)
    scopes = tuple(rules.scopes)
    canonical.setdefault(rules.scope, next((scope for scope, key in rules.scopes.items() if key in canonical), scopes[-1]))
    return canonical


def object_problems(rules: ObjectKind, spec: JsonMap) -> Iterator[tuple[str, str, str]]:
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
        for index, person in enumerate(_people(spec, path)):
            if "id" not in person and "@" not in (text_at(person, "email") or text_at(person, "name") or ""):
                message = f"a {rules.people[path]} is given by e-mail address (`email`) or `id`: anyone can choose a display name"
                yield "RC1255", f"/spec/{'/'.join(path)}/{index}", message
    yield from _missing(rules, spec)


def repeatable(rules: ObjectKind, spec: JsonMap) -> Iterator[tuple[Sequence[Json], str, str]]:
    """Yield (items, pointer, name of an item) of each list whose items must be unique."""
    for key, what in rules.lists.items():
        yield as_list(spec.get(key)), f"/spec/{key}", what
    for path, what in rules.people.items():
        people = [next((person[key] for key in ("id", "name", "email") if key in person), None) for person in _people(spec, path)]
        yield people, f"/spec/{'/'.join(path)}", what


def _missing(rules: ObjectKind, spec: JsonMap) -> Iterator[tuple[str, str, str]]:
    kind, auth = str(spec["type"]), text_at(spec, "auth_type") or ""
    alternatives = rules.required.get((kind, auth or "DEFAULT")) or rules.required.get((kind, ""), ((),))
    keys = next((keys for keys in alternatives if keys and keys[0] in spec), alternatives[-1])
    for key in keys:
        if not spec.get(key):
            yield "RC1203", "/spec", f"{kind}{f' with auth_type {auth}' if auth else ''} needs {key}"


def _people(spec: JsonMap, path: Path) -> list[JsonMap]:
    return [as_map(person) for person in as_list(at(spec, *path))]
