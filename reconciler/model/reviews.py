"""Pull requests and their reviews, as every provider's driver sees them. Pure values."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import msgspec


class Conclusion(enum.StrEnum):
    """How a check ends."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"
    ACTION_REQUIRED = "action_required"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A pull request. All of it is untrusted text, except ids and what the provider decides (state, merge)."""

    number: int
    head: str
    """The newest commit."""
    base: str
    """The branch that it is merged into."""
    title: str = ""
    author: str = ""
    fork: bool = False
    """The head is in another repository, or its repository is gone."""
    url: str = ""
    updated_at: float = 0.0
    """Seconds since the epoch; events arrive out of order."""
    is_open: bool = True
    is_merged: bool = False
    merge_commit: str = ""
    """The commit on the base branch; empty unless it was merged and the provider names it."""
    merged_by: str = ""


@dataclass(frozen=True, slots=True)
class MergeGroup:
    """A commit of the merge queue: the pull requests in it, on top of ``base``."""

    head: str
    base: str
    branch: str
    ref: str
    """The ref of ``head`` in the repository."""
    is_gone: bool = False
    """The queue has merged the commit, or made another one: its check is no longer needed."""


@dataclass(frozen=True, slots=True)
class ButtonPress:
    """A person pressed a button of a check, or asked to run it again (empty ``button``)."""

    check_id: str
    """Empty if all checks of ``head`` are to run again."""
    head: str
    login: str
    button: str = ""


@dataclass(frozen=True, slots=True)
class ReviewEvent:
    """What a delivery says about a repository; exactly one of the four is set."""

    repository: str
    """``owner/name`` in lower case."""
    pull: PullRequest | None = None
    group: MergeGroup | None = None
    press: ButtonPress | None = None
    pushed: str = ""
    """The branch that got new commits."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """A finding at a line (from 1) of a file."""

    path: str
    line: int
    is_error: bool
    title: str
    message: str


@dataclass(frozen=True, slots=True)
class CheckButton:
    """A button of a check: label ≤ 20 characters, description ≤ 40, identifier ≤ 20."""

    label: str
    description: str
    identifier: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The check of a commit; without a conclusion it is in progress."""

    repository: str
    head: str
    name: str
    marker: str
    """Identifies our check among others of the same name."""
    title: str
    summary: str
    """Markdown of at most 65,535 characters, and so is ``text``."""
    text: str = ""
    conclusion: Conclusion | None = None
    annotations: tuple[Annotation, ...] = ()
    buttons: tuple[CheckButton, ...] = ()
    details_url: str = ""


@dataclass(frozen=True, slots=True)
class CommitState:
    """A status of a commit: ``pending``, ``success``, ``failure`` or ``error``."""

    repository: str
    head: str
    context: str
    state: str
    description: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class PullComment:
    """Our one comment of a pull request. ``body`` begins with ``marker``."""

    repository: str
    number: int
    marker: str
    body: str


class ReviewedBlock(msgspec.Struct, frozen=True):
    """One blocked change as it was reviewed; ``spec`` is the digest of its manifest (empty: the manifest is deleted)."""

    integration: str
    resource: str
    address: str
    action: str
    spec: str = ""


class Wish(msgspec.Struct, frozen=True):
    """A press of the approve button that was not handled yet."""

    login: str
    button: str
    head: str


class Grant(msgspec.Struct, frozen=True):
    """Who approved the blocked changes with ``digest``, and when (seconds since the epoch)."""

    login: str
    digest: str
    at: float
    actor: str = ""
    """The person as the audit log names them: with the code host."""


class ReviewState(msgspec.Struct, frozen=True):
    """Everything that is remembered of the review of a pull request or a merge group; stored before and after each step."""

    repository: str
    number: int = 0
    """0 for a merge group."""
    head: str = ""
    base: str = ""
    """The base branch; of a merge group its base commit."""
    ref: str = ""
    """The ref of ``head``."""
    title: str = ""
    author: str = ""
    url: str = ""
    fork: bool = False
    updated_at: float = 0.0
    open_head: str = ""
    """Commit whose check is open, or is about to be."""
    open_since: float = 0.0
    shown: bool = False
    """The check of ``open_head`` is in progress: its timeout counts. Until then the provider could not be reached."""
    check_id: str = ""
    check_head: str = ""
    """The commit that ``check_id`` is about."""
    attempts: int = 0
    done_head: str = ""
    """The commit whose review is complete."""
    conclusion: str = ""
    outcome: str = ""
    """The verdict in one line."""
    plan: str = ""
    """The plan as Markdown, cut; kept so that the comment can be written again with what happened since."""
    context: str = ""
    """Which commits were compared."""
    digest: str = ""
    """Digest of the blocked changes; empty without any."""
    blocked: tuple[ReviewedBlock, ...] = ()
    resources: tuple[str, ...] = ()
    """Paths of the resources that it changes, cut."""
    more_resources: int = 0
    """How many were cut."""
    comment_id: str = ""
    comment_due: bool = False
    """The comment does not say yet what the check says."""
    wish: Wish | None = None
    grant: Grant | None = None
    granted: tuple[str, ...] = ()
    """Integrations whose blocked changes were approved after the merge."""
    closed: str = ""
    """``closed`` or ``merged``."""
    merge_commit: str = ""
    merged_by: str = ""
    closed_at: float = 0.0
    reported: bool = False
    """The comment says how the merge ended."""
    failures: int = 0
    error: str = ""

    @property
    def approval(self) -> Grant | None:
        """The approval of exactly the changes that are blocked now; None without any."""
        return self.grant if self.digest and self.grant is not None and self.grant.digest == self.digest else None
