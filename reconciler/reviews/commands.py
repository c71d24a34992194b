"""``review PR``: review one pull request now."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from reconciler.engine.current import Current
from reconciler.events.requests import CommandRequest
from reconciler.model.errors import NotFound, ReconcilerError
from reconciler.model.reviews import ReviewState
from reconciler.reviews.intake import ReviewIntake
from reconciler.reviews.target import ReviewImpossible, open_target, remote_source
from reconciler.source.base import Source

LOOK_S = 0.2


class ReviewRequest(CommandRequest, frozen=True):
    """The request of the command."""

    number: int


class ReviewCommands:
    """Runs in the daemon: only it works on reviews."""

    def __init__(self, current: Current, source: Source, intake: ReviewIntake) -> None:
        self._current = current
        self._source = source
        self._intake = intake

    async def review(self, request: ReviewRequest) -> Mapping[str, Any]:
        """Review a pull request again and return its verdict. Raises `ReviewImpossible`, and the errors of the provider."""
        target = await open_target(self._current)
        remote_source(self._source)
        config = self._current.context.config
        try:
            pull = await target.pulls.pull(target.api, target.repository, request.number)
        except NotFound:
            raise ReviewImpossible(
                f"{target.repository} has no pull request #{request.number}",
                code="RC8204",
                hint="Check the number, and that the credential may read pull requests.",
            ) from None
        if not pull.is_open:
            raise ReviewImpossible(f"#{pull.number} is not open", code="RC8204", hint="Only open pull requests are reviewed.")
        if pull.base != config.source.branch or (pull.fork and config.review.forks == "off"):
            reason = "review.forks is off" if pull.base == config.source.branch else f"it is not for {config.source.branch}"
            raise ReviewImpossible(f"#{pull.number} is not reviewed: {reason}", code="RC8204", hint="See docs/reviews.md.")
        await self._intake.pull(target.repository, pull, target.pulls, force=True)
        try:
            async with asyncio.timeout(config.review.timeout):
                state = await self._reviewed(f"{target.repository}#{pull.number}")
        except TimeoutError:
            raise ReconcilerError(
                f"#{pull.number} was not reviewed within {config.review.timeout:g} s",
                code="RC8202",
                hint="The daemon tries again; its log says why it failed.",
            ) from None
        return {
            "number": pull.number,
            "head": state.head,
            "conclusion": state.conclusion,
            "outcome": state.outcome,
            "url": state.url,
            "digest": state.digest,
        }

    async def _reviewed(self, key: str) -> ReviewState:
        while True:
            stored = await self._current.context.store.review(key)
            if stored is not None and stored.state.done_head == stored.state.head and not stored.state.comment_due:
                return stored.state
            await asyncio.sleep(LOOK_S)


__all__ = ["ReviewCommands", "ReviewRequest"]
