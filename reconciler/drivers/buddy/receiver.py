"""Webhooks of Buddy: a key in the payload is their only proof, and only the last twenty are kept, with their bodies.

A missed delivery is therefore rebuilt from the execution that it was about. A push leaves no such trace: a missed ``PUSH`` is lost.
Facts: the provider's API documentation of webhooks and executions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import orjson

from reconciler.drivers.base import Api
from reconciler.drivers.buddy import lookup
from reconciler.drivers.buddy.api import BuddyExecution, BuddyPipeline, executions_path, executions_since, pipelines_of
from reconciler.drivers.buddy.compile import events_of as requested_events
from reconciler.drivers.buddy.compile import targets_of
from reconciler.drivers.buddy.payload import event_of, events_of, payload_of
from reconciler.drivers.common import NonEmpty, read_each
from reconciler.drivers.delivery import KeepsNoDeliveries, identity_of, kept_headers, oldest_first, secrets_of, signing_key
from reconciler.drivers.wire import decode, matches
from reconciler.model.errors import NotFound
from reconciler.model.events import Delivery, Hook, PastDelivery, Refusal, Rejection
from reconciler.model.resources import Resource
from reconciler.model.secrets import SecretValue
from reconciler.model.values import JsonObject, JsonValue, canonical_json

PROOF = "secret_key"
UNKNOWN = "unknown"
LONGEST_RUN_S = 86_400.0
"""How long before ``since`` an execution that ended after it may have started: lists are in the order of starts."""
_KEPT = ("content-type", "user-agent")
_MAX_DEPTH = 100
Place = tuple[str, str, BuddyPipeline]
"""Workspace, project and pipeline."""


class _Proof(msgspec.Struct, frozen=True):
    secret_key: NonEmpty


class BuddyReceiver(KeepsNoDeliveries):
    """Implements `reconciler.drivers.base.Receiver`."""

    signs_body = False

    def verify(self, headers: Mapping[str, str], body: bytes, keys: Sequence[SecretValue], *, now: float) -> Delivery | Rejection:
        """Return the delivery, if its ``secret_key`` is one of ``keys``; the key goes no further.

        There is no signature: the body must be read to find the proof (the caller bounds its size). The key does not prove the rest
        of the body, and whoever saw one delivery can send others: only https keeps the key secret.
        """
        try:
            payload = orjson.loads(body)
        except orjson.JSONDecodeError:
            return Rejection(Refusal.UNSIGNED, "the body is not JSON")
        proof = matches(payload, _Proof)
        if proof is None:
            return Rejection(Refusal.UNSIGNED, "the body has no secret_key")
        sent = proof.secret_key
        key = signing_key(secrets_of(keys), lambda secret: secret, [sent.encode("utf-8", "replace")])
        if key is None:
            return Rejection(Refusal.WRONG)
        kept = kept_headers(headers, _KEPT)
        try:
            return _delivery(kept, _without(payload, sent, _MAX_DEPTH), key, now)
        except _TooDeep:
            digest = identity_of(body)
            return Delivery(digest, UNKNOWN, b"{}", digest, headers=kept, key=key, problem="the payload is nested too deep")

    async def missed(self, api: Api, source: Resource, hooks: Sequence[Hook], since: float) -> tuple[PastDelivery, ...]:
        """Return the events after ``since`` that ``source`` should have received, oldest first, each once.

        A ``PUSH`` cannot be found again. An execution that ended more than a day after its start is found by its webhook only.
        """
        requested = requested_events(source)
        if requested == ["PUSH"]:
            return ()

        async def past_of(place: Place) -> list[PastDelivery]:
            workspace, project, pipeline = place
            path = executions_path(workspace, project, pipeline.id)
            executions = await executions_since(api, path, since - LONGEST_RUN_S)
            detail = {"workspace": workspace, "project": project, "pipeline": pipeline.id, "pipeline_name": pipeline.name}
            past = [delivery for execution in executions for delivery in _past(execution, requested, path, detail)]
            return [delivery for delivery in past if delivery.at > since]

        by_place = await read_each(await _places(api, source), past_of)
        return oldest_first(past for place in by_place for past in place)

    async def fetch(self, api: Api, hook: Hook | None, past: PastDelivery) -> Delivery:
        """Return the event in the form of the webhook, with the present state of its execution."""
        execution = decode((await api.request("GET", past.ref)).json(), dict[str, JsonValue], f"GET {past.ref}")
        body = canonical_json(payload_of(past.detail, execution))
        return Delivery(past.id, past.type, body, past.id, past.at, also=tuple(past.detail.get("also", ())))


def _delivery(headers: Mapping[str, str], payload: Mapping[str, Any], key: int, now: float) -> Delivery:
    """Return the delivery of ``payload``, which no longer has the key."""
    body = canonical_json(payload)
    digest = identity_of(body)
    event = event_of(payload)
    if event is None:
        problem = "the payload is about neither an execution nor a push"
        return Delivery(digest, UNKNOWN, body, digest, headers=headers, key=key, problem=problem)
    if not event.identity and event.at is None:  # two pushes without a time may be two events
        return Delivery(f"{digest}/{now:.6f}", event.types[0], body, headers=headers, key=key, also=event.types[1:])
    identity = event.identity or digest
    return Delivery(identity, event.types[0], body, identity, event.at, headers, key, also=event.types[1:])


class _TooDeep(Exception):
    """Deeper than anything that the provider sends."""


def _without(value: Any, secret: str, depth: int) -> Any:
    """Return ``value`` without any ``secret_key``, and with the key's value masked wherever else it appears."""
    if depth == 0:
        raise _TooDeep
    match value:
        case Mapping():
            items = ((name, item) for name, item in value.items() if name != PROOF)
            return {name.replace(secret, "***"): _without(item, secret, depth - 1) for name, item in items}
        case list():
            return [_without(item, secret, depth - 1) for item in value]
        case str():
            return value.replace(secret, "***")
        case _:
            return value


async def _places(api: Api, source: Resource) -> list[Place]:
    """Return every pipeline that ``source`` listens to.

    A project of a whole workspace that is listed but answers 404 is left out; one that the source names is an error.
    """
    places: list[Place] = []
    targets = targets_of(source, api.connection.account, await lookup.matched(api, source))
    for workspace, projects in sorted(targets.items()):
        for project in projects or await lookup.project_names(api, workspace):
            try:
                pipelines = await pipelines_of(api, workspace, project)
            except NotFound:
                if projects:
                    raise
                continue
            places += [(workspace, project, pipeline) for pipeline in pipelines]
    return places


def _past(execution: BuddyExecution, requested: Sequence[str], path: str, detail: JsonObject) -> list[PastDelivery]:
    return [
        PastDelivery(
            event.identity,
            f"{path}/{execution.number}",
            event.types[0],
            event.at or 0.0,
            arrived=False,
            detail={**detail, "also": list(event.types[1:])},
        )
        for event in events_of(execution, requested)
    ]
