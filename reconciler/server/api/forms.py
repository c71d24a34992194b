"""The forms that schemas of the API are made of: texts, numbers, closed objects, lists and references to components. Pure."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def text(description: str = "", **more: Any) -> Schema:
    """Return a schema of a text."""
    return {"type": "string", **({"description": description} if description else {}), **more}


def words(*known: str, description: str = "") -> Schema:
    """Return a schema of one of the ``known`` words."""
    return text(description, enum=list(known))


def integer(description: str = "", **more: Any) -> Schema:
    """Return a schema of a whole number."""
    return {"type": "integer", **({"description": description} if description else {}), **more}


def record(properties: dict[str, Schema], *, optional: tuple[str, ...] = (), description: str = "") -> Schema:
    """Return a closed object; every property is required but those named."""
    required = [name for name in properties if name not in optional]
    return {
        "type": "object",
        **({"description": description} if description else {}),
        "properties": properties,
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def rows(name: str, **more: Any) -> Schema:
    """Return a schema of a list of a component."""
    return {"type": "array", "items": ref(name), **more}


def ref(name: str) -> Schema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def nullable(name: str) -> Schema:
    """Return a schema of a component or null."""
    return {"anyOf": [ref(name), {"type": "null"}]}


TIME = text("RFC 3339 in UTC; empty when it has not happened.")
ANY: Schema = {"type": "object", "additionalProperties": True}
