"""Expressions, constraints and templates: what they see, what they may not do, and that they end."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.manifests.cel import ExpressionError, aliased, compile_constraints, compile_filter, compile_value
from reconciler.manifests.templates import TemplateError, references, resolve

EVENT = {"ref": "refs/heads/main", "n": 3, "big": 2**53 + 1, "f": 1.5, "deleted": False, "nothing": None, "price": "$5",
         "commits": [{"id": "a", "files": ["x.py"]}, {"id": "b", "files": []}]}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('$.ref == "refs/heads/main"', True),
        ('event.ref == "refs/heads/main"', True),
        ('$["ref"] == "refs/heads/main"', True),
        ("$.n == 3 && $.n > 2 && $.n + 1 == 4", True),
        ("$.big == 9007199254740993", True),
        ("$.f < 2.0", True),
        ("!$.deleted && $.nothing == null", True),
        ("has($.n) && !has($.missing)", True),
        ('$.ref.matches("^refs/heads/(main|release/.*)$")', True),
        ('$.commits.exists(c, c.files.exists(f, f.endsWith(".py")))', True),
        ("$.commits.all(c, size(c.files) > 0)", False),
        ('$.price == "$5"', True),
        ("$.price == '$' + '5'", True),
        ('$.price == """$5"""', True),
        ('$.price == r"$5" // $ in a comment', True),
    ],
)
def test_a_filter_sees_the_payload(text: str, wanted: bool) -> None:
    assert compile_filter(text).evaluate(EVENT) is wanted


@pytest.mark.parametrize(
    "text", ['headers["X-GitHub-Event"] == "push"', "headers['x-github-event'] == 'push'", 'headers["X-GITHUB-EVENT"] != "pull"']
)
def test_header_names_fold_case_on_both_sides(text: str) -> None:
    assert compile_filter(text).evaluate({}, {"X-Github-Event": "push"}) is True


def test_the_alias_is_made_on_tokens_and_never_inside_a_text() -> None:
    assert (
        aliased("""$.a == "$" && $.b == '$.c' && r"$" == r'$' // $""")
        == """event.a == "$" && event.b == '$.c' && r"$" == r'$' // $"""
    )


@pytest.mark.parametrize(
    ("text", "column"), [("$.a ==", 6), ("unknown == 1", 1), ("$.a == 1 && unknown", 13), ('$.a.matches("(")', 13)]
)
def test_a_mistake_is_told_with_its_place_in_what_the_user_wrote(text: str, column: int) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_filter(text)
    assert caught.value.column == column


@pytest.mark.parametrize("text", ["", "   ", "1 + 1", '"text"', "a" * 5_000, "(" * 500 + "true" + ")" * 500, "$ $", "\x00"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        compile_filter(text)


@pytest.mark.parametrize("text", ["$.missing == 1", '$.ref + 1 == "x"', "$.ref", "1 / 0 == 1", "$.n.x == 1"])
def test_a_filter_that_cannot_be_evaluated_says_why_and_is_never_true(text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_filter(text).evaluate(EVENT)
    assert caught.value.message


def test_evaluation_is_bounded_however_the_expression_nests() -> None:
    event = {"l": list(range(1_000))}
    start = time.perf_counter()
    with pytest.raises(ExpressionError):
        compile_filter("$.l.all(a, $.l.all(b, $.l.all(c, a + b + c >= 0)))").evaluate(event)
    assert time.perf_counter() - start < 1


def test_f14_a_hostile_pattern_is_linear_in_the_text() -> None:
    start = time.perf_counter()
    assert compile_filter('$.t.matches("^(a+)+$")').evaluate({"t": "a" * 10_000 + "!"}) is False
    assert compile_constraints({"t": "^(a+)+$"}).evaluate({"t": "a" * 10_000 + "!"}) is False
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("$.n", 3), ("$.ref", "refs/heads/main"), ("$.f", 1.5), ("$.nothing", None), ("$.commits[0].id", "a"), ("$.n > 2", True)],
)
def test_a_value_keeps_its_type(text: str, wanted: object) -> None:
    assert compile_value(text).evaluate(EVENT) == wanted


@pytest.mark.parametrize(
    ("patterns", "wanted"),
    [
        ({"ref": "heads/main"}, True),
        ({"ref": "^heads"}, False),
        ({"ref": "main$", "n": "^3$"}, True),
        ({"ref": "main$", "n": "^4$"}, False),
        ({"commits.0.id": "^a$"}, True),
        ({"$.commits.1.id": "^b$"}, True),
        ({"missing": "."}, False),
        ({"missing": "^$"}, True),
        ({"deleted": "false"}, True),
    ],
)
def test_constraints_search_in_the_value_of_a_key_or_path(patterns: dict[str, str], wanted: bool) -> None:
    assert compile_constraints(patterns).evaluate(EVENT) is wanted


SCOPE = {"inputs": {"V": 5, "S": "x", "L": [1], "N": None, "B": True}, "secrets": {"T": "s"}, "event": {"a": [{"b": 1}]}}


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("${{ inputs.V }}", 5),
        ("${{inputs.L}}", [1]),
        ("v${{ inputs.V }}-${{ inputs.S }}", "v5-x"),
        ("${{ inputs.B }}!", "true!"),
        ("x${{ inputs.N }}", "x"),
        ("${{ event.a.0.b }}", 1),
        ({"k": ["${{ secrets.T }}"]}, {"k": ["s"]}),
        ("$ {{ inputs.V }}", "$ {{ inputs.V }}"),
        (7, 7),
    ],
)
def test_f12_a_template_is_a_look_up_and_a_whole_one_keeps_its_type(value: Any, wanted: Any) -> None:
    assert resolve(value, SCOPE) == wanted


