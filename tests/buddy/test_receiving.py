"""Webhooks of Buddy: what proves one, what one becomes without its key, and how missed ones are found among the executions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.drivers.buddy.api import epoch_of
from reconciler.drivers.buddy.driver import driver
from reconciler.model.errors import NotFound, PermissionDenied, ProviderProtocolError, ValidationFailed
from reconciler.model.events import Delivery, Refusal, Rejection
from reconciler.model.resources import Resource
from reconciler.model.secrets import SecretValue
from reconciler.sandbox.buddy.answers import iso
from reconciler.sandbox.buddy.app import TOKEN
from reconciler.sandbox.server import SandboxServer
from tests.buddy.runs import Runs, action
from tests.support.driving import World, resource

KEY, OTHER = SecretValue("k3y-of-this-source"), SecretValue("k3y-of-before")
FINISH = "2026-01-02T03:04:05.678Z"
FINISHED_AT = 1_767_323_045.678
receiver = driver.receiver
assert receiver is not None


def payload(status: str = "SUCCESSFUL", **execution: Any) -> dict[str, Any]:
    shown = {"id": 7, "status": status, "start_date": "2026-01-02T03:00:00Z", "finish_date": FINISH, **execution}
    return {
        "secret_key": KEY.reveal(),
        "workspace": {"domain": "acme"},
        "invoker": {"name": "Ada"},
        "project": {"name": "web"},
        "current_date": "2026-01-02T03:04:06Z",
        "execution": shown,
    }


def push() -> dict[str, Any]:
    return {**payload(), "execution": None, "commits": [{"revision": "abc"}], "ref": "refs/heads/main"}


def body_of(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def verify(body: Any, *keys: SecretValue, **headers: str) -> Delivery | Rejection:
    return receiver.verify({k.replace("_", "-"): v for k, v in headers.items()}, body_of(body), keys or (KEY,), now=0.0)


def delivered(*args: Any, **options: Any) -> Delivery:
    result = verify(*args, **options)
    assert isinstance(result, Delivery), result
    return result


# ---- proof


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"[]", b"null", b"\xff", b"[" * 100_000, {}, {"execution": {"secret_key": KEY.reveal()}}]
    + [{**payload(), "secret_key": one} for one in (None, "", 7, [KEY.reveal()], {"a": KEY.reveal()})],
)
def test_E1_a_body_without_a_key_is_unsigned(body: Any) -> None:
    result = verify(body)
    assert isinstance(result, Rejection)
    assert result.reason is Refusal.UNSIGNED


@pytest.mark.parametrize(
    "sent", ["wrong", KEY.reveal()[:-1], KEY.reveal() + " ", KEY.reveal().upper(), "ключ", KEY.reveal()[:-1] + "é"]
)
def test_E1_another_key_is_wrong_and_no_error(sent: str) -> None:
    assert verify({**payload(), "secret_key": sent}) == Rejection(Refusal.WRONG)


def test_E1_a_header_proves_nothing() -> None:
    unsigned = {k: v for k, v in payload().items() if k != "secret_key"}
    result = verify(unsigned, x_hub_signature_256="sha256=" + "0" * 64, x_secret_key=KEY.reveal())
    assert isinstance(result, Rejection)


# ---- the key goes no further


def test_the_key_is_nowhere_in_what_is_stored() -> None:
    leaky = payload(comment=f"run with {KEY.reveal()}", secret_key="nested")
    leaky["invoker"] = [{"secret_key": 1, KEY.reveal(): [KEY.reveal()]}]
    result = delivered(leaky, user_agent="Buddy", authorization="x")
    assert KEY.reveal() not in result.body.decode()
    assert b"secret_key" not in result.body
    assert KEY.reveal() not in repr(result)
    assert result.headers == {"user-agent": "Buddy"}
    assert json.loads(result.body)["execution"]["id"] == 7


def test_the_key_is_not_stored_either_where_the_payload_cannot_be_read() -> None:
    deep: Any = KEY.reveal()
    for _ in range(200):
        deep = [deep]
    for body in ({**payload(), "more": deep}, {"secret_key": KEY.reveal()}):
        result = delivered(body)
        assert result.problem
        assert KEY.reveal() not in result.body.decode()
        assert result.id.startswith("sha256:")


# ---- what it becomes


@pytest.mark.parametrize(
    ("status", "types"),
    [
        ("SUCCESSFUL", ("EXECUTION_FINISHED", "EXECUTION_SUCCESSFUL")),
        ("FAILED", ("EXECUTION_FINISHED", "EXECUTION_FAILED")),
        ("TERMINATED", ("EXECUTION_FINISHED",)),
        ("SKIPPED", ("EXECUTION_FINISHED",)),
        ("", ("EXECUTION_FINISHED",)),
        ("INPROGRESS", ("EXECUTION_STARTED",)),
        ("ENQUEUED", ("EXECUTION_STARTED",)),
        ("WAITING_FOR_APPLY", ("EXECUTION_STARTED",)),
    ],
)
def test_an_event_has_the_names_that_fit_what_happened(status: str, types: tuple[str, ...]) -> None:
    result = delivered(payload(status))
    assert (result.type, *result.also) == types


def test_a_payload_that_names_its_event_is_believed() -> None:
    named = delivered({**payload("FAILED"), "event": "execution_failed"})
    assert (named.type, named.also) == ("EXECUTION_FAILED", ("EXECUTION_FINISHED",))
    assert named.identity == delivered(payload("FAILED")).identity
    assert delivered({**payload("SUCCESSFUL"), "event": "EXECUTION_STARTED"}).type == "EXECUTION_STARTED"
    assert delivered({**payload(), "event": "other"}).type == "EXECUTION_FINISHED"


def test_an_execution_is_identified_by_its_number_its_phase_and_its_time() -> None:
    result = delivered(payload())
    assert result.id == result.identity == "execution:7:finished:1767323045"
    assert result.occurred_at == FINISHED_AT
    started = delivered(payload("INPROGRESS", finish_date=None))
    assert started.identity == "execution:7:started:1767322800"


def test_E3_the_same_occasion_is_one_event_and_a_retry_that_ends_again_is_another() -> None:
    again = {**payload(), "current_date": "2026-01-02T04:00:00Z"}
    assert delivered(again).identity == delivered(payload()).identity
    assert delivered(payload(finish_date="2026-01-02T05:00:00Z")).identity != delivered(payload()).identity


def test_a_push_is_known_by_its_body_alone() -> None:
    result = delivered(push())
    assert (result.type, result.also, result.occurred_at) == ("PUSH", (), 1_767_323_046.0)
    assert result.id == result.identity == "sha256:" + hashlib.sha256(result.body).hexdigest()
    rotated = delivered({**push(), "secret_key": OTHER.reveal()}, OTHER)
    assert rotated.id == result.id


@pytest.mark.parametrize(
    "execution", [[], "x", 7, {}, {"id": None}, {"id": True}, {"id": "seven"}, {"id": "7" * 30}, {"id": [7]}]
)
def test_E10_an_execution_of_another_shape_is_a_problem_and_no_error(execution: Any) -> None:
    result = delivered({**payload(), "execution": execution})
    assert result.problem
    assert result.type == "unknown"


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "status", "x", "finish_date"]), inner),
        max_leaves=8,
    )
)
def test_E10_nothing_that_a_sender_can_send_raises(junk: Any) -> None:
    for body in (junk, {**payload(), "execution": junk}, {**payload(), "current_date": junk, "event": junk}):
        result = verify(body)
        if isinstance(result, Delivery):
            assert 0 < len(result.id) <= 200


@pytest.mark.parametrize(
    ("value", "epoch"),
    [
        ("2016-03-29T08:05:30.33Z", 1_459_238_730.33),
        ("2016-03-29T08:05:30Z", 1_459_238_730.0),
        ("2016-03-29T08:05:30", 1_459_238_730.0),
        ("2016-03-29T10:05:30+02:00", 1_459_238_730.0),
        ("", None),
        ("soon", None),
        (7, None),
    ],
)
def test_times_are_read_as_utc(value: Any, epoch: float | None) -> None:
    assert epoch_of(value) == epoch


# ---- missed ones, over HTTP

SINCE = 1_767_000_000.0
ALL = ("EXECUTION_STARTED", "EXECUTION_SUCCESSFUL", "EXECUTION_FAILED", "EXECUTION_FINISHED", "PUSH")


@pytest.fixture
def server() -> Iterator[SandboxServer]:
    with SandboxServer(Runs()) as running:
        yield running


@pytest.fixture
def app(server: SandboxServer) -> Runs:
    return server.app


def source(*events: str, **target: Any) -> Resource:
    spec = {"resource": target or {"type": "project", "name": "web"}, "events": [{"type": row} for row in events]}
    return resource("EventSource", "runs", spec)


def ended(
    app: Runs, status: str = "SUCCESSFUL", *, at: float = SINCE + 60, began: float | None = None, **place: Any
) -> dict[str, Any]:
    execution = app.start(at=at - 30 if began is None else began, **place)
    app.finish(execution, status, at=at)
    return execution


@pytest.mark.parametrize("counted", [True, False])
async def test_E11_every_execution_that_ended_meanwhile_is_found_on_all_pages_oldest_first(
    world: World, app: Runs, counted: bool
) -> None:
    app.counted_pages = counted
    ended(app, at=SINCE - 90_000)  # long ago
    long = ended(app, at=SINCE + 1, began=SINCE - 80_000)
    ended(app, at=SINCE - 1)
    rows = [ended(app, "FAILED", at=SINCE + 10 + n, pipeline=21 + n % 2) for n in range(9)]
    app.start(at=SINCE + 50)  # goes on
    ended(app, project="payments", pipeline=11)

    result = await receiver.missed(world.api, source(), (), SINCE)
    assert [row.ref.rpartition("/")[2] for row in result] == [str(row["id"]) for row in (long, *rows)]
    assert {(row.type, row.arrived) for row in result} == {("EXECUTION_FINISHED", False)}
    assert [row.at for row in result] == sorted(row.at for row in result)


async def test_a_list_is_read_no_further_than_it_is_new(world: World, server: SandboxServer, app: Runs) -> None:
    for n in range(30):
        ended(app, at=SINCE - 200_000 + n)
    await receiver.missed(world.api, source(), (), SINCE)
    assert len(server.admin.requests(path="21/executions")) == 1


async def test_a_list_in_another_order_than_promised_is_read_to_its_end(world: World, app: Runs) -> None:
    for n in range(9):
        ended(app, at=SINCE + 1_000 - n * 100_000)
    assert len(await receiver.missed(world.api, source(), (), SINCE)) == 1
    for rows in app.executions.values():
        for number, row in enumerate(reversed(rows)):
            row["id"] = number + 1
    assert len(await receiver.missed(world.api, source(), (), SINCE)) == 1


@pytest.mark.parametrize(
    ("wanted", "types"),
    [
        (("EXECUTION_FAILED",), {("EXECUTION_FAILED",)}),
        (("EXECUTION_SUCCESSFUL",), {("EXECUTION_SUCCESSFUL",)}),
        (("EXECUTION_FINISHED",), {("EXECUTION_FINISHED",)}),
        (("EXECUTION_STARTED",), {("EXECUTION_STARTED",)}),
        (
            ALL,
            {
                ("EXECUTION_FINISHED", "EXECUTION_SUCCESSFUL"),
                ("EXECUTION_FINISHED", "EXECUTION_FAILED"),
                ("EXECUTION_FINISHED",),
                ("EXECUTION_STARTED",),
            },
        ),
        (("PUSH",), set()),
    ],
)
async def test_only_what_a_source_asks_for_was_missed_and_each_occasion_once(
    world: World, app: Runs, wanted: tuple[str, ...], types: set[tuple[str, ...]]
) -> None:
    for status in ("SUCCESSFUL", "FAILED", "TERMINATED"):
        ended(app, status)
    result = await receiver.missed(world.api, source(*wanted), (), SINCE)
    assert {(row.type, *row.detail["also"]) for row in result} == types
    assert len({row.id for row in result}) == len(result)


async def test_D22_an_event_that_was_polled_is_the_one_that_was_delivered(world: World, app: Runs) -> None:
    execution = ended(app, "FAILED", at=FINISHED_AT, comment="by hand", actions=[action("Build", log=["canary"])])
    (past,) = await receiver.missed(world.api, source("EXECUTION_FINISHED", "EXECUTION_FAILED"), (), SINCE)
    event = await receiver.fetch(world.api, None, past)
    webhook = delivered(payload("FAILED", id=execution["id"], start_date=iso(execution["start"])))

    assert (event.id, event.identity) == (past.id, past.id) == (webhook.id, webhook.identity)
    assert (event.type, event.also, event.occurred_at) == (webhook.type, webhook.also, webhook.occurred_at)
    body, sent = json.loads(event.body), json.loads(webhook.body)
    assert set(sent) <= set(body)
    assert sent["execution"].items() <= body["execution"].items()
    assert (body["workspace"]["domain"], body["project"]["name"], body["invoker"]) == ("acme", "web", {"name": "Ada"})
    assert body["execution"]["pipeline"] == {"id": 21, "name": "deploy"}
    assert (body["execution"]["comment"], body["current_date"]) == ("by hand", FINISH)
    assert b"canary" not in event.body


async def test_a_retry_that_ends_again_is_another_event(world: World, app: Runs) -> None:
    execution = ended(app, "FAILED")
    (first,) = await receiver.missed(world.api, source(), (), SINCE)
    app.finish(execution, "FAILED", at=SINCE + 600)
    (second,) = await receiver.missed(world.api, source(), (), SINCE)
    assert first.id != second.id


async def test_a_workspace_source_hears_all_projects_and_a_pattern_those_it_finds(world: World, app: Runs) -> None:
    ended(app)
    ended(app, project="payments", pipeline=11)
    assert len(await receiver.missed(world.api, source(type="workspace"), (), SINCE)) == 2
    assert len(await receiver.missed(world.api, source(type="workspace", name="acme"), (), SINCE)) == 2
    (row,) = await receiver.missed(world.api, source(type="project", match="pay*"), (), SINCE)
    assert row.detail["project"] == "payments"
    with pytest.raises(ValidationFailed, match="matches 'no-"):
        await receiver.missed(world.api, source(type="project", match="no-*"), (), SINCE)


async def test_what_cannot_be_read_is_an_error_and_not_nothing_missed(world: World, server: SandboxServer, app: Runs) -> None:
    app.state["tokens"][TOKEN]["scopes"].remove("EXECUTION_INFO")
    with pytest.raises(PermissionDenied) as caught:
        await receiver.missed(world.api, source(), (), SINCE)
    assert "EXECUTION_INFO" in caught.value.hint
    app.state["tokens"][TOKEN]["scopes"].append("EXECUTION_INFO")
    server.admin.fault(path="executions", status=200, body={"executions": [{}]})
    with pytest.raises(ProviderProtocolError):
        await receiver.missed(world.api, source(), (), SINCE)


async def test_n57_a_project_that_is_listed_and_gone_does_not_end_the_look_for_what_was_missed(
    world: World, server: SandboxServer, app: Runs
) -> None:
    server.admin.fault(path="/projects/payments/pipelines$", status=404, body={"errors": [{"message": "gone"}]}, times=0)
    assert await receiver.missed(world.api, source(type="workspace", name="acme"), (), SINCE) == ()
    with pytest.raises(NotFound):
        await receiver.missed(world.api, source(type="project", name="payments"), (), SINCE)
