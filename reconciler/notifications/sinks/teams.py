"""Microsoft Teams: an Adaptive Card through a Power Automate Workflow. A sent card cannot be edited: the end is a second card.

Facts: learn.microsoft.com, "Create incoming webhooks with Workflows", Adaptive Card schema 1.4. The ``sig`` in the query of the URL is
the credential. 202 means accepted, not shown. The Office 365 connectors (``*.webhook.office.com``) are retired.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from reconciler.model.incidents import IncidentSeverity, NoticePhase
from reconciler.notifications.message import Message
from reconciler.notifications.sinks.base import HttpEndpoint, Target

HOSTS = (
    "*.logic.azure.com",
    "*.*.logic.azure.com",
    "*.api.powerplatform.com",
    "*.*.api.powerplatform.com",
    "*.*.environment.api.powerplatform.com",
    "*.environment.api.powerplatform.com",
    "api.powerautomate.com",
)
RETIRED = ".webhook.office.com"
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+\-.!|~>])")
_COLOURS = {
    IncidentSeverity.INFO: "accent",
    IncidentSeverity.WARNING: "warning",
    IncidentSeverity.ERROR: "attention",
    IncidentSeverity.CRITICAL: "attention",
}


@dataclass(frozen=True, slots=True)
class TeamsWorkflow:
    """Implements `Sink`."""

    endpoint: HttpEndpoint
    name = "teams"
    phases = frozenset({NoticePhase.START, NoticePhase.FLAPPING, NoticePhase.END, NoticePhase.TEST})
    refresh_s = 0.0

    async def send(self, message: Message, target: Target) -> Target:
        if not (message.instant and message.phase is NoticePhase.END):
            await self.endpoint.post(card_of(message))
        return {}


def card_of(message: Message) -> dict[str, Any]:
    """Return the message that a Workflow posts. Its text blocks know a part of Markdown, so foreign text is escaped."""
    over = message.phase is NoticePhase.END or message.instant
    body: list[dict[str, Any]] = [
        _block(message.headline, weight="bolder", size="medium", color="good" if over else _COLOURS[message.severity])
    ]
    if message.text:
        body.append(_block(message.text))
    body.append({"type": "FactSet", "facts": [{"title": label, "value": escaped(value)} for label, value in message.lines]})
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": body,
    }
    if message.url:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Open", "url": message.url}]
    return {
        "type": "message",
        "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}],
    }


def escaped(text: str) -> str:
    """Return ``text`` without the meaning of its Markdown characters, and without mentions."""
    return _MARKUP.sub(r"\\\1", text).replace("<", "&lt;")


def _block(text: str, **more: str) -> dict[str, Any]:
    return {"type": "TextBlock", "text": escaped(text), "wrap": True, **more}


__all__ = ["HOSTS", "RETIRED", "TeamsWorkflow", "card_of", "escaped"]
