"""Each typed spec says what the schema of its kind says, and every valid manifest can be read as one."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import NODEFAULT, UNSET

from reconciler.drivers.specs import OBJECT_KINDS, SPECS
from reconciler.manifests import schema
from reconciler.manifests.kinds import KINDS
from reconciler.manifests.load import SourceFile, load
from reconciler.manifests.normalize import canonical_spec
from reconciler.model.resources import Kind
from reconciler.model.specs import LifecycleSpec, Spec

ROOT = Path(__file__).parents[2]
DURATIONS = {"timeout", "backoff", "interval", "duration"}
OWN = {"webhook", "schedule", "manual", "http", "noop"}
JSON = {"string": str, "integer": int, "number": float, "boolean": bool, "null": type(None)}
ALIASES = {(kind, other) for kind, (_, rules) in OBJECT_KINDS.items() for other in rules.key_aliases}


def test_every_kind_has_a_struct() -> None:
    assert sorted(KINDS) == sorted(kind.value for kind in Kind)


def folded(kind: str, key: str, value: Any) -> Any:
    """A value as `normalize` leaves it: where the key has a short form, in that form."""
    if kind in OBJECT_KINDS:
        return value
    canonical = canonical_spec("Canvas", {key: value})[0][key]
    return (
        "schedule"
        if canonical == "scheduled"
        else {s: p.name for p in SPECS.values() for s in p.spellings}.get(canonical, canonical)
    )


def members(hint: Any) -> list[Any]:
    """The types of a union; of anything else, itself."""
    return list(typing.get_args(hint)) if typing.get_origin(hint) in (typing.Union, types.UnionType) else [hint]


def pairs(kind: str, node: Mapping[str, Any], struct: type[Spec], path: str) -> Iterator[str]:
    """Yield every difference between a schema's object and ``struct``."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    hints = typing.get_type_hints(struct)
    properties = {k: v for k, v in node["properties"].items() if k != "lifecycle" and (kind, k) not in ALIASES}
    if set(fields) != set(properties):
        yield f"{path}: {sorted(set(fields) ^ set(properties))}"
        return
    for key, inner in properties.items():
        field, at = fields[key], f"{path}.{key}"
        name = inner.get("$ref", "").rpartition("/")[2]
        whole = {**schema.schema(kind)["$defs"].get(name, {}), **inner}
        if field.required != (key in node.get("required", ())):
            yield f"{at}: required {field.required}"
        default = field.default if field.default is not NODEFAULT else UNSET
        if "default" in whole and not field.required and default != whole["default"]:
            yield f"{at}: default {default!r}"
        if "default" not in whole and not field.required and default not in (None, (), UNSET):
            yield f"{at}: default {default!r} is not in the schema"
        hint = hints[field.name]
        if default is None:
            hint = typing.Union[tuple(each for each in members(hint) if each is not type(None))]  # noqa: UP007
        yield from different(kind, key, whole, hint, at)


def different(kind: str, key: str, node: Mapping[str, Any], hint: Any, at: str) -> Iterator[str]:
    node = {**schema.schema(kind)["$defs"][node["$ref"].rpartition("/")[2]], **node} if "$ref" in node else node
    if node.get("title") == "Duration":
        if not (hint is float if key in DURATIONS else set(typing.get_args(hint)) == {int, float, str}):
            yield f"{at}: a duration is {hint}"
        return
    if "enum" in node:
        values = {folded(kind, key, value) for value in node["enum"]}
        declared = set(hint) if isinstance(hint, enum.EnumType) else set(typing.get_args(hint))
        if kind in OBJECT_KINDS and key == "type":
            values, declared = set(), set() if hint is str else {hint}
        elif hint is str and values - OWN <= set(SPECS):  # names of providers, which the records list
            return
        if values != declared:
            yield f"{at}: {sorted(map(str, values ^ declared))}"
        return
    if "properties" in node:
        if not (isinstance(hint, type) and issubclass(hint, Spec)):
            yield f"{at}: {hint} is no struct"
        else:
            yield from pairs(kind, node, hint, at)
    elif node.get("type") == "array":
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin is not tuple or args[1:] != (...,):
            yield f"{at}: {hint} is no tuple"
        else:
            yield from different(kind, key, node["items"], args[0], f"{at}[]")
    elif node.get("type") == "object":
        other = node.get("additionalProperties")
        if typing.get_origin(hint) is not Mapping:
            yield f"{at}: {hint} is no mapping"
        elif isinstance(other, Mapping):
            yield from different(kind, key, other, typing.get_args(hint)[1], f"{at}.*")
    elif "anyOf" in node:
        scalars = {JSON[each["type"]] for each in node["anyOf"] if each.get("type") in JSON}
        if scalars != {each for each in members(hint) if each in JSON.values()}:
            yield f"{at}: {hint}"
    else:
        kinds = node["type"] if isinstance(node["type"], list) else [node["type"]]
        expected = {JSON[each] for each in kinds} | ({int} if "number" in kinds else set())  # a whole number stays one
        if expected != set(members(hint)):
            yield f"{at}: {hint}, not {expected}"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_schema_and_struct_agree(kind: str) -> None:
    assert list(pairs(kind, schema.schema(kind)["properties"]["spec"], KINDS[kind], "spec")) == []


def test_the_lifecycle_of_every_kind_has_the_keys_and_defaults_of_its_struct() -> None:
    fields = {field.encode_name: field.default for field in msgspec.structs.fields(LifecycleSpec)}
    optional = {"ignore": (), **dict.fromkeys(("externalId", "interval", "movedFrom", "suspend"))}
    documents = [document for document in schema.documents().values() if "lifecycle" in document["$defs"]]
    assert documents
    for document in documents:
        properties = document["$defs"]["lifecycle"]["properties"]
        assert fields == {key: inner.get("default", optional.get(key)) for key, inner in properties.items()}


def test_a_difference_is_found() -> None:
    node = {"properties": {"name": {"type": "string"}, "count": {"type": "integer", "default": 1}, "on": {"enum": ["a"]}}}

    class Same(Spec, frozen=True):
        name: str | None = None
        count: int = 1
        on: typing.Literal["a"] | None = None

    class Other(Spec, frozen=True):
        name: int
        count: int = 2
        on: typing.Literal["b"] | None = None

    class Less(Spec, frozen=True):
        name: str | None = None

    def found(struct: type[Spec]) -> list[str]:
        struct.__module__ = __name__
        globals().update({struct.__name__: struct})
        return list(pairs("Canvas", node, struct, "spec"))

    assert found(Same) == []
    assert len(found(Other)) == 4
    assert len(found(Less)) == 1


@pytest.mark.parametrize("folder", sorted(path.name for path in (ROOT / "examples").iterdir() if path.is_dir()))
def test_every_example_can_be_read_typed(folder: str) -> None:
    files = [SourceFile(str(p), str(p), p.read_bytes()) for p in sorted((ROOT / "examples" / folder).rglob("*.yaml"))]
    resources = load(files, revision="r", sandbox=True).resources
    assert resources
    for resource in resources:
        spec = resource.typed(KINDS[resource.id.kind])
        assert resource.typed(KINDS[resource.id.kind]) is spec
