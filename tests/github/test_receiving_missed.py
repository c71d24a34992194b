"""Deliveries that GitHub sent and nobody took: found in its own list, sent again, or read from it."""

import json

import pytest

from reconciler.drivers.github.api import epoch_of
from reconciler.model.errors import NotFound, ProviderProtocolError
from reconciler.model.events import Delivery, Hook, PastDelivery
from tests.github.conftest import source
from tests.github.running import check_requests
from tests.github.simulator import Hands, receiving
from tests.github.test_receiving import KEY, OTHER, SOURCE, receiver
from tests.support.receiving import eventually

# missed ones


@pytest.fixture
def hands(github):
    with Hands(github) as opened:
        yield opened
    check_requests(github)


def hook_of(created, scope="acme/web", kind="repository"):
    return Hook(SOURCE, f"github/{kind}-webhook", scope, str(created["id"]))


def push(hands, repo="acme/web", **options):
    return hands.github.admin.do("push", repo=repo, ref="main", **options)


async def missed(api, *hooks, since=0.0):
    return await receiver.missed(api, source(), hooks, since)


async def test_e11_what_did_not_arrive_is_told_from_what_did(api, hands):
    hook = hands.hook(events=("push",))
    hands.github.admin.settings(drop_deliveries=["push"])
    push(hands)
    hands.github.admin.settings(drop_deliveries=0.0)
    push(hands)
    result = await missed(api, hook_of(hook))
    rows = hands.get(f"/repos/acme/web/hooks/{hook['id']}/deliveries")
    assert sorted((one.type, one.arrived) for one in result) == [("ping", True), ("push", False), ("push", True)]
    assert {(one.id, one.ref) for one in result} == {(row["guid"], str(row["id"])) for row in rows}
    assert {one.detail["hook"] for one in result} == {str(hook["id"])}
    assert [one.at for one in result] == sorted(one.at for one in result)


async def test_e11_attempts_of_one_event_are_folded_and_any_success_counts(api, hands):
    hook = hands.hook(events=("push",))
    hands.github.admin.settings(drop_deliveries=["push"])
    push(hands)
    [lost] = [one for one in await missed(api, hook_of(hook)) if one.type == "push"]
    assert await receiver.redeliver(api, hook_of(hook), lost)
    [again] = [one for one in await missed(api, hook_of(hook)) if one.type == "push"]
    assert (again.id, again.arrived, int(again.ref) > int(lost.ref)) == (lost.id, False, True)
    hands.github.admin.settings(drop_deliveries=0.0)
    assert await receiver.redeliver(api, hook_of(hook), again)
    [third] = [one for one in await missed(api, hook_of(hook)) if one.type == "push"]
    assert (third.id, third.arrived) == (lost.id, True)


async def test_e11_all_pages_are_read_but_none_that_is_older_than_asked_for(api, github, hands):
    hook = hands.hook(events=("push",))
    for _ in range(230):
        push(hands)
    assert len(await missed(api, hook_of(hook))) == 231
    path = rf"^/repos/acme/web/hooks/{hook['id']}/deliveries$"
    assert len(github.admin.requests(path=path)) == 3
    state = github.admin.state()["deliveries"]
    for row in state[str(hook["id"])][:150]:
        row["delivered_at"] = "2026-01-01T00:00:00Z"
    github.admin.put_state({"deliveries": state})
    github.admin.clear_requests()
    assert len(await missed(api, hook_of(hook), since=epoch_of("2026-01-02T00:00:00Z"))) == 81
    assert len(github.admin.requests(path=path)) == 1


async def test_e11_several_hooks_of_a_source_are_read_repositories_and_organizations(api, hands):
    web, org = hands.hook(events=("push",)), hands.hook(events=("push",), root="/orgs/acme")
    push(hands)
    result = await missed(api, hook_of(web), hook_of(org, "acme", "organization"))
    assert sorted(one.type for one in result) == ["ping", "ping", "push"]  # the push is one event, though two hooks tell of it
    push(hands, repo="acme/payments")
    [other] = [one for one in await missed(api, hook_of(org, "acme", "organization")) if one.id not in {f.id for f in result}]
    delivery = await receiver.fetch(api, None, other)
    assert json.loads(delivery.body)["repository"]["full_name"] == "acme/payments"


async def test_e12_a_hook_that_is_gone_is_told(api, hands):
    hook = hook_of(hands.hook())
    assert hands("DELETE", f"/repos/acme/web/hooks/{hook.external_id}")[0] == 204
    with pytest.raises(NotFound):
        await missed(api, hook)
    with pytest.raises(NotFound, match="not known"):
        await receiver.fetch(api, None, PastDelivery("g", "1", "push", 0.0, arrived=False))


