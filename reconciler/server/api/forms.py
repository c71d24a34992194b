"""Builders for the JSON Schemas of the API: strings, integers, closed objects, lists and references to components. Pure."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def text(description: str = "", **more: object) -> Schema:
    """Return the schema of a string."""
    return {"type": "string", **({"description": description} if description else {}), **more}


def words(*known: str, description: str = "") -> Schema:
    """Return the schema of a string that is one of ``known``."""
    return text(description, enum=[str(word) for word in known])


def integer(description: str = "", **more: object) -> Schema:
    """Return the schema of an integer."""
    return {"type": "integer", **({"description": description} if description else {}), **more}


def record(properties: dict[str, Schema], *, optional: tuple[str, ...] = (), description: str = "") -> Schema:
    """Return the schema of a closed object. All properties are required except ``optional`` ones."""
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        **({"description": description} if description else {}),
        "properties": properties,
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def rows(name: str, **more: object) -> Schema:
    """Return the schema of a list of a component."""
    return {"type": "array", "items": ref(name), **more}


def ref(name: str) -> Schema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def nullable(name: str) -> Schema:
    """Return the schema of a component or null."""
    return {"anyOf": [ref(name), {"type": "null"}]}


TIME = text("RFC 3339 in UTC; empty when it has not happened.")
ANY: Schema = {"type": "object", "additionalProperties": True}
