"""Deliveries of the simulator: what arrives, what is lost, doubled or late on demand, and what the list says of it."""

import hashlib
import hmac
import json

import pytest

from tests.github.conftest import TOKEN
from tests.github.simulator import Hands, put_workflows, receiving
from tests.support.receiving import eventually

WEB = "/repos/acme/web"


@pytest.fixture
def hands(github):
    with Hands(github, TOKEN) as opened:
        yield opened


@pytest.fixture
def receiver():
    with receiving() as server:
        yield server


def rows(hands, hook, query="", root=WEB):
    return hands.get(f"{root}/hooks/{hook['id']}/deliveries?{query}")


def push(hands, **options):
    return hands.github.admin.do("push", repo="acme/web", ref="main", **options)


def test_all_hooks_of_an_event_and_its_redeliveries_share_one_guid(hands):
    hooks = [hands.hook(events=("push",)), hands.hook(url="http://127.0.0.1:9/other", events=("push",))]
    org = hands.hook(events=("push",), root="/orgs/acme")
    push(hands)
    lists = [rows(hands, hook) for hook in hooks] + [rows(hands, org, root="/orgs/acme")]
    assert len({listed[0]["guid"] for listed in lists}) == 1
    assert len({listed[0]["id"] for listed in lists}) == 3
    hands.post(f"{WEB}/hooks/{hooks[0]['id']}/deliveries/{lists[0][0]['id']}/attempts", None, 202)
    again, first, _ = rows(hands, hooks[0])
    assert (again["guid"], again["redelivery"], first["redelivery"]) == (first["guid"], True, False)
    push(hands)
    assert rows(hands, hooks[0])[0]["guid"] != first["guid"]


def test_a_delivery_shows_its_signed_request_and_names_what_the_hook_is_on(hands):
    hook, org = hands.hook(events=("push",)), hands.hook(events=("push",), root="/orgs/acme")
    pushed = push(hands)
    [row, _] = rows(hands, hook)
    whole = hands.get(f"{WEB}/hooks/{hook['id']}/deliveries/{row['id']}")
    headers = whole["request"]["headers"]
    assert (headers["X-GitHub-Event"], headers["X-GitHub-Delivery"]) == ("push", row["guid"])
    assert headers["X-GitHub-Hook-Installation-Target-Type"] == "repository"
    assert headers["X-GitHub-Hook-Installation-Target-ID"] == str(hands.get(WEB)["id"])
    assert headers["X-Hub-Signature-256"].startswith("sha256=")
    payload = whole["request"]["payload"]
    assert (payload["after"], payload["before"], payload["ref"]) == (pushed["sha"], pushed["before"], "refs/heads/main")
    assert row["repository_id"] == payload["repository"]["id"]
    [row, _] = rows(hands, org, root="/orgs/acme")
    whole = hands.get(f"/orgs/acme/hooks/{org['id']}/deliveries/{row['id']}")
    assert whole["request"]["headers"]["X-GitHub-Hook-Installation-Target-Type"] == "organization"


def test_the_events_of_a_run_arrive_signed(hands, receiver):
    hands.github.admin.settings(deliver=True)
    put_workflows(hands.github, {"id": 7, "path": ".github/workflows/deploy.yml", "duration_s": 0.1})
    hands.hook(receiver.url, events=("workflow_run",))
    hands.post(f"{WEB}/actions/workflows/7/dispatches", {"ref": "main"}, 204)
    eventually(lambda: len(receiver.got) == 4)
    actions = sorted(payload.get("action", "ping") for _, payload in receiver.got)
    assert actions == ["completed", "in_progress", "ping", "requested"]
    for headers, payload in receiver.got:
        digest = hmac.new(b"s3cret", json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode(), hashlib.sha256)
        assert headers["X-Hub-Signature-256"] == f"sha256={digest.hexdigest()}"


@pytest.mark.parametrize("status", [401, 500])
def test_a_delivery_that_is_refused_is_listed_as_failed_and_not_sent_again(hands, receiver, status):
    receiver.status = status
    hands.github.admin.settings(deliver=True)
    hook = hands.hook(receiver.url, events=("push",))
    push(hands)
    assert [row["status_code"] for row in eventually(lambda: rows(hands, hook)[1:] and rows(hands, hook))] == [status, status]
    assert [row["event"] for row in rows(hands, hook, "status=failure")] == ["push", "ping"]
    assert rows(hands, hook, "status=success") == []
    assert len(receiver.got) == 2


