"""Renderings: golden files, exit codes, and no secret in any of them. ``UPDATE_GOLDEN=1`` writes the files anew."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path

import pytest

from reconciler.model.errors import Problem, Severity
from reconciler.model.plan import PlanSet
from reconciler.model.resources import Lifecycle, Location
from reconciler.planning.compare import base_plan
from reconciler.planning.render import exit_code, render_annotations, render_json, render_markdown, render_sarif, render_text

from .world import NOW, desired, foreign, moved, observed, plan, recorded

GOLDEN = Path(__file__).parent / "golden"
PROBLEMS = (
    Problem(
        Location("a b/hooks.yaml", 4, 9),
        "RC1001",
        "unknown key 'evnts': 100 %\nsecond line",
        "/spec/evnts",
        "Did you mean 'events'?",
    ),
    Problem(Location("x.yaml"), "RC3010", "odd, but allowed: yes", severity=Severity.WARNING),
)


def golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def everything() -> PlanSet:
    """One plan with every action, class and disposition that a user may see."""
    keep = [desired(f"keep{i}") for i in range(4)]
    drifted, secret, stuck = desired("drifted"), desired("rotated", secret="hmac:2"), desired("stuck")
    replaced = dataclasses.replace(desired("replaced", kind="new"), immutable=("/kind",))
    gone = [desired(f"gone{i}") for i in range(5)]
    young = desired("young")
    renamed = moved(desired("renamed"), "before")
    want = [
        *keep,
        drifted,
        secret,
        stuck,
        replaced,
        young,
        renamed,
        desired("fresh", events=["push", "`release`"]),
        desired("found"),
    ]
    have = [
        *(recorded(d, str(i)) for i, d in enumerate(keep)),
        recorded(drifted, "10"),
        recorded(desired("rotated"), "11"),
        recorded(desired("replaced", kind="old"), "13"),
        recorded(young, "14", seen=False, applied_at=NOW - 10),
        recorded(desired("before"), "15"),
        *(recorded(d, str(20 + i)) for i, d in enumerate(gone)),
    ]
    see = [
        *(observed(d, str(i)) for i, d in enumerate(keep)),
        observed(drifted, "10", active=False, events=["\x1b[31mred"]),
        observed(secret, "11"),
        foreign(stuck, "66", link="https://provider.example/66"),
        observed(desired("replaced", kind="old"), "13"),
        observed(desired("before"), "15"),
        *(observed(d, str(20 + i)) for i, d in enumerate(gone)),
        observed(desired("found"), "16"),
        observed(desired("orphan"), "17"),
        observed(keep[0], "99"),
    ]
    return PlanSet("main@sha1:0123456789abcdef", (plan(*want, have=tuple(have), see=tuple(see)),))


def test_text_is_as_the_golden_file():
    golden("plan.txt", render_text(everything()))


def test_text_with_colour_differs_in_colour_alone():
    coloured = render_text(everything(), colour=True)
    assert "\x1b[32m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == render_text(everything())


def test_text_cuts_values_to_the_width():
    wide = PlanSet("r", (plan(d := desired(events=["x" * 300]), have=(recorded(d),), see=(observed(d, events=["y"]),)),))
    assert max(map(len, render_text(wide, width=60).splitlines())) <= 100
    assert "…" in render_text(wide, width=60)


def test_markdown_is_as_the_golden_file():
    golden("plan.md", render_markdown(everything(), PROBLEMS))


def test_json_is_as_the_golden_file_and_parses():
    text = render_json(everything(), PROBLEMS)
    golden("plan.json", text)
    assert json.loads(text)["formatVersion"] == 1


def test_annotations_are_as_the_golden_file_and_one_a_line():
    text = render_annotations(everything(), PROBLEMS)
    golden("annotations.txt", text)
    assert all(line.startswith(("::error ", "::warning ", "::notice ")) for line in text.splitlines())


def test_sarif_is_as_the_golden_file():
    text = render_sarif(PROBLEMS, version="1.0")
    golden("problems.sarif", text)
    run = json.loads(text)["runs"][0]
    assert [run["tool"]["driver"]["rules"][r["ruleIndex"]]["id"] for r in run["results"]] == ["RC1001", "RC3010"]


def test_an_offline_plan_says_that_it_approves_nothing_and_offers_no_approval():
    offline = base_plan((desired("a", kind="x"),), (dataclasses.replace(desired("a", kind="y"), immutable=("/kind",)),))
    for text in (render_text(offline, approvable=False), render_markdown(offline, approvable=False)):
        assert "approves nothing" in text
        assert "reconciler approve" not in text
    assert json.loads(render_json(offline, approvable=False))["plans"][0]["blocked"]["sha256"] is None


def test_no_fingerprint_and_no_write_only_value_is_in_any_rendering():
    made = everything()
    for text in (render_text(made), render_markdown(made), render_json(made), render_annotations(made)):
        assert "hmac:" not in text
        assert "(secret)" in text


def test_a_remote_name_cannot_steer_a_terminal_or_leave_its_code_span():
    nasty = "x\x1b]0;owned\x07\u202e`</code>```"
    d = desired(events=["push"])
    made = PlanSet("r", (plan(d, have=(recorded(d, nasty),), see=(observed(d, nasty, events=[nasty]),)),))
    for text in (render_text(made), render_markdown(made)):
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
    fences = re.findall(r"^  (`{3,})", render_markdown(made), re.MULTILINE)
    assert fences
    assert all(len(fence) == 4 for fence in fences)


@pytest.mark.parametrize("letter", ["x", "ü", "😀"])
def test_a_comment_of_thousands_of_changes_stays_under_the_limit_and_counts_the_rest(letter):
    many = PlanSet("r", (plan(*(desired(f"s{i}", events=[letter * 50]) for i in range(3000))),))
    text = render_markdown(many)
    assert len(text.encode()) < 65_536
    assert text.startswith("<!-- reconciler-plan -->\n")
    assert re.search(r"\d+ more entries do not fit", text)
    assert many.sha256 in text
    one = PlanSet("r", (plan(d := desired(), have=(recorded(d),), see=(observed(d, events=[letter * 100_000]),)),))
    assert len(render_markdown(one).encode()) < 65_536


def test_an_empty_plan_says_so():
    assert render_text(PlanSet("", ())) == "Plan: nothing to do.\n"
    assert render_text(PlanSet("main@sha1:0123456789abcdef", ())) == "Revision: main@sha1:01234567\n\nPlan: nothing to do.\n"


@pytest.mark.parametrize(("changes", "expected"), [("none", 0), ("commit", 2), ("drift", 3), ("both", 2), ("blocked", 4)])
def test_detailed_exit_codes_are_those_of_the_interface(changes, expected):
    same, fresh = desired("same"), desired("fresh")
    drift = observed(same, active=False)
    guarded = recorded(desired("old", lifecycle=Lifecycle(prevent_destroy=True)), "2")
    made = {
        "none": lambda: plan(same, have=(recorded(same),), see=(observed(same),)),
        "commit": lambda: plan(fresh),
        "drift": lambda: plan(same, have=(recorded(same),), see=(drift,)),
        "both": lambda: plan(same, fresh, have=(recorded(same),), see=(drift,)),
        "blocked": lambda: plan(fresh, have=(guarded,), see=(observed(desired("old"), "2"),)),
    }[changes]()
    assert exit_code(PlanSet("r", (made,)), detailed=True) == expected
    assert exit_code(PlanSet("r", (made,)), detailed=False) == 0
