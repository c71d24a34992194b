"""How the review loop waits after a failure, and what it does about a pull request that ended while it was reviewed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reconciler.config.settings import Config, ReviewConfig
from reconciler.engine.credential_check import review_integration
from reconciler.log import get_logger
from reconciler.model.errors import ReconcilerError
from reconciler.model.reviews import PullRequest, ReviewState
from reconciler.reviews import loop as loops
from reconciler.reviews.loop import ReviewLoop
from reconciler.reviews.reviewer import Reviewer, ReviewWork
from reconciler.reviews.row import ReviewRow
from reconciler.state.async_store import AsyncStore
from reconciler.state.reviews import NEVER, StoredReview
from reconciler.state.store import Store
from reconciler.state.thread import StateThread

REPOSITORY = "acme/payments"
HEAD, MERGE = "a" * 40, "c" * 40
MERGED = PullRequest(
    number=7, head=HEAD, base="main", updated_at=9.0, is_open=False, is_merged=True, merge_commit=MERGE, merged_by="ada"
)


class Host:
    """A code host that fails as often as a test says."""

    def __init__(self) -> None:
        self.lists = 0
        self.failures = 0

    async def open_pulls(self, *_: Any) -> tuple[PullRequest, ...]:
        self.lists += 1
        if self.failures:
            self.failures -= 1
            raise ReconcilerError("no answer", code="RC5019")
        return ()

    async def pull(self, *_: Any) -> PullRequest:
        return MERGED


class Inside:
    """The parts of the loop around a real state; ``now`` is the clock."""

    def __init__(self, folder: Path) -> None:
        self.now, self.writes = 1_000.0, list[float]()
        self.thread = StateThread()
        self.store = Store.open(f"sqlite:///{folder}/state.db", state_dir=folder, create=True)
        self.host = Host()
        self.target: Any = SimpleNamespace(repository=REPOSITORY, pulls=self.host, api=None)
        store = AsyncStore(self.store, self.thread)
        config = Config(review=ReviewConfig(integration="github", interval=60.0))
        self.context: Any = SimpleNamespace(config=config, store=store, clock=lambda: self.now, log=get_logger("reviews"))
        self.current: Any = SimpleNamespace(context=self.context, active=SimpleNamespace(empty=False))

    def loop(self, monkeypatch: pytest.MonkeyPatch) -> ReviewLoop:
        async def target(_: Any) -> Any:
            return self.target

        async def no(*_: Any) -> None:
            """Stand in for a part of a turn that does not matter here."""

        async def exclusively(_name: str, work: Any) -> None:
            await work(lambda api: api)

        monkeypatch.setattr(loops, "open_target", target)
        monkeypatch.setattr(loops, "pause_after", lambda _context, failures, _error: 10.0 * failures)
        made: Any = ReviewLoop(self.current, SimpleNamespace(), holder="", beat=lambda _: None)  # type: ignore[arg-type]
        made._reviewer, made._start_due, made._count, made._exclusively = object(), no, no, exclusively
        made._sync = SimpleNamespace(pending=self._pending, write=self._write)
        return made  # type: ignore[no-any-return]

    async def _pending(self) -> bool:
        return True

    async def _write(self, *_: Any) -> None:
        self.writes.append(self.now)
        raise ReconcilerError("refused", code="RC5004")


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Inside]:
    made = Inside(tmp_path)
    yield made
    made.store.close()
    made.thread.close()


@pytest.mark.parametrize(
    ("named", "path"),
    [("github", "Integration/default/github"), ("github@team", "Integration/team/github"), ("", "")],
)
def test_an_integration_without_a_canvas_is_that_of_the_default_one(named: str, path: str) -> None:
    found = review_integration(Config(review=ReviewConfig(integration=named)))
    assert (found.path if found is not None else "") == path


def test_a_status_that_cannot_be_written_is_tried_again_after_pauses_that_grow(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = inside.loop(monkeypatch)
    for _ in range(35):
        asyncio.run(loop._turn())
        inside.now += 2
    assert [at - inside.writes[0] for at in inside.writes] == [0, 10, 30, 60]


def test_a_list_that_failed_is_not_taken_for_one_that_was_read(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(inside.context.store), "dialect", "postgresql")
    loop = inside.loop(monkeypatch)
    inside.host.failures = 1
    with pytest.raises(ReconcilerError):
        asyncio.run(loop._list(inside.target))
    asyncio.run(loop._list(inside.target))
    assert inside.host.lists == 2
    asyncio.run(loop._list(inside.target))  # a peer asks just after it
    assert inside.host.lists == 2


def test_a_pull_request_that_was_merged_while_its_head_was_fetched_is_merged(inside: Inside) -> None:
    state = ReviewState(REPOSITORY, number=7, head=HEAD, base="main")
    assert inside.store.save_review(StoredReview("k", 0, NEVER, state), state, 0.0)
    stored = inside.store.review("k")
    assert stored is not None
    reviewer: Any = Reviewer.__new__(Reviewer)
    reviewer._context = inside.context
    asyncio.run(reviewer._refresh(ReviewWork(ReviewRow(inside.context, stored), inside.target, None)))  # type: ignore[arg-type]
    after = inside.store.review("k")
    assert after is not None
    assert (after.state.closed, after.state.merge_commit, after.state.merged_by) == ("merged", MERGE, "ada")
