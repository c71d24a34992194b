"""Evaluation of events in the worker process: a batch at once, or one event alone after an attempt that did not end."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from reconciler.engine.evaluator import Evaluator, Overrun
from reconciler.events.routing import RoutingJob, Wiring
from reconciler.model.codec import from_json, resource_to_json, to_json
from reconciler.model.events import EventState
from reconciler.model.resources import Kind, ResourceId
from reconciler.state.routing import Routing

MODULE = "reconciler.events.worker"
Last = dict[tuple[ResourceId, tuple[str, ...]], Mapping[str, Any] | None]
_KINDS = frozenset({Kind.EVENT_SOURCE.value, Kind.STAGE.value, Kind.CONNECTION_GROUP.value, Kind.INTEGRATION.value})
"""What the worker is given. An Integration says whose repositories a stage may run, and where an event's commit has its page."""
SOURCE_PART = ""
"""What is skipped when the filters of the source itself overran: then nothing is left of the event."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """An event at which the worker was stopped: where, and why."""

    job: RoutingJob
    part: str
    """Path of the target, or `SOURCE_PART`."""
    why: str


@dataclass(slots=True)
class EvaluationResult:
    """What became of a batch. What is in none of these was not tried."""

    routings: dict[str, Routing] = field(default_factory=dict)
    stopped: list[Stopped] = field(default_factory=list)


class EventEvaluator:
    """Asks the worker. A source at whose event it was stopped costs the others no more than that one time."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._kept: tuple[object, list[bytes]] | None = None

    async def evaluate(self, jobs: Sequence[RoutingJob], wiring: Wiring, last: Last, now: float) -> EvaluationResult:
        """Return what the events lead to at the revision of ``wiring``; raises `EvaluatorFailed`."""
        evaluated = EvaluationResult()
        left = list(jobs)
        while left:
            head = {"do": "route", "now": now, "last": _last(last), "jobs": [_job(one) for one in left]}
            try:
                answers = await self._evaluator([orjson.dumps(head), *(one.body for one in left)], keep=self._keep(wiring))
            except Overrun as overrun:
                bad = left[min(overrun.job, len(left) - 1)]
                evaluated.stopped.append(Stopped(bad, _part(bad, overrun.part, wiring), overrun.why))
                left = [one for one in left if one.event.source != bad.event.source]
                continue
            for job, answer in zip(left, answers, strict=False):
                evaluated.routings[job.event.id] = _routing(job, answer, wiring)
            left = left[len(answers) :]
        return evaluated

    def _keep(self, wiring: Wiring) -> tuple[object, list[bytes]]:
        """Return the message that gives the worker the wiring, made once a revision."""
        if self._kept is None or self._kept[0] is not wiring:
            resources = [resource_to_json(one) for one in wiring.resources.values() if one.id.kind in _KINDS]
            self._kept = (wiring, [orjson.dumps({"do": "wire", "revision": wiring.revision}), *resources])
        return self._kept

    async def holds(self, expression: str, answer: Any) -> bool:
        """Whether a condition of `poll` holds for an answer. Raises `ValueError` if it fails, or takes too much time or memory."""
        try:
            found = await self._evaluator([orjson.dumps({"do": "holds", "expression": expression}), orjson.dumps(answer)])
        except Overrun as overrun:
            raise ValueError(overrun.why) from None
        result = orjson.loads(found[0])
        if "error" in result:
            raise ValueError(str(result["error"]))
        return bool(result["holds"])


def _last(last: Last) -> list[list[Any]]:
    return [[stage.path, list(results), inputs] for (stage, results), inputs in last.items()]


def _job(job: RoutingJob) -> dict[str, Any]:
    return {"event": to_json(job.event), "integration": job.integration, "through": job.through, "skip": sorted(job.skip)}


def _part(job: RoutingJob, number: int, wiring: Wiring) -> str:
    targets = wiring.targets.get(job.event.source, ())
    return targets[number - 1].resource.id.path if 0 < number <= len(targets) else SOURCE_PART


def _routing(job: RoutingJob, answer: bytes, wiring: Wiring) -> Routing:
    """Return the routing that the worker answered for ``job``, with the snapshots of the stages made here."""
    row = orjson.loads(answer)
    if "defect" in row:
        return Routing(job.event.id, EventState.FAILED, "error", f"a defect of this program: {row['defect']}")
    found = from_json(Routing, row)
    pins: dict[str, bytes] = {}
    items = []
    for item in found.items:
        digest, payload = wiring.snapshot(wiring.resources[item.stage])
        pins[digest] = payload
        items.append(item if item.spec_digest == digest else dataclasses.replace(item, spec_digest=digest))
    return dataclasses.replace(found, event_id=job.event.id, items=tuple(items), pins=pins)


__all__ = ["MODULE", "SOURCE_PART", "EvaluationResult", "EventEvaluator", "Last", "Stopped"]
