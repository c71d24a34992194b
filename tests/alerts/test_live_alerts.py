"""Each alert fires on its real fault, all stay silent in the demo's world, and every query of the dashboard has data there.

One scenario with one Prometheus and five daemons, played once. `make test-alerts` runs it on a quiet machine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.cli.demo.script import wait_for
from tests.alerts.fault_worlds import DAY_S, DEEP, DemoTeam, edit_audit, locked, on_small_disk
from tests.flow.stage_world import StageWorld
from tests.support.collector import Collector
from tests.support.dashboard import queries
from tests.support.prometheus import CALM, FAST, Prometheus, alerts

pytestmark = pytest.mark.timeout(300)
EXPECTED = {
    "ReconcilerAbsent": "demo",
    "ReconcilerApprovalWaiting": "team",
    "ReconcilerAuditBroken": "rows",
    "ReconcilerClockSkew": "team",
    "ReconcilerCredentialExpiresSoon": "team",
    "ReconcilerCredentialExpiresToday": "team",
    "ReconcilerCredentialRefused": "team",
    "ReconcilerDeliveriesMissed": "rows",
    "ReconcilerDeliveriesRejected": "team",
    "ReconcilerDiskNearlyFull": "disk",
    "ReconcilerDown": "rows",
    "ReconcilerDriftRepeats": "team",
    "ReconcilerEventsDead": "rows",
    "ReconcilerEventsDelayed": "team",
    "ReconcilerExecutionOutcomeUnknown": "team",
    "ReconcilerExecutionStuck": "team",
    "ReconcilerNotReady": "lost",
    "ReconcilerNotificationsFailing": "team",
    "ReconcilerPlanBlocked": "team",
    "ReconcilerProviderErrors": "team",
    "ReconcilerRateLimitNearlyUsed": "team",
    "ReconcilerReconcileStalled": "team",
    "ReconcilerResourcesNotReady": "team",
    "ReconcilerRestarting": "lost",
    "ReconcilerReviewStuck": "team",
    "ReconcilerRevisionRefused": "team",
    "ReconcilerSourceUnreachable": "lost",
    "ReconcilerStateErrors": "disk",
    "ReconcilerStatusesDelayed": "team",
    "ReconcilerTracesLost": "rows",
    "ReconcilerUnhealthy": "rows",
}
"""The daemon (job) whose fault each alert is for."""


@dataclass
class Seen:
    """What Prometheus saw."""

    before: set[str] = field(default_factory=set)
    """Alerts that fired before there was a fault."""
    fired: set[tuple[str, str]] = field(default_factory=set)
    """(job, alert)"""
    demo: set[str] = field(default_factory=set)
    """Alerts of the demo's daemon."""
    without_data: list[str] = field(default_factory=list)
    """Queries of the dashboard."""


