"""The codec between the model's values and what is stored of them."""

import dataclasses
import enum
from collections.abc import Mapping

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.objects import IntentState, ObservedObject, WriteOnly
from reconciler.model.resources import DerivedKeyRef, ResourceId, SecretRef, ValueRef
from reconciler.model.serialize import from_json, no_collection, to_json
from reconciler.model.status import Condition, ConditionStatus, ConditionType
from tests.state.samples import entry, intent, recorded


@dataclasses.dataclass(frozen=True, slots=True)
class Holder:
    ref: ValueRef | None = None
    ids: tuple[ResourceId, ...] = ()
    pair: tuple[ResourceId, int] | None = None
    by_name: Mapping[str, SecretRef] = dataclasses.field(default_factory=dict)
    states: frozenset[IntentState] = frozenset()
    several: list[ResourceId] = dataclasses.field(default_factory=list)
    data: object = None


@pytest.mark.parametrize("value", [recorded(), intent(), entry(plan="p")], ids=lambda value: type(value).__name__)
def test_a_value_of_the_model_comes_back_equal_through_bytes(value: object) -> None:
    assert from_json(type(value), orjson.loads(orjson.dumps(to_json(value)))) == value


def test_defaults_are_left_out_so_that_a_new_field_changes_no_stored_row() -> None:
    assert to_json(Condition(ConditionType.READY, ConditionStatus.TRUE, "Reconciled")) == {
        "type": "Ready",
        "status": "True",
        "reason": "Reconciled",
    }


def test_a_field_of_a_newer_program_is_ignored() -> None:
    assert from_json(ResourceId, to_json(ResourceId("K", "c", "n")) | {"later": {"x": 1}}) == ResourceId("K", "c", "n")


@pytest.mark.parametrize("ref", [SecretRef("default", "s", "k"), DerivedKeyRef("u"), DerivedKeyRef("u", 2), None])
def test_references_to_values_keep_their_kind(ref: ValueRef | None) -> None:
    assert from_json(Holder, to_json(Holder(ref=ref)) | {"ref": to_json(ref)}) == Holder(ref=ref)  # None may be spelt out, too
    if ref is not None:
        one = WriteOnly("/config/secret", ref, "hmac:1")  # type: ignore[arg-type]
        assert from_json(WriteOnly, to_json(one)) == one


def test_collections_keep_their_types() -> None:
    one = Holder(
        ids=(ResourceId("a", "b", "c"),),
        pair=(ResourceId("a", "b", "c"), 3),
        by_name={"x": SecretRef("c", "s", "k")},
        states=frozenset({IntentState.DONE, IntentState.PENDING}),
        several=[ResourceId("a", "b", "c")],
    )
    assert from_json(Holder, orjson.loads(orjson.dumps(to_json(one)))) == one


def test_absent_and_empty_differ_in_what_a_provider_says_of_hidden_values() -> None:
    for present in (None, frozenset(), frozenset({"/s", "/a"})):
        one = ObservedObject("1", {}, "n", present_write_only=present)
        assert from_json(ObservedObject, orjson.loads(orjson.dumps(to_json(one)))).present_write_only == present


def test_a_union_that_cannot_be_told_apart_is_refused_instead_of_coming_back_as_a_dict() -> None:
    @dataclasses.dataclass(frozen=True)
    class Ambiguous:
        value: ResourceId | Condition

    with pytest.raises(TypeError, match="cannot be told"):
        from_json(Ambiguous, {"value": {}})


def test_an_unknown_member_of_an_enumeration_is_refused() -> None:
    with pytest.raises(ValueError, match="elsewhere"):
        from_json(Condition, {"type": "Ready", "status": "elsewhere", "reason": "r"})


class Number(enum.IntEnum):
    ONE = 1


def test_what_only_looks_like_a_plain_value_is_made_one() -> None:
    result = to_json({"a": Number.ONE, "b": [ConditionType.READY], 3: (True, None, 1.5)})
    assert result == {"a": 1, "b": ["Ready"], "3": [True, None, 1.5]}
    assert type(result["a"]) is int
    assert type(result["b"][0]) is str


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_any_json_comes_back_as_it_was(data: object) -> None:
    assert from_json(Holder, to_json(Holder(data=data))).data == data


def test_the_collector_is_as_it_was_after_an_error() -> None:
    import gc

    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), no_collection():
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert gc.isenabled()