def test_a_delivery_to_a_public_address_is_sent_to_the_address_behind_its_proxy(hands, receiver):
    behind = receiver.url.removesuffix("/")
    hands.github.admin.settings(deliver=True, deliver_to={"https://ci.acme.example": behind})
    url = "https://ci.acme.example/hooks/1?key=2"
    hook = hands.hook(url, events=("push",))
    assert hands.get(f"{WEB}/hooks/{hook['id']}")["config"]["url"] == url
    eventually(lambda: len(receiver.got) == 1)
    other = hands.hook("https://ci.acme.example.evil.invalid/hooks", events=("release",))
    assert [row["status_code"] for row in eventually(lambda: rows(hands, other))] == [502]
    assert len(receiver.got) == 1


def test_a_delivery_that_nobody_takes_is_listed_as_failed(hands):
    hands.github.admin.settings(deliver=True)
    hook = hands.hook("http://127.0.0.1:9/in", events=("push",))
    [row] = eventually(lambda: rows(hands, hook))
    assert (row["status_code"], row["status"]) == (502, "failed to connect to host")


def test_a_delivery_on_its_way_is_not_listed(hands, receiver):
    hands.github.admin.settings(deliver=True, shuffle_deliveries_s=600, delivery_seed=7)
    hook = hands.hook(receiver.url)
    assert rows(hands, hook) == []


def test_events_that_are_dropped_are_listed_as_failed_and_can_be_delivered_again(hands, receiver):
    hands.github.admin.settings(deliver=True, drop_deliveries=["push"])
    hook = hands.hook(receiver.url, events=("push",))
    pushed = push(hands)
    [row] = rows(hands, hook, "status=failure")
    assert (row["event"], row["status_code"]) == ("push", 502)
    hands.github.admin.settings(drop_deliveries=0)
    hands.post(f"{WEB}/hooks/{hook['id']}/deliveries/{row['id']}/attempts", None, 202)
    eventually(lambda: [payload["after"] for _, payload in receiver.got if "after" in payload] == [pushed["sha"]])
    again = eventually(lambda: [entry for entry in rows(hands, hook) if entry["redelivery"]])
    assert (again[0]["guid"], again[0]["status_code"]) == (row["guid"], 204)


def test_a_fraction_of_the_deliveries_is_dropped_the_same_ones_for_the_same_seed(hands):
    hook = hands.hook(events=("push",))

    def lost(seed):
        hands.github.admin.settings(drop_deliveries=0.0, delivery_seed=0)
        push(hands)
        hands.github.admin.settings(drop_deliveries=0.4, delivery_seed=seed)
        for _ in range(40):
            push(hands)
        return [row["status_code"] != 200 for row in rows(hands, hook, "per_page=40")]

    first = lost(1)
    assert 8 <= sum(first) <= 24
    assert lost(1) == first != lost(2)


def test_a_delivery_is_sent_twice_on_demand_with_one_guid(hands, receiver):
    hands.github.admin.settings(deliver=True, duplicate_deliveries=True)
    hook = hands.hook(receiver.url, events=("push",))
    eventually(lambda: len(receiver.got) == 2)
    assert len({headers["X-GitHub-Delivery"] for headers, _ in receiver.got}) == 1
    assert len(rows(hands, hook)) == 1


def test_deliveries_arrive_in_another_order_on_demand(hands, receiver):
    hands.github.admin.settings(deliver=True)
    hands.hook(receiver.url, events=("push",))
    eventually(lambda: receiver.got)
    hands.github.admin.settings(shuffle_deliveries_s=0.5)
    sent = [push(hands)["sha"] for _ in range(12)]
    eventually(lambda: len(receiver.got) == 13)
    arrived = [payload["after"] for _, payload in receiver.got[1:]]
    assert sorted(arrived) == sorted(sent)
    assert arrived != sent


def test_a_hook_keeps_as_many_deliveries_as_the_setting_says(hands):
    hands.github.admin.settings(kept_deliveries=5)
    hook = hands.hook(events=("push",))
    shas = [push(hands)["sha"] for _ in range(7)]
    kept = [payload["after"] for _, payload in hands.delivered(hook)]
    assert kept == shas[-5:]


def test_the_pages_of_a_list_follow_each_other_while_new_deliveries_come_in(hands):
    hook = hands.hook(events=("push",))
    shown = [push(hands) for _ in range(4)]
    seen, following = [], f"{WEB}/hooks/{hook['id']}/deliveries?per_page=2&status=success"
    while following:
        seen += [row["id"] for row in hands.get(following)]
        push(hands)
        following = hands.last.links.get("next", {}).get("url")
    assert len(seen) == len(set(seen)) == len(shown) + 1
    assert hands("GET", f"{WEB}/hooks/{hook['id']}/deliveries?cursor=v2")[0] == 422
