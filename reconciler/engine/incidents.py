"""Incidents of each Notification: how they start, change and end. Pure: the stored incidents, the signals and `now` are arguments.

An incident is edge-triggered: it is reported when it starts, when its facts change, and when it ends. Three edges in ten minutes make
it flapping; that is reported once, and its edges are not until it is stable.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from reconciler.engine.signals import SignalSet
from reconciler.manifests.notification_spec import NotificationSpec, ResourcesSpec, destination_of
from reconciler.model.incidents import (
    DEFAULT_TOPICS,
    MEMBERS,
    TEXT,
    TITLE,
    Incident,
    IncidentChange,
    IncidentSeverity,
    NoticePhase,
    Occurrence,
    Signal,
    Topic,
)
from reconciler.model.resources import Resource, ResourceId
from reconciler.state.incidents import Fold, IncidentKey

FLAPPING_EDGES = 3
FLAPPING_S = 600.0
SETTLE_S = 3.0
"""A change waits this long for further ones, which the same message then reports."""
REVISION_KEY = "revision"
_SILENT = "the Notification is suspended"
FILTERED = "`on`, `resources` or `severity` of the Notification do not select it any more"
MOVED = "the sink of the Notification changed"
_FLAPPING = "flapping"


@dataclass(frozen=True, slots=True)
class Route:
    """What one Notification sends messages about."""

    notification: str
    topics: frozenset[Topic]
    severity: IncidentSeverity
    resources: ResourcesSpec | None = None
    suspended: bool = False
    follows_revision: bool = False
    """Its sink shows the state of a revision, and no incidents."""
    sink: str = ""
    """`destination_of` the Notification."""


@dataclass(frozen=True, slots=True)
class RevisionState:
    """How far the sync of a revision is."""

    revision: str = ""
    """Full id; empty for a source without commits."""
    applied: bool = False


@dataclass(frozen=True, slots=True)
class IncidentInputs:
    """Everything that the incidents of a moment follow from."""

    routes: tuple[Route, ...]
    signals: SignalSet
    labels: Mapping[str, Mapping[str, str]]
    """Labels by the path of a resource, of those that have any."""
    revision: RevisionState = RevisionState()
    stages: frozenset[str] = frozenset()
    """Paths of the declared stages."""
    clean: Callable[[str], str] = str
    """Masks secrets in text."""


def route_of(resource: Resource, *, suspended: bool, follows_revision: bool) -> Route:
    """Return what ``resource``, a Notification, sends messages about."""
    spec = resource.typed(NotificationSpec)
    topics = frozenset(spec.on or DEFAULT_TOPICS)
    return Route(resource.id.path, topics, spec.severity, spec.resources, suspended, follows_revision, destination_of(resource))


def fold_of(inputs: IncidentInputs) -> Fold:
    """Return the comparison of stored incidents with ``inputs``."""

    def fold(stored: Mapping[IncidentKey, Incident], occurrences: Sequence[Occurrence], now: float) -> list[IncidentChange]:
        changes: list[IncidentChange] = []
        for route in inputs.routes:
            own = {key: incident for (path, key), incident in stored.items() if path == route.notification}
            changes += _of_moved(route, own, now)
            if route.follows_revision:
                changes += _of_revision(route, inputs, own.get(REVISION_KEY), now)
                continue
            of_signals = list(_of_signals(route, inputs, own, now))
            changes += of_signals
            own |= {change.incident.key: change.incident for change in of_signals}
            changes += _of_occurrences(route, inputs, own, occurrences, now)
        return changes

    return fold


# -- another sink -----------------------------------------------------------------------------------------------------


def _of_moved(route: Route, own: dict[str, Incident], now: float) -> Iterable[IncidentChange]:
    """End at the former sink what lasts, and drop it from ``own``: what still lasts starts again. An occurrence starts again here."""
    if route.suspended:
        return
    for key, incident in list(own.items()):
        if not (incident.open or incident.flapping) or incident.sink in {"", route.sink}:
            continue
        yield IncidentChange(_ended(incident, now, MOVED if incident.open else ""), (NoticePhase.RELEASE,))
        del own[key]
        if incident.occurred and incident.open and not route.follows_revision:
            facts = dataclasses.replace(incident, sink=route.sink, flapping=False, unreported=False)
            again = _opened(None, facts, now, suspended=False)
            own[key] = again.incident
            yield again


def _ended(incident: Incident, now: float, why: str) -> Incident:
    return dataclasses.replace(incident, closed_at=now, changed_at=now, released=why, flapping=False, edges=())


# -- signals ----------------------------------------------------------------------------------------------------------


def _of_signals(route: Route, inputs: IncidentInputs, stored: Mapping[str, Incident], now: float) -> Iterable[IncidentChange]:
    groups: dict[str, list[Signal]] = {}
    for signal in inputs.signals.rows:
        if _includes(route, signal, inputs.labels):
            groups.setdefault(signal.key, []).append(signal)
    facts = {key: _incident(route, key, group, inputs.clean) for key, group in groups.items()}
    present = {key: incident for key, incident in facts.items() if incident.severity.rank >= route.severity.rank}
    for key, incident in present.items():
        changed = _present(stored.get(key), incident, now, suspended=route.suspended)
        if changed is not None:
            yield changed
    for key, incident in stored.items():
        if key in present or _is_silent(incident, inputs.signals):
            continue
        change: IncidentChange | None
        if incident.occurred:
            change = _of_occurred(route, inputs, incident, now)
        elif incident.open and _filtered(route, incident, facts.get(key), inputs.signals):
            change = IncidentChange(_ended(incident, now, FILTERED), (NoticePhase.RELEASE,))
        else:
            change = _absent(incident, now)
        if change is not None:
            yield change


def _filtered(route: Route, incident: Incident, facts: Incident | None, signals: SignalSet) -> bool:
    """Whether ``incident`` lasts, and only the filter of the Notification leaves it out now."""
    if facts is not None:  # it is less severe than the route asks for: since when the route asks for that, or by itself
        return incident.severity.rank < route.severity.rank
    same = (signal for signal in signals.rows if signal.key == incident.key)
    return any(not incident.members or signal.resource in incident.members for signal in same)


def _includes(route: Route, signal: Signal, labels: Mapping[str, Mapping[str, str]]) -> bool:
    if not any(topic in route.topics for topic in signal.topics) or signal.resource == route.notification:
        return False
    return selects(route.resources, signal.resource, labels.get(signal.resource, {}))


def selects(resources: ResourcesSpec | None, path: str, labels: Mapping[str, str]) -> bool:
    """Whether ``spec.resources`` selects the resource ``path``. What is about no resource, as the source, is always selected."""
    if resources is None or not path:
        return True
    identity = ResourceId.from_path(path)
    return (
        (not resources.kinds or identity.kind in {kind.value for kind in resources.kinds})
        and (not resources.names or any(fnmatchcase(identity.name, pattern) for pattern in resources.names))
        and (not resources.canvases or any(fnmatchcase(identity.canvas, pattern) for pattern in resources.canvases))
        and all(labels.get(name) == value for name, value in resources.labels.items())
    )


def _incident(route: Route, key: str, group: Sequence[Signal], clean: Callable[[str], str]) -> Incident:
    """Return the facts of one cause; the time and the identity are those of the stored incident."""
    worst = max(group, key=lambda signal: signal.severity.rank)
    topic = next(topic for topic in worst.topics if topic in route.topics)
    members = tuple(sorted({signal.resource for signal in group if signal.resource}))
    facts = "\0".join((topic, worst.severity, worst.title, worst.reason, *members))
    return Incident(
        id="",
        notification=route.notification,
        key=key,
        topic=topic,
        severity=worst.severity,
        title=clean(worst.title)[:TITLE],
        reason=worst.reason,
        message=clean(worst.message)[:TEXT],
        url=worst.url,
        members=members[:MEMBERS],
        count=len(members),
        sink=route.sink,
        digest=hashlib.sha256(facts.encode()).hexdigest()[:16],
    )


def _is_silent(incident: Incident, signals: SignalSet) -> bool:
    """Whether nothing is known of the incident now: of all its resources, since one that is known to be well ends it."""
    members = incident.members
    return incident.key in signals.silent or (bool(members) and all(member in signals.silent for member in members))


def _present(before: Incident | None, facts: Incident, now: float, *, suspended: bool) -> IncidentChange | None:
    """Return what changes while the cause exists; None if nothing does."""
    if before is None or not before.open:
        return _opened(before, facts, now, suspended=suspended)
    if before.unreported and not suspended:
        return _reported(_with_facts(before, facts, now))
    if before.flapping and now - before.edges[-1] > FLAPPING_S:
        stable = _with_facts(before, facts, now, flapping=False)
        return IncidentChange(stable, (NoticePhase.UPDATE,))
    if before.digest == facts.digest:
        return None
    changed = _with_facts(before, facts, now)
    if before.flapping:
        return IncidentChange(changed)
    return IncidentChange(changed, (NoticePhase.UPDATE,), delay_s=SETTLE_S)


def _opened(before: Incident | None, facts: Incident, now: float, *, suspended: bool) -> IncidentChange:
    recent = tuple(at for at in before.edges if now - at <= FLAPPING_S) if before is not None else ()
    edges = (*recent, now)
    if before is not None and (before.flapping or len(edges) >= FLAPPING_EDGES):
        again = dataclasses.replace(_with_facts(before, facts, now, flapping=True), closed_at=0.0, edges=edges[-FLAPPING_EDGES:])
        if before.flapping or suspended:
            return IncidentChange(again, suppressed=_FLAPPING if before.flapping else _SILENT)
        return IncidentChange(again, (NoticePhase.FLAPPING,))
    opened = dataclasses.replace(facts, id=incident_id(facts, now), opened_at=now, changed_at=now, edges=edges)
    if suspended:
        return IncidentChange(dataclasses.replace(opened, unreported=True), suppressed=_SILENT)
    return IncidentChange(opened, (NoticePhase.START,))


def _reported(incident: Incident) -> IncidentChange:
    """Start an incident that began while the Notification was suspended, and lasts."""
    return IncidentChange(dataclasses.replace(incident, unreported=False), (NoticePhase.START,))


def _absent(before: Incident, now: float) -> IncidentChange | None:
    """Return what changes while the cause does not exist; None if nothing does."""
    if before.open:
        edges = (*(at for at in before.edges if now - at <= FLAPPING_S), now)
        closed = dataclasses.replace(before, closed_at=now, changed_at=now, edges=edges[-FLAPPING_EDGES:])
        if before.flapping:
            return IncidentChange(closed, suppressed=_FLAPPING)
        return IncidentChange(closed, (NoticePhase.END,))
    if before.flapping and now - before.edges[-1] > FLAPPING_S:
        return IncidentChange(dataclasses.replace(before, flapping=False), (NoticePhase.END,))
    return None


def _with_facts(before: Incident, facts: Incident, now: float, *, flapping: bool | None = None) -> Incident:
    return dataclasses.replace(
        facts,
        id=before.id,
        opened_at=before.opened_at,
        changed_at=now,
        edges=before.edges,
        flapping=before.flapping if flapping is None else flapping,
        occurred=before.occurred,
        sink=before.sink or facts.sink,
        unreported=before.unreported,
    )


def incident_id(facts: Incident, now: float) -> str:
    """Return the id of an incident that starts ``now``: two processes that see the same start make the same one."""
    text = f"{facts.notification}\0{facts.key}\0{now!r}"
    return "inc-" + hashlib.sha256(text.encode()).hexdigest()[:24]


# -- occurrences ------------------------------------------------------------------------------------------------------


def _of_occurrences(
    route: Route, inputs: IncidentInputs, stored: Mapping[str, Incident], occurrences: Sequence[Occurrence], now: float
) -> Iterable[IncidentChange]:
    current = dict(stored)
    for occurrence in occurrences:
        change = _of_occurrence(route, inputs, current.get(occurrence.key), occurrence, now)
        if change is not None:
            current[occurrence.key] = change.incident
            yield change


def _of_occurred(route: Route, inputs: IncidentInputs, incident: Incident, now: float) -> IncidentChange | None:
    """Return what changes of an incident without another occurrence: its stage or its filter is gone, or it is stable again."""
    if not incident.open:
        return _absent(incident, now)
    stage = next(iter(incident.members), "")
    if stage not in inputs.stages:
        return IncidentChange(_ended(incident, now, ""), (NoticePhase.END,))
    selected = selects(route.resources, stage, inputs.labels.get(stage, {})) and incident.topic in route.topics
    if not selected or incident.severity.rank < route.severity.rank:
        return IncidentChange(_ended(incident, now, FILTERED), (NoticePhase.RELEASE,))
    if incident.unreported and not route.suspended:
        return _reported(dataclasses.replace(incident, changed_at=now))
    if incident.flapping and now - incident.edges[-1] > FLAPPING_S:
        return IncidentChange(dataclasses.replace(incident, flapping=False, changed_at=now), (NoticePhase.UPDATE,))
    return None


def _of_occurrence(
    route: Route, inputs: IncidentInputs, before: Incident | None, occurrence: Occurrence, now: float
) -> IncidentChange | None:
    if occurrence.ends:
        return _absent(before, now) if before is not None and before.open else None
    signal = Signal(
        (occurrence.topic,),
        occurrence.resource,
        occurrence.key,
        occurrence.severity,
        occurrence.title,
        occurrence.topic.value,
        occurrence.message,
        occurrence.url,
    )
    silent = occurrence.resource in inputs.signals.silent
    if silent or not _includes(route, signal, inputs.labels) or occurrence.severity.rank < route.severity.rank:
        return None
    facts = _incident(route, occurrence.key, [signal], inputs.clean)
    facts = dataclasses.replace(facts, occurred=True, trace=occurrence.trace)
    if not occurrence.instant:
        facts = dataclasses.replace(facts, digest=hashlib.sha256(f"{facts.digest}{occurrence.at!r}".encode()).hexdigest()[:16])
        return _present(before, facts, now, suspended=route.suspended)
    if before is not None:  # the same occurrence was stored twice
        return None
    instant = dataclasses.replace(facts, id=incident_id(facts, occurrence.at), opened_at=now, closed_at=now, changed_at=now)
    return (
        IncidentChange(instant, suppressed=_SILENT)
        if route.suspended
        else IncidentChange(instant, (NoticePhase.START, NoticePhase.END))
    )


# -- the state of a revision ------------------------------------------------------------------------------------------


def _of_revision(route: Route, inputs: IncidentInputs, before: Incident | None, now: float) -> Iterable[IncidentChange]:
    """Yield the state of the active revision where it changed: ``pending``, then ``success`` or ``failure``.

    What was a success is not pending again: after a start nothing is known of it, and drift is another incident.
    """
    revision = inputs.revision
    if not revision.revision:
        return
    failing = [signal for signal in inputs.signals.rows if signal.resource != route.notification and _fails_sync(signal)]
    selected = [s for s in failing if selects(route.resources, s.resource, inputs.labels.get(s.resource, {}))]
    state = "failure" if selected else "success" if revision.applied else "pending"
    same = before if before is not None and before.message == revision.revision else None
    if same is not None and (same.reason == state or (same.reason, state) == ("success", "pending")):
        return
    title = inputs.clean(selected[0].title)[:TITLE] if selected else {"success": "as declared"}.get(state, "is being applied")
    facts = Incident(
        id="",
        notification=route.notification,
        key=REVISION_KEY,
        topic=Topic.SYNC_FAILED,
        severity=IncidentSeverity.ERROR if selected else IncidentSeverity.INFO,
        title=title,
        reason=state,
        message=revision.revision,
        count=len(selected),
        opened_at=now,
        changed_at=now,
        sink=route.sink,
    )
    changed = dataclasses.replace(
        facts, id=same.id if same else incident_id(facts, now), opened_at=same.opened_at if same else now
    )
    yield (
        IncidentChange(changed, suppressed=_SILENT)
        if route.suspended
        else IncidentChange(changed, (NoticePhase.UPDATE if same else NoticePhase.START,))
    )


def _fails_sync(signal: Signal) -> bool:
    return bool({Topic.SYNC_FAILED, Topic.PLAN_BLOCKED} & set(signal.topics))


__all__ = ["IncidentInputs", "RevisionState", "Route", "fold_of", "incident_id", "route_of", "selects"]
