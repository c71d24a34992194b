"""Routing: the items of stages, joins of connection groups and rejections that an event leads to. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import orjson

from reconciler.events.filters import check_filters, check_source
from reconciler.manifests.cel import ExpressionError, compile_value, without_nul
from reconciler.manifests.kinds import ConnectionGroupSpec, EventSourceSpec, IntegrationSpec, StageSpec
from reconciler.model.events import NOT_ROUTED, Event, EventState, Origin, RejectedBy
from reconciler.model.json import Json
from reconciler.model.resources import Kind, Resource, ResourceId
from reconciler.model.specs import CONNECTION_KINDS, ConnectionSpec
from reconciler.model.values import JsonObject, too_deep
from reconciler.stages.inputs import InputError
from reconciler.stages.items import Queued, SpecSnapshot, Trigger, queue, snapshot_of
from reconciler.stages.provenance import inherited_origin, origin_of, reported_by_us, through_of
from reconciler.stages.summary import summary_of
from reconciler.state.routing import Join, Routing

BY = "x-reconciler-triggered-by"
"""Header of an event that was triggered by a person: the person's name. It has no meaning in a delivery."""
LastOf = Callable[[ResourceId, tuple[str, ...]], JsonObject | None]


@dataclass(frozen=True, slots=True)
class RoutingJob:
    """An event to route, with facts from the state."""

    event: Event
    body: bytes
    integration: str = ""
    """Path of the Integration of its source."""
    through: tuple[str, ...] = ()
    """Paths of the stages that led to the run that the event is about."""
    skip: frozenset[str] = frozenset()
    """Paths of targets to skip, because their evaluation overran before."""


@dataclass(frozen=True, slots=True)
class RoutingTarget:
    """A stage or group with a connection to a source."""

    resource: Resource
    connection: ConnectionSpec


@dataclass(frozen=True, slots=True)
class Wiring:
    """The connections of one revision: each source with its targets."""

    revision: str
    resources: Mapping[ResourceId, Resource]
    targets: Mapping[ResourceId, tuple[RoutingTarget, ...]] = field(default_factory=dict)
    _snapshots: dict[ResourceId, SpecSnapshot] = field(default_factory=dict)

    def snapshot(self, stage: Resource) -> SpecSnapshot:
        """Return the snapshot of a stage, computed once for each revision."""
        snapshot = self._snapshots.get(stage.id)
        if snapshot is None:
            snapshot = self._snapshots[stage.id] = snapshot_of(stage)
        return snapshot

    def needs_last(self, source: ResourceId) -> Iterator[tuple[ResourceId, tuple[str, ...]]]:
        """Yield the (stage, results) whose last inputs an event of ``source`` may need."""
        for target in self.targets.get(source, ()):
            stage = target.resource
            if stage.id.kind == Kind.STAGE.value:
                for value in (value for mapping in stage.typed(StageSpec).input_mappings for value in mapping.values):
                    if value.value_from is not None and value.value_from.last_execution is not None:
                        yield stage.id, value.value_from.last_execution.results


def wire(revision: str, resources: Mapping[ResourceId, Resource]) -> Wiring:
    """Return the wiring of a revision."""
    targets: dict[ResourceId, list[RoutingTarget]] = {}
    for resource in resources.values():
        for connection in _connections(resource):
            source = _source_of(resource, connection)
            if source is not None:
                targets.setdefault(source, []).append(RoutingTarget(resource, connection))
    return Wiring(revision, resources, {source: tuple(connected) for source, connected in targets.items()})


def _connections(resource: Resource) -> tuple[ConnectionSpec, ...]:
    if resource.id.kind == Kind.STAGE.value:
        return resource.typed(StageSpec).connections
    return resource.typed(ConnectionGroupSpec).connections if resource.id.kind == Kind.CONNECTION_GROUP.value else ()


def _source_of(resource: Resource, connection: ConnectionSpec) -> ResourceId | None:
    """Return the source of a connection, as validation resolved it: in the resource's canvas, else in ``default``."""
    kind = CONNECTION_KINDS[connection.type].value
    candidates = [ref for ref in resource.references if ref.kind == kind and ref.name == connection.name]
    own = (candidate for candidate in candidates if candidate.canvas == resource.id.canvas)
    return next(own, candidates[0] if candidates else None)


def route(
    job: RoutingJob, wiring: Wiring, *, last: LastOf, now: float, at: Callable[[int], None] = lambda _part: None
) -> Routing:
    """Return the routing of an event at the revision of ``wiring``. ``at``: called before each target, with its number from 1."""
    event = job.event
    try:
        payload: Json = orjson.loads(job.body)
    except orjson.JSONDecodeError:
        return Routing(event.id, EventState.REJECTED, "malformed", "the payload is not JSON")
    if b"\\u0000" in job.body:
        payload = without_nul(payload)
    if event.type in NOT_ROUTED:
        return Routing(event.id, reason=event.type)
    source = wiring.resources.get(event.source)
    if source is not None and source.id.kind == Kind.EVENT_SOURCE.value:
        verdict = check_source(source.typed(EventSourceSpec), (event.type, *event.also), payload, event.headers)
        if not verdict.passes:
            state = EventState.FAILED if verdict.reason == "error" else EventState.REJECTED
            return Routing(event.id, state, verdict.reason, verdict.message)
    origin = _origin(job, payload, wiring)
    trigger = Trigger(event, payload, origin, wiring.revision, now, wiring.resources)
    return _Router(trigger, wiring, last).routing(job.skip, at)


