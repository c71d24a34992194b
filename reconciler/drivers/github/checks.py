"""Writes check runs, commit statuses and comments of reviews to GitHub.

Facts: GitHub's OpenAPI description of "Checks", "Statuses" and "Issues", and docs, "Using the REST API to interact with checks". A
check run can be changed only by the App that made it, and takes 50 annotations a request, which add up. A comment has at most 65,536
characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec

from reconciler.drivers.connection import Api
from reconciler.drivers.github import api as names
from reconciler.drivers.github.app_records import GitHubApp
from reconciler.drivers.github.reports import description_of, link_of, name_of
from reconciler.drivers.http.paging import paginate
from reconciler.drivers.wire import find
from reconciler.model.errors import NotFound, OutcomeUnknown
from reconciler.model.reviews import Annotation, CheckReport, CommitState, PullComment

PER_REQUEST = 50
MAX_ANNOTATIONS = 500
MAX_TEXT = 65_535


class CheckApp(msgspec.Struct, frozen=True):
    """The App that made a check run or a comment."""

    id: int = 0


class CheckOutput(msgspec.Struct, frozen=True):
    annotations_count: int = 0


class CheckRun(msgspec.Struct, frozen=True):
    id: int
    external_id: str | None = None
    head_sha: str = ""
    app: CheckApp | None = None
    output: CheckOutput | None = None


class CommentAuthor(msgspec.Struct, frozen=True):
    login: str | None = None


class IssueComment(msgspec.Struct, frozen=True):
    id: int
    body: str | None = None
    user: CommentAuthor | None = None
    performed_via_github_app: CheckApp | None = None


@dataclass(frozen=True, slots=True)
class _Author:
    """The login that comments show, and the id of the App if it is one; no account of a person ends in ``[bot]``."""

    login: str = ""
    app_id: int = 0


class ContextStatus(msgspec.Struct, frozen=True):
    state: str = ""
    context: str | None = None
    description: str | None = None
    target_url: str | None = None


# -- check runs -----------------------------------------------------------------------------------------------------------


async def write_check(api: Api, check: CheckReport, known: str, root: str) -> str:
    """Create or update the check run of a commit; the conclusion comes with the last annotations. Returns its id."""
    run = await _run_of(api, check, known, root)
    sent = run.output.annotations_count if run is not None and run.output is not None else 0
    rows = [_annotation(row) for row in check.annotations[:MAX_ANNOTATIONS][sent:]]
    pages = [rows[at : at + PER_REQUEST] for at in range(0, len(rows), PER_REQUEST)] or [[]]
    number = str(run.id) if run is not None else ""
    for page in pages:
        body = _body(check, page, last=page is pages[-1])
        if number:
            await api.request("PATCH", f"{root}/check-runs/{number}", json=body)
            continue
        path = f"{root}/check-runs"
        answer = await api.request("POST", path, json={**body, "head_sha": check.head})
        made = find(answer.json(), int, "id")
        if made is None:
            raise OutcomeUnknown(f"POST {path}: a check run was created, and the answer has no id", request=f"POST {path}")
        number = str(made)
    return number


async def _run_of(api: Api, check: CheckReport, known: str, root: str) -> CheckRun | None:
    """Return our check run of the commit: by its id, or by name and marker; the oldest if a lost answer has made two."""
    if known:
        try:
            run = await names.read(api, f"{root}/check-runs/{known}", CheckRun)
        except NotFound:
            pass
        else:
            if run.head_sha in ("", check.head):
                return run
    path = f"{root}/commits/{check.head}/check-runs"
    ours: list[CheckRun] = []
    async for page in paginate(api, path, params={"check_name": check.name, "filter": "all", "per_page": names.PER_PAGE}):
        rows = names.decoded(page, list[CheckRun], path, "check_runs")
        ours += [row for row in rows if row.external_id == check.marker and row.app is not None]
    if ours:
        own = await names.read(api, "/app", GitHubApp)
        ours = [row for row in ours if row.app is not None and row.app.id == own.id]
    return min(ours, key=lambda row: row.id, default=None)


def _body(check: CheckReport, annotations: list[dict[str, Any]], *, last: bool) -> dict[str, Any]:
    output: dict[str, Any] = {"title": name_of(check.title), "summary": check.summary[:MAX_TEXT]}
    if check.text:
        output["text"] = check.text[:MAX_TEXT]
    if annotations:
        output["annotations"] = annotations
    body: dict[str, Any] = {"name": check.name, "external_id": check.marker, "status": "in_progress", "output": output}
    if link_of(check.details_url):
        body["details_url"] = check.details_url
    if last and check.conclusion is not None:
        buttons = [{"label": b.label, "description": b.description, "identifier": b.identifier} for b in check.buttons]
        body |= {"status": "completed", "conclusion": check.conclusion.value, "actions": buttons}
    return body


def _annotation(row: Annotation) -> dict[str, Any]:
    line = max(row.line, 1)
    level = "failure" if row.is_error else "warning"
    return {
        "path": row.path,
        "start_line": line,
        "end_line": line,
        "annotation_level": level,
        "title": name_of(row.title),
        "message": row.message[:4_000],
    }


# -- commit statuses ------------------------------------------------------------------------------------------------------


async def write_status(api: Api, status: CommitState, root: str) -> None:
    """Add a status, unless the newest one of its context says the same: a history takes 1,000."""
    context, path = name_of(status.context), f"{root}/commits/{quote(status.head, safe='')}/statuses"
    body = {"state": status.state, "context": context, "description": description_of(status.description)}
    if link_of(status.url):
        body["target_url"] = status.url
    answer = await api.request("GET", path, params={"per_page": names.PER_PAGE})
    rows = names.decoded(answer, list[ContextStatus], path)
    newest = next((row for row in rows if (row.context or "").lower() == context.lower()), None)
    if newest is not None and (newest.state, newest.description) == (body["state"], body["description"]):
        return
    await api.request("POST", f"{root}/statuses/{status.head}", json=body)


# -- the comment ----------------------------------------------------------------------------------------------------------


async def write_comment(api: Api, comment: PullComment, known: str, root: str, *, create: bool) -> str:
    """Edit our comment, or create it. Returns its id; empty if there is none and none is created."""
    number = known
    if number and await _edited(api, comment, number, root):
        return number
    number = await _comment_of(api, comment, root)
    if number and await _edited(api, comment, number, root):
        return number
    if not create:
        return ""
    path = f"{root}/issues/{comment.number}/comments"
    answer = await api.request("POST", path, json={"body": comment.body})
    made = find(answer.json(), int, "id")
    if made is None:
        raise OutcomeUnknown(f"POST {path}: a comment was created, and the answer has no id", request=f"POST {path}")
    return str(made)


async def _edited(api: Api, comment: PullComment, number: str, root: str) -> bool:
    """Whether the comment exists and now has this body; one that has it already is not written."""
    path = f"{root}/issues/comments/{number}"
    try:
        present = await names.read(api, path, IssueComment)
        if present.body != comment.body:
            await api.request("PATCH", path, json={"body": comment.body})
    except NotFound:
        return False
    return True


async def _comment_of(api: Api, comment: PullComment, root: str) -> str:
    """Return the id of the comment that we wrote with this marker; a marker in a comment by another author does not count."""
    own = _Author()
    async for rows, _ in names.typed_pages(api, f"{root}/issues/{comment.number}/comments", list[IssueComment]):
        for row in rows:
            if not (row.body or "").startswith(comment.marker):
                continue
            own = own if own.login else await _author(api)
            via, user = row.performed_via_github_app, row.user
            if via.id == own.app_id if via is not None else user is not None and user.login == own.login:
                return str(row.id)
    return ""


async def _author(api: Api) -> _Author:
    """Return who our comments are by."""
    if api.connection.auth.get("use") == "github-app":
        app = await names.read(api, "/app", GitHubApp)
        return _Author(f"{app.slug}[bot]", app.id)
    return _Author(find((await api.request("GET", "/user")).json(), str, "login") or "?")
