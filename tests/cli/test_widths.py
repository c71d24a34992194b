"""Texts on a terminal: their width, where they are cut and wrapped, ages, tables, and the source lines of errors."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.cli import tables
from reconciler.cli.ages import Clock, span
from reconciler.cli.excerpts import excerpt, problem_lines
from reconciler.cli.progress import Bar
from reconciler.cli.widths import cut, pad, width_of, wrap
from reconciler.manifests import SourceFile, load
from reconciler.model.errors import Problem
from reconciler.model.printable import plain
from reconciler.model.resources import Location

texts = st.text(st.one_of(st.sampled_from("ab /@:-.é名前한́️👍"), st.characters()), max_size=80).map(plain)


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("", 0),
        ("abc", 3),
        ("é", 1),
        ("e\u0301", 1),
        ("名前", 4),
        ("ｱ", 1),
        ("Ａ", 2),
        ("👍", 2),
        ("❤", 1),
        ("❤\ufe0f", 2),
        ("\u1112\u1161\u11ab", 2),
    ],
)
def test_a_wide_character_takes_two_columns_and_a_mark_none(text: str, width: int) -> None:
    assert width_of(text) == width


@given(texts, st.integers(1, 60))
def test_a_cut_text_fits_and_a_short_one_stays(text: str, width: int) -> None:
    short = cut(text, width)
    assert width_of(short) <= max(width, 1)
    assert short == text if width_of(text) <= width else short.endswith("…")
    assert width_of(pad(short, width)) >= width


@given(texts, st.integers(2, 60))
def test_wrapped_lines_fit_and_no_word_that_fits_is_broken(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert all(width_of(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())
    whole = {word for line in lines for word in line.split()}
    assert all(word in whole for word in text.split() if width_of(word) <= width)


@given(texts, st.integers(2, 30), st.integers(1, 4))
def test_of_many_lines_the_last_one_says_that_there_are_more(text: str, width: int, lines: int) -> None:
    wrapped, every = wrap(text, width, lines=lines), wrap(text, width)
    assert len(wrapped) <= lines
    assert all(width_of(line) <= width for line in wrapped)
    assert wrapped == every if len(every) <= lines else wrapped[-1].endswith("…")


def test_a_word_longer_than_the_line_is_broken_after_punctuation() -> None:
    assert wrap("EventSource/a-very-long-name@some-canvas", 24) == ["EventSource/a-very-long-", "name@some-canvas"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59, "59s"),
        (60, "1m"),
        (90, "1m30s"),
        (150, "2m"),
        (3_600, "1h"),
        (5_400, "1h30m"),
        (86_400, "1d"),
        (90_000, "1d1h"),
        (864_000, "10d"),
    ],
)
def test_an_age_is_short(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_times_are_ages_or_utc_and_never_fail() -> None:
    clock = Clock(1_000_000_000.0)
    assert clock.age("2001-09-09T01:43:40Z") == "3m"
    assert clock.age("2001-09-09T01:50:00Z") == "in 3m"
    assert clock.ago("2001-09-09T01:43:40Z") == "3m ago"
    assert clock.ago("2001-09-09T01:50:00Z") == "in 3m"
    assert Clock(1_000_000_000.0, utc=True).ago("2001-09-09T01:43:40Z") == "2001-09-09T01:43:40Z"
    assert (clock.age(""), clock.age("soon"), clock.ago("")) == ("-", "soon", "-")


def shown(patch: pytest.MonkeyPatch, rows: list[list[str]], columns: int | None) -> list[str]:
    screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    patch.setattr(sys, "stdout", screen)
    patch.setattr(tables, "columns", lambda _="stdout": columns)
    tables.table(("NAME", "STATE", "WHY"), rows, none="none")
    return screen.buffer.getvalue().decode().rstrip("\n").split("\n")  # type: ignore[attr-defined]


@given(st.lists(st.lists(texts, min_size=3, max_size=3), min_size=1, max_size=4), st.integers(20, 120))
def test_a_table_is_never_wider_than_the_terminal(rows: list[list[str]], columns: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        lines = shown(patch, [[cell[:columns] for cell in row] for row in rows], columns)
    wide = [row for row in rows for cell in row[:2] if width_of(cell) > columns - 4]
    assert wide or max(map(width_of, lines)) <= columns


def test_a_table_wraps_its_last_column_and_moves_it_below_when_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["EventSource/payments", "processed", "the filter is not true, and nothing else asks for it"]]
    assert shown(monkeypatch, rows, 60) == [
        "NAME                  STATE      WHY",
        "EventSource/payments  processed  the filter is not true, and",
        "                                 nothing else asks for it",
    ]
    assert shown(monkeypatch, rows, 40) == [
        "NAME                  STATE",
        "    WHY",
        "EventSource/payments  processed",
        "    the filter is not true, and nothing",
        "    else asks for it",
    ]
    assert shown(monkeypatch, rows, None)[1:] == ["  ".join(rows[0])]


def test_a_field_moves_below_its_name_where_the_terminal_is_too_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    def printed(columns: int | None) -> list[str]:
        screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        monkeypatch.setattr(sys, "stdout", screen)
        monkeypatch.setattr(tables, "columns", lambda _="stdout": columns)
        tables.prefixed("credential Integration/github: ", "refused; ends in 3m")
        return screen.buffer.getvalue().decode().splitlines()  # type: ignore[attr-defined]

    assert printed(40) == ["credential Integration/github:", "    refused; ends in 3m"]
    assert printed(60) == printed(None) == ["credential Integration/github: refused; ends in 3m"]


def test_what_is_due_is_to_come_or_now() -> None:
    clock = Clock(1_000_000_000.0)
    assert (clock.due("2001-09-09T01:50:00Z"), clock.due("2001-09-09T01:43:40Z"), clock.due("")) == ("in 3m", "now", "-")


# -- source lines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "column", "source", "caret"),
    [
        ("  name: guthib, key: x", 9, "  name: guthib, key: x", "        ^^^^^^"),
        ("\tname: x", 2, "        name: x", "        ^^^^"),
        ("a: 名前 bad", 7, "a: 名前 bad", "        ^^^"),
        ("a: e\u0301 bad", 7, "a: e\u0301 bad", "     ^^^"),
        ("a: \x1b[31m", 4, "a: \\x1b[31m", "   ^^^^"),
        ("short", 40, "short", "     ^"),
        ("password: hunter2", 11, "password: ***", "          ^^^"),
        ("password: hunter2", 14, "password: ***", "          ^^^"),
        ('  token: "abc def", a: b', 20, "  token: ***, a: b", "         ^^^"),
        ("  - ghp_abcdefghijklmnopqrstuvwxyz0123456789", 5, "  - ***", "    ^^^"),
        ("    MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ==", 5, "    ***", "    ^^^"),
    ],
)
def test_the_source_line_has_a_caret_at_the_place_and_no_secret(text: str, column: int, source: str, caret: str) -> None:
    first, second = excerpt(text, 7, column, 80)
    assert first == f"     7 | {source}"
    assert second == f"       | {caret}"


@given(st.text(max_size=300), st.integers(1, 320), st.integers(50, 120))
def test_a_source_line_fits_whatever_it_holds_and_the_caret_stands_below_it(text: str, column: int, columns: int) -> None:
    lines = excerpt(text, 7, column, columns)
    assert all(width_of(line) <= columns for line in lines)
    assert all(plain(line) == line for line in lines)
    if lines:
        assert lines[1].endswith("^")
        assert width_of(lines[1]) <= width_of(lines[0]) + 1


def test_every_problem_of_a_file_shows_its_own_line_under_each_line_break_of_yaml() -> None:
    text = "kind: EventSource\r\nmetadata: {name: a}\nspec:\n  type: webhook\n  evnts: []\n"
    problems = load([SourceFile("a.yaml", "1", text.encode())], revision="r").problems
    assert [problem.text for problem in problems] == ["  evnts: []"]
    assert problem_lines(problems[0])[1:3] == ["     5 |   evnts: []", "       |   ^^^^^"]


def test_a_problem_without_a_known_line_shows_none() -> None:
    problem = Problem(Location("a.yaml"), "RC1001", "wrong", hint="Fix it.")
    assert problem_lines(problem) == ["a.yaml: error RC1001: wrong", "    Fix it."]


# -- progress -------------------------------------------------------------------------------------------------------------


def test_a_bar_counts_what_is_done_and_names_what_runs_longest() -> None:
    now = [0.0]
    bar = Bar("applying", 4, after="reading again", clock=lambda: now[0])
    bar.done = 1
    bar.running = {"a": "creating EventSource/one", "b": "creating EventSource/two"}
    now[0] = 75.0
    assert bar.line(100) == "applying [#####---------------] 1/4  1m15s  creating EventSource/one and 1 more"
    assert bar.line(50) == "applying [#####---------------] 1/4  1m15s"
    bar.done, bar.running = 4, {}
    assert bar.line(80) == "reading again… 1m15s"
    assert Bar("reading", clock=lambda: 0.0).line(80) == "reading… 0s"
