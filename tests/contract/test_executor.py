"""What `reconciler.drivers.base.Executor` promises, over HTTP and for every executor."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from reconciler.drivers.base import Executor
from reconciler.model.errors import NotFound, OutcomeUnknown, PermissionDenied, ValidationFailed
from reconciler.model.executions import Result, Run, RunIntent, RunReport, RunStatus
from reconciler.sandbox.server import SandboxServer
from tests.contract.provider import LINES, LONG_S, Provider, shown
from tests.support.driving import World, ended, resource


@dataclasses.dataclass
class Subject:
    """One executor at work."""

    world: World
    server: SandboxServer
    provider: Provider
    name: str

    @property
    def executor(self) -> Executor:
        return self.world.driver.executors[self.name]

    def intent(self, correlation: str = "rcl-" + "7" * 28, **changes: Any) -> RunIntent:
        return self.provider.intent(self.server, self.name, correlation, **changes)

    async def start(self, intent: RunIntent) -> Run:
        run = await self.executor.start(self.world.api, intent) or await self.executor.find(self.world.api, intent)
        assert run is not None
        return run

    async def end(self, intent: RunIntent, run: Run) -> RunReport:
        return await ended(self.executor, self.world, intent, run)

    async def all_lines(self, intent: RunIntent, run: Run) -> tuple[tuple[str, ...], str]:
        """Return the whole log, read piece by piece, and the cursor after it."""
        lines: tuple[str, ...] = ()
        cursor = ""
        for _ in range(200):
            piece = await self.executor.logs(self.world.api, intent, run, cursor)
            lines, cursor = lines + piece.lines, piece.cursor
            if piece.complete:
                return lines, cursor
            await asyncio.sleep(0.05)
        raise AssertionError("the log was never complete")


@pytest.fixture
def subject(world: World, server: SandboxServer, provider: Provider, executor_name: str) -> Subject:
    return Subject(world, server, provider, executor_name)


async def test_a_run_is_started_once_and_passes(subject: Subject) -> None:
    subject.provider.last(subject.server, 0.1)
    intent = subject.intent()
    run = await subject.start(intent)
    report = await subject.end(intent, run)
    assert (report.status, report.result) == (RunStatus.FINISHED, Result.PASSED)
    assert report.run.external_id == run.external_id
    assert report.conclusion
    if subject.name != "noop":
        assert subject.provider.runs(subject.server) == 1


@pytest.mark.needs("fail")
async def test_a_run_that_fails_says_so(subject: Subject) -> None:
    subject.provider.fail(subject.server)
    subject.provider.last(subject.server, 0.1)
    intent = subject.intent()
    report = await subject.end(intent, await subject.start(intent))
    assert (report.status, report.result) == (RunStatus.FINISHED, Result.FAILED)


@pytest.mark.needs("find")
async def test_a_run_that_goes_on_has_no_result(subject: Subject) -> None:
    subject.provider.last(subject.server, LONG_S)
    intent = subject.intent()
    report = await subject.executor.poll(subject.world.api, intent, await subject.start(intent))
    assert report.status in {RunStatus.QUEUED, RunStatus.RUNNING}
    assert report.result is None


@pytest.mark.parametrize("fault", [{"effect": "reset"}, {"effect": "truncate"}, {"status": 502, "body": "<html>"}])
@pytest.mark.needs("find")
async def test_a5_a_start_whose_answer_is_lost_is_found_and_not_doubled(subject: Subject, fault: dict[str, Any]) -> None:
    subject.provider.last(subject.server, 0.1)
    intent = subject.intent()
    subject.server.admin.fault(method="POST", commit=True, **fault)
    try:
        run = await subject.executor.start(subject.world.api, intent)
        assert run is None  # an answer without a body has nothing that could be cut off
    except OutcomeUnknown:
        pass
    assert len(subject.server.admin.requests(method="POST")) == 1
    found = await subject.executor.find(subject.world.api, intent)
    assert found is not None
    assert (await subject.end(intent, found)).result is Result.PASSED
    assert subject.provider.runs(subject.server) == 1


@pytest.mark.needs("find")
async def test_a5_a_start_that_never_arrived_is_not_found_and_may_be_repeated(subject: Subject) -> None:
    intent = subject.intent()
    subject.server.admin.fault(method="POST", effect="reset")
    with pytest.raises(OutcomeUnknown):
        await subject.executor.start(subject.world.api, intent)
    assert len(subject.server.admin.requests(method="POST")) == 1
    assert await subject.executor.find(subject.world.api, intent) is None
    await subject.start(intent)
    assert subject.provider.runs(subject.server) == 1


@pytest.mark.needs("restart")
async def test_a_start_that_was_lost_is_never_sent_twice_by_itself(subject: Subject) -> None:
    subject.server.admin.fault(method="POST", effect="reset", commit=True)
    with pytest.raises(OutcomeUnknown):
        await subject.executor.start(subject.world.api, subject.intent())
    assert subject.provider.runs(subject.server) == 1


@pytest.mark.needs("find")
async def test_a_run_is_found_by_its_correlation_behind_pages_of_others(subject: Subject) -> None:
    subject.provider.last(subject.server, LONG_S)
    intent = subject.intent()
    run = await subject.start(intent)
    others = {(await subject.start(subject.intent(f"rcl-{number:028}"))).external_id for number in range(5)}
    assert len(others | {run.external_id}) == 6
    subject.server.admin.settings(page_size=2)
    found = await subject.executor.find(subject.world.api, intent)
    assert found is not None
    assert found.external_id == run.external_id
    assert await subject.executor.find(subject.world.api, subject.intent("rcl-" + "8" * 28)) is None


@pytest.mark.needs("cancel")
async def test_a_cancelled_run_ends_as_cancelled_and_twice_is_success(subject: Subject) -> None:
    subject.provider.last(subject.server, LONG_S)
    intent = subject.intent()
    run = await subject.start(intent)
    await subject.executor.cancel(subject.world.api, intent, run)
    report = await subject.end(intent, run)
    assert report.result is Result.CANCELLED
    await subject.executor.cancel(subject.world.api, intent, report.run)


async def test_a_run_that_has_ended_is_cancelled_with_success_and_keeps_its_result(subject: Subject) -> None:
    subject.provider.last(subject.server, 0.1)
    intent = subject.intent()
    report = await subject.end(intent, await subject.start(intent))
    await subject.executor.cancel(subject.world.api, intent, report.run)
    assert (await subject.end(intent, report.run)).result is Result.PASSED


@pytest.mark.needs("lose")
async def test_d21_a_run_that_vanished_is_not_found(subject: Subject) -> None:
    subject.provider.last(subject.server, LONG_S)
    intent = subject.intent()
    run = await subject.start(intent)
    subject.provider.lose(subject.server, run)
    with pytest.raises(NotFound):
        await subject.executor.poll(subject.world.api, intent, run)


@pytest.mark.needs("logs")
async def test_each_line_of_a_log_is_read_once(subject: Subject) -> None:
    subject.provider.last(subject.server, 1.0)
    intent = subject.intent()
    run = await subject.start(intent)
    lines, cursor = await subject.all_lines(intent, run)
    report = await subject.end(intent, run)
    assert (await subject.executor.logs(subject.world.api, intent, report.run, "")).lines == lines
    if subject.provider.token:
        assert [line.split()[-1] for line in lines if line.endswith(LINES)] == list(LINES)
    after = await subject.executor.logs(subject.world.api, intent, report.run, cursor)
    assert (after.lines, after.complete) == ((), True)


@pytest.mark.parametrize("cursor", ["x", "-1", "9" * 30, '{"a": 1}'])
async def test_an_invalid_cursor_is_no_error(subject: Subject, cursor: str) -> None:
    subject.provider.last(subject.server, 0.1)
    intent = subject.intent()
    report = await subject.end(intent, await subject.start(intent))
    assert (await subject.executor.logs(subject.world.api, intent, report.run, cursor)).complete


@pytest.mark.needs("rights")
async def test_d2_a_start_without_the_right_names_the_right_and_starts_nothing(subject: Subject) -> None:
    subject.server.admin.put_state(subject.provider.patch(subject.provider.read_only))
    with pytest.raises((PermissionDenied, NotFound)) as caught:
        await subject.executor.start(subject.world.api, subject.intent())
    assert subject.provider.rights[subject.name] in shown(caught.value)
    assert subject.provider.runs(subject.server) == 0


@pytest.mark.needs("unknown")
async def test_what_is_not_there_is_refused_and_nothing_is_started(subject: Subject) -> None:
    with pytest.raises((NotFound, ValidationFailed)):
        await subject.executor.start(subject.world.api, subject.intent(resource="nowhere"))
    assert subject.provider.runs(subject.server) == 0


async def test_a_payload_that_is_about_no_run_is_about_none(subject: Subject) -> None:
    for payload in (None, [], "text", {}, {"workflow_run": 1}, {"pipeline": []}, {"execution": {"id": None}}):
        for event in ("workflow_run", "pipeline_done", "EXECUTION_FINISHED", "x"):
            assert subject.executor.run_id_of(event, payload) == ""
            assert subject.executor.attempt_of(event, payload) == 0


async def test_the_permissions_that_a_run_needs_are_named_and_are_needs_of_its_stage(subject: Subject) -> None:
    row = subject.provider.executors[subject.name]
    asked = {"type": subject.name, "resource": {"name": row.get("resource", "")}, "spec": row.get("spec", {})}
    permissions = subject.executor.permissions(asked)
    assert bool(permissions) is subject.executor.needs_integration
    assert subject.world.driver.needs(resource("Stage", "deploy", {"executor": asked})) == permissions
