"""The stream: one look for all, every client hears of a change, and a client that left costs nothing."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from reconciler.model.errors import StateError
from reconciler.server.dashboard.live import MAX_CLIENTS, MAX_SHARED, SPACING_S, Broadcaster, SharedPages, TooManyClients
from tests.cli.staged import payload
from tests.dashboard.watched import Watched, form_of

CLIENTS = 200


class _World:
    def __init__(self) -> None:
        self.state: object = 0
        self.looks = 0
        self.broken = False

    async def look(self) -> object:
        self.looks += 1
        if self.broken:
            raise StateError("locked")
        return self.state


async def test_every_client_hears_of_a_change_and_nobody_of_none() -> None:
    world = _World()
    caster = Broadcaster(world.look, look_s=0.01)
    streams = [caster.stream() for _ in range(CLIENTS)]
    for stream in streams:
        assert (await anext(stream)).startswith(b"retry:")
    await asyncio.sleep(0.05)
    looks = world.looks
    assert looks < 20  # not once for each client
    world.state = 1
    for stream in streams:
        assert b"event: change" in await asyncio.wait_for(anext(stream), 1)
    late = asyncio.ensure_future(anext(streams[0]))
    await asyncio.sleep(0.05)
    assert not late.done()
    late.cancel()
    await asyncio.gather(late, return_exceptions=True)
    await caster.close()


async def test_the_last_client_ends_the_looking_and_a_new_one_begins_it_again() -> None:
    world = _World()
    caster = Broadcaster(world.look, look_s=0.01)
    first = caster.stream()
    await anext(first)
    await first.aclose()
    assert caster.clients == 0
    await asyncio.sleep(0.03)
    looks = world.looks
    await asyncio.sleep(0.05)
    assert world.looks == looks
    second = caster.stream()
    await anext(second)
    world.state = 2
    await asyncio.sleep(0.03)
    world.state = 3
    assert b"change" in await asyncio.wait_for(anext(second), 1)
    await caster.close()


async def test_a_state_that_cannot_be_read_is_read_again_later() -> None:
    world = _World()
    caster = Broadcaster(world.look, look_s=0.01)
    stream = caster.stream()
    await anext(stream)
    world.broken = True
    await asyncio.sleep(0.03)
    world.broken, world.state = False, 7
    assert b"change" in await asyncio.wait_for(anext(stream), 1)
    await caster.close()


async def test_streams_are_bounded_and_end_with_the_daemon() -> None:
    caster = Broadcaster(_World().look)
    streams = [caster.stream() for _ in range(MAX_CLIENTS)]
    for stream in streams:
        assert (await anext(stream)).startswith(b"retry:")
    with pytest.raises(TooManyClients):
        caster.stream()
    following = asyncio.ensure_future(anext(streams[0]))
    await asyncio.sleep(0)
    await caster.close()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(following, 1)
    with pytest.raises(TooManyClients):
        caster.stream()


async def test_a_change_reaches_two_hundred_followers_of_the_daemon(watched: Watched) -> None:
    with watched.browser_of("viewer") as login:
        cookies = {cookie.name: cookie.value or "" for cookie in login.cookies.jar}
    limits = httpx.Limits(max_connections=CLIENTS)
    heard: list[float] = []
    ready = asyncio.Semaphore(0)

    async def follow(client: httpx.AsyncClient) -> None:
        async with client.stream("GET", "/live") as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for line in answer.aiter_lines():
                if line.startswith("retry"):
                    ready.release()
                if line.startswith("event: change"):
                    heard.append(time.monotonic())
                    return

    async with httpx.AsyncClient(base_url=watched.url, cookies=cookies, limits=limits, timeout=60, trust_env=False) as client:
        tasks = [asyncio.create_task(follow(client)) for _ in range(CLIENTS)]
        for _ in range(CLIENTS):
            await ready.acquire()
        began = time.monotonic()
        await asyncio.to_thread(watched.cli, "trigger", "hand", "--payload", payload("quick"))
        await asyncio.wait_for(asyncio.gather(*tasks), 30)
    assert len(heard) == CLIENTS
    print(f"trigger to the last of {CLIENTS}: {max(heard) - began:.2f} s")


def test_a_stream_needs_a_login(watched: Watched) -> None:
    with watched.browser_of() as client:
        assert client.get("/live").status_code == 401
        assert client.get("/executions/x/log/stream").status_code in {303, 401}


def test_a_page_after_a_change_is_rendered_once_and_everybody_gets_their_own_form(watched: Watched) -> None:
    place = "/resources/EventSource/default/one"
    with (
        watched.browser_of("operator") as first,
        watched.browser_of("operator") as second,
        watched.browser_of("viewer") as viewer,
    ):
        with first.stream("GET", "/live") as stream:  # changes are counted while somebody looks
            lines = stream.iter_lines()
            watched.cli("trigger", "hand", "--payload", payload("nothing"))
            assert next(line for line in lines if line == "event: change")
            number = next(line for line in lines if line.startswith("data:"))[5:].strip()
        change = {"reconciler-change": number}
        pages = [client.get(place, headers=change).text for client in (first, second, viewer)]
        tokens = [form_of(client.get("/").text) for client in (first, second, viewer)]
    for page, own, others in zip(pages, tokens, ((1, 2), (0, 2), (0, 1)), strict=True):
        assert own in page
        assert not any(tokens[other] in page for other in others)
    assert pages[0].replace(tokens[0], "") == pages[1].replace(tokens[1], "")
    assert "Reconcile now</button>" in pages[0]
    assert "Reconcile now</button>" not in pages[2]


async def test_a_shared_page_is_rendered_once_for_a_change_and_its_errors_are_not_kept() -> None:
    shared, rendered = SharedPages(), []

    async def render() -> str:
        await asyncio.sleep(0)
        rendered.append(len(rendered))
        if len(rendered) == 1:
            raise StateError("locked")
        return f"page {len(rendered)}"

    with pytest.raises(StateError):
        await shared.page(1, "/", render)
    assert await asyncio.gather(*(shared.page(1, "/", render) for _ in range(5))) == ["page 2"] * 5
    assert await shared.page(1, "/other", render) == "page 3"
    assert await shared.page(2, "/", render) == "page 4"
    for number in range(MAX_SHARED + 5):
        await shared.page(2, number, render)
    assert await shared.page(2, "one more", render) != await shared.page(2, "one more", render)  # the memory is bounded


async def test_many_clients_are_told_of_lasting_changes_less_often() -> None:
    world = _World()
    caster = Broadcaster(world.look, look_s=0.01)
    streams = [caster.stream() for _ in range(20)]
    for stream in streams:
        await anext(stream)
    await asyncio.sleep(0.05)
    began = time.monotonic()
    for state in range(1, 4):
        world.state = state
        assert b"change" in await asyncio.wait_for(anext(streams[0]), 5)
    assert time.monotonic() - began >= 2 * 20 * SPACING_S * 0.9
    await caster.close()
