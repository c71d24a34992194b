"""A code host with pull requests, a real Git server beside it, and the real daemon that reviews them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.flow.test_app_move import APP, INSTALLATION, AppWorld
from tests.support.githttp import GitHttpServer
from tests.support.gitrepo import GitRepo

REPOSITORY = "acme/payments"
PERMISSIONS = {
    "contents": "read",
    "repository_hooks": "write",
    "checks": "write",
    "pull_requests": "write",
    "statuses": "write",
    "merge_queues": "read",
    "metadata": "read",
}
EVENTS = ["push", "repository", "pull_request", "merge_group", "check_run", "check_suite"]
REVIEW = "{integration: github, interval: 60s, timeout: 60s}"


class ReviewWorld(AppWorld):
    """`AppWorld` whose manifests are in `REPOSITORY`; pull requests are refs of the same Git server."""

    def __init__(self, folder: Path, *, app: bool = True, review: str = REVIEW) -> None:
        super().__init__(folder)
        self.git = GitRepo(folder / "git" / "acme" / "payments.git")
        self.server = self._stack.enter_context(GitHttpServer(folder / "git"))
        self.review = review
        self.github.put_state({"users": {"mallory": {}, "ada": {}, "grace": {}}})
        self.github.put_state({"repos": {REPOSITORY: {"collaborators": {"ada": "write", "grace": "admin", "mallory": "read"}}}})
        if app:
            self.use_app()
        grants = {"permissions": PERMISSIONS, "events": EVENTS}
        self.github.put_state({"apps": {str(APP): grants}, "installations": {str(INSTALLATION): grants}})
        self.write("hooks.yaml", self.integration("github").replace("name: github}\nspec", "name: hooks}\nspec"))
        self.source("web")
        self.settings()
        self.publish()

    def settings(self, **more: str) -> None:
        self.configure(source=self.server.url("acme/payments.git"), **({"review": self.review} | more))

    # -- Git ----------------------------------------------------------------------------------------------------------

    def files(self) -> dict[str, str | bytes | None]:
        return {path.name: path.read_text() for path in sorted(self.manifests.iterdir())}

    def publish(self, **changes: str | None) -> str:
        """Commit the manifests to the watched branch; the code host sees the commit."""
        sha = self.git.commit({**self.files(), **{f"{name}.yaml": text for name, text in changes.items()}})
        self.github.put_state({"repos": {REPOSITORY: {"branches": {"main": sha}, "commits": {sha: {}}}}})
        return sha

    def change(self, number: int, files: dict[str, str | bytes | None], *, on: str = "") -> str:
        """Commit ``files`` on top of the watched branch (or of ``on``) as the head of a pull request; return the commit."""
        branch = f"topic-{number}"
        self.git.git("update-ref", f"refs/heads/{branch}", on or self.git.head)
        sha = self.git.commit(files, f"change for {number}", branch=branch)
        self.git.git("update-ref", f"refs/pull/{number}/head", sha)
        self.git.git("update-ref", "-d", f"refs/heads/{branch}")
        return sha

    def open_pull(self, files: dict[str, str | bytes | None], *, fork: bool = False, **more: Any) -> tuple[int, str]:
        """Open a pull request; return its number and head."""
        number = max((row["number"] for row in self.pulls()), default=0) + 1
        sha = self.change(number, files)
        options = {"author": "mallory", **({"head_repo": "mallory/payments"} if fork else {}), **more}
        self.github.do("open_pull", repository=REPOSITORY, head_sha=sha, number=number, **options)
        return number, sha

    def push_pull(self, number: int, files: dict[str, str | bytes | None]) -> str:
        sha = self.change(number, files)
        self.github.do("push_pull", repository=REPOSITORY, number=number, head_sha=sha)
        return sha

    def merge(self, number: int, by: str = "ada") -> str:
        """Merge a pull request as a fast-forward or a merge commit."""
        head = self.git.git("rev-parse", f"refs/pull/{number}/head")
        tree = self.git.git("merge-tree", "--write-tree", self.git.head, head).splitlines()[0]
        sha = self.git.git("commit-tree", tree, "-p", self.git.head, "-p", head, "-m", f"Merge #{number}")
        self.git.git("update-ref", "refs/heads/main", sha)
        self.github.do("merge_pull", repository=REPOSITORY, number=number, sha=sha, by=by)
        return sha

    # -- what the code host has ---------------------------------------------------------------------------------------

    def _rows(self, group: str) -> list[dict[str, Any]]:
        state = self.github.state()
        rows: list[dict[str, Any]] = state[group].get(str(state["repos"][REPOSITORY]["id"]), [])
        return rows

    def pulls(self) -> list[dict[str, Any]]:
        return self._rows("pulls")

    def checks(self, sha: str = "") -> list[dict[str, Any]]:
        return [row for row in self._rows("checks") if sha in ("", row["head_sha"])]

    def comments(self, number: int = 0) -> list[dict[str, Any]]:
        return [row for row in self._rows("comments") if number in (0, row["number"])]

    def statuses(self, sha: str, context: str = "reconciler/sync") -> list[tuple[str, str]]:
        rows = [row for row in self._rows("commit_statuses") if (row["sha"], row["context"]) == (sha, context)]
        return [(row["state"], row["description"]) for row in rows]

    def conclusion(self, sha: str) -> str:
        """The conclusion of the one check of a commit; empty while it is open."""
        rows = self.checks(sha)
        assert len(rows) <= 1, rows
        return (rows[0]["conclusion"] or "") if rows else ""

    def reviewed(self, sha: str, seconds: float = 60) -> str:
        return str(self.wait(lambda: self.conclusion(sha), f"the check of {sha}", seconds))

    def unauthorized(self) -> list[dict[str, Any]]:
        return [row for row in self.requests() if row["status"] in (401, 403)]
