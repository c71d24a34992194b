"""What depends on time, with a clock that is turned by hand: connection groups, schedules, windows, retries, timeouts."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from reconciler.model.executions import EndReason, ItemState, Result
from tests.flow.inside import Inside, inside
from tests.flow.stage_world import NOOP

GROUP = """
kind: ConnectionGroup
metadata: {{name: {name}}}
spec:
  connections: [{{type: event-source, name: api}}, {{type: event-source, name: web}}]
  groupBy: {{fields: [{{name: version, expression: $.version}}]}}
  {more}
"""


async def payloads(here: Inside, group: str) -> list[dict]:
    found = await here.deps.store.events(source=f"ConnectionGroup/default/{group}", limit=100)
    bodies = [(await here.deps.store.event(one.id))[1] for one in found]
    return [orjson.loads(body) for body in reversed(bodies)]


async def test_a_connection_group_fires_for_a_full_set_and_treats_an_incomplete_one_as_it_says(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.manual("api")
        here.world.manual("web")
        for name, more in (
            ("patient", ""),
            ("dropping", "timeout: 60s\n  timeoutBehavior: drop"),
            ("emitting", "timeout: 60s\n  timeoutBehavior: emit"),
        ):
            here.world.write(f"group-{name}.yaml", GROUP.format(name=name, more=more))
            here.world.stage(f"after-{name}", NOOP, after=f"{{type: connection-group, name: {name}}}")
        await here.sync()
        await here.trigger("api", version="1", n=1)
        await here.trigger("web", version="2", n=2)
        await here.turn()
        assert [len(await here.executions(f"after-{one}")) for one in ("patient", "dropping", "emitting")] == [0, 0, 0]
        await here.trigger("web", version="1", n=3)
        await here.turn()
        assert [len(await here.executions(f"after-{one}")) for one in ("patient", "dropping", "emitting")] == [1, 1, 1]
        whole = (await payloads(here, "patient"))[0]
        assert {name: event["n"] for name, event in whole["events"].items()} == {"api": 1, "web": 3}
        assert whole["fields"] == {"version": "1"}

        here.later(61)
        await here.turn()
        assert [len(await here.executions(f"after-{one}")) for one in ("patient", "dropping", "emitting")] == [1, 1, 2]
        part = (await payloads(here, "emitting"))[1]
        assert {name: event["n"] for name, event in part["events"].items()} == {"web": 2}

        await here.trigger("api", version="2", n=4)  # late: patient has waited, dropping and emitting begin anew
        await here.turn()
        assert [len(await here.executions(f"after-{one}")) for one in ("patient", "dropping", "emitting")] == [2, 1, 2]
        await here.trigger("web", version="2", n=5)
        await here.turn()
        assert [len(await here.executions(f"after-{one}")) for one in ("patient", "dropping", "emitting")] == [2, 2, 3]


async def test_a_schedule_fires_each_slot_once_over_restarts_and_makes_up_for_the_newest_missed_one(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.write(
            "clock.yaml", "kind: EventSource\nmetadata: {name: clock}\nspec: {type: schedule, schedule: {cron: '*/10 * * * *'}}"
        )
        here.world.stage("tick", NOOP, after="{type: event-source, name: clock}")
        await here.sync()
        await here.turn()
        assert await here.executions("tick") == []  # what was due before it was declared is not made up for
        here.later(600)
        await here.turn()
        here.restarted()
        await here.turn()
        assert len(await here.executions("tick")) == 1
        here.later(2400)
        here.restarted()
        await here.turn()
        assert len(await here.executions("tick")) == 2
        body = (await here.deps.store.event((await here.items("tick"))[-1].event_id))[1]
        assert orjson.loads(body)["missed"] == 3
        here.later(86_400)
        here.restarted()
        await here.turn()
        assert len(await here.executions("tick")) == 3
        here.later(-3600)  # a clock that is set back fires nothing twice
        await here.turn()
        here.later(3600)
        await here.turn()
        assert len(await here.executions("tick")) == 3


async def test_a_schedule_of_a_suspended_source_passes_its_slots_over(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        spec = "{type: schedule, schedule: {cron: '*/10 * * * *'}%s}"
        text = f"kind: EventSource\nmetadata: {{name: clock}}\nspec: {spec}"
        here.world.write("clock.yaml", text % ", lifecycle: {suspend: true}")
        here.world.stage("tick", NOOP, after="{type: event-source, name: clock}")
        await here.sync()
        await here.turn()
        here.later(1200)
        await here.turn()
        here.world.write("clock.yaml", text % "")
        await here.sync()
        await here.turn()
        assert await here.executions("tick") == []
        here.later(600)
        await here.turn()
        assert len(await here.executions("tick")) == 1


async def test_a_time_window_opens_and_lets_what_waited_run(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.manual()
        days = "[monday, tuesday, wednesday, thursday, friday, saturday, sunday]"
        here.world.stage(
            "night",
            f"conditions: [{{type: time-window, timeWindow: {{start: '02:00', end: '03:00', weekDays: {days}}}}}]",
            NOOP,
        )
        await here.sync()
        here.later(-(here.now % 86_400) + 3 * 3600)  # 03:00: it has just closed
        await here.trigger()
        await here.turn()
        item = (await here.items("night"))[0]
        assert (item.state, item.reason) == (ItemState.QUEUED, "time-window")
        assert item.message.endswith("02:00 UTC")
        here.later(23 * 3600 + 60)
        await here.turn()
        assert [one.result for one in await here.executions("night")] == [Result.PASSED]


async def test_a14_a_window_that_closed_while_the_process_stood_still_lets_nothing_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inside(tmp_path) as here:
        here.world.manual()
        days = "[monday, tuesday, wednesday, thursday, friday, saturday, sunday]"
        window = f"{{start: '02:00', end: '03:00', weekDays: {days}}}"
        here.world.stage("deploy", f"conditions: [{{type: time-window, timeWindow: {window}}}]", NOOP)
        here.later(-(here.now % 86_400) + 2.5 * 3600)
        await here.sync()
        await here.trigger()
        admit = here.store.admit

        def late(*arguments: Any) -> Any:
            here.later(3600)
            return admit(*arguments)

        monkeypatch.setattr(here.store, "admit", late)
        await here.turn(1)
        assert [one.reason for one in await here.items("deploy")] == ["time-window"]
        assert await here.executions("deploy") == []


async def test_what_cannot_be_reached_is_tried_until_its_time_is_over_and_retried_by_policy(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.manual()
        executor = f"executor: {{type: http, spec: {{method: PUT, url: 'http://127.0.0.1:{here.world.port}/x'}}}}"
        here.world.stage("once", "timeout: 1m", executor)
        here.world.stage("again", "timeout: 1m", "retry: {limit: 1, backoff: 5m}", executor)
        await here.sync()
        await here.trigger()
        await here.turn(1)
        for _ in range(12):
            here.later(10)
            await here.turn(1)
        once = (await here.executions("once"))[0]
        assert (once.result, once.why) == (Result.FAILED, EndReason.TIMED_OUT)
        item = (await here.items("again"))[0]
        assert (item.state, item.reason, item.attempt) == (ItemState.QUEUED, "retry", 2)
        assert item.message.startswith("attempt 2 begins ")
        here.later(300)
        for _ in range(12):
            await here.turn(1)
            here.later(10)
        assert [one.why for one in await here.executions("again")] == [EndReason.TIMED_OUT] * 2
        assert (await here.items("again"))[0].state is ItemState.DONE
