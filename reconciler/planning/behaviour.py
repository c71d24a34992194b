"""What a resource makes the daemon do: what runs, when, on whose behalf. Pure.

A reviewer needs this in words: stages, filters, schedules, approvals and credentials have no object at a provider whose change
would show it. Specs are read as JSON, so that a stored spec of an older version has facts too.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.drivers.specs import spec_of
from reconciler.model.json import Json, as_list, as_map, at, text_at
from reconciler.model.resources import Kind, Resource, ResourceId
from reconciler.model.specs import CONNECTION_KINDS
from reconciler.model.values import JsonObject

NEXT_RUNS = 3
MOST_NAMES = 8
"""How many resources a fact names; the rest is counted."""
_MOST_EVENTS = 20

NextRuns = Callable[[JsonObject, float, int], Sequence[float] | None]
"""(canonical ``schedule`` block, epoch seconds, count) → the instants at which it fires next; None if they are not computed."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that a resource does: ``on behalf of`` · ``Integration/code: …``."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All resources of one revision, and the time for which schedules are computed (epoch seconds)."""

    resources: Mapping[ResourceId, Resource] = field(default_factory=dict)
    now: float = 0.0
    next_runs: NextRuns | None = None
    users: Mapping[ResourceId, tuple[ResourceId, ...]] = field(default_factory=dict)
    """The resources that refer to a resource."""

    @classmethod
    def of(cls, resources: Mapping[ResourceId, Resource], now: float, next_runs: NextRuns | None) -> Surroundings:
        """Return the surroundings with the users of every resource."""
        users: dict[ResourceId, list[ResourceId]] = {}
        for identity in sorted(resources):
            for target in dict.fromkeys(resources[identity].references):
                users.setdefault(target, []).append(identity)
        return cls(resources, now, next_runs, {target: tuple(names) for target, names in users.items()})


def facts_of(resource: Resource, around: Surroundings) -> tuple[Fact, ...]:
    """Return the facts of ``resource``; none for a kind that makes nothing run."""
    describe = _FACTS.get(resource.id.kind)
    facts = describe(resource, around) if describe is not None else ()
    return tuple(fact for fact in facts if fact.text)


def identity_text(integration: Resource) -> str:
    """Return the identity of an Integration: ``PROVIDER https://… with token (secret:code/token)``. References only, never a value."""
    spec = integration.spec
    kind, url = text_at(spec, "type") or "", text_at(spec, "url") or text_at(spec, "apiUrl") or ""
    auth = as_map(at(spec, "auth"))
    how = str(auth.get("use", "none"))
    leaves = _leaves({key: value for key, value in auth.items() if key != "use"})
    parts = [value if name in {"", how} else f"{name} {value}" for name, value in leaves]
    return " ".join(
        part for part in (spec_of(kind).title or kind, url, f"with {how}", f"({', '.join(parts)})" if parts else "") if part
    )


