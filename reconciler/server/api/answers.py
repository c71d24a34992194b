"""JSON Schemas of the API's answers, and all components of its document."""

from __future__ import annotations

from reconciler.model.events import Origin
from reconciler.model.executions import EndReason, ExecutionState, ItemState, ReportKind, Result
from reconciler.model.status import ConditionStatus, ConditionType
from reconciler.server.api.forms import ANY, TIME, Schema, integer, nullable, record, ref, rows, text, words
from reconciler.server.api.schemas import EVENT_STATE, REQUESTS, SHA256

_EVENT: dict[str, Schema] = {
    "id": text(),
    "source": text("The EventSource; for the end of an execution the Stage."),
    "type": text("The event as its provider names it."),
    "deliveryId": text("The sender's id."),
    "origin": words(*Origin),
    "state": EVENT_STATE,
    "reason": text("Why it was rejected."),
    "message": text(),
    "receivedAt": TIME,
    "occurredAt": TIME,
    "rejectedBy": rows("Rejection", description="Targets that rejected it, and why."),
    "effects": rows("Effect", description="What it led to: its items."),
}

_CONDITION = record(
    {
        "type": words(*ConditionType),
        "status": words(*ConditionStatus),
        "reason": text(),
        "message": text(),
        "lastTransitionTime": TIME,
        "observedGeneration": integer(),
    }
)
_RESOURCE = record(
    {
        "kind": text(),
        "canvas": text(),
        "name": text(),
        "file": text("File that declares it."),
        "line": integer(),
        "generation": integer(),
        "observedGeneration": integer(),
        "deleting": {"type": "boolean"},
        "objects": {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "string"}}},
        "drift": {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "string"}}},
        "lastChangedAt": TIME,
        "nextReconcileAt": TIME,
        "attempts": integer(),
        "history": {"type": "array", "items": True, "maxItems": 5},
        "conditions": rows("Condition"),
    }
)
_SOURCE = record(
    {
        "url": text(),
        "branch": text(),
        "path": text(),
        "lastFetched": text(),
        "lastFetchedAt": TIME,
        "lastValid": text(),
        "lastApplied": text(),
        "lastAttempted": text(),
        "error": nullable("Problem"),
        "problems": {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "string"}}},
        "notices": {"type": "array", "items": {"type": "string"}},
    }
)
_PLAN = record(
    {
        "integration": text(),
        "sha256": text(),
        "changes": integer(),
        "blocked": {
            "anyOf": [
                record(
                    {
                        "sha256": text("Digest that approves it."),
                        "approve": text("The command that approves it."),
                        "changes": {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "string"}}},
                    }
                ),
                {"type": "null"},
            ]
        },
    }
)
_CREDENTIAL = record(
    {
        "name": text(),
        "valid": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
        "identity": text(),
        "expiresAt": text(),
        "granted": {"type": "array", "items": {"type": "string"}},
        "missing": {"type": "array", "items": {"type": "string"}},
        "surplus": {"type": "array", "items": {"type": "string"}},
        "unknown": {"type": "object", "additionalProperties": {"type": "string"}},
        "message": text(),
        "dependents": {"type": "array", "items": {"type": "string"}},
        "rate": {"type": "object", "additionalProperties": True},
    }
)
_STAGE = record(
    {
        "name": text(),
        "canvas": text(),
        "queue": integer(),
        "running": integer(),
        "concurrency": integer(),
        "last": nullable("Execution"),
    }
)
_SCHEDULE = record({"name": text(), "canvas": text(), "nextAt": TIME, "suspended": text("Why it does not fire.")})
_DAEMON = record({"version": text(), "pid": integer(), "startedAt": TIME, "heartbeatAt": TIME, "phase": text()})
_SUMMARY = record({name: integer() for name in ("total", "ready", "progressing", "stalled", "drifted", "suspended", "blocked")})

