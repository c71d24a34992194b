"""One stored review while this process works on it."""

from __future__ import annotations

from reconciler.engine.context import Context
from reconciler.model.records import AuditEntry
from reconciler.model.reviews import ReviewState
from reconciler.state.reviews import NEVER, StoredReview


class ReviewChanged(Exception):
    """An event changed the review meanwhile: the work starts again with the newer state."""


class ReviewRow:
    """A review that is changed step by step; each save fails if an event or another process has changed it."""

    def __init__(self, context: Context, stored: StoredReview) -> None:
        self._context = context
        self._stored = stored

    @property
    def key(self) -> str:
        """The key of the review."""
        return self._stored.key

    @property
    def state(self) -> ReviewState:
        """The state as it was read or saved last."""
        return self._stored.state

    async def save(self, state: ReviewState, due_at: float = NEVER, *, audit: tuple[AuditEntry, ...] = ()) -> None:
        """Store ``state``. Raises `ReviewChanged`."""
        if not await self._context.store.save_review(self._stored, state, due_at, audit=audit):
            raise ReviewChanged
        self._stored = StoredReview(self.key, self._stored.version + 1, due_at, state)


__all__ = ["ReviewChanged", "ReviewRow"]
