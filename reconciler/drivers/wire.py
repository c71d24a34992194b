"""Typed answers of providers: parsed JSON in, a msgspec struct out.

A struct names only the fields that a driver reads; providers add fields at any time, and unknown fields are ignored. Types are
strict: a boolean is not a number, a float is not an integer, and a number is not a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from reconciler.model.errors import ProviderProtocolError

T = TypeVar("T")


def decode(answer: object, kind: type[T], what: str, *path: str, request: str = "") -> T:
    """Return ``answer`` (parsed JSON) as a ``kind``: a msgspec struct, or a list or mapping of them; with ``path`` (the names of
    nested objects) the value there.

    ``what`` names the answer in the error ("the list of webhooks"), ``request`` the call ("GET /user"). Raises
    `ProviderProtocolError` with the JSON path of the first field that is missing or has another type; never shows a value.
    """
    try:
        for name in path:
            answer = _member(msgspec.convert(answer, dict[str, object]), name)
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise ProviderProtocolError(
            f"{what} cannot be read: {error}",
            request=request,
            hint="Check `apiUrl`: a proxy or a login page may answer in place of the API.",
        ) from None


def _member(answer: dict[str, object], name: str) -> object:
    if name not in answer:
        raise msgspec.ValidationError(f"Object missing required field `{name}`")
    return answer[name]


def matches(answer: object, kind: type[T]) -> T | None:
    """Return ``answer`` as a ``kind``, or None: for what senders write (events), where another form only means "not ours"."""
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError:
        return None


def find(answer: object, kind: type[T], *path: str) -> T | None:
    """Return the value at ``path`` (the names of nested objects) as a ``kind``; None if it is missing or has another type."""
    for name in path:
        if not isinstance(answer, Mapping):
            return None
        answer = answer.get(name)
    return matches(answer, kind)
