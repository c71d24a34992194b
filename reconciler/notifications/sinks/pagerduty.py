"""PagerDuty: an alert for each incident, resolved at its end (Events API v2).

Facts: developer.pagerduty.com, "Send an alert event": 202 with ``status: success``; 400 for an invalid event; 429 and 5xx are retried
with the same ``dedup_key``, which makes it idempotent. ``dedup_key`` has at most 255 characters, ``summary`` 1,024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reconciler.drivers.wire import find
from reconciler.model.errors import ProviderProtocolError, ValidationFailed
from reconciler.model.incidents import NoticePhase
from reconciler.model.secrets import SecretValue
from reconciler.model.times import iso
from reconciler.notifications.message import Message
from reconciler.notifications.sinks.base import HttpEndpoint, Target

API = "https://events.pagerduty.com"
HOSTS = ("events.pagerduty.com", "events.eu.pagerduty.com")
SUMMARY = 1_024
_ENDS = frozenset({NoticePhase.END})


@dataclass(frozen=True, slots=True)
class Pagerduty:
    """Implements `Sink`."""

    endpoint: HttpEndpoint
    key: SecretValue
    owner: str
    name = "pagerduty"
    phases = frozenset({NoticePhase.START, NoticePhase.UPDATE, NoticePhase.FLAPPING, NoticePhase.END, NoticePhase.TEST})
    refresh_s = 0.0

    async def send(self, message: Message, target: Target) -> Target:
        try:
            response = await self.endpoint.post(event_of(message, self.key, self.owner))
        except ValidationFailed as error:
            reasons = "; ".join(find(error.body, list[str], "errors") or ())[:200]
            raise ValidationFailed(
                f"PagerDuty refused the event: {reasons or error.message}",
                status=error.status,
                request=error.request,
                code="RC8103",
            ) from None
        answer = response.json()
        if not isinstance(answer, dict) or answer.get("status") != "success":
            raise ProviderProtocolError(
                f"PagerDuty answered {response.status} without `status: success`", status=response.status, code="RC8101"
            )
        if message.phase is NoticePhase.TEST:  # a test must not leave an open alert
            await self.endpoint.post({**_head(message, self.key), "event_action": "resolve"})
        return {}


def event_of(message: Message, key: SecretValue, owner: str) -> dict[str, Any]:
    """Return the event: ``trigger``, also for a change, or ``resolve``."""
    head = _head(message, key)
    if message.phase in _ENDS:
        return {**head, "event_action": "resolve"}
    details = dict(message.lines) | ({"Message": message.text} if message.text else {})
    event: dict[str, Any] = {
        **head,
        "event_action": "trigger",
        "client": "reconciler",
        "payload": {
            "summary": message.headline[:SUMMARY],
            "source": owner,
            "severity": message.severity.value,
            "timestamp": iso(message.incident.changed_at),
            "custom_details": details,
        },
    }
    if message.url:
        event["links"] = [{"href": message.url, "text": "Open"}]
    return event


def _head(message: Message, key: SecretValue) -> dict[str, Any]:
    return {"routing_key": key.reveal().strip(), "dedup_key": message.incident.id}


__all__ = ["API", "HOSTS", "Pagerduty", "event_of"]
