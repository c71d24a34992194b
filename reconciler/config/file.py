"""The YAML of the configuration file, read by the strict loader of manifests: all keys with their places, and all problems. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.manifests.yaml import load_documents
from reconciler.model.json import pointer_parts
from reconciler.model.resources import Location


@dataclass(frozen=True, slots=True)
class Tree:
    """Values of a file, the place of every key by dotted path, and the problems with their places."""

    root: dict[str, object]
    places: dict[str, Location]
    problems: tuple[tuple[Location, str], ...]


def read_tree(name: str, data: bytes) -> Tree:
    """Return the tree of ``data``. It does not raise: see ``problems``."""
    documents, file_problems = load_documents(data)
    problems = [
        (Location(name, problem.line, problem.column), problem.message)
        for problem in [*file_problems, *(p for document in documents for p in document.problems)]
    ]
    if len(documents) > 1:
        problems.append((Location(name, documents[1].line, documents[1].column), "a second document: must be one document"))
    if not documents or documents[0].value is None:
        return Tree({}, {}, tuple(problems))
    first = documents[0]
    if not isinstance(first.value, dict):
        if not problems:
            problems.append((Location(name, first.line, first.column), "must be a mapping of sections"))
        return Tree({}, {}, tuple(problems))
    places = {_dotted(pointer): Location(name, *place) for pointer, place in first.keys.items()}
    return Tree(first.value, places, tuple(problems))


def _dotted(pointer: str) -> str:
    return ".".join(pointer_parts(pointer))
