"""JSON Schemas of all that the API takes and gives. Requests are checked against these very objects."""

from __future__ import annotations

from reconciler.events.commands import MAX_LIST
from reconciler.model.events import EventState, Origin
from reconciler.model.executions import EndReason, ExecutionState, ItemState, ReportKind, Result
from reconciler.model.resources import Kind
from reconciler.model.status import ConditionStatus, ConditionType
from reconciler.server.api.forms import ANY, TIME, Schema, ref, text
from reconciler.server.api.forms import integer as _integer
from reconciler.server.api.forms import nullable as _nullable
from reconciler.server.api.forms import record as _object
from reconciler.server.api.forms import rows as _list
from reconciler.server.api.forms import words as _words
from reconciler.stages.outputs import MAX_OUTPUTS
from reconciler.state.inbox import NOTHING

_PRINTABLE = r"^[^\u0000-\u001f\u007f]+$"
_LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_REFERENCE = r"^(KINDS/)?[a-z0-9][a-z0-9-]{0,62}(@[a-z0-9][a-z0-9-]{0,62})?$"
_UNTIL = (
    r"^([0-9]{1,6}(d([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?|h([0-9]{1,6}m)?([0-9]{1,6}s)?|m([0-9]{1,6}s)?|s)"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2}))$"
)
_SHA256 = r"^sha256:[0-9a-f]{64}$"


def _reference(*kinds: str) -> Schema:
    forms = ", ".join(f"`{kind}/NAME`" for kind in kinds)
    return text(
        f"`NAME`, {forms}; with `@CANVAS` where it is not clear.",
        maxLength=160,
        pattern=_REFERENCE.replace("KINDS", f"({'|'.join(kinds)})"),
    )


ID = text("An id.", minLength=1, maxLength=200, pattern=_PRINTABLE)
KIND = _words(*(one.value for one in Kind), description="Kind of the resource.")
NAME = text("Name of the resource.", pattern=_LABEL)
CANVAS = text("Canvas of the resource; may be left out where it is clear.", pattern=_LABEL)
SOURCE = _reference("EventSource", "Stage", "ConnectionGroup")
EVENT_SOURCE = _reference("EventSource")
STAGE = _reference("Stage")
LIMIT = _integer(f"Rows at most, newest first; {MAX_LIST} are the most.", minimum=1, maximum=MAX_LIST, default=50)
BEFORE = text("Id to continue from: the `next` of the page before.", minLength=1, maxLength=200, pattern=_PRINTABLE)
CURSOR = text("Where to go on: the `cursor` of the piece before.", maxLength=4_000)
FOLLOW = _words("0", "1", description="1: a stream of server-sent events until the log is complete.")
EVENT_STATE = _words(*(one.value for one in EventState))
LISTED_EVENTS = _words(
    *(one.value for one in EventState),
    NOTHING,
    description="`nothing`: whatever its state, no item and no set of a group came of it.",
)
LISTED_STATE = _words("queued", "running", "finished")

_EVENT: dict[str, Schema] = {
    "id": text(),
    "source": text("The EventSource; for the end of an execution the Stage."),
    "type": text("The event as its provider names it."),
    "deliveryId": text("The sender's id."),
    "origin": _words(*(one.value for one in Origin)),
    "state": EVENT_STATE,
    "reason": text("Why nobody got it."),
    "message": text(),
    "receivedAt": TIME,
    "occurredAt": TIME,
    "rejectedBy": _list("Rejection", description="Who did not get it, and why."),
}

REQUESTS: dict[str, Schema] = {
    "Nothing": _object({}, description="No field; the body may be left out."),
    "Trigger": _object(
        {
            "source": {**EVENT_SOURCE, "description": "EventSource of type manual, schedule or webhook."},
            "payload": {**ANY, "description": "The event's payload."},
            "type": text("Type of the event; the default is `manual`.", minLength=1, maxLength=100, pattern=_PRINTABLE),
            "key": text(
                "Equal keys make one event, however often they are sent.", minLength=1, maxLength=200, pattern=_PRINTABLE
            ),
        },
        optional=("payload", "type", "key"),
    ),
    "Rerun": _object(
        {
            "key": text(
                "Equal keys make one repetition, however often they are sent.", minLength=1, maxLength=200, pattern=_PRINTABLE
            )
        },
        optional=("key",),
    ),
    "Approve": _object({"digest": text("The item's digest, as it was reviewed.", pattern=_SHA256)}, optional=("digest",)),
    "ApprovePlan": _object({"digest": text("Digest of the blocked set.", pattern=_SHA256)}),
    "Redeliver": _object(
        {
            "source": {**EVENT_SOURCE, "description": "Only this EventSource; without it, all."},
            "since": {"type": "number", "description": "Seconds to look back.", "exclusiveMinimum": 0, "maximum": 2_592_000},
        },
        optional=("source", "since"),
    ),
    "Suspend": _object(
        {
            "reason": text("Why; shown in the status.", minLength=1, maxLength=500, pattern=_PRINTABLE),
            "until": text("RFC 3339 time, or a duration (2h).", minLength=1, maxLength=40, pattern=_UNTIL),
        },
        optional=("until",),
    ),
    "PushOutputs": _object(
        {
            "execution_id": text(
                "The execution: the input `reconciler_execution_id` of the run.", minLength=1, maxLength=200, pattern=_PRINTABLE
            ),
            "outputs": {
                "type": "object",
                "description": f"Outputs by name; at most {MAX_OUTPUTS}. Names that the stage does not declare are left out.",
                "additionalProperties": True,
            },
        }
    ),
}

