"""Keeps the incidents of all Notifications in step with the statuses: it decides when they are compared, and with what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reconciler.engine.current import Current
from reconciler.engine.incidents import IncidentInputs, RevisionState, Route, fold_of, route_of
from reconciler.engine.revision import ActiveRevision
from reconciler.engine.signals import SignalSet, SourceFacts, signals_of
from reconciler.manifests.kinds import StageSpec
from reconciler.manifests.notification_spec import NotificationSpec, StatusSinkSpec
from reconciler.model.executions import ItemState
from reconciler.model.incidents import Incident, IncidentChange, IncidentSeverity, Occurrence, Signal, Topic
from reconciler.model.resources import Kind, ResourceId
from reconciler.model.status import ResourceStatus
from reconciler.state.incidents import IncidentKey, IncidentUpdate

APPROVALS = 100
"""Items that wait for an approval of which each is an incident."""


@dataclass(frozen=True, slots=True)
class IncidentMoment:
    """The circumstances of a comparison."""

    settled: bool
    """Whether each integration was reconciled with the active revision, and nothing was left to do."""
    host: str = ""
    """The name of this host, if other processes read the source too."""
    mark: str | None = None
    """Mark of the statuses that were read from the state; None if there is no other process."""


class Announcer:
    """Owner of the signals of this process."""

    def __init__(self, current: Current) -> None:
        self._current = current
        self._of: tuple[object, ...] = ()
        self._signals = SignalSet()
        self._pending: tuple[object, ...] = ()
        self._applied: tuple[object, ...] | None = None
        self._flapping = False
        self._approving: tuple[ActiveRevision, bool] | None = None
        self.on_news: Callable[[], None] = lambda: None
        """Called after incidents were stored."""

    async def update(self, statuses: Mapping[ResourceId, ResourceStatus], moment: IncidentMoment) -> IncidentUpdate | None:
        """Return the comparison to make with the stored incidents, or None if it would change nothing."""
        inputs = await self._inputs(statuses, self._current.active, moment)
        self._pending = (inputs.routes, inputs.signals, inputs.revision, inputs.stages, inputs.labels)
        if self._pending == self._applied and not self._flapping and not await self._current.context.store.has_occurrences():
            return None
        fold = fold_of(inputs)

        def noting(
            stored: Mapping[IncidentKey, Incident], occurrences: Sequence[Occurrence], now: float
        ) -> Sequence[IncidentChange]:
            changes = fold(stored, occurrences, now)
            after = {**stored, **{(c.incident.notification, c.incident.key): c.incident for c in changes}}
            self._flapping = any(incident.flapping for incident in after.values())
            return changes

        return IncidentUpdate(noting, frozenset(route.notification for route in inputs.routes), moment.mark)

    def stored(self) -> None:
        """Record that the comparison of the last `update` was stored: it is made again when something changes."""
        self._applied = self._pending
        self.on_news()

    async def _inputs(
        self, statuses: Mapping[ResourceId, ResourceStatus], active: ActiveRevision, moment: IncidentMoment
    ) -> IncidentInputs:
        routes = self._routes(active)
        source = self._current.source
        error = None if source.may_pass else source.error
        fetched = bool(source.fetched_at) and not source.may_pass
        facts = SourceFacts(error, fetched, tuple(active.problems), moment.host)
        of = (statuses, active, source.error, facts.fetched)
        if not routes:
            self._of, self._signals = (), SignalSet()
        elif len(self._of) != len(of) or any(a is not b for a, b in zip(self._of, of, strict=True)):
            self._signals = await asyncio.to_thread(signals_of, statuses, active.resources, facts)
            self._of = of
        signals = self._signals
        if any(Topic.APPROVAL_NEEDED in route.topics for route in routes) and self._approvals_possible(active):
            waiting = await self._approvals()
            signals = SignalSet((*signals.rows, *waiting), signals.silent) if waiting else signals
        stages = frozenset(identity.path for identity in active.resources if identity.kind == Kind.STAGE.value) if routes else ()
        labels = {identity.path: resource.labels for identity, resource in active.resources.items() if resource.labels}
        revision = RevisionState(active.revision if _is_commit(active.revision) else "", moment.settled)
        clean = self._current.context.redactor.redact
        return IncidentInputs(routes, signals, labels, revision, frozenset(stages), clean)

    def _routes(self, active: ActiveRevision) -> tuple[Route, ...]:
        own = [active.resources[identity] for identity in sorted(active.resources) if identity.kind == Kind.NOTIFICATION.value]
        return tuple(
            route_of(
                resource,
                suspended=bool(self._current.suspended(resource)),
                follows_revision=isinstance(resource.typed(NotificationSpec).sink.chosen(), StatusSinkSpec),
            )
            for resource in own
        )

    def _approvals_possible(self, active: ActiveRevision) -> bool:
        """Whether a stage requires approvals; otherwise the queues are not read."""
        if self._approving is None or self._approving[0] is not active:
            stages = [resource for identity, resource in active.resources.items() if identity.kind == Kind.STAGE.value]
            needed = any(condition.approval is not None for stage in stages for condition in stage.typed(StageSpec).conditions)
            self._approving = (active, needed)
        return self._approving[1]

    async def _approvals(self) -> list[Signal]:
        """Return a signal for each item that waits for an approval."""
        items = await self._current.context.store.items(states=[ItemState.QUEUED.value], limit=500)
        return [
            Signal(
                (Topic.APPROVAL_NEEDED,),
                item.stage.path,
                f"approval/{item.id}",
                IncidentSeverity.WARNING,
                f"{item.stage} waits for an approval",
                "Approval",
                f"{item.label}: {item.message}. Approve it with: reconciler approve {item.id}",
            )
            for item in items
            if item.reason == "approval"
        ][:APPROVALS]


def _is_commit(revision: str) -> bool:
    return "@sha" in revision and not revision.startswith("dir@")


__all__ = ["Announcer", "IncidentMoment"]
