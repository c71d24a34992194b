"""Fields that an answer leaves out are unknown, not null: what was written last stands for them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from reconciler.model.plan import ChangeClass
from reconciler.planning.diff import Basis, changes_since
from tests.planning import world as w

WRITTEN = {"name": "a", "rows": [{"id": 1, "level": "x"}, {"id": 2, "level": "y"}], "deep": {"one": 1, "two": {"three": 3}}}


def paths(wanted: dict[str, Any], seen: dict[str, Any], written: dict[str, Any] | None) -> dict[str, ChangeClass]:
    desired = dataclasses.replace(w.desired(), attributes=wanted, write_only=())
    observed = dataclasses.replace(w.observed(desired), attributes=seen)
    return {one.path: one.cls for one in changes_since(desired, observed, Basis(written), now=0.0)}


@pytest.mark.parametrize("written", [WRITTEN, None])
@pytest.mark.parametrize(
    "seen",
    [
        {},
        {"name": "a"},
        {**WRITTEN, "deep": {}},
        {**WRITTEN, "deep": {"one": 1, "two": {}}},
        {**WRITTEN, "rows": [{"id": 1}, {"id": 2, "level": "y"}]},
    ],
)
def test_n52_a_field_that_is_not_shown_is_no_difference(seen: dict[str, Any], written: dict[str, Any] | None) -> None:
    assert paths(WRITTEN, seen, written) == {}


def test_n52_a_field_that_is_shown_as_null_is_a_difference() -> None:
    assert paths(WRITTEN, {**WRITTEN, "name": None}, WRITTEN) == {"/name": ChangeClass.DRIFT}


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        ({**WRITTEN, "name": "b"}, "/name"),
        ({**WRITTEN, "deep": {"one": 1, "two": {"three": 4}}}, "/deep/two/three"),
        ({**WRITTEN, "rows": [{"id": 1, "level": "z"}, {"id": 2, "level": "y"}]}, "/rows"),
        ({**WRITTEN, "fresh": 1}, "/fresh"),
    ],
)
def test_n52_a_field_that_is_not_shown_is_compared_with_what_was_written_last(wanted: dict[str, Any], path: str) -> None:
    assert paths(wanted, {}, WRITTEN) == {path: ChangeClass.COMMIT}
    assert paths(wanted, {}, wanted) == {}


def test_n52_a_list_whose_rows_are_partly_shown_still_differs_in_what_is_shown() -> None:
    seen = {**WRITTEN, "rows": [{"id": 1}, {"id": 3}]}
    assert paths(WRITTEN, seen, WRITTEN) == {"/rows": ChangeClass.DRIFT}
    assert paths(WRITTEN, {**WRITTEN, "rows": [{"id": 1}]}, WRITTEN) == {"/rows": ChangeClass.DRIFT}
