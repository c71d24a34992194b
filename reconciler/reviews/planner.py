"""Makes the plan of a pull request: fetches its head, and compares its manifests with those of the base. No provider, no secret."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from typing import TypeVar

from reconciler.engine.current import Current
from reconciler.engine.offline import Comparison, compared, parse_offline
from reconciler.model.resources import Desired
from reconciler.model.reviews import Conclusion, ReviewState
from reconciler.reviews.target import review_url
from reconciler.reviews.verdict import Verdict, plan_text, verdict_of
from reconciler.source.base import FileData, Revision, Snapshot
from reconciler.source.mirror import RemoteSource

T = TypeVar("T")
KEPT_BASES = 2
"""Base revisions whose manifests are kept parsed: most pull requests have the same base."""


class ReviewPlanner:
    """Plans heads of pull requests and of merge groups."""

    def __init__(self, current: Current, source: RemoteSource) -> None:
        self._config = current.context.config
        self._source = source
        self._bases: dict[str, Desired] = {}
        self._parsing = asyncio.Lock()
        """One plan at a time is computed: it needs a processor, and the events of the daemon need one too."""

    async def plan(self, state: ReviewState) -> Verdict:
        """Return the verdict on ``state.head``. Raises `SourceError`; `RefUnknown` if the head was replaced meanwhile."""
        details_url = review_url(self._config, state)

        def judge(comparison: Comparison, after: Desired) -> Verdict:
            return verdict_of(comparison, after.by_id(), time.time(), details_url=details_url)

        base, behind, verdict = await self._compare(state, judge)
        verdict = verdict or Verdict(Conclusion.NEUTRAL, "no manifest changes")
        return dataclasses.replace(verdict, base=base.commit, behind=behind)

    async def text(self, state: ReviewState) -> str:
        """Return the whole plan as text, made again. Raises what `plan` raises."""
        _, _, text = await self._compare(state, lambda comparison, _after: plan_text(comparison, time.time()))
        return text or "no manifest changes"

    async def _compare(self, state: ReviewState, judge: Callable[[Comparison, Desired], T]) -> tuple[Revision, int, T | None]:
        """Return the base, how many of its commits the head lacks, and what ``judge`` says; None if the manifests are the same."""
        source = self._source
        name = f"#{state.number}" if state.number else "merge queue"
        head = await source.fetch_commit(state.ref, state.head, name)
        base, behind = await source.fork_point(head, "" if state.number else state.base)
        before, after = await source.snapshot(base), await source.snapshot(head)
        if _same(before, after):
            return base, behind, None
        async with self._parsing:
            former = self._bases.get(base.commit)
            files = (await source.read(before) if former is None else [], await source.read(after))
            parsed, result = await asyncio.to_thread(self._judged, former, (before, after), files, judge)
            self._keep(base.commit, parsed)
        return base, behind, result

    def _judged(
        self,
        former: Desired | None,
        snapshots: tuple[Snapshot, Snapshot],
        files: tuple[list[FileData], list[FileData]],
        judge: Callable[[Comparison, Desired], T],
    ) -> tuple[Desired, T]:
        former = former or parse_offline(files[0], snapshots[0], self._config)
        after = parse_offline(files[1], snapshots[1], self._config)
        return former, judge(compared(former.resources, after, self._config), after)

    def _keep(self, commit: str, base: Desired) -> None:
        self._bases.pop(commit, None)
        self._bases[commit] = base
        while len(self._bases) > KEPT_BASES:
            del self._bases[next(iter(self._bases))]


def _same(before: Snapshot, after: Snapshot) -> bool:
    """Whether two revisions have the same manifests, and hide the same."""
    rows = [[(entry.path, entry.blob) for entry in each.files] for each in (before, after)]
    return rows[0] == rows[1] and before.notices == after.notices


__all__ = ["ReviewPlanner"]
