"""From an event to everything it leads to: items of stages, parts of connection groups, rejections. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from reconciler.events.filters import check_filters, check_source
from reconciler.manifests.cel import ExpressionError, compile_value, without_nul
from reconciler.model.events import Event, EventState, Origin, RejectedBy
from reconciler.model.resources import Kind, Resource, ResourceId
from reconciler.model.values import too_deep
from reconciler.stages.inputs import InputError
from reconciler.stages.items import Queued, SpecSnapshot, Trigger, queue, snapshot_of
from reconciler.stages.provenance import handed_on, origin_of, reported_by_us
from reconciler.stages.summary import summary_of
from reconciler.state.routing import Join, Routing

KINDS = {"event-source": Kind.EVENT_SOURCE, "stage": Kind.STAGE, "connection-group": Kind.CONNECTION_GROUP}
NOT_ROUTED = frozenset({"ping", "meta"})
"""Events of a sender about its own webhook: stored, never routed."""
BY = "x-reconciler-triggered-by"
"""Header of an event that a person made: who that was. Of a delivery it means nothing."""
LastOf = Callable[[ResourceId, tuple[str, ...]], Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class RoutingJob:
    """An event to route, with what the state knows of it."""

    event: Event
    body: bytes
    integration: str = ""
    """Path of the Integration of its source."""
    through: tuple[str, ...] = ()
    """Paths of the stages that led to the run that it is about."""
    skip: frozenset[str] = frozenset()
    """Paths of targets whose evaluation overran before: they are passed over."""


@dataclass(frozen=True, slots=True)
class RoutingTarget:
    """A stage or group that is connected to something."""

    resource: Resource
    connection: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wiring:
    """The connections of one revision: each source with its targets."""

    revision: str
    resources: Mapping[ResourceId, Resource]
    targets: Mapping[ResourceId, tuple[RoutingTarget, ...]] = field(default_factory=dict)
    _snapshots: dict[ResourceId, SpecSnapshot] = field(default_factory=dict)

    def snapshot(self, stage: Resource) -> SpecSnapshot:
        """Return the snapshot of a stage, made once a revision."""
        snapshot = self._snapshots.get(stage.id)
        if snapshot is None:
            snapshot = self._snapshots[stage.id] = snapshot_of(stage)
        return snapshot

    def needs_last(self, source: ResourceId) -> Iterator[tuple[ResourceId, tuple[str, ...]]]:
        """Yield the (stage, results) whose last inputs an event of ``source`` may ask for."""
        for target in self.targets.get(source, ()):
            for mapping in target.resource.spec.get("inputMappings", ()):
                for value in mapping["values"]:
                    last = value.get("valueFrom", {}).get("lastExecution")
                    if last is not None:
                        yield target.resource.id, tuple(last["results"])


def wire(revision: str, resources: Mapping[ResourceId, Resource]) -> Wiring:
    """Return the wiring of a revision."""
    targets: dict[ResourceId, list[RoutingTarget]] = {}
    for resource in resources.values():
        if resource.id.kind in (Kind.STAGE.value, Kind.CONNECTION_GROUP.value):
            for connection in resource.spec["connections"]:
                source = connected(resource, connection)
                if source is not None:
                    targets.setdefault(source, []).append(RoutingTarget(resource, connection))
    return Wiring(revision, resources, {source: tuple(found) for source, found in targets.items()})


def connected(resource: Resource, connection: Mapping[str, Any]) -> ResourceId | None:
    """Return what a connection names, as validation found it: in its own canvas, else in ``default``."""
    kind = KINDS[connection["type"]].value
    found = [one for one in resource.references if one.kind == kind and one.name == connection["name"]]
    return next((one for one in found if one.canvas == resource.id.canvas), found[0] if found else None)


def route(
    job: RoutingJob, wiring: Wiring, *, last: LastOf, now: float, at: Callable[[int], None] = lambda _part: None
) -> Routing:
    """Return what an event leads to at the revision of ``wiring``. ``at``: called before each target, with its number from 1."""
    event = job.event
    try:
        payload = orjson.loads(job.body)
    except orjson.JSONDecodeError:
        return Routing(event.id, EventState.REJECTED, "malformed", "the payload is not JSON")
    if b"\\u0000" in job.body:
        payload = without_nul(payload)
    if event.type in NOT_ROUTED:
        return Routing(event.id, reason=event.type)
    source = wiring.resources.get(event.source)
    if source is not None and source.id.kind == Kind.EVENT_SOURCE.value:
        verdict = check_source(source.spec, (event.type, *event.also), payload, event.headers)
        if not verdict.passes:
            state = EventState.FAILED if verdict.reason == "error" else EventState.REJECTED
            return Routing(event.id, state, verdict.reason, verdict.message)
    origin = _origin(job, payload, wiring)
    trigger = Trigger(event, payload, origin, wiring.revision, now, wiring.resources)
    return _Router(trigger, wiring, last).routing(job.skip, at)


def _origin(job: RoutingJob, payload: Any, wiring: Wiring) -> dict[str, Any]:
    """Return where an event comes from, with the stages that it came through."""
    source = job.event.source
    outside = source.kind == Kind.EVENT_SOURCE.value
    origin = _outside_origin(job.event, payload, wiring, job.integration) if outside else handed_on(payload)
    through = (*job.through, source.path) if source.kind == Kind.STAGE.value else job.through
    if through:
        origin["through"] = [*dict.fromkeys([*origin.get("through", ()), *through])]
    return origin


def _outside_origin(event: Event, payload: Any, wiring: Wiring, integration: str) -> dict[str, Any]:
    """Return the origin of an event from outside, with what people are shown of it."""
    declared = wiring.resources.get(ResourceId.from_path(integration)) if integration else None
    provider, web = (str(declared.spec.get(key, "")) if declared is not None else "" for key in ("type", "url"))
    origin = origin_of(integration, event.type, payload)
    if provider:
        origin["provider"] = provider
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
                self._reject(target, "overrun", "its filter, mapping or groupBy takes more time or memory than it may")
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
        """An event that led to nothing because of a mistake is not a processed one: it is found by its state."""
        reasons = {one.reason for one in self.rejections}
        if "overrun" in reasons:
            return EventState.QUARANTINED, "overrun"
        if "error" in reasons and not self.queued and not self.joins:
            return EventState.FAILED, "error"
        return EventState.PROCESSED, ""

    def _reject(self, target: RoutingTarget, reason: str, message: str) -> None:
        self.rejections.append(RejectedBy(self.event.id, target.resource.id, reason, message, self.trigger.now))

    def _queue(self, target: RoutingTarget) -> None:
        stage = target.resource
        own_status = reported_by_us(self.event.type, self.payload) and "commitStatus" in stage.spec.get("report", {})
        if stage.id.path in self.trigger.origin.get("through", ()) or own_status:
            self._reject(target, "circle", "this stage led to what the event is about: it would start itself for ever")
            return
        try:
            self.queued.append(
                queue(
                    stage,
                    self.wiring.snapshot(stage),
                    target.connection["name"],
                    self.trigger,
                    last=lambda results: self.last(stage.id, results),
                )
            )
        except InputError as error:
            self._reject(target, "error", error.message)

    def _join(self, target: RoutingTarget) -> None:
        spec = target.resource.spec
        fields: dict[str, str] = {}
        for one in spec["groupBy"]["fields"]:
            try:
                value = compile_value(one["expression"]).evaluate(self.payload, self.event.headers)
            except ExpressionError as error:
                self._reject(target, "error", f"groupBy field {one['name']!r}: {error.message}")
                return
            except RecursionError:
                value = self.payload  # is deeper still
            if too_deep(value):
                self._reject(target, "error", f"groupBy field {one['name']!r} is nested too deep")
                return
            fields[one["name"]] = value if isinstance(value, str) else orjson.dumps(value).decode()
        behaviour = spec.get("timeoutBehavior", "none")
        self.joins.append(
            Join(
                group=target.resource.id,
                key=hashlib.sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).hexdigest(),
                fields=fields,
                connection=target.connection["name"],
                needed=tuple(one["name"] for one in spec["connections"]),
                timeout_s=float(spec.get("timeout", 0)),
                origin=self.trigger.origin,
                emit=behaviour == "emit",
                drop=behaviour == "drop",
            )
        )
