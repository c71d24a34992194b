"""Bytes → plain values with positions, for the subset of YAML 1.2 that a manifest may use.

Values are built from the parser's events, not by a recursive composer: libyaml's own composer overflows the C stack on deep
nesting, and PyYAML's constructors parse integers in quadratic time and expand merge keys before anything can be checked. A file
is split at its document markers first (``---`` at the start of a line always is one), so that one broken document does not hide
the others.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias, cast

import yaml
from yaml._yaml import CParser

from reconciler.manifests.text import FORBIDDEN, YamlProblem, decode, forbidden_character
from reconciler.manifests.tokens import harmless
from reconciler.model.json import Json, escape

MAX_DEPTH: Final = 32
MAX_NODES: Final = 50_000
MAX_DOCUMENTS: Final = 1_000
MAX_PROBLEMS: Final = 100
"""Most problems that are reported of one document; the last then gives the number of the others."""

_MARKER = re.compile(r"^(?:---|\.\.\.)(?=[ \t\r\n]|\Z)", re.MULTILINE)
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_WORDS: dict[str, bool | None] = {
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_NUMERIC = frozenset("-+.0123456789")

Place: TypeAlias = tuple[int, int]
"""Line and column, both from 1."""
_Container: TypeAlias = dict[str, Json] | list[Json] | None


class _Mark(Protocol):
    """A position in the text of a document, from 0."""

    line: int
    column: int


class _Event(Protocol):
    """What libyaml reports. A collection has no value and style, an alias only an anchor, an end only a mark."""

    start_mark: _Mark
    anchor: str | None
    tag: str | None
    implicit: tuple[bool, bool]
    value: str
    style: str | None


class _Parser(Protocol):
    def get_event(self) -> _Event | None:
        """Return the next event, or None at the end. Raises `yaml.YAMLError`."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its value and the places in it. If there are ``problems``, the value holds what could be read."""

    value: Json
    line: int
    column: int
    keys: dict[str, Place] = field(default_factory=dict)
    """Places of the keys, by the JSON pointer of their value."""
    values: dict[str, Place] = field(default_factory=dict)
    """Places of the values, by JSON pointer."""
    problems: tuple[YamlProblem, ...] = ()


def load_documents(data: bytes) -> tuple[list[Document], list[YamlProblem]]:
    """Return the documents of ``data`` and the problems of the file as a whole. Does not raise, for any input."""
    text, problems = decode(data)
    if text is None:
        return [], problems
    dirty = {problem.line for problem in problems}
    documents: list[Document] = []
    nodes = 0
    for number, (start, end, first_line) in enumerate(_chunks(text)):
        if number >= MAX_DOCUMENTS:
            problems.append(
                YamlProblem(
                    "RC1008",
                    f"the file has more than {MAX_DOCUMENTS:,} documents",
                    first_line,
                    1,
                    hint="Split it into several files.",
                )
            )
            break
        chunk = text[start:end]
        if dirty and any(first_line <= line <= first_line + chunk.count("\n") for line in dirty):
            continue  # reported already: its invisible characters could change its meaning
        builder = _Builder(first_line, MAX_NODES - nodes)
        builder.run(_without_directive(chunk, builder))
        nodes += builder.nodes
        if builder.problems or builder.root is not None:
            documents.append(
                Document(builder.root, builder.line, builder.column, builder.keys, builder.values, capped(builder.problems))
            )
        if nodes >= MAX_NODES:
            break
    return documents, problems


def _chunks(text: str) -> Iterator[tuple[int, int, int]]:
    """Yield (start, end, first line) of every document; a marker ``---`` belongs to its document, ``...`` to none."""
    start, line, seen = 0, 1, 0
    if "\n---" in text or "\n..." in text or text.startswith(("---", "...")):
        for match in _MARKER.finditer(text):
            place = match.start()
            if place > start:
                yield start, place, line
            line += text.count("\n", seen, place)
            start = seen = place
            if match.group() == "...":
                rest = text.find("\n", place)
                start = len(text) if rest < 0 else rest + 1
                # Only a comment may follow `...`. Anything else stays in the chunk, so that the parser reports it.
                if text[place + 3 : start].strip() and not text[place + 3 : start].lstrip().startswith("#"):
                    start = place
                else:
                    line, seen = line + (rest >= 0), start
    if start < len(text):
        yield start, len(text), line


