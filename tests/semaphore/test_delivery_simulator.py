"""Notifications of the simulated Semaphore: sent over real HTTP to a receiver that listens, as the real ones are."""

from __future__ import annotations

import hashlib
import hmac
import socket
import time
from typing import Any

import pytest

from reconciler.sandbox.server import SandboxServer
from tests.semaphore.simulator import Hands, behave
from tests.support.receiving import Receiver, eventually

FIELDS = ("projects", "branches", "tags", "pipelines", "blocks", "states", "results")
SIGNATURE, ID = "x-semaphore-signature-256", "x-semaphore-webhook-id"


@pytest.fixture
def hands(hands: Hands, server: SandboxServer) -> Hands:
    server.admin.settings(deliver=True, run_duration_s=0)
    return hands


def notify(hands: Hands, url: str, name: str = "sink", *, webhook: dict[str, Any] | None = None, **filters: list[str]) -> None:
    rule = {
        "name": "r1",
        "filter": {**{key: [] for key in FIELDS}, "projects": ["web"], **filters},
        "notify": {"slack": {}, "webhook": {"endpoint": url, "timeout": 5000, "secret": "signing", **(webhook or {})}},
    }
    body = {"apiVersion": "v1alpha", "kind": "Notification", "metadata": {"name": name}, "spec": {"rules": [rule]}}
    hands("POST", "/notifications", body)


def keep_secret(hands: Hands, variable: str = "WEBHOOK_SECRET") -> None:
    body = {"apiVersion": "v1beta", "kind": "Secret", "metadata": {"name": "signing"}}
    body["data"] = {"env_vars": [{"name": variable, "value": "k3y"}], "files": []}
    hands("POST", hands.server.url + "/api/v1beta/secrets", body)


def test_a_finished_pipeline_sends_a_signed_webhook_of_the_documented_form(hands: Hands, receiver: Receiver) -> None:
    keep_secret(hands)
    notify(hands, receiver.url)
    behave(hands.server, jobs=[{"name": "test"}])
    pushed = hands.admin.do("run_pipeline", project="web", branch="main", commit_sha="c" * 40, commit_message="Mend it")
    (row,) = hands.delivered(1)
    ((method, headers, body),) = receiver.got
    assert method == "POST"
    assert headers[SIGNATURE] == hmac.new(b"k3y", body, hashlib.sha256).hexdigest()
    assert (headers["content-type"], headers["user-agent"]) == ("application/json", "Semaphore-Webhook")
    assert headers[ID] == row["id"]
    assert (row["outcome"], row["attempts"][0]["status"], row["notification"]) == ("delivered", 204, "sink")
    (payload,) = receiver.payloads()
    assert (payload["version"], payload["organization"]["name"], payload["project"]["name"]) == ("1.0.0", "acme", "web")
    assert payload["pipeline"]["id"] == pushed["pipeline_id"]
    assert payload["workflow"] == {
        **payload["workflow"],
        "id": pushed["workflow_id"],
        "initial_pipeline_id": pushed["pipeline_id"],
    }
    assert (payload["pipeline"]["state"], payload["pipeline"]["result"]) == ("done", "passed")
    assert payload["pipeline"]["stopping_at"] == "1970-01-01T00:00:00Z"
    assert payload["revision"]["branch"]["name"] == "main"
    assert (payload["revision"]["commit_sha"], payload["revision"]["commit_message"]) == ("c" * 40, "Mend it")
    assert payload["revision"]["tag"] is payload["revision"]["pull_request"] is None
    assert payload["blocks"][0]["jobs"][0] == {
        **payload["blocks"][0]["jobs"][0], "name": "test", "status": "finished", "result": "passed",
    }  # fmt: skip


def test_a_pipeline_sends_its_webhook_without_being_read(hands: Hands, receiver: Receiver) -> None:
    hands.admin.settings(run_duration_s=0.2)
    notify(hands, receiver.url)
    hands.run()
    assert receiver.got == []
    assert eventually(lambda: receiver.got)


