"""How many columns of a terminal a text takes, and how it is cut and wrapped to fit. Pure.

Widths follow Unicode: East Asian wide and fullwidth characters take two columns (UAX #11), combining marks none. All functions
expect text of `reconciler.model.printable.plain`: one line without control characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

ELLIPSIS = "…"
_EMOJI_STYLE = "\ufe0f"
"""Variation selector 16: shows the character before it as an emoji, two columns wide."""
_JOINTS = re.compile(r"(?<=[/@:,;=&?_.\-])(?=.)")
"""Places inside of a long word (an address, a digest, a URL) where a line may end."""


def width_of(text: str) -> int:
    """Return the columns that ``text`` takes."""
    return len(text) if text.isascii() else sum(width for _, width in _clusters(text))


def _clusters(text: str) -> Iterator[tuple[str, int]]:
    """Yield each character with the marks that belong to it, and their width."""
    cluster, width = "", 0
    for character in text:
        own = _width(character)
        if own or not cluster:
            if cluster:
                yield cluster, width
            cluster, width = character, own
            continue
        cluster += character
        if character == _EMOJI_STYLE and width == 1:
            width = 2
    if cluster:
        yield cluster, width


def _width(character: str) -> int:
    if character.isascii():
        return 1
    if unicodedata.category(character) in {"Mn", "Me", "Cf"} or "\u1160" <= character <= "\u11ff":
        return 0  # a mark, or a vowel or final consonant that joins the Hangul syllable before it
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def pad(text: str, width: int) -> str:
    """Return ``text`` filled with spaces to ``width`` columns."""
    return text + " " * (width - width_of(text))


def cut(text: str, width: int) -> str:
    """Return ``text`` in at most ``width`` columns; a text that was cut ends with an ellipsis."""
    if width_of(text) <= width:
        return text
    return _head(text, width - 1) + ELLIPSIS


def _head(text: str, width: int) -> str:
    """Return the longest beginning of ``text`` that takes at most ``width`` columns."""
    taken, used = "", 0
    for cluster, own in _clusters(text):
        if used + own > width:
            break
        taken, used = taken + cluster, used + own
    return taken


def wrap(text: str, width: int, *, lines: int = 0) -> list[str]:
    """Return ``text`` as lines of at most ``width`` columns, broken between words.

    A word that is longer than a line is broken after punctuation, and in its middle only if it has none. With ``lines``, the result
    has at most that many, and the last one ends with an ellipsis if there are more.
    """
    result = [""]
    for piece in _pieces(text, max(width, 2)):
        line = result[-1]
        if width_of((line + piece).rstrip()) <= max(width, 2):
            result[-1] = line + piece
        else:
            result[-1] = line.rstrip()
            result.append(piece)
        if lines and len(result) > lines:
            last = result[lines - 1]
            return [
                *result[: lines - 1],
                f"{last} {ELLIPSIS}" if width_of(last) + 2 <= width else _head(last, width - 1) + ELLIPSIS,
            ]
    result[-1] = result[-1].rstrip()
    return result


def _pieces(text: str, width: int) -> Iterator[str]:
    """Yield the parts of ``text`` that stay together, each with the space after it."""
    for word in text.split():
        if width_of(word) <= width:
            yield f"{word} "
            continue
        for part in _JOINTS.split(word):
            rest = part
            while width_of(rest) > width:
                head = _head(rest, width) or rest[0]
                yield head
                rest = rest[len(head) :]
            yield rest
        yield " "
