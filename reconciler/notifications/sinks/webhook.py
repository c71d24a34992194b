"""A signed request (Standard Webhooks, https://www.standardwebhooks.com): one event for each message, with the incident's id.

``webhook-id`` is equal for every attempt to send one message, so that a receiver can drop a repetition.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from reconciler.model.errors import SecretUnavailable
from reconciler.model.incidents import NoticePhase, shown
from reconciler.model.secrets import SecretValue
from reconciler.model.times import iso
from reconciler.notifications.message import Message
from reconciler.notifications.sinks.base import ALL, HttpEndpoint, Target

PREFIX = "whsec_"
KEYS = 4
"""Keys that sign one event."""
_TYPES = {
    NoticePhase.START: "start",
    NoticePhase.UPDATE: "update",
    NoticePhase.FLAPPING: "flapping",
    NoticePhase.END: "end",
    NoticePhase.TEST: "test",
}


@dataclass(frozen=True, slots=True)
class SignedWebhook:
    """Implements `Sink`. ``clock``: seconds since the epoch, for the signature's timestamp."""

    endpoint: HttpEndpoint
    key: SecretValue
    owner: str
    clock: Callable[[], float]
    name = "webhook"
    phases = ALL
    refresh_s = 0.0

    async def send(self, message: Message, target: Target) -> Target:
        body = event_of(message, self.owner)
        headers = signature_headers(message.id, int(self.clock()), orjson.dumps(body), keys_of(self.key))
        await self.endpoint.post(body, headers=headers)
        return {}


def event_of(message: Message, owner: str) -> dict[str, Any]:
    """Return the event: its type is ``incident.start``, ``update``, ``flapping`` or ``end``; ``data.id`` is equal in all of them."""
    incident = message.incident
    return {
        "type": f"incident.{_TYPES[message.phase]}",
        "timestamp": iso(incident.changed_at),
        "data": {
            "id": incident.id,
            "owner": owner,
            "notification": shown(incident.notification),
            "topic": incident.topic.value,
            "severity": incident.severity.value,
            "title": incident.title,
            "reason": incident.reason,
            "message": incident.message,
            "url": incident.url,
            "resources": [shown(path) for path in incident.members],
            "count": incident.count,
            "flapping": incident.flapping,
            "released": incident.released,
            "startedAt": iso(incident.opened_at),
            "endedAt": iso(incident.closed_at),
        },
    }


def keys_of(key: SecretValue) -> list[bytes]:
    """Return the bytes of each key: a Secret holds two, separated by a blank or a line break, while receivers change from one to the other.

    Raises `SecretUnavailable` for any other form.
    """
    return [_key_bytes(text) for text in key.reveal().split()[:KEYS]] or [_key_bytes("")]


def _key_bytes(text: str) -> bytes:
    try:
        raw = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not 24 <= len(raw) <= 64:
        raise SecretUnavailable(
            "the signing key is not 24 to 64 bytes in Base64",
            code="RC8104",
            hint="Write whsec_ and the Base64 of 32 random bytes: echo whsec_$(openssl rand -base64 32)",
        )
    return raw


def signature_headers(identity: str, timestamp: int, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """Return the three headers of Standard Webhooks, with a signature by each key."""
    signed = f"{identity}.{timestamp}.".encode() + body
    digests = [base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in keys]
    signature = " ".join(f"v1,{digest}" for digest in digests)
    return {"webhook-id": identity, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


__all__ = ["SignedWebhook", "event_of", "keys_of", "signature_headers"]
