"""The types of the commands match the table of verbs, and the documents that the daemon writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

import msgspec
import pytest

from reconciler.cli.daemon_client import answer_of
from reconciler.cli.verb import Verb
from reconciler.cli.verbs import GLOBALS, VERBS
from reconciler.model import status_document, views
from reconciler.model.status_document import StatusDocument
from reconciler.server.api.answers import ANSWERS
from tests.cli.staged import declare, payload, started, waiting
from tests.engine.world import World

ANSWER_VIEWS: Mapping[str, type[msgspec.Struct]] = {
    "Origin": views.OriginView,
    "Approval": views.ApprovalView,
    "Item": views.ItemView,
    "Later": views.LaterView,
    "Execution": views.ExecutionView,
    "Runs": views.RunsView,
    "Previous": views.PreviousView,
    "Report": views.ReportView,
    "Rejection": views.RejectionView,
    "Event": views.EventView,
    "Unreported": views.UnreportedView,
    "Swept": views.SweptView,
    "EventList": views.EventList,
    "EventDetail": views.EventDetail,
    "ExecutionList": views.ExecutionList,
    "ExecutionDetail": views.ExecutionDetail,
    "Log": views.LogView,
    "Triggered": views.TriggeredEvent,
    "Approved": views.ApprovedItem,
    "PlanApproved": views.ApprovedPlan,
    "Cancelled": views.Cancelled,
    "Queued": views.QueuedItem,
    "Replayed": views.ReplayedEvent,
    "SweptList": views.SweptList,
    "Suspended": views.SuspendedResource,
    "Resumed": views.ResumedResource,
    "Asked": views.ReconciledResource,
    "Condition": status_document.ConditionRow,
    "Resource": status_document.ResourceRow,
    "Problem": status_document.ErrorRow,
}
STATUS_ROWS: Mapping[str, type[msgspec.Struct]] = {
    "daemon": status_document.DaemonRow,
    "source": status_document.SourceRow,
    "summary": status_document.Summary,
    "events": status_document.EventCounts,
    "plans": status_document.PlanRow,
    "credentials": status_document.CredentialRow,
    "stages": status_document.StageRow,
    "schedules": status_document.ScheduleRow,
}


def fields(struct: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(struct)}


def properties(schema: Mapping[str, Any]) -> set[str]:
    return set(schema.get("items", schema)["properties"])


def again(document: object, struct: type[msgspec.Struct]) -> object:
    """Return a JSON document as the commands print it after they have read it."""
    return json.loads(msgspec.json.encode(msgspec.convert(document, struct)))


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_the_options_of_a_verb_are_exactly_its_arguments(verb: Verb) -> None:
    arguments = [*GLOBALS, *verb.arguments]
    names = {next((f for f in flags if f.startswith("--")), flags[0]).lstrip("-").replace("-", "_") for flags, _ in arguments}
    hints = get_type_hints(verb.options)
    assert hints.keys() - {"verb"} == names
    for flags, parameters in verb.arguments:
        name = next((f for f in flags if f.startswith("--")), flags[0]).lstrip("-").replace("-", "_")
        kind = parameters.get("type")
        expected: object = get_type_hints(kind)["return"] if kind is not None else str
        if parameters.get("action") == "store_true":
            expected = bool
        elif parameters.get("action") == "append" or parameters.get("nargs") == "*":
            expected = list[str]
        elif (
            "default" not in parameters and not parameters.get("required") and (flags[0].startswith("-") or "nargs" in parameters)
        ):
            expected = str | None
        assert hints[name] == expected, f"{verb.name} {name}"


@pytest.mark.parametrize("name", ANSWER_VIEWS)
def test_an_answer_of_the_daemon_has_the_documented_fields(name: str) -> None:
    assert fields(ANSWER_VIEWS[name]) == properties(ANSWERS[name])


@pytest.mark.parametrize("name", STATUS_ROWS)
def test_a_row_of_the_status_document_has_the_documented_fields(name: str) -> None:
    assert fields(STATUS_ROWS[name]) == properties(ANSWERS["Status"]["properties"][name])
    assert fields(StatusDocument) | {"kind"} == properties(ANSWERS["Status"])


def test_the_document_of_an_answer_is_without_the_field_of_the_protocol() -> None:
    answer = answer_of({"ok": True, "resource": "EventSource/default/web", "later": 1}, views.ResumedResource)
    assert answer.document == {"resource": "EventSource/default/web", "later": 1}


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("shapes"))
    world.repos("one")
    declare(world, workflow=True)
    world.source("one")
    world.write("clock.yaml", "kind: EventSource\nmetadata: {name: clock}\nspec: {type: schedule, schedule: {cron: '0 3 * * *'}}")
    started(world)
    yield world
    world.close()


def test_the_status_file_reads_as_it_was_written(staged: World) -> None:
    done = staged.cli("trigger", "hand", "--payload", payload("quick"), "--wait", "--timeout", "60")
    assert done.returncode == 0, done.stderr
    staged.wait(lambda: any(stage["last"] for stage in staged.status()["stages"]), "a stage shows its last execution")
    written = staged.status()
    assert written["resources"]
    assert written["credentials"]
    assert written["schedules"]
    assert again(written, StatusDocument) == written


def test_an_item_and_its_execution_read_as_they_were_written(staged: World) -> None:
    item = waiting(staged)
    detail = json.loads(staged.cli("executions", item["id"], "-o", "json").stdout)
    assert again(detail["item"], views.ItemView) == detail["item"]
    done = staged.cli("trigger", "hand", "--payload", payload("deploy"), "--wait", "--timeout", "60", "-o", "json")
    item = json.loads(done.stdout)["items"][0]
    detail = json.loads(staged.cli("executions", item["id"], "-o", "json").stdout)
    assert item == {**detail["item"], "execution": detail["executions"][-1]}
    assert detail["executions"][-1]["outputs"] == {}
