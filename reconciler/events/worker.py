"""The worker process (`reconciler.engine.evaluator`): evaluates filters, mappings and groupBy over events, one part at a time.

Run as ``python -m reconciler.events.worker FD``. The kernel enforces its limits: a signal ends it where no Python code could.
"""

from __future__ import annotations

import ctypes
import dataclasses
import mmap
import os
import resource
import signal
import sys
from collections.abc import Sequence

import orjson

from reconciler.engine.evaluator import CPU_S, EXIT_MEMORY, MEMORY_BYTES, PROGRESS, read_frame, write_frame
from reconciler.events.routing import LastOf, RoutingJob, Wiring, route, wire
from reconciler.events.worker_protocol import (
    DefectAnswer,
    HoldsAnswer,
    HoldsMessage,
    RouteMessage,
    WireMessage,
    decode_message,
    encode_message,
)
from reconciler.manifests.cel import ExpressionError, compile_filter, without_nul
from reconciler.model.codec import encode, resources_from_json
from reconciler.model.events import EventState, RejectedBy
from reconciler.model.resources import ResourceId
from reconciler.state.routing import Routing

MAX_ROUTING_BYTES = 16 << 20
"""Size of the routing of one event."""
MAX_BATCH_BYTES = 64 << 20
TIRED_BYTES = 320 << 20
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4  # prctl(2)


class _Watch:
    """Records the current job and part, which the daemon reads after this process died, and limits the time of each part."""

    def __init__(self, shared: mmap.mmap) -> None:
        self._shared = shared

    def at(self, job: int, part: int) -> None:
        """Begin a part."""
        self._shared[:] = PROGRESS.pack(job, part)
        signal.setitimer(signal.ITIMER_PROF, CPU_S)

    def rest(self) -> None:
        """Stop the timer: nothing is being evaluated."""
        signal.setitimer(signal.ITIMER_PROF, 0)


class _Work:
    """Answers messages. It keeps the wiring between calls."""

    def __init__(self, watch: _Watch) -> None:
        self._watch = watch
        self._wiring = Wiring("", {})

    def answer(self, parts: Sequence[bytes]) -> list[bytes]:
        """Return the answer to one message."""
        match decode_message(parts[0]):
            case WireMessage(revision=revision):
                self._wiring = wire(revision, {resource.id: resource for resource in resources_from_json(parts[1:])})
                return []
            case HoldsMessage(expression=expression):
                return [encode_message(self._holds(expression, parts[1]))]
            case RouteMessage() as message:
                return self._routes(message, parts[1:])

    def _holds(self, expression: str, document: bytes) -> HoldsAnswer:
        self._watch.at(0, 0)
        try:
            return HoldsAnswer(bool(compile_filter(expression).evaluate(without_nul(orjson.loads(document)))))
        except ExpressionError as error:
            return HoldsAnswer(error=error.message)

    def _routes(self, message: RouteMessage, bodies: Sequence[bytes]) -> list[bytes]:
        """Answer in order; a batch that becomes too large is answered in part."""
        last = {(ResourceId.from_path(stage), results): inputs for stage, results, inputs in message.last}
        answers: list[bytes] = []
        total = 0
        for number, (job, body) in enumerate(zip(message.jobs, bodies, strict=True)):
            routing_job = RoutingJob(job.event, body, job.integration, job.through, frozenset(job.skip))
            answers.append(self._route(number, routing_job, lambda stage, results: last.get((stage, results)), message.now))
            total += len(answers[-1])
            if total > MAX_BATCH_BYTES:
                break
        return answers

    def _route(self, number: int, job: RoutingJob, last: LastOf, now: float) -> bytes:
        self._watch.at(number, 0)
        try:
            routing = route(job, self._wiring, last=last, now=now, at=lambda part: self._watch.at(number, part))
        except MemoryError:
            raise
        except Exception as error:  # an unexpected error at one event must not stop the others  # noqa: BLE001
            return encode_message(DefectAnswer(type(error).__name__))
        answer = _encoded(routing)
        return answer if len(answer) <= MAX_ROUTING_BYTES else _encoded(_too_large(routing, now))


def _encoded(routing: Routing) -> bytes:
    # The daemon adds the snapshots of the stages itself.
    return encode(dataclasses.replace(routing, pins={}))


def _too_large(routing: Routing, now: float) -> Routing:
    """Keep the smallest items, as far as they fit, and reject the others."""
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
    """Limit this process to what it needs."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write("1000")  # if memory runs out, the kernel kills this process first
    except OSError:
        pass


def main() -> None:
    """Answer messages until the pipe is closed."""
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
