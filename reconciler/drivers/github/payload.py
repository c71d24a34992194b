"""From the bytes of a GitHub webhook to a `Delivery`. Pure.

The body is ``application/json``, or a form with one field ``payload``; which of them, the body itself tells, for the header that
says so is not signed. Payloads are hints and may hold anything: nothing here trusts their shape.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from reconciler.drivers.github.occurrences import is_unique
from reconciler.drivers.github.times import epoch_of
from reconciler.model.events import Delivery
from reconciler.model.secrets import SecretValue

EVENT = "x-github-event"
DELIVERY = "x-github-delivery"
UNKNOWN = "unknown"
MAX_ID = 200
_KEPT = (
    *("content-type", "user-agent", EVENT, DELIVERY, "x-github-hook-id"),
    *("x-github-hook-installation-target-id", "x-github-hook-installation-target-type"),
)
_PROOF = re.compile(r"sha256=([0-9a-fA-F]{64})")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_FORM = b"payload="
_TIMES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "push": (("repository", "pushed_at"), ("head_commit", "timestamp")),
    "workflow_run": (("workflow_run", "updated_at"),),
    "workflow_job": (("workflow_job", "created_at"), ("workflow_job", "started_at"), ("workflow_job", "completed_at")),
    "deployment": (("deployment", "created_at"), ("deployment", "updated_at")),
    "deployment_status": (("deployment_status", "created_at"), ("deployment_status", "updated_at")),
    "status": (("created_at",), ("updated_at",)),
    "pull_request": (("pull_request", "updated_at"),),
    "check_run.completed": (("check_run", "completed_at"),),
    "check_suite.completed": (("check_suite", "updated_at"),),
    "release.published": (("release", "published_at"),),
}
"""Where an event's payload has the time at which it happened. Other events are left out: they may be about old things (a release
that is edited, a label), and what seems old is refused."""


def signed_by(body: bytes, signature: str, keys: Sequence[SecretValue]) -> int | None:
    """Return the number of the first key that made ``signature``; every key is tried, whatever was found. An empty one proves nothing.

    What is no signature at all takes as long as a wrong one.
    """
    given = _PROOF.fullmatch(signature)
    digest = bytes.fromhex(given[1]) if given is not None else b""
    proof: int | None = None
    for number, key in enumerate(keys):
        expected = hmac.new(key.reveal().encode(), body, hashlib.sha256).digest()
        if hmac.compare_digest(expected, digest) and key and proof is None:
            proof = number
    return proof


def delivery_of(headers: Mapping[str, str], body: bytes, key: int) -> Delivery:
    """Return what a body that is proved becomes; ``headers`` have names in lower case.

    Its ``body`` is the payload in one form (JSON without spaces, keys in their order, which is how GitHub writes it), so that a
    delivery, the same one as a form, and the same one read from the API are equal. ``identity`` is the digest of that where it can
    be of one occurrence only (`is_unique`): whoever sends such a body again under an invented id, or as another event, has no
    second effect.
    """
    kept = {name: headers[name][:MAX_ID] for name in _KEPT if name in headers}
    payload, document, problem = _read(body)
    digest = f"sha256:{hashlib.sha256(document).hexdigest()}"
    given, event = headers.get(DELIVERY, ""), headers.get(EVENT, "")
    if not problem and not _NAME.fullmatch(event):
        problem = "no X-GitHub-Event names the event"
    event = event if _NAME.fullmatch(event) else UNKNOWN
    return Delivery(
        id=given if 1 <= len(given) <= MAX_ID and given.isascii() and given.isprintable() else digest,
        type=event,
        body=document,
        identity=digest if problem or is_unique(payload) else "",
        occurred_at=None if problem else occurred_at(event, payload),
        headers=kept,
        key=key,
        problem=problem,
    )


def occurred_at(event: str, payload: Mapping[str, Any]) -> float | None:
    """Return when it happened by the payload's newest time (epoch seconds), None where it does not tell."""
    paths = _TIMES.get(event) or _TIMES.get(f"{event}.{payload.get('action')}", ())
    times = [at for at in (epoch_of(_at(payload, path)) for path in paths) if at is not None]
    return max(times, default=None)


def _read(body: bytes) -> tuple[Mapping[str, Any], bytes, str]:
    """Return the payload, its one form, and what is wrong with it; without a payload the form is the body as it came."""
    text = unquote_to_bytes(body[len(_FORM) :].partition(b"&")[0].replace(b"+", b" ")) if body.startswith(_FORM) else body
    try:
        payload = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}, body, "the payload is not JSON"
    if not isinstance(payload, dict):
        return {}, body, "the payload is no object"
    try:
        return payload, orjson.dumps(payload), ""
    except orjson.JSONEncodeError:
        return {}, body, "the payload is nested too deep"


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
