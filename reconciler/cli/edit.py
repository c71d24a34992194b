"""Edit a manifest in place: all other text stays the same, byte for byte.

The text is edited at the positions that the YAML parser reports. This keeps spelling, quotes, comments, order and line ends of
everything else. Manifests with anchors or tags are invalid, and are never edited.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import yaml

from reconciler.drivers.specs import OBJECT_KINDS
from reconciler.engine.masking import is_hidden
from reconciler.model.errors import UsageError
from reconciler.model.plan import Change
from reconciler.model.resources import Resource, ResourceId

T = TypeVar("T")
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*\Z")
_REST_OF_LINE = re.compile(r"[ \t]*,?[ \t]*(?:#[^\r\n]*)?(\r?\n|\Z)")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


class EditableDocument:
    """One document of a file, and the pending edits of the file's text."""

    def __init__(self, text: str, root: yaml.MappingNode) -> None:
        self.before = text
        self._root = root
        self._edits: list[tuple[int, int, str]] = []
        self._newline = "\r\n" if "\r\n" in text else "\n"

    @classmethod
    def find(cls, path: Path, identity: ResourceId, *, text: str | None = None) -> EditableDocument | None:
        """Return the document of ``identity`` in ``path``, or None. ``text``: the content of the file, if it is read already."""
        text = read(path) if text is None else text
        try:
            for node in yaml.compose_all(text, Loader=yaml.SafeLoader):
                if isinstance(node, yaml.MappingNode) and _identity(node) == identity:
                    return cls(text, node)
        except yaml.YAMLError:
            raise UsageError(f"{path} has an invalid document", hint=f"See: reconciler validate {path}") from None
        return None

    def spec(self) -> yaml.MappingNode:
        """Return the node of ``spec``."""
        node = child(self._root, "spec")
        if not isinstance(node, yaml.MappingNode):
            raise UsageError("the manifest has no spec to edit")
        return node

    def render(self) -> str:
        """Return the text of the file after the edits."""
        text = self.before
        for start, end, new in sorted(self._edits, reverse=True):
            text = text[:start] + new + text[end:]
        return text

    # -- mappings ---------------------------------------------------------------------------------------------------

    def set(self, mapping: yaml.MappingNode, key: str, value: object) -> None:
        """Set ``key``: replace its value in place, or append the key."""
        node = child(mapping, key)
        if node is None:
            self._add(mapping, f"{key}: {scalar(value)}")
        elif isinstance(node, yaml.SequenceNode) and isinstance(value, list | tuple):
            self.merge(node, list(value), plain_value, lambda item: scalar(item))
        elif plain_value(node) != value:
            style = node.style if isinstance(node, yaml.ScalarNode) else None
            self._edits.append((node.start_mark.index, _end(self.before, node), scalar(value, style)))

    def remove(self, mapping: yaml.MappingNode, key: str) -> None:
        """Remove ``key`` if it exists."""
        names = [name.value for name, _ in mapping.value]
        if key in names:
            places = [(name.start_mark.index, _end(self.before, value)) for name, value in mapping.value]
            self._cut(places, names.index(key), mapping)

    def _add(self, mapping: yaml.MappingNode, entry: str) -> None:
        if not mapping.value:
            self._edits.append((mapping.start_mark.index, mapping.end_mark.index, f"{{{entry}}}"))
            return
        ends = [(name.start_mark.index, _end(self.before, value)) for name, value in mapping.value]
        self._append(mapping, ends, entry, mapping.value[0][0].start_mark.column)

    # -- lists ------------------------------------------------------------------------------------------------------

    def merge(
        self, node: yaml.SequenceNode, expected: Sequence[T], of: Callable[[yaml.Node], T], write: Callable[[T], str]
    ) -> None:
        """Remove the items whose value (``of``) is not expected, and append the missing ones; others stay untouched."""
        have = [of(item) for item in node.value]
        places = [(item.start_mark.index, _end(self.before, item)) for item in node.value]
        if not node.flow_style:
            places = [(self.before.rindex("-", 0, start), end) for start, end in places]
        missing = [value for value in expected if value not in have]
        kept = [index for index, value in enumerate(have) if value in expected]
        if not kept:
            self._renew(node, places, [write(value) for value in expected])
            return
        for index in range(len(have)):
            if index not in kept:
                self._cut(places, index, node, after_kept=index > kept[-1])
        dash = "" if node.flow_style else "- "
        for value in missing:
            self._append(node, [places[kept[-1]]], dash + write(value), node.start_mark.column)

    def _renew(self, node: yaml.SequenceNode, places: Sequence[tuple[int, int]], entries: Sequence[str]) -> None:
        """Replace all items of a list, in its style."""
        if not entries:
            start = node.start_mark.index if node.flow_style else self.before.rindex(":", 0, node.start_mark.index) + 1
            self._edits.append((start, _end(self.before, node), "[]" if node.flow_style else " []"))
            return
        line = f"{self._newline}{' ' * node.start_mark.column}- "
        self._edits.append((*places[0], ", ".join(entries) if node.flow_style else "- " + line.join(entries)))
        for index in range(1, len(places)):
            self._cut(places, index, node, after_kept=True)

    # -- text -------------------------------------------------------------------------------------------------------

    def _append(self, node: yaml.CollectionNode, places: Sequence[tuple[int, int]], entry: str, column: int) -> None:
        end = places[-1][1]
        if node.flow_style:
            own_line = self.before[self.before.rfind("\n", 0, places[-1][0]) + 1 : places[-1][0]]
            break_line = not own_line.strip() and "\n" in self.before[node.start_mark.index : end]
            self._edits.append((end, end, f",{self._newline}{own_line}{entry}" if break_line else f", {entry}"))
            return
        line_end = self.before.find("\n", end)
        line_end = len(self.before) if line_end < 0 else line_end - self.before[:line_end].endswith("\r")
        self._edits.append((line_end, line_end, f"{self._newline}{' ' * column}{entry}"))

    def _cut(self, places: Sequence[tuple[int, int]], index: int, node: yaml.CollectionNode, *, after_kept: bool = False) -> None:
        """Remove an item: with its line if it has its own, else with its comma."""
        start, end = places[index]
        line = self.before.rfind("\n", 0, start) + 1
        rest = _REST_OF_LINE.match(self.before, end)
        if not self.before[line:start].strip() and rest is not None:
            self._edits.append((line, rest.end(), ""))
        elif not node.flow_style:
            raise UsageError("this item cannot be removed from its line", hint="Edit the manifest by hand.")
        elif after_kept or index == len(places) - 1:
            self._edits.append((places[index - 1][1] if index else start, end, ""))
        else:
            self._edits.append((start, places[index + 1][0], ""))


