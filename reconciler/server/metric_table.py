"""The table of all metrics. `docs/generate.py` makes docs/metrics.md of it, and the rules and the dashboard may name no others.

Names follow the conventions of Prometheus: base units, ``_total`` for counters, ``_timestamp_seconds`` for times, ``_info`` for
facts. A label has either a fixed set of values or names of the manifests, of which `MAX_NAMES` are kept apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAX_NAMES = 2_000
"""Values of a label that come from the manifests. Further ones are counted together as `OTHER`, or left out of a gauge."""
OTHER = "_other"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric as it is exposed. ``buckets``: of a histogram, in its unit."""

    name: str
    type: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class MetricGroup:
    """A section of the documentation."""

    title: str
    metrics: tuple[MetricSpec, ...]


def _gauge(name: str, text: str, *labels: str) -> MetricSpec:
    return MetricSpec(f"reconciler_{name}", "gauge", text, labels)


def _counter(name: str, text: str, *labels: str) -> MetricSpec:
    return MetricSpec(f"reconciler_{name}", "counter", text, labels)


def _histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> MetricSpec:
    return MetricSpec(f"reconciler_{name}", "histogram", text, labels, tuple(buckets))


_NOTHING = "no series while nothing waits."
GROUPS = (
    MetricGroup(
        "Process",
        (
            _gauge("build_info", "Version of the daemon; the value is always 1.", "version"),
            _gauge(
                "ready", "1 after every integration was reconciled once and while every loop makes progress: what /readyz says."
            ),
            _gauge("healthy", "1 while every loop of the daemon makes progress and the database answers: what /healthz says."),
            _gauge("loop_idle_seconds", "Time since the last progress of a loop of the daemon.", "loop"),
            _gauge("loop_limit_seconds", "Time without progress after which a loop counts as stuck.", "loop"),
            _histogram(
                "event_loop_lag_seconds",
                "Delay of the event loop, measured twice a second.",
                (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
            ),
            _gauge("metric_series_dropped", "Series that the last scrape left out because a label had too many values."),
            MetricSpec("process_cpu_seconds_total", "counter", "User and system CPU time."),
            MetricSpec("process_resident_memory_bytes", "gauge", "Resident memory."),
            MetricSpec("process_virtual_memory_bytes", "gauge", "Virtual memory."),
            MetricSpec("process_open_fds", "gauge", "Open file descriptors."),
            MetricSpec("process_max_fds", "gauge", "Limit of open file descriptors."),
            MetricSpec("process_start_time_seconds", "gauge", "Start of the process; epoch seconds."),
            MetricSpec(
                "python_info",
                "gauge",
                "Python; the value is always 1.",
                ("implementation", "major", "minor", "patchlevel", "version"),
            ),
            MetricSpec(
                "python_gc_objects_collected_total", "counter", "Objects that the garbage collector freed.", ("generation",)
            ),
            MetricSpec("python_gc_objects_uncollectable_total", "counter", "Objects that it could not free.", ("generation",)),
            MetricSpec("python_gc_collections_total", "counter", "Runs of the garbage collector.", ("generation",)),
        ),
    ),
    MetricGroup(
        "Source and manifests",
        (
            _gauge("source_up", "1 if the last fetch of the source succeeded, else 0."),
            _counter("source_syncs_total", "Looks at the source, by result: done, failed.", "result"),
            _histogram(
                "source_sync_duration_seconds",
                "Duration of one look at the source, with the manifests of a new revision.",
                (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300),
            ),
            _gauge("last_sync_timestamp_seconds", "Time of the last successful fetch of the source; 0 before the first."),
            _gauge("manifest_problems", "Errors in the manifests of the newest revision."),
        ),
    ),
    MetricGroup(
        "Reconciles",
        (
            _gauge("last_reconcile_timestamp_seconds", "Time at which the last full pass ended; 0 before the first."),
            _counter("reconcile_total", "Reconciliations of an integration, by result: done, failed.", "integration", "result"),
            _histogram(
                "reconcile_duration_seconds",
                "Duration of one reconciliation of an integration.",
                (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
                "integration",
            ),
            _gauge("reconciles_due", "Integrations whose reconciliation is due or runs, in all processes."),
            _gauge("reconciles_oldest_due_timestamp_seconds", f"Time at which the oldest of them was due; {_NOTHING}"),
            _gauge("retries_waiting", "Objects and integrations that failed and wait for another attempt."),
            _counter(
                "apply_operations_total",
                "Writes at providers, by action, object type and outcome: done, failed.",
                "action",
                "type",
                "outcome",
            ),
            _counter("drift_repaired_total", "Writes that repaired drift.", "integration"),
            _counter("resource_fights_total", "Changes held back because another writer keeps changing the object."),
        ),
    ),
    MetricGroup(
        "Resources",
        (
            _gauge(
                "resources",
                "Resources by condition: Ready with status True, False or Unknown; Drifted, Stalled, Suspended and PlanBlocked with "
                "status True.",
                "kind",
                "condition",
                "status",
            ),
            _gauge(
                "condition_oldest_timestamp_seconds",
                "Since when the longest affected resource has the condition; no series without one.",
                "kind",
                "condition",
                "status",
            ),
        ),
    ),
    MetricGroup(
        "Providers and credentials",
        (
            _histogram(
                "provider_request_duration_seconds",
                "Requests to providers, by type of the provider and outcome: 2xx, 3xx, 4xx, 5xx, timeout, connection, tls, protocol, "
                "refused-address, cancelled.",
                (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
                "provider",
                "outcome",
            ),
            _gauge("rate_limit_limit", "Requests of the provider's rate-limit window.", "integration"),
            _gauge("rate_limit_remaining", "Requests left in the provider's rate-limit window.", "integration"),
            _gauge("rate_limit_reset_timestamp_seconds", "End of the provider's rate-limit window.", "integration"),
            _gauge("rate_limit_stopped", "1 while the provider refuses requests and none is sent, else 0.", "integration"),
            _gauge(
                "credential_valid",
                "1 if the provider accepts the credential, 0 if it refuses it; absent while that is not known.",
                "integration",
            ),
            _gauge(
                "credential_unknown",
                "1 if the question (valid, identity, granted, missing, expiresAt) about the credential has no answer, else 0.",
                "integration",
                "question",
            ),
            _gauge(
                "credential_expiry_timestamp_seconds",
                "Time at which the credential ends; absent if there is no end, or its time is not known.",
                "integration",
            ),
            _gauge("credential_missing_permissions", "Needed permissions that the credential is known to lack.", "integration"),
            _gauge(
                "provider_clock_skew_seconds",
                "How far the provider's clock is ahead of this host's; absent if its answers have no date.",
                "integration",
            ),
        ),
    ),
    MetricGroup(
        "Deliveries and events",
        (
            _counter(
                "deliveries_total",
                "Received deliveries: accepted, duplicate, contradicted, busy, unsigned, wrong-signature, stale, unknown-endpoint; of an "
                "App also unrouted (kept, no Integration declares the installation) and not-asked-for (not kept).",
                "outcome",
            ),
            _counter(
                "deliveries_missed_total",
                "Deliveries that never arrived, found by recovery: redelivered, recovered (read from the provider), lost (neither; the "
                "next recovery tries again).",
                "outcome",
            ),
            _gauge(
                "events",
                "Stored events that are not done: pending, failed (an error in a filter or mapping), quarantined (exceeded the limits).",
                "state",
            ),
            _gauge("events_oldest_pending_timestamp_seconds", f"Arrival of the oldest pending event; {_NOTHING}"),
        ),
    ),
    MetricGroup(
        "Stages and reviews",
        (
            _gauge("stage_queued_items", "Items in the queue of a stage.", "stage"),
            _gauge("stage_running_executions", "Running executions of a stage.", "stage"),
            _gauge(
                "items_waiting",
                "Queued items by the reason why they wait: approval, concurrency, time-window, suspended, other; of the 500 oldest.",
                "reason",
            ),
            _gauge("items_oldest_timestamp_seconds", f"Time at which the oldest of them was queued; {_NOTHING}", "reason"),
            _gauge(
                "executions_open",
                "Executions that have not ended: starting (the outcome of the start is not known yet), running.",
                "state",
            ),
            _gauge("executions_oldest_timestamp_seconds", f"Start of the oldest of them; {_NOTHING}", "state"),
            _counter("executions_total", "Finished executions by result: passed, failed, cancelled.", "stage", "result"),
            _counter(
                "execution_ends_total",
                "Finished executions by reason: ok, failed, refused, error, missing-outputs, timed-out, user, lost.",
                "reason",
            ),
            _histogram(
                "execution_duration_seconds",
                "Time from the start of an execution to its end.",
                (1, 5, 15, 60, 300, 900, 3600, 14_400),
                "stage",
            ),
            _gauge("reports_waiting", "Statuses that are not written to the provider yet."),
            _gauge(
                "reports_oldest_due_timestamp_seconds", f"Time at which the oldest of them was due for the first time; {_NOTHING}"
            ),
            _counter("reviews_total", "Ended reviews of pull requests, by conclusion of the check.", "conclusion"),
            _histogram(
                "review_duration_seconds",
                "Time from the start of a review to the conclusion of its check.",
                (0.5, 1, 2.5, 5, 10, 30, 60, 300, 600),
            ),
            _gauge("reviews_due", "Reviews with something to do now."),
            _gauge("review_oldest_open_timestamp_seconds", "Time at which the oldest open review began; 0 if none is open."),
        ),
    ),
    MetricGroup(
        "Notifications",
        (
            _counter(
                "notifications_total",
                "Attempts to send a message: sent, failed; abandoned after the last one.",
                "sink",
                "outcome",
            ),
            _gauge(
                "notification_failing",
                "1 while the messages of a Notification cannot be delivered, else 0.",
                "notification",
            ),
            _gauge("notifications_waiting", "Messages in the outbox, by sink.", "sink"),
            _gauge(
                "notifications_oldest_timestamp_seconds",
                f"Time of the incident whose message waits longest, by sink; {_NOTHING}",
                "sink",
            ),
            _gauge("incidents_open", "Open incidents of all Notifications, by topic.", "topic"),
        ),
    ),
    MetricGroup(
        "Traces",
        (
            _counter(
                "telemetry_spans_total",
                "Spans by outcome: exported, dropped (no room), refused (by the collector); no series without telemetry.",
                "outcome",
            ),
            _gauge("telemetry_spans_waiting", "Spans that wait for their export; no series without telemetry."),
        ),
    ),
    MetricGroup(
        "State and peers",
        (
            _histogram(
                "state_call_duration_seconds",
                "Calls of the database.",
                (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 30),
            ),
            _counter("state_errors_total", "Failed calls of the database, by error code.", "code"),
            _gauge("state_busy_seconds", "Duration of the call of the database that runs now; 0 if none runs."),
            _gauge("state_database_bytes", "Size of the database; SQLite: with its write-ahead log."),
            _gauge("state_disk_bytes", "Size of the file system of the state folder."),
            _gauge("state_disk_free_bytes", "Bytes that the daemon can still write there."),
            _gauge(
                "state_measured_timestamp_seconds",
                "Time at which the state was measured; the figures of queues are of this time.",
            ),
            _gauge("audit_intact", "1 if the audit log is complete and unchanged, else 0; absent before it was verified once."),
            _gauge("audit_verified_timestamp_seconds", "Time at which the last verification of the audit log ended."),
            _gauge("processes", "Daemons with a recent heartbeat that share the state."),
            _counter("leases_lost_total", "Times that another process had taken over work of this one."),
            _gauge("database_clock_skew_seconds", "How far the database's clock is ahead of this host's."),
        ),
    ),
)
METRICS = {spec.name: spec for group in GROUPS for spec in group.metrics}
"""Every metric by its name."""
METRIC_NAMES = tuple(METRICS)

__all__ = ["GROUPS", "MAX_NAMES", "METRICS", "METRIC_NAMES", "OTHER", "MetricGroup", "MetricSpec"]
