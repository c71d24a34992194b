"""Literals for planning tests, and a small world in memory that a plan can be executed in."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from reconciler.model.objects import Intent, ManagedObject, Marker, ObservedObject, RecordedObject, Scope, WriteOnly, address_of
from reconciler.model.plan import Action, Change, Plan
from reconciler.model.resources import Lifecycle, Location, ResourceId, SecretRef
from reconciler.model.values import Address, ExternalId, Fingerprint
from reconciler.planning.plan import PlanInput, ScopeView, make_plan

NOW = 1_800_000_000.0
OWNER = "team-a"
INTEGRATION = ResourceId("Integration", "default", "github")
HOOKS = Scope("github/repository-webhook", "acme/payments")
KEYED = Scope("buddy/integration", "acme")


@dataclass(frozen=True)
class Kind:
    """A managed type's pure part: adoptable where the events are equal (identical) or at all."""

    write_only_fixed: bool = False

    def adoptable(self, desired: ManagedObject, observed: ObservedObject, *, identical: bool) -> bool:
        if identical:
            return desired.attributes.get("events") == observed.attributes.get("events")
        return desired.natural_key == observed.natural_key or "adopt-me" in observed.url


TYPES = {HOOKS.type: Kind(), KEYED.type: Kind(), "semaphore/secret": Kind(write_only_fixed=True)}


def source(name: str = "payments") -> ResourceId:
    return ResourceId("EventSource", "default", name)


def marker(name: str = "payments", owner: str = OWNER) -> Marker:
    return Marker(owner, source(name).uid(owner))


def url(name: str = "payments", owner: str = OWNER) -> str:
    return f"https://hooks.example/hooks/{owner}/{source(name).uid(owner)}"


def desired(
    name: str = "payments",
    *,
    scope: Scope = HOOKS,
    marked: bool = True,
    secret: str = "hmac:1",
    line: int = 3,
    lifecycle: Lifecycle | None = None,
    **attributes: Any,
) -> ManagedObject:
    base = {"config": {"url": url(name), "insecure_ssl": "0"}, "events": ["push"], "active": True} if marked else {"name": name}
    key = url(name) if marked else f"acme/{name}"
    return ManagedObject(
        address=address_of(source(name), scope),
        resource=source(name),
        integration=INTEGRATION,
        scope=scope,
        attributes={**base, **attributes},
        natural_key=key,
        marker=marker(name) if marked else None,
        lifecycle=lifecycle or Lifecycle(),
        location=Location(f"{name}.yaml", line, 1),
        write_only=(WriteOnly("/config/secret", SecretRef("default", "hook", "key"), Fingerprint(secret)),) if secret else (),
    )


def moved(d: ManagedObject, old: str) -> ManagedObject:
    return dataclasses.replace(d, previous=address_of(source(old), d.scope), previous_marker=marker(old) if d.marker else None)


def observed(d: ManagedObject, external_id: str = "1", *, stamp: str = "", **attributes: Any) -> ObservedObject:
    return ObservedObject(
        ExternalId(external_id),
        {**d.attributes, **attributes},
        d.natural_key,
        d.marker,
        f"https://provider.example/{external_id}",
        stamp,
    )


def foreign(d: ManagedObject, external_id: str = "77", *, owner: str = "", link: str = "", **attributes: Any) -> ObservedObject:
    mark = Marker(owner, d.resource.uid(owner)) if owner else None
    return ObservedObject(ExternalId(external_id), {**d.attributes, **attributes}, d.natural_key, mark, link)


def recorded(d: ManagedObject, external_id: str = "1", **changes: Any) -> RecordedObject:
    record = RecordedObject(
        address=d.address,
        resource=d.resource,
        integration=d.integration,
        scope=d.scope,
        external_id=ExternalId(external_id),
        natural_key=d.natural_key,
        marker=d.marker,
        attributes=d.attributes,
        fingerprints={w.pointer: w.fingerprint for w in d.write_only},
        digest=d.digest,
        lifecycle=d.lifecycle,
        applied_at=NOW - 3600,
        seen=True,
        depends_on=d.depends_on,
    )
    return dataclasses.replace(record, **changes)


def intent(d: ManagedObject, action: Action = Action.CREATE, *, age_s: float = 5.0, **changes: Any) -> Intent:
    made = Intent(
        "i1",
        d.address,
        d.integration,
        action.value,
        d.scope,
        d.marker,
        d.natural_key,
        d.digest,
        NOW - age_s,
        fingerprints={w.pointer: w.fingerprint for w in d.write_only},
    )
    return dataclasses.replace(made, **changes)


def plan(
    *want: ManagedObject,
    have: tuple[RecordedObject, ...] = (),
    see: tuple[ObservedObject, ...] = (),
    reads: int = 2,
    **options: Any,
) -> Plan:
    scopes = {d.scope for d in want} | {r.scope for r in have} | {i.scope for i in options.get("intents", ())} | {HOOKS}
    views = options.pop("views", None) or {scope: ScopeView(see, reads) for scope in scopes}
    settings: dict[str, Any] = {"now": NOW, "owner": OWNER, "types": TYPES, **options}
    return make_plan(PlanInput(INTEGRATION, desired=want, recorded=have, views=views, **settings))


def only(made: Plan) -> Change:
    assert len(made.changes) == 1, [(c.action, c.reason) for c in made.changes]
    return made.changes[0]


@dataclass
class World:
    """What lives at the provider and in the state; executes plans as the engine would."""

    objects: dict[Scope, dict[str, ObservedObject]] = field(default_factory=dict)
    records: dict[Address, RecordedObject] = field(default_factory=dict)
    next_id: int = 100
    touched: list[str] = field(default_factory=list)

    def view(self) -> dict[Scope, ScopeView]:
        return {scope: ScopeView(tuple(objects.values()), 2) for scope, objects in self.objects.items()}

    def execute(self, made: Plan) -> None:
        for change in made.executable:
            self._one(change)

    def _one(self, change: Change) -> None:
        there = self.objects.setdefault(change.scope, {})
        if change.action not in {Action.CREATE, Action.RECORD, Action.FORGET}:
            self.touched.append(str(change.external_id))
        if change.action in {Action.DELETE, Action.REPLACE}:
            assert there.pop(str(change.external_id), None) is not None
        if change.action is Action.DELETE:
            if change.address in self.records:
                self.records[change.address] = dataclasses.replace(self.records[change.address], tombstone=True)
            return
        if change.action is Action.FORGET:
            del self.records[change.address]
            return
        d = change.desired
        assert d is not None
        if change.action in {Action.CREATE, Action.REPLACE}:
            self.next_id += 1
            external_id = str(self.next_id)
        else:
            external_id = str(change.external_id)
        if change.action is not Action.RECORD:
            there[external_id] = observed(d, external_id)
        if change.previous is not None:
            self.records.pop(change.previous, None)
        self.records[d.address] = recorded(d, external_id)
