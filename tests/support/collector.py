"""A collector of traces: takes OTLP over HTTP, parses it with the messages of OpenTelemetry, and misbehaves on request."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

KINDS = {1: "INTERNAL", 2: "SERVER", 3: "CLIENT", 4: "PRODUCER", 5: "CONSUMER"}


@dataclass(frozen=True)
class Span:
    trace: str
    id: str
    parent: str
    name: str
    kind: str
    start: float
    end: float
    error: str
    attributes: dict[str, Any] = field(hash=False)
    resource: dict[str, Any] = field(hash=False)
    links: tuple[str, ...] = ()
    events: tuple[tuple[str, dict[str, Any]], ...] = field(default=(), hash=False)


class Collector:
    """``answer``: how requests are answered, a name of `Collector.ANSWERS` or a status. ``retry_after``: the header of such a status."""

    ANSWERS = ("ok", "hang", "reset", "slow", "garbage", "huge", "partial", "redirect")

    def __init__(self, answer: str = "ok") -> None:
        self.answer = answer
        self.retry_after = "1"
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        """Path, headers and body of every request."""
        self._spans: list[Span] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector._take(self, body)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: object) -> None:
                pass  # the client has gone

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    # -- what arrived -------------------------------------------------------------------------------------------------

    @property
    def spans(self) -> list[Span]:
        with self._lock:
            return list(self._spans)

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def twice(self) -> list[tuple[str, str]]:
        """Spans that arrived more than once."""
        seen = Counter((span.trace, span.id) for span in self.spans)
        return [key for key, count in seen.items() if count > 1]

    def wait(self, *names: str, seconds: float = 15) -> dict[str, Span]:
        """Return the last span of each name once all have arrived."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            by_name = {span.name: span for span in self.spans}
            if all(name in by_name for name in names):
                return by_name
            time.sleep(0.05)
        missing = sorted(set(names) - {span.name for span in self.spans})
        raise AssertionError(f"not exported: {missing}; there are {sorted({span.name for span in self.spans})}")

    # -- answers ------------------------------------------------------------------------------------------------------

    def _take(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        with self._lock:
            self.requests.append((handler.path, {key.lower(): value for key, value in handler.headers.items()}, body))
        answer = self.answer
        if answer == "hang":
            self._closing.wait(60)
        elif answer == "reset":
            handler.connection.shutdown(socket.SHUT_RDWR)
        elif answer.isdigit():
            self._send(handler, int(answer), b"no", {"retry-after": self.retry_after})
        elif answer == "redirect":
            self._send(handler, 307, b"", {"location": "http://127.0.0.1:1/"})
        else:
            self._keep(handler, body)
            self._accept(handler, answer)

    def _accept(self, handler: BaseHTTPRequestHandler, answer: str) -> None:
        if answer == "garbage":
            self._send(handler, 200, b"\xff\xfe<html>")
        elif answer == "huge":
            self._send(handler, 200, b"x" * (1 << 20))
        elif answer == "partial":
            told = ExportTraceServiceResponse()
            told.partial_success.rejected_spans = 1
            self._send(handler, 200, told.SerializeToString())
        elif answer == "slow":
            handler.send_response(200)
            handler.send_header("content-length", "100")
            handler.end_headers()
            while not self._closing.wait(0.2):
                handler.wfile.write(b"x")
        else:
            self._send(handler, 200, ExportTraceServiceResponse().SerializeToString())

    def _send(self, handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("content-type", "application/x-protobuf")
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _keep(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(unpacked(handler.headers, body))
        rows = []
        for group in request.resource_spans:
            resource = _values(group.resource.attributes)
            for scope in group.scope_spans:
                assert scope.scope.name == "reconciler"
                assert scope.schema_url.startswith("https://opentelemetry.io/schemas/")
                rows += [_span(raw, resource) for raw in scope.spans]
        with self._lock:
            self._spans += rows


def unpacked(headers: Any, body: bytes) -> bytes:
    return gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body


def _span(raw: Any, resource: dict[str, Any]) -> Span:
    return Span(
        raw.trace_id.hex(),
        raw.span_id.hex(),
        raw.parent_span_id.hex(),
        raw.name,
        KINDS[raw.kind],
        raw.start_time_unix_nano / 1e9,
        raw.end_time_unix_nano / 1e9,
        raw.status.message if raw.status.code == 2 else "",
        _values(raw.attributes),
        resource,
        tuple(f"{link.trace_id.hex()}-{link.span_id.hex()}" for link in raw.links),
        tuple((event.name, _values(event.attributes)) for event in raw.events),
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)