ANSWERS: dict[str, Schema] = {
    "Error": record(
        {
            "code": text("Stable code; each has a page in the documentation.", pattern="^RC[0-9]{4}$"),
            "message": text(),
            "hint": text("The next step; may be empty."),
            "pointer": text("JSON pointer to what is wrong, below `/body`, `/query` or `/path`."),
        },
        optional=("pointer",),
    ),
    "Problem": record({"code": text(), "message": text(), "hint": text()}),
    "Rejection": record({"target": text("A Stage or a ConnectionGroup."), "reason": text(), "message": text()}),
    "Effect": record(
        {
            "stage": text(),
            "item": text(),
            "state": words(*ItemState),
            "execution": text("The newest one of the item; empty while there is none."),
            "result": words("", *Result),
        },
        description="What an event led to at one stage.",
    ),
    "Approval": record({"by": text("Name of a token, or of a local user."), "at": TIME}),
    "Event": record(_EVENT),
    "EventDetail": record(
        {
            **_EVENT,
            "payload": {"description": "What came, secrets blotted out; null if unreadable."},
            "items": rows("Item"),
            "unreported": rows("Unreported"),
        }
    ),
    "EventList": record({"events": rows("Event"), "next": text("Where the next page begins; empty on the last.")}),
    "Origin": record(
        {
            "type": text("The event that began it, as its provider names it."),
            "source": text("The EventSource it came from."),
            "sender": text("Who caused the event; whoever made it by hand."),
            "author": text("Who wrote the commit."),
            "message": text("First line of the commit's message, or the title."),
            "repository": text(),
            "ref": text(),
            "deletedRef": text("The ref that the event deleted."),
            "commit": text(),
            "commitUrl": text(),
            "deployment": text("Id of the Deployment."),
            "environment": text(),
        },
        description="Where it all began. Texts are a stranger's words, in one line each.",
    ),
    "Runs": record(
        {
            "type": text("The executor's type."),
            "integration": text(),
            "resource": text("The repository, project or pipeline."),
            "spec": {**ANY, "description": "What it is asked for; secrets are blotted out."},
        },
        optional=("type", "integration", "resource", "spec"),
    ),
    "Previous": record(
        {
            **{"id": text("The execution."), "label": text(), "result": words("", *Result)},
            "finishedAt": TIME,
            "url": text(),
            "origin": ref("Origin"),
        },
    ),
    "Unreported": record(
        {"item": text(), "kind": words(*ReportKind), "reason": text()},
    ),
    "Item": record(
        {
            "id": text(),
            "stage": text(),
            "state": words(*ItemState),
            "reason": text("What it waits for, or why it was discarded."),
            "message": text(),
            "label": text(),
            "event": text("Id of its event."),
            "origin": ref("Origin"),
            "connection": text(),
            "revision": text(),
            "inputs": ANY,
            "attempt": integer(),
            "createdAt": TIME,
            "notBefore": TIME,
            "rerunOf": text(),
            "digest": text("What an approval may name: over what will run, and with which inputs.", pattern=SHA256),
            "approvals": rows("Approval"),
        }
    ),
    "Execution": record(
        {
            "id": text(),
            "item": text(),
            "stage": text(),
            "label": text(),
            "state": words(*ExecutionState),
            "status": text("The provider's own word."),
            "result": words("", *Result),
            "reason": words("", *EndReason),
            "message": text(),
            "revision": text(),
            "createdAt": TIME,
            "startedAt": TIME,
            "finishedAt": TIME,
            "cancelRequestedBy": text(),
            "externalId": text(),
            "url": text(),
            "runAttempt": integer("The provider's number of the attempt that decided."),
            "later": ref("Later"),
            "origin": {**ref("Origin"), "description": "Where it all began; in lists only."},
            "outputs": ANY,
        },
        optional=("outputs", "later", "origin"),
    ),
    "Later": record(
        {
            "attempt": integer(),
            "result": words(*Result),
            "status": text("The provider's own word."),
            "url": text(),
            "seenAt": TIME,
        },
        description="A later attempt of the same run, started at the provider after the execution had ended. It changes nothing.",
    ),
    "Report": record(
        {
            "kind": words(*ReportKind),
            "state": text("The status; `none`: nothing to be written to, and `error` says why."),
            "repository": text(),
            "target": text(),
            "writtenAt": TIME,
            "error": text(),
        }
    ),
    "ExecutionList": record(
        {
            "queued": rows("Item", description="What waits; on the first page only."),
            "executions": rows("Execution"),
            "next": text("Where the next page begins; empty on the last."),
        }
    ),
    "ExecutionDetail": record(
        {
            "item": ref("Item"),
            "runs": ref("Runs"),
            "previous": {**nullable("Previous"), "description": "What the stage ran before."},
            "executions": rows("Execution"),
            "reports": rows("Report"),
            "execution": ref("Execution"),
        },
        optional=("execution",),
    ),
    "Log": record(
        {
            "lines": {"type": "array", "items": {"type": "string"}},
            "cursor": text("Where to go on."),
            "complete": {"type": "boolean", "description": "Whether there will be no more."},
        }
    ),
    "Triggered": record({"event": text("Id of the event."), "new": {"type": "boolean"}}),
    "Approved": record({"item": text(), "approvals": {"type": "array", "items": {"type": "string"}}}),
    "PlanApproved": record({"integration": text()}),
    "Cancelled": record(
        {"item": text(), "execution": text(), "state": words("discarded", "cancelling")}, optional=("item", "execution")
    ),
    "Queued": record(
        {"item": text("Id of the new item."), "new": {"type": "boolean", "description": "False: the key was used before."}}
    ),
    "Swept": record(
        {
            "source": text(),
            "missed": integer(),
            "redelivered": integer(),
            "recovered": integer(),
            "failed": integer(),
            "error": text(),
        }
    ),
    "Replayed": record({"event": text()}),
    "SweptList": record({"sources": rows("Swept")}),
    "OutputsKept": record({"outputs": {**ANY, "description": "What was kept."}}),
    "Suspended": record({"resource": text(), "until": text("RFC 3339; empty: until resumed.")}),
    "Resumed": record({"resource": text()}),
    "Asked": record(
        {"resource": text(), "ready": text(), "reason": text(), "message": text()}, optional=("ready", "reason", "message")
    ),
    "Condition": _CONDITION,
    "Resource": _RESOURCE,
    "Status": record(
        {
            "apiVersion": {"const": "v1"},
            "kind": {"const": "StatusReport"},
            "daemon": _DAEMON,
            "source": _SOURCE,
            "summary": _SUMMARY,
            "plans": {"type": "array", "items": _PLAN},
            "credentials": {"type": "array", "items": _CREDENTIAL},
            "resources": rows("Resource"),
            "stages": {"type": "array", "items": _STAGE},
            "schedules": {"type": "array", "items": _SCHEDULE},
            "events": record({name: integer() for name in ("pending", "failed", "quarantined")}),
        }
    ),
    "OpenApi": {**ANY, "required": ["openapi", "paths"]},
}

SCHEMAS: dict[str, Schema] = {**REQUESTS, **ANSWERS}
