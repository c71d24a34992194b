"""Metrics of the state: what `reconciler.engine.measurements` read last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from reconciler.engine.measurements import Measurements
from reconciler.model.incidents import Topic
from reconciler.server.metric_families import Families
from reconciler.state.backlog import Backlog, Waiting
from reconciler.state.thread import StateThread

REASONS = frozenset({"approval", "concurrency", "time-window", "suspended"})
"""Reasons of a queued item that have their own series."""


class StateCollector(Collector):
    """Gauges of the backlog, the database and the audit log."""

    def __init__(self, measurements: Measurements, thread: StateThread, families: Families) -> None:
        self._measurements = measurements
        self._thread = thread
        self._to = families

    def collect(self) -> Iterator[Metric]:
        yield self._to.single("reconciler_state_busy_seconds", self._thread.busy_s())
        yield self._to.single("reconciler_leases_lost_total", self._thread.leases_lost)
        measurements = self._measurements
        if measurements.audit_intact is not None:
            yield self._to.single("reconciler_audit_intact", measurements.audit_intact)
            yield self._to.single("reconciler_audit_verified_timestamp_seconds", measurements.audit_verified_at)
        if measurements.backlog is not None:
            yield from self._backlog(measurements.backlog)

    def _backlog(self, backlog: Backlog) -> Iterator[Metric]:
        for name, figure in (
            ("state_measured_timestamp_seconds", backlog.at),
            ("state_database_bytes", backlog.database_bytes),
            ("state_disk_bytes", backlog.disk_bytes),
            ("state_disk_free_bytes", backlog.disk_free_bytes),
            ("database_clock_skew_seconds", backlog.ahead_s),
            ("processes", backlog.processes),
            ("retries_waiting", backlog.retries),
            ("reconciles_due", backlog.reconciles.count),
            ("reviews_due", backlog.reviews.count),
            ("reports_waiting", backlog.reports.count),
        ):
            yield self._to.single(f"reconciler_{name}", figure)
        for name, waiting in (
            ("events_oldest_pending", backlog.events),
            ("reconciles_oldest_due", backlog.reconciles),
            ("reports_oldest_due", backlog.reports),
        ):
            rows = [((), waiting.since)] if waiting.since else []
            yield self._to.rows(f"reconciler_{name}_timestamp_seconds", rows)
        yield from self._by_label("executions", backlog.executions, counted="executions_open")
        yield from self._by_label("items", _known_reasons(backlog.items), counted="items_waiting")
        incidents = {topic.value: backlog.incidents.get(topic.value, 0) for topic in Topic}
        yield self._to.rows("reconciler_incidents_open", [((topic,), number) for topic, number in incidents.items()])

    def _by_label(self, name: str, waiting: Mapping[str, Waiting], *, counted: str) -> Iterator[Metric]:
        rows = sorted(waiting.items())
        yield self._to.rows(f"reconciler_{counted}", [((label,), each.count) for label, each in rows])
        oldest = [((label,), each.since) for label, each in rows if each.count]
        yield self._to.rows(f"reconciler_{name}_oldest_timestamp_seconds", oldest)


def _known_reasons(items: Mapping[str, Waiting]) -> dict[str, Waiting]:
    """Return every reason, with 0 if nothing waits for it."""
    known = {reason: Waiting() for reason in (*REASONS, "other")}
    for reason, waiting in items.items():
        label = reason if reason in REASONS else "other"
        before = known[label]
        known[label] = Waiting(before.count + waiting.count, min(before.since or waiting.since, waiting.since))
    return known


__all__ = ["StateCollector"]
