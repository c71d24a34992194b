"""Observe the provider: every relevant scope, with a conditional read if possible, and twice where absence would matter.

A recorded object that is missing in its scope is looked up where its container is now (`Container`): the repository may have been
renamed, and its old name may belong to another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from reconciler.drivers.base import ManagedType
from reconciler.drivers.connection import Api
from reconciler.engine.context import Context
from reconciler.engine.masking import Mask, hidden_by, own_texts
from reconciler.model.errors import NotFound, PermissionDenied, ProviderError, ReconcilerError, ScopeGone
from reconciler.model.objects import Intent, ManagedObject, NotModified, Observed, ObservedObject, RecordedObject, Scope
from reconciler.model.secrets import SecretValue
from reconciler.model.values import Address
from reconciler.planning.plan import ScopeView
from reconciler.planning.removal import out_of_reach
from reconciler.state import StoredObservation


@dataclass(frozen=True, slots=True)
class Expected:
    """What should exist in a scope: the absence of any of these counts only after two reads."""

    external_ids: frozenset[str] = frozenset()
    markers: frozenset[tuple[str, str]] = frozenset()
    natural_keys: frozenset[str] = frozenset()
    containers: Mapping[str, str] = field(default_factory=dict)
    """Container of the last observation by external id, if known."""
    leaving: bool = False
    """Objects are recorded there, and none is declared."""

    def moved_from(self, view: ScopeView) -> frozenset[str]:
        """Return the containers of the expected objects that are missing in ``view``."""
        if view.error is not None and not isinstance(view.error, ScopeGone):
            return frozenset()
        seen = {observed.external_id for observed in view.objects}
        return frozenset(container for external_id, container in self.containers.items() if external_id not in seen)

    def missing_from(self, objects: Iterable[ObservedObject]) -> bool:
        """Whether an expected object is missing in ``objects``."""
        seen = tuple(objects)
        ids = {o.external_id for o in seen}
        markers = {(o.marker.owner, o.marker.uid) for o in seen if o.marker is not None}
        keys = {o.natural_key for o in seen}
        return bool(self.external_ids - ids or self.markers - markers or self.natural_keys - keys)


@dataclass(frozen=True, slots=True)
class Known:
    """Desired objects, records and open intents of the integration."""

    desired: tuple[ManagedObject, ...] = ()
    recorded: tuple[RecordedObject, ...] = ()
    intents: tuple[Intent, ...] = ()


Veiled = Callable[[Scope], Mask]
"""Returns the mask for the foreign parts of a scope's objects."""


@dataclass(slots=True)
class ObservedState:
    """Views by scope, and the observations to store for the next conditional read."""

    views: dict[Scope, ScopeView] = field(default_factory=dict)
    fresh: dict[Scope, StoredObservation] = field(default_factory=dict)


def expectations(
    recorded: Iterable[RecordedObject], intents: Iterable[Intent], desired: Iterable[ManagedObject] = ()
) -> dict[Scope, Expected]:
    """Return by scope what should exist: recorded objects, and writes with unknown outcome."""
    ids: dict[Scope, set[str]] = {}
    containers: dict[Scope, dict[str, str]] = {}
    leaving: set[Scope] = set()
    declared = {managed.scope for managed in desired}
    markers: dict[Scope, set[tuple[str, str]]] = {}
    keys: dict[Scope, set[str]] = {}
    for record in recorded:
        ids.setdefault(record.scope, set()).add(record.external_id)
        if record.tombstone:  # it was deleted; only its absence must be shown
            continue
        leaving.add(record.scope)
        if record.container not in {"", NO_CONTAINER}:
            containers.setdefault(record.scope, {})[record.external_id] = record.container
    for intent in intents:
        if intent.marker is not None:
            markers.setdefault(intent.scope, set()).add((intent.marker.owner, intent.marker.uid))
        elif intent.natural_key:
            keys.setdefault(intent.scope, set()).add(intent.natural_key)
    return {
        scope: Expected(
            frozenset(ids.get(scope, ())),
            frozenset(markers.get(scope, ())),
            frozenset(keys.get(scope, ())),
            containers.get(scope, {}),
            scope in leaving - declared,
        )
        for scope in {*ids, *markers, *keys}
    }


