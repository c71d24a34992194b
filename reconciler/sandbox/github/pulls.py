"""Pull requests and merge groups of the GitHub simulator.

State: ``{"pulls": {"<repository id>": [{"number", "title", "author", "state", "draft", "head_repo", "head_ref", "head_sha",
"base_ref", "base_sha", "files", "merged_at", …}]}}``. Commits are only known by their SHA; a Git server beside it has the objects and
``refs/pull/N/head``. Facts: GitHub's OpenAPI description, "Pulls" and the events ``pull_request`` and ``merge_group``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.sandbox.app import Action, Call, Reply, Route
from reconciler.sandbox.github import shapes
from reconciler.sandbox.github.commits import Commits
from reconciler.sandbox.github.deliveries import HookDeliveries
from reconciler.sandbox.github.records import StoredPull
from reconciler.sandbox.github.request import refuse
from reconciler.sandbox.github.state import GitHubState
from reconciler.sandbox.shapes import texts, whole

MAX_FILES = 3_000
"""A longer list of changed files is cut."""
_STATES = ("open", "closed", "all")
_SORTS = ("created", "updated", "popularity", "long-running")


class Pulls:
    """Handles ``…/pulls`` and ``…/collaborators``, and makes pull requests happen."""

    def __init__(self, app: GitHubState, commits: Commits, deliveries: HookDeliveries) -> None:
        self.app = app
        self._commits, self._deliveries = commits, deliveries

    def routes(self, prefix: str) -> Iterable[Route]:
        """Return the routes below a repository."""
        yield from (
            ("GET", f"{prefix}/pulls", self._list),
            ("GET", f"{prefix}/pulls/{{number}}", self._get),
            ("GET", f"{prefix}/pulls/{{number}}/files", self._files),
            ("GET", f"{prefix}/collaborators/{{login}}/permission", self._permission),
        )

    def actions(self) -> Mapping[str, Action]:
        """Pull requests as people make them, and groups of the merge queue."""
        return {
            "open_pull": self._open,
            "push_pull": self._push,
            "close_pull": self._close,
            "merge_pull": self._merge,
            "reopen_pull": self._reopen,
            "edit_pull": self._edit,
            "queue_pull": self._queue,
            "unqueue_pull": self._unqueue,
        }

    # the API

    def rows(self, name: str) -> list[StoredPull]:
        """Return the pull requests of a repository, oldest first."""
        return self.app.records["pulls"].setdefault(str(self.app.records["repos"][name]["id"]), [])

    def named(self, name: str, number: str) -> StoredPull:
        """Return a pull request; raises a 404."""
        row = next((row for row in self.rows(name) if str(row["number"]) == number), None)
        if row is None:
            raise refuse(404, "Not Found")
        return row

    def _list(self, call: Call, **where: str) -> Reply:
        target = self.app.target(call, where, write=False, permission="pull_requests")
        state, base = call.query.get("state", "open"), call.query.get("base", "")
        sort = call.query.get("sort", "created")
        if state not in _STATES or sort not in _SORTS or call.query.get("direction", "desc") not in ("asc", "desc"):
            raise refuse(422, "Validation Failed", errors=[{"resource": "PullRequest", "field": "state", "code": "invalid"}])
        rows = [
            row
            for row in reversed(self.rows(target.name))
            if state in ("all", row["state"]) and (not base or row["base_ref"] == base)
        ]
        if sort == "updated":
            rows.sort(key=lambda row: row["updated_at"], reverse=True)
        if call.query.get("direction", "desc") == "asc":
            rows.reverse()
        page, headers = self.app.page(call, rows)
        return Reply(200, [self._shown(target.name, row) for row in page], headers)

    def _get(self, call: Call, number: str, **where: str) -> Reply:
        target = self.app.target(call, where, write=False, permission="pull_requests")
        return Reply(200, self._shown(target.name, self.named(target.name, number), whole_=True))

    def _files(self, call: Call, number: str, **where: str) -> Reply:
        target = self.app.target(call, where, write=False, permission="pull_requests")
        row = self.named(target.name, number)
        page, headers = self.app.page(call, row["files"][:MAX_FILES])
        counts = {"additions": 1, "deletions": 0, "changes": 1}
        return Reply(200, [{"sha": row["head_sha"], "filename": name, "status": "modified", **counts} for name in page], headers)

    def _permission(self, call: Call, login: str, **where: str) -> Reply:
        target = self.app.target(call, where, write=False, permission="metadata")
        repo = self.app.records["repos"][target.name]
        known = {name.lower(): level for name, level in repo.get("collaborators", {}).items()}
        if login not in self.app.records["users"] and login.lower() not in known:
            raise refuse(404, f"{login} is not a user")
        level = known.get(login.lower(), "none" if repo["private"] else "read")
        return Reply(200, {"permission": level, "role_name": level, "user": self.app.user(login)})

    def _shown(self, name: str, row: StoredPull, *, whole_: bool = False) -> dict[str, object]:
        repo = self.app.shown(self.app.base_url, name)
        number, url = row["number"], f"{repo['url']}/pulls/{row['number']}"
        shown: dict[str, object] = {
            "url": url,
            "id": row["id"],
            "node_id": f"PR_{row['id']}",
            "html_url": f"{repo['html_url']}/pull/{number}",
            "issue_url": f"{repo['url']}/issues/{number}",
            "comments_url": f"{repo['url']}/issues/{number}/comments",
            "statuses_url": f"{repo['url']}/statuses/{row['head_sha']}",
            "number": number,
            "state": row["state"],
            "locked": False,
            "title": row["title"],
            "user": self.app.user(row["author"]),
            "body": None,
            "labels": [],
            "draft": row["draft"],
            "head": self._end(name, row["head_repo"], row["head_ref"], row["head_sha"]),
            "base": self._end(name, name, row["base_ref"], row["base_sha"]),
            "merge_commit_sha": row["merge_commit_sha"],
            "created_at": row["created_at"],
            "updated_at": row["updated_at"],
            "closed_at": row["closed_at"],
            "merged_at": row["merged_at"],
        }
        if whole_:
            merged_by = row["merged_by"]
            shown |= {
                "merged": row["merged_at"] is not None,
                "merged_by": self.app.user(merged_by) if merged_by else None,
                "mergeable": None,
                "commits": 1,
                "changed_files": len(row["files"]),
            }
        return shown

    def _end(self, base: str, full_name: str | None, ref: str, sha: str) -> dict[str, object]:
        owner = (full_name or base).partition("/")[0]
        repo: object = None
        if full_name in self.app.records["repos"]:
            repo = shapes.in_payload(self.app.shown(self.app.base_url, full_name))
        elif full_name is not None:
            repo = {"id": 999_000_001, "full_name": full_name, "fork": True, "private": False}
        return {"label": f"{owner}:{ref}", "ref": ref, "sha": sha, "user": self.app.user(owner), "repo": repo}

    # what people do

    def _open(self, options: Mapping[str, object]) -> object:
        """Open a pull request: ``repository``, ``head_sha``, and optionally title, author, head_repo, head_ref, base_ref, draft."""
        name = str(options["repository"])
        repo = self.app.records["repos"][name]
        number = whole(options.get("number", 0)) or max((row["number"] for row in self.rows(name)), default=0) + 1
        base = str(options.get("base_ref", repo["default_branch"]))
        fork = options.get("head_repo", name)
        now = shapes.stamp(self.app.clock())
        row: StoredPull = {
            "number": number,
            "id": self.app.next_id(),
            "title": str(options.get("title", "Change something")),
            "author": str(options.get("author", "sandbox-bot")),
            "state": "open",
            "draft": bool(options.get("draft", False)),
            "head_repo": None if fork is None else str(fork),
            "head_ref": str(options.get("head_ref", f"change-{number}")),
            "head_sha": str(options["head_sha"]),
            "base_ref": base,
            "base_sha": repo["branches"].get(base, shapes.NO_COMMIT),
            "files": texts(options.get("files", [])),
            "merged_at": None,
            "merged_by": None,
            "merge_commit_sha": None,
            "created_at": now,
            "updated_at": now,
            "closed_at": None,
        }
        repo["commits"].setdefault(row["head_sha"], {})
        self.rows(name).append(row)
        self._tell(name, row, "opened")
        return number

    def _push(self, options: Mapping[str, object]) -> object:
        """Push to the head of a pull request: ``repository``, ``number``, ``head_sha``."""
        name, row = self._of(options)
        before, row["head_sha"] = row["head_sha"], str(options["head_sha"])
        self.app.records["repos"][name]["commits"].setdefault(row["head_sha"], {})
        self._tell(name, row, "synchronize", before=before, after=row["head_sha"])
        return row["head_sha"]

    def _close(self, options: Mapping[str, object]) -> object:
        """Close a pull request without merging it."""
        name, row = self._of(options)
        row.update({"state": "closed", "closed_at": shapes.stamp(self.app.clock())})
        self._tell(name, row, "closed")
        return row["number"]

    def _reopen(self, options: Mapping[str, object]) -> object:
        """Open a closed pull request again."""
        name, row = self._of(options)
        if row["merged_at"] is not None:
            raise ValueError("a merged pull request cannot be opened again")
        row.update({"state": "open", "closed_at": None})
        self._tell(name, row, "reopened")
        return row["number"]

    def _edit(self, options: Mapping[str, object]) -> object:
        """Edit a pull request: ``title`` or ``base_ref``; with ``draft`` it becomes a draft, or ready for review."""
        name, row = self._of(options)
        if "draft" in options:
            row["draft"] = bool(options["draft"])
            self._tell(name, row, "converted_to_draft" if row["draft"] else "ready_for_review")
        changes: dict[str, object] = {}
        if "title" in options:
            changes["title"], row["title"] = {"from": row["title"]}, str(options["title"])
        if "base_ref" in options:
            changes["base"] = {"ref": {"from": row["base_ref"]}, "sha": {"from": row["base_sha"]}}
            row["base_ref"] = str(options["base_ref"])
            row["base_sha"] = self.app.records["repos"][name]["branches"].get(row["base_ref"], shapes.NO_COMMIT)
        if changes:
            self._tell(name, row, "edited", changes=changes)
        return row["number"]

    def _merge(self, options: Mapping[str, object]) -> object:
        """Merge a pull request: ``sha`` is the new commit of the base branch, ``by`` who pressed the button."""
        name, row = self._of(options)
        repo, sha, now = self.app.records["repos"][name], str(options["sha"]), shapes.stamp(self.app.clock())
        repo["branches"][row["base_ref"]] = sha
        repo["commits"].setdefault(sha, {})
        by = str(options.get("by", "sandbox-bot"))
        row.update({"state": "closed", "closed_at": now, "merged_at": now, "merged_by": by, "merge_commit_sha": sha})
        self._tell(name, row, "closed", sender=by)
        return sha

    def _queue(self, options: Mapping[str, object]) -> object:
        """Put a pull request into the merge queue: ``head_sha`` is the group's commit on top of ``base_sha``."""
        return self._tell_group(options, {"action": "checks_requested"})

    def _unqueue(self, options: Mapping[str, object]) -> object:
        """Take a commit out of the merge queue: ``reason`` is ``merged``, ``invalidated`` or ``dequeued``."""
        return self._tell_group(options, {"action": "destroyed", "reason": str(options.get("reason", "dequeued"))})

    def _tell_group(self, options: Mapping[str, object], action: Mapping[str, object]) -> object:
        name = str(options["repository"])
        repo, sha = self.app.records["repos"][name], str(options["head_sha"])
        repo["commits"].setdefault(sha, {})
        branch = repo["default_branch"]
        group = {
            "head_sha": sha,
            "head_ref": str(options.get("head_ref", f"refs/heads/gh-readonly-queue/{branch}/pr-1-{sha[:8]}")),
            "base_sha": str(options.get("base_sha", repo["branches"][branch])),
            "base_ref": f"refs/heads/{branch}",
            "head_commit": shapes.simple_commit(sha, self._commits.about(name, sha)),
        }
        return self._deliveries.publish(name, "merge_group", {**action, "merge_group": group})

    def _of(self, options: Mapping[str, object]) -> tuple[str, StoredPull]:
        name = str(options["repository"])
        row = self.named(name, str(options["number"]))
        row["updated_at"] = shapes.stamp(self.app.clock())
        return name, row

    def _tell(self, name: str, row: StoredPull, action: str, *, sender: str = "", **more: object) -> None:
        payload = {"action": action, "number": row["number"], "pull_request": self._shown(name, row, whole_=True), **more}
        self._deliveries.publish(name, "pull_request", payload, sender=sender or row["author"])
