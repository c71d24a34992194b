"""The registry of Prometheus metrics. Counters and histograms are fed by the ``observe_*`` methods; gauges are read at scrape time.

No metric asks the database: what a scrape shows of the state was measured before (`reconciler.engine.measurements`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from reconciler.engine.current import Current
from reconciler.engine.loop import Loop
from reconciler.engine.measurements import Measurements
from reconciler.engine.reconcile import ReconcileResult
from reconciler.model.errors import StateError
from reconciler.model.events import Refusal
from reconciler.model.executions import EndReason, Execution, Result
from reconciler.model.plan import Action, ChangeClass
from reconciler.model.resources import ResourceId
from reconciler.server.metric_families import Families, label_of
from reconciler.server.metric_table import MAX_NAMES, METRICS, OTHER
from reconciler.server.state_metrics import StateCollector
from reconciler.server.view_metrics import ViewCollector
from reconciler.state.thread import StateThread
from reconciler.tracing import Tracer

DELIVERY_OUTCOMES = ("accepted", "duplicate", "contradicted", "busy", "unrouted", "not-asked-for", *Refusal)
MISSED_OUTCOMES = ("redelivered", "recovered", "lost")
STATE_ERRORS = ("RC7001", "RC7002", "RC7004", "RC7005", "RC7007", "RC7009", "RC7072")
"""Codes of failed calls of the database that have a series from the start."""
REPAIRS = frozenset({Action.CREATE, Action.UPDATE, Action.REPLACE, Action.DELETE})


class Metrics:
    """The metrics of one daemon."""

    def __init__(self, current: Current) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody reads
        self.registry = CollectorRegistry()
        self._names: set[str] = set()
        self._families = Families()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self._duration = self._histogram("reconciler_reconcile_duration_seconds")
        self._total = self._counter("reconciler_reconcile_total")
        self._operations = self._counter("reconciler_apply_operations_total")
        self._repairs = self._counter("reconciler_drift_repaired_total")
        self._fights = self._counter("reconciler_resource_fights_total")
        self._executions = self._counter("reconciler_executions_total")
        self._execution_ends = self._counter("reconciler_execution_ends_total")
        self._execution_duration = self._histogram("reconciler_execution_duration_seconds")
        self._reviews = self._counter("reconciler_reviews_total")
        self._review_duration = self._histogram("reconciler_review_duration_seconds")
        self._requests = self._histogram("reconciler_provider_request_duration_seconds")
        self._syncs = self._counter("reconciler_source_syncs_total")
        self._sync_duration = self._histogram("reconciler_source_sync_duration_seconds")
        self._state_duration = self._histogram("reconciler_state_call_duration_seconds")
        self._state_errors = self._counter("reconciler_state_errors_total")
        self._lag = self._histogram("reconciler_event_loop_lag_seconds")
        for counter, values in (
            (self._syncs, ("done", "failed")),
            (self._execution_ends, tuple(EndReason)),
            (self._state_errors, STATE_ERRORS),
        ):
            for value in values:  # a series that begins with its first event shows no increase
                counter.labels(str(value))
        self.registry.register(ViewCollector(current, self._families))

    def _counter(self, name: str) -> Counter:
        spec = METRICS[name]
        return Counter(name, spec.help, spec.labels, registry=self.registry)

    def _histogram(self, name: str) -> Histogram:
        spec = METRICS[name]
        return Histogram(name, spec.help, spec.labels, registry=self.registry, buckets=spec.buckets)

    def _label(self, resource: ResourceId) -> str:
        """Return the label of ``resource``, or `OTHER` once there are too many: series of a counter are never forgotten."""
        name = label_of(resource)
        if name not in self._names and len(self._names) >= MAX_NAMES:
            return OTHER
        self._names.add(name)
        return name

    # -- observed ---------------------------------------------------------------------------------------------------

    def observe_execution(self, execution: Execution) -> None:
        """Count a finished execution."""
        stage = self._label(execution.stage)
        for result in Result:  # so that the first failure of a stage that ran before shows as an increase
            self._executions.labels(stage, result.value)
        self._executions.labels(stage, execution.result.value if execution.result else "failed").inc()
        self._execution_ends.labels(execution.why.value if execution.why else "ok").inc()
        self._execution_duration.labels(stage).observe(max(0.0, execution.finished_at - execution.created_at))

    def observe_review(self, conclusion: str, duration_s: float) -> None:
        """Count a review that ended."""
        self._reviews.labels(conclusion).inc()
        self._review_duration.observe(duration_s)

    def observe_slice(self, result: ReconcileResult, duration_s: float) -> None:
        """Count one reconciliation of an integration."""
        name = self._label(result.integration)
        failed = result.error is not None or bool(result.report.failed)
        self._duration.labels(name).observe(duration_s)
        self._total.labels(name, "failed" if failed else "done").inc()
        repaired = self._repairs.labels(name)
        for step in result.report.steps:
            change = step.change
            self._operations.labels(change.action.value, change.scope.type, "failed" if step.error else "done").inc()
            if step.error is None and change.cls is not ChangeClass.COMMIT and change.action in REPAIRS:
                repaired.inc()
        if result.plan is not None:
            self._fights.inc(sum(1 for change in result.plan.changes if change.reason == "Contended"))

    def observe_request(self, provider: str, outcome: str, duration_s: float) -> None:
        """Count one request to a provider."""
        self._requests.labels(provider, outcome).observe(duration_s)

    def observe_sync(self, succeeded: bool, duration_s: float) -> None:  # noqa: FBT001  a callback
        """Count one look at the source."""
        self._syncs.labels("done" if succeeded else "failed").inc()
        self._sync_duration.observe(duration_s)

    def observe_state(self, duration_s: float, error: StateError | None) -> None:
        """Count one call of the database. Called on the state thread."""
        self._state_duration.observe(duration_s)
        if error is not None:
            self._state_errors.labels(error.code).inc()

    def observe_lag(self, delay_s: float) -> None:
        """Record how late the event loop was."""
        self._lag.observe(delay_s)

    # -- watched ----------------------------------------------------------------------------------------------------

    def watch_reviews(self, oldest_open_at: Callable[[], float]) -> None:
        """Expose when the oldest open review began (epoch seconds, 0 without any)."""
        self._watch(lambda to: [to.single("reconciler_review_oldest_open_timestamp_seconds", oldest_open_at())])

    def watch_deliveries(self, counts: Mapping[str, int], missed: Mapping[str, int] | None = None) -> None:
        """Expose deliveries by outcome, and those that recovery found missing."""
        self._watch(lambda to: [to.rows("reconciler_deliveries_total", _by_label(counts, DELIVERY_OUTCOMES))])
        if missed is not None:
            self._watch(lambda to: [to.rows("reconciler_deliveries_missed_total", _by_label(missed, MISSED_OUTCOMES))])

    def watch_notifications(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Expose attempts to send a message, by sink and outcome."""
        self._watch(lambda to: [to.rows("reconciler_notifications_total", sorted(dict(counts).items()))])

    def watch_spans(self, tracer: Tracer) -> None:
        """Expose the spans of ``tracer`` by outcome, and those that wait; no series without telemetry."""

        def spans(to: Families) -> list[Metric]:
            waiting = [((), float(tracer.waiting))] if tracer.on else []
            return [
                to.rows("reconciler_telemetry_spans_total", [((name,), n) for name, n in sorted(tracer.counts.items())]),
                to.rows("reconciler_telemetry_spans_waiting", waiting),
            ]

        self._watch(spans)

    def watch_state(self, measurements: Measurements, thread: StateThread) -> None:
        """Expose what was measured of the state."""
        self.registry.register(StateCollector(measurements, thread, self._families))

    def watch_loops(self, loop: Loop, dead: Callable[[], list[str]], now: Callable[[], float]) -> None:
        """Expose whether the daemon is ready and healthy, and how far each loop is from being stuck."""

        def loops(to: Families) -> list[Metric]:
            stuck, ages = dead(), sorted(loop.beats.ages(now()).items())
            return [
                to.single("reconciler_ready", loop.first_pass_done and not stuck),
                to.single("reconciler_healthy", not stuck),
                to.rows("reconciler_loop_idle_seconds", [((name,), idle) for name, (idle, _) in ages]),
                to.rows("reconciler_loop_limit_seconds", [((name,), limit) for name, (_, limit) in ages]),
            ]

        self._watch(loops)

    def _watch(self, collect: Callable[[Families], list[Metric]]) -> None:
        self.registry.register(_Watched(collect, self._families))

    def render(self) -> bytes:
        """Return the text exposition."""
        from prometheus_client import generate_latest

        return self.expose(generate_latest)

    def expose(self, encode: Callable[[Any], bytes]) -> bytes:
        """Return everything in the format of ``encode``. Called on any thread, one at a time."""
        self._families.dropped = 0
        return encode(self.registry)


class _Watched(Collector):
    """Metrics that a function reads."""

    def __init__(self, collect: Callable[[Families], list[Metric]], families: Families) -> None:
        self._collect = collect
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._collect(self._families)


def _by_label(counts: Mapping[str, int], known: Iterable[str]) -> list[tuple[tuple[str, ...], float]]:
    """Return rows for all ``known`` outcomes: a series that begins with its first event shows no increase."""
    return [((str(outcome),), number) for outcome, number in sorted({**dict.fromkeys(known, 0), **counts}.items())]


__all__ = ["Metrics"]
