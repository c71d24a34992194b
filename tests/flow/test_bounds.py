"""Expressions over events are bounded in time and memory, off the loop; an event that overruns is put aside, and the rest goes on."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from reconciler.engine.evaluator import Evaluator, EvaluatorFailed
from reconciler.events.dispatcher import MOST_ATTEMPTS
from reconciler.events.evaluation import EventEvaluator
from reconciler.events.requests import EventListRequest, ReplayRequest
from tests.flow.inside import Inside, inside
from tests.flow.stage_world import StageWorld
from tests.flow.test_nasty import delivered, states

OWN = "{type: event-source, name: own}"
SLOW = "{type: payload, payload: {msg: '((x{0,10}){0,10}){0,9}y'}}"
LARGE = "{type: data, data: {expression: 'size($.l.map(a, $.s + $.s)) > 0'}}"
SLOW_BODY = orjson.dumps({"msg": "x" * (4 << 20)})
LARGE_BODY = orjson.dumps({"l": list(range(4_000)), "s": "s" * (1 << 20)})


def filtered(one: str, source: str = "own") -> str:
    return f"{{type: event-source, name: {source}, filters: [{one}]}}"


def workers_of(pid: int) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(stat[1]) == pid and b"reconciler.events.worker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


async def until_quiet(here: Inside, turns: int = 12) -> None:
    for _ in range(turns):
        await here.turn(1)


@pytest.mark.parametrize(("filter_", "body"), [(SLOW, SLOW_BODY), (LARGE, LARGE_BODY)], ids=["time", "memory"])
async def test_n4_an_event_that_overruns_is_quarantined_and_its_other_stage_and_all_others_go_on(
    tmp_path: Path, filter_: str, body: bytes
) -> None:
    async with inside(tmp_path) as here:
        for name in ("own", "other"):
            here.world.webhook(name)
        here.world.stage("poisoned", after=filtered(filter_))
        here.world.stage("plain", after=OWN)
        here.world.stage("elsewhere", after="{type: event-source, name: other}")
        await here.sync()
        assert await delivered(here, "own", b'{"l": [], "s": "", "msg": "y"}', {"x-delivery-id": "before"}) == 202
        assert await delivered(here, "own", body, {"x-delivery-id": "poison"}) == 202
        assert await delivered(here, "other", b"{}", {"x-delivery-id": "after"}) == 202
        await here.turn(1)
        assert len(await here.executions("elsewhere")) == 1  # the first turn: nobody else waits for the second attempt
        await until_quiet(here)
        listed = (await here.working.commands.events(EventListRequest(state="quarantined")))["events"]
        assert [(one["deliveryId"], one["reason"]) for one in listed] == [("poison", "overrun")]
        assert [(one["target"], one["reason"]) for one in listed[0]["rejectedBy"]] == [("Stage/poisoned", "overrun")]
        assert len(await here.executions("plain")) == 2
        assert here.working._evaluator.overruns <= MOST_ATTEMPTS
        outside = await here.engine.read_event_status(None)
        assert (outside.quarantined, outside.pending) == (1, 0)


async def test_n4_many_poisoned_events_of_one_source_cost_the_others_one_attempt(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        for name in ("own", "other"):
            here.world.webhook(name)
        here.world.stage("poisoned", after=filtered(SLOW))
        here.world.stage("elsewhere", after="{type: event-source, name: other}")
        await here.sync()
        for number in range(20):
            assert await delivered(here, "own", SLOW_BODY, {"x-delivery-id": f"poison-{number}"}) == 202
        for number in range(20):
            assert await delivered(here, "other", b"{}", {"x-delivery-id": str(number)}) == 202
        while await here.deps.store.pending_events(1):  # a batch is bounded by bytes
            await here.working.dispatcher.turn()
        assert len(await here.items("elsewhere")) == 20
        assert here.working._evaluator.overruns <= 6


async def test_n4_a_filter_of_the_source_itself_that_overruns_quarantines_the_event(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.webhook(more=f"  events: [{{type: '*', filters: [{SLOW}]}}]")
        here.world.stage("plain", after=OWN)
        await here.sync()
        assert await delivered(here, "own", SLOW_BODY) == 202
        await until_quiet(here, 5)
        assert await states(here) == [("quarantined", "overrun")]
        assert not await here.items("plain")


async def test_n4_what_became_of_an_event_before_the_worker_died_is_not_repeated(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.webhook()
        here.world.stage("plain", after=OWN)
        here.world.stage("poisoned", after=filtered(LARGE))
        await here.sync()
        for number in range(5):
            assert await delivered(here, "own", b'{"l": [], "s": ""}', {"x-delivery-id": f"good-{number}"}) == 202
        assert await delivered(here, "own", LARGE_BODY, {"x-delivery-id": "poison"}) == 202
        await until_quiet(here)
        assert len(await here.executions("plain")) == 6
        identity = (await here.working.commands.events(EventListRequest(state="quarantined")))["events"][0]["id"]
        await here.working.commands.replay(ReplayRequest(id=identity), "ada")
        await until_quiet(here)
        assert len(await here.executions("plain")) == 6
        assert [state for state, _ in await states(here)].count("quarantined") == 1


@pytest.mark.parametrize("left", range(1, MOST_ATTEMPTS + 1))
async def test_n4_an_event_that_took_the_process_down_is_known_by_its_count(tmp_path: Path, left: int) -> None:
    async with inside(tmp_path) as here:
        here.world.webhook()
        here.world.stage("plain", after=OWN)
        await here.sync()
        for number in range(3):
            assert await delivered(here, "own", b"{}", {"x-delivery-id": str(number)}) == 202
        first = (await here.deps.store.pending_events(1))[0][0]
        await here.deps.store.begin_attempts({first.id: left}, "test")  # what a life that ended at it leaves
        here.restarted()
        await until_quiet(here, 4)
        quarantined = left >= MOST_ATTEMPTS
        assert [one for one, _ in await states(here)].count("quarantined") == quarantined
        assert len(await here.items("plain")) == 3 - quarantined


async def test_n4_attempts_that_the_database_broke_off_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reconciler.model.errors import StateError

    async with inside(tmp_path) as here:
        here.world.webhook()
        here.world.stage("plain", after=OWN)
        await here.sync()
        assert await delivered(here, "own", b"{}") == 202

        def away(*_: Any) -> int:
            raise StateError("the database does not answer", code="RC7007")

        for _ in range(MOST_ATTEMPTS + 2):
            with monkeypatch.context() as patch:
                patch.setattr(here.store, "settle_events", away)
                with pytest.raises(StateError):
                    await here.working.dispatcher.turn()
        await here.turn()
        assert await states(here) == [("processed", "")]


async def test_n4_a_worker_that_cannot_be_started_makes_events_wait_and_blames_none(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.webhook()
        here.world.stage("plain", after=OWN)
        await here.sync()
        assert await delivered(here, "own", b"{}") == 202
        good = here.working._evaluator._module
        here.working._evaluator._module = "reconciler.no_such_module"
        for _ in range(MOST_ATTEMPTS + 2):
            with pytest.raises(EvaluatorFailed):
                await here.working.dispatcher.turn()
        here.working._evaluator._module = good
        await here.turn()
        assert await states(here) == [("processed", "")]


async def test_n4_conditions_of_a_poll_are_bounded_too() -> None:
    evaluator = Evaluator("reconciler.events.worker")
    try:
        evaluation = EventEvaluator(evaluator)
        assert await evaluation.holds("$.a == 1", {"a": 1})
        with pytest.raises(ValueError, match="processor time"):
            await evaluation.holds("$.msg.matches('((x{0,10}){0,10}){0,9}y')", orjson.loads(SLOW_BODY))
        with pytest.raises(ValueError, match=r"memory|ended"):
            await evaluation.holds("size($.l.map(a, $.s + $.s)) > 0", orjson.loads(LARGE_BODY))
        with pytest.raises(ValueError, match="b"):
            await evaluation.holds("$.b == 1", {})
        assert not await evaluation.holds("$.a == 2", {"a": 1})
    finally:
        evaluator.close()


# the program itself


@pytest.fixture
def world(tmp_path: Path) -> Iterator[StageWorld]:
    made = StageWorld(tmp_path, ())
    yield made
    made.close()


def test_n4_the_daemon_answers_and_ends_while_an_expression_runs(world: StageWorld) -> None:
    world.webhook()
    world.webhook("other")
    world.stage("poisoned", after=filtered(SLOW))
    world.stage("plain", after="{type: event-source, name: other}")
    world.ready()
    assert world.send("own", SLOW_BODY, delivery="poison") == 202
    pid = world.processes[-1].pid
    [worker] = world.wait(lambda: workers_of(pid), "the worker runs")
    with contextlib.suppress(PermissionError):  # it is not dumpable: only root may look
        assert b"SECRET" not in Path(f"/proc/{worker}/environ").read_bytes()
    assert world.send("other", b"{}", delivery="good") == 202
    world.wait(lambda: world.executions("plain"), "the other event was handed on")
    world.wait(lambda: [one["state"] for one in world.events(source="EventSource/own")] == ["quarantined"], "it was put aside")
    world.wait(lambda: world.status()["events"]["quarantined"] == 1, "the status shows it")
    assert "1 quarantined" in world.cli("status").stdout
    assert "poisoned" in world.cli("events", "--state", "quarantined").stdout
    assert '"event": "event_quarantined"' in world.log() or '"event":"event_quarantined"' in world.log()
    assert world.send("own", SLOW_BODY, delivery="again") == 202
    world.wait(lambda: workers_of(pid), "the worker runs")
    world.stop()
    assert not workers_of(pid)


def test_n4_the_worker_ends_with_a_daemon_that_is_killed(world: StageWorld) -> None:
    world.webhook()
    world.stage("poisoned", after=filtered(SLOW))
    world.ready()
    assert world.send("own", SLOW_BODY, delivery="poison") == 202
    pid = world.processes[-1].pid
    [worker] = world.wait(lambda: workers_of(pid), "the worker runs")
    world.kill()
    world.wait(
        lambda: not Path(f"/proc/{worker}/cmdline").exists() or not Path(f"/proc/{worker}/cmdline").read_bytes(), "it ended"
    )
    world.ready()
    world.wait(lambda: [one["state"] for one in world.events(source="EventSource/own")] == ["quarantined"], "it was put aside")


def test_n4_a_daemon_with_little_memory_survives_what_needs_much(world: StageWorld) -> None:
    world.webhook()
    world.stage("poisoned", after=filtered(LARGE))
    world.stage("plain", after=OWN)
    world.ready()
    resource.prlimit(world.processes[-1].pid, resource.RLIMIT_DATA, (1 << 30, 1 << 30))
    assert world.send("own", LARGE_BODY, delivery="poison") == 202
    assert world.send("own", b'{"l": [], "s": ""}', delivery="good") == 202
    world.wait(
        lambda: sorted(one["state"] for one in world.events(source="EventSource/own")) == ["processed", "quarantined"],
        "one is put aside",
    )
    world.wait(lambda: len(world.executions("plain")) == 2, "the other stage got both")
    assert world.processes[-1].poll() is None
