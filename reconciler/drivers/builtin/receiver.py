"""Webhooks of any sender, signed with a key of ours: an HMAC over the body, or Standard Webhooks 1.0.

The first is GitHub's scheme under a neutral name. It signs only the body, not id, time or type: whoever has one delivery can replay
its body under another id. Standard Webhooks also signs id and time (https://github.com/standard-webhooks/standard-webhooks,
spec/standard-webhooks.md); senders that support it should use it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import orjson

from reconciler.drivers.base import Receiver
from reconciler.drivers.connection import Api
from reconciler.drivers.delivery import KeepsNoDeliveries, identity_of, secrets_of, signed_by, signing_key
from reconciler.drivers.wire import matches
from reconciler.model.errors import ReconcilerError
from reconciler.model.events import Delivery, Hook, PastDelivery, Refusal, Rejection
from reconciler.model.resources import Resource
from reconciler.model.secrets import SecretValue
from reconciler.model.values import JsonObject, JsonValue

SIGNATURES = ("x-signature-256", "x-hub-signature-256")
IDS = ("webhook-id", "x-delivery-id", "idempotency-key")
REQUEST_ID = "x-request-id"
_IDS = ("id", "event_id", "eventId", "delivery_id", "deliveryId", "message_id", "messageId", "uuid", "guid", "idempotency_key")
_TIMES = (
    *("timestamp", "time", "created_at", "createdAt", "updated_at", "updatedAt", "occurred_at", "occurredAt"),
    *("sent_at", "sentAt", "published_at", "publishedAt", "finished_at", "finishedAt", "pushed_at"),
)
_WITHIN = ("event", "data", "meta", "metadata")
"""Fields that tell one event from another in a payload, and the objects that may contain them."""
TYPES = ("x-event-type", "x-event", "ce-type")
UNNAMED = "webhook"
"""The type of an event that does not give one."""
TOLERANCE_S = 300
"""How far a signed timestamp may be from now: the value of the Standard Webhooks libraries."""
PREFIX = "whsec_"
_MAX_SIGNATURES = 20
_MAX_HEADERS = 64
_MAX_HEADER = 1024
_MAX_TYPE = 128
_MILLISECONDS = 1e11
"""An epoch number from here on counts milliseconds: as seconds it is beyond the year 5000."""
_ID = re.compile(r"[ -~]{1,200}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_PRIVATE = re.compile(r"authorization|cookie|signature|token|secret|password|api-?key|^proxy-|^x-forwarded-|^forwarded$")
"""Names of headers with a proof, a route or a possible credential: filters do not see them."""


class _NoApi(KeepsNoDeliveries):
    """What both schemes share: the sender has no API, so nothing can be read again."""

    signs_body = True

    async def missed(self, api: Api, source: Resource, hooks: Sequence[Hook], since: float) -> tuple[PastDelivery, ...]:
        """Return nothing: retries are up to the sender."""
        return ()

    async def fetch(self, api: Api, hook: Hook | None, past: PastDelivery) -> Delivery:
        """Raise `ReconcilerError`: `missed` never returns a delivery to fetch."""
        raise ReconcilerError("the events of a signed webhook cannot be read again")


class HmacReceiver(_NoApi):
    """HMAC-SHA256 of the raw body; implements `reconciler.drivers.base.Receiver`."""

    def verify(self, headers: Mapping[str, str], body: bytes, keys: Sequence[SecretValue], *, now: float) -> Delivery | Rejection:
        """Return the delivery, if ``X-Signature-256`` (or ``X-Hub-Signature-256``) was made with one of ``keys``.

        The signature is 64 lower-case hex digits, bare or after ``sha256=``; the key is the text of the derived key, as bytes. Raises
        `ValueError` for an empty key, with which anyone could sign: a defect here, not something that a sender can cause.
        """
        for secret in secrets_of(keys):
            _filled(secret)
        signature = next((headers[name].strip() for name in SIGNATURES if headers.get(name, "").strip()), "")
        if not signature:
            return Rejection(Refusal.UNSIGNED, f"no header {SIGNATURES[0]}")
        key = signed_by(body, signature.removeprefix("sha256="), keys)
        return Rejection(Refusal.WRONG) if key is None else _unsigned_id(headers, body, key, now)


class StandardReceiver(_NoApi):
    """Standard Webhooks 1.0, symmetric (``v1``); implements `reconciler.drivers.base.Receiver`."""

    def verify(self, headers: Mapping[str, str], body: bytes, keys: Sequence[SecretValue], *, now: float) -> Delivery | Rejection:
        """Return the delivery, if one of the signatures in ``webhook-signature`` was made with one of ``keys``.

        Id, timestamp and body are signed, joined by dots; signatures of other versions are ignored. A signed timestamp more than
        five minutes from ``now`` is `Refusal.STALE`. The type is the body's ``type``; unsigned headers are ignored. Raises
        `ValueError` for a key that is not ``whsec_`` and base64: a defect here, not something that a sender can cause.
        """
        secrets = [_standard_secret(key) for key in keys]
        sent_id, sent_at, signatures = (headers.get(f"webhook-{part}", "") for part in ("id", "timestamp", "signature"))
        if not (sent_id and sent_at and signatures):
            return Rejection(Refusal.UNSIGNED, "not all of webhook-id, webhook-timestamp and webhook-signature")
        readable = _ID.fullmatch(sent_id) and "." not in sent_id and _TIMESTAMP.fullmatch(sent_at)
        signed = f"{sent_id}.{sent_at}.".encode() + body
        key = signing_key(secrets, lambda secret: hmac.new(secret, signed, hashlib.sha256).digest(), _signatures(signatures))
        if not readable:  # checked late: it takes as long as a wrong signature
            return Rejection(Refusal.WRONG, "webhook-id or webhook-timestamp is invalid")
        if key is None:
            return Rejection(Refusal.WRONG)
        if abs(now - int(sent_at)) > TOLERANCE_S:
            return Rejection(Refusal.STALE, f"signed {round(now - int(sent_at))} s ago")
        payload, problem = _read(body)
        kind = _type_of(payload) or UNNAMED
        return Delivery(sent_id, kind, body, "", float(int(sent_at)), _kept(headers), key, problem)


def _filled(secret: bytes) -> bytes:
    if not secret:
        raise ValueError("an empty signing key: anyone could sign with it")
    return secret


def _standard_secret(key: SecretValue) -> bytes:
    text = key.reveal()
    if not text.startswith(PREFIX):
        raise ValueError(f"a signing key of Standard Webhooks must start with {PREFIX}")
    try:
        return _filled(base64.b64decode(text.removeprefix(PREFIX), validate=True))
    except binascii.Error:
        raise ValueError(f"a signing key of Standard Webhooks must be {PREFIX} and base64") from None


def _signatures(header: str) -> list[bytes]:
    """Return the signatures of version 1 in the header."""
    signatures = []
    for part in header.split(" ")[:_MAX_SIGNATURES]:
        version, _, text = part.partition(",")
        if version == "v1":
            with contextlib.suppress(ValueError):
                signatures.append(base64.b64decode(text, validate=True))
    return signatures


def _unsigned_id(headers: Mapping[str, str], body: bytes, key: int, now: float) -> Delivery:
    """Return the delivery of a sender that signs only the body.

    The sender's id of the event tells two equal bodies apart. Without one, equal bodies are the same event if they contain an id or
    a time (`_IDS`, `_TIMES`); else each delivery is an event of its own: "deploy" may be sent twice. ``X-Request-Id`` does not tell
    events apart: proxies create a new one for every try. An unsigned id is no replay protection.
    """
    digest = identity_of(body)
    event_id = _first(headers, IDS)
    payload, problem = _read(body)
    unique = bool(problem) or _is_unique(payload)
    identity = digest if unique and not event_id else ""
    kind = _named_type(headers) or _type_of(payload) or UNNAMED
    sent_id = event_id or _first(headers, (REQUEST_ID,)) or (digest if unique else f"{digest}/{now:.6f}")
    return Delivery(sent_id, kind, body, identity, _time_of(payload), _kept(headers), key, problem)


def _is_unique(payload: JsonObject) -> bool:
    """Whether a payload has an id or a time of its own, at its top or one level down (``event``, ``data``, ``meta``)."""
    levels = [payload, *(matches(payload.get(name), dict) or {} for name in _WITHIN)]
    marks = (_is_mark(level.get(name)) for level in levels for name in (*_IDS, *_TIMES))
    return any(marks)


def _is_mark(value: JsonValue) -> bool:
    match value:
        case bool():
            return False
        case int() | float():
            return True
        case str():
            return value != ""
        case _:
            return False


def _first(headers: Mapping[str, str], names: Sequence[str]) -> str:
    values = (headers.get(name, "").strip() for name in names)
    return next((value for value in values if _ID.fullmatch(value)), "")


def _named_type(headers: Mapping[str, str]) -> str:
    return next((value for value in (headers.get(name, "").strip() for name in TYPES) if _is_type(value)), "")


def _type_of(payload: JsonObject) -> str:
    kind = matches(payload.get("type"), str) or ""
    return kind if _is_type(kind) else ""


def _is_type(value: str) -> bool:
    return 0 < len(value) <= _MAX_TYPE and value.isprintable()


def _read(body: bytes) -> tuple[JsonObject, str]:
    """Return the payload (empty if it is no JSON object) and the problem with it."""
    try:
        return matches(orjson.loads(body), dict) or {}, ""
    except orjson.JSONDecodeError:
        return {}, "the payload is not JSON"


def _time_of(payload: JsonObject) -> float | None:
    """Return the event's ``timestamp`` or ``time`` in seconds since the epoch: RFC 3339, or epoch seconds or milliseconds."""
    times = (_epoch(payload.get(name)) for name in ("timestamp", "time"))
    return next((at for at in times if at is not None), None)


def _epoch(value: JsonValue) -> float | None:
    match value:
        case bool():
            return None
        case int() | float():
            at = value / 1000 if value >= _MILLISECONDS else float(value)
            return at if 0 < at < _MILLISECONDS else None
        case str():
            try:
                moment = datetime.datetime.fromisoformat(value)
                return moment.timestamp() if moment.tzinfo is not None else None
            except (ValueError, OverflowError):
                return None
        case _:
            return None


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that filters may see: at most 64, each of at most 1,024 characters."""
    shown = [
        (name, value[:_MAX_HEADER]) for name, value in headers.items() if not _PRIVATE.search(name) and len(name) <= _MAX_HEADER
    ]
    return dict(shown[:_MAX_HEADERS])


RECEIVERS: Mapping[str, Receiver] = MappingProxyType({"hmac-sha256": HmacReceiver(), "standard-webhooks": StandardReceiver()})
"""The receivers for sources of type ``webhook``, by ``webhook.signature``."""
