"""Long queues, runs that cannot be ended, stages and statuses that fail: one of them is never the end of the others."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from msgspec import convert
from msgspec.structs import replace

from reconciler.drivers.github.executor import GitHubExecutor
from reconciler.events.requests import ApproveRequest, CancelRequest, EventRequest
from reconciler.manifests.kinds import EventSourceSpec
from reconciler.model.errors import PermissionDenied, ProviderUnavailable
from reconciler.model.executions import EndReason, Execution, ExecutionState, Item, ItemState, Result, Run, RunReport, RunStatus
from reconciler.model.resources import ResourceId
from reconciler.stages import poll as following
from reconciler.stages.items import item_id, snapshot_of
from reconciler.state import Store
from reconciler.state.claims import Capacity
from reconciler.state.executions import execution_row, save_version
from reconciler.state.queue import enqueue, set_item, x
from reconciler.state.reports import PendingReport, insert_reports
from tests.flow.inside import Inside, inside
from tests.flow.stage_world import WORKFLOW, StageWorld
from tests.flow.test_pure import stage_spec
from tests.support.postgres import Postgres


def stage(name: str = "s") -> ResourceId:
    return ResourceId("Stage", "default", name)


class Runs:
    """An executor whose run goes on until it is told otherwise."""

    type = "noop"
    needs_integration = False
    by_clock = False
    settle_s = 0.0
    poll_s = 1.0

    def __init__(self) -> None:
        self.started = 0
        self.asked = 0
        self.report = (RunStatus.RUNNING, None)
        self.refuse: Exception | None = None
        self.away: Exception | None = None

    async def start(self, api: Any, intent: Any) -> Run:
        self.started += 1
        return Run(f"run-{self.started}")

    async def find(self, api: Any, intent: Any) -> Run | None:
        return None

    async def poll(self, api: Any, intent: Any, run: Run) -> RunReport:
        if self.away is not None:
            raise self.away
        status, result = self.report
        return RunReport(run, status, result, "said")

    async def cancel(self, api: Any, intent: Any, run: Run) -> None:
        self.asked += 1
        if self.refuse is not None:
            raise self.refuse


@contextlib.asynccontextmanager
async def running(folder: Path, *parts: str) -> Any:
    """A stage with one execution under way, and what runs it."""
    async with inside(folder) as here:
        here.world.manual()
        here.world.stage("s", *parts, "executor: {type: noop}")
        await here.sync()
        runs = Runs()
        here.working.executors.executor = lambda _: runs  # type: ignore[method-assign]
        await here.trigger()
        await here.turn()
        assert (await here.executions("s"))[0].state is ExecutionState.RUNNING
        yield here, runs


async def test_a_run_that_may_not_be_ended_is_looked_at_all_the_same(tmp_path: Path) -> None:
    async with running(tmp_path) as (here, runs):
        runs.refuse = PermissionDenied("POST /cancel: not permitted (403)")
        execution = (await here.executions("s"))[0]
        await here.working.commands.cancel(CancelRequest(id=execution.id), "ada")
        await here.turn()
        assert "cannot be cancelled" in (await here.executions("s"))[0].message
        here.later(3)
        await here.turn()
        assert runs.asked == 1
        here.later(following.REFUSED_AGAIN_S)
        await here.turn()
        assert runs.asked == 2
        runs.report = (RunStatus.FINISHED, Result.PASSED)
        here.later(6)
        await here.turn()
        ended = (await here.executions("s"))[0]
        assert (ended.result, ended.why) == (Result.PASSED, EndReason.OK)


async def test_a_run_is_asked_to_end_once_a_minute(tmp_path: Path) -> None:
    async with running(tmp_path) as (here, runs):
        await here.working.commands.cancel(CancelRequest(id=(await here.executions("s"))[0].id), "ada")
        for _ in range(30):
            await here.turn(1)
            here.later(6)
        assert runs.asked in (2, 3, 4)


@pytest.mark.parametrize("away", [False, True])
async def test_nothing_is_tried_again_while_the_run_before_may_still_be_running(tmp_path: Path, away: bool) -> None:
    async with running(tmp_path, "timeout: 60s", "retry: {limit: 3, backoff: 1s}") as (here, runs):
        if away:
            runs.away = ProviderUnavailable("the provider failed (503)")
        for _ in range(6):
            here.later(following.CANCEL_GRACE_S / 2)
            await here.turn()
        found = await here.executions("s")
        assert [(one.result, one.why) for one in found] == [(Result.FAILED, EndReason.TIMED_OUT)]
        assert runs.started == 1
        assert (await here.items("s"))[0].state is ItemState.DONE


async def test_a_run_that_failed_is_tried_again(tmp_path: Path) -> None:
    async with running(tmp_path, "retry: {limit: 1, backoff: 1s}") as (here, runs):
        runs.report = (RunStatus.FINISHED, Result.FAILED)
        for _ in range(4):
            here.later(30)
            await here.turn()
        assert runs.started == 2


async def filled(here: Inside, count: int, mark: str = "e") -> list[str]:
    """Put ``count`` items into the queue of a stage, as it is declared now; returns their ids, oldest first."""
    digest, pin = snapshot_of(here.engine.current.active.resources[stage()])
    items = [
        Item(
            item_id(stage(), f"{mark}{number}"),
            stage(),
            f"{mark}{number}",
            "hand",
            ItemState.QUEUED,
            here.now + number * 1e-3,
            "revision",
            digest,
        )
        for number in range(count)
    ]

    def write() -> None:
        with here.store._write() as connection:
            enqueue(connection, items, {digest: pin}, (), here.now)

    await here.deps.store.run(write)
    return [one.id for one in items]


async def test_a_queue_that_outlives_a_commit_goes_on_however_long_it_is(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.manual()
        here.world.stage("s", "timeout: 1h", "executor: {type: noop}")
        await here.sync()
        old = await filled(here, 520)
        here.later(10)
        here.world.stage("s", "timeout: 2h", "executor: {type: noop}")
        await here.sync()
        new = await filled(here, 520, "n")
        await here.turn(1)
        assert [one.item_id for one in await here.executions("s")] == old[:1]
        assert not set(old) & set(new)


async def test_an_approved_item_starts_however_many_wait_before_it(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.manual()
        here.world.stage("s", "conditions: [{type: approval, approval: {count: 1}}]", "executor: {type: noop}")
        await here.sync()
        items = await filled(here, 620)
        await here.turn(1)
        await here.working.commands.approve(ApproveRequest(id=items[600]), "ada")
        await here.turn(1)
        assert [one.item_id for one in await here.executions("s")] == [items[600]]


async def test_of_a_long_queue_the_newest_is_the_newest(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.manual()
        here.world.stage("s", "queue: latest", "executor: {type: noop}")
        await here.sync()
        items = await filled(here, 620)
        await here.turn(3)
        assert [one.item_id for one in await here.executions("s")] == [items[-1]]
        assert await here.deps.store.stages_with_items() == []


async def test_one_stage_that_fails_keeps_no_other_from_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with inside(tmp_path) as here:
        here.world.manual()
        here.world.stage("a")
        here.world.stage("b")
        await here.sync()
        admit = here.working.stages._admit

        async def broken(one: ResourceId) -> Any:
            if one.name == "a":
                raise KeyError("conditions")
            return await admit(one)

        monkeypatch.setattr(here.working.stages, "_admit", broken)
        await here.trigger()
        await here.turn()
        assert len(await here.executions("b")) == 1
        assert (await here.items("a"))[0].state is ItemState.QUEUED


async def test_one_status_that_nobody_foresaw_keeps_no_other_from_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inside(tmp_path) as here:
        reports = here.working.stages._reports
        rows = [PendingReport(f"itm-{n}", "commit", "success", 3, n, {"integration": "Integration/default/x"}) for n in range(2)]

        def write() -> None:
            with here.store._write() as connection:
                insert_reports(connection, rows)

        await here.deps.store.run(write)
        sent: list[str] = []

        async def send(report: PendingReport, _hold: object) -> dict[str, str]:
            if report.item_id == "itm-0":
                raise KeyError("repository")
            sent.append(report.item_id)
            return {"target": "x"}

        monkeypatch.setattr(reports, "_send", send)
        assert await reports.send_due() == 2
        assert sent == ["itm-1"]
        assert [one.item_id for one in await here.deps.store.due_reports(here.now + 1e6, 10)] == ["itm-0"]


async def test_last_execution_is_found_behind_any_number_of_failures(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.manual()
        here.world.stage("s")
        await here.sync()
        items = await filled(here, 130)
        first: Item | None = await here.deps.store.item(items[0])
        assert first is not None

        def write() -> None:
            with here.store._write() as connection:
                set_item(connection, dataclasses.replace(first, inputs={"v": "1"}), ItemState.DONE)
                for number, one in enumerate(items):
                    result = Result.FAILED if number else Result.PASSED
                    ended = Execution(
                        f"rcl-{number}",
                        one,
                        stage(),
                        ExecutionState.FINISHED,
                        1.0,
                        "d",
                        "r",
                        finished_at=float(number + 1),
                        result=result,
                    )
                    connection.execute(x.insert().values(execution_row(ended)))

        await here.deps.store.run(write)
        assert await here.deps.store.last_inputs(stage(), ("passed",)) == {"v": "1"}
        assert await here.deps.store.last_inputs(stage(), ("cancelled",)) is None


async def test_a_source_that_asks_for_everything_gets_everything() -> None:
    from reconciler.events.filters import check_source

    events = [{"type": "*", "filters": [{"type": "data", "data": {"expression": "$.n == 1"}}]}]
    spec = convert({"events": events}, EventSourceSpec)
    assert check_source(spec, ("push",), {"n": 1}, {}).passes
    assert check_source(spec, ("push",), {"n": 2}, {}).reason == "filtered"


async def test_a_dry_run_reports_nothing() -> None:
    from reconciler.stages.statuses import targets

    origin = {"integration": "i", "repository": "acme/web", "sha": "a" * 40, "deployment": "1"}
    item = Item("itm-1", stage(), "e", "c", ItemState.QUEUED, 1.0, "r", "d", origin=origin)
    spec = stage_spec({"report": {"deploymentStatus": True, "commitStatus": {"context": "c"}}})
    assert len(targets(item, spec)) == 2
    assert targets(item, replace(spec, dry_run=True)) == {}


async def test_a_suspended_group_takes_no_part_of_a_set(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.manual()
        group = "connections: [{type: event-source, name: hand}]\n  groupBy: {fields: [{name: n, expression: $.n}]}"
        here.world.write("group.yaml", f"kind: ConnectionGroup\nmetadata: {{name: g}}\nspec:\n  {group}")
        here.world.stage("s", after="{type: connection-group, name: g}")
        await here.sync()
        suspension = {"resource": "ConnectionGroup/g", "reason": "not now"}
        from reconciler.engine.control import Control

        async def nothing(_: Any) -> None:
            return None

        engine = Control(here.engine, nothing)
        await engine.suspend(suspension, "ada")
        await here.engine.current.refresh_suspensions()
        event = await here.trigger(n=1)
        await here.turn(6)
        rejected = (await here.working.commands.event(EventRequest(id=event)))["rejectedBy"]
        assert [(one["target"], one["reason"]) for one in rejected] == [("ConnectionGroup/g", "suspended")]
        assert await here.executions("s") == []
        await engine.resume(suspension, "ada")
        await here.engine.current.refresh_suspensions()
        await here.trigger(n=1)
        await here.turn(6)
        assert len(await here.executions("s")) == 1


def test_d21_a_run_that_is_started_again_after_its_end_is_noted_and_starts_nothing_twice(world: StageWorld) -> None:
    world.source("web", events="[{type: workflow_run}]")
    world.manual()
    world.workflows("web", {**WORKFLOW, "result": "failure"})
    executor = "executor: {type: github, integration: {name: github}, resource: {type: repository, name: web}, "
    world.stage("ci", executor + "spec: {workflow: ci.yml, ref: main}}", "outputs: [{name: version}]")
    world.stage("after", after="{type: stage, name: ci}")
    world.ready()
    world.trigger()
    first = world.finished("ci")[0]
    assert (first["result"], first["runAttempt"]) == ("failed", 1)
    world.finished("after")
    world.workflows("web", {**WORKFLOW, "result": "success"})
    for number in (2, 3):
        world.github.do("rerun", repo="acme/web", run_id=int(first["externalId"]))
        world.wait(lambda n=number: world.executions("ci")[0].get("later", {}).get("attempt") == n, f"attempt {number} is noted")
    shown = world.details(first["id"])
    assert (shown["result"], shown["finishedAt"], shown["runAttempt"]) == ("failed", first["finishedAt"], 1)
    world.wait(world.quiet, "everything was looked at")
    assert len(world.executions("ci")) == len(world.executions("after")) == 1
    told = world.cli("executions", first["id"])
    assert "attempt 3 passed" in told.stdout, told.stdout
    assert world.log().count("execution_run_again") == 2
    assert "Traceback" not in world.log()


async def test_d21_what_is_known_of_a_run_is_not_looked_at_again(tmp_path: Path) -> None:
    async with running(tmp_path) as (here, runs):
        runs.report = (RunStatus.FINISHED, Result.PASSED)
        here.later(3)
        await here.turn()
        ended = (await here.executions("s"))[0]
        assert ended.state is ExecutionState.FINISHED
        ask = here.store.hint_again
        assert await here.deps.store.run(ask, "", "run-1", 1, here.now) == 0
        assert await here.deps.store.run(ask, "", "run-2", 2, here.now) == 0
        assert (await here.executions("s"))[0].next_at == 0.0
        # told of an attempt that the provider never shows: given up after a while, and the end stands
        assert await here.deps.store.run(ask, "", "run-1", 2, here.now) == 1
        await here.turn()
        again = (await here.executions("s"))[0]
        assert (again.later, again.result, again.next_at) == (None, Result.PASSED, 0.0)
        runs.away = ProviderUnavailable("the provider failed (503)")
        assert await here.deps.store.run(ask, "", "run-1", 2, here.now) == 1
        for _ in range(2 * following.LOOKS_AGAIN):
            await here.turn(1)
            here.later(900)
        assert (await here.executions("s"))[0].next_at == 0.0


@pytest.mark.parametrize(
    ("kind", "payload", "wanted"),
    [
        ("workflow_run", {"action": "completed", "workflow_run": {"id": 1, "run_attempt": 2}}, 2),
        ("workflow_run", {"action": "requested", "workflow_run": {"id": 1, "run_attempt": 2}}, 0),
        ("workflow_run", {"action": "completed", "workflow_run": {"id": 1, "run_attempt": True}}, 0),
        ("workflow_run", {"action": "completed", "workflow_run": []}, 0),
        ("workflow_job", {"action": "completed", "workflow_job": {"run_attempt": 2}}, 0),
        ("workflow_run", [], 0),
    ],
)
def test_d21_an_event_tells_which_attempt_ended(kind: str, payload: Any, wanted: int) -> None:
    assert GitHubExecutor().attempt_of(kind, payload) == wanted


async def test_who_gives_credentials_out_may_be_away_for_a_moment(tmp_path: Path) -> None:
    async with inside(tmp_path) as here:
        here.world.manual()
        here.world.stage("s")
        await here.sync()
        reach, away = here.working.executors.api, [True]

        async def api(*arguments: Any) -> Any:
            if away[0]:
                raise ProviderUnavailable("the token service does not answer")
            return await reach(*arguments)

        here.working.executors.api = api  # type: ignore[method-assign]
        await here.trigger()
        await here.turn()
        waiting = (await here.executions("s"))[0]
        assert (waiting.state, waiting.status) == (ExecutionState.STARTING, "waiting")
        away[0] = False
        here.later(60)
        await here.turn()
        assert (await here.executions("s"))[0].result is Result.PASSED


async def test_stages_of_one_name_in_two_canvases_are_two_series(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from reconciler.engine.view import EventStatus
    from reconciler.server.metrics import Metrics

    async with inside(tmp_path) as here:
        rows = tuple({"name": "s", "canvas": canvas, "queue": 1, "running": 0} for canvas in ("default", "other"))
        here.engine.current.view.outside = EventStatus({}, {}, {}, rows, 0)
        metrics = Metrics(here.engine.current)
        ended: Any = SimpleNamespace(
            stage=ResourceId("Stage", "other", "s"), result=Result.PASSED, why=None, finished_at=2.0, created_at=1.0
        )
        metrics.observe_execution(ended)
        lines = metrics.render().decode().splitlines()
    queues = [line for line in lines if line.startswith("reconciler_stage_queued_items{")]
    assert queues == ['reconciler_stage_queued_items{stage="s"} 1.0', 'reconciler_stage_queued_items{stage="s@other"} 1.0']
    assert 'reconciler_executions_total{result="passed",stage="s@other"} 1.0' in lines


def test_a_branch_that_was_deleted_has_no_commit() -> None:
    from reconciler.stages.provenance import origin_of

    payload = {"ref": "refs/heads/x", "after": "0" * 40, "repository": {"full_name": "acme/web"}}
    assert origin_of("i", "push", payload) == {"integration": "i", "repository": "acme/web", "deleted": "refs/heads/x"}


async def test_d21_asking_to_look_again_loses_nothing_that_is_written_meanwhile(tmp_path: Path, postgres: Postgres) -> None:
    """The row is held while it is asked for: what another process writes comes before or after, never under it."""
    store = Store.open(postgres.database(), state_dir=tmp_path, create=True)
    ended = Execution(
        "rcl-1",
        "itm-1",
        stage(),
        ExecutionState.FINISHED,
        1.0,
        "d",
        "r",
        integration="i",
        finished_at=1.0,
        run=Run("7"),
        version=1,
    )
    with store._write() as connection:
        connection.execute(x.insert().values(execution_row(ended)))
    with store._write() as connection:
        save_version(connection, dataclasses.replace(ended, message="written"))
        asking = asyncio.create_task(asyncio.to_thread(store.hint_again, "i", "7", 2, 5.0))
        await asyncio.sleep(0.5)
        assert not asking.done()
    assert await asking == 1
    found = store.execution("rcl-1")
    assert found is not None
    assert (found.version, found.message, found.next_at) == (2, "written", 5.0)
    (claim,) = store.claim_work("me", Capacity(0, 9)).claims
    assert (claim.key, claim.number) == ("rcl-1", 2)
    store.close()
