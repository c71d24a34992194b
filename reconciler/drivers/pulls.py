"""The contract of a driver for pull requests: reading them, and writing checks, statuses and one comment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from reconciler.drivers.base import Driver
from reconciler.drivers.connection import Api, Connection
from reconciler.model.events import Delivery
from reconciler.model.reviews import CheckReport, CommitState, PullComment, PullRequest, ReviewEvent


class PullRequests(Protocol):
    """Pull requests of a code host. Every method makes one attempt and raises typed errors."""

    def has_checks(self, connection: Connection) -> bool:
        """Whether the credential can write checks; otherwise a commit status takes their place."""

    def needs(self, *, checks: bool) -> Mapping[str, str]:
        """Return the permissions of a review; ``checks``: whether it writes checks."""

    def events(self, *, checks: bool) -> frozenset[str]:
        """Return the types of events that start a review."""

    def head_ref(self, number: int) -> str:
        """Return the ref of a pull request's head in the base repository."""

    def key(self, repository: str, account: str) -> str:
        """Return ``owner/name`` in lower case. Raises `ValidationFailed` for an invalid name."""

    def read(self, delivery: Delivery) -> ReviewEvent | None:
        """Return what a delivery says about pull requests; None if it says nothing, or cannot be read. Pure."""

    async def open_pulls(self, api: Api, repository: str) -> tuple[PullRequest, ...]:
        """Return all open pull requests. Raises `NotFound` if the repository is out of reach."""

    async def pull(self, api: Api, repository: str, number: int) -> PullRequest:
        """Return a pull request. Raises `NotFound` if it does not exist."""

    async def check(self, api: Api, check: CheckReport, known: str) -> str:
        """Write a check and return its id: the check ``known``, else ours by its marker, else a new one.

        Raises `ValidationFailed` if the commit does not exist.
        """

    async def status(self, api: Api, status: CommitState) -> None:
        """Write a commit status, unless the newest one of its context is the same."""

    async def comment(self, api: Api, comment: PullComment, known: str, *, create: bool = True) -> str:
        """Write our comment and return its id: the comment ``known``, else ours by its marker, else a new one.

        Without ``create`` a comment that does not exist stays so, and the id is empty.
        """

    async def may_write(self, api: Api, repository: str, login: str) -> bool:
        """Whether a person may write to the repository."""


@runtime_checkable
class ReviewingDriver(Protocol):
    """The part of a driver whose provider is a code host."""

    pulls: PullRequests | None


def pulls_of(driver: Driver) -> PullRequests | None:
    """Return the pull requests of a provider; None if it has none."""
    return driver.pulls if isinstance(driver, ReviewingDriver) else None