async def test_e11_the_hook_of_a_renamed_repository_is_followed(api, hands):
    hook = hook_of(hands.hook(events=("push",)))
    push(hands)
    hands.github.admin.do("rename", **{"from": "acme/web", "to": "acme/site"})
    [result] = [one for one in await missed(api, hook) if one.type == "push"]
    assert await receiver.redeliver(api, hook, result)
    assert (await receiver.fetch(api, hook, result)).id == result.id


@pytest.mark.parametrize("kind", ["json", "form"])
async def test_e11_what_is_read_from_the_list_equals_what_the_webhook_brings(api, hands, kind):
    with receiving() as inbox:
        hands.github.admin.settings(deliver=True)
        config = {"url": inbox.url, "content_type": kind, "secret": KEY.reveal()}
        raw = []
        inbox.RequestHandlerClass = _raw_handler(raw)
        hook = hook_of(hands.post("/repos/acme/web/hooks", {"config": config, "events": ["push"]}))
        push(hands, commits=[{"message": "Füße\u2028"}])
        eventually(lambda: len(raw) == 2)
        headers, body = next(one for one in raw if one[0]["x-github-event"] == "push")
        sent = receiver.verify(headers, body, [OTHER, KEY], now=0.0)
        past = await _listed(api, hook)
    read = await receiver.fetch(api, hook, past)
    assert isinstance(sent, Delivery)
    assert (read.id, read.identity, read.body, read.type) == (sent.id, sent.identity, sent.body, sent.type)
    assert (read.occurred_at, read.problem, sent.problem) == (sent.occurred_at, "", "")
    assert dict(read.headers) == dict(sent.headers)
    assert "signature" not in " ".join(read.headers)


async def _listed(api, hook):
    for _ in range(200):
        result = [one for one in await missed(api, hook) if one.type == "push"]
        if result:
            return result[0]
    raise AssertionError("never listed")


def _raw_handler(kept):
    from tests.github.simulator import _Handler

    class Raw(_Handler):
        def do_POST(self):
            headers = {name.lower(): value for name, value in self.headers.items()}
            kept.append((headers, self.rfile.read(int(headers["content-length"]))))
            self.send_response(202)
            self.end_headers()

    return Raw


@pytest.mark.parametrize(
    "body",
    [
        {},
        [{}],
        [1],
        [{"id": "1", "guid": "g", "event": "push", "status_code": 200, "delivered_at": "2026-01-02T03:04:05Z"}],
        [{"id": 1, "guid": None, "event": "push", "status_code": 200, "delivered_at": "2026-01-02T03:04:05Z"}],
        [{"id": 1, "guid": "g", "event": "push", "status_code": 200, "delivered_at": "lately"}],
    ],
)
async def test_d15_a_list_of_another_shape_is_an_error_and_not_empty(api, github, body):
    github.admin.fault(path="/deliveries$", status=200, body=body)
    with pytest.raises(ProviderProtocolError):
        await missed(api, Hook(SOURCE, "github/repository-webhook", "acme/web", "1"))


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"guid": "other", "event": "push", "request": {"headers": {}, "payload": {}}},
        {"guid": "g", "event": None, "request": {"headers": {}, "payload": {}}},
        {"guid": "g", "event": "push", "request": {"headers": {}, "payload": None}},
        {"guid": "g", "event": "push", "request": None},
    ],
)
async def test_d15_a_delivery_of_another_shape_is_an_error(api, github, body):
    github.admin.fault(path="/deliveries/", status=200, body=body)
    past = PastDelivery("g", "5", "push", 0.0, arrived=False)
    with pytest.raises(ProviderProtocolError):
        await receiver.fetch(api, Hook(SOURCE, "github/repository-webhook", "acme/web", "1"), past)


@pytest.mark.parametrize("payload", ['{"after":"x"}', {"after": "x"}, "payload=%7B%22after%22%3A%22x%22%7D"])
async def test_a_payload_may_be_shown_as_text(api, github, payload):
    shown = {"guid": "g", "event": "push", "request": {"headers": None, "payload": payload}}
    github.admin.fault(path="/deliveries/", status=200, body=shown)
    past = PastDelivery("g", "5", "push", 0.0, arrived=False)
    result = await receiver.fetch(api, Hook(SOURCE, "github/repository-webhook", "acme/web", "1"), past)
    assert (result.id, result.type, result.body, result.problem) == ("g", "push", b'{"after":"x"}', "")
