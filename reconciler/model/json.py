"""JSON as a type: what the strict YAML loader, msgspec and orjson return, and functions that narrow it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"
JsonMap: TypeAlias = Mapping[str, Json]

_EMPTY: JsonMap = {}


def as_map(value: Json) -> JsonMap:
    """Return ``value`` if it is a mapping, otherwise an empty one."""
    return value if isinstance(value, Mapping) else _EMPTY


def as_list(value: Json) -> Sequence[Json]:
    """Return ``value`` if it is a list, otherwise an empty one."""
    return value if isinstance(value, list | tuple) else ()


def at(value: Json, *path: str) -> Json:
    """Return the value at ``path``, or None where a key is missing or its parent is not a mapping."""
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def text_at(value: Json, *path: str) -> str | None:
    """Return the string at ``path``, or None where there is no string."""
    found = at(value, *path)
    return found if isinstance(found, str) else None


def escape(key: str) -> str:
    """Return ``key`` as one part of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1") if "~" in key or "/" in key else key


def pointer_parts(pointer: str) -> list[str]:
    """Return the unescaped parts of a JSON pointer (RFC 6901)."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
