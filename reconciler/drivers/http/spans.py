"""Spans of requests, as the HTTP conventions of OpenTelemetry describe them: https://opentelemetry.io/docs/specs/semconv/http/http-spans/."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from urllib.parse import urlsplit

from reconciler.model.traces import Attribute, AttributeValue, SpanKind
from reconciler.tracing import LiveSpan, Tracer, current, span

_PORTS = {"https": 443, "http": 80}


def request_span(tracer: Tracer, method: str, url: str, provider: str) -> AbstractContextManager[LiveSpan]:
    """Record a request. Its URL is shown without query, fragment and credentials: a query may contain a secret."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    attributes: dict[str, AttributeValue] = {
        Attribute.METHOD: method,
        Attribute.SERVER: host,
        Attribute.PORT: parts.port or _PORTS.get(parts.scheme, 0),
        Attribute.URL: f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}",
    }
    if provider:
        attributes[Attribute.PROVIDER] = provider
    return span(tracer, method, attributes, kind=SpanKind.CLIENT)


def answered(live: LiveSpan, status: int) -> None:
    """Complete the span of a request with the status of its answer: 4xx and 5xx are errors of a client's span."""
    live.attributes[Attribute.STATUS_CODE] = status
    if status >= 400:
        live.error = str(status)


def carrying(tracer: Tracer, url: str, headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return ``headers`` with the place in the trace, for a host that the configuration names."""
    context = current()
    if context is None or not tracer.propagates(urlsplit(url).hostname or ""):
        return headers
    return {**headers, "traceparent": context.traceparent}


__all__ = ["answered", "carrying", "request_span"]
