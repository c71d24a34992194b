"""Whether a part of a request has the shape that a provider demands."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

Text = Annotated[str, msgspec.Meta(min_length=1)]
"""A text that is not empty."""


class Identified(msgspec.Struct, frozen=True):
    """An object with a number as its id."""

    id: int


class Named(msgspec.Struct, frozen=True):
    """An object with a name."""

    name: Text


def fits(value: Any, shape: Any) -> bool:
    """Whether ``value`` has the ``shape``: any type that msgspec converts to."""
    try:
        msgspec.convert(value, shape)
    except msgspec.ValidationError:
        return False
    return True
