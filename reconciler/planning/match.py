"""Matches desired, recorded and observed objects, by recorded id, by marker, or by a write in doubt.

Matching is by container, whatever its name (`places`). An object with the marker of another owner is never matched. For a type
without a place for a marker only the recorded id counts, or the natural key of a write with an unknown outcome.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from reconciler.model.errors import ReconcilerError
from reconciler.model.objects import Intent, ManagedObject, Marker, ObservedObject, RecordedObject, Scope
from reconciler.model.plan import Action, Orphan
from reconciler.model.resources import Adopt, Management
from reconciler.model.values import Address, ExternalId
from reconciler.planning.inputs import PlanInput, ScopeView
from reconciler.planning.places import Places, settle

CREATING = frozenset({Action.CREATE.value, Action.REPLACE.value})
"""Intents that may have created an object without a record."""


@dataclass(frozen=True, slots=True)
class Match:
    """One address in its three states. At least one of ``desired``, ``recorded`` and ``intents`` is set."""

    address: Address
    scope: Scope
    view: ScopeView
    desired: ManagedObject | None = None
    recorded: RecordedObject | None = None
    """Stored under this address, or under the one before a rename of the resource or of the container."""
    observed: ObservedObject | None = None
    intents: tuple[Intent, ...] = ()
    duplicates: tuple[ObservedObject, ...] = ()
    """Further objects with our marker, newest last."""
    rivals: tuple[ObservedObject, ...] = ()
    """Foreign objects in the place of ours, or that could be adopted."""
    adoptable: bool = False
    """Whether the only rival may be adopted."""
    usurped: bool = False
    """Whether the recorded object now has the marker of another owner."""
    taken_by: Address | None = None
    """Another of our addresses, no longer declared, whose object has our natural key."""
    sought: str = ""
    """The id in ``lifecycle.externalId``, if no object with it may be adopted."""
    unreadable: ReconcilerError | None = None
    """The error that prevented reading the scope of an undeclared object."""
    stale: bool = False
    """Whether the recorded object now has a record under another address."""

    @property
    def moved(self) -> bool:
        """Whether the record is stored under the address before a rename."""
        return self.recorded is not None and self.recorded.address != self.address

    @property
    def previous(self) -> Address | None:
        """The address that the record is still stored under, if it is not this one."""
        return self.recorded.address if self.recorded is not None and self.moved else None

    @property
    def creating(self) -> tuple[Intent, ...]:
        """Intents that may have created an object."""
        return tuple(intent for intent in self.intents if intent.action in CREATING)


@dataclass(frozen=True, slots=True)
class Matched:
    """All addresses of one integration, and our objects without an address."""

    matches: tuple[Match, ...]
    orphans: tuple[Orphan, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Index:
    """One readable container during matching: look-ups, and the claim of each id."""

    view: ScopeView
    by_id: dict[ExternalId, ObservedObject] = field(default_factory=dict)
    by_marker: dict[Marker, list[ObservedObject]] = field(default_factory=dict)
    by_key: dict[str, list[ObservedObject]] = field(default_factory=dict)
    claims: dict[ExternalId, Address] = field(default_factory=dict)

    @classmethod
    def of(cls, view: ScopeView) -> _Index:
        index = cls(view)
        for observed in view.objects:
            index.by_id[observed.external_id] = observed
            index.by_key.setdefault(observed.natural_key, []).append(observed)
            if observed.marker is not None:
                index.by_marker.setdefault(observed.marker, []).append(observed)
        return index

    def free(self, objects: Iterable[ObservedObject], address: Address) -> Iterator[ObservedObject]:
        """Yield those of ``objects`` that no other address claims."""
        return (each for each in objects if self.claims.get(each.external_id, address) == address)


def match_all(inp: PlanInput) -> Matched:
    """Match every address of ``inp`` in the scopes that could be read. Addresses in other scopes are left out."""
    return _Matcher(inp).run()


def id_order(external_id: str) -> tuple[int, str]:
    """Sort key of ids: numbers as numbers (shorter is smaller), texts stably."""
    return len(external_id), external_id


class _Matcher:
    """The state of one matching: indices by container, records by current address, claims."""

    def __init__(self, inp: PlanInput) -> None:
        self.inp = inp
        self.places = Places(inp.views)
        self.indices = {place: _Index.of(view) for place, view in self.places.readable().items()}
        self.settled = settle(inp.desired, inp.recorded, self.places)
        self.desired, self.records = self.settled.desired, self.settled.records
        self.intents: dict[Address, list[Intent]] = {}
        for intent in inp.intents:
            self.intents.setdefault(self._address_of(intent), []).append(intent)
        self.moves = {d.previous: d for d in inp.desired if self._moves(d) and d.previous is not None}
        self.usurped: set[Address] = set()

    def _address_of(self, intent: Intent) -> Address:
        """Return the current address of the object of a write in doubt."""
        if intent.address in self.desired:
            return intent.address
        return self.settled.target(intent.address, intent.scope, self.places.of(intent.scope))

    def _index(self, scope: Scope) -> _Index | None:
        return self.indices.get(self.places.of(scope))

    def _moves(self, d: ManagedObject) -> bool:
        """Whether ``d`` is a rename to do: only the old address is recorded or in doubt, and it is no longer declared."""
        old = d.previous
        return (
            old is not None
            and old not in self.desired
            and d.address not in self.records
            and (old in self.records or old in self.intents)
        )

    def run(self) -> Matched:
        for address, record in self.records.items():
            self._claim(address, record)
        matches = [m for d in sorted(self.desired.values(), key=lambda d: d.address) if (m := self._declared(d)) is not None]
        gone = sorted(
            address
            for address, r in self.records.items()
            if address not in self.desired and address not in self.moves and r.resource not in self.inp.untouchable
        )
        matches += [m for address in gone if (m := self._undeclared(address, self.records[address])) is not None]
        matches += [
            Match(r.address, r.scope, ScopeView(), None, r, stale=True)
            for r in self.settled.stale
            if r.resource not in self.inp.untouchable
        ]
        matches += self._doubtful()
        return Matched(tuple(matches), tuple(self._orphans()), tuple(self._notes()))

    def _notes(self) -> Iterator[str]:
        for alias, address in sorted(self.settled.aliases.items()):
            yield f"{alias}: the same as {address} at the provider, under its former name; take one of them out of the manifest"
        for scope in sorted({d.scope for d in self.desired.values()}):
            place = self.places.of(scope)
            if place != scope:
                yield f"{scope}: is called {place.key} now; the manifest can keep the former name until the provider gives it to another"

    def _claim(self, address: Address, record: RecordedObject) -> None:
        """Claim the object with the recorded id. The record precedes the marker, which may have been edited."""
        index = self.indices.get(self.places.home(record))
        observed = index.by_id.get(record.external_id) if index is not None else None
        if index is None or observed is None:
            return
        move = self.moves.get(address)
        owners = {self.inp.owner, record.marker.owner if record.marker else self.inp.owner}
        if observed.marker is not None and observed.marker.owner not in owners:
            self.usurped.add(address)
            return
        index.claims[observed.external_id] = move.address if move is not None else address

    def _declared(self, d: ManagedObject) -> Match | None:
        index = self._index(d.scope)
        if index is None:
            return None
        old = d.previous if d.previous in self.moves and self.moves[d.previous] is d else None
        key = d.address if d.address in self.records else old
        record = self.records.get(key) if key is not None else None
        intents = tuple(self.intents.get(d.address, ())) + (tuple(self.intents.get(old, ())) if old else ())
        ours = self._ours(d, record, intents, index)
        for observed in ours:
            index.claims[observed.external_id] = d.address
        match = Match(
            d.address,
            d.scope,
            index.view,
            d,
            record,
            ours[0] if ours else None,
            intents,
            tuple(ours[1:]),
            usurped=key in self.usurped,
        )
        return match if ours else self._contested(match, d, index)

    def _ours(
        self, d: ManagedObject, record: RecordedObject | None, intents: tuple[Intent, ...], index: _Index
    ) -> list[ObservedObject]:
        """Return our objects for ``d``, the one to keep first: the lowest id, on which any number of planners agree."""
        ours: dict[ExternalId, ObservedObject] = {}
        if record is not None and index.claims.get(record.external_id) == d.address:
            ours[record.external_id] = index.by_id[record.external_id]
        previous = d.previous_marker if d.previous is None or d.previous not in self.desired else None
        for marker in (d.marker, previous):
            if marker is not None and marker in index.by_marker:
                ours.update((each.external_id, each) for each in index.free(index.by_marker[marker], d.address))
        if not ours and d.marker is None:
            ours.update((each.external_id, each) for each in index.free(self._unmarked(d, intents, index), d.address))
        return sorted(ours.values(), key=_id_order) if len(ours) > 1 else list(ours.values())

    def _unmarked(self, d: ManagedObject, intents: tuple[Intent, ...], index: _Index) -> list[ObservedObject]:
        """Return candidates without a marker: by the natural key of a create in doubt, or of any object during `recover`."""
        keys = {intent.natural_key for intent in intents if intent.action in CREATING}
        if self.inp.claim_natural_keys:
            keys.add(d.natural_key)
        return [each for key in sorted(keys) for each in index.by_key.get(key, ()) if each.marker is None]

    def _contested(self, match: Match, d: ManagedObject, index: _Index) -> Match:
        """Our object does not exist: find the objects in its place, and whether one may be adopted."""
        taken = next(
            (index.claims[each.external_id] for each in index.by_key.get(d.natural_key, ()) if each.external_id in index.claims),
            None,
        )
        rivals, adoptable = self._rivals(d, index)
        if adoptable:
            index.claims[rivals[0].external_id] = d.address
        named = d.lifecycle.external_id
        lost = named is not None and not adoptable and match.recorded is None and not match.creating
        return replace(
            match, rivals=rivals, adoptable=adoptable, taken_by=taken, sought=named if lost and named is not None else ""
        )

    def _rivals(self, d: ManagedObject, index: _Index) -> tuple[tuple[ObservedObject, ...], bool]:
        same_key = [each for each in index.by_key.get(d.natural_key, ()) if each.external_id not in index.claims]
        if not _may_match_foreign(d):
            return tuple(same_key), False
        named = d.lifecycle.external_id
        if named is not None:
            chosen = [
                each for each in [index.by_id.get(ExternalId(named))] if each is not None and each.external_id not in index.claims
            ]
        else:
            chosen = self._candidates(d, same_key, index)
        allowed = len(chosen) == 1 and chosen[0].marker is None
        return tuple(chosen or same_key), allowed

    def _candidates(self, d: ManagedObject, same_key: list[ObservedObject], index: _Index) -> list[ObservedObject]:
        kind = self.inp.types.get(d.type)
        identical = d.lifecycle.adopt is not Adopt.ALWAYS
        free = [each for each in index.view.objects if each.marker is None and each.external_id not in index.claims]
        fitting = [each for each in free if kind is not None and kind.adoptable(d, each, identical=identical)]
        if not fitting and d.lifecycle.management is Management.OBSERVE:
            return same_key
        return fitting

    def _undeclared(self, address: Address, record: RecordedObject) -> Match | None:
        home = self.places.home(record)
        index = self.indices.get(home)
        if index is None:
            view = self.inp.views.get(home)
            error = view.error if view is not None else None
            return None if view is None else Match(address, home, view, None, record, unreadable=error)
        usurped = address in self.usurped
        observed = None if usurped else index.by_id.get(record.external_id)
        if observed is None and record.marker is not None and not usurped:
            marked = sorted(index.free(index.by_marker.get(record.marker, ()), address), key=_id_order)
            observed = marked[0] if marked else None
        if observed is not None:
            index.claims[observed.external_id] = address
        intents = tuple(self.intents.get(address, ()))
        return Match(address, home, index.view, None, record, observed, intents, usurped=usurped)

    def _doubtful(self) -> Iterator[Match]:
        """Yield writes in doubt whose address is neither declared nor recorded."""
        for address in sorted(self.intents):
            if address in self.desired or address in self.records or address in self.moves:
                continue
            intents = tuple(self.intents[address])
            index = self._index(intents[-1].scope)
            if index is None or any(intent.address.startswith(f"{r.path}#") for intent in intents for r in self.inp.untouchable):
                continue
            yield Match(address, intents[-1].scope, index.view, None, None, self._doubted(intents, index), intents)

    @staticmethod
    def _doubted(intents: tuple[Intent, ...], index: _Index) -> ObservedObject | None:
        for intent in intents:
            if intent.external_id is not None and intent.action not in CREATING:
                candidates = [index.by_id[intent.external_id]] if intent.external_id in index.by_id else []
            elif intent.marker is not None:
                candidates = index.by_marker.get(intent.marker, [])
            else:
                candidates = [each for each in index.by_key.get(intent.natural_key, ()) if each.marker is None]
            free = [each for each in candidates if each.external_id not in index.claims]
            if free:
                return min(free, key=_id_order)
        return None

    def _orphans(self) -> Iterator[Orphan]:
        kept = {Marker(self.inp.owner, r.uid(self.inp.owner)) for r in self.inp.untouchable}
        for scope in sorted(self.indices):
            index = self.indices[scope]
            for marker in sorted(m for m in index.by_marker if m.owner == self.inp.owner and m not in kept):
                for each in index.by_marker[marker]:
                    if each.external_id not in index.claims:
                        yield Orphan(scope, each.external_id, marker, each.url)


def _id_order(observed: ObservedObject) -> tuple[int, str]:
    return id_order(observed.external_id)


def _may_match_foreign(d: ManagedObject) -> bool:
    """Whether a foreign object may be adopted or observed for ``d``."""
    return d.lifecycle.adopt is not Adopt.NEVER or d.lifecycle.management is Management.OBSERVE
