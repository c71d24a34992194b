"""What is in force in one process: suspensions of an Integration, statuses among peers; and when a start or a status is given up."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.engine.status_manager import StatusManager
from reconciler.model.errors import NotFound
from reconciler.model.executions import EndReason, ReportKind
from reconciler.model.records import AuditEntry
from reconciler.model.resources import Location, ResourceId, Suspension
from reconciler.model.status import ResourceStatus
from reconciler.stages.context import Work
from reconciler.stages.start import _not_started
from reconciler.state.reports import PendingReport, insert_reports
from tests.flow.inside import Inside, inside

MANIFESTS = """\
kind: Secret
metadata: {name: any}
spec: {provider: env, data: {token: {env: RECONCILER_SECRET_ANY}}}
---
kind: Integration
metadata: {name: hub}
spec:
  type: github
  url: https://github.com/acme
  apiUrl: http://127.0.0.1:1
  auth: {use: token, token: {valueFrom: {secret: {name: any, key: token}}}}
---
kind: Integration
metadata: {name: sem}
spec:
  type: semaphore
  url: https://acme.semaphoreci.com
  apiUrl: http://127.0.0.1:1
  auth: {use: token, token: {valueFrom: {secret: {name: any, key: token}}}}
---
kind: EventSource
metadata: {name: hand}
spec: {type: manual}
---
kind: Stage
metadata: {name: build}
spec:
  connections: [{type: event-source, name: hand}]
  executor: {type: github, integration: {name: hub}, resource: {type: repository, name: web}, spec: {workflow: ci.yml, ref: main}}
"""
ITEM = "itm-" + "0" * 24


async def declare(within: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECONCILER_SECRET_ANY", "x")
    (within.world.manifests / "all.yaml").write_text(MANIFESTS)
    await within.sync()


def add_report(within: Inside, integration: str) -> None:
    payload = {"integration": f"Integration/default/{integration}", "repository": "acme/web", "target": "a" * 40, "context": "c"}
    with within.store._write() as connection:
        insert_reports(connection, [PendingReport(ITEM, ReportKind.COMMIT.value, "success", 0, within.now, payload)])


def written(within: Inside) -> tuple[str, bool]:
    """Return the error of the one report, and whether nothing more is tried."""
    ((report, done_at),) = within.store.reports_of(ITEM)
    return str(report.payload.get("error", "")), done_at > 0


async def test_a_suspended_integration_suspends_what_uses_it_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inside(tmp_path) as within:
        await declare(within, monkeypatch)
        current = within.engine.current
        stage, source = (
            current.active.resources[ResourceId(*key)]
            for key in (("Stage", "default", "build"), ("EventSource", "default", "hand"))
        )
        assert current.suspended(stage) == ""
        within.store.suspend(
            ResourceId("Integration", "default", "hub"),
            Suspension("moving hosts"),
            audit=AuditEntry(at=within.now, actor="ada", verb="suspend"),
        )
        await current.refresh_suspensions()
        assert current.suspended(stage) == "Integration/hub is suspended: moving hosts"
        assert current.suspended(source) == ""


async def test_statuses_that_a_peer_stored_are_read_and_those_of_removed_resources_are_deleted(tmp_path: Path) -> None:
    async with inside(tmp_path) as within:
        manager, view = StatusManager(within.engine.current), within.engine.current.view
        rows = [ResourceStatus(ResourceId("EventSource", "default", name), Location("a.yaml", 1), 1, 1, "", ()) for name in "ab"]
        await manager.load()
        within.store.save_statuses(rows)  # a peer
        await manager.load()
        assert {identity.name for identity in view.statuses} == {"a", "b"}
        view.statuses = {rows[0].id: rows[0]}
        await manager.save(settled=False, host="")
        assert set(within.store.statuses()) == {rows[0].id}


async def test_a_status_for_a_provider_that_takes_none_is_abandoned_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inside(tmp_path) as within:
        await declare(within, monkeypatch)
        add_report(within, "sem")
        await within.working.stages._reports.send_due()
        error, done = written(within)
        assert "does not accept" in error
        assert done


async def test_a_status_is_tried_for_a_day_and_then_abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with inside(tmp_path) as within:
        await declare(within, monkeypatch)
        add_report(within, "hub")
        for hours in (0, 12, 11):
            within.later(hours * 3600.0)
            await within.working.stages._reports.send_due()
            error, done = written(within)
            assert error
            assert not done
        within.later(2 * 3600.0)
        await within.working.stages._reports.send_due()
        assert written(within)[1]


async def test_a_start_that_answers_404_is_tried_again_twice_and_then_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with inside(tmp_path) as within:
        await declare(within, monkeypatch)
        await within.trigger()
        await within.working.dispatcher.turn()
        await within.working.stages._admit(ResourceId("Stage", "default", "build"))
        (execution,), (item,) = await within.executions("build"), await within.items("build")
        work = Work(execution, item, within.engine.current.active.resources[item.stage], within.now)
        for tried in (1, 2):
            outcome = await _not_started(within.working.runner._steps, work, NotFound("no workflow", status=404))
            assert outcome.ended is None
            work = outcome.work
            assert (work.execution.failures, work.execution.status) == (tried, "waiting")
        outcome = await _not_started(within.working.runner._steps, work, NotFound("no workflow", status=404))
        assert outcome.ended is not None
        assert (outcome.ended.why, outcome.ended.message) == (EndReason.REFUSED, "no workflow")
