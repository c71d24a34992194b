"""What a provider says never changes the structure of what is written: Markdown, annotations, SARIF, terminal."""

from __future__ import annotations

import dataclasses
import json
import re

from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.errors import Problem
from reconciler.model.plan import PlanSet
from reconciler.model.resources import Location
from reconciler.planning import render

from .world import desired, foreign, observed, plan, recorded

HOSTILE = (
    "`", "``", "```", "\n```\n", "~~~", "|", "\n", "\r", "\r\n", "\n\n", "@acme/admins", "#1", "![x](https://evil.example/x.png)",
    "[x](https://evil.example)", "<img src=x onerror=alert(1)>", "<!--", "-->", "</details>", "https://evil.example", "**", "_", "# x",
    "\n- x", "&lt;", "\\", "::error::x", "\n::stop-commands::x", "%0A::error::", "%", ",", ":", "\x1b[31m", "\x1b]0;x\x07", "\u202e",
    "\u200b", "\u2028", "\x85", "\x00", " ", "\t", "{0}", "]", "](",
)  # fmt: skip
texts = st.lists(
    st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"]), max_size=4)), min_size=1, max_size=8
)
texts = texts.map("".join).filter(bool)  # type: ignore[assignment]


def made(text: str) -> tuple[PlanSet, tuple[Problem, ...]]:
    """A plan whose foreign parts all say ``text``, and a problem that quotes it."""
    drifted, stuck, fresh = desired("drifted"), desired("stuck"), desired("fresh", note=text)
    one = plan(
        drifted,
        stuck,
        fresh,
        have=[recorded(drifted, "10")],
        see=[observed(drifted, "10", events=["push", text]), foreign(stuck, text, link=text)],
    )
    changed = tuple(dataclasses.replace(change, message=text) for change in one.changes)
    problem = Problem(Location(f"dir/{text}.yaml", 3, 4), "RC1101", f"unknown key {text}", f"/spec/{text}", f"hint {text}")
    return PlanSet("git@1", (dataclasses.replace(one, changes=changed, notes=(text,)),)), (problem,)


def without_code(markdown: str) -> str:
    """Return what Markdown would read as more than text: all but fenced blocks and code spans."""
    lines: list[str] = []
    fence = ""
    for line in markdown.split("\n"):
        ticks = re.match(r" {0,3}(`{3,})", line)
        if fence:
            fence = "" if re.fullmatch(rf" {{0,3}}`{{{len(fence)},}} *", line) else fence
            continue
        if ticks:
            fence = ticks.group(1)
            continue
        if line.startswith("<details>"):  # HTML up to the next empty line: no Markdown in it
            lines.append(re.sub(r"<code>[^<>]*</code>", "CODE", line))
            continue
        lines.append(re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "CODE", line))
    assert not fence, "a block was left open"
    return "\n".join(lines)


@given(texts)
def test_n12_markdown_has_the_same_structure_whatever_a_provider_says(text: str) -> None:
    planset, problems = made(text)
    harmless, none = made("text")
    shown, expected = (
        re.sub(r"sha256:\w+", "", without_code(render.markdown(render.document(*one))))
        for one in ((planset, problems), (harmless, none))
    )
    assert shown == expected


@given(texts)
def test_n12_annotations_are_one_command_a_line_and_none_of_them_a_provider_s(text: str) -> None:
    shown, expected = (render.workflow_commands(render.document(*made(one))) for one in (text, "text"))
    assert len(re.split(r"[\n\r]", shown)) == len(expected.split("\n"))
    for line, plain in zip(shown.split("\n"), expected.split("\n"), strict=True):
        assert line.isprintable()
        found, wanted = (re.match(r"::(\w+) ([^:]*)::", one) for one in (line, plain))
        assert (found is None) == (wanted is None)
        if found is not None and wanted is not None:
            assert found.group(1) == wanted.group(1)
            assert [one.partition("=")[0] for one in found.group(2).split(",")] == [
                one.partition("=")[0] for one in wanted.group(2).split(",")
            ]


@given(texts)
def test_n12_sarif_has_no_link_and_nothing_hidden_in_a_message(text: str) -> None:
    _, problems = made(text)
    result = json.loads(render.problems_as_sarif(problems, version="1"))["runs"][0]["results"]
    assert len(result) == 1
    message = result[0]["message"]["text"]
    assert "](" not in message
    assert all(line.isprintable() for line in message.split("\n"))
    assert re.fullmatch(r"[!-~]+", result[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])


@given(texts)
def test_n12_a_plan_on_a_terminal_has_lines_of_ours_only(text: str) -> None:
    planset, _ = made(text)
    shown = render.text(render.document(planset), width=100)
    assert all(line.isprintable() for line in shown.split("\n")), ascii(shown)
    assert not any(line.startswith(("::", "Plan: 9")) for line in shown.split("\n"))
    assert json.loads(render.json_text(render.document(planset)))["plans"]
