"""Values are cut so that a person still sees what matters, and how much is not shown."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.planning.render.values import bounded, excerpts, said, shown, value_text, value_texts, wrapped

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=300)


@given(words, st.integers(16, 400))
def test_a_bounded_text_fits_and_counts_exactly_what_was_cut(text, limit):
    cut = bounded(text, limit)
    assert len(cut) <= max(limit, 16)
    if cut != text:
        head, _, count = cut.rpartition("… (+")
        assert text.startswith(head)
        assert len(head) + int(count.removesuffix(")")) == len(text)


@given(words, words, words, words, st.integers(20, 120))
def test_two_different_values_never_look_the_same(start, first, second, end, width):
    before, after = start * 3 + first + end, start * 3 + second + end
    old, new = excerpts(before, after, width)
    assert len(old) <= width
    assert len(new) <= width
    assert (old == new) == (before == after)


@given(words, st.integers(12, 120), st.integers(1, 6))
def test_wrapped_lines_fit_and_lose_nothing_but_spaces_unless_they_say_so(text, width, most):
    lines = wrapped(text, width, most)
    assert 1 <= len(lines) <= most
    assert all(len(line) <= width for line in lines)
    if "… (+" not in lines[-1]:
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_a_value_has_one_line_and_no_token_of_a_url():
    assert (
        value_text({"b": "x\ny", "a": "https://user:pass@h.example/p?token=t"}) == '{"a": "https://h.example/p?…", "b": "x\\ny"}'
    )
    assert said("see https://h.example/?key=1 now") == "see https://h.example/?… now"
    assert shown("##[add-mask]x\x1b[31m") == "#\\x23[add-mask]x\\x1b[31m"


def test_of_a_long_list_only_what_differs_is_shown():
    names = [f"r{number}" for number in range(40)]
    assert value_texts(names, [*names, "new"]) == ("[40 unchanged]", '[40 unchanged, "new"]')
    assert value_texts(names, names[1:]) == ('[39 unchanged, "r0"]', "[39 unchanged]")
    assert value_texts(names[:3], names[:2]) == ('["r0", "r1", "r2"]', '["r0", "r1"]')
    turned = names[::-1]
    assert value_texts(names, turned) == (value_text(names), value_text(turned))
    assert value_texts(names, "40 unchanged") == (value_text(names), '"40 unchanged"')


@given(st.lists(st.sampled_from("abcdefghijkl"), max_size=14), st.lists(st.sampled_from("abcdefghijkl"), max_size=14))
def test_two_different_lists_never_look_the_same(before, after):
    old, new = value_texts(before, after)
    assert (old == new) == (before == after)
