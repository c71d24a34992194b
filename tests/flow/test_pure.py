"""The decisions of the second flow, without anything around them: who gets an event, what becomes of a queue, what is told."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import convert

from reconciler.events.filters import check_filters, check_source
from reconciler.events.routing import RoutingJob, Wiring, route, wire
from reconciler.manifests import SourceFile, load
from reconciler.manifests.kinds import EventSourceSpec, EventSpec, StageSpec
from reconciler.manifests.templates import resolve
from reconciler.model.events import Event, EventState, Origin
from reconciler.model.executions import (
    EndReason,
    Execution,
    ExecutionState,
    Item,
    ItemState,
    ReportKind,
    Result,
    Vote,
    outputs_of,
)
from reconciler.model.resources import Resource, ResourceId
from reconciler.stages import statuses
from reconciler.stages.admission import Settings, decide, execution_id, settings_of
from reconciler.stages.inputs import SAFE_TEXT, InputError, build_inputs, check_text, frozen_event
from reconciler.stages.items import item_id
from reconciler.stages.provenance import origin_of
from tests.support.counting import calls_of

ROOT = Path(__file__).parents[2]
NOW = 1_700_000_000.0
PUSH = {"ref": "refs/heads/main", "after": "a" * 40, "repository": {"full_name": "acme/web"}}


def loaded(text: str) -> dict[ResourceId, Resource]:
    found = load([SourceFile("x.yaml", "b", text.encode())], revision="r1")
    assert not found.problems, found.problems
    return {one.id: one for one in found.resources}


def stage_id(name: str) -> ResourceId:
    return ResourceId("Stage", "default", name)


def source_id(name: str) -> ResourceId:
    return ResourceId("EventSource", "default", name)


def event(source: str | ResourceId = "hand", kind: str = "manual", **more: Any) -> Event:
    return Event(
        "e1", source_id(source) if isinstance(source, str) else source, "d1", kind, Origin.MANUAL, EventState.PENDING, NOW, **more
    )


def routed(
    wiring: Wiring,
    payload: Any,
    *,
    kind: str = "manual",
    source: str | ResourceId = "hand",
    last: Any = None,
    through: Sequence[str] = (),
    **more: Any,
) -> Any:
    found = event(source, kind, **more)
    body = orjson.dumps(payload)
    return route(RoutingJob(found, body, through=tuple(through)), wiring, last=last or (lambda *_: None), now=NOW)


def stage_spec(spec: Mapping[str, Any]) -> StageSpec:
    """A typed spec; what a test does not name is of no importance to it."""
    return convert({"connections": [], "executor": {"type": "noop"}, **spec}, StageSpec)


MANUAL = "kind: EventSource\nmetadata: {name: hand}\nspec: {type: manual}\n---\n"


# fan-out


def test_an_event_goes_to_everyone_who_is_connected_and_says_why_to_whom_it_does_not() -> None:
    resources = loaded(
        MANUAL
        + """
kind: Stage
metadata: {name: every}
spec: {connections: [{type: event-source, name: hand}], executor: {type: noop}}
---
kind: Stage
metadata: {name: main-only}
spec:
  connections: [{type: event-source, name: hand, filters: [{type: data, data: {expression: '$.ref == "main"'}}]}]
  executor: {type: noop}
---
kind: Stage
metadata: {name: wants-more}
spec: {connections: [{type: event-source, name: hand}], executor: {type: noop, name: '${{ event.not.there }}'}}
---
kind: ConnectionGroup
metadata: {name: group}
spec:
  connections: [{type: event-source, name: hand}]
  groupBy: {fields: [{name: ref, expression: $.ref}]}