class Scenario:
    """The daemons ``demo`` (no fault), ``team`` (many), ``rows`` (state), ``disk`` (a small one), ``lost`` (no source)."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        folders = {name: folder / name for name in ("demo", "team", "rows", "disk", "lost", "prometheus")}
        for each in folders.values():
            each.mkdir()
        self.folder = folder
        self.demo, self.team = (stack.enter_context(DemoTeam(folders[name])) for name in ("demo", "team"))
        self.rows, self.disk, self.lost = (StageWorld(folders[name]) for name in ("rows", "disk", "lost"))
        for world in (self.rows, self.disk, self.lost):
            stack.callback(world.close)
        self.full = folder / "full"
        self.collector = Collector()
        stack.callback(self.collector.close)
        self.seen = Seen()
        self._begin()
        stations = {"rows": self.rows, "disk": self.disk, "lost": self.lost}
        self.targets = {"demo": self.demo.address, "team": self.team.address} | {
            name: f"127.0.0.1:{world.port}" for name, world in stations.items()
        }
        self.prometheus = stack.enter_context(Prometheus(folders["prometheus"], self.targets))

    def _begin(self) -> None:
        for team in (self.demo, self.team):
            team.begin()
        self.rows.configure(telemetry=f"{{enabled: true, endpoint: '{self.collector.url}'}}")
        self.rows.source("web")
        self.rows.webhook()
        mapping = "inputMappings: [{values: [{name: a, valueFrom: {eventData: {connection: own, expression: $.m}}}]}]"
        own = "{type: event-source, name: own}"
        self.rows.stage("echo", "inputs: [{name: a}]", mapping, "executor: {type: noop}", after=own)
        self.rows.daemon()
        self.lost.configure(source="http://127.0.0.1:1/nothing.git")
        self.lost.daemon()
        on_small_disk(self.disk, self.full)
        for team in (self.demo, self.team):
            wait_for("all resources Ready", team.world.all_ready)
        self.rows.wait(self.rows.all_ready)
        self.rows.wait(lambda: self.lost.listens() and self.disk.listens())

    # -- the scenario -----------------------------------------------------------------------------------------------

    def play(self) -> None:
        """Let every fault happen, and note what fires."""
        self._use_demo(1)
        self.prometheus.follow(len(self.targets))
        self.seen.before = {alert for job in ("demo", "team", "rows", "disk") for alert in self.prometheus.fired(job, FAST)}
        self._lose_events()
        self._make_trouble()
        self._use_demo(2)
        self._query_dashboard()
        self._wait("ReconcilerApprovalWaiting", "ReconcilerCredentialExpiresSoon", "ReconcilerCredentialRefused")
        self.team.tamper()
        self.team.approve()
        self.team.expire_in(DAY_S / 12)
        self._restart_often()
        self._wait(
            "ReconcilerCredentialExpiresToday", "ReconcilerExecutionStuck", "ReconcilerReviewStuck", "ReconcilerDriftRepeats",
            "ReconcilerRestarting", "ReconcilerDeliveriesMissed", "ReconcilerStateErrors", "ReconcilerEventsDead",
            "ReconcilerStatusesDelayed", "ReconcilerTracesLost",
        )  # fmt: skip
        self.team.stop_evaluator()
        self.team.traffic.push()
        self.team.mute("semaphore")
        self.team.use_up_rate()
        with locked(self.rows.folder / "state"):
            self._wait(
                "ReconcilerUnhealthy", "ReconcilerReconcileStalled", "ReconcilerEventsDelayed", "ReconcilerRateLimitNearlyUsed"
            )
        with stopped(self.rows.processes[-1].pid):
            self._wait("ReconcilerDown")
        self._end()

    def _lose_events(self) -> None:
        """A delivery that GitHub loses; one that nothing can read; and forged ones."""
        self.rows.github.settings(drop_deliveries=["push"])
        self.rows.push()
        self.rows.github.settings(drop_deliveries=0)
        assert self.rows.send("own", DEEP, "deep") == 202
        sha = self.team.traffic.push()
        wait_for("a deployment that waits", lambda: self.team.traffic.waiting("deploy"))
        self.team.forge(sha, 12)

    def _make_trouble(self) -> None:
        self.collector.answer = "400"
        assert self.rows.send("own", {"m": "traced"}, "traced") == 202
        self.team.refuse_statuses()
        self.team.mute_starts()
        self.team.traffic.push()
        self.team.remove_protected()
        wait_for("the start without an answer", self.team.starting)
        self.team.tamper()
        self.team.silence_chat()
        self.team.revoke("buddy")
        self.team.expire_in(3 * DAY_S)
        self.team.turn_clock()
        self.team.propose(1, faulty=True)
        edit_audit(self.rows.folder / "state")
        self.full.touch()
        self._wait(
            "ReconcilerPlanBlocked", "ReconcilerExecutionOutcomeUnknown", "ReconcilerAuditBroken", "ReconcilerDiskNearlyFull"
        )
        self.team.commit_errors()

    def _query_dashboard(self) -> None:
        """Note the queries that have no data; a rate needs two scrapes."""
        deadline = time.monotonic() + 20
        self.seen.without_data = queries("demo")
        while self.seen.without_data and time.monotonic() < deadline:
            self.seen.without_data = [expr for expr in self.seen.without_data if not self.prometheus.has_data(expr)]
            time.sleep(0.5)

    def _use_demo(self, number: int) -> None:
        """What people do with it on a good day: a pull request, a push, an approval, a deployment."""
        self.demo.propose(number)
        self.demo.traffic.push()
        wait_for("a deployment that waits", lambda: self.demo.traffic.waiting("deploy"))
        self.demo.approve()
        wait_for("a pipeline", self.demo.traffic.pipelines)
        self.demo.traffic.finish(self.demo.traffic.pipelines()[-1])

    def _restart_often(self) -> None:
        """SIGKILL, and a start, each seen by a scrape."""
        for _ in range(3):
            self.lost.kill()
            self.lost.daemon()
            pid = self.lost.processes[-1].pid
            self.lost.wait(self.lost.listens, f"the daemon {pid} listens")
            time.sleep(1.2)

    def _wait(self, *names: str, seconds: float = 40) -> None:
        by_job: dict[str, list[str]] = {}
        for name in names:
            by_job.setdefault(EXPECTED[name], []).append(name)
        for job, wanted in by_job.items():
            self.prometheus.wait_for(job, wanted, seconds)

    def _end(self) -> None:
        """Note what fired, and end every daemon."""
        for job in self.targets:
            self.seen.fired |= {(job, alert) for alert in self.prometheus.fired(job, FAST)}
        self.seen.demo = self.prometheus.fired("demo", CALM)
        for world in (self.rows, self.disk, self.lost):
            world.close()
        for team in (self.demo, self.team):
            team.world.kill_daemon()
        self.prometheus.wait_for(EXPECTED["ReconcilerAbsent"], ["ReconcilerAbsent"], 20)
        self.seen.fired.add((EXPECTED["ReconcilerAbsent"], "ReconcilerAbsent"))


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    with contextlib.ExitStack() as stack:
        scenario = Scenario(tmp_path_factory.mktemp("alerts"), stack)
        scenario.play()
        yield scenario.seen


def test_without_a_fault_no_alert_fires(seen: Seen) -> None:
    assert seen.before == set()


def test_in_the_demo_no_alert_fires(seen: Seen) -> None:
    assert seen.demo == set()


@pytest.mark.parametrize("alert", sorted(alerts()))
def test_each_alert_fires_on_its_fault(alert: str, seen: Seen) -> None:
    assert (EXPECTED[alert], alert) in seen.fired


def test_every_query_of_the_dashboard_has_data_in_the_demo(seen: Seen) -> None:
    assert seen.without_data == []
