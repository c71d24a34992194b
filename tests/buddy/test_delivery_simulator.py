"""Events of the simulated Buddy: sent over real HTTP to a receiver that listens."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from reconciler.sandbox.server import SandboxServer
from tests.buddy.simulator import Hands
from tests.support.receiving import Receiver, eventually

EXECUTION = ("EXECUTION_STARTED", "EXECUTION_SUCCESSFUL", "EXECUTION_FAILED", "EXECUTION_FINISHED")


@pytest.fixture
def hands(hands: Hands, server: SandboxServer) -> Hands:
    server.admin.settings(deliver=True, run_duration_s=0)
    return hands


def noted(hands: Hands) -> list[tuple[str, str]]:
    return [(row["event"], row["outcome"]) for row in hands.admin.state()["deliveries"]]


def settled(hands: Hands, count: int) -> list[dict[str, Any]]:
    """Wait until ``count`` deliveries have come to their end."""

    def probe() -> list[dict[str, Any]]:
        rows = [row for row in hands.admin.state()["deliveries"] if row["outcome"] != "sending"]
        return rows if len(rows) >= count else []

    return list(eventually(probe))


def test_a_webhook_of_an_execution_has_the_key_in_its_payload_and_no_signature(hands: Hands, receiver: Receiver) -> None:
    hook = hands.hook(receiver.url, "EXECUTION_FINISHED", projects=("web",))
    number = hands.run(branch={"name": "main"})
    settled(hands, 1)
    ((method, headers, _),) = receiver.got
    assert method == "POST"
    assert not [name for name in headers if "signature" in name or name.endswith("-id")]
    (payload,) = receiver.payloads()
    assert payload["secret_key"] == "k3y"
    assert (payload["workspace"]["domain"], payload["project"]["name"]) == ("acme", "web")
    assert payload["invoker"] == {"name": "sandbox"}
    execution = payload["execution"]
    assert (execution["id"], execution["status"], execution["branch"]) == (number, "SUCCESSFUL", {"name": "main"})
    assert execution["finish_date"] is not None
    assert {"workspace", "project", "current_date", "invoker", "execution", "secret_key"} == set(payload), (
        "nothing names the event"
    )
    (request,) = hands.hook_requests(hook)
    assert request["response_status"] == 204
    assert json.loads(request["body"]) == payload


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ("SUCCESSFUL", ["EXECUTION_STARTED", "EXECUTION_SUCCESSFUL", "EXECUTION_FINISHED"]),
        ("FAILED", ["EXECUTION_STARTED", "EXECUTION_FAILED", "EXECUTION_FINISHED"]),
        ("SKIPPED", ["EXECUTION_FINISHED"]),
    ],
)
def test_each_event_that_a_webhook_wants_is_a_request_of_its_own(
    hands: Hands, receiver: Receiver, result: str, told: list[str]
) -> None:
    hands.hook(receiver.url, *EXECUTION)
    hands.admin.settings(run_result=result)
    hands.run()
    assert [row["event"] for row in settled(hands, len(told))] == told
    assert len(receiver.got) == len(told)


def test_a_canceled_execution_only_finishes(hands: Hands, receiver: Receiver) -> None:
    hands.admin.settings(run_duration_s=-1)
    hands.hook(receiver.url, *EXECUTION)
    hands.operate(hands.run(), "CANCEL")
    assert [row["event"] for row in settled(hands, 2)] == ["EXECUTION_STARTED", "EXECUTION_FINISHED"]


def test_a_retry_sends_webhooks_again(hands: Hands, receiver: Receiver) -> None:
    hands.hook(receiver.url, "EXECUTION_FINISHED")
    number = hands.run()
    hands.operate(number, "RETRY")
    settled(hands, 2)
    first, second = (row["execution"] for row in receiver.payloads())
    assert first["id"] == second["id"] == number


def test_an_execution_sends_its_webhooks_without_being_read(hands: Hands, receiver: Receiver) -> None:
    hands.admin.settings(run_duration_s=0.2)
    hands.hook(receiver.url, "EXECUTION_STARTED", "EXECUTION_FINISHED")
    hands.run()
    eventually(lambda: len(receiver.got) == 2)
    started, finished = (row["execution"] for row in receiver.payloads())
    assert (started["status"], started["finish_date"]) == ("INPROGRESS", None)
    assert finished["status"] == "SUCCESSFUL"


def test_a_webhook_hears_of_its_projects_and_without_any_of_all(hands: Hands, receiver: Receiver) -> None:
    mine, other, every = (
        hands.hook(receiver.url, "EXECUTION_FINISHED", projects=projects) for projects in (("web",), ("payments",), ())
    )
    hands.run()
    assert sorted(row["webhook_id"] for row in settled(hands, 2)) == [mine, every]
    assert hands.hook_requests(other) == []


def test_a_push_sends_webhooks_and_runs_the_pipelines_that_listen(hands: Hands, receiver: Receiver) -> None:
    state = hands.admin.state()
    deploy, release = state["workspaces"]["acme"]["projects"][1]["pipelines"]
    deploy["events"] = [{"type": "PUSH", "refs": ["refs/heads/main"]}]
    release["events"] = [{"type": "PUSH", "refs": ["refs/tags/v1"]}]
    hands.admin.put_state(state, replace=True)
    hands.hook(receiver.url, "PUSH")
    commit = {"revision": "c" * 40, "message": "Mend it"}
    made = hands.admin.do("push", project="web", branch="main", commits=[commit], invoker="Ben")
    settled(hands, 1)
    (payload,) = receiver.payloads()
    assert (payload["secret_key"], payload["invoker"]["name"], payload["branch"]["name"]) == ("k3y", "Ben", "main")
    assert (payload["to_revision"], payload["commits"][0]["message"]) == ({"revision": "c" * 40}, "Mend it")
    assert "execution" not in payload
    (number,) = made["executions"]
    shown = hands.execution(number)
    assert (shown["to_revision"], shown["triggered_on"]) == ({"revision": "c" * 40}, "EVENT")
    assert len(hands.admin.do("push", project="web", tag="v1")["executions"]) == 1


def test_what_fails_is_not_sent_again_and_is_noted(hands: Hands, receiver: Receiver) -> None:
    receiver.status = 500
    answered = hands.hook(receiver.url, "EXECUTION_FINISHED")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        refused = hands.hook(f"http://127.0.0.1:{free.getsockname()[1]}/", "EXECUTION_FINISHED")
    hands.run()
    settled(hands, 2)
    assert [row["response_status"] for row in hands.hook_requests(answered)] == [500]
    assert [row["response_status"] for row in hands.hook_requests(refused)] == [0]
    assert len(receiver.got) == 1


def test_a_webhook_shows_its_last_twenty_requests(hands: Hands, receiver: Receiver) -> None:
    hook = hands.hook(receiver.url, "EXECUTION_FINISHED")
    for _ in range(23):
        hands.admin.do("run_pipeline", project="web", pipeline="deploy")
    settled(hands, 23)
    assert len(hands.hook_requests(hook)) == 20


def test_nothing_is_sent_before_it_is_switched_on_and_nothing_that_is_dropped(hands: Hands, receiver: Receiver) -> None:
    hook = hands.hook(receiver.url, "EXECUTION_STARTED", "EXECUTION_FINISHED")
    hands.admin.settings(deliver=False)
    hands.run()
    hands.admin.settings(deliver=True, drop_deliveries=["EXECUTION_FINISHED"])
    hands.run()
    settled(hands, 4)
    assert noted(hands) == [
        ("EXECUTION_STARTED", "off"),
        ("EXECUTION_FINISHED", "off"),
        ("EXECUTION_STARTED", "delivered"),
        ("EXECUTION_FINISHED", "dropped"),
    ]
    assert len(receiver.got) == len(hands.hook_requests(hook)) == 1


def test_deliveries_are_doubled_and_shuffled_on_demand(hands: Hands, receiver: Receiver) -> None:
    hands.hook(receiver.url, "EXECUTION_FINISHED")
    hands.admin.settings(duplicate_deliveries=True, shuffle_deliveries_s=0.4)
    made = [hands.admin.do("run_pipeline", project="web", pipeline="deploy")["execution_id"] for _ in range(10)]
    eventually(lambda: len(receiver.got) == 20)
    order = [row["execution"]["id"] for row in receiver.payloads()]
    assert sorted(order) == sorted([*made, *made])
    assert order != [number for number in made for _ in range(2)]