def read(path: Path) -> str:
    """Return a file's text with its own line ends."""
    return path.read_bytes().decode("utf-8")


def save(path: Path, text: str) -> None:
    """Replace ``path`` atomically, keeping its mode."""
    mode = path.stat().st_mode & 0o777
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(text.encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())
    Path(name).chmod(mode)
    Path(name).replace(path)


def child(mapping: yaml.Node, key: str) -> yaml.Node | None:
    """Return the value of ``key``, or None."""
    if not isinstance(mapping, yaml.MappingNode):
        return None
    return next((value for name, value in mapping.value if name.value == key), None)


def plain_value(node: yaml.Node) -> object:
    """Return the value of a node as a Python value."""
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def scalar(value: object, style: str | None = None) -> str:
    """Return ``value`` as one line of YAML, with the quotes of ``style`` if possible."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {scalar(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(scalar(item) for item in value) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    if style == "'" and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    if style != '"' and _PLAIN.match(value) and value.lower() not in _WORDS:
        return value
    escaped = "".join(c if c.isprintable() and c not in '"\\' else _escaped(c) for c in value)
    return f'"{escaped}"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    number = ord(character)
    return f"\\U{number:08x}" if number > 0xFFFF else f"\\u{number:04x}"


def _end(text: str, node: yaml.Node) -> int:
    """Return the end of a node's text. The end mark of a block is behind the comments and blank lines that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(last, tuple) else last)
    if isinstance(node, yaml.ScalarNode) and node.style in {"|", ">"}:
        return len(text[: node.end_mark.index].rstrip("\r\n \t"))
    end: int = node.end_mark.index
    return end


def _identity(root: yaml.MappingNode) -> ResourceId | None:
    kind, metadata = child(root, "kind"), child(root, "metadata")
    name, canvas = (child(metadata, key) if metadata is not None else None for key in ("name", "canvasId"))
    if not isinstance(kind, yaml.ScalarNode) or not isinstance(name, yaml.ScalarNode):
        return None
    return ResourceId(kind.value, canvas.value if isinstance(canvas, yaml.ScalarNode) else "default", name.value)


# -- drift ----------------------------------------------------------------------------------------------------------------


def accept(document: EditableDocument, resource: Resource, changes: Iterable[Change]) -> list[str]:
    """Write the observed values of ``changes`` into ``document``; returns the pointers without a place in the manifest."""
    left: list[str] = []
    for change in changes:
        for field in change.fields:
            if field.sensitive or is_hidden(field.before) or not _accept_field(document, resource, field.path, field.before):
                left.append(field.path)
    return left


def _accept_field(document: EditableDocument, resource: Resource, pointer: str, value: object) -> bool:
    if resource.id.kind in OBJECT_KINDS:
        return _set_path(document, pointer.split("/")[1:], value)
    if pointer == "/events" and isinstance(value, list | tuple):
        _accept_events(document, [str(name) for name in value])
        return True
    return False


def _accept_events(document: EditableDocument, observed: list[str]) -> None:
    """Keep the observed entries with their filters and comments, remove the others, and add new ones."""
    entries = child(document.spec(), "events")
    if not isinstance(entries, yaml.SequenceNode) or not entries.value:
        document.set(document.spec(), "events", [{"type": name} for name in observed])
        return
    document.merge(entries, observed, _type_of, _entry_like(document.before, entries))


def _type_of(entry: yaml.Node) -> str:
    type_node = child(entry, "type")
    return str(type_node.value) if type_node is not None else ""


def _entry_like(text: str, entries: yaml.SequenceNode) -> Callable[[str], str]:
    """Return a function that writes an entry in the form of the entries that have a type only."""
    for entry in reversed(entries.value):
        type_node = child(entry, "type")
        if isinstance(type_node, yaml.ScalarNode) and len(entry.value) == 1:
            start, end = type_node.start_mark.index, type_node.end_mark.index
            before, after = text[entry.start_mark.index : start], text[end : entry.end_mark.index] if entry.flow_style else ""
            if "\n" not in before + after and "#" not in before + after:
                return lambda name: before + scalar(name, type_node.style) + after
    return lambda name: f"{{type: {scalar(name)}}}" if entries.flow_style else f"type: {scalar(name)}"


def _set_path(document: EditableDocument, path: list[str], value: object) -> bool:
    node: yaml.Node | None = document.spec()
    for part in path[:-1]:
        node = child(node, part) if node is not None else None
    if not isinstance(node, yaml.MappingNode):
        return False
    current = child(node, path[-1])
    if current is not None and child(current, "valueFrom") is not None:
        return False
    if value is None:
        document.remove(node, path[-1])
    else:
        document.set(node, path[-1], list(value) if isinstance(value, tuple) else value)
    return True
