"""Webhooks of Buddy: a key in the payload is all their proof, and nobody keeps them but for the last twenty, with their bodies.

A delivery that was missed is therefore made again out of the execution that it was about. A push leaves no such trace: what was
missed of ``PUSH`` stays missed. Facts: the provider's API documentation of webhooks and executions.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from reconciler.drivers.base import Api
from reconciler.drivers.buddy import lookup as names
from reconciler.drivers.buddy.api import TOGETHER, Item, executions_path, executions_since
from reconciler.drivers.buddy.compile import events_of, targets_of
from reconciler.drivers.buddy.lookup import matched
from reconciler.drivers.buddy.payload import occasion_of, occasions_of, payload_of
from reconciler.model.errors import NotFound, ProviderProtocolError
from reconciler.model.events import Delivery, Hook, PastDelivery, Refusal, Rejection
from reconciler.model.resources import Resource
from reconciler.model.secrets import SecretValue
from reconciler.model.values import JsonObject, canonical_json

PROOF = "secret_key"
UNKNOWN = "unknown"
LONGEST_RUN_S = 86_400.0
"""How long before the time asked for an execution may have begun that ended after it: lists are in the order of beginnings."""
_KEPT = ("content-type", "user-agent")
_MAX_DEPTH = 100


class BuddyReceiver:
    """Implements `reconciler.drivers.base.Receiver`."""

    keeps_deliveries = False
    signs_body = False

    def verify(self, headers: Mapping[str, str], body: bytes, keys: Sequence[SecretValue], *, now: float) -> Delivery | Rejection:
        """Return the delivery, if it holds one of ``keys`` as ``secret_key``; the key goes no further.

        There is no signature: the body has to be read to find its proof (its size is the caller's to bound). It says nothing of
        the rest of the body, and whoever saw one delivery can send others: only https and silence keep the key.
        """
        try:
            payload = orjson.loads(body)
        except orjson.JSONDecodeError:
            return Rejection(Refusal.UNSIGNED, "the body is not JSON")
        given = payload.get(PROOF) if isinstance(payload, Mapping) else None
        if not isinstance(given, str) or not given:
            return Rejection(Refusal.UNSIGNED, "the body has no secret_key")
        key = _known(given, keys)
        if key is None:
            return Rejection(Refusal.WRONG)
        kept = {name: headers[name][:200] for name in _KEPT if name in headers}
        try:
            return _delivery(kept, _without(payload, given, _MAX_DEPTH), key, now)
        except _TooDeep:
            digest = "sha256:" + hashlib.sha256(body).hexdigest()
            return Delivery(digest, UNKNOWN, b"{}", digest, headers=kept, key=key, problem="the payload is nested too deep")

    async def missed(self, api: Api, source: Resource, hooks: Sequence[Hook], since: float) -> tuple[PastDelivery, ...]:
        """Return the executions that ``source`` should have been told of after ``since``, oldest first; each occasion once.

        ``PUSH`` cannot be found again. An execution that ended more than a day after it began is found by its webhook only.
        """
        wanted = events_of(source)
        if wanted == ["PUSH"]:
            return ()
        gate = asyncio.Semaphore(TOGETHER)

        async def of(workspace: str, project: str, pipeline: Item) -> list[PastDelivery]:
            path = executions_path(workspace, project, pipeline["id"])
            async with gate:
                rows = await executions_since(api, path, since - LONGEST_RUN_S)
            detail = {
                "workspace": workspace,
                "project": project,
                "pipeline": pipeline["id"],
                "pipeline_name": pipeline.get("name"),
            }
            return [one for row in rows for one in _past(row, wanted, path, detail) if one.at > since]

        found = await asyncio.gather(*(of(*place) for place in await _pipelines(api, source)))
        return tuple(sorted((one for some in found for one in some), key=lambda one: (one.at, one.id)))

    async def redeliver(self, api: Api, hook: Hook, past: PastDelivery) -> bool:
        """Buddy sends nothing twice."""
        return False

    async def fetch(self, api: Api, hook: Hook | None, past: PastDelivery) -> Delivery:
        """Return the event in the form of the webhook, with what the execution is like now."""
        execution = (await api.request("GET", past.ref)).json()
        if not isinstance(execution, Mapping):
            raise ProviderProtocolError(f"GET {past.ref}: not an object", request=f"GET {past.ref}")
        body = canonical_json(payload_of(past.detail, execution))
        return Delivery(past.id, past.type, body, past.id, past.at, also=tuple(past.detail.get("also", ())))


def _known(given: str, keys: Sequence[SecretValue]) -> int | None:
    """Return the number of the first key that ``given`` is; every key is tried. An empty one proves nothing."""
    sent = given.encode("utf-8", "replace")
    proof: int | None = None
    for number, key in enumerate(keys):
        if hmac.compare_digest(key.reveal().encode(), sent) and key and proof is None:
            proof = number
    return proof


def _delivery(headers: Mapping[str, str], payload: Mapping[str, Any], key: int, now: float) -> Delivery:
    """Return what ``payload``, freed of the key, is."""
    body = canonical_json(payload)
    digest = "sha256:" + hashlib.sha256(body).hexdigest()
    found = occasion_of(payload)
    if found is None:
        problem = "the payload is of neither an execution nor a push"
        return Delivery(digest, UNKNOWN, body, digest, headers=headers, key=key, problem=problem)
    if not found.identity and found.at is None:  # a push that says no time may be said twice
        return Delivery(f"{digest}/{now:.6f}", found.types[0], body, headers=headers, key=key, also=found.types[1:])
    identity = found.identity or digest
    return Delivery(identity, found.types[0], body, identity, found.at, headers, key, also=found.types[1:])


class _TooDeep(Exception):
    """Deeper than anything that the provider sends."""


def _without(value: Any, secret: str, depth: int) -> Any:
    """Return ``value`` without any ``secret_key``, and without the key's value wherever else it stands."""
    if depth == 0:
        raise _TooDeep
    if isinstance(value, Mapping):
        return {name.replace(secret, "***"): _without(item, secret, depth - 1) for name, item in value.items() if name != PROOF}
    if isinstance(value, list):
        return [_without(item, secret, depth - 1) for item in value]
    return value.replace(secret, "***") if isinstance(value, str) else value


async def _pipelines(api: Api, source: Resource) -> list[tuple[str, str, Item]]:
    """Return (workspace, project, pipeline) of all that ``source`` listens to.

    A project of a whole workspace that is listed and answers 404 is passed over; one that the source names is an error.
    """
    found: list[tuple[str, str, Item]] = []
    targets = targets_of(source, api.connection.account, await matched(api, source))
    for workspace, projects in sorted(targets.items()):
        for project in projects or await names.project_names(api, workspace):
            try:
                rows = await names.pipelines_of(api, workspace, project)
            except NotFound:
                if projects:
                    raise
                continue
            found += [(workspace, project, pipeline) for pipeline in rows]
    return found


def _past(execution: Item, wanted: Sequence[str], path: str, detail: JsonObject) -> list[PastDelivery]:
    return [
        PastDelivery(
            one.identity,
            f"{path}/{execution['id']}",
            one.types[0],
            one.at or 0.0,
            arrived=False,
            detail={**detail, "also": list(one.types[1:])},
        )
        for one in occasions_of(execution, wanted)
    ]
