"""Branches, tags and commits of the GitHub simulator.

State, in a repository: ``{"default_branch": "main", "branches": {"main": SHA}, "tags": {"v1": SHA}, "commits": {SHA: {"message",
"author", "at"}}}``. There is no Git behind it: commits are those that branches and tags lead to, and those in ``commits``. Any
other SHA is unknown, as at GitHub. So is that of an annotated tag; ``tag_objects`` maps it to its commit.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reconciler.sandbox.app import Call, Reply, Route
from reconciler.sandbox.github import shapes as shapes
from reconciler.sandbox.github.records import GitHubRepository
from reconciler.sandbox.github.request import refuse
from reconciler.sandbox.github.state import GitHubState
from reconciler.sandbox.shapes import fill

KEPT_COMMITS = 5_000
_SHA = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Ref:
    """Where a name leads: ``name`` is short (``main``), ``full`` is ``refs/heads/main``; both are the SHA for a commit."""

    name: str
    full: str
    sha: str


class Commits:
    """Resolves refs, moves branches, and handles ``…/commits/REF``."""

    def __init__(self, app: GitHubState) -> None:
        self.app = app

    def restored(self) -> None:
        """Give each repository a default branch with a commit."""
        for name, repo in self.app.records["repos"].items():
            fill(repo, {key: {} for key in ("branches", "tags", "commits", "tag_objects")})
            branch = repo["default_branch"]
            repo["branches"].setdefault(branch, _digest(f"{name}:{branch}"))

    def routes(self, prefix: str) -> Iterable[Route]:
        """Return the routes below a repository; a ref may have slashes, so that longer paths come first."""
        yield "GET", f"{prefix}/commits/{{ref+}}", self._get

    def find(self, name: str, ref: str) -> Ref | None:
        """Return the branch or the tag that ``ref`` names, in any of its forms."""
        repo = self.app.records["repos"][name]
        short = ref.removeprefix("refs/")
        for heads, folder in ((repo["branches"], "heads/"), (repo["tags"], "tags/")):
            bare = short.removeprefix(folder) if short.startswith(folder) else ref
            if bare in heads:
                return Ref(bare, f"refs/{folder}{bare}", heads[bare])
        return None

    def find_any(self, name: str, ref: str) -> Ref | None:
        """Return what ``ref`` names: a branch, a tag or the whole SHA of a commit."""
        return self.find(name, ref) or (Ref(ref, ref, ref) if self._is_commit(name, ref) else None)

    def _is_commit(self, name: str, sha: str) -> bool:
        repo = self.app.records["repos"][name]
        known = sha in repo["commits"] or sha in repo["branches"].values() or sha in repo["tags"].values()
        return _SHA.fullmatch(sha) is not None and known

    def default(self, name: str) -> Ref:
        """Return the default branch."""
        repo = self.app.records["repos"][name]
        branch = repo["default_branch"]
        return Ref(branch, f"refs/heads/{branch}", repo["branches"][branch])

    def move(self, name: str, full_ref: str, commits: Sequence[Mapping[str, object]], author: str) -> shapes.Push:
        """Move (or make) a branch or a tag to the last of ``commits`` ({"id"?, "message"?, "author"?}); return what was pushed."""
        repo = self.app.records["repos"][name]
        heads, bare = _heads_of(repo, full_ref)
        before = heads.get(bare, shapes.NO_COMMIT)
        at = shapes.stamp(self.app.clock())
        rows: list[tuple[str, str, str]] = []
        for commit in commits or ({},):
            sha = str(commit.get("id") or _digest(f"{name}:{self.app.next_id()}"))
            row = (sha, str(commit.get("message", "Change something")), str(commit.get("author", author)))
            repo["commits"][sha] = {"message": row[1], "author": row[2], "at": at}
            rows.append(row)
        for old in list(repo["commits"])[:-KEPT_COMMITS]:
            del repo["commits"][old]
        heads[bare] = rows[-1][0]
        return shapes.Push(full_ref, rows[-1][0], before, rows, at)

    def tag(self, name: str, pushed: shapes.Push) -> shapes.Push:
        """Turn a pushed tag into an annotated one: an object of its own that points to the commit."""
        sha = _digest(f"{name}:tag:{self.app.next_id()}")
        self.app.records["repos"][name]["tag_objects"][sha] = pushed.sha
        return dataclasses.replace(pushed, sha=sha)

    def delete(self, name: str, full_ref: str) -> shapes.Push:
        """Delete a branch or a tag; return what was pushed: zeros."""
        heads, bare = _heads_of(self.app.records["repos"][name], full_ref)
        before = heads.pop(bare)
        self.app.records["repos"][name]["commits"].setdefault(before, {})
        return shapes.Push(full_ref, shapes.NO_COMMIT, before, (), shapes.stamp(self.app.clock()))

    def about(self, name: str, sha: str) -> shapes.CommitAbout:
        """Return message, author and time of a commit."""
        known = self.app.records["repos"][name]["commits"].get(sha, {})
        return shapes.CommitAbout(**known)

    def shown(self, name: str, sha: str) -> dict[str, object]:
        """Return a commit as answers and payloads show it."""
        about = self.about(name, sha)
        return shapes.commit(self.app.shown(self.app.base_url, name), sha, about, self.app.user(about.author))

    def branches_at(self, name: str, sha: str) -> list[str]:
        """Return the branches whose head is ``sha``."""
        return [branch for branch, head in self.app.records["repos"][name]["branches"].items() if head == sha]

    def _get(self, call: Call, ref: str, **where: str) -> Reply:
        target = self.app.target(call, where, write=False, permission="contents")
        match = self.find_any(target.name, ref)
        if match is None:
            raise refuse(422, f"No commit found for SHA: {ref}")
        return Reply(200, self.shown(target.name, match.sha))


def is_sha(text: str) -> bool:
    """Whether ``text`` looks like a whole SHA."""
    return _SHA.fullmatch(text) is not None


def whole_ref(ref: str) -> str:
    """Return ``refs/heads/main`` for ``main``."""
    return ref if ref.startswith("refs/") else f"refs/heads/{ref}"


def _heads_of(repo: GitHubRepository, full_ref: str) -> tuple[dict[str, str], str]:
    """Return the branches or the tags that a whole ref is one of, and its short name."""
    for heads, folder in ((repo["branches"], "refs/heads/"), (repo["tags"], "refs/tags/")):
        if full_ref.startswith(folder):
            return heads, full_ref.removeprefix(folder)
    raise ValueError(f"{full_ref} is neither a branch nor a tag")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:40]
