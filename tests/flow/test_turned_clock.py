"""A clock that goes two hours ahead and is set right again: nothing stays silent until real time has caught up."""

import dataclasses
from pathlib import Path

import pytest

from reconciler.model.executions import ExecutionState
from reconciler.model.records import BudgetState, Retry
from reconciler.state import clock_shift
from tests.flow.inside import Inside, inside
from tests.flow.stage_world import NOOP
from tests.http.test_client import answering
from tests.http.world import serve

pytestmark = pytest.mark.fault
HOURS = 7200.0


def schedule(here: Inside) -> None:
    here.world.write(
        "source-tick.yaml",
        'kind: EventSource\nmetadata: {name: tick}\nspec: {type: schedule, schedule: {cron: "*/10 * * * *"}}',
    )
    here.world.stage("after", NOOP, after="{type: event-source, name: tick}")


@pytest.mark.parametrize("restart", [False, True])
async def test_n30_a_schedule_fires_at_its_next_time_after_the_clock_was_two_hours_ahead(tmp_path: Path, restart: bool) -> None:
    async with inside(tmp_path) as here:
        schedule(here)
        await here.sync()
        await here.turn()
        here.later(600)
        await here.turn()
        assert len(await here.executions("after")) == 1
        here.later(HOURS)
        await here.turn()
        ahead = len(await here.executions("after"))
        here.later(-HOURS)
        if restart:
            here.restarted()
        await here.turn()
        assert len(await here.executions("after")) == ahead
        for fired in (1, 2, 3):
            here.later(600)
            await here.turn()
            assert len(await here.executions("after")) == ahead + fired


async def test_n30_what_waits_for_its_next_try_waits_no_longer_than_it_would_have(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        await here.sync()
        await here.turn()
        here.later(HOURS)
        await here.turn()
        ahead = here.now
        await here.deps.store.save_retries([Retry("a", 3, ahead + 30, "d")], [])
        state = BudgetState("c", ahead + 60, "told", (ahead,), {"resetAt": int(ahead) + 60})
        await here.deps.store.save_budget(state)
        lease = await here.deps.store.acquire_lease("slice/x", "dead", 60.0)
        assert lease is not None
        here.later(-HOURS)
        await here.turn()
        retry = (await here.deps.store.retries())[0]
        assert 0 <= retry.next_at - here.now <= 45
        assert retry == dataclasses.replace(Retry("a", 3, 0.0, "d"), next_at=retry.next_at)
        kept = await here.deps.store.load_budget("c")
        assert 0 <= kept.blocked_until - here.now <= 75
        assert 0 <= kept.rate["resetAt"] - here.now <= 75
        assert max(kept.recent) <= here.now
        here.later(80)
        assert await here.deps.store.acquire_lease("slice/x", "alive", 60.0) is not None


async def test_n30_a_retry_of_a_stage_comes_in_its_time(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.manual()
        here.world.stage(
            "poll",
            "retry: {limit: 3, backoff: 30s}\nexecutor: {type: http, spec: {url: 'http://127.0.0.1:1/', method: POST}}\ntimeout: 5s",
        )
        await here.sync()
        here.later(HOURS)
        await here.trigger()
        await here.turn()
        here.later(20)
        await here.turn()
        waiting = (await here.items("poll"))[0]
        assert waiting.not_before > here.now
        here.later(-HOURS)
        await here.turn()
        pulled = (await here.items("poll"))[0]
        assert here.now <= pulled.not_before <= here.now + 45


async def test_n30_the_clock_is_looked_at_without_a_write_each_time(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        store = here.store
        assert store.look_at_clock(1_000.0) == 0.0
        assert store.look_at_clock(1_009.0) == 0.0
        assert store.get_meta("clock.seen") == "1000.0"
        assert store.look_at_clock(1_011.0) == 0.0
        assert store.get_meta("clock.seen") == "1011.0"
        assert store.look_at_clock(1_008.0) == 0.0
        assert store.look_at_clock(900.0) == 108.0
        assert store.look_at_clock(900.5) == 0.0


async def test_n30_a_clock_that_is_set_forward_takes_no_time_from_what_is_under_way(tmp_path: Path) -> None:
    async with inside(tmp_path) as here, serve(answering((200, {}, {}), (200, {}, {"done": False}))) as server:
        here.world.manual()
        poll = f"poll: {{url: '{server.url}/s', successWhen: $.done, interval: 1s}}"
        here.world.stage("wait", f"timeout: 10m\nexecutor: {{type: http, spec: {{url: '{server.url}/', {poll}}}}}")
        await here.sync()
        await here.trigger()
        await here.turn()
        [begun] = await here.executions("wait")
        assert begun.state is ExecutionState.RUNNING
        here.set_clock(HOURS)
        await here.turn()
        [spared] = await here.executions("wait")
        assert (spared.timed_out, spared.cancel_at) == (False, 0.0)
        assert spared.started_at == pytest.approx(begun.started_at + HOURS, abs=1)
        here.later(300)
        await here.turn()
        assert not (await here.executions("wait"))[0].timed_out
        here.later(400)
        await here.turn()
        assert (await here.executions("wait"))[0].timed_out


async def test_n30_a_clock_that_is_set_forward_is_noted_by_one_process_only(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        given: list[float] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(clock_shift, "_give_time", lambda _connection, _now, ahead_s: given.append(ahead_s))
            one, other = here.store, type(here.store)(here.store._engine, here.deps.config.state_dir)
            steady = [0.0]
            for store in (one, other):
                store._steady = lambda: steady[0]
                store.look_at_clock(1_000.0)
            steady[0] = 5.0
            for store in (one, other):
                store.look_at_clock(8_205.0)
            assert given == [7_200.0]
            steady[0] = 100_005.0
            one.look_at_clock(108_205.0)  # time passed, or the machine slept: nothing was set
            assert given == [7_200.0]
