"""Traces: ids, contexts and recorded spans, independent of any library. Pure.

Ids of spans that outlive a process are derived from what the state already names: a trace from its first event, a span from the event, item
or execution that it is about. So every process computes the same ids, and a successor goes on with a trace without a message from the one before.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

AttributeValue = str | int | float | bool | tuple[str, ...]
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
MAX_TRACEPARENT = 256
"""Characters of a ``traceparent`` that are looked at. Version 00 has 55; a later version may append fields."""
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_MASK = (1 << 64) - 1


class SpanKind(enum.IntEnum):
    """The role of a span, with the numbers of OTLP."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    CONSUMER = 5


class Attribute(enum.StrEnum):
    """What a span tells. The values are those of stored spans; `reconciler.telemetry.otlp` gives them their names in OpenTelemetry."""

    ACTION = "action"
    PIPELINE = "pipeline"
    RESULT = "result"
    RUN_ID = "run"
    RUN_URL = "run-url"
    TASK = "task"
    TASK_RESULT = "task-result"
    TASK_RUN_ID = "task-run"
    TASK_RUN_URL = "task-run-url"
    CHANGE = "change"
    HEAD_NAME = "head-name"
    HEAD_REVISION = "head-revision"
    REPOSITORY = "repository"
    VCS = "vcs"
    METHOD = "method"
    STATUS_CODE = "status-code"
    SERVER = "server"
    PORT = "port"
    URL = "url"
    ERROR = "error"
    APPROVALS = "approvals"
    ATTEMPT = "attempt"
    CANVAS = "canvas"
    CHANGES = "changes"
    CONCLUSION = "conclusion"
    DELIVERY = "delivery"
    DIGEST = "plan-digest"
    EVENT = "event"
    EVENT_TYPE = "event-type"
    EXECUTION = "execution"
    INTEGRATION = "integration"
    ITEM = "item"
    MATCHED = "matched"
    NOTIFICATION = "notification"
    ORIGIN = "origin"
    OUTCOME = "outcome"
    PHASE = "phase"
    PROVIDER = "provider"
    REASON = "reason"
    REPORT = "report"
    REPORT_STATE = "report-state"
    RESENT = "resent"
    REVISION = "revision"
    SINK = "sink"
    SOURCE = "source"
    STAGE = "stage"
    STAGE_DIGEST = "stage-digest"
    TARGET = "target"
    TOPIC = "topic"
    TYPE = "executor-type"


class SpanEvent(msgspec.Struct, frozen=True, array_like=True):
    """Something that happened within a span. ``at``: epoch seconds."""

    name: str
    at: float
    attributes: dict[str, AttributeValue] = {}


class SpanRecord(msgspec.Struct, frozen=True, array_like=True):
    """A span that has ended. Stored as an array: a new field goes to the end and needs a default."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: SpanKind
    start: float
    """Epoch seconds."""
    end: float
    attributes: dict[str, AttributeValue] = {}
    error: str = ""
    """Why it failed, as a word (`error.type`); empty if it did not."""
    links: tuple[str, ...] = ()
    """``traceparent`` of other spans that led to it."""
    events: tuple[SpanEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A place in a trace: what a child needs to know of its parent."""

    trace_id: str
    """32 lower-case hex digits."""
    span_id: str
    """16 lower-case hex digits."""
    sampled: bool = True

    @property
    def traceparent(self) -> str:
        """The context as W3C Trace Context writes it (https://www.w3.org/TR/trace-context/#traceparent-header)."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def child(self, span_id: str) -> TraceContext:
        """Return the context of the span ``span_id`` of the same trace."""
        return TraceContext(self.trace_id, span_id, self.sampled)


def parse_traceparent(text: str) -> TraceContext | None:
    """Return the context in a ``traceparent`` header; None if it is invalid, as the specification demands.

    Version ff is invalid. A later version than 00 is read like 00, and may have more fields behind a dash.
    """
    match = _TRACEPARENT.fullmatch(text) if len(text) <= MAX_TRACEPARENT else None
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & 1))


def ids_of_event(event_id: str, replays: int = 0) -> tuple[str, str]:
    """Return the id of the trace that begins with an event, and that of the event's own span. Called for every event: one hash."""
    digest = _digest("event", event_id)
    return digest[:32], digest[32:48] if not replays else span_id_of("event", event_id, replays)


def span_id_of(what: str, *parts: str | int) -> str:
    """Return the id of the span of ``what`` (``queue``, ``execution`` …) about the things named by ``parts``."""
    return _digest(what, *parts)[:16]


def _digest(*parts: str | int) -> str:
    joined = "\0".join(("reconciler/span/v1", *map(str, parts)))
    return hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which traces are recorded: a share of them, decided by the trace's id, so that all processes decide alike.

    The rule is that of OpenTelemetry's ``traceidratio``: the lower 64 bits of the id are less than the share of 2⁶⁴.
    """

    ratio: float = 1.0

    def keeps(self, trace_id: str) -> bool:
        """Whether the trace ``trace_id`` is recorded."""
        return self.ratio >= 1.0 or (int(trace_id, 16) & _MASK) < round(self.ratio * (1 << 64))


Attributes = Mapping[str, AttributeValue]
