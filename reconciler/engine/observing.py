"""Look at the world: every scope that matters, conditionally where possible, twice where absence would matter."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from reconciler.drivers.base import Api, ManagedType
from reconciler.engine.deps import Deps
from reconciler.engine.foreign import Veil, hidden_by, own_texts
from reconciler.model.errors import ProviderError, RateLimited, ReconcilerError
from reconciler.model.objects import Intent, ManagedObject, NotModified, Observed, ObservedObject, RecordedObject, Scope
from reconciler.model.secrets import SecretValue
from reconciler.model.values import Address
from reconciler.planning.plan import ScopeView
from reconciler.state import StoredObservation


@dataclass(frozen=True, slots=True)
class Expected:
    """What we have reason to believe exists in a scope: absence of any of these is believed only when read twice."""

    external_ids: frozenset[str] = frozenset()
    markers: frozenset[tuple[str, str]] = frozenset()
    natural_keys: frozenset[str] = frozenset()

    def missing_from(self, objects: Iterable[ObservedObject]) -> bool:
        """Whether anything expected is not among ``objects``."""
        seen = tuple(objects)
        ids = {o.external_id for o in seen}
        markers = {(o.marker.owner, o.marker.uid) for o in seen if o.marker is not None}
        keys = {o.natural_key for o in seen}
        return bool(self.external_ids - ids or self.markers - markers or self.natural_keys - keys)


@dataclass(frozen=True, slots=True)
class Known:
    """What is declared, recorded and in doubt of the integration that is looked at."""

    desired: tuple[ManagedObject, ...] = ()
    recorded: tuple[RecordedObject, ...] = ()
    intents: tuple[Intent, ...] = ()


@dataclass(slots=True)
class World:
    """Views by scope, and the observations that are to be stored for the next conditional read."""

    views: dict[Scope, ScopeView] = field(default_factory=dict)
    fresh: dict[Scope, StoredObservation] = field(default_factory=dict)
    renamed: dict[Scope, str] = field(default_factory=dict)


def expectations(recorded: Iterable[RecordedObject], intents: Iterable[Intent]) -> dict[Scope, Expected]:
    """Return by scope what is believed to exist: recorded objects, and writes without a known outcome."""
    ids: dict[Scope, set[str]] = {}
    markers: dict[Scope, set[tuple[str, str]]] = {}
    keys: dict[Scope, set[str]] = {}
    for record in recorded:
        ids.setdefault(record.scope, set()).add(record.external_id)
    for intent in intents:
        if intent.marker is not None:
            markers.setdefault(intent.scope, set()).add((intent.marker.owner, intent.marker.uid))
        elif intent.natural_key:
            keys.setdefault(intent.scope, set()).add(intent.natural_key)
    return {
        scope: Expected(frozenset(ids.get(scope, ())), frozenset(markers.get(scope, ())), frozenset(keys.get(scope, ())))
        for scope in {*ids, *markers, *keys}
    }


async def observe(api: Api, types: Mapping[str, ManagedType], scopes: Iterable[Scope], known: Known, deps: Deps) -> World:
    """Read every scope once (all pages, conditional), and once more in full where something expected is missing.

    Of what is not ours nothing is returned, or stored, that could be a credential (`reconciler.engine.foreign`).
    """
    expected = expectations(known.recorded, known.intents)
    declared = _by_scope(known)
    hide = hidden_by(partial(_digest, deps))
    wanted = sorted(set(scopes))
    stored = await deps.db(deps.store.observations, wanted)
    world = World()
    gate = asyncio.Semaphore(deps.config.reconcile.concurrency)
    stop: list[ReconcilerError] = []

    async def look(scope: Scope) -> None:
        async with gate:
            if stop:  # a refused credential or a rate limit: no further call is worth making
                world.views[scope] = ScopeView(error=stop[0])
                return
            try:
                looked = await _look(api, types[scope.type], scope, expected.get(scope), stored.get(scope))
                veil = Veil(hide, owner=deps.owner, own=own_texts(declared.get(scope, ())))
                _take(looked, scope, world, veil, deps.clock())
            except ReconcilerError as error:
                world.views[scope] = ScopeView(error=error)
                if error.code == "RC5011" or isinstance(error, RateLimited):
                    stop.append(error)

    await asyncio.gather(*(look(scope) for scope in wanted))
    if world.fresh:
        await deps.db(deps.store.save_observations, list(world.fresh.values()))
    return world


@dataclass(frozen=True, slots=True)
class _Looked:
    """What one scope showed: a fresh list, or the stored one where that still holds."""

    objects: tuple[ObservedObject, ...]
    reads: int = 1
    answer: Observed | None = None


async def _look(
    api: Api, kind: ManagedType, scope: Scope, expected: Expected | None, stored: StoredObservation | None
) -> _Looked:
    answer = await kind.observe(api, scope, stored.validators if stored is not None else None)
    if isinstance(answer, NotModified):
        if stored is None:
            raise ProviderError(f"{scope}: 'not modified' for a list that was never read", code="RC5021")
        looked = _Looked(stored.objects)
    else:
        looked = _Looked(answer.objects, 1, answer)
    if expected is not None and expected.missing_from(looked.objects):
        again = await kind.observe(api, scope, None)
        if isinstance(again, Observed):
            looked = _Looked(again.objects, 2, again)
    return looked


def _take(looked: _Looked, scope: Scope, world: World, veil: Veil, now: float) -> None:
    objects = tuple(veil.over(one) for one in looked.objects)
    answer = looked.answer
    if answer is not None:
        world.fresh[scope] = StoredObservation(scope, answer.validators, objects, now)
        if answer.redirected_to:
            world.renamed[scope] = answer.redirected_to
    world.views[scope] = ScopeView(objects=objects, reads=looked.reads)


def _by_scope(known: Known) -> dict[Scope, list[ManagedObject | RecordedObject]]:
    """Return what is declared and recorded by scope; its texts are collected scope by scope, never for thousands at once."""
    found: dict[Scope, list[ManagedObject | RecordedObject]] = {}
    ours: list[ManagedObject | RecordedObject] = [*known.desired, *known.recorded]
    for one in ours:
        found.setdefault(one.scope, []).append(one)
    return found


def _digest(deps: Deps, text: str) -> str:
    return deps.keyring.fingerprint(Address("foreign"), "", SecretValue(text)).partition(":")[2]
