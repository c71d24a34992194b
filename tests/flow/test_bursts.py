"""Bursts of deliveries: they are let in before they are handed on, and neither waits for the other for ever."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from reconciler.events import dispatcher
from reconciler.events import group_commit as writer
from reconciler.events.dispatcher import Dispatcher
from reconciler.events.group_commit import CROWD, Writer
from reconciler.state.inbox import Stored


def waiting(under_load: Any) -> Dispatcher:
    return Dispatcher(
        SimpleNamespace(),
        SimpleNamespace(),
        holder="test",
        on_queued=lambda: None,
        on_trouble=lambda: None,
        beat=lambda: None,
        under_load=under_load,
    )  # type: ignore[arg-type]


async def test_without_a_burst_nothing_is_held() -> None:
    asked = iter([False])
    await waiting(lambda: next(asked))._wait_for_burst()
    assert next(asked, None) is None


async def test_handing_on_waits_for_the_end_of_a_burst() -> None:
    answers = iter([True, True, True, True, False, False])
    await waiting(lambda: next(answers))._wait_for_burst()
    assert next(answers, None) is None


async def test_a_burst_without_end_is_held_so_long_and_then_has_to_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "HOLD_S", 0.2)
    loop, one = asyncio.get_running_loop(), waiting(lambda: True)
    began = loop.time()
    await one._wait_for_burst()
    held = loop.time() - began
    await one._wait_for_burst()  # as much time is left for handing on: not held again
    assert held >= 0.2
    assert loop.time() - began - held < 0.1
    await asyncio.sleep(0.2)
    began = loop.time()
    await one._wait_for_burst()
    assert loop.time() - began >= 0.2


async def test_a_burst_is_many_deliveries_at_once_and_is_over_soon_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "CROWD_S", 0.3)

    async def add_events(arrivals: list[Any]) -> list[Stored]:
        return [Stored(True, "x") for _ in arrivals]

    one = Writer(SimpleNamespace(store=SimpleNamespace(add_events=add_events)))  # type: ignore[arg-type]
    arrival: Any = SimpleNamespace(body=b"")
    for _ in range(CROWD - 1):
        await one.store(arrival)
    assert not one.under_load
    await one.store(arrival)
    assert one.under_load
    await asyncio.sleep(0.35)
    assert not one.under_load
