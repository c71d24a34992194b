"""Commit statuses of the GitHub simulator: many a commit and context, the newest of each counts.

State: ``{"commit_statuses": {"<repository id>": [{"id", "sha", "context", "state", "target_url", "description", "creator",
"created_at"}, oldest first]}}``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.sandbox.app import Call, Reply, Route
from reconciler.sandbox.github.commits import Commits, is_sha
from reconciler.sandbox.github.deliveries import HookDeliveries
from reconciler.sandbox.github.records import StoredCommitStatus
from reconciler.sandbox.github.request import body_of, invalid, limited, link_of, refuse, text_of
from reconciler.sandbox.github.shapes import lite, stamp
from reconciler.sandbox.github.state import GitHubState, HookOwner
from reconciler.sandbox.shapes import picked

STATES = ("error", "failure", "pending", "success")
MOST = 1_000
"""Of one commit and context."""
MAX_DESCRIPTION = 140
MAX_NAME = 255


class Statuses:
    """Handles ``…/statuses/SHA`` and ``…/commits/REF/status`` and ``…/statuses``."""

    def __init__(self, app: GitHubState, commits: Commits, deliveries: HookDeliveries) -> None:
        self.app = app
        self._commits, self._deliveries = commits, deliveries

    def routes(self, prefix: str) -> Iterable[Route]:
        """Return the routes below a repository."""
        yield from (
            ("POST", f"{prefix}/statuses/{{sha}}", self._create),
            ("GET", f"{prefix}/commits/{{ref+}}/statuses", self._list),
            ("GET", f"{prefix}/commits/{{ref+}}/status", self._combined),
        )

    def _rows(self, target: HookOwner) -> list[StoredCommitStatus]:
        return self.app.records["commit_statuses"].setdefault(str(target.repository_id), [])

    def latest(self, target: HookOwner, sha: str) -> dict[str, StoredCommitStatus]:
        """Return the newest status of each context of a commit; a context's case does not matter."""
        return {row["context"].lower(): row for row in self._rows(target) if row["sha"] == sha}

    def _create(self, call: Call, sha: str, **where: str) -> Reply:
        target = self.app.target(call, where, write=True, permission="statuses")
        body = body_of(call)
        match = self._commits.find_any(target.name, sha)
        if match is None or match.sha != sha:
            raise refuse(422, f"No commit found for SHA: {sha}")
        state, context = text_of(body, "state"), limited("Status", body, "context", MAX_NAME, "default")
        if state not in STATES:
            raise invalid("Status", code="custom", field="state", message="state is not included in the list")
        given = body.get("description")
        description = None if given is None else limited("Status", body, "description", MAX_DESCRIPTION)
        link = link_of("Status", body, "target_url") if body.get("target_url") is not None else None
        same = [row for row in self._rows(target) if row["sha"] == sha and row["context"].lower() == context.lower()]
        if len(same) >= MOST:
            message = "This SHA and context has reached the maximum number of statuses."
            raise invalid("Status", code="custom", message=message)
        row: StoredCommitStatus = {
            "id": self.app.next_id(),
            "sha": sha,
            "context": context,
            "state": state,
            "target_url": link,
            "description": description,
            "creator": self.app.login,
            "created_at": stamp(self.app.clock()),
        }
        self._rows(target).append(row)
        shown = self._shown(target, row)
        self._send(target, row)
        return Reply(201, shown, {"location": str(shown["url"])})

    def _send(self, target: HookOwner, row: StoredCommitStatus) -> None:
        commit = self._commits.shown(target.name, row["sha"])
        branches = [
            {"name": name, "commit": {"sha": row["sha"], "url": commit["url"]}, "protected": False}
            for name in self._commits.branches_at(target.name, row["sha"])
        ]
        copied = ("id", "sha", "context", "state", "target_url", "description", "created_at")
        payload = {
            **picked(row, copied),
            "name": target.name,
            "avatar_url": self.app.user(row["creator"])["avatar_url"],
            "commit": commit,
            "branches": branches,
            "updated_at": row["created_at"],
        }
        self._deliveries.publish(target.name, "status", payload, sender=row["creator"])

    def _found(self, call: Call, ref: str, where: Mapping[str, str]) -> tuple[HookOwner, str]:
        target = self.app.target(call, where, write=False, permission="statuses")
        match = self._commits.find_any(target.name, ref)
        if match is None and not is_sha(ref):
            raise refuse(404, "Not Found")
        return target, match.sha if match is not None else ref  # a SHA that is no commit has no statuses

    def _list(self, call: Call, ref: str, **where: str) -> Reply:
        target, sha = self._found(call, ref, where)
        rows = [row for row in reversed(self._rows(target)) if row["sha"] == sha]
        page, headers = self.app.page(call, rows)
        return Reply(200, [self._shown(target, row) for row in page], headers)

    def _combined(self, call: Call, ref: str, **where: str) -> Reply:
        target, sha = self._found(call, ref, where)
        latest = list(self.latest(target, sha).values())
        page, headers = self.app.page(call, latest)
        url = f"{self.app.base_url}{target.path}/commits/{sha}"
        body = {
            "state": combined(row["state"] for row in latest),
            "statuses": [_simple(self._shown(target, row)) for row in page],
            "sha": sha,
            "total_count": len(latest),
            "repository": lite(self.app.shown(self.app.base_url, target.name)),
            "commit_url": url,
            "url": f"{url}/status",
        }
        return Reply(200, body, headers)

    def _shown(self, target: HookOwner, row: StoredCommitStatus) -> dict[str, object]:
        creator = self.app.user(row["creator"])
        return {
            "url": f"{self.app.base_url}{target.path}/statuses/{row['sha']}",
            "avatar_url": creator["avatar_url"],
            "id": row["id"],
            "node_id": f"SC_{row['id']}",
            **picked(row, ("state", "description", "target_url", "context", "created_at")),
            "updated_at": row["created_at"],
            "creator": creator,
        }


def combined(states: Iterable[str]) -> str:
    """Return the state of a commit: any failure or error fails it; none at all, or one that is pending, leaves it pending."""
    seen = set(states)
    if seen & {"error", "failure"}:
        return "failure"
    return "success" if seen == {"success"} else "pending"


def _simple(shown: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in shown.items() if key != "creator"}
