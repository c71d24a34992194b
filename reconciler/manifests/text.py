"""Bytes → text: bounded UTF-8 without invisible characters. Pure."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

MAX_BYTES: Final = 1024 * 1024

# C0 without tab and line breaks, DEL, C1, soft hyphen, zero-width and bidirectional controls, line and paragraph
# separators, byte order mark, interlinear and tag characters, surrogates, noncharacters; a CR that ends no line.
FORBIDDEN: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ud800-\udfff\ufdd0-\ufdef\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U000e0000-\U000e0fff]|\r(?!\n)"
)


@dataclass(frozen=True, slots=True)
class YamlProblem:
    """A problem at a place of a file. It has no path, so that it can be cached by content."""

    code: str
    message: str
    line: int
    column: int
    pointer: str = ""
    hint: str = ""


def decode(data: bytes) -> tuple[str | None, list[YamlProblem]]:
    """Return the text of a file and its problems; None if it must not be read."""
    if len(data) > MAX_BYTES:
        return None, [
            YamlProblem(
                "RC1002",
                f"the file has {len(data):,} bytes; a manifest may have {MAX_BYTES:,}",
                1,
                1,
                hint="Split it, or name it in .reconcilerignore if it is not a manifest.",
            )
        ]
    if data.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        return None, [
            YamlProblem(
                "RC1003", "the file starts with a byte order mark", 1, 1, hint="Save it as UTF-8 without a byte order mark."
            )
        ]
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        return None, [
            YamlProblem(
                "RC1003", f"the file is not UTF-8: byte 0x{data[error.start]:02x}", line, column, hint="Save it as UTF-8."
            )
        ]
    return text, _forbidden(text)


def _forbidden(text: str) -> list[YamlProblem]:
    problems = []
    for match in FORBIDDEN.finditer(text):
        place = match.start()
        problems.append(forbidden_character(match.group(), text.count("\n", 0, place) + 1, place - text.rfind("\n", 0, place)))
        if len(problems) >= 10:
            break
    return problems


def forbidden_character(character: str, line: int, column: int, pointer: str = "") -> YamlProblem:
    """Return the problem of a character that must not be in a manifest."""
    name = unicodedata.name(character, "control character" if ord(character) < 0xA0 else "noncharacter")
    return YamlProblem(
        "RC1004",
        f"character U+{ord(character):04X} ({name.lower()}) is not allowed",
        line,
        column,
        pointer,
        "Remove it: it is invisible, or changes how the line is displayed.",
    )