def _without_directive(chunk: str, builder: _Builder) -> str:
    """Blank the lines of directives: ``%YAML 1.2`` is the default, and every other directive is refused."""
    if "%" not in chunk:
        return chunk
    lines = chunk.split("\n")
    for number, line in enumerate(lines):
        if line.startswith("%"):
            if line.split("#")[0].split() != ["%YAML", "1.2"]:
                builder.refuse("RC1006", "YAML directives are not allowed", number, 0, "Remove the line that starts with `%`.")
            lines[number] = ""
        elif line.strip() and not line.startswith("#"):
            break
    return "\n".join(lines)


def capped(problems: list[YamlProblem]) -> tuple[YamlProblem, ...]:
    """Return at most `MAX_PROBLEMS`; the last then gives the number of the others."""
    if len(problems) <= MAX_PROBLEMS:
        return tuple(problems)
    last = problems[MAX_PROBLEMS - 1]
    more = YamlProblem("RC1001", f"{len(problems) - MAX_PROBLEMS + 1} more problems in this document", last.line, last.column)
    return (*problems[: MAX_PROBLEMS - 1], more)


class _Stop(Exception):
    """Ends the reading of one document. It does not leave this module."""


class _Builder:
    """Builds the value of one document from events, with its own stack."""

    __slots__ = (
        "column",
        "container",
        "first_line",
        "key",
        "keys",
        "line",
        "nodes",
        "nodes_left",
        "path",
        "problems",
        "root",
        "stack",
        "values",
    )

    def __init__(self, first_line: int, nodes_left: int) -> None:
        self.first_line = first_line
        self.nodes_left = nodes_left
        self.keys: dict[str, Place] = {}
        self.values: dict[str, Place] = {}
        self.problems: list[YamlProblem] = []
        self.root: Json = None
        self.line, self.column = first_line, 1
        self.nodes = 0
        self.stack: list[_Container] = []
        self.container: _Container = None
        self.key: str | None = None
        """The key that waits for its value."""
        self.path: list[str] = [""]

    def run(self, chunk: str) -> None:
        """Read ``chunk``."""
        try:
            # The stubs type a mark as optional; libyaml gives one to every event.
            next_event = cast("_Parser", CParser(chunk)).get_event
            while (event := next_event()) is not None:
                handler = _HANDLERS.get(type(event))
                if handler is not None:
                    handler(self, event)
        except _Stop:
            pass
        except yaml.YAMLError as error:
            self._syntax(error)

    def refuse(self, code: str, message: str, line: int, column: int, hint: str = "") -> None:
        """Record a problem at the zero-based place of this chunk."""
        self.problems.append(YamlProblem(code, message, self.first_line + line, column + 1, self.path[-1], hint))

    def _syntax(self, error: yaml.YAMLError) -> None:
        marked = error if isinstance(error, yaml.MarkedYAMLError) else yaml.MarkedYAMLError()
        mark = marked.problem_mark or marked.context_mark
        text = marked.problem or "not valid YAML"
        hint = "Indent with spaces." if "token" in text else "Check the indentation and the quotes before this place."
        line, column = (mark.line, mark.column) if mark else (0, 0)
        self.refuse("RC1005", f"{marked.context}: {text}" if marked.context else text, line, column, hint)

    def scalar(self, event: _Event) -> None:
        text = event.value
        if event.anchor is not None or event.tag is not None:
            self._extras(event)
        if self.key is None and type(self.container) is dict:
            self._key(event, text, self.container)
            return
        value: Json = text
        if event.implicit[0]:
            if text in _WORDS:
                value = _WORDS[text]
            elif not text:
                value = None
            elif text[0] in _NUMERIC:
                value = self._number(text, event)
        elif event.style == '"' and (bad := FORBIDDEN.search(text)):
            self._escaped(bad.group(), event)
        self._add(value, event)

    def _key(self, event: _Event, text: str, container: dict[str, Json]) -> None:
        mark = event.start_mark
        if event.implicit[0]:
            if text == "<<":
                self.refuse("RC1006", "merge keys are not allowed", mark.line, mark.column, "Write the keys out.")
                raise _Stop
            if text in _WORDS or not text or (text[0] in _NUMERIC and _FLOAT.match(text)):
                self.refuse("RC1010", f"the key {harmless(text)} is not a string", mark.line, mark.column, "Put it in quotes.")
        elif event.style == '"' and (bad := FORBIDDEN.search(text)):
            self._escaped(bad.group(), event)
        if not text.isascii() and unicodedata.normalize("NFC", text) != text:
            self.refuse(
                "RC1004",
                "the key is not in Unicode normal form C",
                mark.line,
                mark.column,
                "Type it again: another sequence of characters looks the same.",
            )
        if text in container:
            self.refuse("RC1007", f"the key {harmless(text)} is given twice", mark.line, mark.column, "Keep one of them.")
        self._count(mark)
        self.key = text
        self.keys.setdefault(f"{self.path[-1]}/{escape(text)}", (self.first_line + mark.line, mark.column + 1))

    def _number(self, text: str, event: _Event) -> str | int | float:
        mark = event.start_mark
        if _INT.match(text):
            if len(text) <= 20:  # a sign and 19 digits
                number = int(text)
                if -(2**63) <= number < 2**63:
                    return number
            self.refuse("RC1011", "the integer has more than 64 bits", mark.line, mark.column, "Put it in quotes if it is text.")
            return 0
        if len(text) <= 400 and _FLOAT.match(text):
            value = float(text)
            if value in (float("inf"), float("-inf")):
                self.refuse("RC1011", "the number is out of range", mark.line, mark.column, "Put it in quotes if it is text.")
                return 0
            return value
        return text

    def _escaped(self, character: str, event: _Event) -> None:
        mark = event.start_mark
        self.problems.append(forbidden_character(character, self.first_line + mark.line, mark.column + 1, self.path[-1]))

    def mapping(self, event: _Event) -> None:
        self._start({}, event)

    def sequence(self, event: _Event) -> None:
        self._start([], event)

    def _start(self, value: dict[str, Json] | list[Json], event: _Event) -> None:
        mark = event.start_mark
        if event.anchor is not None or event.tag is not None:
            self._extras(event)
        if self.key is None and type(self.container) is dict:
            self.refuse("RC1010", "a key must be a string", mark.line, mark.column, "Lists and mappings cannot be keys.")
            raise _Stop
        if len(self.stack) >= MAX_DEPTH:
            self.refuse("RC1008", f"the nesting is deeper than {MAX_DEPTH}", mark.line, mark.column, "No manifest needs this.")
            raise _Stop
        pointer = self._add(value, event)
        self.stack.append(self.container)
        self.container = value
        self.path.append(pointer)

    def end(self, _event: _Event) -> None:
        self.container = self.stack.pop()
        self.path.pop()

    def alias(self, event: _Event) -> None:
        mark = event.start_mark
        self.refuse(
            "RC1006",
            "aliases are not allowed",
            mark.line,
            mark.column,
            "Write the value out; `*` at the start of text needs quotes.",
        )
        raise _Stop

    def _extras(self, event: _Event) -> None:
        mark = event.start_mark
        if event.anchor is not None:
            self.refuse(
                "RC1006", "anchors are not allowed", mark.line, mark.column, "Remove it; `&` at the start of text needs quotes."
            )
            raise _Stop
        self.refuse("RC1006", "tags are not allowed", mark.line, mark.column, "Remove it; `!` at the start of text needs quotes.")

    def _count(self, mark: _Mark) -> None:
        self.nodes += 1
        if self.nodes > self.nodes_left:
            self.refuse(
                "RC1008", f"the file has more than {MAX_NODES:,} nodes", mark.line, mark.column, "Split it into several files."
            )
            raise _Stop

    def _add(self, value: Json, event: _Event) -> str:
        """Add ``value`` to the open container and return its pointer."""
        mark = event.start_mark
        self._count(mark)
        container = self.container
        pointer = ""
        if container is None:
            self.root = value
            self.line, self.column = self.first_line + mark.line, mark.column + 1
        elif type(container) is dict:
            key, self.key = self.key or "", None
            pointer = f"{self.path[-1]}/{escape(key)}"
            container.setdefault(key, value)
        elif type(container) is list:
            pointer = f"{self.path[-1]}/{len(container)}"
            container.append(value)
        self.values.setdefault(pointer, (self.first_line + mark.line, mark.column + 1))
        return pointer


_HANDLERS: dict[type, Callable[[_Builder, _Event], None]] = {
    yaml.ScalarEvent: _Builder.scalar,
    yaml.MappingStartEvent: _Builder.mapping,
    yaml.SequenceStartEvent: _Builder.sequence,
    yaml.MappingEndEvent: _Builder.end,
    yaml.SequenceEndEvent: _Builder.end,
    yaml.AliasEvent: _Builder.alias,
}
