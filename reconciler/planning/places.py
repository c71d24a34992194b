"""The containers behind the names of scopes, and the current container of each recorded object. Pure.

A scope is a name: a repository can be renamed or change its owner, and its former name can be given to another one. A container
(`Container.id`) keeps its identity. Matching compares containers, so that an object with two names is one object, and a record
follows its object instead of the name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reconciler.model.objects import ManagedObject, RecordedObject, Scope
from reconciler.model.values import Address
from reconciler.planning.inputs import ScopeView


def address_in(address: Address, scope: Scope, home: Scope) -> Address:
    """Return the address of the same object of the same resource in ``home`` instead of ``scope``."""
    path, _, rest = address.partition("#")
    return Address(f"{path}#{home}{rest.removeprefix(str(scope))}") if rest.startswith(str(scope)) else address


class Places:
    """The current name of every observed scope and container."""

    def __init__(self, views: Mapping[Scope, ScopeView]) -> None:
        self._views = views
        self.read = frozenset(scope for scope, view in views.items() if view.error is None)
        """Scopes that could be read, by their requested names."""
        self._containers: dict[tuple[str, str], Scope] = {}
        for scope in sorted(views):
            view = views[scope]
            if view.container:
                self._containers[scope.type, view.container] = view.place or scope

    def of(self, scope: Scope) -> Scope:
        """Return the current name of ``scope``: itself, unless the provider redirected from it."""
        view = self._views.get(scope)
        return view.place if view is not None and view.error is None and view.place is not None else scope

    def home(self, record: RecordedObject) -> Scope:
        """Return the current name of the container of ``record``, as far as it is known."""
        known = self._containers.get((record.scope.type, record.container)) if record.container else None
        return known or self.of(record.scope)

    def readable(self) -> dict[Scope, ScopeView]:
        """Return the views that could be read, by current name: of each container the view with the most reads."""
        views: dict[Scope, ScopeView] = {}
        for scope in sorted(self._views):
            view, place = self._views[scope], self.of(scope)
            if view.error is None and (place not in views or (scope == place, view.reads) > (False, views[place].reads)):
                views[place] = view
        return views


@dataclass(frozen=True, slots=True)
class Settled:
    """The desired and recorded objects, each by the address that is valid for its container."""

    desired: Mapping[Address, ManagedObject]
    records: Mapping[Address, RecordedObject]
    """By the current address of the object; the record itself keeps its stored address."""
    aliases: Mapping[Address, Address] = field(default_factory=dict)
    """Declared addresses whose container another declared address of the same resource names."""
    stale: tuple[RecordedObject, ...] = ()
    """Records of an object that another record has now."""
    targets: Mapping[Address, Address] = field(default_factory=dict)
    """The address by current names → the declared address, if a former name is declared."""

    def target(self, address: Address, scope: Scope, home: Scope) -> Address:
        """Return the valid address of the object of ``address``, whose container is now called ``home``."""
        moved = address_in(address, scope, home)
        return self.targets.get(moved, moved)


def settle(desired: Iterable[ManagedObject], recorded: Iterable[RecordedObject], places: Places) -> Settled:
    """Return the valid declared address and record of each container."""
    declared, aliases, targets = _declared(desired, places)
    settled = Settled(declared, {}, aliases, (), targets)
    records: dict[Address, RecordedObject] = {}
    moving: list[tuple[Address, RecordedObject]] = []
    for record in sorted(recorded, key=lambda record: record.address):
        target = _target(record, settled, places)
        if target == record.address:
            records[target] = record
        else:
            moving.append((target, record))
    stale: list[RecordedObject] = []
    for target, record in moving:
        if target not in records:
            records[target] = record
        elif record.address not in declared:  # otherwise the object declared there overwrites it
            stale.append(record)
    return Settled(declared, records, aliases, tuple(stale), targets)


def _declared(
    desired: Iterable[ManagedObject], places: Places
) -> tuple[dict[Address, ManagedObject], dict[Address, Address], dict[Address, Address]]:
    """Return the desired objects by address, one per container and resource: its current name precedes a former one."""
    by_place: dict[Address, list[ManagedObject]] = {}
    for managed in desired:
        by_place.setdefault(address_in(managed.address, managed.scope, places.of(managed.scope)), []).append(managed)
    declared: dict[Address, ManagedObject] = {}
    aliases: dict[Address, Address] = {}
    targets: dict[Address, Address] = {}
    for place, group in by_place.items():
        first, *others = sorted(group, key=lambda member: (member.address != place, member.address))
        declared[first.address] = first
        aliases.update({other.address: first.address for other in others})
        targets[place] = first.address
    return declared, aliases, targets


def _target(record: RecordedObject, settled: Settled, places: Places) -> Address:
    """Return the current address of ``record``. A declared object that cannot be read keeps its record."""
    home = places.home(record)
    declared = settled.desired.get(record.address)
    if declared is not None and (places.of(declared.scope) == home or declared.scope not in places.read):
        return record.address
    return settled.target(record.address, record.scope, home)
