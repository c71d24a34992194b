"""A secret value that cannot be printed by accident."""

from __future__ import annotations


class SecretValue:
    """A value read from a secret backend. ``repr``, ``str``, formatting, pickling and comparison never show it.

    Use `reveal` only where the value leaves for its provider, or is hashed.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself."""
        return self._value

    def __repr__(self) -> str:
        return "SecretValue(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a secret value is not serialisable")
