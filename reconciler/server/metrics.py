"""Prometheus metrics. Gauges are read from the engine at scrape time, so no number is stored twice.

Names follow Flux (``gotk_*``), Crossplane and kube-state-metrics. No label has text from outside.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from reconciler import __version__
from reconciler.engine.credentials import QUESTIONS, answers_of, end_of
from reconciler.engine.current import Current
from reconciler.engine.reconcile import ReconcileResult
from reconciler.model.executions import Execution
from reconciler.model.resources import Kind, ResourceId
from reconciler.model.status import ConditionStatus, ConditionType
from reconciler.tracing import Tracer

EXCEPTIONS = (ConditionType.DRIFTED, ConditionType.STALLED, ConditionType.SUSPENDED, ConditionType.PLAN_BLOCKED)
"""Conditions that a resource has only while they are true."""

SERIES = (
    *((ConditionType.READY, status) for status in ConditionStatus),
    *((condition, ConditionStatus.TRUE) for condition in EXCEPTIONS),
)
"""Every condition and status that ``reconciler_resources`` counts."""


class Metrics:
    """The daemon's registry. Counters and histograms are fed by the ``observe_*`` methods; gauges are read at scrape time."""

    def __init__(self, current: Current) -> None:
        self.registry = CollectorRegistry()
        self._duration = Histogram(
            "reconciler_reconcile_duration_seconds",
            "Duration of one reconciliation of an integration.",
            ("integration",),
            registry=self.registry,
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
        )
        self._total = Counter(
            "reconciler_reconcile_total",
            "Reconciliations of an integration, by result.",
            ("integration", "result"),
            registry=self.registry,
        )
        self._operations = Counter(
            "reconciler_apply_operations_total",
            "Writes at providers, by action, object type and outcome.",
            ("action", "type", "outcome"),
            registry=self.registry,
        )
        self._fights = Counter(
            "reconciler_resource_fights_total",
            "Changes held back because another writer keeps changing the object.",
            registry=self.registry,
        )
        self._executions = Counter(
            "reconciler_executions_total",
            "Finished executions, by stage and result.",
            ("stage", "result"),
            registry=self.registry,
        )
        self._execution_duration = Histogram(
            "reconciler_execution_duration_seconds",
            "Time from the start of an execution to its end.",
            ("stage",),
            registry=self.registry,
            buckets=(1, 5, 15, 60, 300, 900, 3600, 14_400),
        )
        self._reviews = Counter(
            "reconciler_reviews_total", "Ended reviews, by conclusion.", ("conclusion",), registry=self.registry
        )
        self._review_duration = Histogram(
            "reconciler_review_duration_seconds",
            "Time from the start of a review to the conclusion of its check.",
            registry=self.registry,
            buckets=(0.5, 1, 2.5, 5, 10, 30, 60, 300, 600),
        )
        self.registry.register(_Findings(current))

    def observe_execution(self, execution: Execution) -> None:
        """Count a finished execution."""
        self._executions.labels(_label(execution.stage), execution.result.value if execution.result else "failed").inc()
        self._execution_duration.labels(_label(execution.stage)).observe(max(0.0, execution.finished_at - execution.created_at))

    def observe_review(self, conclusion: str, duration_s: float) -> None:
        """Count a review that ended."""
        self._reviews.labels(conclusion).inc()
        self._review_duration.observe(duration_s)

    def watch_reviews(self, oldest_open_at: Callable[[], float]) -> None:
        """Expose when the oldest open review began (epoch seconds, 0 without any), read at scrape time."""
        text = "Time at which the oldest open review began; 0 if none is open."
        gauge = Gauge("reconciler_review_oldest_open_timestamp_seconds", text, registry=self.registry)
        gauge.set_function(oldest_open_at)

    def watch_deliveries(self, counts: Mapping[str, int]) -> None:
        """Expose ``counts`` (deliveries by outcome), read at scrape time."""
        self.registry.register(_Deliveries(counts))

    def watch_notifications(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Expose ``counts`` (attempts by sink and outcome), read at scrape time."""
        self.registry.register(_Messages(counts))

    def watch_spans(self, tracer: Tracer) -> None:
        """Expose the spans of ``tracer`` by outcome, and those that wait, read at scrape time."""
        self.registry.register(_Spans(tracer))

    def observe_slice(self, result: ReconcileResult, duration_s: float) -> None:
        """Count one reconciliation of an integration."""
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
    """Deliveries by outcome."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily("reconciler_deliveries", "Received deliveries, by outcome.", labels=("outcome",))
        for outcome, number in sorted(self._counts.items()):
            family.add_metric((outcome,), number)
        yield family


class _Spans(Collector):
    """Spans of traces by outcome; no series without telemetry."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily("reconciler_telemetry_spans", "Spans of traces, by outcome.", labels=("outcome",))
        for outcome, number in sorted(self._tracer.counts.items()):
            family.add_metric((outcome,), number)
        yield family
        waiting = [((), float(self._tracer.waiting))] if self._tracer.on else []
        yield _gauge("reconciler_telemetry_spans_waiting", "Spans that wait for their export.", (), waiting)


class _Messages(Collector):
    """Attempts to send messages, by sink and outcome."""

    def __init__(self, counts: Mapping[tuple[str, str], int]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "reconciler_notifications", "Attempts to send a message of a Notification.", labels=("sink", "outcome")
        )
        for labels, number in sorted(self._counts.items()):
            family.add_metric(labels, number)
        yield family


class _Findings(Collector):
    """Gauges of the engine's current state."""

    def __init__(self, current: Current) -> None:
        self._current = current

    def collect(self) -> Iterator[Metric]:
        yield _gauge(
            "reconciler_build_info", "Version of the daemon; the value is always 1.", ("version",), [((__version__,), 1)]
        )
        yield from self._resources()
        yield from self._credentials()
        current = self._current
        yield _gauge(
            "reconciler_last_sync_timestamp_seconds",
            "Time of the last successful fetch of the source.",
            (),
            [((), current.source.fetched_at)],
        )
        yield _gauge(
            "reconciler_last_reconcile_timestamp_seconds",
            "Time at which the last full pass ended.",
            (),
            [((), current.view.passed_at)],
        )
        yield _gauge(
            "reconciler_source_up",
            "1 if the last fetch of the source succeeded, else 0.",
            (),
            [((), 0 if current.source.error else 1)],
        )
        problems = sum(1 for p in current.active.problems if p.is_error)
        yield _gauge("reconciler_manifest_problems", "Errors in the manifests of the newest revision.", (), [((), problems)])

        outside = current.view.outside
        states = {"pending": outside.pending, "failed": outside.failed, "quarantined": outside.quarantined}
        yield _gauge(
            "reconciler_events",
            "Stored events that are not done, by state.",
            ("state",),
            [((state,), number) for state, number in states.items()],
        )
        for name, key, text in (
            ("reconciler_stage_queued_items", "queue", "Items in the queue of a stage."),
            ("reconciler_stage_running_executions", "running", "Running executions of a stage."),
        ):
            yield _gauge(
                name, text, ("stage",), [((_named(row["name"], row["canvas"]),), float(row[key])) for row in outside.stages]
            )
        yield from self._notifications()

    def _notifications(self) -> Iterator[Metric]:
        view = self._current.view
        failing = [
            ((_label(status.id),), float(condition.status is ConditionStatus.FALSE))
            for status in view.statuses.values()
            if status.id.kind == Kind.NOTIFICATION.value and (condition := status.condition(ConditionType.DELIVERING)) is not None
        ]
        yield _gauge(
            "reconciler_notification_failing",
            "1 while the messages of a Notification cannot be delivered, else 0.",
            ("notification",),
            sorted(failing),
        )
        waiting = sorted(view.outside.waiting.items())
        yield _gauge(
            "reconciler_notifications_waiting",
            "Messages in the outbox, by sink.",
            ("sink",),
            [((sink,), float(each.count)) for sink, each in waiting],
        )
        yield _gauge(
            "reconciler_notifications_oldest_timestamp_seconds",
            "Time of the incident whose message waits longest, by sink; no series while nothing waits.",
            ("sink",),
            [((sink,), each.since) for sink, each in waiting if each.count],
        )

    def _resources(self) -> Iterator[Metric]:
        """Count resources by kind and condition, as kube-state-metrics does: every kind in use has all of its series."""
        tally: Tally[tuple[str, str, str]] = Tally()
        for status in self._current.view.statuses.values():
            for condition, value in SERIES:
                tally[status.id.kind, condition.value, value.value] += 0
            ready = status.condition(ConditionType.READY)
            value = ready.status if ready else ConditionStatus.UNKNOWN
            tally[status.id.kind, ConditionType.READY.value, value.value] += 1
            for condition in EXCEPTIONS:
                present = status.condition(condition) is not None
                tally[status.id.kind, condition.value, ConditionStatus.TRUE.value] += present
        yield _gauge(
            "reconciler_resources",
            "Resources by kind, condition and the condition's status.",
            ("kind", "condition", "status"),
            [(key, n) for key, n in sorted(tally.items())],
        )

    def _credentials(self) -> Iterator[Metric]:
        results = self._current.view.results
        reports = [(_label(i), report) for i, r in sorted(results.items()) if (report := answers_of(r)) is not None]
        known = [((name,), float(report.valid)) for name, report in reports if "valid" not in report.unknown]
        yield _gauge(
            "reconciler_credential_valid",
            "1 if the provider accepts the credential, 0 if it refuses it; absent while that is not known.",
            ("integration",),
            known,
        )
        yield _gauge(
            "reconciler_credential_unknown",
            "1 if the question (valid, identity, granted, missing, expiresAt) about the credential has no answer, else 0.",
            ("integration", "question"),
            [((name, question), float(question in report.unknown)) for name, report in reports for question in QUESTIONS],
        )
        ends = [((name,), end) for name, report in reports if (end := end_of(report.expires_at)) is not None]
        yield _gauge(
            "reconciler_credential_expiry_timestamp_seconds",
            "Time at which the credential ends; absent if there is no end, or its time is not known.",
            ("integration",),
            ends,
        )
        yield _gauge(
            "reconciler_credential_missing_permissions",
            "Needed permissions that the credential is known to lack.",
            ("integration",),
            [((name,), len(report.missing)) for name, report in reports],
        )
        remaining = [
            ((_label(i),), rate["remaining"])
            for i in sorted(results)
            if (rate := self._current.clients.rate_of(i)) and "remaining" in rate
        ]
        yield _gauge(
            "reconciler_rate_limit_remaining", "Requests left in the provider's rate-limit window.", ("integration",), remaining
        )


def _label(resource: ResourceId) -> str:
    return _named(resource.name, resource.canvas)


def _named(name: object, canvas: object) -> str:
    """Return ``name``, with ``@canvas`` unless it is the default: two series must not have equal labels."""
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
    "reconciler_last_sync_timestamp_seconds",
    "reconciler_last_reconcile_timestamp_seconds",
    "reconciler_source_up",
    "reconciler_manifest_problems",
    "reconciler_credential_valid",
    "reconciler_credential_unknown",
    "reconciler_credential_expiry_timestamp_seconds",
    "reconciler_credential_missing_permissions",
    "reconciler_rate_limit_remaining",
    "reconciler_deliveries_total",
    "reconciler_events",
    "reconciler_stage_queued_items",
    "reconciler_stage_running_executions",
    "reconciler_executions_total",
    "reconciler_execution_duration_seconds",
    "reconciler_notifications_total",
    "reconciler_notification_failing",
    "reconciler_notifications_waiting",
    "reconciler_notifications_oldest_timestamp_seconds",
    "reconciler_reviews_total",
    "reconciler_review_duration_seconds",
    "reconciler_review_oldest_open_timestamp_seconds",
    "reconciler_telemetry_spans_total",
    "reconciler_telemetry_spans_waiting",
)
"""All names. A test compares them with docs/operations.md."""
