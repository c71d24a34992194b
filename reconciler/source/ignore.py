"""`.reconcilerignore`: gitignore patterns, which one automaton matches together. Pure.

A commit determines patterns and names, so matching must not backtrack: each character of a name costs the same for all patterns.
Each state of the automaton is one bit of an integer. The patterns follow each other, so the highest final bit that is set belongs
to the last pattern that matches, which decides, as in Git.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

from reconciler.source.errors import SourceTooLarge

IGNORE_FILE = ".reconcilerignore"
MAX_BYTES = 65_536
MAX_WORK = 2_000_000
"""Most characters that are matched, each counted once per `_WORK_BITS` states: about a second."""
_WORK_BITS = 2_048
_CACHED = 256


class _Kind(enum.Enum):
    ONE = enum.auto()  # one given character
    SET = enum.auto()  # one character of a bracket, or any for `?`
    STAR = enum.auto()  # any number of characters within a segment
    FOLDERS = enum.auto()  # `**/` where a segment begins: nothing, or whole segments (`REST`)
    REST = enum.auto()
    ALL = enum.auto()  # `/**` at the end: everything below


@dataclass(frozen=True, slots=True)
class _Token:
    kind: _Kind
    characters: str = ""
    ranges: tuple[tuple[str, str], ...] = ()
    negated: bool = False

    def matches(self, char: str) -> bool:
        """Whether a SET matches ``char``. No set matches the slash between two segments."""
        listed = char in self.characters or any(first <= char <= last for first, last in self.ranges)
        return char != "/" and listed is not self.negated


_FOLDERS = (_Token(_Kind.FOLDERS), _Token(_Kind.REST))


@dataclass(frozen=True, slots=True)
class _Pattern:
    tokens: tuple[_Token, ...]
    includes: bool
    """Whether it begins with ``!``."""
    folders_only: bool


def _patterns(data: bytes) -> Iterator[_Pattern]:
    for line in data.decode("utf-8", "replace").splitlines():
        text = _without_trailing_spaces(line)
        if not text or text.startswith("#"):
            continue
        includes = text.startswith("!")
        text = text[1:] if includes else text
        path = text.removesuffix("/")
        tokens = _tokens(path.removeprefix("/")) if path else None
        if tokens is not None:
            yield _Pattern(tokens if "/" in path else (*_FOLDERS, *tokens), includes, text.endswith("/"))


def _without_trailing_spaces(line: str) -> str:
    text = line.rstrip(" ")
    escapes = len(text) - len(text.rstrip("\\"))
    return text + " " if escapes % 2 and len(text) < len(line) else text


def _tokens(text: str) -> tuple[_Token, ...] | None:
    """Return the tokens of a pattern, or None for one that matches nothing in Git: an open bracket, a last backslash."""
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        char = text[at]
        if char == "*":
            at = _star(text, at, tokens)
            continue
        if char == "[":
            token, at = _bracket(text, at + 1)
            if token is None:
                return None
            tokens.append(token)
            continue
        if char == "\\":
            at += 1
            if at == len(text):
                return None
        tokens.append(_Token(_Kind.SET, negated=True) if char == "?" else _Token(_Kind.ONE, text[at]))
        at += 1
    return tuple(tokens)


def _star(text: str, at: int, tokens: list[_Token]) -> int:
    """Add the tokens of the run of stars at ``at``, and return the index after it."""
    end = at
    while text[end : end + 1] == "*":
        end += 1
    whole = end - at == 2 and (at == 0 or text[at - 1] == "/")
    if whole and text[end : end + 1] == "/":
        if not tokens or tokens[-1].kind is not _Kind.REST:
            tokens.extend(_FOLDERS)
        return end + 1
    tokens.append(_Token(_Kind.ALL if whole and at and end == len(text) else _Kind.STAR))
    return end


def _bracket(text: str, at: int) -> tuple[_Token | None, int]:
    """Return the set whose first character is at ``at``, or None if it is not closed, and the index after it."""
    negated = text[at : at + 1] in {"!", "^"}
    at += negated
    begin, characters, ranges = at, "", []
    while at < len(text) and (at == begin or text[at] != "]"):
        char, at = _member(text, at)
        if text[at : at + 1] == "-" and text[at + 1 : at + 2] not in {"", "]"}:
            last, at = _member(text, at + 1)
            ranges.append((char, last))
        else:
            characters += char
    return (_Token(_Kind.SET, characters, tuple(ranges), negated), at + 1) if at < len(text) else (None, at)


def _member(text: str, at: int) -> tuple[str, int]:
    if text[at] == "\\" and at + 1 < len(text):
        at += 1
    return text[at], at + 1


@dataclass(slots=True)
class _Automaton:
    """The states of all patterns, as masks."""

    start: int = 0
    ones: dict[str, int] = field(default_factory=dict)
    sets: list[tuple[int, _Token]] = field(default_factory=list)
    of_kind: dict[_Kind, int] = field(default_factory=lambda: dict.fromkeys(_Kind, 0))
    ends: int = 0
    """Ends of patterns that match files too."""
    ends_for_folders: int = 0
    includes: int = 0
    width: int = 0

    def add(self, pattern: _Pattern) -> None:
        """Append ``pattern`` to the others."""
        self.start |= 1 << self.width
        for token in pattern.tokens:
            bit = 1 << self.width
            self.width += 1
            self.of_kind[token.kind] |= bit
            if token.kind is _Kind.ONE:
                self.ones[token.characters] = self.ones.get(token.characters, 0) | bit
            elif token.kind is _Kind.SET:
                self.sets.append((bit, token))
        end = 1 << self.width
        self.width += 1
        self.ends_for_folders |= end
        self.ends |= 0 if pattern.folders_only else end
        self.includes |= end if pattern.includes else 0

    def entered(self, states: int) -> int:
        """Add the states that are reached without a character. No star follows a star, so two rounds are enough."""
        for _ in range(2):
            folders = states & self.of_kind[_Kind.FOLDERS]
            states |= ((states & self.of_kind[_Kind.STAR]) << 1) | (folders << 1) | (folders << 2)
        return states

    def leaving(self, char: str) -> int:
        """Return the states that ``char`` advances."""
        mask = self.ones.get(char, 0) | self.of_kind[_Kind.ALL]
        if char == "/":
            mask |= self.of_kind[_Kind.REST]
        for bit, token in self.sets:
            if token.matches(char):
                mask |= bit
        return mask

    def staying(self, char: str) -> int:
        """Return the states that ``char`` keeps."""
        mask = self.of_kind[_Kind.ALL] | self.of_kind[_Kind.REST]
        return mask if char == "/" else mask | self.of_kind[_Kind.STAR]


class Ignore:
    """The patterns of a `.reconcilerignore`. It is fastest for files in the order of their folders."""

    def __init__(self, data: bytes) -> None:
        """Raises `SourceTooLarge`."""
        if len(data) > MAX_BYTES:
            raise SourceTooLarge(
                f"{IGNORE_FILE} has more than {MAX_BYTES:,} bytes",
                hint="Use fewer patterns, or name the manifests' folder in source.path.",
            )
        self._automaton = _Automaton()
        for pattern in _patterns(data):
            self._automaton.add(pattern)
        self._work = 0
        self._steps: dict[str, tuple[int, int]] = {}
        self._above: list[tuple[str, int, bool]] = [("", self._automaton.entered(self._automaton.start), False)]
        """The folders around the last file: name, states after its slash, whether it is ignored."""

    def __call__(self, path: str) -> bool:
        """Whether ``path`` (of a file) is ignored. Raises `SourceTooLarge` if there are too many names for the patterns."""
        if not self._automaton.width:
            return False
        *folders, name = path.split("/")
        states, ignored = self._enter(folders)
        # As in Git: a file in an ignored folder cannot be included again.
        return ignored or self._decide(self._run(states, name) & self._automaton.ends)

    def _enter(self, folders: list[str]) -> tuple[int, bool]:
        kept = 0
        for folder, (known, _, _) in zip(folders, self._above[1:], strict=False):
            if folder != known:
                break
            kept += 1
        del self._above[kept + 1 :]
        for folder in folders[kept:]:
            _, states, ignored = self._above[-1]
            if not ignored:
                states = self._run(states, folder)
                ignored = self._decide(states & self._automaton.ends_for_folders)
                states = 0 if ignored else self._run(states, "/")
            self._above.append((folder, states, ignored))
        return self._above[-1][1:]

    def _decide(self, matched: int) -> bool:
        last = 1 << matched.bit_length() >> 1
        return bool(matched) and not last & self._automaton.includes

    def _run(self, states: int, text: str) -> int:
        self._spend(len(text) * (1 + self._automaton.width // _WORK_BITS))
        for char in text:
            leaving, staying = self._steps.get(char) or self._step(char)
            states = self._automaton.entered(((states & leaving) << 1) | (states & staying))
        return states

    def _step(self, char: str) -> tuple[int, int]:
        self._spend(len(self._automaton.sets))
        if len(self._steps) >= _CACHED:
            self._steps.clear()
        step = self._steps[char] = (self._automaton.leaving(char), self._automaton.staying(char))
        return step

    def _spend(self, work: int) -> None:
        self._work += work
        if self._work > MAX_WORK:
            raise SourceTooLarge(
                f"{IGNORE_FILE} has too many patterns for so many files",
                hint="Use fewer or shorter patterns, or name the manifests' folder in source.path.",
            )
