"""One cause is one error: problems that only follow from another one are left out. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from reconciler.manifests.mappings import DEPENDENT, WHERE
from reconciler.manifests.text import MAX_BYTES
from reconciler.model.errors import Problem

UNREAD = frozenset({"RC1002", "RC1003", "RC1005", "RC1006", "RC1008", "RC1013", "RC1014"})
"""Problems after which it is not known what a file, or a document, declares."""
_NAMED = re.compile(rb"metadata:[ \t]*(?:\{|\r?\n)[^}]{0,300}?\bname:[ \t]*[\"']?([a-z0-9][-a-z0-9]{0,62})(?![-A-Za-z0-9])")


def names_unread(files: Iterable[tuple[str, bytes]], problems: Iterable[Problem]) -> frozenset[str]:
    """Return the names in the metadata of files that could not be read whole: what is declared there is not missing."""
    paths = {problem.location.file for problem in problems if problem.code in UNREAD}
    return frozenset(name.decode() for path, data in files if path in paths for name in _NAMED.findall(data[:MAX_BYTES]))


def without_consequences(problems: Iterable[Problem], references: Iterable[Problem]) -> list[Problem]:
    """Leave out what is wrong with the mappings of a stage only because the name of a connection is."""
    wrong = {
        (one.resource, one.location.file)
        for one in references
        if one.code == "RC1212" and one.pointer.startswith("/spec/connections/")
    }
    return [
        one
        for one in problems
        if (one.resource, one.location.file) not in wrong or one.code not in DEPENDENT or not one.pointer.startswith(WHERE)
    ]
