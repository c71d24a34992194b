"""The shape of the program, held by tests: one meaning per class name, modules of a readable size, private APIs that are known."""

from __future__ import annotations

import ast
import importlib
from collections import defaultdict
from functools import reduce
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted((ROOT / "reconciler").rglob("*.py"))
LIMIT = 400
TABLES = {
    "reconciler/model/codes.py": "one table: every error code with its cause and fix",
    "reconciler/cli/verbs.py": "one table: every verb with its options and help",
}
"""Modules over the limit, each with its reason."""

PRIVATE = (
    ("PyYAML", "6.0.3", "yaml._yaml", "CParser", "the C parser gives events with positions; PyYAML has no public name for it"),
    ("uvicorn", "0.54.0", "uvicorn", "Server._serve", "serving without uvicorn's own signal handlers"),
    ("alembic", "1.20.1", "alembic.script", "ScriptDirectory._upgrade_revs", "migrations run in our own transaction"),
)
"""Library, version it was checked with, module, name, why: a new version is read before the number here is raised.
Private names of httpx: `tests/http/test_private_apis.py`."""


def test_no_class_name_has_two_meanings() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_modules_can_be_read_in_one_go() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: length for name, length in lengths.items() if length > LIMIT and name not in TABLES} == {}
    assert [name for name in TABLES if lengths.get(name, 0) <= LIMIT] == []


@pytest.mark.parametrize(("library", "checked", "module", "name", "why"), PRIVATE)
def test_private_names_of_libraries_are_those_that_were_read(
    library: str, checked: str, module: str, name: str, why: str
) -> None:
    assert version(library) == checked, f"{module}.{name} was read in {library} {checked}: read the new version ({why})"
    assert callable(reduce(getattr, name.split("."), importlib.import_module(module)))
