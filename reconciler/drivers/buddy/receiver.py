"""Webhooks of Buddy: a key in the payload is their only proof, and only the last twenty are kept, with their bodies.

A missed delivery is therefore rebuilt from the execution that it was about. A push leaves no such trace: a missed ``PUSH`` is lost.

The payload is documented by a sample only: workspace, invoker, project, ``current_date``, and an execution or the pushed commits. No
field is documented to name the event, so it is named by what happened; a run that succeeded or failed has two names.
Facts: the provider's API documentation of webhooks and executions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import orjson

from reconciler.drivers.buddy import lookup
from reconciler.drivers.buddy.api import (
    ENDED,
    BuddyExecution,
    BuddyPipeline,
    epoch_of,
    executions_path,
    executions_since,
    pipelines_of,
    word_of,
)
from reconciler.drivers.buddy.compile import events_of, targets_of
from reconciler.drivers.buddy.spec import EVENTS
from reconciler.drivers.common import read_each
from reconciler.drivers.connection import Api
from reconciler.drivers.delivery import KeepsNoDeliveries, identity_of, kept_headers, oldest_first, secrets_of, signing_key
from reconciler.drivers.wire import decode, find, matches
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
STARTED, FINISHED, PUSH = "EXECUTION_STARTED", "EXECUTION_FINISHED", "PUSH"
_BY_STATUS = {"SUCCESSFUL": "EXECUTION_SUCCESSFUL", "FAILED": "EXECUTION_FAILED"}
_NAMING = ("event", "event_type")
_PUSHED = ("push", "commits", "head_commit", "repository", "revision", "to_revision", "branch", "ref", "tag")
_SHOWN = (
    "id", "url", "html_url", "status", "start_date", "finish_date", "triggeredOn", "triggered_on", "priority", "refresh",
    "clear_cache", "comment", "environment", "branch", "tag", "pull_request", "from_revision", "to_revision", "creator", "pipeline",
)  # fmt: skip
"""Fields that a payload built from an API answer takes: no variables, no logs."""
Place = tuple[str, str, BuddyPipeline]
"""Workspace, project and pipeline."""


class BuddyReceiver(KeepsNoDeliveries):
    """Implements `reconciler.drivers.base.Receiver`."""

    signs_body = False

    def verify(self, headers: Mapping[str, str], body: bytes, keys: Sequence[SecretValue], *, now: float) -> Delivery | Rejection:
        """Return the delivery, if its ``secret_key`` is one of ``keys``; the key goes no further.

        There is no signature: the body must be read to find the proof (the caller bounds its size). The key does not prove the rest
        of the body, and whoever saw one delivery can send others: only https keeps the key secret.
        """
        try:
            payload: object = orjson.loads(body)
        except orjson.JSONDecodeError:
            return Rejection(Refusal.UNSIGNED, "the body is not JSON")
        sent = find(payload, str, PROOF)
        if not sent:
            return Rejection(Refusal.UNSIGNED, "the body has no secret_key")
        key = signing_key(secrets_of(keys), lambda secret: secret, [sent.encode("utf-8", "replace")])
        if key is None:
            return Rejection(Refusal.WRONG)
        kept = kept_headers(headers, _KEPT)
        try:
            return _delivery(kept, matches(_without(payload, sent, _MAX_DEPTH), dict[str, object]) or {}, key, now)
        except _TooDeep:
            digest = identity_of(body)
            return Delivery(digest, UNKNOWN, b"{}", digest, headers=kept, key=key, problem="the payload is nested too deep")

    async def missed(self, api: Api, source: Resource, hooks: Sequence[Hook], since: float) -> tuple[PastDelivery, ...]:
        """Return the events after ``since`` that ``source`` should have received, oldest first, each once.

        A ``PUSH`` cannot be found again. An execution that ended more than a day after its start is found by its webhook only.
        """
        requested = events_of(source)
        if requested == [PUSH]:
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


def _delivery(headers: Mapping[str, str], payload: Mapping[str, object], key: int, now: float) -> Delivery:
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


def _without(value: object, secret: str, depth: int) -> object:
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
        for event in occurred(execution, requested)
    ]


# payloads: which event one is, and what the API shows in its form


@dataclass(frozen=True, slots=True)
class ExecutionEvent:
    """An event: ``types`` are its names, the likeliest first; ``identity`` is empty if nothing tells two of them apart."""

    types: tuple[str, ...]
    identity: str
    at: float | None


def event_of(payload: Mapping[str, object]) -> ExecutionEvent | None:
    """Return the event of ``payload``; None if it is about neither an execution nor a push."""
    named = next((word for word in (word_of(payload.get(key)) for key in _NAMING) if word), "")
    named = named if named in EVENTS else ""
    sent_at = epoch_of(payload.get("current_date"))
    execution = matches(payload.get("execution"), BuddyExecution)
    if execution is not None and named != PUSH:
        return _of_execution(execution, named, sent_at)
    if named == PUSH or (payload.get("execution") is None and any(payload.get(key) is not None for key in _PUSHED)):
        return ExecutionEvent((PUSH,), "", sent_at)
    return None


def _of_execution(execution: BuddyExecution, named: str, sent_at: float | None) -> ExecutionEvent:
    status = word_of(execution.status)
    ended = named != STARTED if named else (status in ENDED or (not status and execution.finish_date is not None))
    at = epoch_of(execution.finish_date if ended else execution.start_date)
    at = at if at is not None else sent_at  # only its time tells a retry from the run that it repeats
    names = tuple(name for name in (FINISHED, _BY_STATUS.get(status, "")) if name) if ended else (STARTED,)
    types = (named, *(name for name in names if name != named)) if named else names
    return ExecutionEvent(types, _identity(execution, ended=ended, at=at), at)


def _identity(execution: BuddyExecution, *, ended: bool, at: float | None) -> str:
    """Return the identity of an event: a retry is the same execution, and ends at another time."""
    return f"execution:{execution.number}:{'finished' if ended else 'started'}" + (f":{int(at)}" if at is not None else "")


def occurred(execution: BuddyExecution, requested: Collection[str]) -> list[ExecutionEvent]:
    """Return the events of ``execution`` that a source with the ``requested`` event types should have received."""
    events: list[ExecutionEvent] = []
    status = word_of(execution.status)
    started, finished = epoch_of(execution.start_date), epoch_of(execution.finish_date)
    if started is not None and STARTED in requested:
        events.append(ExecutionEvent((STARTED,), _identity(execution, ended=False, at=started), started))
    types = tuple(name for name in (FINISHED, _BY_STATUS.get(status, "")) if name in requested)
    if status in ENDED and finished is not None and types:
        events.append(ExecutionEvent(types, _identity(execution, ended=True, at=finished), finished))
    return events


def payload_of(detail: JsonObject, execution: Mapping[str, JsonValue]) -> JsonObject:
    """Return the payload that a webhook would have brought; what the API does not show is null."""
    shown = {key: execution.get(key) for key in _SHOWN}
    if not isinstance(shown["pipeline"], dict):
        shown["pipeline"] = {"id": detail["pipeline"], "name": detail.get("pipeline_name")}
    return {
        "workspace": {**dict.fromkeys(("url", "html_url", "id", "name")), "domain": detail["workspace"]},
        "invoker": execution.get("creator"),
        "project": {**dict.fromkeys(("url", "html_url", "display_name", "status")), "name": detail["project"]},
        "current_date": execution.get("finish_date") or execution.get("start_date"),
        "execution": shown,
    }
