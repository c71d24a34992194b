"""The tracer of a process with telemetry: it decides what is sampled, and keeps the spans that are not stored until their export."""

from __future__ import annotations

from collections import Counter, deque

from reconciler.config.settings import TelemetryConfig
from reconciler.model.traces import Sampling, SpanRecord
from reconciler.tracing import Tracer

CAPACITY = 4_096
"""Spans in memory: some seconds of requests to providers. The newest are dropped when there is no room."""
EXPORTED, DROPPED, REFUSED = "exported", "dropped", "refused"
OUTCOMES = (EXPORTED, DROPPED, REFUSED)


class Recorder(Tracer):
    """Keeps ended spans in memory. Used on the event loop only."""

    on = True

    def __init__(self, config: TelemetryConfig) -> None:
        self.takes_parent = config.incoming == "parent"
        self.takes_links = config.incoming == "link"
        self._sampling = Sampling(config.sample_ratio)
        self._hosts = tuple(host.lower() for host in config.propagate)
        self._spans: deque[SpanRecord] = deque()
        self.counts: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
        self.waiting = 0

    def keeps(self, trace_id: str) -> bool:
        return self._sampling.keeps(trace_id)

    def record(self, span: SpanRecord) -> None:
        if len(self._spans) >= CAPACITY:
            self.counts[DROPPED] += 1
        else:
            self._spans.append(span)

    def lost(self) -> None:
        self.counts[DROPPED] += 1

    def propagates(self, host: str) -> bool:
        name = host.lower()
        return name in self._hosts or "*." + name.partition(".")[2] in self._hosts

    def __len__(self) -> int:
        return len(self._spans)

    def first(self, limit: int) -> list[SpanRecord]:
        """Return the oldest spans; they stay until `forget`."""
        return [self._spans[number] for number in range(min(limit, len(self._spans)))]

    def forget(self, number: int) -> None:
        """Drop the oldest ``number`` spans."""
        for _ in range(number):
            self._spans.popleft()


__all__ = ["CAPACITY", "DROPPED", "EXPORTED", "OUTCOMES", "REFUSED", "Recorder"]
