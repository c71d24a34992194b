"""Webhooks of any sender, proved with a key of ours: an HMAC over the body, or Standard Webhooks 1.0.

The first is GitHub's scheme under a neutral name. It signs the body and nothing else: neither id nor time nor type are proved by
it, so that whoever got hold of one delivery can send its body again under another id. Standard Webhooks signs id and time too
(https://github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md); a sender that can should use it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import orjson

from reconciler.drivers.base import Api, Receiver
from reconciler.model.errors import ReconcilerError
from reconciler.model.events import Delivery, Hook, PastDelivery, Refusal, Rejection
from reconciler.model.resources import Resource
from reconciler.model.secrets import SecretValue

SIGNATURES = ("x-signature-256", "x-hub-signature-256")
IDS = ("webhook-id", "x-delivery-id", "idempotency-key")
REQUEST_ID = "x-request-id"
_IDS = ("id", "event_id", "eventId", "delivery_id", "deliveryId", "message_id", "messageId", "uuid", "guid", "idempotency_key")
_TIMES = (
    *("timestamp", "time", "created_at", "createdAt", "updated_at", "updatedAt", "occurred_at", "occurredAt"),
    *("sent_at", "sentAt", "published_at", "publishedAt", "finished_at", "finishedAt", "pushed_at"),
)
_WITHIN = ("event", "data", "meta", "metadata")
"""Names of what tells one event from another in a payload, and of the objects that may hold it."""
TYPES = ("x-event-type", "x-event", "ce-type")
UNNAMED = "webhook"
"""The type of an event that does not say what it is."""
TOLERANCE_S = 300
"""How far a signed timestamp may be from now: what the libraries of Standard Webhooks allow."""
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
"""Names of headers that prove who sent, tell how it travelled, or may hold a credential: no filter sees them."""


class _Web:
    """What both schemes share: a sender without an API, so that nothing can be asked for again."""

    keeps_deliveries = False
    signs_body = True

    async def missed(self, api: Api, source: Resource, hooks: Sequence[Hook], since: float) -> tuple[PastDelivery, ...]:
        """Nobody can be asked what was sent: sending until it is answered is up to the sender."""
        return ()

    async def redeliver(self, api: Api, hook: Hook, past: PastDelivery) -> bool:
        """Nobody can be asked."""
        return False

    async def fetch(self, api: Api, hook: Hook | None, past: PastDelivery) -> Delivery:
        """Raise `ReconcilerError`: `missed` never names a delivery that could be fetched."""
        raise ReconcilerError("a webhook of one's own has no place where its events could be read")


class HmacReceiver(_Web):
    """HMAC-SHA256 of the raw body; implements `reconciler.drivers.base.Receiver`."""

    def verify(self, headers: Mapping[str, str], body: bytes, keys: Sequence[SecretValue], *, now: float) -> Delivery | Rejection:
        """Return the delivery, if ``X-Signature-256`` (or ``X-Hub-Signature-256``) was made with one of ``keys``.

        It is 64 lower-case hex digits, bare or after ``sha256=``; the key is the text of the derived key, as its bytes. Raises
        `ValueError` for an empty key, with which anybody could sign: a defect here, and nothing that a sender can send.
        """
        secrets = [_filled(key.reveal().encode()) for key in keys]
        signature = next((headers[name].strip() for name in SIGNATURES if headers.get(name, "").strip()), "")
        if not signature:
            return Rejection(Refusal.UNSIGNED, f"no header {SIGNATURES[0]}")
        given = signature.removeprefix("sha256=").encode("utf-8", "replace")
        key = _signer(secrets, lambda secret: hmac.new(secret, body, hashlib.sha256).hexdigest().encode(), [given])
        return Rejection(Refusal.WRONG) if key is None else _unsigned_id(headers, body, key, now)


class StandardReceiver(_Web):
    """Standard Webhooks 1.0, symmetric (``v1``); implements `reconciler.drivers.base.Receiver`."""

    def verify(self, headers: Mapping[str, str], body: bytes, keys: Sequence[SecretValue], *, now: float) -> Delivery | Rejection:
        """Return the delivery, if one of the signatures in ``webhook-signature`` was made with one of ``keys``.

        Signed are id, timestamp and body, joined by dots; signatures of other versions are passed over. A signed timestamp more
        than five minutes from ``now`` is `Refusal.STALE`. The type is the body's ``type``: what is not signed counts for nothing.
        Raises `ValueError` for a key that is no ``whsec_`` and base64: a defect here, and nothing that a sender can send.
        """
        secrets = [_standard_secret(key) for key in keys]
        sent_id, sent_at, signatures = (headers.get(f"webhook-{part}", "") for part in ("id", "timestamp", "signature"))
        if not (sent_id and sent_at and signatures):
            return Rejection(Refusal.UNSIGNED, "not all of webhook-id, webhook-timestamp and webhook-signature")
        readable = _ID.fullmatch(sent_id) and "." not in sent_id and _TIMESTAMP.fullmatch(sent_at)
        signed = f"{sent_id}.{sent_at}.".encode() + body
        key = _signer(secrets, lambda secret: hmac.new(secret, signed, hashlib.sha256).digest(), _signatures(signatures))
        if not readable:  # only now: it takes as long as a wrong signature
            return Rejection(Refusal.WRONG, "webhook-id or webhook-timestamp is none")
        if key is None:
            return Rejection(Refusal.WRONG)
        if abs(now - int(sent_at)) > TOLERANCE_S:
            return Rejection(Refusal.STALE, f"signed {round(now - int(sent_at))} s ago")
        payload, problem = _read(body)
        kind = _type_of(payload) or UNNAMED
        return Delivery(sent_id, kind, body, "", float(int(sent_at)), _kept(headers), key, problem)


def _filled(secret: bytes) -> bytes:
    if not secret:
        raise ValueError("an empty signing key: anybody could sign with it")
    return secret


def _standard_secret(key: SecretValue) -> bytes:
    text = key.reveal()
    if not text.startswith(PREFIX):
        raise ValueError(f"a signing key of Standard Webhooks begins with {PREFIX}")
    try:
        return _filled(base64.b64decode(text.removeprefix(PREFIX), validate=True))
    except binascii.Error:
        raise ValueError(f"a signing key of Standard Webhooks is {PREFIX} and base64") from None


def _signatures(header: str) -> list[bytes]:
    """Return the signatures of version 1 among those that are listed."""
    found = []
    for one in header.split(" ")[:_MAX_SIGNATURES]:
        version, _, text = one.partition(",")
        if version == "v1":
            with contextlib.suppress(ValueError):
                found.append(base64.b64decode(text, validate=True))
    return found


def _signer(secrets: Sequence[bytes], made: Callable[[bytes], bytes], given: Sequence[bytes]) -> int | None:
    """Return the number of the first key by which one of ``given`` was made. All are compared, whatever was found."""
    proof: int | None = None
    for number, secret in enumerate(secrets):
        expected = made(secret)
        for one in given:
            if hmac.compare_digest(expected, one) and proof is None:
                proof = number
    return proof


def _unsigned_id(headers: Mapping[str, str], body: bytes, key: int, now: float) -> Delivery:
    """Return the delivery of a sender that signs the body only.

    Its own id of the event is what tells two equal bodies apart. Without one, equal bodies are the same event where they have an
    id or a time of their own (`_IDS`, `_TIMES`); else each delivery is an event of its own: "deploy" may be said twice.
    ``X-Request-Id`` does not tell events apart: proxies make a new one for every try. Nor is an unsigned id proof against
    somebody who replays.
    """
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    event_id = _first(headers, IDS)
    payload, problem = _read(body)
    unique = bool(problem) or _is_unique(payload)
    identity = digest if unique and not event_id else ""
    kind = _named_type(headers) or _type_of(payload) or UNNAMED
    sent_id = event_id or _first(headers, (REQUEST_ID,)) or (digest if unique else f"{digest}/{now:.6f}")
    return Delivery(sent_id, kind, body, identity, _time_of(payload), _kept(headers), key, problem)


def _is_unique(payload: Any) -> bool:
    """Whether a payload has an id or a time of its own, at its top or one level down (``event``, ``data``, ``meta``)."""
    if not isinstance(payload, Mapping):
        return False
    levels = [payload, *(one for one in (payload.get(name) for name in _WITHIN) if isinstance(one, Mapping))]
    marks = (level.get(name) for level in levels for name in (*_IDS, *_TIMES))
    return any(isinstance(mark, str | int | float) and not isinstance(mark, bool) and mark != "" for mark in marks)


def _first(headers: Mapping[str, str], names: Sequence[str]) -> str:
    values = (headers.get(name, "").strip() for name in names)
    return next((value for value in values if _ID.fullmatch(value)), "")


def _named_type(headers: Mapping[str, str]) -> str:
    return next((value for value in (headers.get(name, "").strip() for name in TYPES) if _is_type(value)), "")


def _type_of(payload: Any) -> str:
    value = payload.get("type") if isinstance(payload, Mapping) else None
    return value if isinstance(value, str) and _is_type(value) else ""


def _is_type(value: str) -> bool:
    return 0 < len(value) <= _MAX_TYPE and value.isprintable()


def _read(body: bytes) -> tuple[Any, str]:
    """Return the payload, and what is wrong with it."""
    try:
        return orjson.loads(body), ""
    except orjson.JSONDecodeError:
        return None, "the payload is not JSON"


def _time_of(payload: Any) -> float | None:
    """Return when the event happened by its ``timestamp`` or ``time``: RFC 3339, or seconds or milliseconds of the epoch."""
    if not isinstance(payload, Mapping):
        return None
    times = (_epoch(payload.get(name)) for name in ("timestamp", "time"))
    return next((at for at in times if at is not None), None)


def _epoch(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            moment = datetime.datetime.fromisoformat(value)
            return moment.timestamp() if moment.tzinfo is not None else None
        except (ValueError, OverflowError):
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    at = value / 1000 if value >= _MILLISECONDS else float(value)
    return at if 0 < at < _MILLISECONDS else None


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what filters may see: at most 64 headers, of each at most 1,024 characters."""
    shown = [
        (name, value[:_MAX_HEADER]) for name, value in headers.items() if not _PRIVATE.search(name) and len(name) <= _MAX_HEADER
    ]
    return dict(shown[:_MAX_HEADERS])


RECEIVERS: Mapping[str, Receiver] = MappingProxyType({"hmac-sha256": HmacReceiver(), "standard-webhooks": StandardReceiver()})
"""The receivers of sources of type ``webhook``, by ``webhook.signature``."""
