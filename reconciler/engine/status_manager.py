"""Status of every resource: computed once a pass, stored where it changed, read again where a peer changed it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from reconciler.engine.announcer import Announcer, IncidentMoment
from reconciler.engine.conditions import same_but_times
from reconciler.engine.current import Current
from reconciler.engine.revision import ActiveRevision
from reconciler.engine.statuses import statuses
from reconciler.engine.view import Facts
from reconciler.model.errors import ReconcilerError, SecretUnavailable
from reconciler.model.resources import Kind, ResourceId
from reconciler.model.status import ResourceStatus

STATUSES_AT_ONCE = 500
SECRETS_S = 2.0
"""How long a status waits for a slow backend of Secrets: it then shows what was known before."""


class StatusManager:
    """Owner of `View.statuses` and `View.secrets`."""

    def __init__(self, current: Current) -> None:
        self._current = current
        self._context = current.context
        self._stored: Mapping[ResourceId, ResourceStatus] = {}
        """The statuses as the state has them."""
        self._stored_mark: str | None = None
        self._generations: Mapping[ResourceId, int] = {}
        self._generations_of: ActiveRevision | None = None
        self.announcer = Announcer(current)

    async def load(self) -> None:
        """Read the statuses from the state if any process has stored others since this one read or stored them."""
        mark = await self._context.store.statuses_mark()
        if mark != self._stored_mark:
            self._current.view.statuses = self._stored = await self._context.store.statuses()
            self._stored_mark = mark

    async def compute(self, *, among_peers: bool) -> None:
        """Compute every status from the newest findings."""
        current, view = self._current, self._current.view
        facts = Facts(current.active, dict(view.results), view.secrets, dict(view.next_at), view.outside)
        now, generations = self._context.clock(), await self._known_generations(among_peers=among_peers)
        # On a thread: thousands of resources take longer than a delivery may wait for the event loop.
        view.statuses = await asyncio.to_thread(statuses, facts, view.statuses, generations, now)
        view.passed_at = self._context.clock()

    async def save(self, *, settled: bool, host: str) -> None:
        """Store the statuses that changed, in parts, so that a delivery does not wait for all of them.

        The first part is stored together with the incidents of all. ``settled``, ``host``: see `IncidentMoment`.
        """
        statuses = self._current.view.statuses
        changed, gone = await asyncio.to_thread(changed_statuses, self._stored, statuses)
        if not changed and not gone:
            await self.announce(settled=settled, host=host)
            return
        incidents = await self.announcer.update(statuses, self._moment(settled=settled, host=host))
        for start in range(0, max(len(changed), len(gone)), STATUSES_AT_ONCE):
            part = slice(start, start + STATUSES_AT_ONCE)
            self._stored_mark = await self._context.store.save_statuses(changed[part], gone=gone[part], incidents=incidents)
            incidents = None
        self._stored = statuses
        if host:  # a peer may have stored other statuses meanwhile: only `announce` knows that the incidents were stored
            await self.announce(settled=settled, host=host)
        else:
            self.announcer.stored()

    async def announce(self, *, settled: bool, host: str) -> None:
        """Store what changed of the incidents since the statuses were stored: new occurrences, or a state that is stable again."""
        incidents = await self.announcer.update(self._current.view.statuses, self._moment(settled=settled, host=host))
        if incidents is not None and await self._context.store.update_incidents(incidents):
            self.announcer.stored()

    def _moment(self, *, settled: bool, host: str) -> IncidentMoment:
        return IncidentMoment(settled, host, self._stored_mark if host else None)

    async def check_secrets(self) -> None:
        """Read the value of every Secret: what is missing is also shown on the Secret itself."""
        await self._current.secrets.prepare_all(timeout_s=SECRETS_S)
        self._current.view.secrets = await self._context.store.run(self._missing_secrets)

    def _missing_secrets(self) -> dict[ResourceId, ReconcilerError]:
        missing: dict[ResourceId, ReconcilerError] = {}
        for resource in self._current.active.resources.values():
            if resource.id.kind != Kind.SECRET.value:
                continue
            try:
                self._current.secrets.check(resource)
            except SecretUnavailable as error:
                missing[resource.id] = error
        return missing

    async def _known_generations(self, *, among_peers: bool) -> Mapping[ResourceId, int]:
        """Return the generations: read again if another revision became active, here or at a peer."""
        if self._generations_of is not self._current.active or among_peers:
            active = self._current.active
            self._generations = await self._context.store.generations()
            self._generations_of = active
        return self._generations


def changed_statuses(
    stored: Mapping[ResourceId, ResourceStatus], statuses: Mapping[ResourceId, ResourceStatus]
) -> tuple[list[ResourceStatus], list[ResourceId]]:
    """Return the statuses to store and those to delete. A change of ``nextReconcileAt`` alone is not stored."""
    changed = [
        status
        for identity, status in statuses.items()
        if (before := stored.get(identity)) is None or not same_but_times(status, before)
    ]
    return changed, [identity for identity in stored if identity not in statuses]


__all__ = ["StatusManager", "changed_statuses"]
