"""Spans of events: from their receipt until they are routed, and the decision about them. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from reconciler.model.events import Delivery, Event, EventState, Origin
from reconciler.model.traces import (
    Attribute,
    AttributeValue,
    SpanEvent,
    SpanKind,
    SpanRecord,
    TraceContext,
    ids_of_event,
    parse_traceparent,
    span_id_of,
)
from reconciler.stages.traces import commit_of
from reconciler.state.routing import Routing
from reconciler.tracing import Tracer, harmless

TRACEPARENT = "traceparent"
MOST_REFUSALS = 20
"""Targets that did not accept the event, in its span."""
_FAILED = (EventState.FAILED, EventState.QUARANTINED)


def event_context(tracer: Tracer, event: Event) -> TraceContext:
    """Return the span of ``event``.

    An event of a stage or a group goes on with the trace of what led to it. Any other event begins a trace, whatever its sender names:
    a stranger must not decide to which trace our spans belong, nor whether they are recorded.
    """
    above = _parent(tracer, event) if event.trace else None
    trace_id, span_id = ids_of_event(event.id, event.replays)
    if above is not None:
        return above.child(span_id)
    return TraceContext(trace_id, span_id, tracer.keeps(trace_id))


def _parent(tracer: Tracer, event: Event) -> TraceContext | None:
    trusted = event.origin is Origin.INTERNAL or tracer.takes_parent
    return parse_traceparent(event.trace) if trusted and event.trace else None


def with_sender(tracer: Tracer, delivery: Delivery, headers: Mapping[str, str]) -> Delivery:
    """Return a verified ``delivery`` with the ``traceparent`` that its sender names; without, if it is invalid or of no interest."""
    if not (tracer.takes_links or tracer.takes_parent) or TRACEPARENT not in headers:
        return delivery
    context = parse_traceparent(headers[TRACEPARENT])
    return dataclasses.replace(delivery, trace=context.traceparent) if context is not None else delivery


def with_trace(tracer: Tracer, event: Event, routing: Routing) -> Routing:
    """Return ``routing`` with the trace of ``event`` in its items and joins."""
    if not (routing.items or routing.joins):
        return routing
    trace = event_context(tracer, event).traceparent
    return dataclasses.replace(
        routing,
        items=tuple(dataclasses.replace(item, trace=trace) for item in routing.items),
        joins=tuple(dataclasses.replace(join, trace=trace) for join in routing.joins),
    )


@harmless
def event_spans(
    tracer: Tracer, events: Mapping[str, Event], began: float, routings: Sequence[Routing], now: float
) -> list[SpanRecord]:
    """Return the spans of events that are routed. ``began``: when their routing began (epoch seconds)."""
    spans: list[SpanRecord] = []
    for routing in routings:
        event = events.get(routing.event_id)
        if event is not None:
            spans += _event_spans(tracer, event, began, routing, now)
    return spans


def _event_spans(tracer: Tracer, event: Event, began: float, routing: Routing, now: float) -> list[SpanRecord]:
    own = event_context(tracer, event)
    if not own.sampled:
        return []
    above = _parent(tracer, event) if event.trace else None
    attributes: dict[str, AttributeValue] = {
        Attribute.EVENT: event.id,
        Attribute.EVENT_TYPE: event.type,
        Attribute.DELIVERY: event.delivery_id,
        Attribute.ORIGIN: event.origin,
        Attribute.SOURCE: event.source.name,
        Attribute.CANVAS: event.source.canvas,
        Attribute.OUTCOME: routing.state,
    }
    if routing.reason:
        attributes[Attribute.REASON] = routing.reason
    if routing.items:
        attributes |= commit_of(routing.items[0].origin)
    error = (routing.reason or routing.state.value) if routing.state in _FAILED else ""
    start, end = event.received_at, max(event.received_at, now)
    linked = (event.trace,) if event.trace and above is None else ()
    parent = above.span_id if above is not None else ""
    ids = (own.trace_id, own.span_id, parent)
    links = (*linked, *event.links)
    first = SpanRecord(*ids, f"event {event.type}", SpanKind.CONSUMER, start, end, attributes, error, links)
    return [first, *_decision(own, event, began, routing, end)]


def _decision(own: TraceContext, event: Event, began: float, routing: Routing, end: float) -> list[SpanRecord]:
    """Return the span of the decision about an event: which targets accepted it, and why others did not."""
    if not (routing.items or routing.joins or routing.rejections or routing.reason):
        return []
    targets = [item.stage.name for item in routing.items] + [join.group.name for join in routing.joins]
    refused = routing.rejections or routing.state is not EventState.PROCESSED
    attributes: dict[str, AttributeValue] = {
        Attribute.OUTCOME: "accepted" if targets else "refused" if refused else "ignored",
        Attribute.MATCHED: tuple(targets),
        **({Attribute.REASON: routing.reason} if routing.reason else {}),
    }
    refusals = tuple(
        SpanEvent("refused", refusal.at, {Attribute.TARGET: refusal.target.name, Attribute.REASON: refusal.reason})
        for refusal in routing.rejections[:MOST_REFUSALS]
    )
    start = min(max(began, event.received_at), end)
    ids = (own.trace_id, span_id_of("filter", event.id, event.replays), own.span_id)
    return [SpanRecord(*ids, f"filter {event.type}", SpanKind.INTERNAL, start, end, attributes, "", (), refusals)]


__all__ = ["event_context", "event_spans", "with_sender", "with_trace"]
