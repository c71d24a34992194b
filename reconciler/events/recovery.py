"""Recovery of missed deliveries: compares the inbox with the provider's list of deliveries, or with the objects themselves.

If the provider keeps a list of deliveries, those that failed and are not in the inbox are redelivered, or read from the list. If it
keeps none, the objects that its events are about are polled; the events made of them have the same identity.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from reconciler.drivers.base import Receiver
from reconciler.drivers.http.client import ApiClient
from reconciler.engine.current import Current
from reconciler.events.app_recovery import AppRecovery
from reconciler.events.endpoints import Endpoint
from reconciler.events.intake import Intake
from reconciler.events.windows import ARRIVE_S, YOUNG_S, RecoveryResult, begin_of
from reconciler.model.errors import ReconcilerError, StateError
from reconciler.model.events import Hook, Origin, PastDelivery
from reconciler.model.resources import ResourceId
from reconciler.stages.exclusion import exclusive

AT_ONCE = 4
LEASE_S = 600.0
HOOK_S = 3.6
"""Seconds between two sweeps for each webhook: a thousand requests an hour, a fifth of the strictest provider's limit for a token."""


@dataclass(slots=True)
class _Place:
    """A source to check, with a client of its Integration."""

    endpoint: Endpoint
    api: ApiClient
    hooks: Sequence[Hook]
    since: float
    result: RecoveryResult = field(init=False)

    def __post_init__(self) -> None:
        self.result = RecoveryResult(self.endpoint.source.id, hooks=len(self.hooks))

    @property
    def receiver(self) -> Receiver:
        return self.endpoint.receiver


