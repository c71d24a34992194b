"""The page of a review: its verdict and the whole plan, which is made again for each head that somebody looks at."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from reconciler.engine.credential_check import review_integration
from reconciler.engine.current import Current
from reconciler.model.errors import ReconcilerError
from reconciler.model.reviews import ReviewState
from reconciler.reviews.planner import ReviewPlanner
from reconciler.reviews.target import repository_name

KEPT_PLANS = 8
MAX_CHARACTERS = 2_000_000
"""Characters of a plan on a page; `reconciler plan --base` in a checkout shows the rest."""
WAIT_S = 20.0


@dataclass(frozen=True, slots=True)
class ReviewPage:
    """What is known of a review."""

    state: ReviewState
    plan: str
    """The whole plan as text; the shortened Markdown if it cannot be made again."""
    is_whole: bool


class ReviewPages:
    """Reads reviews for people."""

    def __init__(self, current: Current, planner: Callable[[], ReviewPlanner]) -> None:
        self._current = current
        self._planner = planner
        self._plans: OrderedDict[tuple[str, str], str] = OrderedDict()
        """(key of the review, head) → plan."""

    async def page(self, name: str) -> ReviewPage | None:
        """Return the review of the pull request ``name`` (a number), or of a commit of the merge queue; None if there is none."""
        config = self._current.context.config
        if review_integration(config) is None:
            return None
        repository = repository_name(config).lower()
        stored = await self._current.context.store.review(f"{repository}{'#' if name.isdecimal() else '@'}{name[:64]}")
        if stored is None:
            return None
        state = stored.state
        if not state.done_head:
            return ReviewPage(state, "", is_whole=False)
        plan = await self._whole(stored.key, state)
        return ReviewPage(state, plan or state.plan, is_whole=bool(plan))

    async def _whole(self, key: str, state: ReviewState) -> str:
        known = self._plans.get((key, state.head))
        if known is not None:
            return known
        try:
            async with asyncio.timeout(WAIT_S):
                plan = await self._planner().text(state)
        except (ReconcilerError, TimeoutError):
            return ""  # the commit is gone, or the source is out of reach
        cut = len(plan) - MAX_CHARACTERS
        plan = f"{plan[:MAX_CHARACTERS]}\n… {cut} more characters" if cut > 0 else plan
        self._plans[key, state.head] = plan
        while len(self._plans) > KEPT_PLANS:
            self._plans.popitem(last=False)
        return plan


__all__ = ["ReviewPage", "ReviewPages"]
