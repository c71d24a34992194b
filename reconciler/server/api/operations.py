"""The operations of the daemon: name, handler, required access, HTTP route, and the schemas of request and answer.

This table defines the admin socket, the API (routes and OpenAPI document) and the names by which the CLI calls the socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.events.requests import (
    ApproveRequest,
    CancelRequest,
    EventListRequest,
    EventRequest,
    ExecutionListRequest,
    ExecutionRequest,
    RedeliverRequest,
    ReplayRequest,
    RerunRequest,
    TriggerRequest,
)
from reconciler.model.values import JsonObject
from reconciler.server.api import handlers, issuing, schemas
from reconciler.server.api.access import Access
from reconciler.server.api.forms import Schema
from reconciler.server.api.handlers import Handler

PREFIX = "/api/v1"
_ID: Mapping[str, Schema] = {"id": schemas.ID}
_RESOURCE: Mapping[str, Schema] = {"kind": schemas.KIND, "name": schemas.NAME}
_IN_CANVAS: Mapping[str, Schema] = {"canvas": schemas.CANVAS}
_ITEM = "itm-5d41402abc4b2a76b9719d91"
_EXECUTION = "rcl-3777d2c9b3804c631f1d2303b45d"
_DIGEST = "sha256:" + "0f3c" * 16


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. ``name`` is the request's ``verb`` on the socket and the operationId of the API."""

    name: str
    handler: Handler
    access: Access
    socket: bool = True
    """Whether the admin socket offers it."""
    method: str = ""
    path: str = ""
    """Below `PREFIX`; empty where the API does not offer it."""
    summary: str = ""
    answer: str = ""
    """Component of the answer."""
    status: int = 200
    body: str = ""
    """Component of the request; empty for a GET."""
    within: Mapping[str, Schema] = field(default_factory=dict)
    """Parameters in the path."""
    query: Mapping[str, Schema] = field(default_factory=dict)
    errors: tuple[int, ...] = ()
    """Statuses in addition to those of `statuses`."""
    invalid: int = 422
    """Status for a request that does not match the document."""
    example: JsonObject | None = None
    """An example of the request."""
    answer_example: JsonObject | None = None
    stream: bool = False
    """Whether it can answer with server-sent events."""

    def statuses(self) -> tuple[int, ...]:
        """Return every status of an answer."""
        statuses = {self.status, self.invalid, *self.errors}
        if self.access is not Access.PUBLIC:
            statuses |= {401, 429, 503}
            statuses |= {403} if self.access is not Access.JOB else set()
        if self.body:
            statuses |= {400, 408, 413, 415}
        return tuple(sorted(statuses))


def _get(name: str, handler: Handler, path: str, summary: str, answer: str, **more: Any) -> Operation:
    return Operation(name, handler, **{"access": Access.VIEWER, **more}, method="GET", path=path, summary=summary, answer=answer)


def _post(name: str, handler: Handler, path: str, summary: str, answer: str, **more: Any) -> Operation:
    more = {"access": Access.OPERATOR, "body": "Nothing", **more}
    return Operation(name, handler, **more, method="POST", path=path, summary=summary, answer=answer)


_EVENT = {
    "id": "01a1fd8d63e5-0000002497017d6f",
    "source": "EventSource/payments",
    "type": "push",
    "deliveryId": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
    "origin": "delivered",
    "state": "processed",
    "reason": "",
    "message": "",
    "receivedAt": "2026-03-02T09:15:04Z",
    "occurredAt": "2026-03-02T09:15:03Z",
    "rejectedBy": [{"target": "Stage/deploy", "reason": "filtered", "message": '$.ref == "refs/heads/main" is false'}],
    "effects": [],
}

