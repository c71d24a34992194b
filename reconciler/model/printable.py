"""Foreign text in a form that is safe to show: no invisible characters, no control sequences for a terminal, page or log. Pure."""

from __future__ import annotations

import re

_HIDDEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0e\uffa0\U000e0100-\U000e01ef]")
"""Letters and marks without a shape that Unicode counts as printable."""


def plain(text: str) -> str:
    """Return ``text`` with every character escaped that has no visible shape.

    These are controls (C0, C1), direction and zero-width characters, line and paragraph separators, odd spaces, surrogates
    and unassigned ones. The result is always one line.
    """
    if text.isprintable() and (text.isascii() or not _HIDDEN.search(text)):
        return text
    return "".join(char if is_shown(char) else char.encode("unicode_escape").decode() for char in text)


def plain_lines(text: str) -> str:
    """Return ``text`` with each line plain and the line breaks kept."""
    return "\n".join(plain(line) for line in text.split("\n"))


def is_shown(character: str) -> bool:
    """Whether ``character`` is shown unescaped."""
    return character.isprintable() and not _HIDDEN.match(character)


def plain_json(document: str) -> str:
    r"""Return a JSON text with the same characters written as ``\uXXXX``: they can stand only inside of its strings."""
    if document.isascii():
        return document.replace("\x7f", "\\u007f")
    return "".join(char if char == "\n" or is_shown(char) else _json_escape(char) for char in document)


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
