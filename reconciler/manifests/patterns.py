"""The size of a regular expression of RE2, estimated without compiling it. Pure.

RE2 matches in time linear in the text, but both its time per character and the time to compile grow with the pattern's size when
its repetitions are written out: `x{0,1000}` is ten characters and stands for a thousand. So the size is counted first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_SIZE = 10_000
"""Steps of a pattern when its repetitions are written out."""
MAX_REPEAT = 1_000
"""RE2's own bound on a repetition, and on nested ones multiplied."""
_REPEAT = re.compile(r"\{(\d{1,9})(?:(,)(\d{0,9}))?\}")
_CLASS = re.compile(r"\[\^?\]?(?:\[:\^?[a-z]{1,10}:\]|\\.|[^\]\\])*\]", re.DOTALL)
_WIDE = 8
"""Steps of a set that holds characters beyond ASCII; a class of Unicode is larger."""
_UNICODE = 400


class PatternTooLarge(Exception):
    """A pattern that would take too long to compile or match."""


@dataclass(slots=True)
class _Group:
    size: int = 0
    last: int = 0
    """Size of the last part, to which a repetition applies."""
    repeat: int = 1
    """Largest product of repetitions in it."""
    last_repeat: int = 1

    def add(self, size: int, repeat: int = 1) -> None:
        self.size += size
        self.last, self.last_repeat = size, repeat
        self.repeat = max(self.repeat, repeat)


def without_repetitions(pattern: str) -> str:
    """Return ``pattern`` with its repetitions cut to nothing, so that its syntax can be checked at no cost.

    Raises `PatternTooLarge`. An invalid pattern is returned as it is, so that RE2 reports the error.
    """
    groups = [_Group()]
    kept: list[str] = []
    at = 0
    while at < len(pattern):
        group = groups[-1]
        end, size = _part(pattern, at)
        text = pattern[at:end]
        if text == "(":
            groups.append(_Group())
        elif text == ")" and len(groups) > 1:
            inner = groups.pop()
            groups[-1].add(inner.size + 2, inner.repeat)
        elif text[0] == "{" and (repetition := _REPEAT.fullmatch(text)):
            _repeat(group, repetition)
            text = _short(repetition)
        else:
            group.add(size)
        kept.append(text)
        at = end
        if groups[-1].size > MAX_SIZE:
            raise PatternTooLarge(f"too large: written out it has more than {MAX_SIZE:,} steps")
    return "".join(kept)


def _part(pattern: str, at: int) -> tuple[int, int]:
    """Return the end of the part at ``at``, and its number of steps."""
    char = pattern[at]
    if char == "\\":
        if pattern[at + 1 : at + 2] == "Q":
            end = pattern.find("\\E", at + 2)
            end = len(pattern) if end < 0 else end + 2
            return end, end - at
        if pattern[at + 1 : at + 2] in {"p", "P"}:
            end = pattern.find("}", at) if pattern[at + 2 : at + 3] == "{" else at + 2
            return (len(pattern) if end < 0 else end + 1), _UNICODE
        return at + 2, 2
    if char == "[" and (match := _CLASS.match(pattern, at)):
        text = match.group()
        unicode_classes = text.count("\\p") + text.count("\\P")
        wide = text[1] == "^" or not text.isascii() or "\\" in text
        return match.end(), unicode_classes * _UNICODE + (_WIDE if wide else 2)
    if char == "{" and (match := _REPEAT.match(pattern, at)):
        return match.end(), 0
    return at + 1, _WIDE if char == "." or not char.isascii() else 1


def _repeat(group: _Group, repetition: re.Match[str]) -> None:
    times = max(int(repetition.group(1)), int(repetition.group(3) or 0), 1)
    repeat = group.last_repeat * times
    if times > MAX_REPEAT or repeat > MAX_REPEAT:
        raise PatternTooLarge(
            f"repeated more than {MAX_REPEAT:,} times, counting repetitions within repetitions: {repetition.group()}"
        )
    group.size += group.last * (times - 1)
    group.last *= times
    group.last_repeat = repeat
    group.repeat = max(group.repeat, repeat)


def _short(repetition: re.Match[str]) -> str:
    least, most = repetition.group(1), repetition.group(3)
    invalid = most and int(least) > int(most)
    return repetition.group() if invalid else "{0}"
