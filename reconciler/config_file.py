"""The configuration file's YAML, read strictly: every leaf with its place, every problem at once. Pure: bytes in.

Only what a configuration needs: one document, plain mappings, lists and scalars of YAML 1.2's core schema. Anchors, aliases,
tags, merge keys and duplicate keys are refused, because each of them lets the file say something else than it shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from yaml.events import CollectionEndEvent as End

from reconciler.model.resources import Location

MAX_BYTES = 256 << 10
MAX_DEPTH = 16
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
_WORDS = {
    "": None,
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


@dataclass(slots=True)
class Tree:
    """What a file says, the place of every key by dotted path, and what is wrong, each with its place."""

    name: str
    root: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Location] = field(default_factory=dict)
    problems: list[tuple[Location, str]] = field(default_factory=list)


class _Broken(Exception):
    """Reading cannot go on: what was wrong is noted."""


def read_tree(name: str, data: bytes) -> Tree:
    """Return the tree of ``data``. Never raises: what is wrong is in ``problems``."""
    tree = Tree(name)
    try:
        text = _checked(tree, data)
        _Reader(tree, yaml.parse(text, Loader=yaml.SafeLoader)).document()
    except _Broken:
        pass
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        _note(tree, mark, f"not YAML: {error.problem or error.context or 'it cannot be read'}")
    except yaml.YAMLError:
        tree.problems.append((Location(name), "not YAML: it holds a character that YAML does not allow"))
    return tree


def _checked(tree: Tree, data: bytes) -> str:
    if len(data) > MAX_BYTES:
        tree.problems.append((Location(tree.name), f"larger than {MAX_BYTES >> 10} KiB"))
        raise _Broken
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        tree.problems.append((Location(tree.name, data[: error.start].count(10) + 1), "not UTF-8"))
        raise _Broken from None


def _note(tree: Tree, mark: Any, message: str) -> None:
    tree.problems.append((_place(tree.name, mark), message))


def _place(name: str, mark: Any) -> Location:
    return Location(name, mark.line + 1, mark.column + 1) if mark is not None else Location(name)


class _Reader:
    """One pass over the parser's events; never builds what is not asked for, so nothing can grow."""

    def __init__(self, tree: Tree, events: Iterator[Event]) -> None:
        self._tree, self._events = tree, iter(events)

    def document(self) -> None:
        next(self._events)  # stream start
        event = next(self._events)
        if isinstance(event, StreamEndEvent):
            return
        event = next(self._events)
        if isinstance(event, ScalarEvent) and event.implicit[0] and _WORDS.get(event.value, "") is None:
            pass  # comments only
        elif isinstance(event, MappingStartEvent):
            self._tree.root = self._mapping(event, "", 1)
        else:
            self._fail(event, "a mapping of sections is wanted")
        next(self._events)  # document end
        event = next(self._events)
        if isinstance(event, DocumentStartEvent):
            self._fail(event, "a second document: one is wanted")

    def _mapping(self, start: Event, path: str, depth: int) -> dict[str, Any]:
        self._plain(start, depth)
        found: dict[str, Any] = {}
        while not isinstance(event := next(self._events), End):
            key = event.value if isinstance(event, ScalarEvent) else None
            if key is None or isinstance(event, AliasEvent) or key == "<<":
                self._fail(event, "a key is a plain text here: no merge keys, no aliases")
            inner = f"{path}.{key}" if path else str(key)
            self._tree.places.setdefault(inner, _place(self._tree.name, event.start_mark))
            value = self._value(next(self._events), inner, depth)
            if key in found:
                _note(self._tree, event.start_mark, f"{inner} is given twice")
            found[str(key)] = value
        return found

    def _value(self, event: Event, path: str, depth: int) -> Any:
        if isinstance(event, MappingStartEvent):
            return self._mapping(event, path, depth + 1)
        if isinstance(event, SequenceStartEvent):
            self._plain(event, depth + 1)
            rows: list[Any] = []
            while not isinstance(event := next(self._events), End):
                rows.append(self._value(event, f"{path}.{len(rows)}", depth + 1))
            return rows
        self._plain(event, depth)
        assert isinstance(event, ScalarEvent)  # noqa: S101 - aliases were refused in _plain
        return scalar(event.value) if event.implicit[0] else event.value

    def _plain(self, event: Event, depth: int) -> None:
        if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor) or getattr(event, "tag", None):
            self._fail(event, "anchors, aliases and tags are not read here")
        if depth > MAX_DEPTH:
            self._fail(event, f"nested deeper than {MAX_DEPTH}")

    def _fail(self, event: Event, message: str) -> None:
        _note(self._tree, event.start_mark, message)
        raise _Broken


def scalar(text: str) -> Any:
    """Return a plain scalar by YAML 1.2's core schema: ``on`` and dates stay the text they show."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
