"""Evaluation of events in the worker process: a batch at a time, or a single event after an attempt that did not finish."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import orjson

from reconciler.engine.evaluator import Evaluator, Overrun
from reconciler.events.routing import RoutingJob, Wiring
from reconciler.events.worker_protocol import (
    DefectAnswer,
    HoldsAnswer,
    HoldsMessage,
    JobMessage,
    RouteMessage,
    WireMessage,
    encode_message,
)
from reconciler.model.codec import resource_to_json
from reconciler.model.events import EventState
from reconciler.model.resources import Kind, ResourceId
from reconciler.model.values import JsonObject
from reconciler.state.routing import Routing

MODULE = "reconciler.events.worker"
Last = dict[tuple[ResourceId, tuple[str, ...]], JsonObject | None]
_KINDS = frozenset({Kind.EVENT_SOURCE.value, Kind.STAGE.value, Kind.CONNECTION_GROUP.value, Kind.INTEGRATION.value})
"""Kinds that the worker needs. An Integration limits the repositories that a stage may run, and has the URL of commit pages."""
SOURCE_PART = ""
"""The part that overran if it was a filter of the source itself: then the event cannot be routed at all."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """An event at which the worker was stopped: where, and why."""

    job: RoutingJob
    part: str
    """Path of the target, or `SOURCE_PART`."""
    why: str


@dataclass(slots=True)
class EvaluationResult:
    """The result of a batch. Events in neither collection were not tried."""

    routings: dict[str, Routing] = field(default_factory=dict)
    stopped: list[Stopped] = field(default_factory=list)


class EventEvaluator:
    """Evaluates events in the worker. After an overrun, the other events of the same source are left out of the batch."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._kept: tuple[object, list[bytes]] | None = None

    async def evaluate(self, jobs: Sequence[RoutingJob], wiring: Wiring, last: Last, now: float) -> EvaluationResult:
        """Return the routings of the events at the revision of ``wiring``. Raises `EvaluatorFailed`."""
        evaluated = EvaluationResult()
        left = list(jobs)
        known = tuple((stage.path, results, inputs) for (stage, results), inputs in last.items())
        while left:
            message = RouteMessage(now, known, tuple(map(_job, left)))
            try:
                answers = await self._evaluator([encode_message(message), *(job.body for job in left)], keep=self._keep(wiring))
            except Overrun as overrun:
                bad = left[min(overrun.job, len(left) - 1)]
                evaluated.stopped.append(Stopped(bad, _part(bad, overrun.part, wiring), overrun.why))
                left = [job for job in left if job.event.source != bad.event.source]
                continue
            for job, answer in zip(left, answers, strict=False):
                evaluated.routings[job.event.id] = _routing(job, answer, wiring)
            left = left[len(answers) :]
        return evaluated

    def _keep(self, wiring: Wiring) -> tuple[object, list[bytes]]:
        """Return the message with the wiring, encoded once for each revision."""
        if self._kept is None or self._kept[0] is not wiring:
            resources = [resource_to_json(each) for each in wiring.resources.values() if each.id.kind in _KINDS]
            self._kept = (wiring, [encode_message(WireMessage(wiring.revision)), *resources])
        return self._kept

    async def holds(self, expression: str, document: object) -> bool:
        """Whether a condition of `poll` holds for a document. Raises `ValueError` if it fails, or takes too much time or memory."""
        try:
            answers = await self._evaluator([encode_message(HoldsMessage(expression)), orjson.dumps(document)])
        except Overrun as overrun:
            raise ValueError(overrun.why) from None
        answer = msgspec.json.decode(answers[0], type=HoldsAnswer)
        if answer.error:
            raise ValueError(answer.error)
        return answer.holds


def _job(job: RoutingJob) -> JobMessage:
    return JobMessage(job.event, job.integration, job.through, tuple(sorted(job.skip)))


def _part(job: RoutingJob, number: int, wiring: Wiring) -> str:
    targets = wiring.targets.get(job.event.source, ())
    return targets[number - 1].resource.id.path if 0 < number <= len(targets) else SOURCE_PART


def _routing(job: RoutingJob, answer: bytes, wiring: Wiring) -> Routing:
    """Return the routing that the worker answered for ``job``, with the snapshots of the stages made here."""
    defect = msgspec.json.decode(answer, type=DefectAnswer).defect
    if defect:
        return Routing(job.event.id, EventState.FAILED, "error", f"a defect of this program: {defect}")
    routing = msgspec.json.decode(answer, type=Routing)
    pins: dict[str, bytes] = {}
    items = []
    for item in routing.items:
        digest, payload = wiring.snapshot(wiring.resources[item.stage])
        pins[digest] = payload
        items.append(item if item.spec_digest == digest else dataclasses.replace(item, spec_digest=digest))
    return dataclasses.replace(routing, event_id=job.event.id, items=tuple(items), pins=pins)


__all__ = ["MODULE", "SOURCE_PART", "EvaluationResult", "EventEvaluator", "Last", "Stopped"]
