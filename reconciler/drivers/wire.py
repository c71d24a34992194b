"""Answers of providers as typed values: bytes or JSON in, a struct out, and an error with the JSON path for anything else.

A struct names only the fields that the driver reads; providers add others at any time, and they are ignored.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from reconciler.model.errors import ProviderProtocolError

T = TypeVar("T")


def decode(answer: Any, kind: type[T], what: str) -> T:
    """Return ``answer`` (parsed JSON) as a ``kind``: a msgspec struct, or a list or mapping of them.

    ``what`` names the answer in the error ("the list of webhooks"). Raises `ProviderProtocolError` with the JSON path of the first
    field that is missing or has another type.
    """
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise ProviderProtocolError(f"{what} cannot be read: {error}") from None


def matches(answer: Any, kind: type[T]) -> T | None:
    """Return ``answer`` as a ``kind``, or None: for what senders write (events), where another form only means "not ours"."""
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError:
        return None
