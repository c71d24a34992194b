"""Answers as typed values: strict types, tolerant of new fields, and errors that name the place and never the value."""

import types

import msgspec
import pytest

from reconciler.drivers.wire import decode, find, matches
from reconciler.model.errors import ProviderProtocolError


class Inner(msgspec.Struct, frozen=True):
    id: int
    name: str | None = "web"


class Outer(msgspec.Struct, frozen=True):
    rows: list[Inner]


def test_unknown_fields_are_ignored_and_null_is_not_missing():
    rows = decode({"rows": [{"id": 1, "new": {"a": 1}}, {"id": 2, "name": None}], "more": 1}, Outer, "x").rows
    assert [(row.id, row.name) for row in rows] == [(1, "web"), (2, None)]


@pytest.mark.parametrize("value", [True, 1.0, "1", None, [], {}])
def test_d15_an_id_is_an_integer_and_the_error_names_its_place(value):
    with pytest.raises(ProviderProtocolError) as caught:
        decode({"rows": [{"id": 1}, {"id": value}]}, Outer, "the list of rows", request="GET /rows")
    assert caught.value.message.startswith("the list of rows cannot be read: Expected `int`, got ")
    assert caught.value.message.endswith("at `$.rows[1].id`")
    assert caught.value.request == "GET /rows"


def test_d15_an_error_never_shows_a_value():
    with pytest.raises(ProviderProtocolError) as caught:
        decode({"rows": [{"id": "canary-value"}], "canary-key": 1}, Outer, "x")
    assert "canary" not in str(caught.value)


def test_another_form_is_none_where_only_ours_count():
    assert matches({"id": 5}, Inner) == Inner(5)
    assert [matches(value, Inner) for value in (None, [], "x", {"id": "5"}, {})] == [None] * 5
    assert matches(types.MappingProxyType({"id": 5}), Inner) == Inner(5)


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ({"run": {"id": 5}}, 5),
        ({"run": {"id": True}}, None),
        ({"run": [5]}, None),
        ({"run": None}, None),
        ([], None),
        (None, None),
    ],
)
def test_a_value_is_found_by_its_path_and_its_type(answer, number):
    assert find(answer, int, "run", "id") == number
