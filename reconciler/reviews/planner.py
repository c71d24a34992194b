"""Makes the plan of a pull request: fetches its head, and compares its manifests with those of the base. No provider, no secret."""

from __future__ import annotations

import asyncio
import dataclasses
import time

from reconciler.engine.current import Current
from reconciler.engine.offline import compared, parse_offline
from reconciler.model.resources import Desired
from reconciler.model.reviews import Conclusion, ReviewState
from reconciler.reviews.verdict import Verdict, verdict_of
from reconciler.source.base import FileData, Snapshot
from reconciler.source.mirror import RemoteSource

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
        source = self._source
        name = f"#{state.number}" if state.number else "merge queue"
        head = await source.fetch_commit(state.ref, state.head, name)
        base, behind = await source.fork_point(head, "" if state.number else state.base)
        before, after = await source.snapshot(base), await source.snapshot(head)
        if _same(before, after):
            return Verdict(Conclusion.NEUTRAL, "no manifest changes", base=base.commit, behind=behind)
        async with self._parsing:
            former = self._bases.get(base.commit)
            files = (await source.read(before) if former is None else [], await source.read(after))
            parsed, verdict = await asyncio.to_thread(self._judge, former, (before, after), files)
            self._keep(base.commit, parsed)
        return dataclasses.replace(verdict, base=base.commit, behind=behind)

    def _judge(
        self, former: Desired | None, snapshots: tuple[Snapshot, Snapshot], files: tuple[list[FileData], list[FileData]]
    ) -> tuple[Desired, Verdict]:
        former = former or parse_offline(files[0], snapshots[0], self._config)
        after = parse_offline(files[1], snapshots[1], self._config)
        return former, verdict_of(compared(former.resources, after, self._config), after.by_id(), time.time())

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
