"""Alertmanager: an alert that is sent again before it expires, and ends with ``endsAt`` (API v2).

Facts: Alertmanager's api/v2/openapi.yaml: ``POST /api/v2/alerts`` with a list; equal labels are one alert; an alert
whose ``endsAt`` has passed is resolved. It keeps alerts in memory, so a restarted one hears of them with the next repetition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reconciler.model.incidents import NoticePhase, shown
from reconciler.model.times import iso
from reconciler.notifications.message import Message
from reconciler.notifications.sinks.base import HttpEndpoint, Target

REFRESH_S = 120.0
EXPIRES_S = 600.0
"""An alert that is not repeated for this long ends: this program was stopped for good, or cannot reach the Alertmanager."""


@dataclass(frozen=True, slots=True)
class Alertmanager:
    """Implements `Sink`."""

    endpoint: HttpEndpoint
    owner: str
    clock: Callable[[], float]
    name = "alertmanager"
    phases = frozenset({NoticePhase.START, NoticePhase.UPDATE, NoticePhase.FLAPPING, NoticePhase.END, NoticePhase.TEST})
    refresh_s = REFRESH_S

    async def send(self, message: Message, target: Target) -> Target:
        identity = {
            "topic": target.get("topic", message.incident.topic.value),
            "severity": target.get("severity", message.severity.value),
        }
        await self.endpoint.post([alert_of(message, identity, self.owner, self.clock())])
        return identity if not target else {}


def alert_of(message: Message, identity: Target, owner: str, now: float) -> dict[str, Any]:
    """Return the alert. Its labels are its identity, so ``identity`` is topic and severity as they were at the start."""
    incident = message.incident
    over = message.phase is NoticePhase.END
    ends_at = (
        max(incident.closed_at, incident.opened_at) if over else now + (30.0 if message.phase is NoticePhase.TEST else EXPIRES_S)
    )
    alert: dict[str, Any] = {
        "labels": {
            "alertname": "Reconciler" + "".join(word.capitalize() for word in identity["topic"].split("-")),
            "owner": owner,
            "notification": shown(incident.notification),
            "incident": incident.id,
            "severity": identity["severity"],
        },
        "annotations": {"summary": message.headline, "description": message.text, **dict(_annotations(message))},
        "startsAt": iso(incident.opened_at),
        "endsAt": iso(ends_at),
    }
    if message.url:
        alert["generatorURL"] = message.url
    return alert


def _annotations(message: Message) -> list[tuple[str, str]]:
    return [(label.lower(), value) for label, value in message.lines if label not in {"Since", "From", "To", "Severity", "Topic"}]


__all__ = ["EXPIRES_S", "REFRESH_S", "Alertmanager", "alert_of"]