class Recovery:
    """Finds missed deliveries and stores them. One process at a time does so."""

    def __init__(self, current: Current, intake: Intake, apps: AppRecovery, *, holder: str) -> None:
        self._current = current
        self._context = current.context
        self._intake = intake
        self._apps = apps
        self._holder = holder
        self._lock = asyncio.Lock()
        self.last: dict[ResourceId, RecoveryResult] = {}
        self.counts: Counter[str] = Counter()
        """Missed deliveries by what became of them: redelivered, recovered, or not recovered by this sweep."""

    def pause(self, interval: float) -> float:
        """Return the seconds until the next sweep: ``interval``, or longer if there are many webhooks."""
        return max(interval, HOOK_S * sum(result.hooks for result in self.last.values()))

    async def run(self, only: ResourceId | None = None, *, since: float | None = None) -> list[RecoveryResult]:
        """Check every source with an Integration, or ``only`` one, since the last sweep or since ``since`` (epoch seconds)."""
        async with exclusive(self._context, "sweep", self._holder, LEASE_S) as guard:
            if guard is None:
                return []
            async with self._lock:  # two sweeps at a time would both request the same redeliveries
                return await self._all(only, since)

    async def _all(self, only: ResourceId | None, since: float | None) -> list[RecoveryResult]:
        limit = asyncio.Semaphore(AT_ONCE)
        own = self._context.owner
        todo = [
            endpoint
            for endpoint in self._intake.endpoints().values()
            if endpoint.integration and endpoint.uid == endpoint.source.id.uid(own) and only in (None, endpoint.source.id)
        ]

        async def check(endpoint: Endpoint) -> RecoveryResult:
            async with limit:
                return await self._check(endpoint, since)

        results = list(await asyncio.gather(*(check(endpoint) for endpoint in todo)))
        results += await self._apps.run(only, since)
        self.last.update({result.source: result for result in results})
        for result in results:
            self.counts["redelivered"] += result.redelivered
            self.counts["recovered"] += result.recovered
            self.counts["lost"] += max(0, result.missed - result.redelivered - result.recovered)
        return results

    async def _check(self, endpoint: Endpoint, since: float | None) -> RecoveryResult:
        source = endpoint.source
        if self._current.suspended(source):
            return RecoveryResult(source.id)
        store = self._context.store
        now = await store.now()
        name = f"sweep/{source.id.path}"
        cursor: object = await store.get_cursor(name)
        if cursor is None and since is None:  # a new source: it gets no events from before it was declared
            await store.set_cursors({name: now})
            return RecoveryResult(source.id)
        begin = since if since is not None else begin_of(cursor, now)
        if since is None and not endpoint.receiver.keeps_deliveries:
            # A restored state does not know what ran since its backup, and this list does not say what has arrived.
            begin = max(begin, await store.restored_at())
        try:
            place = await self._place(endpoint, begin)
            await self._recover(place, now)
        except StateError:
            raise
        except ReconcilerError as error:
            self._context.log.warning(
                "recovery_listing_failed",
                kind=source.id.kind,
                name=source.id.name,
                canvas=source.id.canvas,
                code=error.code,
                error=error.message,
            )
            return RecoveryResult(source.id, error=error.message)
        if not place.result.failed:
            await store.set_cursors({name: now})
        if place.result.missed:
            self._context.log.warning(
                "deliveries_missed",
                kind=source.id.kind,
                name=source.id.name,
                canvas=source.id.canvas,
                count=place.result.missed,
                redelivered=place.result.redelivered,
                recovered=place.result.recovered,
            )
        return place.result

    async def _place(self, endpoint: Endpoint, since: float) -> _Place:
        source, integration = endpoint.source, ResourceId.from_path(endpoint.integration)
        client = await self._current.client(integration)
        records = await self._context.store.recorded(integration)
        hooks = [
            Hook(source.id, record.scope.type, record.scope.key, record.external_id)
            for record in records
            if record.resource == source.id and not record.tombstone
        ]
        return _Place(endpoint, client.api, hooks, since)

    async def _recover(self, place: _Place, now: float) -> None:
        if place.receiver.keeps_deliveries and not place.hooks:  # none yet, or an App's webhook takes their place
            return
        await place.api.learn_time()
        ahead_s = place.api.clock.ahead_s or 0.0
        past = await place.receiver.missed(place.api, place.endpoint.source, place.hooks, place.since + ahead_s)
        todo = [each for each in past if not each.arrived and each.type != "ping" and now + ahead_s - each.at > YOUNG_S]
        missing = await self._unknown(place, todo)
        place.result.missed = len(missing)
        if not missing:
            return
        if place.receiver.keeps_deliveries:
            missing = await self._redeliver(place, missing)
        for delivery in missing:
            await self._fetch(place, delivery)

    async def _unknown(self, place: _Place, past: Sequence[PastDelivery]) -> list[PastDelivery]:
        known = await self._context.store.known_deliveries(place.endpoint.source.id, [each.id for each in past])
        return [each for each in past if each.id not in known]

    async def _redeliver(self, place: _Place, missing: Sequence[PastDelivery]) -> list[PastDelivery]:
        """Request redeliveries from the provider; returns the deliveries that have still not arrived."""
        requested = 0
        for delivery in missing:
            hook = _hook_of(place, delivery)
            try:
                if hook is not None and await place.receiver.redeliver(place.api, hook, delivery):
                    requested += 1
            except ReconcilerError as error:
                self._context.log.warning(
                    "redelivery_failed", name=place.endpoint.source.id.name, code=error.code, error=error.message
                )
        place.result.redelivered = requested
        left = list(missing)
        deadline = asyncio.get_running_loop().time() + ARRIVE_S
        while requested and left and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.25)
            left = await self._unknown(place, left)
        return left

    async def _fetch(self, place: _Place, past: PastDelivery) -> None:
        """Read a delivery from the provider and store it."""
        source = place.endpoint.source.id
        try:
            delivery = await place.receiver.fetch(place.api, _hook_of(place, past), past)
            origin = Origin.RECOVERED if place.receiver.keeps_deliveries else Origin.POLLED
            stored = await self._intake.store(source, delivery, origin, await self._context.store.now())
            place.result.recovered += stored.new
        except StateError:
            raise
        except ReconcilerError as error:
            place.result.failed += 1
            self._context.log.warning(
                "recovery_failed", kind=source.kind, name=source.name, canvas=source.canvas, code=error.code, error=error.message
            )


def _hook_of(place: _Place, past: PastDelivery) -> Hook | None:
    """Return the webhook whose list contains ``past``; None if that is unknown."""
    hook_id = str(past.detail.get("hook", ""))
    return next((hook for hook in place.hooks if hook.external_id == hook_id), place.hooks[0] if len(place.hooks) == 1 else None)