OPERATIONS: tuple[Operation, ...] = (
    _get(
        "openapi",
        handlers.openapi,
        "/openapi.json",
        "This document",
        "OpenApi",
        access=Access.PUBLIC,
        socket=False,
    ),
    _get("status", handlers.status, "/status", "What is: the status document", "Status", socket=False),
    _get(
        "events",
        handlers.query(EventListRequest, lambda commands: commands.events),
        "/events",
        "List events, newest first",
        "EventList",
        query={
            "source": schemas.SOURCE,
            "state": schemas.LISTED_EVENTS,
            "before": schemas.BEFORE,
            "limit": schemas.LIMIT,
        },
        errors=(404,),
        answer_example={"events": [_EVENT], "next": ""},
    ),
    _post(
        "trigger",
        handlers.change(TriggerRequest, lambda commands: commands.trigger),
        "/events",
        "Make an event of a source",
        "Triggered",
        body="Trigger",
        status=202,
        errors=(404,),
        example={"source": "release", "payload": {"version": "1.2.3"}, "key": "release-1.2.3"},
        answer_example={"event": _EVENT["id"], "new": True},
    ),
    _get(
        "event",
        handlers.query(EventRequest, lambda commands: commands.event),
        "/events/{id}",
        "Show an event with its payload and what it led to, by our id or the sender's",
        "EventDetail",
        within=_ID,
        errors=(404,),
        answer_example={**_EVENT, "payload": {"ref": "refs/heads/dev"}, "items": [], "unreported": []},
    ),
    _get(
        "executions",
        handlers.query(ExecutionListRequest, lambda commands: commands.executions),
        "/executions",
        "List what waits and what ran, newest first",
        "ExecutionList",
        query={"stage": schemas.STAGE, "state": schemas.LISTED_STATE, "before": schemas.BEFORE, "limit": schemas.LIMIT},
        errors=(404,),
    ),
    _get(
        "execution",
        handlers.query(ExecutionRequest, lambda commands: commands.execution),
        "/executions/{id}",
        "Show an item or an execution with everything that belongs to it",
        "ExecutionDetail",
        within=_ID,
        errors=(404,),
    ),
    _get(
        "logs",
        handlers.logs,
        "/executions/{id}/logs",
        "Read the log of a run, piece by piece or as a stream",
        "Log",
        within=_ID,
        query={"cursor": schemas.CURSOR, "follow": schemas.FOLLOW},
        errors=(404, 502),
        stream=True,
        answer_example={"lines": ["building 1.2.3", "done"], "cursor": "2", "complete": True},
    ),
    _post(
        "approve",
        handlers.change(ApproveRequest, lambda commands: commands.approve),
        "/executions/{id}/approve",
        "Approve an item that waits",
        "Approved",
        access=Access.APPROVER,
        body="Approve",
        within=_ID,
        errors=(404, 409),
        example={"digest": _DIGEST},
        answer_example={"item": _ITEM, "approvals": ["release-team"]},
    ),
    _post(
        "cancel",
        handlers.change(CancelRequest, lambda commands: commands.cancel),
        "/executions/{id}/cancel",
        "Take an item out of its queue, or end an execution, at its provider too",
        "Cancelled",
        status=202,
        within=_ID,
        errors=(404, 409),
        answer_example={"item": _ITEM, "state": "discarded"},
    ),
    _post(
        "rerun",
        handlers.change(RerunRequest, lambda commands: commands.rerun),
        "/executions/{id}/rerun",
        "Repeat what has ended, as it was",
        "Queued",
        body="Rerun",
        status=202,
        within=_ID,
        errors=(404, 409),
        example={"key": "again-1"},
        answer_example={"item": _ITEM, "new": True},
    ),
    _post(
        "replay",
        handlers.change(ReplayRequest, lambda commands: commands.replay),
        "/events/{id}/replay",
        "Hand a stored event on anew, by the manifests as they are now",
        "Replayed",
        status=202,
        within=_ID,
        errors=(404, 409),
        answer_example={"event": _EVENT["id"]},
    ),
    _post(
        "redeliver",
        handlers.change(RedeliverRequest, lambda commands: commands.redeliver),
        "/redeliver",
        "Look for missed deliveries now",
        "SweptList",
        body="Redeliver",
        errors=(404, 502),
        example={"source": "payments", "since": 7200},
        answer_example={
            "sources": [
                {
                    "source": "EventSource/payments",
                    "missed": 1,
                    "redelivered": 1,
                    "recovered": 0,
                    "failed": 0,
                    "error": "",
                }
            ]
        },
    ),
    _post(
        "outputs",
        handlers.outputs,
        "/outputs",
        "Push outputs of an execution, from its own job",
        "OutputsKept",
        access=Access.JOB,
        body="PushOutputs",
        errors=(409, 425),
        invalid=400,
        example={"execution_id": _EXECUTION, "outputs": {"image": "web:1.2.3"}},
        answer_example={"outputs": {"image": "web:1.2.3"}},
        socket=False,
    ),
    _post(
        "approve_plan",
        lambda backend, values, who: backend.control.approve(values, who),
        "/plans/approve",
        "Approve a blocked set of changes by its digest",
        "PlanApproved",
        access=Access.APPROVER,
        body="ApprovePlan",
        errors=(404,),
        example={"digest": _DIGEST},
        answer_example={"integration": "Integration/default/code-host"},
    ),
    _get(
        "resource",
        handlers.resource,
        "/resources/{kind}/{name}",
        "Show the status of a resource",
        "Resource",
        within=_RESOURCE,
        query=_IN_CANVAS,
        errors=(404,),
        socket=False,
    ),
    _post(
        "reconcile",
        handlers.reconcile,
        "/resources/{kind}/{name}/reconcile",
        "Look again at a resource now",
        "Asked",
        status=202,
        within=_RESOURCE,
        query=_IN_CANVAS,
        errors=(404, 409),
        answer_example={"resource": "EventSource/default/payments", "ready": "True", "reason": "Succeeded", "message": ""},
    ),
    _post(
        "suspend",
        handlers.suspend,
        "/resources/{kind}/{name}/suspend",
        "No writes for a resource until it is resumed",
        "Suspended",
        body="Suspend",
        within=_RESOURCE,
        query=_IN_CANVAS,
        errors=(404, 409),
        example={"reason": "moving hosts", "until": "2h"},
        answer_example={"resource": "EventSource/default/payments", "until": "2026-03-02T11:15:04Z"},
    ),
    _post(
        "resume",
        handlers.resume,
        "/resources/{kind}/{name}/resume",
        "End a suspension that was made by command",
        "Resumed",
        within=_RESOURCE,
        query=_IN_CANVAS,
        errors=(404, 409),
        answer_example={"resource": "EventSource/default/payments"},
    ),
    Operation("review", handlers.review, Access.LOCAL),
    Operation("oidc_documents", issuing.published_documents, Access.LOCAL),
    Operation("oidc_rotate", issuing.rotate, Access.LOCAL),
    Operation("oidc_token", issuing.token, Access.LOCAL),
    Operation("ping", lambda backend, values, who: backend.control.alive(values, who), Access.LOCAL),
    Operation("notify_test", handlers.notify_test, Access.LOCAL),
    Operation("forget", lambda backend, values, who: backend.control.forget(values, who), Access.LOCAL),
    Operation("adopt", lambda backend, values, who: backend.control.adopt(values, who), Access.LOCAL),
)
HTTP_OPERATIONS: tuple[Operation, ...] = tuple(operation for operation in OPERATIONS if operation.path)
SOCKET_OPERATIONS: Mapping[str, Operation] = {operation.name: operation for operation in OPERATIONS if operation.socket}
