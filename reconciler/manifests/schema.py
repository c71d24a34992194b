"""The JSON Schemas: the files in ``schemas/``, which editors use too. Nothing is fetched."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Protocol

from reconciler.model.json import Json, JsonMap, as_map
from reconciler.model.resources import Kind

KINDS = tuple(kind.value for kind in Kind)
NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
"""A name: an RFC 1123 label (the schemas' pattern)."""
CANVAS = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?")
"""A canvas: a name, or an id as Superplane wrote it."""


class SchemaError(Protocol):
    """An error of the explaining validator (`jsonschema.ValidationError`)."""

    validator: str | None
    """The keyword of JSON Schema that the value breaks; None where the schema is ``false``."""
    validator_value: Json
    """The value of this keyword."""
    instance: Json
    schema: JsonMap
    context: Sequence[SchemaError]
    """Of ``anyOf``, ``oneOf`` and ``allOf``: the errors of the branches."""
    schema_path: Sequence[str | int]
    relative_path: Sequence[str | int]
    absolute_path: Sequence[str | int]


class FastValidator(Protocol):
    def is_valid(self, instance: Json) -> bool:
        """Whether ``instance`` matches the schema."""


class ExplainingValidator(Protocol):
    def iter_errors(self, instance: Json) -> Iterator[SchemaError]:
        """Yield each error in ``instance``."""


def file_name(kind: str) -> str:
    """Return the file of a kind: ``EventSource`` → ``event-source.json``."""
    return re.sub(r"(?<!^)([A-Z])", r"-\1", kind).lower() + ".json"


def _read(name: str) -> str:
    packaged = resources.files("reconciler").joinpath("schemas", name)
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return (Path(__file__).resolve().parents[2] / "schemas" / name).read_text(encoding="utf-8")  # a checkout


@cache
def schema(kind: str) -> dict[str, Json]:
    """Return the schema of one kind, or of a whole document (``manifest``)."""
    document: dict[str, Json] = json.loads(_read(file_name(kind)))
    return document


def documents() -> dict[str, dict[str, Json]]:
    """Return the schema of every kind, in the order of the documentation."""
    return {kind: schema(kind) for kind in KINDS}


def combined(kinds: Mapping[str, JsonMap]) -> dict[str, Json]:
    """Return the schema of a whole document, made of those of the ``kinds``: the content of ``schemas/manifest.json``."""
    parts: dict[str, Json] = {}
    for kind, document in kinds.items():
        parts[kind] = {key: value for key, value in document.items() if key not in {"$schema", "$defs"}}
        parts.update(as_map(document["$defs"]))
    branches: list[Json] = [
        {"if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]}, "then": {"$ref": f"#/$defs/{kind}"}}
        for kind in kinds
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Manifest",
        "description": "One document of a repository of manifests.",
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"description": "The kind of the resource.", "enum": list(kinds)}},
        "allOf": branches,
        "$defs": {name: parts[name] for name in sorted(parts)},
    }


@cache
def fast(kind: str) -> FastValidator:
    """Return the compiled validator, which only accepts or refuses: 50 times as fast as the one that explains."""
    import jsonschema_rs

    # With the linear engine no pattern of a schema can backtrack, whatever the text (F14).
    validator: FastValidator = jsonschema_rs.Draft202012Validator(schema(kind), pattern_options=jsonschema_rs.RegexOptions())
    return validator


@cache
def explaining(kind: str) -> ExplainingValidator:
    """Return the validator that explains. Its registry is empty, so no reference can be fetched."""
    from jsonschema import Draft202012Validator, validators
    from jsonschema.exceptions import ValidationError
    from referencing import Registry

    def pattern(_validator: object, expected: str, instance: object, _schema: object) -> Iterator[ValidationError]:
        # Python's `$` also matches before a last line break; a schema's does not.
        expression = expected.removesuffix("$") + r"\Z" if expected.endswith("$") else expected
        if isinstance(instance, str) and not re.search(expression, instance):
            yield ValidationError("pattern")

    extend: Callable[..., Callable[..., ExplainingValidator]] = validators.extend  # untyped in the stubs
    return extend(Draft202012Validator, {"pattern": pattern})(schema(kind), registry=Registry())
