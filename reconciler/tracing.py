"""What the program knows about tracing: a tracer that records ended spans, and the current place in a trace.

`Tracer` records nothing; it is used while telemetry is off. `reconciler.telemetry` has the other one, and alone knows OpenTelemetry.
"""

from __future__ import annotations

import contextlib
import functools
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Concatenate, ParamSpec

from reconciler.model.traces import AttributeValue, SpanKind, SpanRecord, TraceContext

P = ParamSpec("P")
_CURRENT: ContextVar[TraceContext | None] = ContextVar("trace", default=None)


class Tracer:
    """Records nothing."""

    on = False
    """Whether spans are recorded, and log lines have the id of their trace."""
    takes_parent = False
    """Whether an event joins the trace that its sender names."""
    takes_links = False
    """Whether an event is linked to the trace that its sender names."""
    counts: Mapping[str, int] = MappingProxyType({})
    """Spans by outcome: exported, dropped (no room for them), refused (by the collector)."""
    waiting = 0
    """Spans that waited for their export at the last look."""

    def keeps(self, trace_id: str) -> bool:
        """Whether the trace ``trace_id`` is sampled."""
        return False

    def record(self, span: SpanRecord) -> None:
        """Keep an ended span in memory until it is exported; spans that must survive the process are stored instead."""

    def lost(self) -> None:
        """Count a span that could not be made."""

    def propagates(self, host: str) -> bool:
        """Whether requests to ``host`` tell it their place in the trace."""
        return False


NO_TRACER = Tracer()


def harmless(build: Callable[Concatenate[Tracer, P], list[SpanRecord]]) -> Callable[Concatenate[Tracer, P], list[SpanRecord]]:
    """Return ``build``, which makes spans within a transaction, so that a defect in it costs the spans and not the transaction."""

    @functools.wraps(build)
    def call(tracer: Tracer, /, *args: P.args, **kwargs: P.kwargs) -> list[SpanRecord]:
        try:
            return build(tracer, *args, **kwargs)
        except Exception:  # noqa: BLE001  it is counted, and a trace is not worth an event
            tracer.lost()
            return []

    return call


def current() -> TraceContext | None:
    """Return the place in a trace of the running task; None outside of a span."""
    return _CURRENT.get()


@contextlib.contextmanager
def within(context: TraceContext | None) -> Iterator[None]:
    """Run the block inside of the span ``context``: its requests are children, and its log lines have its ids."""
    if context is None:
        yield
        return
    token = _CURRENT.set(context)
    try:
        yield
    finally:
        _CURRENT.reset(token)


class LiveSpan:
    """A span of this process that has not ended."""

    __slots__ = ("attributes", "context", "error", "name")

    def __init__(self, name: str, context: TraceContext | None, attributes: dict[str, AttributeValue]) -> None:
        self.name = name
        self.context = context
        self.attributes = attributes
        self.error = ""
        """Why it failed, as a word."""


@contextlib.contextmanager
def span(
    tracer: Tracer, name: str, attributes: Mapping[str, AttributeValue], *, kind: SpanKind = SpanKind.INTERNAL
) -> Iterator[LiveSpan]:
    """Record the block as a span: a child of the current one, else the first of a new trace.

    An exception makes it a failed span, with the code of the error or the name of its class as ``error``.
    """
    if not tracer.on:
        yield LiveSpan(name, None, {})
        return
    parent = _CURRENT.get()
    context = parent.child(secrets.token_hex(8)) if parent is not None else _root(tracer)
    live = LiveSpan(name, context, dict(attributes))
    began, started = time.time(), time.monotonic()
    token = _CURRENT.set(context)
    try:
        yield live
    except BaseException as error:
        live.error = live.error or error_word(error)
        raise
    finally:
        _CURRENT.reset(token)
        if context.sampled:
            ended = began + time.monotonic() - started
            before = parent.span_id if parent is not None else ""
            ids = (context.trace_id, context.span_id, before)
            tracer.record(SpanRecord(*ids, live.name, kind, began, ended, live.attributes, live.error))


def error_word(error: BaseException) -> str:
    """Return how ``error`` is named in a span: by its code, or its class. Never its text, which may come from outside."""
    code = getattr(error, "code", "")
    return code if isinstance(code, str) and code else type(error).__name__


def _root(tracer: Tracer) -> TraceContext:
    trace_id = secrets.token_hex(16)
    return TraceContext(trace_id, secrets.token_hex(8), tracer.keeps(trace_id))


__all__ = ["NO_TRACER", "LiveSpan", "Tracer", "current", "error_word", "harmless", "span", "within"]
