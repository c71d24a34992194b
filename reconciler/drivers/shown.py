"""What an answer shows of an object, apart from what it leaves out: a field that is left out is unknown, not null. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.model.values import JsonValue


def only_shown(normal: JsonValue, raw: JsonValue) -> JsonValue:
    """Return ``normal`` (the normal form of ``raw``) without the fields that ``raw`` does not have.

    A field that is null stays, with the value that null means in the normal form.
    """
    if isinstance(normal, Mapping) and isinstance(raw, Mapping):
        return {key: only_shown(value, raw[key]) for key, value in normal.items() if key in raw}
    return normal
