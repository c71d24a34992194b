"""Recovery of missed deliveries of an App: one list for everything that the App sees, read once however many sources use it.

Storing is idempotent for each source, so what no attempt has delivered is sent again, or read and routed, without a look at the inbox.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from reconciler.drivers.http.client import ApiClient
from reconciler.engine.current import Current
from reconciler.events.app_intake import AppIntake
from reconciler.events.app_routing import AppEndpoint
from reconciler.events.group_commit import InboxFull
from reconciler.events.windows import ARRIVE_S, YOUNG_S, RecoveryResult, begin_of
from reconciler.model.errors import ReconcilerError, StateError
from reconciler.model.events import Hook, Origin, PastDelivery
from reconciler.model.resources import ResourceId

REMEMBERED = 4_096
"""Recovered deliveries that the next sweeps do not send again, although the provider still lists them as failed."""


class AppRecovery:
    """Finds missed deliveries of Apps, and stores them for each source that asks for them."""

    def __init__(self, current: Current, apps: AppIntake) -> None:
        self._current = current
        self._context = current.context
        self._apps = apps
        self._done: deque[str] = deque(maxlen=REMEMBERED)

    async def run(self, only: ResourceId | None, since: float | None) -> list[RecoveryResult]:
        """Check every App, or that of ``only`` one source, since its last sweep or since ``since`` (epoch seconds)."""
        todo = [each for each in (await self._apps.refresh()).values() if only is None or only in each.sources]
        return [await self._check(endpoint, since) for endpoint in todo]

    async def _check(self, endpoint: AppEndpoint, since: float | None) -> RecoveryResult:
        integration = self._awake(endpoint)
        if integration is None:
            return RecoveryResult(endpoint.integrations[0])
        result, store = RecoveryResult(integration, hooks=1), self._context.store
        now, name = await store.now(), f"sweep/app/{endpoint.uid}"
        cursor: object = await store.get_cursor(name)
        if cursor is None and since is None:  # a new App: it gets no events from before it was declared
            await store.set_cursors({name: now})
            return result
        try:
            client = await self._apps.client(endpoint, integration)
            await self._recover(endpoint, client.api, result, since if since is not None else begin_of(cursor, now))
        except StateError:
            raise
        except ReconcilerError as error:
            self._context.log.warning(
                "recovery_listing_failed", kind=integration.kind, name=integration.name, code=error.code, error=error.message
            )
            result.error = error.message
            return result
        if not result.failed:
            await store.set_cursors({name: now})
        if result.missed:
            self._context.log.warning(
                "deliveries_missed",
                kind=integration.kind,
                name=integration.name,
                count=result.missed,
                redelivered=result.redelivered,
                recovered=result.recovered,
            )
        return result

    def _awake(self, endpoint: AppEndpoint) -> ResourceId | None:
        """Return an Integration of the App that is not suspended and accepted by the provider, as far as that is known."""
        resources, results = self._current.active.resources, self._current.view.results
        usable = [each for each in endpoint.integrations if not self._current.suspended(resources[each])]
        good = (each for each in usable if each not in results or results[each].error is None)
        return next(good, usable[0] if usable else None)

    async def _recover(self, endpoint: AppEndpoint, api: ApiClient, result: RecoveryResult, since: float) -> None:
        await api.learn_time()
        ahead_s, now = api.clock.ahead_s or 0.0, await self._context.store.now()
        hook = Hook(result.source, endpoint.webhooks.scope_type, endpoint.uid, endpoint.uid)
        manifest = self._current.active.resources[result.source]
        past = await endpoint.receiver.missed(api, manifest, [hook], since + ahead_s)
        missing = [
            each
            for each in past
            if not each.arrived and each.type != "ping" and now + ahead_s - each.at > YOUNG_S and each.id not in self._done
        ]
        result.missed = len(missing)
        for each in await self._redeliver(endpoint, api, hook, missing, result):
            await self._fetch(endpoint, api, hook, each, result)

    async def _redeliver(
        self, endpoint: AppEndpoint, api: ApiClient, hook: Hook, missing: Sequence[PastDelivery], result: RecoveryResult
    ) -> list[PastDelivery]:
        """Request redeliveries; returns the deliveries that have still not arrived here."""
        for each in missing:
            try:
                result.redelivered += await endpoint.receiver.redeliver(api, hook, each)
            except ReconcilerError as error:
                self._context.log.warning("redelivery_failed", name=result.source.name, code=error.code, error=error.message)
        left = list(missing)
        deadline = asyncio.get_running_loop().time() + ARRIVE_S
        while result.redelivered and left and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.25)
            left = [each for each in left if each.id not in self._apps.arrived]
        return left

    async def _fetch(self, endpoint: AppEndpoint, api: ApiClient, hook: Hook, past: PastDelivery, result: RecoveryResult) -> None:
        """Read a delivery from the provider, and store it for each source that asks for it."""
        try:
            delivery = await endpoint.receiver.fetch(api, hook, past)
            await self._apps.accept(endpoint, delivery, Origin.RECOVERED, await self._context.store.now())
        except StateError:
            raise
        except (ReconcilerError, InboxFull) as error:
            result.failed += 1
            self._context.log.warning("recovery_failed", name=result.source.name, code=error.code, error=error.message)
        else:
            result.recovered += 1
            self._done.append(past.id)


__all__ = ["AppRecovery"]