def _origin(job: RoutingJob, payload: Json, wiring: Wiring) -> dict[str, Json]:
    """Return the origin of an event, with the stages that it came through."""
    source = job.event.source
    outside = source.kind == Kind.EVENT_SOURCE.value
    origin = _outside_origin(job.event, payload, wiring, job.integration) if outside else inherited_origin(payload)
    through = (*job.through, source.path) if source.kind == Kind.STAGE.value else job.through
    if through:
        origin["through"] = [*dict.fromkeys([*through_of(origin), *through])]
    return origin


def _outside_origin(event: Event, payload: Json, wiring: Wiring, integration: str) -> dict[str, Json]:
    """Return the origin of an event from outside, with its summary for people."""
    declared = wiring.resources.get(ResourceId.from_path(integration)) if integration else None
    spec = declared.typed(IntegrationSpec) if declared is not None else None
    origin = origin_of(integration, event.type, payload)
    if spec is not None:
        origin["provider"] = spec.type
    web = (spec.url or "") if spec is not None else ""
    by = event.headers.get(BY, "") if event.origin is Origin.MANUAL else ""
    about = summary_of(str(event.source), event.type, payload, origin, web=web, by=by)
    return {**origin, "about": about}


class _Router:
    """Routes one event to its targets."""

    def __init__(self, trigger: Trigger, wiring: Wiring, last: LastOf) -> None:
        self.trigger, self.wiring, self.last = trigger, wiring, last
        self.event, self.payload = trigger.event, trigger.payload
        self.queued: list[Queued] = []
        self.joins: list[Join] = []
        self.rejections: list[RejectedBy] = []

    def routing(self, skip: frozenset[str], at: Callable[[int], None]) -> Routing:
        for number, target in enumerate(self.wiring.targets.get(self.event.source, ()), 1):
            if target.resource.id.path in skip:
                self._reject(target, "overrun", "its filter, mapping or groupBy exceeds the limit of time or memory")
                continue
            at(number)
            verdict = check_filters(target.connection, self.payload, self.event.headers)
            if not verdict.passes:
                self._reject(target, verdict.reason, verdict.message)
            elif target.resource.id.kind == Kind.STAGE.value:
                self._queue(target)
            else:
                self._join(target)
        state, reason = self._state()
        return Routing(
            self.event.id,
            state,
            reason,
            items=tuple(queued.item for queued in self.queued),
            pins={queued.snapshot.digest: queued.snapshot.payload for queued in self.queued},
            reports=tuple(report for queued in self.queued for report in queued.reports),
            unreported=tuple((queued.item.id, kind, why) for queued in self.queued for kind, why in queued.unreported.items()),
            joins=tuple(self.joins),
            rejections=tuple(self.rejections),
        )

    def _state(self) -> tuple[EventState, str]:
        """Return state and reason: an event that led to nothing because of an error has failed, so that it can be found."""
        reasons = {rejection.reason for rejection in self.rejections}
        if "overrun" in reasons:
            return EventState.QUARANTINED, "overrun"
        if "error" in reasons and not self.queued and not self.joins:
            return EventState.FAILED, "error"
        return EventState.PROCESSED, ""

    def _reject(self, target: RoutingTarget, reason: str, message: str) -> None:
        self.rejections.append(RejectedBy(self.event.id, target.resource.id, reason, message, self.trigger.now))

    def _queue(self, target: RoutingTarget) -> None:
        stage = target.resource
        report = stage.typed(StageSpec).report
        own_status = report is not None and report.commit_status is not None and reported_by_us(self.event.type, self.payload)
        if stage.id.path in through_of(self.trigger.origin) or own_status:
            self._reject(target, "circle", "this stage led to the event, and would start itself again without end")
            return
        try:
            self.queued.append(
                queue(
                    stage,
                    self.wiring.snapshot(stage),
                    target.connection.name,
                    self.trigger,
                    last=lambda results: self.last(stage.id, results),
                )
            )
        except InputError as error:
            self._reject(target, "error", error.message)

    def _join(self, target: RoutingTarget) -> None:
        spec = target.resource.typed(ConnectionGroupSpec)
        fields: dict[str, str] = {}
        for field_ in spec.group_by.fields:
            try:
                value: Json = compile_value(field_.expression).evaluate(self.payload, self.event.headers)
            except ExpressionError as error:
                self._reject(target, "error", f"groupBy field {field_.name!r}: {error.message}")
                return
            except RecursionError:
                value = self.payload  # is deeper still
            if too_deep(value):
                self._reject(target, "error", f"groupBy field {field_.name!r} is nested too deeply")
                return
            fields[field_.name] = value if isinstance(value, str) else orjson.dumps(value).decode()
        self.joins.append(
            Join(
                group=target.resource.id,
                key=hashlib.sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).hexdigest(),
                fields=fields,
                connection=target.connection.name,
                needed=tuple(connection.name for connection in spec.connections),
                timeout_s=spec.timeout or 0.0,
                origin=self.trigger.origin,
                emit=spec.timeout_behavior == "emit",
                drop=spec.timeout_behavior == "drop",
            )
        )
