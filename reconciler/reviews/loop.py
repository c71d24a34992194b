"""The review loop of a process: lists open pull requests, works on due reviews, and keeps the status of the newest revision."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from reconciler.engine.backoff import pause_after
from reconciler.engine.credential_check import review_integration
from reconciler.engine.current import Current
from reconciler.model.errors import NotFound, ReconcilerError, StateError
from reconciler.reviews.approvals import RequestReconcile
from reconciler.reviews.intake import MAX_OPEN, ReviewIntake
from reconciler.reviews.outcome import MergeOutcome
from reconciler.reviews.planner import ReviewPlanner
from reconciler.reviews.reviewer import Reviewer, ReviewWork
from reconciler.reviews.row import ReviewRow
from reconciler.reviews.sync_status import SyncStatus
from reconciler.reviews.target import ReviewTarget, open_target, remote_source
from reconciler.source.base import Source
from reconciler.stages.exclusion import Guard, exclusive
from reconciler.state.reviews import StoredReview
from reconciler.wakeup import wait_at_most

AT_ONCE = 4
"""Reviews that one process works on at a time."""
LEASE_S = 120.0
MAX_COUNTED = 100
POLL_S = 2.0
"""How often due reviews and the state of the newest revision are read."""
BEAT_S = 300.0
COUNT_S = 10.0
"""How often the oldest open review is looked for."""
_SWEPT = "review.sweep"


class ReviewLoop:
    """Reviews pull requests as long as the configuration names an Integration for it."""

    def __init__(self, current: Current, source: Source, *, holder: str, beat: Callable[[float], None]) -> None:
        self.request: RequestReconcile = _no_request
        """Reconciles integrations at once."""
        self.on_end: Callable[[str, float], None] = lambda _conclusion, _duration_s: None
        """Called with the conclusion of a check, and the seconds since the review began."""
        self.oldest_open_at = 0.0
        """When the oldest review began that has not ended (epoch seconds); 0 without any."""
        self._current = current
        self._context = current.context
        self._source = source
        self._holder = holder
        self._beat = beat
        self._woken = asyncio.Event()
        self.intake = ReviewIntake(current, self._woken.set)
        self._sync = SyncStatus(current)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._reviewer: Reviewer | None = None
        self._planner: ReviewPlanner | None = None
        self._sweep_at = 0.0
        self._sync_at = 0.0
        self._counted_at = 0.0
        self._failures = 0

    async def run(self) -> None:
        """Run until the process ends; without `review.integration` there is nothing to do."""
        if review_integration(self._context.config) is None:
            await asyncio.Event().wait()
        try:
            while True:
                self._beat(BEAT_S)
                self._woken.clear()
                if not self._current.active.empty:
                    await self._turn()
                await wait_at_most(self._woken, POLL_S)
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _turn(self) -> None:
        now = self._context.clock()
        try:
            target = await open_target(self._current)
            reviewer = self._reviewer or self._made()
            if not 0 < self._sweep_at - now <= self._context.config.review.interval:
                await self._sweep(target)
            if now >= self._sync_at:
                if await self._sync.pending():
                    await self._exclusively("review/sync", lambda guard: self._sync.write(target, guard(target.api)))
                self._failures, self._sync_at = 0, 0.0
        except StateError:
            raise
        except ReconcilerError as error:
            self._failures += 1
            pause = min(pause_after(self._context, self._failures, error), self._context.config.review.interval)
            self._sync_at = self._sweep_at = now + pause
            self._context.log.warning("review_failed", code=error.code, error=error.message)
            if self._reviewer is None:
                return
            try:
                target, reviewer = await open_target(self._current), self._reviewer
            except ReconcilerError:
                return
        await self._start_due(target, reviewer)
        await self._count(target)

    def planner(self) -> ReviewPlanner:
        """Return the planner of this process. Raises `ReviewImpossible` for a folder."""
        if self._planner is None:
            self._planner = ReviewPlanner(self._current, remote_source(self._source))
        return self._planner

    def _made(self) -> Reviewer:
        source = remote_source(self._source)
        outcome = MergeOutcome(self._current, source, lambda integrations: self.request(integrations))
        ended = lambda conclusion, duration_s: self.on_end(conclusion, duration_s)  # noqa: E731
        self._reviewer = Reviewer(self._current, self.planner(), outcome, ended)
        return self._reviewer

    # -- the sweep ----------------------------------------------------------------------------------------------------

    async def _sweep(self, target: ReviewTarget) -> None:
        """List the open pull requests, and read those that are not open any more."""
        await self._exclusively("review/sweep", lambda _guard: self._list(target))
        self._sweep_at = self._context.clock() + self._context.config.review.interval

    async def _list(self, target: ReviewTarget) -> None:
        if await self._swept_by_a_peer():
            return
        pulls = await target.pulls.open_pulls(target.api, target.repository)
        for pull in pulls:
            await self.intake.pull(target.repository, pull, target.pulls)
        present = {pull.number for pull in pulls}
        for key in await self._context.store.open_reviews(f"{target.repository}#", MAX_OPEN):
            number = int(key.rpartition("#")[2])
            if number not in present:
                await self._read_again(target, number)
        if self._context.store.dialect != "sqlite":
            await self._context.store.set_cursors({_SWEPT: self._context.clock()})

    async def _swept_by_a_peer(self) -> bool:
        """Whether another process has listed the pull requests just now; otherwise this process does."""
        store, now = self._context.store, self._context.clock()
        if store.dialect == "sqlite":
            return False
        last = await store.get_cursor(_SWEPT)
        return isinstance(last, int | float) and 0 <= now - last < self._context.config.review.interval / 2

    async def _read_again(self, target: ReviewTarget, number: int) -> None:
        try:
            pull = await target.pulls.pull(target.api, target.repository, number)
        except NotFound:
            return
        await self.intake.pull(target.repository, pull, target.pulls)

    # -- due reviews --------------------------------------------------------------------------------------------------

    async def _start_due(self, target: ReviewTarget, reviewer: Reviewer) -> None:
        for key in [key for key, task in self._tasks.items() if task.done()]:
            self._tasks.pop(key).result()
        store = self._context.store
        due = await store.due_reviews(target.repository, self._context.clock(), AT_ONCE + len(self._tasks))
        for row in due:
            if len(self._tasks) >= AT_ONCE:
                return
            if row.key not in self._tasks:
                task = asyncio.create_task(self._work(row, target, reviewer), name=f"review {row.key}")
                task.add_done_callback(lambda _: self._woken.set())
                self._tasks[row.key] = task

    async def _count(self, target: ReviewTarget) -> None:
        """Look for the oldest open review: each is due again within the longest pause between attempts."""
        now = self._context.clock()
        if 0 <= now - self._counted_at < COUNT_S:
            return
        self._counted_at = now
        longest = self._context.config.reconcile.retry_max
        rows = await self._context.store.due_reviews(target.repository, now + longest, MAX_COUNTED)
        self.oldest_open_at = min((row.state.open_since for row in rows if row.state.open_head), default=0.0)

    async def _work(self, stored: StoredReview, target: ReviewTarget, reviewer: Reviewer) -> None:
        async with exclusive(self._context, f"review/{stored.key}", self._holder, LEASE_S) as guard:
            if guard is None:
                await asyncio.sleep(POLL_S)  # a peer works on it
                return
            fresh = await self._context.store.review(stored.key)
            if fresh is not None:
                await reviewer.step(ReviewWork(ReviewRow(self._context, fresh), target, guard(target.api)))

    async def _exclusively(self, name: str, work: Callable[[Guard], Awaitable[None]]) -> None:
        async with exclusive(self._context, name, self._holder, LEASE_S) as guard:
            if guard is not None:
                await work(guard)


async def _no_request(integrations: object) -> None:
    """Do nothing: no engine runs in this process."""


__all__ = ["ReviewLoop"]
