"""Spans as OTLP: the only module that imports OpenTelemetry, and is itself imported only where telemetry is on.

Stored spans have our own short names of attributes. Here they get those of the semantic conventions, from the constants of the library, so
that a renamed convention changes nothing that is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv._incubating.attributes import cicd_attributes as cicd
from opentelemetry.semconv._incubating.attributes import service_attributes as service
from opentelemetry.semconv._incubating.attributes import vcs_attributes as vcs
from opentelemetry.semconv.attributes import (
    error_attributes,
    http_attributes,
    server_attributes,
    telemetry_attributes,
    url_attributes,
)
from opentelemetry.semconv.attributes import service_attributes as stable_service
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.version import __version__ as library_version

from reconciler import __version__
from reconciler.model import traces
from reconciler.model.json import Json
from reconciler.model.traces import Attribute, AttributeValue, SpanRecord, TraceContext, parse_traceparent

OWN = "reconciler."
"""Before the names of attributes that no convention has."""
MAX_TEXT, MAX_NAME, MAX_ITEMS = 1_024, 200, 64
Redact = Callable[[Mapping[str, object]], Mapping[str, Json]]
"""Masks secrets in the values of a mapping."""

CONVENTIONS: Mapping[Attribute, str] = {
    Attribute.ACTION: cicd.CICD_PIPELINE_ACTION_NAME,
    Attribute.PIPELINE: cicd.CICD_PIPELINE_NAME,
    Attribute.RESULT: cicd.CICD_PIPELINE_RESULT,
    Attribute.RUN_ID: cicd.CICD_PIPELINE_RUN_ID,
    Attribute.RUN_URL: cicd.CICD_PIPELINE_RUN_URL_FULL,
    Attribute.TASK: cicd.CICD_PIPELINE_TASK_NAME,
    Attribute.TASK_RESULT: cicd.CICD_PIPELINE_TASK_RUN_RESULT,
    Attribute.TASK_RUN_ID: cicd.CICD_PIPELINE_TASK_RUN_ID,
    Attribute.TASK_RUN_URL: cicd.CICD_PIPELINE_TASK_RUN_URL_FULL,
    Attribute.CHANGE: vcs.VCS_CHANGE_ID,
    Attribute.HEAD_NAME: vcs.VCS_REF_HEAD_NAME,
    Attribute.HEAD_REVISION: vcs.VCS_REF_HEAD_REVISION,
    Attribute.REPOSITORY: vcs.VCS_REPOSITORY_NAME,
    Attribute.VCS: vcs.VCS_PROVIDER_NAME,
    Attribute.METHOD: http_attributes.HTTP_REQUEST_METHOD,
    Attribute.STATUS_CODE: http_attributes.HTTP_RESPONSE_STATUS_CODE,
    Attribute.SERVER: server_attributes.SERVER_ADDRESS,
    Attribute.PORT: server_attributes.SERVER_PORT,
    Attribute.URL: url_attributes.URL_FULL,
    Attribute.ERROR: error_attributes.ERROR_TYPE,
}
"""The attributes that the conventions name."""

OURS: Mapping[Attribute, str] = {
    Attribute.APPROVALS: "approval.count",
    Attribute.ATTEMPT: "item.attempt",
    Attribute.CANVAS: "canvas",
    Attribute.CHANGES: "plan.changes",
    Attribute.CONCLUSION: "conclusion",
    Attribute.DELIVERY: "delivery.id",
    Attribute.DIGEST: "plan.digest",
    Attribute.EVENT: "event.id",
    Attribute.EVENT_TYPE: "event.type",
    Attribute.EXECUTION: "execution.id",
    Attribute.INTEGRATION: "integration",
    Attribute.ITEM: "item.id",
    Attribute.MATCHED: "filter.matched",
    Attribute.NOTIFICATION: "notification",
    Attribute.ORIGIN: "event.origin",
    Attribute.OUTCOME: "outcome",
    Attribute.PHASE: "notification.phase",
    Attribute.PROVIDER: "provider",
    Attribute.REASON: "reason",
    Attribute.REPORT: "report.kind",
    Attribute.REPORT_STATE: "report.state",
    Attribute.RESENT: "execution.resent",
    Attribute.REVISION: "revision",
    Attribute.SINK: "notification.sink",
    Attribute.SOURCE: "source",
    Attribute.STAGE: "stage",
    Attribute.STAGE_DIGEST: "stage.digest",
    Attribute.TARGET: "target",
    Attribute.TOPIC: "notification.topic",
    Attribute.TYPE: "executor.type",
}
"""Our own attributes, without `OWN`."""

_NAMES: Mapping[str, str] = {
    **{str(own): name for own, name in CONVENTIONS.items()},
    **{str(own): OWN + name for own, name in OURS.items()},
}
_KINDS = {
    traces.SpanKind.INTERNAL: SpanKind.INTERNAL,
    traces.SpanKind.SERVER: SpanKind.SERVER,
    traces.SpanKind.CLIENT: SpanKind.CLIENT,
    traces.SpanKind.CONSUMER: SpanKind.CONSUMER,
}
_SCOPE = InstrumentationScope("reconciler", __version__, Schemas.V1_44_0.value)
_OK, _FAILED = Status(StatusCode.UNSET), StatusCode.ERROR
_FLAGS = TraceFlags(TraceFlags.SAMPLED)


class Encoder:
    """Makes the body of an export. Called on a thread of its own: it takes about 50 µs for each span."""

    def __init__(self, name: str, attributes: Sequence[str], instance: str, owner: str, redact: Redact) -> None:
        given = dict(pair.split("=", 1) for pair in attributes)
        self._redact = redact
        self._resource = Resource(
            {
                stable_service.SERVICE_VERSION: __version__,
                service.SERVICE_INSTANCE_ID: instance,
                f"{OWN}owner": owner,
                **given,
                stable_service.SERVICE_NAME: name,
                telemetry_attributes.TELEMETRY_SDK_NAME: "opentelemetry",
                telemetry_attributes.TELEMETRY_SDK_LANGUAGE: "python",
                telemetry_attributes.TELEMETRY_SDK_VERSION: library_version,
            }
        )

    def body(self, spans: Sequence[SpanRecord]) -> tuple[bytes, int]:
        """Return ``spans`` as an ``ExportTraceServiceRequest``, and how many of them are left out since they cannot be encoded."""
        try:
            return self._encoded(spans), 0
        except Exception:  # noqa: BLE001  one span must not hold up all others for ever
            kept = [span for span in spans if self._is_good(span)]
            return self._encoded(kept), len(spans) - len(kept)

    def _encoded(self, spans: Sequence[SpanRecord]) -> bytes:
        encoded: bytes = encode_spans([self._span(span) for span in spans]).SerializeToString()
        return encoded

    def _is_good(self, span: SpanRecord) -> bool:
        try:
            self._encoded([span])
        except Exception:  # noqa: BLE001  whatever it is
            return False
        return True

    def _span(self, span: SpanRecord) -> ReadableSpan:
        attributes = {**span.attributes, Attribute.ERROR: span.error} if span.error else span.attributes
        return ReadableSpan(
            name=_text(str(self._redact({"name": span.name})["name"]))[:MAX_NAME],
            context=_context(span.trace_id, span.span_id),
            parent=_context(span.trace_id, span.parent_id) if span.parent_id else None,
            resource=self._resource,
            attributes=self._attributes(attributes),
            events=[Event(each.name, self._attributes(each.attributes), _ns(each.at)) for each in span.events],
            links=[Link(_linked(known)) for text in span.links if (known := parse_traceparent(text)) is not None],
            kind=_KINDS[span.kind],
            status=Status(_FAILED, span.error) if span.error else _OK,
            start_time=_ns(span.start),
            end_time=_ns(span.end),
            instrumentation_scope=_SCOPE,
        )

    def _attributes(self, attributes: Mapping[str, AttributeValue]) -> dict[str, Any]:
        masked = self._redact(attributes)
        return {_NAMES.get(name, OWN + name): _bounded(value) for name, value in masked.items()}


def rejected_of(answer: bytes) -> int:
    """Return how many spans a collector refused, as its answer says; 0 for an answer that is not readable."""
    try:
        partial = ExportTraceServiceResponse.FromString(answer).partial_success
    except Exception:  # noqa: BLE001  the runtime of protobuf decides its class, and the spans were accepted by the status
        return 0
    return max(0, int(partial.rejected_spans))


def _bounded(value: object) -> object:
    if isinstance(value, str):
        return _text(value[:MAX_TEXT])
    if isinstance(value, list | tuple):
        return [_text(str(each)[:MAX_TEXT]) for each in value[:MAX_ITEMS]]
    return value


def _text(value: str) -> str:
    """Return ``value`` as UTF-8 can write it: half a surrogate pair becomes a question mark."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _context(trace_id: str, span_id: str) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=_FLAGS)


def _linked(context: TraceContext) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if context.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(context.trace_id, 16), int(context.span_id, 16), is_remote=True, trace_flags=flags)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


__all__ = ["CONVENTIONS", "OURS", "OWN", "Encoder", "rejected_of"]
