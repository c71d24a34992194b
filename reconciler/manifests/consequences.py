"""Removes problems that only follow from another one, so that one cause gives one error. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from reconciler.manifests.mappings import DEPENDENT, WHERE
from reconciler.manifests.text import MAX_BYTES
from reconciler.model.errors import Problem

UNREAD = frozenset({"RC1002", "RC1003", "RC1005", "RC1006", "RC1008", "RC1013", "RC1014"})
"""Problems after which the content of a file or document is unknown."""
_NAMED = re.compile(rb"metadata:[ \t]*(?:\{|\r?\n)[^}]{0,300}?\bname:[ \t]*[\"']?([a-z0-9][-a-z0-9]{0,62})(?![-A-Za-z0-9])")


def names_unread(files: Iterable[tuple[str, bytes]], problems: Iterable[Problem]) -> frozenset[str]:
    """Return the names in the metadata of files that could not be read completely. Their resources are not missing."""
    paths = {problem.location.file for problem in problems if problem.code in UNREAD}
    return frozenset(name.decode() for path, data in files if path in paths for name in _NAMED.findall(data[:MAX_BYTES]))


def without_consequences(problems: Iterable[Problem], references: Iterable[Problem]) -> list[Problem]:
    """Return ``problems`` without those of mappings that follow from a wrong name of a connection."""
    wrong = {
        (problem.resource, problem.location.file)
        for problem in references
        if problem.code == "RC1212" and problem.pointer.startswith("/spec/connections/")
    }
    return [
        problem
        for problem in problems
        if (problem.resource, problem.location.file) not in wrong
        or problem.code not in DEPENDENT
        or not problem.pointer.startswith(WHERE)
    ]