def test_stopped_pipelines_send_webhooks_too(hands: Hands, receiver: Receiver) -> None:
    hands.admin.settings(run_duration_s=-1)
    notify(hands, receiver.url)
    wf_id, _ = hands.run()
    hands("POST", f"/plumber-workflows/{wf_id}/terminate")
    hands.delivered(1)
    (payload,) = receiver.payloads()
    assert (payload["pipeline"]["result"], payload["pipeline"]["result_reason"]) == ("stopped", "user")


def test_webhooks_of_tags_and_pull_requests_name_their_reference_type(hands: Hands, receiver: Receiver) -> None:
    notify(hands, receiver.url)
    hands.admin.do("run_pipeline", project="web", tag="v1")
    hands.delivered(1)
    hands.admin.do("run_pipeline", project="web", pull_request=7)
    hands.delivered(2)
    tag, request = (row["revision"] for row in receiver.payloads())
    assert (tag["reference_type"], tag["reference"], tag["tag"], tag["branch"]) == ("tag", "refs/tags/v1", {"name": "v1"}, None)
    assert (request["reference_type"], request["pull_request"]["number"], request["branch"]) == ("pull_request", 7, None)


@pytest.mark.parametrize("variable", ["", "OTHER"])
def test_without_the_secret_or_its_variable_it_is_sent_unsigned(hands: Hands, receiver: Receiver, variable: str) -> None:
    if variable:
        keep_secret(hands, variable)
    notify(hands, receiver.url)
    hands.run()
    hands.delivered(1)
    assert SIGNATURE not in receiver.got[0][1]


@pytest.mark.parametrize(
    ("filters", "matches"),
    [
        ({}, True),
        ({"projects": ["/^w/"]}, True),
        ({"projects": ["we"]}, False),
        ({"projects": ["payments", "web"]}, True),
        ({"branches": ["main"]}, True),
        ({"branches": ["/ma.*/"]}, True),
        ({"branches": ["topic"]}, False),
        ({"tags": ["v1"]}, True),
        ({"pipelines": ["semaphore.yml"]}, True),
        ({"pipelines": [".semaphore/semaphore.yml"]}, False),
        ({"results": ["passed"]}, True),
        ({"results": ["failed", "/stop/"]}, False),
        ({"blocks": ["none"], "states": ["STARTED"]}, True),
    ],
)
def test_a_rule_hears_of_what_all_its_lists_have_a_pattern_for(
    hands: Hands, receiver: Receiver, filters: dict[str, list[str]], matches: bool
) -> None:
    notify(hands, receiver.url, **filters)
    notify(hands, receiver.url, "control")
    hands.run()
    rows = hands.delivered(1 + matches)
    assert sorted(row["notification"] for row in rows) == (["control", "sink"] if matches else ["control"])


def test_a_rule_without_projects_hears_of_nothing(hands: Hands, receiver: Receiver) -> None:
    notify(hands, receiver.url)
    (notification,) = hands.admin.state()["notifications"]
    notification["spec"]["rules"][0]["filter"]["projects"] = []
    hands.admin.put_state({"notifications": [notification]})
    hands.run()
    assert hands.admin.state()["deliveries"] == []


def test_a_tag_is_matched_by_tags_and_not_by_branches(hands: Hands, receiver: Receiver) -> None:
    notify(hands, receiver.url, "by-branch", branches=["main"])
    notify(hands, receiver.url, "by-tag", tags=["v1"])
    notify(hands, receiver.url, "other-tag", tags=["v2"])
    hands.admin.do("run_pipeline", project="web", tag="v1")
    assert [row["notification"] for row in hands.delivered(2)] == ["by-branch", "by-tag"]


def test_a_notification_falls_silent_with_its_creator(hands: Hands, receiver: Receiver) -> None:
    notify(hands, receiver.url)
    hands.admin.put_state({"tokens": {"other": {"user": "somebody", "permissions": ["*"]}}})
    tokens = hands.admin.state()["tokens"]
    hands.admin.put_state({"tokens": {name: None for name in tokens if name != "other"}})
    hands.admin.do("run_pipeline", project="web")
    assert hands.admin.state()["deliveries"] == []


