"""Exports ended spans, beside everything else: a collector that hangs, refuses or answers nonsense costs no delivery, and little memory.

Spans of events, executions and statuses wait in the state, those of requests, reconciliations and reviews in memory. Both are dropped, the
oldest in the state and the newest in memory, where more wait than there is room for; drops are counted, and logged once a minute.
A stored span is deleted after the collector accepted it: one that was killed in between is exported again, with the same ids.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from reconciler import __version__
from reconciler.config.settings import Config, TelemetryConfig
from reconciler.drivers.http.client import Bounds, HttpSession
from reconciler.drivers.http.transport import OutgoingRequest
from reconciler.engine.context import Context
from reconciler.engine.lease import lease
from reconciler.failpoints import failpoint
from reconciler.model.backoff import exponential, jittered
from reconciler.model.errors import ProviderError, StateError
from reconciler.model.traces import SpanRecord
from reconciler.state.spans import WaitingSpans
from reconciler.telemetry.loading import load_encoder, rejected_of
from reconciler.telemetry.recorder import DROPPED, EXPORTED, REFUSED, Recorder

PAUSE_S = 1.0
"""Between two exports, unless a full batch waits."""
BATCH = 512
CAPACITY_STORED = 50_000
"""Spans in the state, about 25 MB: what a busy installation makes in some minutes."""
ANSWER_BYTES = 64 << 10
"""Of a collector's answer; a longer one is not read."""
URGENT = 25_000
"""Spans in the state from which an export waits only for the end of a burst, and not while deliveries just arrive."""
FLUSH_S = 3.0
"""How long the end of the process waits for the last export."""
HOLD_S = 5.0
"""How long an export waits for the end of a burst of deliveries."""
FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
LOG_S = 60.0
LEASE_S = 90.0
"""Longer than the longest export."""
_LATER = frozenset({408, 429, 502, 503, 504})
"""Statuses after which an export is repeated (OTLP, "Retryable response codes", and 408)."""
_NAME = "POST traces"


@dataclass(frozen=True, slots=True)
class Batch:
    """Spans of one export: ``live`` of them from memory, the others from the state."""

    live: int
    stored: WaitingSpans
    spans: tuple[SpanRecord, ...]


