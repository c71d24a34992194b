"""Texts with the form of a credential: refused anywhere in a manifest, and not shown in messages. Pure."""

from __future__ import annotations

import re
from typing import Final

from reconciler.drivers.specs import TOKEN_PATTERNS
from reconciler.model.secrets import OTHER_TOKENS

TOKENS: Final = re.compile("|".join((*TOKEN_PATTERNS, *OTHER_TOKENS, "-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----")))


def harmless(text: str, limit: int = 64) -> str:
    """Return ``text`` for a message: quoted, bounded, without invisible characters and without credentials."""
    if TOKENS.search(text):
        return "'…' (looks like a credential)"
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    return f"'{short}'" if short.isprintable() else ascii(short)
