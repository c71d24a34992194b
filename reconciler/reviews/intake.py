"""Events of pull requests: stored as what is to be reviewed before the delivery is answered. The event itself need not be kept."""

from __future__ import annotations

from collections.abc import Callable, Collection

from msgspec.structs import replace

from reconciler.drivers.pulls import PullRequests, pulls_of
from reconciler.drivers.registry import driver_for
from reconciler.engine.credential_check import review_integration
from reconciler.engine.current import Current
from reconciler.manifests.kinds import IntegrationSpec
from reconciler.model.errors import StateError
from reconciler.model.events import Delivery
from reconciler.model.resources import ResourceId
from reconciler.model.reviews import ButtonPress, MergeGroup, PullRequest, ReviewEvent, ReviewState, Wish
from reconciler.reviews.target import repository_name
from reconciler.state.reviews import NEVER, StoredReview

TRIES = 5
QUIET_S = 3.0
"""A pull request that changes again within this time waits as long: only its newest head matters."""
MAX_OPEN = 2_000
"""Reviews that are known at a time."""


class ReviewIntake:
    """Turns events and lists into reviews that are due."""

    def __init__(self, current: Current, wake: Callable[[], None]) -> None:
        self.poll_source: Callable[[], None] = lambda: None
        """Fetches the watched branch now; called when an event says that it has new commits."""
        self._current = current
        self._context = current.context
        self._wake = wake

    async def note(self, integrations: Collection[ResourceId], delivery: Delivery) -> None:
        """Store what a verified delivery of one of ``integrations`` says about the reviewed repository. Raises `StateError`."""
        identity = review_integration(self._context.config)
        if identity is None or identity not in integrations or delivery.problem:
            return
        resource = self._current.active.resources.get(identity)
        driver = driver_for(resource.typed(IntegrationSpec).type) if resource is not None else None
        pulls = pulls_of(driver) if driver is not None else None
        event = pulls.read(delivery) if pulls is not None else None
        repository = repository_name(self._context.config).lower()
        if pulls is None or event is None or event.repository != repository:
            return
        if event.pull is not None:
            await self.pull(repository, event.pull, pulls)
        elif event.group is not None:
            await self._group(repository, event.group)
        elif event.press is not None:
            await self._press(repository, event.press)
        if self._moves(event):
            self.poll_source()

    def _moves(self, event: ReviewEvent) -> bool:
        """Whether the watched branch has new commits."""
        branch, pull = self._context.config.source.branch, event.pull
        return event.pushed == branch or (pull is not None and pull.is_merged and pull.base == branch)

    async def pull(self, repository: str, pull: PullRequest, pulls: PullRequests, *, force: bool = False) -> None:
        """Store the newest head of a pull request, or its end. ``force``: review it again. Raises `StateError`."""
        config = self._context.config
        is_reviewed = pull.base == config.source.branch and not (pull.fork and config.review.forks == "off")

        def change(stored: StoredReview | None, now: float) -> tuple[ReviewState, float] | None:
            if stored is None:
                if not is_reviewed or not pull.is_open:
                    return None
                return described(ReviewState(repository, ref=pulls.head_ref(pull.number)), pull), now
            state = stored.state
            if pull.updated_at < state.updated_at and not force:
                return None  # an event that was overtaken
            newer = described(state, pull)
            if not pull.is_open or not is_reviewed:
                if state.closed:
                    return None
                return ended(newer, pull, now), now
            if state.closed:  # reopened: its plan was dropped, and the base may have moved
                newer = replace(newer, closed="", reported=False, done_head="")
            if force:
                return replace(newer, done_head="", failures=0, attempts=0), now
            if (newer.head, newer.closed) == (state.head, state.closed):
                return None if newer.title == state.title else (newer, stored.due_at)
            return newer, now + (QUIET_S if now - state.open_since < QUIET_S else 0.0)

        await self._change(f"{repository}#{pull.number}", change)

    async def _group(self, repository: str, group: MergeGroup) -> None:
        if group.branch != self._context.config.source.branch:
            return
        state = ReviewState(repository, head=group.head, base=group.base, ref=group.ref)

        def change(stored: StoredReview | None, now: float) -> tuple[ReviewState, float] | None:
            if stored is None:
                return None if group.is_gone else (state, now)
            if not group.is_gone or stored.state.closed:
                return None
            return replace(stored.state, closed="closed", closed_at=now, failures=0), now

        await self._change(f"{repository}@{group.head}", change)

    async def _press(self, repository: str, press: ButtonPress) -> None:
        """Keep a press with the review whose check it is about; a later press replaces one that was not handled."""
        for key in await self._keys(repository, press):
            await self._change(key, lambda stored, now: _pressed(stored, press, now))

    async def _keys(self, repository: str, press: ButtonPress) -> list[str]:
        """Return the keys of the reviews that a press may be about."""
        store = self._context.store
        if not press.check_id:
            return [f"{repository}@{press.head}", *await store.open_reviews(f"{repository}#", MAX_OPEN)]
        known = [await store.review_of_check(f"{repository}{kind}", press.check_id) for kind in "#@"]
        return [key for key in known if key is not None]

    async def _change(self, key: str, change: Callable[[StoredReview | None, float], tuple[ReviewState, float] | None]) -> None:
        store = self._context.store
        for _ in range(TRIES):
            stored = await store.review(key)
            changed = change(stored, self._context.clock())
            if changed is None:
                return
            before = stored or StoredReview(key, 0, NEVER, changed[0])
            if await store.save_review(before, *changed):
                self._wake()
                return
        raise StateError(
            f"the review {key} changes all the time", code="RC8203", hint="The next list of open pull requests contains it."
        )


def described(state: ReviewState, pull: PullRequest) -> ReviewState:
    """Return ``state`` with what the code host says of the pull request."""
    return replace(
        state,
        number=pull.number,
        head=pull.head,
        base=pull.base,
        title=pull.title,
        author=pull.author,
        url=pull.url,
        fork=pull.fork,
        updated_at=max(pull.updated_at, state.updated_at),
    )


def ended(state: ReviewState, pull: PullRequest, now: float) -> ReviewState:
    """Return ``state`` as closed or merged at ``now``."""
    return replace(
        state,
        closed="merged" if pull.is_merged and not pull.is_open else "closed",
        closed_at=now,
        merge_commit=pull.merge_commit,
        merged_by=pull.merged_by,
        failures=0,
    )


def _pressed(stored: StoredReview | None, press: ButtonPress, now: float) -> tuple[ReviewState, float] | None:
    if stored is None or stored.state.closed or not stored.state.check_head == press.head == stored.state.head:
        return None
    if not press.button:
        return replace(stored.state, done_head="", failures=0, attempts=0), now
    return replace(stored.state, wish=Wish(press.login[:100], press.button[:40], press.head)), now


__all__ = ["MAX_OPEN", "ReviewIntake", "described", "ended"]
