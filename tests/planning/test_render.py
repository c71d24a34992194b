"""Renderings: golden files, exit codes, and no secret in any of them. ``UPDATE_GOLDEN=1`` writes the files anew."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path

import jsonschema
import pytest

from reconciler.manifests.schema import schema
from reconciler.model.errors import Problem, Severity
from reconciler.model.plan import Action, Manifests, PlanSet
from reconciler.model.resources import Adopt, Lifecycle, Location, Resource, Suspension
from reconciler.planning import render
from reconciler.planning.compare import base_plan

from .world import INTEGRATION, NOW, desired, foreign, moved, observed, plan, recorded

GOLDEN = Path(__file__).parent / "golden"
SARIF = json.loads((Path(__file__).parents[1] / "contracts" / "sarif.schema.json").read_text())
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


def page(planset: PlanSet, problems: tuple[Problem, ...] = (), *, approvable: bool = True) -> render.PlanDocument:
    return render.document(planset, problems, approvable=approvable)


def outputs(planset: PlanSet, problems: tuple[Problem, ...] = ()) -> dict[str, str]:
    """The plan in every format."""
    made = page(planset, problems)
    return {
        "text": render.text(made),
        "markdown": render.markdown(made),
        "json": render.json_text(made),
        "github": render.workflow_commands(made),
        "sarif": render.sarif(made, version="1.0"),
    }


def updated(before: object, after: object) -> PlanSet:
    d = desired(events=after)
    return PlanSet("r", (plan(d, have=(recorded(desired(events=before)),), see=(observed(d, events=before),)),))


@pytest.mark.parametrize("width", [80, 120])
def test_text_is_as_the_golden_file_and_as_wide_as_the_terminal(width):
    text = render.text(page(everything()), width=width)
    golden(f"plan{width}.txt", text)
    assert max(map(len, text.splitlines())) <= max(width, len("    reconciler approve sha256:") + 64)


def test_the_revision_is_first_the_summary_is_last_and_there_is_one_digest():
    made = everything()
    lines = render.text(page(made), width=120).splitlines()
    assert lines[0] == "Revision: main@sha1:01234567"
    assert lines[-2].startswith("Plan: ")
    assert lines[-1] == f"Digest: {made.sha256}"
    approval = made.plans[0].blocked_sha256
    for name in ("text", "markdown", "github"):
        assert set(re.findall(r"sha256:[0-9a-f]{64}", outputs(made)[name])) <= {made.sha256, approval}
    assert render.markdown(page(made)).rstrip().endswith(f"Digest `{made.sha256}`")


def test_text_with_colour_differs_in_colour_alone():
    coloured = render.text(page(everything()), colour=True)
    assert "\x1b[32m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == render.text(page(everything()))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_what_differs_in_two_long_values_is_never_what_is_cut(width):
    made = page(updated(["x" * 500 + "OLD" + "y" * 500], ["x" * 500 + "NEW" + "y" * 500]))
    for text in (render.text(made, width=width), render.markdown(made)):
        assert "OLD" in text
        assert "NEW" in text
        assert re.search(r"\(\+\d+\)", text)
    assert max(map(len, render.text(made, width=width).splitlines())) <= max(width, 80)


def test_a_long_value_is_wrapped_and_the_rest_counted_and_json_has_all_of_it():
    value = " ".join(f"word{i}" for i in range(400))
    made = page(PlanSet("r", (plan(desired(note=value)),)))
    text = render.text(made, width=80)
    assert "word0 word1" in text
    shown = sum(len(line) for line in text.splitlines() if "word" in line)
    cut = int(re.search(r"… \(\+(\d+)\)", text)[1])
    assert abs(shown - 4 * 10 + cut - len(value)) < 80
    assert json.loads(render.json_text(made))["plans"][0]["changes"][0]["desired"]["attributes"]["note"] == value


def test_json_cuts_a_huge_value_and_counts_what_was_cut():
    made = json.loads(render.json_text(page(PlanSet("r", (plan(desired(note="x" * 20_000)),)))))
    assert made["plans"][0]["changes"][0]["desired"]["attributes"]["note"] == "x" * 16_384 + "… (+3616)"


def test_markdown_is_as_the_golden_file():
    golden("plan.md", render.markdown(page(everything(), PROBLEMS)))


def test_json_is_as_the_golden_file_and_meets_its_schema():
    text = render.json_text(page(everything(), PROBLEMS))
    golden("plan.json", text)
    jsonschema.Draft202012Validator(schema("plan")).validate(json.loads(text))
    assert json.loads(text)["formatVersion"] == 1


def test_annotations_are_as_the_golden_file_and_one_a_line():
    text = render.workflow_commands(page(everything(), PROBLEMS))
    golden("annotations.txt", text)
    assert all(
        line.startswith(("::error ", "::warning ", "::notice ", "::group::", "::endgroup::", "- ")) for line in text.splitlines()
    )


def test_a_step_gets_ten_annotations_of_a_level_and_the_log_gets_the_rest():
    many = PlanSet("r", (plan(*(desired(f"s{i}") for i in range(30))),))
    lines = render.workflow_commands(page(many)).splitlines()
    assert sum(line.startswith("::notice ") for line in lines) == 10
    assert "::group::21 more" in lines
    assert sum(line.startswith("- notice: ") for line in lines) == 21
    assert "21 more are in the log" in lines[-1]


@pytest.mark.parametrize(
    "made",
    [
        lambda: render.sarif(page(everything(), PROBLEMS), version="1.0"),
        lambda: render.problems_as_sarif(PROBLEMS, version="1.0"),
    ],
)
def test_sarif_meets_the_schema_of_sarif(made):
    document = json.loads(made())
    jsonschema.Draft4Validator(SARIF).validate(document)
    run = document["runs"][0]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert all(rules[result["ruleIndex"]] == result["ruleId"] for result in run["results"])
    assert len({result["partialFingerprints"]["reconciler/v1"] for result in run["results"]}) == len(run["results"])


def test_sarif_is_as_the_golden_files_and_blocked_changes_are_warnings():
    golden("problems.sarif", render.problems_as_sarif(PROBLEMS, version="1.0"))
    text = render.sarif(page(everything(), PROBLEMS), version="1.0")
    golden("plan.sarif", text)
    results = json.loads(text)["runs"][0]["results"]
    levels = {(r["properties"]["disposition"], r["level"]) for r in results if r["ruleId"].startswith("change/")}
    assert levels == {("blocked", "warning"), ("execute", "note"), ("held", "note"), ("waiting", "note")}
    assert [r["ruleId"] for r in results[:2]] == ["RC1001", "RC3010"]


def test_a_delete_shows_what_is_lost_in_every_format():
    gone = desired("gone", events=["deployment_review"])
    made = PlanSet("r", (plan(have=(recorded(gone, "7"),), see=(observed(gone, "7"),)),))
    for name, text in outputs(made).items():
        assert "deployment_review" in text, name
    assert "what is lost:" in render.text(page(made))
    offline = base_plan((gone,), ())
    assert "deployment_review" in render.text(page(offline, approvable=False))
    assert "hmac:" not in render.json_text(page(made))


def test_what_a_provider_added_to_an_object_is_not_shown_as_lost():
    gone = desired("gone")
    made = PlanSet("r", (plan(have=(recorded(gone, "7"),), see=(observed(gone, "7", private="theirs"),)),))
    assert all("theirs" not in text for text in outputs(made).values())


def test_the_digest_of_a_removal_does_not_depend_on_what_is_shown_of_it():
    gone = desired("gone")
    digests = {plan(have=(recorded(gone, "7"),), see=(observed(gone, "7", active=active),)).sha256 for active in (True, False)}
    assert len(digests) == 1


def test_adoption_rename_replace_and_suspension_are_each_explained():
    adopted = desired("adopted", lifecycle=Lifecycle(adopt=Adopt.ALWAYS))
    renamed = moved(desired("renamed"), "before")
    paused = desired("paused", lifecycle=Lifecycle(suspend=Suspension("moving house", "2030-01-01T00:00:00Z")))
    replaced = dataclasses.replace(
        desired("replaced", kind="new", lifecycle=Lifecycle(replace_allowed=True)), immutable=("/kind",)
    )
    made = PlanSet(
        "r",
        (
            plan(
                adopted,
                renamed,
                paused,
                replaced,
                have=(recorded(desired("before"), "1"), recorded(desired("replaced", kind="old"), "3")),
                see=(
                    foreign(adopted, "2", link="https://x.example/adopt-me"),
                    observed(desired("before"), "1"),
                    observed(desired("replaced", kind="old"), "3"),
                ),
            ),
        ),
    )
    assert {c.action for c in made.changes} == {Action.ADOPT, Action.REMARK, Action.CREATE, Action.REPLACE}
    for name, text in outputs(made).items():
        assert "an object that is not ours becomes ours" in text, name
        assert "was EventSource/before in" in text, name
        assert "suspended until 2030-01-01T00:00:00Z: moving house" in text, name
        assert "deleted and created again, with a new id" in text, name


def test_an_offline_plan_shows_a_suspension_of_its_integration():
    made = base_plan((), (desired("a"),), suspended=frozenset({INTEGRATION}))
    assert "[held: Suspended]" in render.text(page(made, approvable=False))
    assert base_plan((desired("a"),), (), suspended=frozenset({INTEGRATION})).changes[0].reason == "Suspended"


def test_an_offline_plan_says_that_it_approves_nothing_and_offers_no_approval():
    offline = base_plan((desired("a", kind="x"),), (dataclasses.replace(desired("a", kind="y"), immutable=("/kind",)),))
    made = page(offline, approvable=False)
    for text in (render.text(made), render.markdown(made), render.workflow_commands(made)):
        assert "approves nothing" in text
        assert "reconciler approve" not in text
    assert json.loads(render.json_text(made))["plans"][0]["blocked"]["sha256"] is None


def test_no_fingerprint_and_no_write_only_value_is_in_any_rendering():
    for name, text in outputs(everything()).items():
        assert "hmac:" not in text, name
        assert "(secret)" in text, name
        assert "secret:hook/key" in text or name == "json", name


def test_a_remote_name_cannot_steer_a_terminal_or_leave_its_code_span():
    nasty = "x\x1b]0;owned\x07\u202e`</code>```"
    d = desired(events=["push"])
    made = page(PlanSet("r", (plan(d, have=(recorded(d, nasty),), see=(observed(d, nasty, events=[nasty]),)),)))
    for text in (render.text(made), render.markdown(made)):
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
    fences = re.findall(r"^(`{3,})", render.markdown(made), re.MULTILINE)
    assert fences
    assert all(len(fence) == 4 for fence in fences)


@pytest.mark.parametrize("letter", ["x", "ü", "😀"])
def test_a_comment_of_thousands_of_changes_stays_under_the_limit_and_counts_the_rest(letter):
    many = PlanSet("r", (plan(*(desired(f"s{i}", events=[letter * 50]) for i in range(3000))),))
    text = render.markdown(page(many))
    assert len(text.encode()) <= 65_000
    assert text.startswith("<!-- reconciler-plan -->\n")
    left = int(re.search(r"(\d+) more entries do not fit", text)[1])
    assert left + len(re.findall("create", text)) - 1 == 3000
    assert many.sha256 in text
    one = PlanSet("r", (plan(d := desired(), have=(recorded(d),), see=(observed(d, events=[letter * 100_000]),)),))
    assert len(render.markdown(page(one)).encode()) <= 65_000


@pytest.mark.parametrize("limit", [4_000, 8_000, 20_000, 65_000])
@pytest.mark.parametrize("count", [1, 20, 60, 400])
def test_a_comment_fits_every_limit_and_keeps_revision_blocked_changes_and_digest(limit, count):
    guarded = [recorded(desired(f"old{i}", lifecycle=Lifecycle(prevent_destroy=True)), f"9{i}") for i in range(3)]
    seen = tuple(observed(desired(f"old{i}"), f"9{i}") for i in range(3))
    many = PlanSet("main@sha1:1", (plan(*(desired(f"s{i}") for i in range(count)), have=tuple(guarded), see=seen),))
    text = render.markdown(page(many), limit=limit)
    assert len(text.encode()) <= limit
    assert text.count("PreventDestroy") >= 3
    assert f"reconciler approve {many.plans[0].blocked_sha256}" in text
    assert text.count("<details>") == text.count("</details>") == text.count("<summary>")
    assert len(re.findall(r"^```", text, re.MULTILINE)) % 2 == 0


def test_the_only_link_of_a_comment_is_the_given_one():
    text = render.markdown(page(everything()), details_url="https://reconciler.example/plans/a b)<x>")
    assert "[The whole plan](https://reconciler.example/plans/a%20b%29%3Cx%3E)" in text


def test_thousands_of_changes_are_counted_on_a_terminal_too():
    many = PlanSet("r", (plan(*(desired(f"s{i}") for i in range(2_100))),))
    assert "… and 100 more changes; `-o json` has all of them" in render.text(page(many))


def test_thousands_of_orphans_and_notes_are_counted_on_a_terminal_too():
    one = plan(desired(), see=tuple(observed(desired(f"old{i}"), f"9{i}") for i in range(150)))
    text = render.text(page(PlanSet("r", (dataclasses.replace(one, notes=("seen",) * 130),))))
    assert text.count("orphan of ours: ") == text.count("note: seen") == 100
    assert "… and 50 more orphans; `reconciler orphans` lists them" in text
    assert "… and 30 more notes" in text


def test_an_empty_plan_says_so():
    assert render.text(page(PlanSet("", ()))) == "Plan: nothing to do.\n"
    made = page(PlanSet("main@sha1:0123456789abcdef", ()))
    assert render.text(made) == "Revision: main@sha1:01234567\n\nPlan: nothing to do.\n"


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
    assert render.exit_code(PlanSet("r", (made,)), detailed=True) == expected
    assert render.exit_code(PlanSet("r", (made,)), detailed=False) == 0


def test_a_change_in_a_part_that_is_not_shown_is_said():
    for before, after in (("https://x.example/?token=1", "https://x.example/?token=2"), ("x" * 20_000 + "1", "x" * 20_000 + "2")):
        d = desired(note=after)
        made = page(PlanSet("r", (plan(d, have=(recorded(desired(note=before)),), see=(observed(d, note=before),)),)))
        for text in (render.text(made, width=120), render.markdown(made)):
            assert "/note" in text
            assert "differs in a part that is not shown" in text or "not shown" in text


def test_a_delete_of_an_unknown_resource_is_annotated_at_its_integration():
    gone = desired("gone")
    manifest = Resource(INTEGRATION, {"type": "x"}, Location("code.yaml", 6, 1))
    made = PlanSet(
        "r", (plan(have=(recorded(gone, "7"),), see=(observed(gone, "7"),)),), manifests=Manifests({}, {INTEGRATION: manifest})
    )
    assert "file=code.yaml,line=6" in render.workflow_commands(page(made))
    result = json.loads(render.sarif(page(made), version="1"))["runs"][0]["results"][0]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "code.yaml"
    assert "code.yaml" not in render.text(page(made))
