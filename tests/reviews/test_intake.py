"""What an event or a list makes of a stored review; with the real state."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from reconciler.config.settings import Config, ReviewConfig
from reconciler.drivers.github.pulls import GitHubPullRequests
from reconciler.model.reviews import ButtonPress, PullRequest, ReviewState, Wish
from reconciler.reviews.intake import QUIET_S, ReviewIntake
from reconciler.state.async_store import AsyncStore
from reconciler.state.reviews import StoredReview
from reconciler.state.store import Store
from reconciler.state.thread import StateThread

REPOSITORY = "acme/payments"
KEY = f"{REPOSITORY}#7"
A, B, C = ("a" * 40, "b" * 40, "c" * 40)
PULL = PullRequest(number=7, head=A, base="main", title="t", author="mallory", updated_at=100.0)
HOST = GitHubPullRequests()


class Intake:
    """`ReviewIntake` with a clock that a test sets."""

    def __init__(self, folder: Path, *, forks: str = "offline") -> None:
        self.now = 1_000.0
        self.thread = StateThread()
        self.store = Store.open(f"sqlite:///{folder}/state.db", state_dir=folder, create=True)
        config = Config(review=ReviewConfig(integration="github", forks=forks))
        context = SimpleNamespace(config=config, store=AsyncStore(self.store, self.thread), clock=lambda: self.now)
        self.intake = ReviewIntake(SimpleNamespace(context=context), lambda: None)  # type: ignore[arg-type]

    def pull(self, pull: PullRequest, **more: Any) -> StoredReview | None:
        asyncio.run(self.intake.pull(REPOSITORY, pull, HOST, **more))
        return self.store.review(KEY)

    def press(self, press: ButtonPress) -> ReviewState:
        asyncio.run(self.intake._press(REPOSITORY, press))
        return self.state

    @property
    def state(self) -> ReviewState:
        stored = self.store.review(KEY)
        assert stored is not None
        return stored.state

    def change(self, **fields: Any) -> None:
        stored = self.store.review(KEY)
        assert stored is not None
        assert self.store.save_review(stored, replace(stored.state, **fields), self.now)


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    made = Intake(tmp_path)
    yield made
    made.store.close()
    made.thread.close()


def test_an_event_that_was_overtaken_changes_nothing(intake: Intake) -> None:
    intake.pull(PULL)
    intake.pull(dataclasses.replace(PULL, head=B, updated_at=102.0))
    intake.pull(dataclasses.replace(PULL, head=A, updated_at=101.0, is_open=False))
    assert (intake.state.head, intake.state.closed) == (B, "")


def test_one_that_is_reopened_is_judged_again_with_the_same_head(intake: Intake) -> None:
    intake.pull(PULL)
    intake.change(done_head=A, plan="the plan")
    intake.pull(dataclasses.replace(PULL, is_open=False, updated_at=101.0))
    assert (intake.state.closed, intake.state.done_head) == ("closed", A)
    stored = intake.pull(dataclasses.replace(PULL, updated_at=102.0))
    assert stored is not None
    assert (stored.state.closed, stored.state.done_head, stored.due_at) == ("", "", intake.now)


def test_heads_that_follow_each_other_quickly_wait_for_the_newest(intake: Intake) -> None:
    intake.pull(PULL)
    intake.change(open_since=intake.now)
    intake.now += 1
    stored = intake.pull(dataclasses.replace(PULL, head=B, updated_at=101.0))
    assert stored is not None
    assert stored.due_at == intake.now + QUIET_S
    intake.now += QUIET_S
    stored = intake.pull(dataclasses.replace(PULL, head=C, updated_at=102.0))
    assert stored is not None
    assert stored.due_at == intake.now


def test_a_title_alone_makes_no_work(intake: Intake) -> None:
    intake.pull(PULL)
    intake.change(done_head=A)
    due = intake.store.review(KEY).due_at  # type: ignore[union-attr]
    intake.now += 60
    stored = intake.pull(dataclasses.replace(PULL, title="other", updated_at=101.0))
    assert stored is not None
    assert (stored.state.title, stored.due_at, stored.state.done_head) == ("other", due, A)


@pytest.mark.parametrize("more", [{"is_open": False}, {"base": "release"}, {"fork": True}])
def test_what_is_not_reviewed_is_not_stored(tmp_path: Path, more: dict[str, Any]) -> None:
    intake = Intake(tmp_path, forks="off")
    assert intake.pull(dataclasses.replace(PULL, **more)) is None
    intake.store.close()
    intake.thread.close()


@pytest.mark.parametrize(
    ("head", "wish"),
    [(A, Wish("ada", "approve-1", A)), (B, None)],  # a button of a former head
)
def test_a_press_counts_for_the_present_head_only(intake: Intake, head: str, wish: Wish | None) -> None:
    intake.pull(PULL)
    intake.change(check_id="5", check_head=A, done_head=A)
    assert intake.press(ButtonPress("5", head, "ada", "approve-1")).wish == wish
    assert intake.press(ButtonPress("6", A, "ada", "approve-2")).wish == wish  # the check of another pull request
