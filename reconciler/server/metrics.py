"""Prometheus metrics, read from the engine's findings at scrape time: one owner of every figure, none kept twice.

Names follow the field (Flux ``gotk_*``, Crossplane); no label holds text that a stranger chose.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from reconciler import __version__
from reconciler.engine.controller import Controller
from reconciler.engine.reconcile import ReconcileResult
from reconciler.model.executions import Execution
from reconciler.model.resources import ResourceId
from reconciler.model.status import ConditionStatus, ConditionType

CONDITIONS = tuple(ConditionType)


class Metrics:
    """The daemon's registry. `observe_slice` is called once per slice; everything else is read when scraped."""

    def __init__(self, engine: Controller) -> None:
        self.registry = CollectorRegistry()
        self._duration = Histogram(
            "reconciler_reconcile_duration_seconds",
            "Duration of one integration's slice.",
            ("integration",),
            registry=self.registry,
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
        )
        self._total = Counter(
            "reconciler_reconcile_total", "Slices by result.", ("integration", "result"), registry=self.registry
        )
        self._operations = Counter(
            "reconciler_apply_operations_total",
            "Remote writes by action, type and outcome.",
            ("action", "type", "outcome"),
            registry=self.registry,
        )
        self._fights = Counter(
            "reconciler_resource_fights_total", "Objects found contended by somebody else.", registry=self.registry
        )
        self._executions = Counter(
            "reconciler_executions_total",
            "Executions that ended, by stage and result.",
            ("stage", "result"),
            registry=self.registry,
        )
        self._execution_duration = Histogram(
            "reconciler_execution_duration_seconds",
            "From an execution's beginning to its end.",
            ("stage",),
            registry=self.registry,
            buckets=(1, 5, 15, 60, 300, 900, 3600, 14_400),
        )
        self.registry.register(_Findings(engine))

    def observe_execution(self, execution: Execution) -> None:
        """Count one execution that ended."""
        self._executions.labels(_label(execution.stage), execution.result.value if execution.result else "failed").inc()
        self._execution_duration.labels(_label(execution.stage)).observe(max(0.0, execution.finished_at - execution.created_at))

    def watch_deliveries(self, counts: Mapping[str, int]) -> None:
        """Show what became of deliveries, as ``counts`` says when it is scraped."""
        self.registry.register(_Deliveries(counts))

    def observe_slice(self, result: ReconcileResult, duration_s: float) -> None:
        """Count one slice."""
        name = _label(result.integration)
        failed = result.error is not None or bool(result.report.failed)
        self._duration.labels(name).observe(duration_s)
        self._total.labels(name, "failed" if failed else "done").inc()
        for step in result.report.steps:
            self._operations.labels(step.change.action.value, step.change.scope.type, "failed" if step.error else "done").inc()
        if result.plan is not None:
            self._fights.inc(sum(1 for change in result.plan.changes if change.reason == "Contended"))

    def render(self) -> bytes:
        """Return the text exposition."""
        return generate_latest(self.registry)


