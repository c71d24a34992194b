"""The document of a plan with the next runs of its schedules: what the CLI prints and a review posts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from reconciler.manifests.schedules import HORIZON_S, slots
from reconciler.model.codec import encode
from reconciler.model.errors import Problem
from reconciler.model.plan import PlanSet
from reconciler.model.resources import Resource, ResourceId
from reconciler.model.values import JsonObject
from reconciler.planning import render
from reconciler.planning.behaviour import Fact, Surroundings

MOST_SCHEDULES = 500
"""Different schedules of one plan whose next runs are computed: a schedule that hardly ever fires takes milliseconds."""


def plan_document(
    planset: PlanSet, problems: Iterable[Problem] = (), *, now: float, approvable: bool = True
) -> render.PlanDocument:
    """Return the document of ``planset`` at ``now`` (epoch seconds)."""
    return render.document(planset, problems, approvable=approvable, clock=render.PlanClock(now, _NextRuns()))


def behaviour_of(identity: ResourceId, resources: Mapping[ResourceId, Resource], *, now: float) -> tuple[Fact, ...]:
    """Return what a resource of this revision does: what runs, when, and on whose behalf."""
    return render.behaviour(identity, Surroundings.of(resources, now, _NextRuns()))


class _NextRuns:
    """The next runs of each schedule, computed once and for a bounded number of schedules."""

    def __init__(self) -> None:
        self._known: dict[bytes, Sequence[float]] = {}

    def __call__(self, schedule: JsonObject, after: float, count: int) -> Sequence[float] | None:
        key = encode([schedule, after, count])
        if key not in self._known:
            if len(self._known) >= MOST_SCHEDULES:
                return None
            self._known[key] = slots(schedule, after, after + HORIZON_S, count)
        return self._known[key]
