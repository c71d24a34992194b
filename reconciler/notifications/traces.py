"""Spans of messages: below the execution that they report, else each a trace of its own. Pure."""

from __future__ import annotations

from reconciler.model.incidents import Notice
from reconciler.model.resources import ResourceId
from reconciler.model.traces import (
    Attribute,
    AttributeValue,
    SpanKind,
    SpanRecord,
    TraceContext,
    ids_of_event,
    parse_traceparent,
    span_id_of,
)
from reconciler.tracing import Tracer, harmless


def notice_context(tracer: Tracer, notice: Notice) -> TraceContext | None:
    """Return the span of a message; None without tracing, and for the repetition of a message."""
    if not tracer.on or notice.refresh:
        return None
    above = parse_traceparent(notice.incident.trace)
    if above is not None:
        return above.child(span_id_of("notice", notice.seq, notice.incident.id))
    trace_id, span_id = ids_of_event(f"{notice.incident.id}/{notice.seq}")
    return TraceContext(trace_id, span_id, tracer.keeps(trace_id))


@harmless
def notice_spans(tracer: Tracer, notice: Notice, sink: str, now: float) -> list[SpanRecord]:
    """Return the span of a message that was sent: from the change that it reports."""
    own, above = notice_context(tracer, notice), parse_traceparent(notice.incident.trace)
    if own is None or not own.sampled:
        return []
    incident = notice.incident
    start = min(incident.changed_at or incident.opened_at or now, now)
    attributes: dict[str, AttributeValue] = {
        Attribute.NOTIFICATION: ResourceId.from_path(incident.notification).name,
        Attribute.SINK: sink,
        Attribute.TOPIC: incident.topic.value,
        Attribute.PHASE: notice.phase.value,
    }
    ids = (own.trace_id, own.span_id, above.span_id if above is not None else "")
    return [SpanRecord(*ids, f"notify {sink}", SpanKind.INTERNAL, start, now, attributes)]


__all__ = ["notice_context", "notice_spans"]
