"""A secret value that cannot be printed by accident."""

from __future__ import annotations

from typing import Final

OTHER_TOKENS: Final = (
    r"xox[abeoprs]-[A-Za-z0-9-]{10,200}",
    r"xapp-[A-Za-z0-9-]{10,200}",
    r"hooks\.slack\.com/services/[A-Za-z0-9/]{20,100}",
    r"hv[sb]\.[A-Za-z0-9_-]{24,200}",
    r"AGE-SECRET-KEY-1[A-Z0-9]{50,64}",
    r"whsec_[A-Za-z0-9+/=_-]{24,100}",
)
"""Regular expressions of tokens of services that are not providers: chat, secret stores, signed webhooks."""


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