async def observe(
    api: Api, types: Mapping[str, ManagedType], scopes: Iterable[Scope], known: Known, deps: Context
) -> ObservedState:
    """Read every scope once (all pages, conditional), and a second time in full where an expected object is missing.

    Values of foreign objects that could be credentials are neither returned nor stored (`reconciler.engine.masking`).
    """
    expected = expectations(known.recorded, known.intents, known.desired)
    declared = _by_scope(known)
    hide = hidden_by(partial(_digest, deps))
    ordered = sorted(set(scopes))
    stored = await deps.store.observations(ordered)
    world = ObservedState()
    gate = asyncio.Semaphore(deps.config.reconcile.concurrency)
    stop: list[ReconcilerError] = []

    def veiled(scope: Scope) -> Mask:
        return Mask(hide, owner=deps.owner, own=own_texts(declared.get(scope, ())))

    async def look(scope: Scope) -> None:
        async with gate:
            if stop:  # a refused credential or a rate limit: further calls are useless
                world.views[scope] = ScopeView(error=stop[0])
                return
            try:
                read = await _read(api, types[scope.type], scope, expected.get(scope), stored.get(scope))
                _take(read, scope, world, veiled(scope), deps.clock())
            except ReconcilerError as error:
                world.views[scope] = ScopeView(error=error)
                if error.stops_integration:
                    stop.append(error)

    await asyncio.gather(*(look(scope) for scope in ordered))
    await _follow(api, types, expected, world, veiled)
    if world.fresh:
        await deps.store.save_observations(list(world.fresh.values()))
    return world


@dataclass(frozen=True, slots=True)
class _ScopeRead:
    """The read of one scope: a new list, or the stored one if it is still valid."""

    objects: tuple[ObservedObject, ...]
    reads: int = 1
    answer: Observed | None = None
    place: Scope | None = None
    """The new scope, if it was renamed."""
    read_only: str = ""


async def _read(
    api: Api, kind: ManagedType, scope: Scope, expected: Expected | None, stored: StoredObservation | None
) -> _ScopeRead:
    answer = await kind.observe(api, scope, stored.validators if stored is not None else None)
    if isinstance(answer, NotModified):
        if stored is None:
            raise ProviderError(f"{scope}: 'not modified' for a list that was never read", code="RC5021")
        read = _ScopeRead(stored.objects)
    else:
        read = _ScopeRead(answer.objects, 1, answer)
    if expected is not None and expected.missing_from(read.objects):
        again = await kind.observe(api, scope, None)
        if isinstance(again, Observed):
            read = dataclasses.replace(read, objects=again.objects, reads=2, answer=again)
    if isinstance(answer, Observed) and answer.redirected_to:
        read = dataclasses.replace(read, place=Scope(scope.type, answer.redirected_to))
    if expected is not None and expected.leaving and read.objects:
        with contextlib.suppress(NotFound, PermissionDenied):
            there = await kind.container(api, scope)
            read = dataclasses.replace(read, read_only=there.read_only if there is not None else "")
    return read


def _take(read: _ScopeRead, scope: Scope, world: ObservedState, veil: Mask, now: float) -> None:
    objects = tuple(veil.over(observed) for observed in read.objects)
    if read.answer is not None:
        world.fresh[scope] = StoredObservation(scope, read.answer.validators, objects, now)
    world.views[scope] = ScopeView(objects=objects, reads=read.reads, place=read.place, read_only=read.read_only)


async def _follow(
    api: Api, types: Mapping[str, ManagedType], expected: Mapping[Scope, Expected], world: ObservedState, veiled: Veiled
) -> None:
    """Find missing objects by the id of their container; if that fails, the scope is unknown."""
    lost: dict[tuple[str, str], list[Scope]] = {}
    for scope, expectation in sorted(expected.items(), key=lambda item: item[0]):
        view = world.views.get(scope)
        for container in expectation.moved_from(view) if view is not None else ():
            lost.setdefault((scope.type, container), []).append(scope)
    for (type_, container), scopes in lost.items():
        try:
            await _find(api, types[type_], container, scopes[0], world, veiled)
        except ReconcilerError as error:
            for scope in scopes:
                world.views[scope] = ScopeView(error=world.views[scope].error or error)


