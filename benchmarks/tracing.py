"""What tracing costs: deliveries with telemetry off, on, and on with a collector that never answers, in turns."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.events import CONNECTIONS, HERE, RATE, Receiver
from benchmarks.provider import Running
from benchmarks.remote import Plan
from benchmarks.results import Row
from reconciler.config.settings import TelemetryConfig
from reconciler.credentials.redact import Redactor
from reconciler.events.traces import event_spans, with_sender
from reconciler.model.codec import encode
from reconciler.model.events import Delivery, Event, EventState, Origin
from reconciler.model.resources import ResourceId
from reconciler.state.inbox import new_event_id
from reconciler.state.routing import Routing
from reconciler.telemetry.otlp import Encoder
from reconciler.telemetry.recorder import Recorder

BASE = "BENCH_BASE"
"""Names another checkout, with which the daemon without telemetry is compared too."""
ROUNDS = 5
LIMIT = 0.99


class Variant(Receiver):
    """A receiver with its own telemetry, or with the code of another checkout."""

    def __init__(self, folder: Path, api_url: str, *, port: int = 0, checkout: str = "") -> None:
        super().__init__(folder, api_url)
        self.checkout = checkout
        if port:
            with self.config.open("a") as config:
                config.write(f"telemetry: {{enabled: true, endpoint: 'http://127.0.0.1:{port}/v1/traces', timeout: 5s}}\n")

    @property
    def env(self) -> dict[str, str]:
        return {**super().env, **({"PYTHONPATH": self.checkout} if self.checkout else {})}

    def cpu_s(self) -> float:
        """Return the CPU time of the daemon, with its children."""
        fields = Path(f"/proc/{self.process_id}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def settle(self) -> None:
        """Wait until all is routed, and what can be exported is exported."""
        self.quiet()
        with contextlib.suppress(Exception):
            for _ in range(200):
                if self.port_is_deaf or not self.ask("SELECT count(*) FROM trace_span")[0][0]:
                    return
                time.sleep(0.05)

    port_is_deaf = False


@contextlib.contextmanager
def collector(how: str) -> Iterator[int]:
    """Serve a collector in a process of its own; yields its port."""
    command = [sys.executable, "-m", "benchmarks.floors.collector", how]
    with subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def alone() -> Iterator[Row]:
    """What tracing adds to one delivery, in CPU time of one process: other work on the machine disturbs this least."""
    tracer, source = Recorder(TelemetryConfig(enabled=True)), ResourceId("EventSource", "default", "web")
    rows = [
        Event(new_event_id(1.7e9), source, f"d{n}-abcdef", "push", Origin.DELIVERED, EventState.PENDING, 1.7e9)
        for n in range(200)
    ]
    events, routings = {event.id: event for event in rows}, [Routing(event.id) for event in rows]
    redactor, delivery = Redactor(), Delivery("d", "push", b"{}")
    for number in range(10):
        redactor.add(f"secret-value-{number}")
    spans = event_spans(tracer, events, 1.7e9, routings, 1.7e9 + 1)
    encoder = Encoder("reconciler", (), "instance", "owner", redactor.redact_fields)
    for what, call, many in (
        ("a delivery until it is accepted: what tracing adds", lambda: with_sender(tracer, delivery, {}), 1),
        ("a delivery until it is routed: its span, made", lambda: event_spans(tracer, events, 1.7e9, routings, 1.7e9 + 1), 200),
        ("a delivery until it is routed: its span, encoded for the state", lambda: encode(spans), 200),
        ("a span, encoded for the export, on a thread of its own", lambda: encoder.body(spans), 200),
    ):
        took: list[float] = []
        for _ in range(7):
            began, calls = time.process_time(), 4_000 // many
            for _ in range(calls):
                call()
            took.append((time.process_time() - began) / calls / many)
        yield Row("tracing", what, f"{statistics.median(took) * 1e6:.2f} µs")


def cost(plan: Plan) -> Iterator[Row]:
    """The cost of tracing: deliveries with telemetry off, on, and with a collector that hangs."""
    yield from alone()
    rounds, count = max(plan.repeat, ROUNDS), plan.count * 4
    found: dict[str, list[dict[str, Any]]] = {}
    with Running() as provider, collector("ok") as good, collector("deaf") as deaf:
        worlds = {
            "off": Variant(plan.folder / "off", provider.url),
            "on": Variant(plan.folder / "on", provider.url, port=good),
            "hangs": Variant(plan.folder / "hangs", provider.url, port=deaf),
        }
        worlds["hangs"].port_is_deaf = True
        if os.environ.get(BASE):
            worlds["base"] = Variant(plan.folder / "base", provider.url, checkout=os.environ[BASE])
        try:
            for world in worlds.values():
                world.start()
                world.send(count // 4, connections=CONNECTIONS)
            for number in range(rounds):
                names = list(worlds) if number % 2 else list(reversed(worlds))
                for name in names:
                    found.setdefault(name, []).append(_round(worlds[name], count))
        finally:
            for world in worlds.values():
                world.stop()
    yield from _rows(found, count)


def _round(world: Variant, count: int) -> dict[str, Any]:
    world.settle()
    began = world.cpu_s()
    burst = world.send(count, connections=CONNECTIONS)
    taken_s, ended = world.cpu_s() - began, time.monotonic()
    world.quiet()
    routed_s = burst["seconds"] + time.monotonic() - ended
    routed_cpu_s = world.cpu_s() - began
    world.settle()
    cpu_s = world.cpu_s() - began
    paced = world.send(count // 4, connections=CONNECTIONS, rate=RATE)
    return {
        "seconds": burst["seconds"],
        "routed": routed_s,
        "cpu until accepted": taken_s,
        "cpu until routed": routed_cpu_s,
        "cpu until exported": cpu_s,
        "p50": paced["p50"],
        "p99": paced["p99"],
    }


def _rows(found: dict[str, list[dict[str, Any]]], count: int) -> Iterator[Row]:
    def median(name: str, key: str) -> float:
        return float(statistics.median(one[key] for one in found[name]))

    def ratio(name: str, other: str, key: str) -> float:
        """Return the median over the rounds of ``other`` by ``name``: how much of its speed ``name`` keeps."""
        return float(statistics.median(b[key] / a[key] for a, b in zip(found[name], found[other], strict=True)))

    for name, other in (("on", "off"), ("hangs", "off"), ("off", "base")):
        if name in found and other in found:
            what = f"{count} deliveries, {CONNECTIONS} connections, tracing {name} against {other}"
            speed, floor = count / median(name, "seconds"), count / median(other, "seconds")
            limit = LIMIT
            yield Row(
                "tracing", what, f"{speed:.0f}/s", f"{floor:.0f}/s", ratio(name, other, "seconds"), limit, "×", at_least=True
            )
            speed, floor = count / median(name, "routed"), count / median(other, "routed")
            yield Row(
                "tracing", "… until all are routed", f"{speed:.0f}/s", f"{floor:.0f}/s", ratio(name, other, "routed"), None, "×"
            )
            for until in ("accepted", "routed", "exported"):
                key = f"cpu until {until}"
                own, base = (median(each, key) / count * 1e6 for each in (name, other))
                shown = 1 / ratio(name, other, key)
                yield Row("tracing", f"… CPU of the daemon, each, {key[4:]}", f"{own:.0f} µs", f"{base:.0f} µs", shown, None, "×")
            for share in ("p50", "p99"):
                own, raw = median(name, share) * 1000, median(other, share) * 1000
                yield Row("tracing", f"… at {RATE:.0f}/s: {share}", f"{own:.2f} ms", f"{raw:.2f} ms", own / raw, None, "×")
