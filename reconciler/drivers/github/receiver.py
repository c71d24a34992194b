"""Webhooks of GitHub: proved by an HMAC over the raw body, sent once without a retry, and listed by their sender for days.

Facts: GitHub's documentation "Validating webhook deliveries" and its OpenAPI description of hook deliveries. Only the body is
signed: the delivery's id and the event's name are headers that whoever captured a body could exchange.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import orjson

from reconciler.drivers.base import Api
from reconciler.drivers.github import api as names
from reconciler.drivers.github.payload import DELIVERY, EVENT, delivery_of, signed_by
from reconciler.drivers.github.renames import following
from reconciler.drivers.github.times import epoch_of
from reconciler.drivers.http.paging import ListBound, paginate
from reconciler.model.errors import NotFound, ProviderProtocolError
from reconciler.model.events import Delivery, Hook, PastDelivery, Refusal, Rejection
from reconciler.model.objects import Scope
from reconciler.model.resources import Resource, ResourceId
from reconciler.model.secrets import SecretValue

SIGNATURE = "x-hub-signature-256"
PER_PAGE = 100
LATE_S = 60.0
"""A delivery is listed when its attempt is over, so that the list is in order but for this."""
_ANSWERED = range(200, 400)
"""What the API itself calls a success (``status=success``)."""


class GitHubReceiver:
    """Implements `reconciler.drivers.base.Receiver`."""

    keeps_deliveries = True
    signs_body = True

    def verify(self, headers: Mapping[str, str], body: bytes, keys: Sequence[SecretValue], *, now: float) -> Delivery | Rejection:
        """Return the delivery, if one of ``keys`` signed it.

        Only ``X-Hub-Signature-256`` counts: ``sha256=`` and 64 hex digits, in either case. SHA-1 is ignored. GitHub signs no
        time: what is too old is told by the payload.
        """
        signature = headers.get(SIGNATURE, "").strip()
        if not signature:
            return Rejection(Refusal.UNSIGNED, "the hook at GitHub has no secret")
        key = signed_by(body, signature, keys)
        return Rejection(Refusal.WRONG) if key is None else delivery_of(headers, body, key)

    async def missed(self, api: Api, source: Resource, hooks: Sequence[Hook], since: float) -> tuple[PastDelivery, ...]:
        """Return the events that GitHub sent, or tried to send, after ``since``: each once, pings too, oldest first.

        Raises `NotFound` when one of ``hooks`` is gone, or out of reach: what it would have told is then not known.
        """
        by_guid: dict[str, list[tuple[Hook, Mapping[str, Any]]]] = {}
        for hook in hooks:
            for row in await following(api, _root(hook), partial(_listed, api, hook, since)):
                by_guid.setdefault(row["guid"], []).append((hook, row))
        found = (_folded(guid, rows) for guid, rows in by_guid.items())
        return tuple(sorted(found, key=lambda one: (one.at, one.id)))

    async def redeliver(self, api: Api, hook: Hook, past: PastDelivery) -> bool:
        """Ask GitHub to send it again: the same GUID and payload, signed with the hook's secret as it is now."""
        await following(api, _root(hook), lambda root: api.request("POST", f"{_delivery_path(root, hook, past)}/attempts"))
        return True

    async def fetch(self, api: Api, hook: Hook | None, past: PastDelivery) -> Delivery:
        """Return the event as GitHub keeps it; raises `NotFound` once that is too long ago (three days, seven on a server).

        The bytes that were signed are not kept: the payload is written anew, in the form that `payload.delivery_of` gives
        every payload. Where that should differ all the same, the GUID still tells that it is one event.
        """
        where = hook or _hook_of(past)
        answer = await following(api, _root(where), lambda root: api.request("GET", _delivery_path(root, where, past)))
        shown = answer.json()
        request = shown.get("request") if isinstance(shown, Mapping) else None
        sent = request.get("headers") if isinstance(request, Mapping) else None
        payload = request.get("payload") if isinstance(request, Mapping) else None
        if not isinstance(payload, str | Mapping) or shown.get("guid") != past.id or not isinstance(shown.get("event"), str):
            raise ProviderProtocolError(f"GitHub shows delivery {past.ref} without its payload, event or GUID")
        headers = {str(key).lower(): str(value) for key, value in sent.items()} if isinstance(sent, Mapping) else {}
        try:
            body = payload.encode() if isinstance(payload, str) else orjson.dumps(payload)
        except (ValueError, orjson.JSONEncodeError):
            raise ProviderProtocolError(f"GitHub shows delivery {past.ref} with a payload that is no JSON document") from None
        return delivery_of({**headers, DELIVERY: past.id, EVENT: shown["event"]}, body, 0)


async def _listed(api: Api, hook: Hook, since: float, root: str) -> list[Mapping[str, Any]]:
    """Return the attempts of a hook that ended after ``since``, newest first. GitHub pages by a cursor, newest first."""
    path, rows = f"{root}/hooks/{hook.external_id}/deliveries", []
    bound = ListBound(path)
    async for page in paginate(api, path, params={"per_page": PER_PAGE}, bound=bound):
        body = page.json()
        if not isinstance(body, list) or not all(_usable(row) for row in body):
            raise ProviderProtocolError(f"GET {path}: no list of deliveries", request=f"GET {path}")
        bound.count(len(body))
        rows += [row for row in body if _at(row) > since]
        if body and _at(body[-1]) < since - LATE_S:
            break
    return rows


def _usable(row: Any) -> bool:
    """Whether a row tells all that is needed."""
    return (
        isinstance(row, Mapping)
        and isinstance(row.get("id"), int)
        and isinstance(row.get("guid"), str)
        and isinstance(row.get("event"), str)
        and isinstance(row.get("status_code"), int)
        and epoch_of(row.get("delivered_at")) is not None
    )


def _at(row: Mapping[str, Any]) -> float:
    return epoch_of(row["delivered_at"]) or 0.0


def _folded(guid: str, attempts: Sequence[tuple[Hook, Mapping[str, Any]]]) -> PastDelivery:
    """Return one event of all its attempts: a GUID is that of the event, in every hook and every redelivery."""
    hook, newest = max(attempts, key=lambda one: (_at(one[1]), one[1]["id"]))
    return PastDelivery(
        id=guid,
        ref=str(newest["id"]),
        type=newest["event"],
        at=min(_at(row) for _, row in attempts),
        arrived=any(row["status_code"] in _ANSWERED for _, row in attempts),
        detail={"hook": hook.external_id, "scope_type": hook.scope_type, "scope_key": hook.scope_key, "source": hook.source.path},
    )


def _root(hook: Hook) -> str:
    return names.scope_path(Scope(hook.scope_type, hook.scope_key))


def _delivery_path(root: str, hook: Hook, past: PastDelivery) -> str:
    return f"{root}/hooks/{hook.external_id}/deliveries/{past.ref}"


def _hook_of(past: PastDelivery) -> Hook:
    """Return the hook in whose list ``past`` stood, when nobody has it any more."""
    detail = past.detail
    if not detail.get("hook"):
        raise NotFound(f"of which hook delivery {past.ref} was is not known")
    return Hook(
        ResourceId.from_path(str(detail["source"])), str(detail["scope_type"]), str(detail["scope_key"]), str(detail["hook"])
    )
