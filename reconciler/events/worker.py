"""The worker process (`reconciler.engine.evaluator`): filters, mappings and groupBy over events, one part after the other.

Run as ``python -m reconciler.events.worker FD``. Its bounds are the kernel's: a signal ends it where no Python code could.
"""

from __future__ import annotations

import ctypes
import dataclasses
import mmap
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from reconciler.engine.evaluator import CPU_S, EXIT_MEMORY, MEMORY_BYTES, PROGRESS, read_frame, write_frame
from reconciler.events.routing import RoutingJob, Wiring, route, wire
from reconciler.manifests.cel import ExpressionError, compile_filter, without_nul
from reconciler.model.codec import encode, from_json, resources_from_json
from reconciler.model.events import Event, EventState, RejectedBy
from reconciler.model.resources import ResourceId
from reconciler.state.routing import Routing

MAX_ROUTING_BYTES = 16 << 20
"""Of all that one event leads to."""
MAX_BATCH_BYTES = 64 << 20
TIRED_BYTES = 320 << 20
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4  # prctl(2)


class _Watch:
    """Where the work is, for whoever looks after this process died, and the time that is left for it."""

    def __init__(self, shared: mmap.mmap) -> None:
        self._shared = shared

    def at(self, job: int, part: int) -> None:
        """Begin a part."""
        self._shared[:] = PROGRESS.pack(job, part)
        signal.setitimer(signal.ITIMER_PROF, CPU_S)

    def rest(self) -> None:
        """Nothing is evaluated now."""
        signal.setitimer(signal.ITIMER_PROF, 0)


class _Work:
    """What the process knows between calls."""

    def __init__(self, watch: _Watch) -> None:
        self._watch = watch
        self._wiring = Wiring("", {})

    def answer(self, parts: Sequence[bytes]) -> list[bytes]:
        """Return the answer to one message."""
        head = orjson.loads(parts[0])
        if head["do"] == "wire":
            resources = resources_from_json(parts[1:])
            self._wiring = wire(head["revision"], {one.id: one for one in resources})
            return []
        if head["do"] == "holds":
            return [self._holds(head["expression"], parts[1])]
        return self._routes(head, parts[1:])

    def _holds(self, expression: str, answer: bytes) -> bytes:
        self._watch.at(0, 0)
        try:
            return orjson.dumps({"holds": bool(compile_filter(expression).evaluate(without_nul(orjson.loads(answer))))})
        except ExpressionError as error:
            return orjson.dumps({"error": error.message})

    def _routes(self, head: Mapping[str, Any], bodies: Sequence[bytes]) -> list[bytes]:
        """Answer in order; a batch that becomes too large is answered in part."""
        last = {(ResourceId.from_path(stage), tuple(results)): inputs for stage, results, inputs in head["last"]}
        found: list[bytes] = []
        total = 0
        for number, (job, body) in enumerate(zip(head["jobs"], bodies, strict=True)):
            found.append(self._route(number, job, body, last, head["now"]))
            total += len(found[-1])
            if total > MAX_BATCH_BYTES:
                break
        return found

    def _route(
        self, number: int, job: Mapping[str, Any], body: bytes, last: Mapping[tuple[ResourceId, tuple[str, ...]], Any], now: float
    ) -> bytes:
        event = from_json(Event, job["event"])
        self._watch.at(number, 0)
        try:
            routing = route(
                RoutingJob(event, body, job["integration"], tuple(job["through"]), frozenset(job["skip"])),
                self._wiring,
                last=lambda stage, results: last.get((stage, results)),
                now=now,
                at=lambda part: self._watch.at(number, part),
            )
        except MemoryError:
            raise
        except Exception as error:  # an unexpected error at one event must not stop the others  # noqa: BLE001
            return orjson.dumps({"defect": f"{type(error).__name__}"})
        answer = _encoded(routing)
        return answer if len(answer) <= MAX_ROUTING_BYTES else _encoded(_too_large(routing, now))


def _encoded(routing: Routing) -> bytes:
    # The daemon makes the pins itself: they are the stages as it knows them.
    return encode(dataclasses.replace(routing, pins={}))


def _too_large(routing: Routing, now: float) -> Routing:
    """Keep the smallest items, as far as they fit; the others are rejected."""
    kept, rejections, total = [], list(routing.rejections), 0
    for item in sorted(routing.items, key=lambda item: len(encode(item))):
        total += len(encode(item))
        if total <= MAX_ROUTING_BYTES // 2:
            kept.append(item)
        else:
            message = f"its inputs, with those of the other stages, are larger than {MAX_ROUTING_BYTES >> 21} MiB"
            rejections.append(RejectedBy(routing.event_id, item.stage, "error", message, now))
    ids = {item.id for item in kept}
    reports = tuple(report for report in routing.reports if report.item_id in ids)
    return Routing(
        routing.event_id, EventState.FAILED, items=tuple(kept), reports=reports, joins=routing.joins, rejections=tuple(rejections)
    )


def _bound() -> None:
    """Give up what this process does not need."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write("1000")  # where memory runs out, this process goes first
    except OSError:
        pass


def main() -> None:
    """Answer until the pipe is closed."""
    shared = mmap.mmap(int(sys.argv[1]), PROGRESS.size)
    _bound()
    watch = _Watch(shared)
    work = _Work(watch)
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    try:
        while True:
            parts = read_frame(requests)
            answer = work.answer(parts)
            watch.rest()
            tired = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10 > TIRED_BYTES
            write_frame(answers, [b"tired" if tired else b"", *answer])
            del parts, answer
    except MemoryError:
        os._exit(EXIT_MEMORY)
    except (EOFError, BrokenPipeError):
        os._exit(0)


if __name__ == "__main__":
    main()