---
kind: Stage
metadata: {name: after}
spec: {connections: [{type: stage, name: every}], executor: {type: noop}}
"""
    )
    wiring = wire("r1", resources)
    found = routed(wiring, {"ref": "other"})
    assert [one.stage.name for one in found.items] == ["every"]
    assert [(one.group.name, one.fields) for one in found.joins] == [("group", {"ref": "other"})]
    assert {one.target.name: one.reason for one in found.rejections} == {"main-only": "filtered", "wants-more": "error"}
    assert routed(wiring, {"ref": "other"}) == found  # the same again: the same ids
    assert {one.stage.name for one in routed(wiring, {"ref": "main"}).items} == {"every", "main-only"}
    odd = routed(wiring, [])
    assert odd.state is EventState.PROCESSED
    assert [one.stage.name for one in odd.items] == ["every"]
    assert {one.reason for one in odd.rejections} == {"error"}
    for kind in ("ping", "meta"):
        assert (routed(wiring, {}, kind=kind).items, routed(wiring, {}, kind=kind).reason) == ((), kind)
    broken = route(RoutingJob(event(), b"{"), wiring, last=lambda *_: None, now=NOW)
    assert (broken.state, broken.reason) == (EventState.REJECTED, "malformed")
    alone = routed(wire("r1", {}), {})
    assert (alone.state, alone.items, alone.rejections) == (EventState.PROCESSED, (), ())


def test_an_item_pins_the_stage_that_was_live_and_its_id_is_of_stage_and_event() -> None:
    text = (
        MANUAL
        + "kind: Stage\nmetadata: {name: s}\nspec: {connections: [{type: event-source, name: hand}], executor: {type: noop%s}}"
    )
    one, two = (routed(wire("r", loaded(text % more)), {}) for more in ("", ", name: b"))
    assert one.items[0].id == two.items[0].id == item_id(stage_id("s"), "e1")
    assert one.items[0].spec_digest != two.items[0].spec_digest
    assert set(one.pins) == {one.items[0].spec_digest}
    assert item_id(stage_id("s"), "e1", 1) != one.items[0].id


# filters


@pytest.mark.parametrize(
    ("filters", "operator", "reason"),
    [
        ([], "and", ""),
        (['$.ref == "refs/heads/main"'], "and", ""),
        (['$.ref == "x"'], "and", "filtered"),
        (['$.ref == "x"', '$.after != ""'], "and", "filtered"),
        (['$.ref == "x"', '$.after != ""'], "or", ""),
        (["$.nothing == 1"], "and", "error"),
        (["$.nothing == 1", '$.after != ""'], "or", ""),
        (["$.nothing == 1", '$.ref == "x"'], "or", "error"),
        (['headers["x-a"] == "1"'], "and", ""),
        (["has($.nothing)"], "and", "filtered"),
    ],
)
def test_filters_are_joined_as_they_say_and_what_cannot_be_told_is_an_error(
    filters: list[str], operator: str, reason: str
) -> None:
    declared = {"filters": [{"type": "data", "data": {"expression": each}} for each in filters], "filterOperator": operator}
    assert check_filters(convert({"type": "push", **declared}, EventSpec), PUSH, {"x-a": "1"}).reason == reason


@pytest.mark.parametrize(
    ("events", "types", "passes"),
    [
        ([], ("push",), True),
        ([{"type": "push"}], ("push",), True),
        ([{"type": "PUSH"}], ("push",), True),
        ([{"type": "release"}], ("push",), False),
        ([{"type": "EXECUTION_FAILED"}], ("EXECUTION_FINISHED", "EXECUTION_FAILED"), True),
        (
            [{"type": "push", "filters": [{"type": "payload", "payload": {"ref": "^refs/tags/"}}]}, {"type": "push"}],
            ("push",),
            True,
        ),
        ([{"type": "push", "filters": [{"type": "payload", "payload": {"ref": "^refs/tags/"}}]}], ("push",), False),
    ],
)
def test_a_source_lets_through_what_it_asked_for(events: list[dict[str, Any]], types: tuple[str, ...], passes: bool) -> None:
    assert check_source(convert({"events": events}, EventSourceSpec), types, PUSH, {}).passes is passes


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_e10_no_payload_makes_a_filter_or_an_origin_raise(payload: Any) -> None:
    filters = [{"type": "data", "data": {"expression": "$.a.b == 1"}}, {"type": "payload", "payload": {"a.b": "x"}}]
    for operator in ("and", "or"):
        check_filters(convert({"type": "push", "filters": filters, "filterOperator": operator}, EventSpec), payload, {})
    for kind in (
        "push",
        "deployment",
        "workflow_run",
        "pipeline_done",
        "execution_finished",
        "field_set_completed",
        "release",
        "?",
    ):
        origin_of("x", kind, payload)
        origin_of("x", kind, {kind: payload, "repository": payload, "origin": payload, "events": payload, "revision": payload})


# inputs and templates

SPEC: dict[str, Any] = {
    "inputs": [{"name": "title"}],
    "inputMappings": [
        {"values": [{"name": "title", "valueFrom": {"eventData": {"connection": "hand", "expression": "$.title"}}}]}
    ],
    "executor": {"type": "github", "spec": {"inputs": {"title": "${{ inputs.title }}", "beside": "kept"}}},
}
OPEN = {**SPEC, "inputs": [{"name": "title", "pattern": "(?s).*"}]}
NUL = "\0"
NASTY = st.text(st.characters(exclude_characters=NUL, exclude_categories=["Cs"]), max_size=60) | st.sampled_from(
    ["${{ secrets.X }}", "${{ inputs.title }}", "${{event.x}}", "}} ${{", "'; \"", "a: b\n- c", "__class__", "{{7*7}}", "$(id)"]
)


@settings(max_examples=1000, deadline=None)
@given(st.lists(NASTY, max_size=4).map("".join))
def test_f12_a_value_is_never_read_as_a_template_and_changes_nothing_beside_it(text: str) -> None:
    inputs = build_inputs(stage_spec(OPEN), "hand", {"title": text}, lambda _: None)
    assert inputs == {"title": text}
    scope = {"inputs": inputs, "event": {}, "secrets": {"X": "canary"}}
    assert resolve(OPEN["executor"]["spec"], scope) == {"inputs": {"title": text, "beside": "kept"}}
    assert resolve("a ${{ inputs.title }} b", scope) == f"a {text} b"
    spec = stage_spec({"executor": {"type": "noop", "name": "${{ event.title }}"}})
    assert frozen_event(spec, {"title": text, "other": "left out"}) == {"title": text}


@settings(max_examples=500, deadline=None)
@given(NASTY)
def test_f13_what_gets_into_a_run_has_no_character_that_a_shell_takes_for_its_own(text: str) -> None:
    try:
        build_inputs(stage_spec(SPEC), "hand", {"title": text}, lambda _: None)
    except InputError:
        return
    assert not set(text) & set("'\"`$\\;|&<>(){}*?!\n\r\t\0")


SHELL_TEXT = st.lists(
    st.sampled_from([
        "x", "a", "b1", "_", " ", "  ", "-", "--", "#", "~", "root", "~root", "+", "^", "=", "=ls", "[a-z]", "[", "]", "{a,b}", "!", "!!", "*", "?", "%", "@",
        ",", ".", "..", "/", ":", "FOO=", "--env=prod", "é", "\t", "\n", "\\", "$HOME", "`id`", "%1", "PATH=/x:~", ";", "&", "|", ">x",
    ]), max_size=6).map("".join)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(SHELL_TEXT)
@example("x # y")
@example("--env=prod")
@example("x --force")
@example("~root")
@example("a=~root")
@example("[a-z]")
@example("{a,b}")
@example(" x")
@example("x ")
@example("a~1 b^2 c#3 d-e f=g")
def test_n37_text_that_is_let_through_is_what_a_shell_makes_of_it(text: str) -> None:
    try:
        check_text("x", text)
    except InputError:
        return
    assert text == text.strip()
    for shell in ("bash", "sh"):
        done = subprocess.run([shell, "-c", f"printf '%s\\n' word {text}"], capture_output=True, text=True, cwd="/", check=True)
        assert done.stdout.splitlines() == ["word", *text.split()]
    assert not any(word.startswith("-") for word in text.split())


@pytest.mark.parametrize(
    "text",
    ["x # y", "--env=prod", "x --force", "~root", "[a-z]", "-x", "!x", "{a,b}", "*", "a?", "a\nb", " x", "x ", "=ls", "a=~root"],
)
def test_n37_what_a_shell_would_read_is_refused_and_a_pattern_lets_it_in(text: str) -> None:
    with pytest.raises(InputError, match="takes for its own") as refused:
        check_text("x", text)
    assert "pattern" in refused.value.hint
    check_text("x", text, "(?s).*")


def test_n37_the_page_names_every_character_that_is_let_through() -> None:
    page = (ROOT / "docs" / "stages.md").read_text()
    table = page[page.index("| anywhere |") : page.index("All other characters are rejected")]
    named = set("".join(re.findall("`([^`]+)`", table))) - {" "}
    taken = {one for one in map(chr, range(33, 127)) if not one.isalnum() and SAFE_TEXT.fullmatch(f"a{one}")}
    assert taken == named


@pytest.mark.parametrize(
    ("value", "pattern", "taken"),
    [
        ("refs/heads/main", None, True),
        ("v1.2.3+build-4", None, True),
        (7, None, True),
        ("$(id)", None, False),
        ({"deep": [{"er": "`id`"}]}, None, False),
        ({"$(id)": 1}, None, False),
        ("a" * 1025, None, False),
        ("a" * 1025, "a+", True),
        ("$(id)", r"\$\(id\)", True),
        ("v1", "v[0-9]", True),
        ("v1\nrm", "v[0-9]", False),  # the whole of it has to match
        ("xv1", "v[0-9]", False),
    ],
)
def test_f13_the_pattern_of_an_input_decides_over_all_of_it(value: Any, pattern: str | None, taken: bool) -> None:
    if taken:
        check_text("x", value, pattern)
        return
    with pytest.raises(InputError) as refused:
        check_text("x", value, pattern)
    assert "pattern" in refused.value.hint


def test_f13_an_input_may_have_a_pattern() -> None:
    loaded(
        MANUAL + "kind: Stage\nmetadata: {name: s}\nspec:\n  connections: [{type: event-source, name: hand}]\n"
        "  inputs: [{name: title, pattern: 'v[0-9]+'}]\n  inputMappings: [{values: [{name: title, value: '${{ event.title }}'}]}]\n"
        "  executor: {type: noop}"
    )


def test_f12_a_filter_looks_at_all_of_a_text() -> None:
    """The CEL library ends every text at its first NUL."""
    found = loaded(
        MANUAL + "kind: Stage\nmetadata: {name: s}\nspec:\n  connections:\n  - {type: event-source, name: hand, filters: "
        "[{type: data, data: {expression: '$.a[0].ref == \"main\"'}}]}\n  executor: {type: noop}"
    )
    wiring = wire("r1", found)
    assert routed(wiring, {"a": [{"ref": "main"}]}).items
    hidden = routed(wiring, {"a": [{"ref": f"main{NUL}evil"}]})
    assert [one.reason for one in hidden.rejections] == ["filtered"]
    assert not hidden.items


def test_inputs_come_from_constants_events_and_the_last_execution_by_connection() -> None:
    declared = {
        "inputs": [{"name": "a"}, {"name": "b"}],
        "executor": {"type": "noop"},
        "inputMappings": [
            {
                "when": {"triggeredBy": {"connection": "one"}},
                "values": [
                    {"name": "a", "value": 1},
                    {"name": "b", "valueFrom": {"eventData": {"connection": "one", "expression": "$.x.y"}}},
                ],
            },
            {
                "values": [
                    {"name": "a", "valueFrom": {"lastExecution": {"results": ["passed"]}}},
                    {"name": "b", "value": "${{ event.x.y }}!"},
                ]
            },
        ],
    }
    spec = stage_spec(declared)
    assert build_inputs(spec, "one", {"x": {"y": [2]}}, lambda _: None) == {"a": 1, "b": [2]}
    assert build_inputs(spec, "two", {"x": {"y": 2}}, lambda _: {"a": "before"}) == {"a": "before", "b": "2!"}
    assert build_inputs(spec, "two", {"x": {"y": 2}}, lambda _: None)["a"] == ""
    with pytest.raises(InputError, match="input 'b'"):
        build_inputs(spec, "one", {}, lambda _: None)
    jobs = stage_spec({**declared, "executor": {"type": "github"}})  # once it sent requests, where such a text is harmless
    with pytest.raises(InputError, match="input 'a'"):
        build_inputs(jobs, "two", {"x": {"y": 2}}, lambda _: {"a": "$(id)"})


# admission


def item(number: int, **more: Any) -> Item:
    known = {"created_at": NOW + number, "revision": "r", "spec_digest": "pin"}
    return Item(f"itm-{number}", stage_id("s"), f"e{number}", "hand", ItemState.QUEUED, **(known | more))


def pinned(conditions: str = "[]") -> dict[str, Resource]:
    text = (
        "kind: Stage\nmetadata: {name: s}\nspec:\n  connections: [{type: event-source, name: hand}]\n"
        f"  executor: {{type: noop}}\n  conditions: {conditions}"
    )
    return {"pin": loaded(MANUAL + text)[stage_id("s")]}


APPROVAL = "[{type: approval, approval: {count: 2, approvers: [ada, ben, cy]}}]"


@pytest.mark.parametrize(
    ("count", "running", "given_", "started", "discarded", "reasons"),
    [
        (3, 0, Settings(), [0], {}, {1: "concurrency", 2: "concurrency"}),
        (3, 1, Settings(), [], {}, {0: "concurrency", 1: "concurrency", 2: "concurrency"}),
        (3, 0, Settings(concurrency=2), [0, 1], {}, {2: "concurrency"}),
        (3, 0, Settings(latest=True), [2], {0: "superseded", 1: "superseded"}, {}),
        (3, 1, Settings(latest=True), [], {0: "superseded", 1: "superseded"}, {2: "concurrency"}),
        (2, 0, Settings(suspended="why"), [], {}, {0: "suspended", 1: "suspended"}),
        (2, 0, Settings(latest=True, suspended="why"), [], {0: "superseded"}, {1: "suspended"}),
        (2, 0, Settings(refused="why"), [], {}, {0: "credential", 1: "credential"}),
        (1, 0, Settings(refused="why", suspended="why"), [], {}, {0: "suspended"}),
        (2, 0, Settings(gone=True), [], {0: "removed", 1: "removed"}, {}),
        (0, 0, Settings(), [], {}, {}),
    ],
)
def test_a_queue_is_admitted_as_the_live_settings_say(
    count: int, running: int, given_: Settings, started: list[int], discarded: dict[int, str], reasons: dict[int, str]
) -> None:
    found = decide([item(n) for n in range(count)], running, {}, settings=given_, snapshots=pinned(), now=NOW)
    assert [one.item_id for one in found.start] == [f"itm-{n}" for n in started]
    assert {key: why[0] for key, why in found.discard.items()} == {f"itm-{n}": why for n, why in discarded.items()}
    assert {key: why[0] for key, why in found.waiting.items()} == {f"itm-{n}": why for n, why in reasons.items()}
    assert all(why[1] for why in found.waiting.values())


@pytest.mark.parametrize(
    ("voters", "message"),
    [
        ([], "0 of 2 approvals of ada, ben, cy"),
        (["ada"], "1 of 2 approvals of ada, ben, cy (by ada)"),
        (["ada", "mallory"], "1 of 2 approvals of ada, ben, cy (by ada)"),
        (["ada", "cy"], ""),
    ],
)
def test_only_votes_that_count_let_an_item_run(voters: list[str], message: str) -> None:
    votes = {"itm-0": [Vote("itm-0", by, NOW) for by in voters]}
    found = decide([item(0)], 0, votes, settings=Settings(), snapshots=pinned(APPROVAL), now=NOW)
    assert [why[1] for why in found.waiting.values()] == ([message] if message else [])
    assert len(found.start) == (not message)


def test_what_waits_for_another_try_or_is_not_known_yet_does_not_run_and_keeps_nobody_else_waiting() -> None:
    items = [item(0, not_before=NOW + 60, attempt=2, failure="red"), item(1, spec_digest="unknown"), item(2)]
    found = decide(items, 0, {}, settings=Settings(), snapshots=pinned(), now=NOW)
    assert [one.item_id for one in found.start] == ["itm-2"]
    assert found.waiting["itm-0"][0] == "retry"
    assert "red" in found.waiting["itm-0"][1]
    assert found.waiting["itm-1"][0] == "queued"


def test_each_try_has_an_id_of_its_own_that_fits_into_a_run() -> None:
    ids = {execution_id(item(n, attempt=attempt)) for n in range(20) for attempt in range(1, 4)}
    assert len(ids) == 60
    assert all(len(one) == 32 and set(one) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for one in ids)
    assert settings_of(None, "") == Settings(gone=True)
    assert settings_of(pinned()["pin"], "x") == Settings(1, False, "x")


# origin and statuses


@pytest.mark.parametrize(
    ("kind", "payload", "wanted"),
    [
        ("push", PUSH, {"integration": "i", "repository": "acme/web", "sha": "a" * 40, "ref": "refs/heads/main"}),
        (
            "pull_request",
            {"pull_request": {"head": {"sha": "b" * 40, "ref": "f"}}},
            {"integration": "i", "sha": "b" * 40, "ref": "f"},
        ),
        (
            "workflow_run",
            {"workflow_run": {"head_sha": "c" * 40, "head_branch": "m"}},
            {"integration": "i", "sha": "c" * 40, "ref": "m"},
        ),
        (
            "deployment",
            {"deployment": {"id": 7, "sha": "d" * 40, "ref": "m", "environment": "live"}, "workflow_run": None},
            {"integration": "i", "sha": "d" * 40, "ref": "m", "deployment": "7", "environment": "live", "automatic": False},
        ),
        (
            "deployment",
            {"deployment": {"id": 7}, "workflow_run": {"id": 1}},
            {"integration": "i", "deployment": "7", "environment": "", "automatic": True},
        ),
        (
            "execution_finished",
            {"origin": {"sha": "e"}, "repository": {"full_name": "x/y"}},
            {"integration": "i", "repository": "x/y"},
        ),
        ("field_set_completed", {"origin": {"sha": "e"}, "events": {"a": PUSH}}, {"integration": "i"}),
        ("push", {"repository": {"full_name": "a/b/c"}, "after": 5}, {"integration": "i"}),
        ("push", [], {}),
    ],
)
def test_an_event_tells_where_it_comes_from(kind: str, payload: Any, wanted: Mapping[str, Any]) -> None:
    assert origin_of("i", kind, payload) == wanted


ORIGIN = {"integration": "i", "repository": "acme/web", "sha": "a" * 40}
DEPLOYED = {**ORIGIN, "deployment": "7", "automatic": False}


@pytest.mark.parametrize(
    ("report", "origin", "kinds"),
    [
        ({}, ORIGIN, set()),
        ({"commitStatus": {"context": "c"}}, ORIGIN, {ReportKind.COMMIT}),
        ({"commitStatus": {"context": "c"}}, {}, set()),
        ({"deploymentStatus": True}, ORIGIN, set()),
        ({"deploymentStatus": True}, DEPLOYED, {ReportKind.DEPLOYMENT}),
        ({"deploymentStatus": True}, {**DEPLOYED, "automatic": True}, set()),
        ({"deployment": {"create": True, "environment": "e"}}, ORIGIN, {ReportKind.DEPLOYMENT}),
        ({"deployment": {"create": True}}, {**ORIGIN, "sha": ""}, set()),
        ({"deployment": {"create": True}, "commitStatus": {"context": "c"}}, ORIGIN, {ReportKind.DEPLOYMENT, ReportKind.COMMIT}),
        ({"deploymentStatus": True, "deployment": {"create": True}}, DEPLOYED, {ReportKind.DEPLOYMENT}),
    ],
)
def test_statuses_go_where_the_stage_says_and_the_event_allows(report: Any, origin: Any, kinds: set[ReportKind]) -> None:
    one = item(0, origin=origin)
    spec = stage_spec({"report": report})
    assert set(statuses.targets(one, spec)) == kinds
    queued = statuses.at_phase(one, spec, statuses.QUEUED, NOW)
    running = statuses.at_phase(one, spec, statuses.RUNNING, NOW)
    ended = statuses.at_end(one, spec, Result.PASSED, EndReason.OK, NOW)
    assert {found.kind for found in queued} == {found.kind for found in ended} == {kind.value for kind in kinds}
    assert {found.kind for found in running} <= {"deployment"}  # a commit is pending from the beginning


def test_the_deployment_that_an_event_brought_is_told_and_no_second_one_is_made() -> None:
    spec = stage_spec({"report": {"deploymentStatus": True, "deployment": {"create": True}}})
    payload = statuses.targets(item(0, origin=DEPLOYED), spec)[ReportKind.DEPLOYMENT]
    assert (payload.target, payload.create) == ("7", None)


@pytest.mark.parametrize(
    ("result", "why", "state"),
    [
        (Result.PASSED, EndReason.OK, "success"),
        (Result.FAILED, EndReason.FAILED, "failure"),
        (Result.FAILED, EndReason.MISSING_OUTPUTS, "failure"),
        (Result.FAILED, EndReason.TIMED_OUT, "error"),
        (Result.FAILED, EndReason.LOST, "error"),
        (Result.FAILED, EndReason.REFUSED, "error"),
        (Result.CANCELLED, EndReason.USER, "error"),
    ],
)
def test_a_red_run_is_a_failure_and_whatever_did_not_get_that_far_an_error(result: Result, why: EndReason, state: str) -> None:
    assert statuses.final_state(result, why) == state


def test_only_declared_outputs_are_handed_on_and_missing_required_ones_are_named() -> None:
    assert outputs_of({"a": True, "b": False, "c": True}, {"a": 1, "d": 2}) == ({"a": 1}, ["c"])


def test_an_execution_is_as_it_began() -> None:
    made = decide([item(0, label="x")], 0, {}, settings=Settings(), snapshots=pinned(), now=NOW).start[0]
    assert isinstance(made, Execution)
    assert (made.state, made.correlation, made.started_at, made.next_at) == (ExecutionState.STARTING, made.id, NOW, NOW)


# what broke once


def test_no_line_of_the_log_has_a_field_that_is_called_event() -> None:
    """The first argument has that name: a second one is a TypeError, wherever the line is logged."""
    found = []
    for path in (ROOT / "reconciler").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                target = ast.unparse(node.func)
                if target.rpartition(".")[0].endswith("log") and any(word.arg == "event" for word in node.keywords):
                    found.append(f"{path}:{node.lineno}")
    assert found == []


def test_the_work_of_routing_grows_with_the_events_and_not_faster() -> None:
    text = MANUAL + "---\n".join(
        f"kind: Stage\nmetadata: {{name: s{n}}}\nspec: {{connections: [{{type: event-source, name: hand, filters: [{{type: data, "
        f"data: {{expression: '$.n == {n}'}}}}]}}], executor: {{type: noop}}}}\n"
        for n in range(20)
    )
    wiring = wire("r", loaded(text))

    def route(count: int) -> None:
        for n in range(count):
            assert len(routed(wiring, {"n": n % 20}).items) == 1

    route(20)
    assert calls_of(lambda: route(400)) <= 4.2 * calls_of(lambda: route(100))


@pytest.mark.parametrize("field", ["ref", "branch", "tag", "revision"])
def test_n26_no_run_is_on_zeros_whatever_event_brought_them(field: str) -> None:
    from reconciler.stages.inputs import InputError, check_not_deleted

    run = {field: "${{ inputs.at }}", "inputs": {"before": "${{ inputs.before }}"}}
    spec = stage_spec({"executor": {"type": "noop", "spec": run}})
    new = {"at": "a" * 40, "before": "0" * 40}
    check_not_deleted(spec, {}, new, {})
    for zeros in ("0" * 40, "0" * 64):
        with pytest.raises(InputError, match="there is no commit to run"):
            check_not_deleted(spec, {}, {**new, "at": zeros}, {})
