"""Metrics of what the engine knows: resources, source, credentials, events, stages, notifications. Read without waiting, on any thread."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator, Mapping

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from reconciler import __version__
from reconciler.engine.credentials import QUESTIONS, answers_of, end_of
from reconciler.engine.current import Current
from reconciler.model.resources import Kind, ResourceId
from reconciler.model.status import ConditionStatus, ConditionType, ResourceStatus
from reconciler.model.times import epoch_of
from reconciler.server.metric_families import Families, label_of, name_on_canvas

EXCEPTIONS = (ConditionType.DRIFTED, ConditionType.STALLED, ConditionType.SUSPENDED, ConditionType.PLAN_BLOCKED)
"""Conditions that a resource has only while they are true."""
SERIES = (
    *((ConditionType.READY, status) for status in ConditionStatus),
    *((condition, ConditionStatus.TRUE) for condition in EXCEPTIONS),
)
"""Every condition and status that ``reconciler_resources`` counts."""
_Key = tuple[str, str, str]


class ViewCollector(Collector):
    """Gauges of the engine's current state."""

    def __init__(self, current: Current, families: Families) -> None:
        self._current = current
        self._to = families
        self._counted: Mapping[ResourceId, ResourceStatus] | None = None
        self._tally: Tally[_Key] = Tally()
        self._oldest: dict[_Key, float] = {}

    def collect(self) -> Iterator[Metric]:
        yield self._to.rows("reconciler_build_info", [((__version__,), 1)])
        yield from self._resources()
        yield from self._credentials()
        yield from self._rates()
        yield from self._source()
        yield from self._events()
        yield from self._notifications()
        yield self._to.single("reconciler_metric_series_dropped", self._to.dropped)

    def _source(self) -> Iterator[Metric]:
        current = self._current
        yield self._to.single("reconciler_last_sync_timestamp_seconds", current.source.fetched_at)
        yield self._to.single("reconciler_last_reconcile_timestamp_seconds", current.view.passed_at)
        yield self._to.single("reconciler_source_up", 0 if current.source.error else 1)
        problems = sum(1 for problem in current.active.problems if problem.is_error)
        yield self._to.single("reconciler_manifest_problems", problems)

    def _events(self) -> Iterator[Metric]:
        outside = self._current.view.outside
        states = {"pending": outside.pending, "failed": outside.failed, "quarantined": outside.quarantined}
        yield self._to.rows("reconciler_events", [((state,), number) for state, number in states.items()])
        for name, key in (("reconciler_stage_queued_items", "queue"), ("reconciler_stage_running_executions", "running")):
            rows = [((name_on_canvas(row["name"], row["canvas"]),), float(row[key])) for row in outside.stages]
            yield self._to.rows(name, rows)

    def _notifications(self) -> Iterator[Metric]:
        view = self._current.view
        failing = [
            ((label_of(status.id),), float(condition.status is ConditionStatus.FALSE))
            for status in view.statuses.values()
            if status.id.kind == Kind.NOTIFICATION.value and (condition := status.condition(ConditionType.DELIVERING)) is not None
        ]
        yield self._to.rows("reconciler_notification_failing", sorted(failing))
        waiting = sorted(view.outside.waiting.items())
        yield self._to.rows("reconciler_notifications_waiting", [((sink,), float(each.count)) for sink, each in waiting])
        oldest = [((sink,), each.since) for sink, each in waiting if each.count]
        yield self._to.rows("reconciler_notifications_oldest_timestamp_seconds", oldest)

    def _resources(self) -> Iterator[Metric]:
        """Count resources by kind and condition, as kube-state-metrics does: every kind in use has all of its series."""
        statuses = self._current.view.statuses
        if statuses is not self._counted:  # a pass replaces them as a whole
            self._tally, self._oldest = _counted(statuses)
            self._counted = statuses
        yield self._to.rows("reconciler_resources", sorted(self._tally.items()))
        yield self._to.rows("reconciler_condition_oldest_timestamp_seconds", sorted(self._oldest.items()))

    def _credentials(self) -> Iterator[Metric]:
        results = dict(self._current.view.results)
        reports = [(label_of(i), report) for i, r in sorted(results.items()) if (report := answers_of(r)) is not None]
        known = [((name,), float(report.valid)) for name, report in reports if "valid" not in report.unknown]
        yield self._to.rows("reconciler_credential_valid", known)
        unknown = [((name, question), float(question in report.unknown)) for name, report in reports for question in QUESTIONS]
        yield self._to.rows("reconciler_credential_unknown", unknown)
        ends = [((name,), end) for name, report in reports if (end := end_of(report.expires_at)) is not None]
        yield self._to.rows("reconciler_credential_expiry_timestamp_seconds", ends)
        missing = [((name,), float(len(report.missing))) for name, report in reports]
        yield self._to.rows("reconciler_credential_missing_permissions", missing)

    def _rates(self) -> Iterator[Metric]:
        clients, integrations = self._current.clients, sorted(dict(self._current.view.results))
        rates = [(label_of(i), rate) for i in integrations if (rate := clients.rate_of(i))]
        for name, key in (
            ("reconciler_rate_limit_limit", "limit"),
            ("reconciler_rate_limit_remaining", "remaining"),
            ("reconciler_rate_limit_reset_timestamp_seconds", "resetAt"),
        ):
            yield self._to.rows(name, [((label,), float(rate[key])) for label, rate in rates if key in rate])
        now = self._current.context.clock()
        stopped = [((label_of(i),), float(until > now)) for i in integrations if (until := clients.stopped_until(i)) is not None]
        yield self._to.rows("reconciler_rate_limit_stopped", stopped)
        clocks = [(label_of(i), clock) for i in integrations if (clock := clients.clock_of(i)) is not None]
        skews = [((label,), clock.ahead_s) for label, clock in clocks if clock.ahead_s is not None]
        yield self._to.rows("reconciler_provider_clock_skew_seconds", skews)


def _counted(statuses: Mapping[ResourceId, ResourceStatus]) -> tuple[Tally[_Key], dict[_Key, float]]:
    """Return the number of resources by kind, condition and status, and since when the longest has an exceptional one."""
    tally: Tally[_Key] = Tally()
    oldest: dict[_Key, float] = {}
    for status in statuses.values():
        for condition, value in SERIES:
            tally[status.id.kind, condition.value, value.value] += 0
        ready = status.condition(ConditionType.READY)
        value = ready.status if ready else ConditionStatus.UNKNOWN
        tally[status.id.kind, ConditionType.READY.value, value.value] += 1
        present = [each for each in (status.condition(kind) for kind in EXCEPTIONS) if each is not None]
        for each in present:
            tally[status.id.kind, each.type.value, ConditionStatus.TRUE.value] += 1
        if ready is not None and ready.status is ConditionStatus.FALSE:
            present.append(ready)
        for each in present:
            since = _epoch(each.last_transition_time)
            if since is not None:
                key = (status.id.kind, each.type.value, each.status.value)
                oldest[key] = min(oldest.get(key, since), since)
    return tally, oldest


def _epoch(text: str) -> float | None:
    try:
        return epoch_of(text) if text else None
    except ValueError:
        return None


__all__ = ["SERIES", "ViewCollector"]
