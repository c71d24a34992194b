"""The commit status ``reconciler/sync`` of the revision in force: pending until everything of it is applied or has failed."""

from __future__ import annotations

import msgspec

from reconciler.drivers.http.client import ApiClient
from reconciler.engine.current import Current
from reconciler.model.printable import plain
from reconciler.model.reviews import CommitState
from reconciler.model.status import ConditionType
from reconciler.model.values import is_no_commit
from reconciler.reviews.target import ReviewTarget

CONTEXT = "reconciler/sync"
_CURSOR = "review.sync"


class SyncState(msgspec.Struct, frozen=True):
    """The status that was written last."""

    commit: str = ""
    state: str = ""
    description: str = ""
    at: float = 0.0
    """When it was written (epoch seconds)."""
    blocked: bool = False
    """Pending until a person approves."""


class SyncStatus:
    """Writes the status whenever it changes."""

    def __init__(self, current: Current) -> None:
        self._current = current
        self._written: SyncState | None = None
        self._settled: SyncState | None = None
        """What this process computed when nothing was left to write: with peers, two that see different things do not take turns."""

    async def pending(self) -> bool:
        """Whether there is something to write."""
        status = self.compute()
        if status is None or (self._has_peers and status == self._settled):
            return False
        if self._is_news(status, await self._last()):
            return True
        self._settled = status
        return False

    def compute(self) -> SyncState | None:
        """Return the status of the newest revision; None before the source was read."""
        source, active = self._current.source, self._current.active
        fetched = source.fetched
        if fetched is None or active.empty or is_no_commit(fetched.commit):
            return None
        if source.error is not None and fetched.id != active.revision:  # otherwise only a later fetch failed
            return SyncState(fetched.commit, "failure", f"refused: {plain(source.error.message)}")
        if fetched.id != active.revision:
            return SyncState(fetched.commit, "pending", "reading the manifests")
        errors = sum(problem.is_error for problem in active.problems)
        statuses = [row for identity, row in self._current.view.statuses.items() if identity in active.resources]
        ready = sum(row.ready for row in statuses)
        counted = f"{ready} of {len(active.resources)} resources ready"
        if errors:
            return SyncState(fetched.commit, "failure", f"{errors} error{'s' if errors != 1 else ''} in the manifests; {counted}")
        stalled = sum(row.condition(ConditionType.STALLED) is not None for row in statuses)
        blocked = sum(row.condition(ConditionType.PLAN_BLOCKED) is not None for row in self._current.view.statuses.values())
        if blocked and not stalled:
            return SyncState(fetched.commit, "pending", f"{blocked} blocked: an approval is needed; {counted}", blocked=True)
        if source.applied == active.revision and not stalled:
            return SyncState(fetched.commit, "success", f"applied: {counted}")
        if stalled:
            return SyncState(fetched.commit, "failure", f"{stalled} stalled; {counted}")
        return SyncState(fetched.commit, "pending", counted)

    async def write(self, target: ReviewTarget, api: ApiClient) -> None:
        """Write the status, and end that of an older revision that is still pending. Raises `ReconcilerError`."""
        status, last = self.compute(), await self._last()
        if status is None or not self._is_news(status, last):
            return
        if last.commit and last.commit != status.commit and last.state == "pending":
            text = f"superseded by {status.commit[:8]}"
            await self._send(target, api, SyncState(last.commit, "success", text))
        await self._send(target, api, status)
        self._settled = status
        self._written = msgspec.structs.replace(status, at=self._current.context.clock())
        await self._current.context.store.set_cursors({_CURSOR: msgspec.to_builtins(self._written)})

    async def _send(self, target: ReviewTarget, api: ApiClient, status: SyncState) -> None:
        context = self._current.context
        description, url = context.redactor.redact(status.description), context.config.server.public_url
        await target.pulls.status(api, CommitState(target.repository, status.commit, CONTEXT, status.state, description, url))

    async def _last(self) -> SyncState:
        if self._written is None or self._has_peers:
            value = await self._current.context.store.get_cursor(_CURSOR)
            try:
                self._written = msgspec.convert(value, SyncState) if value is not None else SyncState()
            except msgspec.ValidationError:
                self._written = SyncState()
        return self._written

    @property
    def _has_peers(self) -> bool:
        return self._current.context.store.dialect != "sqlite"

    def _is_news(self, status: SyncState, last: SyncState) -> bool:
        """Whether ``status`` is to be written: not if only the description of a pending one differs.

        With peers, a process that is behind writes nothing: it fetched before a peer wrote the status of another revision,
        or it does not know yet that all of this one is applied.
        """
        same_commit = status.commit == last.commit
        if self._has_peers:
            if not same_commit and self._current.source.fetched_at < last.at:
                return False
            if same_commit and last.state == "success" and status.state == "pending" and not status.blocked:
                return False
        if same_commit and status.state == last.state:
            return status.state != "pending" and status.description != last.description
        return True


__all__ = ["SyncStatus"]
