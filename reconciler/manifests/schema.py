"""The JSON Schemas: the files in ``schemas/``, which are also what editors use. Nothing is ever fetched."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, cast

from reconciler.model.resources import Kind

KINDS = tuple(kind.value for kind in Kind)
NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
"""A name: an RFC 1123 label (the schemas' pattern)."""
CANVAS = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?")
"""A canvas: a name, or an id as Superplane wrote it."""


def file_name(kind: str) -> str:
    """Return the file of a kind: ``EventSource`` → ``event-source.json``."""
    return re.sub(r"(?<!^)([A-Z])", r"-\1", kind).lower() + ".json"


def _read(name: str) -> str:
    packaged = resources.files("reconciler").joinpath("schemas", name)
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return (Path(__file__).resolve().parents[2] / "schemas" / name).read_text(encoding="utf-8")  # a checkout


@cache
def schema(kind: str) -> dict[str, Any]:
    """Return the schema of one kind, or of a whole document (``manifest``)."""
    return cast("dict[str, Any]", json.loads(_read(file_name(kind))))


def documents() -> dict[str, dict[str, Any]]:
    """Return the schema of every kind, in the order in which a reader meets them."""
    return {kind: schema(kind) for kind in KINDS}


def combined(kinds: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return one schema for a whole document out of those of the ``kinds``: what ``schemas/manifest.json`` holds."""
    parts: dict[str, Any] = {}
    for kind, document in kinds.items():
        parts[kind] = {key: value for key, value in document.items() if key not in {"$schema", "$defs"}}
        parts.update(document["$defs"])
    branches = [
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
def fast(kind: str) -> Any:
    """Return the compiled validator that only says yes or no: 50 times quicker than the one that explains."""
    import jsonschema_rs

    # The linear engine: no pattern of ours, and no text of a user's, can make it backtrack (F14).
    return jsonschema_rs.Draft202012Validator(schema(kind), pattern_options=jsonschema_rs.RegexOptions())


@cache
def explaining(kind: str) -> Any:
    """Return the validator that explains; its registry is empty, so no reference can be fetched."""
    from jsonschema import Draft202012Validator, validators
    from jsonschema.exceptions import ValidationError
    from referencing import Registry

    def pattern(_validator: Any, wanted: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
        # Python's `$` also matches before a last line break; a schema's does not.
        if isinstance(instance, str) and not re.search(
            wanted.removesuffix("$") + r"\Z" if wanted.endswith("$") else wanted, instance
        ):
            yield ValidationError("pattern")

    extend: Any = validators.extend  # untyped in the stubs
    return extend(Draft202012Validator, {"pattern": pattern})(schema(kind), registry=Registry())
