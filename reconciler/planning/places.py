"""Which names are one container at the provider, and where each recorded object lives now. Pure.

A scope is a name: a repository is renamed, changes its owner, and its old name is given to another one. A container
(`Container.id`) keeps its identity. Everything that matches objects compares containers, so that one object which is seen
under two names is one object, and a record follows its object instead of its name.
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
    """The present name of every scope and container that was looked at."""

    def __init__(self, views: Mapping[Scope, ScopeView]) -> None:
        self._views = views
        self.read = frozenset(scope for scope, view in views.items() if view.error is None)
        """Scopes that could be read, under the names they were asked for."""
        self._containers: dict[tuple[str, str], Scope] = {}
        for scope in sorted(views):
            view = views[scope]
            if view.container:
                self._containers[scope.type, view.container] = view.place or scope

    def of(self, scope: Scope) -> Scope:
        """Return the present name of ``scope``: itself, unless the provider redirected from it."""
        view = self._views.get(scope)
        return view.place if view is not None and view.error is None and view.place is not None else scope

    def home(self, record: RecordedObject) -> Scope:
        """Return the present name of the container that holds the object of ``record``, as far as it is known."""
        known = self._containers.get((record.scope.type, record.container)) if record.container else None
        return known or self.of(record.scope)

    def readable(self) -> dict[Scope, ScopeView]:
        """Return by present name what could be read: one view a container, the one that was read most often."""
        found: dict[Scope, ScopeView] = {}
        for scope in sorted(self._views):
            view, place = self._views[scope], self.of(scope)
            if view.error is None and (place not in found or (scope == place, view.reads) > (False, found[place].reads)):
                found[place] = view
        return found


@dataclass(frozen=True, slots=True)
class Settled:
    """What is declared and recorded, each under the one address that counts for its container."""

    desired: Mapping[Address, ManagedObject]
    records: Mapping[Address, RecordedObject]
    """By the address where the object belongs now; the record itself keeps the address that it is stored under."""
    aliases: Mapping[Address, Address] = field(default_factory=dict)
    """Declared addresses whose container another declared address of the same resource names already."""
    stale: tuple[RecordedObject, ...] = ()
    """Records of an object that another record holds by now."""
    targets: Mapping[Address, Address] = field(default_factory=dict)
    """The address by present names → the declared address, where a former name is declared."""

    def target(self, address: Address, scope: Scope, home: Scope) -> Address:
        """Return the address that counts for the object of ``address`` now that its container is called ``home``."""
        moved = address_in(address, scope, home)
        return self.targets.get(moved, moved)


def settle(desired: Iterable[ManagedObject], recorded: Iterable[RecordedObject], places: Places) -> Settled:
    """Return which declared address and which record counts for each container."""
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
        elif record.address not in declared:  # else what is declared there overwrites it
            stale.append(record)
    return Settled(declared, records, aliases, tuple(stale), targets)


def _declared(
    desired: Iterable[ManagedObject], places: Places
) -> tuple[dict[Address, ManagedObject], dict[Address, Address], dict[Address, Address]]:
    """Return what is declared by address, one a container and resource: its present name goes before a former one."""
    by_place: dict[Address, list[ManagedObject]] = {}
    for one in desired:
        by_place.setdefault(address_in(one.address, one.scope, places.of(one.scope)), []).append(one)
    declared: dict[Address, ManagedObject] = {}
    aliases: dict[Address, Address] = {}
    targets: dict[Address, Address] = {}
    for place, group in by_place.items():
        first, *others = sorted(group, key=lambda one: (one.address != place, one.address))
        declared[first.address] = first
        aliases.update({other.address: first.address for other in others})
        targets[place] = first.address
    return declared, aliases, targets


def _target(record: RecordedObject, settled: Settled, places: Places) -> Address:
    """Return the address where ``record`` belongs. What is declared and cannot be looked at keeps its record."""
    home = places.home(record)
    declared = settled.desired.get(record.address)
    if declared is not None and (places.of(declared.scope) == home or declared.scope not in places.read):
        return record.address
    return settled.target(record.address, record.scope, home)
