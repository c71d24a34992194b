"""Pull requests at GitHub: events and lists. Implements `reconciler.drivers.pulls.PullRequests` with the module `checks`.

Facts: GitHub's OpenAPI description of "Pulls" and "Collaborators", and the events ``pull_request``, ``merge_group``, ``check_run``,
``check_suite`` and ``push``. The head of a fork is in the base repository as ``refs/pull/N/head``: nothing is fetched from the fork.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from urllib.parse import quote

import msgspec

from reconciler.drivers.connection import Api, Connection
from reconciler.drivers.github import api as names
from reconciler.drivers.github import checks
from reconciler.drivers.wire import find
from reconciler.model.errors import NotFound
from reconciler.model.events import Delivery
from reconciler.model.reviews import ButtonPress, CheckReport, CommitState, MergeGroup, PullComment, PullRequest, ReviewEvent

MAX_PULLS = 1_000
"""Open pull requests that are reviewed; the oldest ones beyond it wait."""
_ACTIONS = frozenset({"opened", "reopened", "synchronize", "ready_for_review", "edited", "closed"})
_GROUP_ACTIONS = frozenset({"checks_requested", "destroyed"})
_BRANCHES = "refs/heads/"
_WRITERS = frozenset({"admin", "write"})
_TITLE = 200


class PullUser(msgspec.Struct, frozen=True):
    login: str | None = None


class PullRepository(msgspec.Struct, frozen=True):
    id: int = 0
    full_name: str = ""


class PullEnd(msgspec.Struct, frozen=True):
    """The head or the base; the repository of a head is null where the fork was deleted."""

    sha: str
    ref: str
    repo: PullRepository | None = None


class GitHubPull(msgspec.Struct, frozen=True):
    """A pull request, in lists and payloads alike; ``merged_by`` is in neither list."""

    number: int
    head: PullEnd
    base: PullEnd
    state: str = "open"
    title: str | None = None
    user: PullUser | None = None
    html_url: str = ""
    updated_at: str = ""
    merged_at: str | None = None
    merge_commit_sha: str | None = None
    merged_by: PullUser | None = None


class GitHubGroup(msgspec.Struct, frozen=True):
    head_sha: str
    base_sha: str
    base_ref: str = ""
    head_ref: str = ""


class GitHubCheckRun(msgspec.Struct, frozen=True):
    """A check run or a check suite."""

    id: int
    head_sha: str = ""


class RequestedAction(msgspec.Struct, frozen=True):
    identifier: str = ""


class PullPayload(msgspec.Struct, frozen=True):
    """The parts of the payloads that are read."""

    action: str = ""
    ref: str = ""
    repository: PullRepository | None = None
    sender: PullUser | None = None
    pull_request: GitHubPull | None = None
    merge_group: GitHubGroup | None = None
    check_run: GitHubCheckRun | None = None
    check_suite: GitHubCheckRun | None = None
    requested_action: RequestedAction | None = None


class GitHubPullRequests:
    """Implements `reconciler.drivers.pulls.PullRequests`."""

    def has_checks(self, connection: Connection) -> bool:
        """Only Apps write check runs."""
        return connection.auth.get("use") == "github-app"

    def needs(self, *, checks: bool) -> Mapping[str, str]:
        common = {"pull_requests": "write", "statuses": "write"}
        return {**common, "checks": "write", "merge_queues": "read"} if checks else common

    def events(self, *, checks: bool) -> frozenset[str]:
        return frozenset({"pull_request", "merge_group", "check_run", "check_suite"} if checks else {"pull_request"})

    def head_ref(self, number: int) -> str:
        return f"refs/pull/{number}/head"

    def key(self, repository: str, account: str) -> str:
        return names.repository_key(repository, account)

    def read(self, delivery: Delivery) -> ReviewEvent | None:
        try:
            payload = msgspec.json.decode(delivery.body, type=PullPayload)
        except (msgspec.MsgspecError, UnicodeError):
            return None
        repository = payload.repository.full_name.lower() if payload.repository is not None else ""
        if delivery.type == "pull_request" and payload.pull_request is not None and payload.action in _ACTIONS:
            return ReviewEvent(repository, pull=_pull(payload.pull_request))
        if delivery.type == "merge_group" and payload.merge_group is not None and payload.action in _GROUP_ACTIONS:
            return ReviewEvent(repository, group=_group(payload.merge_group, is_gone=payload.action == "destroyed"))
        if delivery.type == "check_run" and payload.check_run is not None:
            return _press(repository, payload, payload.check_run)
        if delivery.type == "check_suite" and payload.check_suite is not None and payload.action == "rerequested":
            return ReviewEvent(repository, press=ButtonPress("", payload.check_suite.head_sha, _sender(payload)))
        if delivery.type == "push" and payload.ref.startswith(_BRANCHES):
            return ReviewEvent(repository, pushed=payload.ref.removeprefix(_BRANCHES))
        return None

    async def open_pulls(self, api: Api, repository: str) -> tuple[PullRequest, ...]:
        return await names.follow_rename(_root(api, repository), partial(_open_pulls, api))

    async def pull(self, api: Api, repository: str, number: int) -> PullRequest:
        async def read(root: str) -> GitHubPull:
            return await names.read(api, f"{root}/pulls/{number}", GitHubPull)

        return _pull(await names.follow_rename(_root(api, repository), read))

    async def check(self, api: Api, check: CheckReport, known: str) -> str:
        return await names.follow_rename(_root(api, check.repository), partial(checks.write_check, api, check, known))

    async def status(self, api: Api, status: CommitState) -> None:
        await names.follow_rename(_root(api, status.repository), partial(checks.write_status, api, status))

    async def comment(self, api: Api, comment: PullComment, known: str, *, create: bool = True) -> str:
        write = partial(checks.write_comment, api, comment, known, create=create)
        return await names.follow_rename(_root(api, comment.repository), write)

    async def may_write(self, api: Api, repository: str, login: str) -> bool:
        path = f"{_root(api, repository)}/collaborators/{quote(login, safe='')}/permission"
        try:
            answer = await api.request("GET", path)
        except NotFound:
            return False
        return find(answer.json(), str, "permission") in _WRITERS


def _root(api: Api, repository: str) -> str:
    return f"/repos/{names.repository_key(repository, api.connection.account)}"


async def _open_pulls(api: Api, root: str) -> tuple[PullRequest, ...]:
    pulls: list[PullRequest] = []
    params = {"state": "open", "sort": "updated", "direction": "desc"}
    async for rows, _ in names.typed_pages(api, f"{root}/pulls", list[GitHubPull], params=params):
        pulls += [_pull(row) for row in rows]
        if len(pulls) >= MAX_PULLS:
            break
    return tuple(pulls)


def _pull(row: GitHubPull) -> PullRequest:
    head, base = row.head.repo, row.base.repo
    merged = row.merged_at is not None
    return PullRequest(
        number=row.number,
        head=row.head.sha,
        base=row.base.ref,
        title=(row.title or "")[:_TITLE],
        author=(row.user.login if row.user is not None else None) or "",
        fork=head is None or base is None or head.id != base.id,
        url=row.html_url,
        updated_at=names.epoch_of(row.updated_at) or 0.0,
        is_open=row.state == "open",
        is_merged=merged,
        merge_commit=(row.merge_commit_sha or "") if merged else "",
        merged_by=(row.merged_by.login if row.merged_by is not None else None) or "",
    )


def _group(row: GitHubGroup, *, is_gone: bool) -> MergeGroup:
    ref = row.head_ref if row.head_ref.startswith("refs/") else f"{_BRANCHES}{row.head_ref}"
    return MergeGroup(row.head_sha, row.base_sha, row.base_ref.removeprefix(_BRANCHES), ref, is_gone)


def _sender(payload: PullPayload) -> str:
    return (payload.sender.login if payload.sender is not None else None) or ""


def _press(repository: str, payload: PullPayload, run: GitHubCheckRun) -> ReviewEvent | None:
    button = payload.requested_action.identifier if payload.requested_action is not None else ""
    if payload.action == "rerequested" or (payload.action == "requested_action" and button):
        return ReviewEvent(repository, press=ButtonPress(str(run.id), run.head_sha, _sender(payload), button))
    return None
