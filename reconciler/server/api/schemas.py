"""JSON Schemas of parameters and requests of the API. Requests are validated against these objects."""

from __future__ import annotations

from reconciler.events.requests import MAX_LIST
from reconciler.model.events import EventState
from reconciler.model.resources import Kind
from reconciler.server.api.forms import ANY, Schema, integer, record, text, words
from reconciler.stages.outputs import MAX_OUTPUTS
from reconciler.state.inbox import NOTHING

_PRINTABLE = r"^[^\u0000-\u001f\u007f]+$"
_LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_REFERENCE = r"^(KINDS/)?[a-z0-9][a-z0-9-]{0,62}(@[a-z0-9][a-z0-9-]{0,62})?$"
_UNTIL = (
    r"^([0-9]{1,6}(d([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?|h([0-9]{1,6}m)?([0-9]{1,6}s)?|m([0-9]{1,6}s)?|s)"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2}))$"
)
SHA256 = r"^sha256:[0-9a-f]{64}$"


def _reference(*kinds: str) -> Schema:
    forms = ", ".join(f"`{kind}/NAME`" for kind in kinds)
    return text(
        f"`NAME`, {forms}; with `@CANVAS` where it is not clear.",
        maxLength=160,
        pattern=_REFERENCE.replace("KINDS", f"({'|'.join(kinds)})"),
    )


ID = text("An id.", minLength=1, maxLength=200, pattern=_PRINTABLE)
KIND = words(*Kind, description="Kind of the resource.")
NAME = text("Name of the resource.", pattern=_LABEL)
CANVAS = text("Canvas of the resource; may be left out where it is clear.", pattern=_LABEL)
SOURCE = _reference("EventSource", "Stage", "ConnectionGroup")
EVENT_SOURCE = _reference("EventSource")
STAGE = _reference("Stage")
LIMIT = integer(f"Rows at most, newest first; {MAX_LIST} are the most.", minimum=1, maximum=MAX_LIST, default=50)
BEFORE = text("Id to continue from: the `next` of the page before.", minLength=1, maxLength=200, pattern=_PRINTABLE)
CURSOR = text("Where to go on: the `cursor` of the piece before.", maxLength=4_000)
FOLLOW = words("0", "1", description="1: a stream of server-sent events until the log is complete.")
EVENT_STATE = words(*EventState)
LISTED_EVENTS = words(
    *EventState,
    NOTHING,
    description="`nothing`: whatever its state, no item and no set of a group came of it.",
)
LISTED_STATE = words("queued", "running", "finished")

REQUESTS: dict[str, Schema] = {
    "Nothing": record({}, description="No field; the body may be left out."),
    "Trigger": record(
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
    "Rerun": record(
        {
            "key": text(
                "Equal keys make one repetition, however often they are sent.", minLength=1, maxLength=200, pattern=_PRINTABLE
            )
        },
        optional=("key",),
    ),
    "Approve": record({"digest": text("The item's digest, as it was reviewed.", pattern=SHA256)}, optional=("digest",)),
    "ApprovePlan": record({"digest": text("Digest of the blocked set.", pattern=SHA256)}),
    "Redeliver": record(
        {
            "source": {**EVENT_SOURCE, "description": "Only this EventSource; without it, all."},
            "since": {"type": "number", "description": "Seconds to look back.", "exclusiveMinimum": 0, "maximum": 2_592_000},
        },
        optional=("source", "since"),
    ),
    "Suspend": record(
        {
            "reason": text("Why; shown in the status.", minLength=1, maxLength=500, pattern=_PRINTABLE),
            "until": text("RFC 3339 time, or a duration (2h).", minLength=1, maxLength=40, pattern=_UNTIL),
        },
        optional=("until",),
    ),
    "PushOutputs": record(
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