async def _find(api: Api, kind: ManagedType, container: str, scope: Scope, world: ObservedState, veiled: Veiled) -> None:  # noqa: PLR0917  called once
    """Record the present name of ``container``, and observe it unless that was done under this name."""
    target = await kind.container(api, scope, container)
    if target is None:
        return
    place = Scope(scope.type, target.key)
    if isinstance(world.views[scope].error, ScopeGone):
        error = ScopeGone(
            f"{scope.key} is called {target.key} now",
            status=404,
            hint=f"Write '{target.key}' in the manifest; the object is kept.",
        )
        world.views[scope] = ScopeView(error=error)
    view = world.views.get(place)
    if view is None:
        answer = await kind.observe(api, place, None)
        objects = answer.objects if isinstance(answer, Observed) else ()
        view = ScopeView(objects=tuple(veiled(scope).over(observed) for observed in objects))
    world.views[place] = dataclasses.replace(view, container=container, read_only=target.read_only)


def _by_scope(known: Known) -> dict[Scope, list[ManagedObject | RecordedObject]]:
    """Return desired and recorded objects by scope. Their texts are collected per scope, never for thousands at once."""
    by_scope: dict[Scope, list[ManagedObject | RecordedObject]] = {}
    ours: list[ManagedObject | RecordedObject] = [*known.desired, *known.recorded]
    for item in ours:
        by_scope.setdefault(item.scope, []).append(item)
    return by_scope


# ---- identity at the provider

NO_CONTAINER = "-"
"""Recorded if the provider has no id for the container, or does not show it to this credential: it is not requested again."""
LOOKUPS = 200
"""Containers looked up per pass: after an update of this program thousands may be unknown, and rates are limited."""
TOGETHER = 8


async def container_of(api: Api, kind: ManagedType, scope: Scope) -> str:
    """Return the id of the container of ``scope``, to record; empty if it must be requested again."""
    try:
        container = await kind.container(api, scope)
    except (NotFound, PermissionDenied):
        return NO_CONTAINER
    except ReconcilerError:
        return ""
    return container.id if container is not None else NO_CONTAINER


async def first_seen(
    api: Api, types: Mapping[str, ManagedType], recorded: Iterable[RecordedObject], world: ObservedState
) -> list[RecordedObject]:
    """Return the records whose object was seen for the first time, with the id of its container."""
    ids = {(scope, observed.external_id) for scope, view in world.views.items() for observed in view.objects}
    seen_first = [r for r in recorded if not r.tombstone and not (r.seen and r.container) and (r.scope, r.external_id) in ids]
    scopes = sorted({record.scope for record in seen_first if not record.container})[:LOOKUPS]
    gate = asyncio.Semaphore(TOGETHER)

    async def look(scope: Scope) -> str:
        async with gate:
            return await container_of(api, types[scope.type], scope)

    known = dict(zip(scopes, await asyncio.gather(*map(look, scopes)), strict=True))
    return [
        dataclasses.replace(record, seen=True, container=record.container or known.get(record.scope, ""))
        for record in seen_first
        if not record.seen or known.get(record.scope)
    ]


def unread(world: ObservedState, declared: Iterable[ManagedObject]) -> dict[Scope, ReconcilerError]:
    """Return the scopes that could not be read, with the error; without those that are out of reach and declare nothing."""
    scopes = {managed.scope for managed in declared}
    return {
        scope: view.error
        for scope, view in world.views.items()
        if view.error is not None and (scope in scopes or not out_of_reach(view.error))
    }


def _digest(deps: Context, text: str) -> str:
    return deps.keyring.fingerprint(Address("foreign"), "", SecretValue(text)).partition(":")[2]