@pytest.mark.parametrize(
    "text", ["${{ inputs.__class__ }}", "${{ inputs.V.__class__ }}", "${{ event.a.9 }}", "${{ inputs.NO }}", "${{ event.a.-1 }}"]
)
def test_f12_a_path_that_is_not_there_is_an_error_and_never_an_attribute(text: str) -> None:
    with pytest.raises(TemplateError):
        resolve(text, SCOPE)


@pytest.mark.parametrize(
    "text", ["${{ 1 + 1 }}", "${{ inputs }}.x()", "${{ inputs.A | f }}", "${{ }}", "${{ config.x }}", "${{ inputs['A'] }}"]
)
def test_f12_what_is_no_dotted_path_is_refused_when_it_is_validated(text: str) -> None:
    with pytest.raises(TemplateError):
        list(references(text))


HOSTILE = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["${{ secrets.T }}", "a: b\n- c", '"}, {"x": 1', "__class__", "${{", "}}", "'; DROP", "{{7*7}}", "\n---\n"]),
)


@settings(max_examples=500, deadline=None)
@given(HOSTILE, st.booleans())
def test_f12_no_value_changes_what_stands_around_it_and_is_never_read_again(hostile: str, whole: bool) -> None:
    tree = {"a": "${{ event.x }}" if whole else "<${{ event.x }}>", "b": [1, {"c": "kept"}], "d": None}
    resolved = resolve(tree, {"event": {"x": hostile}, "secrets": {"T": "secret"}, "inputs": {}})
    assert resolved == {"a": hostile if whole else f"<{hostile}>", "b": [1, {"c": "kept"}], "d": None}


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60), st.one_of(st.none(), st.text(), st.integers(), st.dictionaries(st.text(max_size=5), st.integers())))
def test_no_expression_raises_anything_but_its_own_error(text: str, event: Any) -> None:
    with contextlib.suppress(ExpressionError):
        compile_value(text).evaluate(event)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("$.a", [2, "x", {"q": None, "e": [1.5, True]}]),
        ("{'all': $.a, 'n': size($.a)}", {"all": [2, "x", {"q": None, "e": [1.5, True]}], "n": 3}),
        ("{1: 'one'}", {"1": "one"}),
        ("timestamp('2026-01-02T03:04:05Z') + duration('1h')", "2026-01-02T04:04:05Z"),
        ("duration('90m')", "5400s"),
    ],
)
def test_a_value_is_json_whatever_is_within(text: str, wanted: object) -> None:
    value = compile_value(text).evaluate({"a": [2, "x", {"q": None, "e": [1.5, True]}]})
    assert orjson.loads(orjson.dumps(value)) == wanted


@pytest.mark.parametrize("text", ["b'abc'", "1.0 / 0.0", "type(1)", "[b'a']"])
def test_what_has_no_place_in_json_is_an_error(text: str) -> None:
    with pytest.raises(ExpressionError, match="is not JSON"):
        compile_value(text).evaluate({})
