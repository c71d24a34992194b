"""Comments of pull requests in the GitHub simulator, below ``…/issues`` as at GitHub.

State: ``{"comments": {"<repository id>": [{"id", "number", "author", "app_id", "body", "created_at", "updated_at"}]}}``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.sandbox.app import Action, Call, Reply, Route
from reconciler.sandbox.github.deliveries import HookDeliveries
from reconciler.sandbox.github.pulls import Pulls
from reconciler.sandbox.github.records import StoredComment
from reconciler.sandbox.github.request import body_of, invalid, refuse, text_of
from reconciler.sandbox.github.shapes import stamp
from reconciler.sandbox.github.state import GitHubState, HookOwner
from reconciler.sandbox.shapes import picked

MAX_BODY = 65_536


class Comments:
    """Handles ``…/issues/N/comments`` and ``…/issues/comments/ID``."""

    def __init__(self, app: GitHubState, pulls: Pulls, deliveries: HookDeliveries) -> None:
        self.app = app
        self._pulls, self._deliveries = pulls, deliveries

    def routes(self, prefix: str) -> Iterable[Route]:
        """Return the routes below a repository."""
        yield from (
            ("GET", f"{prefix}/issues/{{number}}/comments", self._list),
            ("POST", f"{prefix}/issues/{{number}}/comments", self._create),
            ("GET", f"{prefix}/issues/comments/{{comment_id}}", self._get),
            ("PATCH", f"{prefix}/issues/comments/{{comment_id}}", self._edit),
            ("DELETE", f"{prefix}/issues/comments/{{comment_id}}", self._delete),
        )

    def actions(self) -> Mapping[str, Action]:
        """Comments of people: ``write_comment``, ``edit_comment`` and ``delete_comment``."""
        return {"write_comment": self._write_by, "edit_comment": self._edit_by, "delete_comment": self._delete_by}

    def _rows(self, target: HookOwner) -> list[StoredComment]:
        return self.app.records["comments"].setdefault(str(target.repository_id), [])

    def _named(self, target: HookOwner, comment_id: str) -> StoredComment:
        row = next((row for row in self._rows(target) if str(row["id"]) == comment_id), None)
        if row is None:
            raise refuse(404, "Not Found")
        return row

    def _list(self, call: Call, number: str, **where: str) -> Reply:
        target = self.app.target(call, where, write=False, permission="pull_requests")
        self._pulls.named(target.name, number)
        rows = [row for row in self._rows(target) if str(row["number"]) == number]
        page, headers = self.app.page(call, rows)
        return Reply(200, [self._shown(target, row) for row in page], headers)

    def _get(self, call: Call, comment_id: str, **where: str) -> Reply:
        target = self.app.target(call, where, write=False, permission="pull_requests")
        return Reply(200, self._shown(target, self._named(target, comment_id)))

    def _create(self, call: Call, number: str, **where: str) -> Reply:
        target = self.app.target(call, where, write=True, permission="pull_requests")
        pull = self._pulls.named(target.name, number)
        now, token = stamp(self.app.clock()), self.app.token
        installation = self.app.records["installations"].get(str(token["installation_id"])) if token is not None else None
        row: StoredComment = {
            "id": self.app.next_id(),
            "number": pull["number"],
            "author": self.app.login,
            "app_id": installation["app_id"] if installation is not None else 0,
            "body": _checked(text_of(body_of(call), "body")),
            "created_at": now,
            "updated_at": now,
        }
        self._rows(target).append(row)
        shown = self._shown(target, row)
        self._deliveries.publish(target.name, "issue_comment", {"action": "created", "comment": shown}, sender=row["author"])
        return Reply(201, shown)

    def _edit(self, call: Call, comment_id: str, **where: str) -> Reply:
        target = self.app.target(call, where, write=True, permission="pull_requests")
        row = self._named(target, comment_id)
        row.update({"body": _checked(text_of(body_of(call), "body")), "updated_at": stamp(self.app.clock())})
        return Reply(200, self._shown(target, row))

    def _delete(self, call: Call, comment_id: str, **where: str) -> Reply:
        target = self.app.target(call, where, write=True, permission="pull_requests")
        self._rows(target).remove(self._named(target, comment_id))
        return Reply(204)

    def _shown(self, target: HookOwner, row: StoredComment) -> dict[str, object]:
        repo = self.app.shown(self.app.base_url, target.name)
        app = self.app.records["apps"].get(str(row["app_id"]))
        by = {**picked(app, ("id", "slug", "client_id", "name"))} if app is not None else None
        return {
            **picked(row, ("id", "body", "created_at", "updated_at")),
            "node_id": f"IC_{row['id']}",
            "url": f"{repo['url']}/issues/comments/{row['id']}",
            "html_url": f"{repo['html_url']}/pull/{row['number']}#issuecomment-{row['id']}",
            "issue_url": f"{repo['url']}/issues/{row['number']}",
            "user": self.app.user(row["author"]),
            "author_association": "NONE",
            "performed_via_github_app": by,
        }

    # what people do

    def _of(self, options: Mapping[str, object]) -> tuple[list[StoredComment], StoredComment]:
        rows = self.app.records["comments"].setdefault(str(self.app.records["repos"][str(options["repository"])]["id"]), [])
        return rows, next(row for row in rows if row["id"] == options["id"])

    def _write_by(self, options: Mapping[str, object]) -> object:
        """Comment on a pull request: ``repository``, ``number``, ``body``, ``sender``."""
        name, now = str(options["repository"]), stamp(self.app.clock())
        row: StoredComment = {
            "id": self.app.next_id(),
            "number": self._pulls.named(name, str(options["number"]))["number"],
            "author": str(options.get("sender", "sandbox-bot")),
            "app_id": 0,
            "body": _checked(str(options["body"])),
            "created_at": now,
            "updated_at": now,
        }
        self.app.records["comments"].setdefault(str(self.app.records["repos"][name]["id"]), []).append(row)
        return row["id"]

    def _edit_by(self, options: Mapping[str, object]) -> object:
        """Edit a comment, also that of an App, as people with write access may: ``repository``, ``id``, ``body``."""
        _, row = self._of(options)
        row.update({"body": _checked(str(options["body"])), "updated_at": stamp(self.app.clock())})
        return row["id"]

    def _delete_by(self, options: Mapping[str, object]) -> object:
        """Delete a comment: ``repository``, ``id``."""
        rows, row = self._of(options)
        rows.remove(row)
        return row["id"]


def _checked(body: str) -> str:
    """Return the body of a comment; raises GitHub's 422 for one that is empty or too long."""
    if not body.strip():
        raise invalid("IssueComment", code="unprocessable", field="data", message="Body cannot be blank")
    if len(body) > MAX_BODY:
        message = f"Body is too long (maximum is {MAX_BODY} characters)"
        raise invalid("IssueComment", code="unprocessable", field="data", message=message)
    return body
