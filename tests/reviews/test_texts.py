"""Texts of reviews: bounded, and whatever they quote stays text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from msgspec.structs import replace

from reconciler.credentials.redact import Redactor
from reconciler.engine.offline import Comparison
from reconciler.model.errors import Problem, Severity
from reconciler.model.objects import Scope
from reconciler.model.plan import Action, Change, ChangeClass, Disposition, Plan, PlanSet
from reconciler.model.resources import Location, ResourceId
from reconciler.model.reviews import Conclusion, Grant, ReviewedBlock, ReviewState
from reconciler.model.values import Address
from reconciler.reviews import texts
from reconciler.reviews.verdict import Verdict, approve_button, button_id, verdict_of

GITHUB = ResourceId("Integration", "default", "github")
BLOCK = ReviewedBlock(GITHUB.path, "EventSource/default/web", "a", "delete")
STATE = ReviewState(
    "acme/web",
    number=7,
    head="a" * 40,
    base="main",
    conclusion="action_required",
    outcome="Plan: 1 blocked.",
    plan="the plan",
    digest="sha256:" + "1" * 64,
    blocked=(BLOCK,),
)


def change(name: str, action: Action = Action.DELETE, disposition: Disposition = Disposition.EXECUTE) -> Change:
    resource = ResourceId("EventSource", "default", name)
    scope = Scope("x/hook", f"acme/{name}")
    return Change(Address(f"{resource.path}#x"), action, ChangeClass.COMMIT, resource, GITHUB, scope, disposition=disposition)


def judged(*changes: Change, problems: tuple[Problem, ...] = (), owned: int = 10) -> Verdict:
    plan = PlanSet("main@sha1:1", (Plan(GITHUB, changes, owned),) if changes else ())
    return verdict_of(Comparison(plan, problems), {}, 1_700_000_000.0)


def test_errors_win_over_blocked_changes_and_become_annotations() -> None:
    problems = (
        Problem(Location("a.yaml", 3, 1), "RC1101", "wrong", hint="write it so"),
        Problem(Location("b.yaml"), "RC1102", "odd", severity=Severity.WARNING),
        Problem(Location(""), "RC1103", "nowhere"),
    )
    verdict = judged(change("web", disposition=Disposition.BLOCKED), problems=problems)
    assert verdict.conclusion is Conclusion.FAILURE
    assert [(note.path, note.line, note.is_error) for note in verdict.annotations] == [("a.yaml", 3, True), ("b.yaml", 1, False)]
    assert "write it so" in verdict.annotations[0].message


def test_the_digest_is_that_of_the_blocked_changes_alone() -> None:
    blocked = change("web", disposition=Disposition.BLOCKED)
    assert judged(blocked).digest == judged(blocked, change("other", Action.CREATE)).digest
    assert judged(blocked).digest != judged(blocked, change("next", disposition=Disposition.BLOCKED)).digest
    assert judged(change("web", Action.CREATE)).digest == ""


def test_resources_that_are_not_followed_are_counted() -> None:
    verdict = judged(*(change(f"s{at:04}", Action.CREATE) for at in range(620)))
    assert (len(verdict.resources), verdict.more_resources) == (500, 120)


def test_a_button_fits_the_limits_of_the_code_host() -> None:
    button = approve_button(STATE.digest)
    assert (len(button.label) <= 20, len(button.description) <= 40, len(button.identifier)) == (True, True, 20)
    assert button_id("sha256:" + "2" * 64) != button.identifier


def test_a_grant_turns_the_check_green_only_for_its_digest() -> None:
    assert texts.finished(STATE, "check", "team-a", "").conclusion is Conclusion.ACTION_REQUIRED
    granted = replace(STATE, grant=Grant("ada", STATE.digest, 0.0))
    report = texts.finished(granted, "check", "team-a", "")
    assert (report.conclusion, report.buttons) == (Conclusion.SUCCESS, ())
    stale = replace(STATE, grant=Grant("ada", "sha256:0", 0.0))
    assert texts.finished(stale, "check", "team-a", "").conclusion is Conclusion.ACTION_REQUIRED


@pytest.mark.parametrize("size", [10, 19_999, 20_001, 60_000, 64_000, 70_000])
def test_a_comment_is_folded_and_never_too_long(size: int) -> None:
    body = texts.comment(replace(STATE, plan="x" * size), "team-a", "context").body
    assert len(body) <= texts.MAX_COMMENT
    assert body.startswith(texts.comment_marker("team-a"))
    assert body.count("<details>") == body.count("</details>") == (1 if 20_000 < size <= 64_000 else 0)


def test_after_the_merge_the_worst_is_first_and_the_list_is_bounded() -> None:
    rows = [texts.OutcomeRow(f"EventSource/s{at:04}", "ready") for at in range(3000)]
    rows.append(texts.OutcomeRow("EventSource/zz", "stalled", "Refused: @all " + "x" * 999))
    merged = replace(STATE, closed="merged", merge_commit="b" * 40, merged_by="ada", plan="p" * 60_000, more_resources=12)
    body = texts.comment(merged, "team-a", "", rows).body
    assert "12 more resources are not followed here" in body
    assert len(body) <= texts.MAX_COMMENT
    assert "3000 ready, 1 stalled" in body
    assert body.index("stalled: `EventSource/zz`") < body.index("ready: `EventSource/s0000`")


@given(st.text(max_size=400))
def test_a_code_span_shows_any_text_as_code_and_nothing_else(text: str) -> None:
    (block,) = [token for token in MarkdownIt().parse(texts.code(text)) if token.type == "inline"]
    assert [child.type for child in block.children or ()] == ["code_inline"]


@given(st.text(alphabet="`ab @=:password token\n", max_size=120))
def test_redaction_never_opens_a_span(text: str) -> None:
    redactor = Redactor()
    redactor.add("a b @ token")
    body = f"before {texts.code(text)} after"
    tokens = [token for token in MarkdownIt().parse(texts.redacted(body, redactor.redact)) if token.type == "inline"]
    types = [child.type for token in tokens for child in token.children or ()]
    assert types == ["text", "code_inline", "text"]


def test_a_leaked_secret_is_masked() -> None:
    redactor = Redactor()
    redactor.add("correct-horse-battery")
    assert "horse" not in texts.redacted("`x correct-horse-battery y`", redactor.redact)
