"""Rows of the page Notifications: incidents, messages and sinks, with the words that a page shows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from reconciler.manifests.notification_spec import NotificationSpec, SinkSpec
from reconciler.model.incidents import Incident, IncidentSeverity, NoticePhase, SinkRecord, WaitingNotices
from reconciler.model.resources import Kind, Resource, ResourceId
from reconciler.model.times import iso
from reconciler.notifications.senders import sink_name
from reconciler.state.notice_log import NoticeRow

TONES = {IncidentSeverity.CRITICAL: "bad", IncidentSeverity.ERROR: "bad", IncidentSeverity.WARNING: "warn"}
PHASES = {
    NoticePhase.START: "started",
    NoticePhase.UPDATE: "changed",
    NoticePhase.FLAPPING: "flapping",
    NoticePhase.END: "ended",
    NoticePhase.RELEASE: "not reported here any more",
    NoticePhase.TEST: "test",
}


def incident_rows(incidents: Iterable[Incident]) -> list[dict[str, Any]]:
    """Return one row for each cause, with the Notifications that report it."""
    rows: dict[str, dict[str, Any]] = {}
    for incident in incidents:
        row = rows.get(incident.key)
        if row is not None:
            row["notifications"].append(incident.notification)
            continue
        rows[incident.key] = {
            "severity": incident.severity.value,
            "tone": TONES.get(incident.severity, "idle"),
            "title": incident.title,
            "reason": incident.reason,
            "message": incident.message,
            "url": incident.url,
            "topic": incident.topic.value,
            "members": list(incident.members),
            "count": incident.count,
            "since": iso(incident.opened_at),
            "flapping": incident.flapping,
            "notifications": [incident.notification],
        }
    return list(rows.values())


def message_row(row: NoticeRow, places: Mapping[str, str], suspended: Mapping[str, str]) -> dict[str, Any]:
    """Return a row of the outbox. ``places``: where each Notification sends to, by its path."""
    notice, incident = row.notice, row.notice.incident
    is_suspended = not row.done_at and incident.notification in suspended
    return {
        "seq": notice.seq,
        "state": notice.unsent or ("sent" if row.done_at else "failing" if notice.failures else "waiting"),
        "phase": PHASES[notice.phase],
        "title": incident.title,
        "notification": incident.notification,
        "place": places.get(incident.notification, ""),
        "at": iso(row.done_at),
        "due": iso(row.due_at),
        "again": iso(row.refresh_at),
        "failures": notice.failures,
        "since": iso(notice.failed_at),
        "is_suspended": is_suspended,
        "reason": suspended[incident.notification] if is_suspended else notice.error,
    }


def waiting_rows(rows: Iterable[NoticeRow], places: Mapping[str, str], suspended: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the messages that wait, in the order of each Notification: a later one waits for those before it."""
    shown: list[dict[str, Any]] = []
    first: set[str] = set()
    for row in sorted(rows, key=lambda row: (row.notice.incident.notification, row.notice.seq)):
        path = row.notice.incident.notification
        shown.append({**message_row(row, places, suspended), "is_first": path not in first})
        first.add(path)
    return shown


def sink_rows(
    resources: Mapping[ResourceId, Resource],
    records: Mapping[str, SinkRecord],
    waiting: Mapping[str, WaitingNotices],
    suspended: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return a row for each declared Notification, those that fail first."""
    rows = [
        _sink_row(
            resource,
            records.get(identity.path, SinkRecord()),
            waiting.get(identity.path, WaitingNotices()).count,
            suspended.get(identity.path),
        )
        for identity, resource in resources.items()
        if identity.kind == Kind.NOTIFICATION.value
    ]
    return sorted(rows, key=lambda row: (not row["error"], row["path"]))


def _sink_row(resource: Resource, record: SinkRecord, waiting: int, suspended: str | None) -> dict[str, Any]:
    spec = resource.typed(NotificationSpec)
    error = record.former or (record.error if waiting or record.abandoned else "")
    state = "suspended" if suspended is not None else "failing" if error else "working" if record.sent else "not used yet"
    return {
        "path": resource.id.path,
        "name": resource.id.name,
        "sink": sink_name(spec.sink),
        "place": place_of_sink(spec.sink),
        "state": state,
        "tone": {"suspended": "idle", "failing": "bad", "working": "good"}.get(state, "idle"),
        "why": suspended or error,
        "code": record.code if error else "",
        "since": iso(record.failed_at) if error else "",
        "error": error,
        "sent": record.sent,
        "waiting": waiting,
        "suppressed": record.suppressed,
        "suppressed_why": record.why,
        "abandoned": record.abandoned,
        "sent_at": iso(record.sent_at),
    }


def place_of_sink(sink: SinkSpec) -> str:
    """Return where a sink sends to, without anything secret: a channel, a host, addresses."""
    if sink.slack is not None:
        return sink.slack.channel or "an incoming webhook"
    if sink.email is not None:
        return ", ".join(sink.email.to)
    if sink.webhook is not None:
        return urlsplit(sink.webhook.url).hostname or ""
    if sink.alertmanager is not None:
        return urlsplit(sink.alertmanager.url).hostname or ""
    if sink.pagerduty is not None:
        return urlsplit(sink.pagerduty.url or "").hostname or "events.pagerduty.com"
    if sink.github_commit_status is not None:
        return sink.github_commit_status.context
    return "a workflow"


def involving(incidents: Sequence[Incident], path: str) -> list[Incident]:
    """Return the incidents that a resource is part of, or that a Notification reports."""
    return [each for each in incidents if path in each.members or each.notification == path]


__all__ = ["incident_rows", "involving", "message_row", "sink_rows", "waiting_rows"]