_CONDITION = _object(
    {
        "type": _words(*(one.value for one in ConditionType)),
        "status": _words(*(one.value for one in ConditionStatus)),
        "reason": text(),
        "message": text(),
        "lastTransitionTime": TIME,
        "observedGeneration": _integer(),
    }
)
_RESOURCE = _object(
    {
        "kind": text(),
        "canvas": text(),
        "name": text(),
        "file": text("File that declares it."),
        "line": _integer(),
        "generation": _integer(),
        "observedGeneration": _integer(),
        "deleting": {"type": "boolean"},
        "objects": {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "string"}}},
        "drift": {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "string"}}},
        "lastChangedAt": TIME,
        "nextReconcileAt": TIME,
        "attempts": _integer(),
        "history": {"type": "array", "items": True, "maxItems": 5},
        "conditions": _list("Condition"),
    }
)
_SOURCE = _object(
    {
        "url": text(),
        "branch": text(),
        "path": text(),
        "lastFetched": text(),
        "lastFetchedAt": TIME,
        "lastValid": text(),
        "lastApplied": text(),
        "lastAttempted": text(),
        "error": _nullable("Problem"),
        "problems": {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "string"}}},
        "notices": {"type": "array", "items": {"type": "string"}},
    }
)
_PLAN = _object(
    {
        "integration": text(),
        "sha256": text(),
        "changes": _integer(),
        "blocked": {
            "anyOf": [
                _object(
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
_CREDENTIAL = _object(
    {
        "name": text(),
        "valid": {"type": "boolean"},
        "identity": text(),
        "expiresAt": text(),
        "missing": {"type": "array", "items": {"type": "string"}},
        "rate": {"type": "object", "additionalProperties": True},
    }
)
_STAGE = _object(
    {
        "name": text(),
        "canvas": text(),
        "queue": _integer(),
        "running": _integer(),
        "concurrency": _integer(),
        "last": _nullable("Execution"),
    }
)
_SCHEDULE = _object({"name": text(), "canvas": text(), "nextAt": TIME, "suspended": text("Why it does not fire.")})
_DAEMON = _object({"version": text(), "pid": _integer(), "startedAt": TIME, "heartbeatAt": TIME, "phase": text()})
_SUMMARY = _object({name: _integer() for name in ("total", "ready", "progressing", "stalled", "drifted", "suspended", "blocked")})

ANSWERS: dict[str, Schema] = {
    "Error": _object(
        {
            "code": text("Stable code; each has a page in the documentation.", pattern="^RC[0-9]{4}$"),
            "message": text(),
            "hint": text("The next step; may be empty."),
            "pointer": text("JSON pointer to what is wrong, below `/body`, `/query` or `/path`."),
        },
        optional=("pointer",),
    ),
    "Problem": _object({"code": text(), "message": text(), "hint": text()}),
    "Rejection": _object({"target": text("A Stage or a ConnectionGroup."), "reason": text(), "message": text()}),
    "Approval": _object({"by": text("Name of a token, or of a local user."), "at": TIME}),
    "Event": _object(_EVENT),
    "EventDetail": _object(
        {
            **_EVENT,
            "payload": {"description": "What came, secrets blotted out; null if unreadable."},
            "items": _list("Item"),
            "unreported": _list("Unreported"),
        }
    ),
    "EventList": _object({"events": _list("Event"), "next": text("Where the next page begins; empty on the last.")}),
    "Origin": _object(
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
    "Runs": _object(
        {
            "type": text("The executor's type."),
            "integration": text(),
            "resource": text("The repository, project or pipeline."),
            "spec": {**ANY, "description": "What it is asked for; secrets are blotted out."},
        },
        optional=("type", "integration", "resource", "spec"),
    ),
    "Previous": _object(
        {
            **{"id": text("The execution."), "label": text(), "result": _words("", *(one.value for one in Result))},
            "finishedAt": TIME,
            "url": text(),
            "origin": ref("Origin"),
        },
    ),
    "Unreported": _object(
        {"item": text(), "kind": _words(*(one.value for one in ReportKind)), "reason": text()},
    ),
    "Item": _object(
        {
            "id": text(),
            "stage": text(),
            "state": _words(*(one.value for one in ItemState)),
            "reason": text("What it waits for, or why it was discarded."),
            "message": text(),
            "label": text(),
            "event": text("Id of its event."),
            "origin": ref("Origin"),
            "connection": text(),
            "revision": text(),
            "inputs": ANY,
            "attempt": _integer(),
            "createdAt": TIME,
            "notBefore": TIME,
            "rerunOf": text(),
            "digest": text("What an approval may name: over what will run, and with which inputs.", pattern=_SHA256),
            "approvals": _list("Approval"),
        }
    ),
    "Execution": _object(
        {
            "id": text(),
            "item": text(),
            "stage": text(),
            "label": text(),
            "state": _words(*(one.value for one in ExecutionState)),
            "status": text("The provider's own word."),
            "result": _words("", *(one.value for one in Result)),
            "reason": _words("", *(one.value for one in EndReason)),
            "message": text(),
            "revision": text(),
            "createdAt": TIME,
            "startedAt": TIME,
            "finishedAt": TIME,
            "cancelRequestedBy": text(),
            "externalId": text(),
            "url": text(),
            "runAttempt": _integer("The provider's number of the attempt that decided."),
            "later": ref("Later"),
            "outputs": ANY,
        },
        optional=("outputs", "later"),
    ),
    "Later": _object(
        {
            "attempt": _integer(),
            "result": _words(*(one.value for one in Result)),
            "status": text("The provider's own word."),
            "url": text(),
            "seenAt": TIME,
        },
        description="A later attempt of the same run, started at the provider after the execution had ended. It changes nothing.",
    ),
    "Report": _object(
        {
            "kind": _words(*(one.value for one in ReportKind)),
            "state": text("The status; `none`: nothing to be written to, and `error` says why."),
            "repository": text(),
            "target": text(),
            "writtenAt": TIME,
            "error": text(),
        }
    ),
    "ExecutionList": _object(
        {
            "queued": _list("Item", description="What waits; on the first page only."),
            "executions": _list("Execution"),
            "next": text("Where the next page begins; empty on the last."),
        }
    ),
    "ExecutionDetail": _object(
        {
            "item": ref("Item"),
            "runs": ref("Runs"),
            "previous": {**_nullable("Previous"), "description": "What the stage ran before."},
            "executions": _list("Execution"),
            "reports": _list("Report"),
            "execution": ref("Execution"),
        },
        optional=("execution",),
    ),
    "Log": _object(
        {
            "lines": {"type": "array", "items": {"type": "string"}},
            "cursor": text("Where to go on."),
            "complete": {"type": "boolean", "description": "Whether there will be no more."},
        }
    ),
    "Triggered": _object({"event": text("Id of the event."), "new": {"type": "boolean"}}),
    "Approved": _object({"item": text(), "approvals": {"type": "array", "items": {"type": "string"}}}),
    "PlanApproved": _object({"integration": text()}),
    "Cancelled": _object(
        {"item": text(), "execution": text(), "state": _words("discarded", "cancelling")}, optional=("item", "execution")
    ),
    "Queued": _object(
        {"item": text("Id of the new item."), "new": {"type": "boolean", "description": "False: the key was used before."}}
    ),
    "Swept": _object(
        {
            "source": text(),
            "missed": _integer(),
            "redelivered": _integer(),
            "recovered": _integer(),
            "failed": _integer(),
            "error": text(),
        }
    ),
    "Replayed": _object({"event": text()}),
    "SweptList": _object({"sources": _list("Swept")}),
    "OutputsKept": _object({"outputs": {**ANY, "description": "What was kept."}}),
    "Suspended": _object({"resource": text(), "until": text("RFC 3339; empty: until resumed.")}),
    "Resumed": _object({"resource": text()}),
    "Asked": _object(
        {"resource": text(), "ready": text(), "reason": text(), "message": text()}, optional=("ready", "reason", "message")
    ),
    "Condition": _CONDITION,
    "Resource": _RESOURCE,
    "Status": _object(
        {
            "apiVersion": {"const": "v1"},
            "kind": {"const": "StatusReport"},
            "daemon": _DAEMON,
            "source": _SOURCE,
            "summary": _SUMMARY,
            "plans": {"type": "array", "items": _PLAN},
            "credentials": {"type": "array", "items": _CREDENTIAL},
            "resources": _list("Resource"),
            "stages": {"type": "array", "items": _STAGE},
            "schedules": {"type": "array", "items": _SCHEDULE},
            "events": _object({name: _integer() for name in ("pending", "failed", "quarantined")}),
        }
    ),
    "OpenApi": {**ANY, "required": ["openapi", "paths"]},
}

SCHEMAS: dict[str, Schema] = {**REQUESTS, **ANSWERS}
