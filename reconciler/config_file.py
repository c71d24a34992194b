"""The configuration file's YAML, read by the manifests' strict loader: every key with its place, every problem at once. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reconciler.manifests.yaml import load_documents
from reconciler.model.resources import Location


@dataclass(frozen=True, slots=True)
class Tree:
    """What a file says, the place of every key by dotted path, and what is wrong, each with its place."""

    root: dict[str, Any]
    places: dict[str, Location]
    problems: tuple[tuple[Location, str], ...]


def read_tree(name: str, data: bytes) -> Tree:
    """Return the tree of ``data``. Never raises: what is wrong is in ``problems``."""
    documents, found = load_documents(data)
    problems = [
        (Location(name, one.line, one.column), one.message) for one in [*found, *(p for d in documents for p in d.problems)]
    ]
    if len(documents) > 1:
        problems.append((Location(name, documents[1].line, documents[1].column), "a second document: one is wanted"))
    if not documents or documents[0].value is None:
        return Tree({}, {}, tuple(problems))
    first = documents[0]
    if not isinstance(first.value, dict):
        if not problems:
            problems.append((Location(name, first.line, first.column), "a mapping of sections is wanted"))
        return Tree({}, {}, tuple(problems))
    places = {_dotted(pointer): Location(name, *place) for pointer, place in first.keys.items()}
    return Tree(first.value, places, tuple(problems))


def _dotted(pointer: str) -> str:
    return pointer[1:].replace("/", ".").replace("~1", "/").replace("~0", "~")