def test_an_inactive_webhook_is_not_sent(hands: Hands, receiver: Receiver) -> None:
    notify(hands, receiver.url, webhook={"status": "INACTIVE"})
    hands.run()
    assert hands.admin.state()["deliveries"] == []


def test_any_status_is_a_delivery_and_the_method_is_the_configured_one(hands: Hands, receiver: Receiver) -> None:
    receiver.status = 500
    notify(hands, receiver.url, webhook={"retries": 3, "action": "put"})
    hands.run()
    (row,) = hands.delivered(1)
    assert (row["outcome"], [item["status"] for item in row["attempts"]]) == ("delivered", [500])
    assert receiver.got[0][0] == "PUT"


def test_only_what_is_not_answered_in_time_is_sent_again_with_its_id(hands: Hands, receiver: Receiver) -> None:
    receiver.delays_s = [0.6]
    notify(hands, receiver.url, webhook={"timeout": 100, "retries": 2})
    hands.run()
    (row,) = hands.delivered(1)
    eventually(lambda: hands.settled()[0]["outcome"] == "delivered")
    (row,) = hands.settled()
    assert [item["status"] for item in row["attempts"]] == [0, 204]
    assert row["attempts"][1]["at"] - row["attempts"][0]["at"] >= 0.5
    first, second = receiver.got
    assert first[1][ID] == second[1][ID]


def test_the_default_timeout_is_half_a_second(hands: Hands, receiver: Receiver) -> None:
    receiver.delays_s = [1.0]
    notify(hands, receiver.url, webhook={"timeout": 0, "retries": 0})
    hands.run()
    (row,) = hands.delivered(1)
    assert (row["outcome"], len(row["attempts"])) == ("timeout", 1)


def test_a_refused_connection_is_not_tried_again(hands: Hands) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    notify(hands, url, webhook={"retries": 5})
    hands.run()
    hands.delivered(1)
    time.sleep(0.8)  # a second try would come after half a second
    (row,) = hands.settled()
    assert (row["outcome"], len(row["attempts"])) == ("failed", 1)


def test_an_address_that_is_none_fails_and_nothing_else_does(hands: Hands, receiver: Receiver) -> None:
    notify(hands, "http://127.0.0.1:99999/", "broken")
    notify(hands, receiver.url, "fine")
    hands.run()
    assert {row["notification"]: row["outcome"] for row in hands.delivered(2)} == {"broken": "failed", "fine": "delivered"}


def test_nothing_is_sent_before_it_is_switched_on(hands: Hands, receiver: Receiver) -> None:
    hands.admin.settings(deliver=False)
    notify(hands, receiver.url)
    hands.run()
    assert [row["outcome"] for row in hands.admin.state()["deliveries"]] == ["off"]
    assert receiver.got == []


def test_deliveries_are_dropped_on_demand(hands: Hands, receiver: Receiver) -> None:
    notify(hands, receiver.url)
    hands.admin.settings(drop_deliveries=True)
    hands.run()
    assert [row["outcome"] for row in hands.admin.state()["deliveries"]] == ["dropped"]
    hands.admin.settings(drop_deliveries=0.5)
    for _ in range(40):
        hands.admin.do("run_pipeline", project="web")
    words = [row["outcome"] for row in hands.delivered(41)][1:]
    assert 5 < words.count("dropped") < 35
    assert len(receiver.got) == words.count("delivered") == 40 - words.count("dropped")


def test_deliveries_are_doubled_on_demand_with_one_id(hands: Hands, receiver: Receiver) -> None:
    notify(hands, receiver.url)
    hands.admin.settings(duplicate_deliveries=True)
    hands.run()
    eventually(lambda: len(receiver.got) == 2)
    assert receiver.got[0][1][ID] == receiver.got[1][1][ID]


def test_deliveries_are_shuffled_on_demand(hands: Hands, receiver: Receiver) -> None:
    notify(hands, receiver.url)
    hands.admin.settings(shuffle_deliveries_s=0.5)
    started = [hands.admin.do("run_pipeline", project="web")["pipeline_id"] for _ in range(12)]
    hands.delivered(12)
    order = [row["pipeline"]["id"] for row in receiver.payloads()]
    assert order != started
    assert sorted(order) == sorted(started)
