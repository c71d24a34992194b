"""What `reconciler.drivers.base.Receiver` promises: events as the simulators send them over HTTP, or fail to."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Collection
from typing import Any

import pytest

from reconciler.drivers.base import Receiver
from reconciler.model.errors import NotFound
from reconciler.model.events import Delivery, Hook, PastDelivery, Refusal, Rejection
from reconciler.model.resources import Resource
from reconciler.model.secrets import SecretValue
from reconciler.sandbox.server import SandboxServer
from tests.contract.provider import Provider
from tests.support.driving import OWNER, World
from tests.support.receiving import Receiver as Listener
from tests.support.receiving import eventually

GARBAGE = (b"", b"{", b"null", b"[]", b"{}", b"\xff\xfe", b'"text"', b"[" * 5_000, b'{"secret_key": 1}', b"0" * 10_000)


@dataclasses.dataclass
class Subject:
    """One receiver, and a source that is connected to the listener."""

    world: World
    server: SandboxServer
    provider: Provider
    listener: Listener
    name: str
    since: float

    @property
    def receiver(self) -> Receiver:
        return self.provider.receivers[self.name]

    @property
    def source(self) -> Resource:
        assert self.provider.source is not None
        return self.provider.source

    @property
    def hooks(self) -> list[Hook]:
        rows = self.world.records.values()
        return [Hook(self.source.id, row.scope.type, row.scope.key, row.external_id) for row in rows]

    @property
    def key(self) -> SecretValue:
        derived = self.world.keyring.signing_key(OWNER, self.source.id.uid(OWNER), 0)
        return self.provider.key(self.name, derived)

    @property
    def other_key(self) -> SecretValue:
        return self.provider.key(self.name, self.world.keyring.signing_key(OWNER, "0" * 20, 0))  # type: ignore[arg-type]

    def deliver(self) -> tuple[dict[str, str], bytes]:
        return self.provider.delivered(self.server, self.listener, self.name, self.key)

    def verify(self, headers: dict[str, str], body: bytes, *keys: SecretValue, later_s: float = 0.0) -> Delivery | Rejection:
        return self.receiver.verify(headers, body, keys or (self.key,), now=time.time() + later_s)

    def accept(self, headers: dict[str, str], body: bytes, *keys: SecretValue) -> Delivery:
        delivery = self.verify(headers, body, *keys)
        assert isinstance(delivery, Delivery)
        return delivery

    async def missed(self) -> tuple[PastDelivery, ...]:
        rows = await self.receiver.missed(self.world.api, self.source, self.hooks, self.since)
        return tuple(row for row in rows if row.type != "ping")


@pytest.fixture
async def subject(world: World, server: SandboxServer, provider: Provider, receiver_name: str, receiver: Listener) -> Subject:
    world.public_url = receiver.url.partition("/in")[0]
    assert provider.source is not None
    if provider.managed:
        await world.settle(provider.source)
    return Subject(world, server, provider, receiver, receiver_name, time.time() - 2)


async def test_a_delivery_is_proved_by_its_key(subject: Subject) -> None:
    headers, body = subject.deliver()
    delivery = subject.accept(headers, body)
    assert (delivery.key, delivery.problem) == (0, "")
    assert delivery.id
    assert delivery.type
    assert subject.key.reveal() not in repr(delivery)


async def test_e13_both_keys_of_a_rotation_are_taken_and_the_one_that_fits_is_named(subject: Subject) -> None:
    headers, body = subject.deliver()
    key, other = subject.key, subject.other_key
    assert [subject.accept(headers, body, *keys).key for keys in ((key, other), (other, key), (key, key))] == [0, 1, 0]


async def test_e1_another_key_proves_nothing(subject: Subject) -> None:
    headers, body = subject.deliver()
    rejection = subject.verify(headers, body, subject.other_key)
    assert isinstance(rejection, Rejection)
    assert rejection.reason is Refusal.WRONG


async def test_e1_a_forged_delivery_is_wrong(subject: Subject) -> None:
    headers, body = subject.provider.altered(*subject.deliver())
    rejection = subject.verify(headers, body)
    assert isinstance(rejection, Rejection)
    assert rejection.reason is Refusal.WRONG
    assert subject.key.reveal() not in repr(rejection)


async def test_e1_a_delivery_without_a_proof_is_unsigned(subject: Subject) -> None:
    headers, body = subject.provider.unproved(*subject.deliver())
    rejection = subject.verify(headers, body)
    assert isinstance(rejection, Rejection)
    assert rejection.reason is Refusal.UNSIGNED


async def test_e3_an_old_delivery_is_stale_or_the_event_that_it_was(subject: Subject) -> None:
    headers, body = subject.deliver()
    first, again = subject.accept(headers, body), subject.verify(headers, body, later_s=86_400.0)
    if isinstance(again, Rejection):
        assert again.reason is Refusal.STALE
    else:
        assert (again.id, again.identity) == (first.id, first.identity)


@pytest.mark.parametrize("body", GARBAGE)
async def test_e10_garbage_is_never_an_error_and_never_believed(subject: Subject, body: bytes) -> None:
    headers, _ = subject.deliver()
    lists = ({}, headers, dict.fromkeys(headers, "\u00e9\x00"), dict.fromkeys(headers, ""), dict.fromkeys(headers, "9" * 400))
    for sent in lists:
        assert isinstance(subject.verify(sent, body), Rejection)


@pytest.mark.needs("missed")
async def test_e11_events_that_did_not_arrive_are_listed_and_read(subject: Subject) -> None:
    headers, body = subject.deliver()
    arrived = subject.accept(headers, body)
    subject.server.admin.settings(drop_deliveries=1.0)
    subject.provider.happen(subject.server)
    rows = await subject.missed()
    assert len(rows) == 2
    assert [row.at for row in rows] == sorted(row.at for row in rows)
    read = [await subject.receiver.fetch(subject.world.api, _hook(subject), row) for row in rows]
    assert len({delivery.identity or delivery.id for delivery in read}) == 2
    assert arrived.identity in {delivery.identity for delivery in read}
    assert {delivery.type for delivery in read} == {arrived.type}
    assert subject.key.reveal() not in repr(read)


@pytest.mark.needs("missed")
async def test_d22_an_event_that_is_read_tells_what_its_webhook_told(subject: Subject) -> None:
    headers, body = subject.deliver()
    sent = subject.accept(headers, body)
    (row,) = await subject.missed()
    read = await subject.receiver.fetch(subject.world.api, _hook(subject), row)
    assert read.identity == sent.identity
    assert_tells(json.loads(sent.body), json.loads(read.body), subject.provider.told_once)


@pytest.mark.needs("missed")
async def test_e11_missed_events_are_found_on_every_page(subject: Subject) -> None:
    subject.server.admin.settings(page_size=2)
    for _ in range(5):
        subject.provider.happen(subject.server)
    rows = await subject.missed()
    assert len({row.id for row in rows}) == len(rows) == 5


@pytest.mark.needs("missed")
async def test_what_is_older_than_asked_for_was_not_missed(subject: Subject) -> None:
    subject.provider.happen(subject.server)
    assert len(await subject.missed()) == 1
    assert await subject.receiver.missed(subject.world.api, subject.source, subject.hooks, time.time() + 60) == ()


@pytest.mark.needs("missed")
async def test_e11_a_missed_delivery_is_sent_again_where_the_provider_keeps_it(subject: Subject) -> None:
    subject.server.admin.settings(drop_deliveries=1.0)
    subject.provider.happen(subject.server)
    (row,) = await subject.missed()
    assert not row.arrived
    subject.server.admin.settings(drop_deliveries=0.0, deliver=True)
    subject.listener.got.clear()
    again = await subject.receiver.redeliver(subject.world.api, _hook(subject), row)
    assert again is subject.receiver.keeps_deliveries
    if again:
        _, headers, body = eventually(lambda: subject.listener.got)[0]
        assert subject.accept(headers, body).id == row.id
        assert [item.arrived for item in await subject.missed()] == [True]


async def test_what_a_provider_does_not_keep_is_never_missed_or_sent_again(subject: Subject) -> None:
    if "missed" not in subject.provider.lacks:
        pytest.skip("the provider tells what happened")
    past = PastDelivery("a", "a", "x", 0.0, arrived=False)
    hook = Hook(subject.source.id, "", "", "")
    assert await subject.receiver.missed(subject.world.api, subject.source, [], 0.0) == ()
    assert not await subject.receiver.redeliver(subject.world.api, hook, past)


@pytest.mark.needs("missed")
async def test_an_event_that_is_gone_is_not_found(subject: Subject) -> None:
    subject.provider.happen(subject.server)
    (row,) = await subject.missed()
    subject.server.admin.fault(method="GET", times=0, status=404, body={"message": "Not Found"})
    with pytest.raises(NotFound):
        await subject.receiver.fetch(subject.world.api, _hook(subject), row)


async def test_the_proof_stands_where_the_receiver_says(subject: Subject) -> None:
    headers, body = subject.deliver()
    changed: Any = subject.verify(headers, body[:-1] + b" }")
    assert isinstance(changed, Rejection) is subject.receiver.signs_body


def assert_tells(sent: Any, read: Any, told_once: Collection[str], at: str = "") -> None:
    """``read`` has every key of ``sent``, and the same value or null, except what a webhook alone tells."""
    if isinstance(sent, dict) and isinstance(read, dict):
        assert set(sent) - set(told_once) <= set(read), at
        for key in set(sent) - set(told_once):
            assert_tells(sent[key], read[key], told_once, f"{at}/{key}")
    elif isinstance(sent, list) and isinstance(read, list):
        for number, (one, other) in enumerate(zip(sent, read, strict=True)):
            assert_tells(one, other, told_once, f"{at}/{number}")
    else:
        assert read is None or read == sent, at


def _hook(subject: Subject) -> Hook:
    return subject.hooks[-1]
