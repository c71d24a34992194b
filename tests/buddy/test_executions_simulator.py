"""Executions of the simulated Buddy over real HTTP, every answer held against the documented shapes."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from tests.buddy.simulator import RUNS, WEB, Hands
from tests.support.receiving import eventually


def test_an_execution_has_its_number_at_once_and_runs_to_its_end(hands: Hands) -> None:
    hands.behave(queued_s=0.1, duration_s=0.2)
    made = hands("POST", RUNS, {"to_revision": {"revision": "c0ffee"}, "comment": "hello"}, status=201)
    assert (made["status"], made["start_date"], made["comment"]) == ("ENQUEUED", None, "hello")
    assert made["to_revision"] == {"revision": "c0ffee"}
    assert made["creator"] == {"name": "sandbox"}
    eventually(lambda: hands.status(made["id"]) == "INPROGRESS")
    done = hands.ended(made["id"])
    assert (done["id"], done["status"]) == (made["id"], "SUCCESSFUL")
    assert done["start_date"] < done["finish_date"]


def test_a_repeated_request_starts_a_second_run(hands: Hands) -> None:
    first, second = hands.run(), hands.run()
    assert [row["id"] for row in hands("GET", RUNS)["executions"]] == [second, first]


def test_the_list_is_paged_and_counted_newest_first(hands: Hands) -> None:
    made = [hands.run() for _ in range(5)]
    page = hands("GET", f"{RUNS}?page=2&per_page=2")
    assert [row["id"] for row in page.pop("executions")] == [made[2], made[1]]
    assert page.pop("url").endswith(RUNS)
    assert page == {"page": 2, "page_size": 2, "total_page_count": 3, "element_count": 2, "total_element_count": 5}
    assert hands("GET", f"{WEB}/22/executions")["executions"] == []
    hands.admin.settings(run_list_lag_s=60)
    assert hands("GET", RUNS)["total_element_count"] == 0


def test_actions_run_one_after_the_other_and_say_what_they_do(hands: Hands) -> None:
    hands.behave(
        duration_s=0.8, actions=[{"name": "build", "logs": ["a", "b"]}, {"name": "ship", "logs": ["c"], "outputs": {"V": 7}}]
    )
    number = hands.run(variables=[{"key": "ENV", "value": "prod"}])
    build, ship = hands.actions(number)
    assert (build["status"], ship["status"]) == ("INPROGRESS", "ENQUEUED")
    assert ship["log"] == ship["outputted_variables"] == []
    seen = eventually(lambda: (log := hands.actions(number)[0]["log"]) and log)
    assert seen in (["a"], ["a", "b"])
    hands.ended(number)
    build, ship = hands.actions(number)
    assert [(row["status"], row["progress"], row["log"]) for row in (build, ship)] == [
        ("SUCCESSFUL", 100, ["a", "b"]),
        ("SUCCESSFUL", 100, ["c"]),
    ]
    assert ship["outputted_variables"] == [{"key": "V", "value": "7", "type": "VAR", "encrypted": False}]
    assert build["passed_variables"] == [{"key": "ENV", "value": "prod"}]
    assert build["action_execution_id"] != ship["action_execution_id"]


def test_outputs_of_a_pipeline_are_those_of_its_last_action_and_some_are_encrypted(hands: Hands) -> None:
    hands.behave(duration_s=0, outputs={"KEY": {"value": "x", "encrypted": True}}, actions=[{"name": "a"}, {"name": "b"}])
    first, last = hands.actions(hands.run())
    assert first["outputted_variables"] == []
    assert last["outputted_variables"] == [{"key": "KEY", "value": "x", "type": "VAR", "encrypted": True}]


def test_nothing_runs_after_an_action_that_failed(hands: Hands) -> None:
    actions = [{"name": "a"}, {"name": "b", "result": "FAILED", "error": "exit 1"}, {"name": "c"}]
    hands.behave(duration_s=0, outputs={"V": "1"}, actions=actions)
    number = hands.run()
    assert hands.status(number) == "FAILED"
    shown = hands.actions(number)
    assert [(row["status"], row["error_message"]) for row in shown] == [
        ("SUCCESSFUL", None),
        ("FAILED", "exit 1"),
        ("NOT_EXECUTED", None),
    ]
    assert shown[2]["outputted_variables"] == []


def test_an_execution_that_is_to_fail_fails_at_its_last_action(hands: Hands) -> None:
    hands.behave(duration_s=0, result="FAILED", actions=[{"name": "a"}, {"name": "b"}])
    assert [row["status"] for row in hands.actions(hands.run())] == ["SUCCESSFUL", "FAILED"]


@pytest.mark.parametrize("result", ["SKIPPED", "NOT_EXECUTED"])
def test_what_was_never_executed_has_no_beginning(hands: Hands, result: str) -> None:
    hands.behave(duration_s=0, result=result)
    shown = hands.execution(hands.run())
    assert (shown["status"], shown["start_date"]) == (result, None)
    assert [row["status"] for row in shown["action_executions"]] == [result]


def test_a_canceled_execution_is_terminated(hands: Hands) -> None:
    hands.behave(duration_s=-1, terminating_s=0.1, actions=[{"name": "a"}, {"name": "b"}])
    number = hands.run()
    assert hands.operate(number, "CANCEL")["status"] == "TERMINATING"
    hands.operate(number, "CANCEL", status=400)
    done = hands.ended(number)
    assert done["status"] == "TERMINATED"
    assert "TERMINATED" in [row["status"] for row in done["action_executions"]]
    hands.operate(number, "CANCEL", status=400)


def test_a_retry_runs_the_same_execution_again_as_the_pipeline_is_now(hands: Hands) -> None:
    hands.behave(duration_s=0, result="FAILED")
    number = hands.run()
    first = hands.ended(number)
    hands.behave(result="SUCCESSFUL", duration_s=0.2)
    again = hands.operate(number, "RETRY")
    assert (again["id"], again["status"], again["finish_date"]) == (number, "INPROGRESS", None)
    assert again["action_executions"][0]["action_execution_id"] != first["action_executions"][0]["action_execution_id"]
    hands.operate(number, "RETRY", status=400)
    done = hands.ended(number)
    assert done["status"] == "SUCCESSFUL"
    assert done["finish_date"] > first["finish_date"]
    assert hands("GET", RUNS)["total_element_count"] == 1


def test_an_execution_waits_for_somebody_to_let_it_go_on(hands: Hands) -> None:
    hands.behave(duration_s=0, waits_for="APPLY")
    number = hands.run()
    shown = hands.execution(number)
    assert shown["status"] == shown["action_executions"][0]["status"] == "WAITING_FOR_APPLY"
    hands.operate(number, "APPLY_VARIABLES", status=400)
    assert hands.operate(number, "APPLY")["status"] == "SUCCESSFUL"
    hands.operate(number, "APPLY", status=400)


@pytest.mark.parametrize("waits_for", ["VARIABLES", "SETTABLE_VARIABLES"])
def test_an_execution_waits_for_variables(hands: Hands, waits_for: str) -> None:
    hands.behave(duration_s=0, waits_for=waits_for)
    number = hands.run()
    assert hands.status(number) == f"WAITING_FOR_{waits_for}"
    hands.operate(number, "APPLY_VARIABLES", variables=[{"key": "A", "value": "1"}])
    assert hands.actions(number)[0]["passed_variables"] == [{"key": "A", "value": "1"}]
    assert hands.status(number) == "SUCCESSFUL"


def test_a_delayed_execution_begins_at_its_time_or_when_it_is_released(hands: Hands) -> None:
    hands.behave(duration_s=0)
    later = (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=60)).isoformat()
    number = hands.run(delay_until=later)
    assert hands.status(number) == "INITIAL"
    assert hands.operate(number, "RUN_DELAYED")["status"] == "SUCCESSFUL"
    soon = hands.run(delay_until=(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=0.2)).isoformat())
    assert hands.ended(soon)["status"] == "SUCCESSFUL"


@pytest.mark.parametrize("operation", ["", "STOP", None])
def test_operations_that_there_are_not_are_refused(hands: Hands, operation: Any) -> None:
    hands.operate(hands.run(), operation, status=400)


@pytest.mark.parametrize(
    "body",
    [
        {"to_revision": "HEAD"},
        {"to_revision": {}},
        {"branch": "main"},
        {"tag": {"name": ""}},
        {"variables": [{"value": "x"}]},
        {"priority": "URGENT"},
        {"delay_until": "tomorrow"},
    ],
)
def test_requests_that_make_no_sense_start_nothing(hands: Hands, body: dict[str, Any]) -> None:
    assert hands("POST", RUNS, body, status=400)["errors"][0]["message"]
    assert hands("GET", RUNS)["executions"] == []


def test_a_pipeline_with_several_refs_requires_one_in_the_request(hands: Hands) -> None:
    state = hands.admin.state()
    state["workspaces"]["acme"]["projects"][1]["pipelines"][0]["refs"] = ["refs/heads/*"]
    hands.admin.put_state(state, replace=True)
    hands("POST", RUNS, {"to_revision": {"revision": "HEAD"}}, status=400)
    assert hands.execution(hands.run(branch={"name": "topic"}))["branch"] == {"name": "topic"}


def test_pipelines_are_shown_without_how_they_will_behave(hands: Hands) -> None:
    hands.behave(duration_s=0, actions=[{"name": "build"}])
    assert [row["name"] for row in hands("GET", WEB)["pipelines"]] == ["deploy", "release"]
    shown = hands("GET", f"{WEB}/21")
    assert (shown["identifier"], shown["last_execution_status"], shown["actions"][0]["name"]) == ("deploy", "INITIAL", "build")
    hands.run()
    assert hands("GET", f"{WEB}/21")["last_execution_status"] == "SUCCESSFUL"


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", RUNS, "EXECUTION_INFO"),
        ("GET", f"{RUNS}/1", "EXECUTION_INFO"),
        ("GET", f"{WEB}/21", "EXECUTION_INFO"),
        ("GET", f"{RUNS}/1/action_executions/x", "EXECUTION_INFO"),
        ("POST", RUNS, "EXECUTION_RUN"),
        ("PATCH", f"{RUNS}/1", "EXECUTION_MANAGE"),
    ],
)
def test_each_call_wants_its_scope(hands: Hands, method: str, path: str, scope: str) -> None:
    every = hands.admin.state()["tokens"]["buddy-sandbox-token"]["scopes"]
    hands.admin.put_state({"tokens": {"buddy-sandbox-token": {"scopes": [row for row in every if row != scope]}}})
    hands(method, path, {} if method != "GET" else None, status=403)
    hands.admin.put_state({"tokens": {"buddy-sandbox-token": {"scopes": [scope]}}})
    answer = hands.http.request(method, path, json={} if method != "GET" else None)
    assert answer.status_code != 403


@pytest.mark.parametrize(
    "path",
    [
        f"{RUNS}/999",
        f"{WEB}/99/executions",
        f"{WEB}/99",
        "/workspaces/acme/projects/none/pipelines/21/executions",
        "/workspaces/none/projects/web/pipelines/21/executions",
        f"{WEB}/22/executions/1001",
    ],
)
def test_what_is_not_there_is_not_found(hands: Hands, path: str) -> None:
    hands.run()
    assert hands("GET", path, status=404)["errors"]


def test_a_lost_execution_is_not_found_any_more(hands: Hands) -> None:
    number = hands.run()
    hands.admin.do("lose_execution", execution_id=number)
    hands("GET", f"{RUNS}/{number}", status=404)
    assert hands("GET", RUNS)["executions"] == []


def test_executions_are_run_and_finished_by_hand(hands: Hands) -> None:
    hands.behave(duration_s=-1, logs=["a", "b"])
    number = hands.admin.do("run_pipeline", project="web", pipeline=21, branch="topic")["execution_id"]
    shown = hands.execution(number)
    assert (shown["status"], shown["branch"], shown["triggered_on"]) == ("INPROGRESS", {"name": "topic"}, "CLICK")
    hands.admin.do("finish_execution", execution_id=number, status="FAILED", error="no space left")
    assert hands.status(number) == "FAILED"
    (action,) = hands.actions(number)
    assert (action["status"], action["log"], action["error_message"]) == ("FAILED", ["a", "b"], "no space left")


def test_settings_decide_for_every_run_and_one_by_hand_for_itself(hands: Hands) -> None:
    hands.admin.settings(run_duration_s=0, run_result="FAILED")
    assert hands.status(hands.run()) == "FAILED"
    made = hands.admin.do("run_pipeline", project="web", pipeline="deploy", result="SKIPPED")
    assert hands.status(made["execution_id"]) == "SKIPPED"


def test_what_cannot_happen_is_refused_by_the_sandbox_itself(hands: Hands) -> None:
    for action, options in (
        ("run_pipeline", {"project": "none", "pipeline": 21}),
        ("run_pipeline", {"project": "web", "pipeline": 99}),
        ("run_pipeline", {"project": "web", "pipeline": 21, "workspace": "none"}),
        ("run_pipeline", {"project": "web", "pipeline": 21, "result": "passed"}),
        ("set_behaviour", {"project": "web", "pipeline": 21, "waits_for": "GODOT"}),
        ("finish_execution", {"execution_id": 1}),
        ("lose_execution", {"execution_id": 1}),
        ("push", {"project": "none"}),
    ):
        with pytest.raises(RuntimeError, match="refused"):
            hands.admin.do(action, **options)


def test_every_answer_tells_what_is_left_of_the_limit(hands: Hands) -> None:
    answer = hands.http.get(RUNS)
    assert {"x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset"} <= set(answer.headers)
    hands.admin.settings(rate_limits=True, requests_per_minute=1)
    hands("GET", RUNS)
    hands("GET", RUNS, status=429)


def test_executions_of_a_state_that_is_put_back_go_on(hands: Hands) -> None:
    hands.behave(duration_s=0.3)
    number = hands.run()
    hands.admin.put_state(hands.admin.state(), replace=True)
    assert hands.status(number) == "INPROGRESS"
    assert hands.ended(number)["status"] == "SUCCESSFUL"