class _Deliveries(Collector):
    """Deliveries by what became of them."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily("reconciler_deliveries", "Deliveries by what became of them.", labels=("outcome",))
        for outcome, number in sorted(self._counts.items()):
            family.add_metric((outcome,), number)
        yield family


class _Findings(Collector):
    """Gauges made of what the engine knows now."""

    def __init__(self, engine: Controller) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        yield _gauge("reconciler_build_info", "Version of this program.", ("version",), [((__version__,), 1)])
        yield from self._resources()
        yield from self._credentials()
        engine = self._engine
        yield _gauge(
            "reconciler_last_sync_timestamp_seconds", "When the source was read last.", (), [((), engine.state.fetched_at)]
        )
        yield _gauge("reconciler_last_reconcile_timestamp_seconds", "When a pass ended last.", (), [((), engine.view.passed_at)])
        yield _gauge("reconciler_source_up", "1 while the source can be read.", (), [((), 0 if engine.state.error else 1)])
        stale = time.time() - engine.state.fetched_at if engine.state.fetched_at else 0.0
        yield _gauge("reconciler_source_age_seconds", "Age of the last good look at the source.", (), [((), stale)])
        problems = sum(1 for p in engine.live.problems if p.is_error)
        yield _gauge("reconciler_manifest_problems", "Errors in the newest revision.", (), [((), problems)])

        outside = engine.view.outside
        yield _gauge("reconciler_events_pending", "Events that are not processed yet.", (), [((), outside.pending)])
        yield _gauge(
            "reconciler_events_failed",
            "Events that led to nothing because of a mistake in a filter or mapping.",
            (),
            [((), outside.failed)],
        )
        yield _gauge(
            "reconciler_events_quarantined",
            "Events that are put aside: evaluating them took too much time or memory.",
            (),
            [((), outside.quarantined)],
        )
        for name, key, text in (
            ("reconciler_stage_queue", "queue", "Items that wait, by stage."),
            ("reconciler_stage_running", "running", "Executions under way, by stage."),
        ):
            yield _gauge(
                name, text, ("stage",), [((_named(row["name"], row["canvas"]),), float(row[key])) for row in outside.stages]
            )

    def _resources(self) -> Iterator[Metric]:
        rows = self._engine.view.statuses.values()
        tally: Tally[tuple[str, str]] = Tally()
        for status in rows:
            ready = status.condition(ConditionType.READY)
            tally[status.id.kind, ready.status.value if ready else ConditionStatus.UNKNOWN.value] += 1
        yield _gauge(
            "reconciler_resources",
            "Resources by kind and Ready.",
            ("kind", "ready"),
            [(key, n) for key, n in sorted(tally.items())],
        )
        for name, kind, text in (
            ("reconciler_resource_drifted", ConditionType.DRIFTED, "Resources whose objects differ from what was applied."),
            ("reconciler_resource_stalled", ConditionType.STALLED, "Resources that wait for a human."),
            ("reconciler_resource_suspended", ConditionType.SUSPENDED, "Suspended resources."),
            ("reconciler_plan_blocked", ConditionType.PLAN_BLOCKED, "Resources with changes that wait for an approval."),
        ):
            yield _gauge(name, text, (), [((), sum(1 for status in rows if status.condition(kind)))])

    def _credentials(self) -> Iterator[Metric]:
        results = self._engine.view.results
        valid = [((_label(i),), 0 if r.error is not None and r.error.code == "RC5011" else 1) for i, r in sorted(results.items())]
        yield _gauge("reconciler_credential_valid", "1 while the credential is accepted.", ("integration",), valid)
        remaining = [
            ((_label(i),), rate["remaining"])
            for i in sorted(results)
            if (rate := self._engine.links.rate_of(i)) and "remaining" in rate
        ]
        yield _gauge("reconciler_rate_limit_remaining", "Requests left in the provider's window.", ("integration",), remaining)


def _label(resource: ResourceId) -> str:
    return _named(resource.name, resource.canvas)


def _named(name: object, canvas: object) -> str:
    """A name stands for itself in the shared canvas: of two series with equal labels Prometheus takes none."""
    return str(name) if canvas == "default" else f"{name}@{canvas}"


def _gauge(name: str, text: str, labels: tuple[str, ...], rows: Sequence[tuple[tuple[str, ...], float]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, figure in rows:
        family.add_metric(values, figure)
    return family


METRIC_NAMES = (
    "reconciler_reconcile_duration_seconds",
    "reconciler_reconcile_total",
    "reconciler_apply_operations_total",
    "reconciler_resource_fights_total",
    "reconciler_build_info",
    "reconciler_resources",
    "reconciler_resource_drifted",
    "reconciler_resource_stalled",
    "reconciler_resource_suspended",
    "reconciler_plan_blocked",
    "reconciler_last_sync_timestamp_seconds",
    "reconciler_last_reconcile_timestamp_seconds",
    "reconciler_source_up",
    "reconciler_source_age_seconds",
    "reconciler_manifest_problems",
    "reconciler_credential_valid",
    "reconciler_rate_limit_remaining",
    "reconciler_deliveries_total",
    "reconciler_events_failed",
    "reconciler_events_pending",
    "reconciler_events_quarantined",
    "reconciler_stage_queue",
    "reconciler_stage_running",
    "reconciler_executions_total",
    "reconciler_execution_duration_seconds",
)
"""All names, for docs/operations.md; a test holds the two together."""