class NotAccepted(Exception):
    """The collector did not accept an export. ``final``: repeating it is useless. ``retry_s``: when it wants the next, or None."""

    def __init__(self, reason: str, *, final: bool = False, retry_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final
        self.retry_s = retry_s


class Exporter:
    """Exports spans until the process ends. One process at a time exports those of the state."""

    def __init__(
        self,
        context: Context,
        recorder: Recorder,
        session: HttpSession,
        *,
        holder: str,
        under_load: Callable[[bool], bool],
        beat: Callable[[], None],
    ) -> None:
        self._context = context
        self._recorder = recorder
        self._session = session
        self._config: TelemetryConfig = context.config.telemetry
        self._holder = holder
        self._under_load = under_load
        self._beat = beat
        self._encoder = load_encoder(context.config, context.actor, context.redactor.redact_fields)
        self._headers = _headers(self._config)
        self._failures = 0
        self._pause_s = PAUSE_S
        self._logged_at = -LOG_S
        self._logged_drops = 0
        self._turn: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Run for ever. An export that has begun is not cancelled with the loop: its spans might be exported twice."""
        while True:
            self._beat()
            await asyncio.sleep(self._pause_s)
            await self._wait_for_burst()
            self._turn = asyncio.create_task(self.turn())
            await asyncio.shield(self._turn)

    async def turn(self) -> None:
        """Export what waits now, batch by batch. Nothing that goes wrong here is raised."""
        try:
            await self._trim()
            while await self._export():
                self._beat()
                await self._wait_for_burst()
                await self._trim()
            self._failures, self._pause_s = 0, PAUSE_S
        except NotAccepted as error:
            self._failures += 1
            pause_s = jittered(exponential(self._failures - 1, FIRST_RETRY_S, LONGEST_RETRY_S), 0.8, 1.0)
            self._pause_s = max(pause_s, min(error.retry_s or 0.0, LONGEST_RETRY_S))
            self._warn(error.reason)
        except StateError as error:
            self._warn(error.message)
        except Exception as error:  # noqa: BLE001  a defect here must not end the daemon
            self._pause_s = LONGEST_RETRY_S
            self._warn(f"a defect of this program: {type(error).__name__}")
        self._warn("")

    async def flush(self) -> None:
        """Export what waits, for at most `FLUSH_S`. What is in the state is left to the next process."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                if self._turn is not None:
                    await self._turn
                await self.turn()

    async def _wait_for_burst(self) -> None:
        """Wait while deliveries arrive, whose senders wait for an answer; if many spans wait, only while a burst arrives."""
        loop = asyncio.get_running_loop()
        until = loop.time() + HOLD_S
        urgent = self._recorder.waiting > URGENT
        while self._under_load(urgent) and loop.time() < until:  # noqa: ASYNC110 - a burst is over when nothing happens
            await asyncio.sleep(0.05)

    async def _export(self) -> bool:
        """Export one batch; returns whether more wait. Raises `NotAccepted`."""
        async with self._stored() as stored:
            live = self._recorder.first(BATCH)
            batch = Batch(len(live), stored, (*live, *stored.spans))
            if batch.spans:
                await self._deliver(batch)
            elif stored.ids:
                await self._done(batch, 0)
            return len(live) == BATCH or len(stored.spans) >= BATCH

    @contextlib.asynccontextmanager
    async def _stored(self) -> AsyncIterator[WaitingSpans]:
        """Yield the stored spans that this process may export: none while another one exports them."""
        store = self._context.store
        if store.dialect == "sqlite":
            yield await store.waiting_spans(BATCH)
            return
        async with lease(self._context, "telemetry", self._holder, LEASE_S) as held:
            yield await store.waiting_spans(BATCH) if held is not None else WaitingSpans()

    async def _deliver(self, batch: Batch) -> None:
        body, left_out = await asyncio.to_thread(self._body, batch.spans)
        try:
            rejected = left_out + await self._send(body)
        except NotAccepted as error:
            if error.final:
                self._recorder.counts[REFUSED] += len(batch.spans)
                await self._done(batch, None)
                self._warn(error.reason)
                return
            raise
        failpoint("telemetry-after-send")
        await self._done(batch, rejected)

    async def _done(self, batch: Batch, rejected: int | None) -> None:
        """Forget the spans of ``batch``. ``rejected``: how many of them the collector did not want; None: all of them."""
        counts = self._recorder.counts
        self._recorder.forget(batch.live)
        if batch.stored.ids:
            await self._context.store.drop_spans(batch.stored.ids)
        counts[DROPPED] += batch.stored.damaged
        if rejected is not None:
            refused = min(rejected, len(batch.spans))
            counts[REFUSED] += refused
            counts[EXPORTED] += len(batch.spans) - refused

    async def _send(self, body: bytes) -> int:
        """Send an export once; returns how many spans the collector refused. Raises `NotAccepted`."""
        request = OutgoingRequest("POST", self._config.endpoint, _NAME, self._headers, body)
        try:
            answer = await self._session.send(request, deadline_s=self._config.timeout)
        except ProviderError as error:
            if 200 <= error.status < 300:
                return 0  # it accepted them; its answer is too long, or not readable
            raise NotAccepted(error.message.removeprefix(f"{_NAME}: ").partition(";")[0]) from None
        if 200 <= answer.status < 300:
            return await asyncio.to_thread(rejected_of, answer.content)
        if answer.status in _LATER:
            wanted = answer.headers.get("retry-after", "")
            retry_s = float(wanted[:6]) if wanted.isascii() and wanted.isdigit() else None
            raise NotAccepted(f"the collector answered {answer.status}", retry_s=retry_s)
        raise NotAccepted(f"the collector answered {answer.status}: the spans are given up", final=True)

    def _body(self, spans: tuple[SpanRecord, ...]) -> tuple[bytes, int]:
        body, left_out = self._encoder.body(spans)
        if self._config.compression != "gzip":
            return body, left_out
        packer = zlib.compressobj(level=1, wbits=31)
        return packer.compress(body) + packer.flush(), left_out

    async def _trim(self) -> None:
        """Drop the oldest stored spans where there are too many."""
        store, recorder = self._context.store, self._recorder
        waiting = await store.count_spans()
        if waiting > CAPACITY_STORED:
            gone = await store.trim_spans(waiting - CAPACITY_STORED)
            recorder.counts[DROPPED] += gone
            waiting -= gone
        recorder.waiting = waiting + len(recorder)

    def _warn(self, reason: str) -> None:
        """Log ``reason``, and spans that were dropped, once in `LOG_S`."""
        now = time.monotonic()
        dropped = self._recorder.counts[DROPPED] + self._recorder.counts[REFUSED]
        lost = dropped - self._logged_drops
        if (not reason and not lost) or now - self._logged_at < LOG_S:
            return
        self._logged_at, self._logged_drops = now, dropped
        self._context.log.warning(
            "telemetry_export_failed",
            error=reason or "spans were dropped",
            dropped=lost,
            waiting=self._recorder.waiting,
        )


def _headers(config: TelemetryConfig) -> dict[str, str]:
    given = {name.strip().lower(): value.strip() for name, _, value in (pair.partition("=") for pair in config.headers)}
    coding = {"content-encoding": "gzip"} if config.compression == "gzip" else {}
    own = {"user-agent": f"reconciler/{__version__}", "accept-encoding": "identity", "content-type": "application/x-protobuf"}
    return {**own, **given, **coding}


def collector_session(config: Config) -> HttpSession:
    """Return connections to the collector only. Its host is the operator's choice, like that of a proxy, so it needs no `network.allow`."""
    parts = urlsplit(config.telemetry.endpoint)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    near = ("127.0.0.0/8", "::1/128") if host == "localhost" else ()
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return HttpSession(
        allow=(f"{shown}:{port}", *near),
        ca_bundle=config.network.ca_bundle or None,
        proxy=(config.network.proxy or None) if parts.scheme == "https" else None,
        bounds=Bounds(connect_s=config.telemetry.timeout, max_bytes=ANSWER_BYTES, per_host=2),
    )


__all__ = ["Exporter", "NotAccepted", "collector_session"]