def _leaves(value: Json, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield (last key, text) of each value; a reference to a Secret reads as ``secret:NAME/KEY``."""
    if isinstance(value, Mapping):
        secret = at(value, "valueFrom", "secret")
        if isinstance(secret, Mapping):
            yield name, f"secret:{secret.get('name')}/{secret.get('key')}"
            return
        for key in sorted(value):
            yield from _leaves(value[key], key)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item, name)
    elif value is not None:
        yield name, _scalar(value)


def _stage(resource: Resource, around: Surroundings) -> Iterator[Fact]:
    spec = resource.spec
    yield Fact("runs", _runs(spec))
    yield from (Fact("when", _when(connection, resource, around)) for connection in as_list(spec.get("connections")))
    for condition in as_list(spec.get("conditions")):
        yield from _condition(condition)
    yield Fact("on behalf of", _behalf(resource, around))
    yield from (Fact("secret", f"{text_at(s, 'name')} from {_reference(s)}") for s in as_list(spec.get("secrets")))
    yield Fact("reports", _report(as_map(spec.get("report"))))
    yield Fact("starts", _names(around.users.get(resource.id, ()), (Kind.STAGE, Kind.CONNECTION_GROUP)))


def _runs(spec: JsonObject) -> str:
    executor = as_map(spec.get("executor"))
    kind, target = str(executor.get("type", "")), as_map(executor.get("resource"))
    where = " ".join(str(target[key]) for key in ("type", "name", "id") if key in target)
    rest = {key: value for key, value in as_map(executor.get("spec")).items() if key != "auth"}
    details = ", ".join(f"{key} {_scalar(rest[key])}" for key in sorted(rest))
    text = " ".join(part for part in (spec_of(kind).title or kind, where, f"({details})" if details else "") if part)
    allowed = as_list(executor.get("allow"))
    text += f", targets limited to {', '.join(map(str, allowed))}" if allowed else ""
    return text + (", as a dry run: the run is not started" if spec.get("dryRun") is True else "")


def _when(connection: Json, resource: Resource, around: Surroundings) -> str:
    """Return ``each event of EventSource/hooks (push) if A and B``; with the next runs of a schedule."""
    kind, name = CONNECTION_KINDS.get(text_at(connection, "type") or "", Kind.EVENT_SOURCE), text_at(connection, "name") or ""
    target = _target(resource, kind.value, name)
    source = around.resources.get(target)
    condition = _filters(connection)
    what = {Kind.STAGE: "an execution of", Kind.CONNECTION_GROUP: "a complete set of"}.get(kind, "an event of")
    text = f"{what} {target}" + (f" if {condition}" if condition else "")
    schedule = _schedule(source, around) if source is not None else ""
    return f"{text}: {schedule}" if schedule else text


def _filters(holder: Json) -> str:
    """Return the filters of a connection or an event: ``$.ref == "x" and header: y``."""
    texts = []
    for item in as_list(at(holder, "filters")):
        payload = as_map(at(item, "payload"))
        expression = text_at(item, "data", "expression")
        header = text_at(item, "header", "expression")
        texts += [f"{key} matches {value}" for key, value in sorted(payload.items())]
        texts += [expression] if expression else []
        texts += [f"header: {header}"] if header else []
    operator = " or " if text_at(holder, "filterOperator") == "or" else " and "
    return operator.join(f"({text})" if len(texts) > 1 else text for text in texts)


def _condition(condition: Json) -> Iterator[Fact]:
    approval, window = as_map(at(condition, "approval")), as_map(at(condition, "timeWindow"))
    if approval:
        people = ", ".join(map(str, as_list(approval.get("approvers")))) or "anyone who may approve"
        yield Fact("after approval", f"{approval.get('count', 1)} of {people}")
    if window:
        days = ", ".join(str(day)[:3] for day in as_list(window.get("weekDays")))
        yield Fact("only", f"{window.get('start')} to {window.get('end')} {window.get('timeZone', 'UTC')} on {days}")


def _behalf(resource: Resource, around: Surroundings) -> str:
    """Return the identity that the provider sees: the Integration and its credential, or our own ID token."""
    executor = as_map(resource.spec.get("executor"))
    auth = as_map(at(executor, "spec", "auth"))
    name = (
        text_at(executor, "integration", "name") or text_at(auth, "integration") or text_at(resource.spec, "integration", "name")
    )
    if name:
        target = _target(resource, Kind.INTEGRATION.value, name)
        integration = around.resources.get(target)
        return f"{target}: {identity_text(integration)}" if integration is not None else str(target)
    audience = text_at(auth, "oidc", "audience")
    return f"an ID token of this installation for {audience}" if audience else ""


def _report(report: JsonObject) -> str:
    status = text_at(report, "commitStatus", "context")
    environment = text_at(report, "deployment", "environment")
    parts = ["the deployment's status"] if report.get("deploymentStatus") is True else []
    parts += [f"a deployment to {environment or 'its environment'}"] if report.get("deployment") else []
    parts += [f"commit status {status}"] if status else []
    return ", ".join(parts)


def _event_source(resource: Resource, around: Surroundings) -> Iterator[Fact]:
    spec = resource.spec
    yield Fact("fires", _schedule(resource, around))
    target = as_map(spec.get("resource"))
    names = [str(target[key]) for key in ("name", "match") if key in target] + [
        str(name) for name in as_list(target.get("names"))
    ]
    yield Fact("listens to", " ".join([str(target.get("type", "")), _some(names)]).strip() if target else "")
    events = as_list(spec.get("events"))
    texts = [" if ".join(filter(None, (str(text_at(event, "type")), _filters(event)))) for event in events[:_MOST_EVENTS]]
    more = f", and {len(events) - _MOST_EVENTS} more" if len(events) > _MOST_EVENTS else ""
    yield Fact("events", ", ".join(texts) + more)
    yield Fact("on behalf of", _behalf(resource, around))
    yield Fact("starts", _names(around.users.get(resource.id, ()), (Kind.STAGE, Kind.CONNECTION_GROUP)))


def _schedule(source: Resource, around: Surroundings) -> str:
    """Return ``cron 0 9 * * 1-5 Europe/Berlin, next 2026-11-30 09:00, …``; empty for a source that is not a schedule."""
    schedule = as_map(source.spec.get("schedule"))
    if not schedule:
        return ""
    zone = str(schedule.get("timeZone", "UTC"))
    kind = str(schedule.get("type", "cron"))
    rule = str(schedule["cron"]) if "cron" in schedule else " ".join(map(str, as_map(schedule.get(kind)).values()))
    text = f"{kind} {rule} {zone}"
    if around.next_runs is None or not around.now:
        return text
    runs = around.next_runs(schedule, around.now, NEXT_RUNS)
    if runs is None:
        return text
    return text + (f", next {', '.join(_local(run, zone) for run in runs)}" if runs else ", which never fires")


def _local(moment: float, zone: str) -> str:
    from zoneinfo import ZoneInfo

    return dt.datetime.fromtimestamp(moment, ZoneInfo(zone)).strftime("%a %Y-%m-%d %H:%M %Z")


def _group(resource: Resource, around: Surroundings) -> Iterator[Fact]:
    spec = resource.spec
    yield from (Fact("waits for", _when(connection, resource, around)) for connection in as_list(spec.get("connections")))
    fields = as_list(at(spec, "groupBy", "fields"))
    yield Fact("with equal", ", ".join(f"{text_at(f, 'name')} ({text_at(f, 'expression')})" for f in fields))
    yield Fact("starts", _names(around.users.get(resource.id, ()), (Kind.STAGE, Kind.CONNECTION_GROUP)))


def _integration(resource: Resource, around: Surroundings) -> Iterator[Fact]:
    yield Fact("acts as", identity_text(resource))
    granted = as_map(resource.spec.get("permissions"))
    yield Fact("needs", ", ".join(f"{name} {granted[name]}" for name in sorted(granted)))
    yield Fact("used by", _names(around.users.get(resource.id, ())))


def _secret(resource: Resource, around: Surroundings) -> Iterator[Fact]:
    provider = str(resource.spec.get("provider", ""))
    block = as_map(resource.spec.get(provider))
    data = as_map(block.get("data", resource.spec.get("data")))
    keys = sorted(data)
    shown = keys if provider == "local" else [_key(key, data[key]) for key in keys]
    yield Fact("values from", f"{provider}: {_some(shown)}" if provider else "")
    yield Fact("used by", _names(around.users.get(resource.id, ())))


def _key(key: str, place: Json) -> str:
    where = ", ".join(text for _, text in _leaves(place))
    return f"{key} ({where})" if where else key


def _notification(resource: Resource, _around: Surroundings) -> Iterator[Fact]:
    spec = resource.spec
    yield Fact("notifies on", ", ".join(map(str, as_list(spec.get("on")))) or "the default events")
    chosen = as_map(spec.get("resources"))
    about = [f"{key} {', '.join(text for _, text in _leaves(chosen[key], key))}" for key in sorted(chosen)]
    yield Fact("about", "; ".join(about) or "every resource")
    sink = as_map(spec.get("sink"))
    for kind in sorted(sink):
        yield Fact("sends to", f"{kind} ({', '.join(f'{name} {text}'.strip() for name, text in _leaves(sink[kind]))})")
    yield Fact("on behalf of", _names([r for r in resource.references if r.kind == Kind.INTEGRATION.value]))


def _canvas(resource: Resource, around: Surroundings) -> Iterator[Fact]:
    freezes = as_list(resource.spec.get("freeze"))
    held = sorted(r for r in around.resources if r.kind == Kind.STAGE.value and r.canvas == resource.id.name) if freezes else []
    for freeze in freezes:
        period = f"{text_at(freeze, 'start')} to {text_at(freeze, 'end')} {text_at(freeze, 'timeZone') or 'UTC'}"
        yield Fact("holds starts", f"{period} of {_names(held) or 'no stage'}: {text_at(freeze, 'reason') or 'no reason given'}")


_FACTS: Mapping[str, Callable[[Resource, Surroundings], Iterable[Fact]]] = {
    Kind.STAGE.value: _stage,
    Kind.EVENT_SOURCE.value: _event_source,
    Kind.CONNECTION_GROUP.value: _group,
    Kind.INTEGRATION.value: _integration,
    Kind.SECRET.value: _secret,
    Kind.NOTIFICATION.value: _notification,
    Kind.CANVAS.value: _canvas,
}


def _target(resource: Resource, kind: str, name: str) -> ResourceId:
    """Return the resource that ``name`` refers to, as validation resolved it."""
    resolved = [target for target in resource.references if target.kind == kind and target.name == name]
    return resolved[0] if resolved else ResourceId(kind, resource.id.canvas, name)


def _reference(holder: Json) -> str:
    return next((text for _, text in _leaves(holder) if text.startswith("secret:")), "")


def _names(users: Iterable[ResourceId], kinds: Sequence[Kind] = ()) -> str:
    allowed = {kind.value for kind in kinds}
    return _some([str(user) for user in users if not allowed or user.kind in allowed])


def _some(names: Sequence[str]) -> str:
    """Return the first names, and the number of the others."""
    rest = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f", and {rest} more" if rest > 0 else "")


def _scalar(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=list)
