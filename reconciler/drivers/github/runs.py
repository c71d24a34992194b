"""Workflows and their runs at GitHub: complete lists, the run that carries our id, its state. Facts: GitHub's OpenAPI description
of Actions, and its documentation of ``run-name`` and of search by date.

A run does not show its inputs. Its title carries the correlation id, if the workflow puts the id there::

    run-name: Deploy ${{ inputs.reconciler_execution_id }}

(``${{ github.event.client_payload.reconciler_execution_id }}`` for a ``repository_dispatch``).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import TypeVar
from urllib.parse import quote

import msgspec

from reconciler.drivers.connection import Api
from reconciler.drivers.execution import LOOK_BACK_S
from reconciler.drivers.github.api import PER_PAGE, GitHubUser, Moment, decoded, epoch_of, read, stamp_of
from reconciler.drivers.http.clock import date_of
from reconciler.drivers.http.paging import ListBound, paginate
from reconciler.drivers.wire import matches
from reconciler.model.errors import (
    Ambiguous,
    NotFound,
    PermissionDenied,
    ProviderProtocolError,
    ProviderUnavailable,
    ValidationFailed,
)
from reconciler.model.executions import Result, Run, RunIntent, RunReport, RunStatus
from reconciler.model.values import JsonValue

SEARCH_CAP = 1_000
"""A search with filters returns no more results than this."""
NOT_BEFORE_S = 5.0
"""A run without our id that began longer than this before the intent is not ours."""
DOUBT_S = 20.0
"""How long after the intent a run that carries our id may still appear in lists, before others count as candidates."""
_SHOWN = 20
_MARK = re.compile(r"rcl-[a-z0-9-]{28}")
_STATUS = {
    "queued": RunStatus.QUEUED,
    "requested": RunStatus.QUEUED,
    "pending": RunStatus.QUEUED,  # waits for another run of its concurrency group
    "waiting": RunStatus.WAITING,
    "completed": RunStatus.FINISHED,
}
_RESULT = {
    "success": Result.PASSED,
    "neutral": Result.PASSED,
    "skipped": Result.PASSED,
    "cancelled": Result.CANCELLED,
}


class RunRepository(msgspec.Struct, frozen=True):
    id: int | None = None
    full_name: str | None = None


class WorkflowRun(msgspec.Struct, frozen=True):
    """A run; GitHub leaves fields out, or null, while they have no value."""

    id: int
    status: str | None = None
    conclusion: str | None = None
    name: str | None = None
    display_title: str | None = None
    workflow_id: int | None = None
    html_url: str | None = None
    created_at: Moment = None
    run_attempt: int | None = None
    actor: GitHubUser | None = None
    repository: RunRepository | None = None

    @property
    def title(self) -> str:
        """Title and name, either of which may carry a correlation id."""
        return f"{self.display_title or ''} {self.name or ''}"


class WorkflowFile(msgspec.Struct, frozen=True):
    """A workflow. A server that shows no state shows only active ones."""

    id: int
    name: str | None = None
    path: str | None = None
    state: str | None = "active"

    @property
    def file(self) -> str:
        """The name of its file, without the folder."""
        return (self.path or "").rpartition("/")[2]

    @property
    def active(self) -> bool:
        """Whether it may run: lists keep workflows that were deleted or disabled."""
        return self.state == "active"


class WorkflowSelector(msgspec.Struct, frozen=True):
    """``workflow: {id: …}`` or ``workflow: {name: …}`` in a manifest."""

    id: int | str | None = None
    name: str | None = None


Row = TypeVar("Row")


# -- lists ----------------------------------------------------------------------------------------------------------------


async def listed(api: Api, path: str, kind: type[list[Row]], params: Mapping[str, str | int], name: str = "") -> list[Row]:
    """Return the rows of all pages; raises `ProviderProtocolError` for another form."""
    return (await dated(api, path, kind, params, name))[0]


async def dated(
    api: Api, path: str, kind: type[list[Row]], params: Mapping[str, str | int], name: str = ""
) -> tuple[list[Row], float]:
    """Return the rows of all pages, and the time of the list by GitHub's clock (by ours if its answers have no date).

    A page is an object, with the rows below ``name`` or else the last part of ``path``.
    """
    rows: list[Row] = []
    at: float | None = None
    bound = ListBound(path)
    async for answer in paginate(api, path, params={**params, "per_page": PER_PAGE}, bound=bound):
        page = decoded(answer, kind, path, name or path.rpartition("/")[2])
        bound.count(len(page))
        rows += page
        at = date_of(answer.headers) or at
    return rows, time.time() if at is None else at


async def created_since(api: Api, path: str, event: str, since: float) -> tuple[list[WorkflowRun], float]:
    """Return every run of ``event`` created at ``since`` or later, and the time of the list, both by GitHub's clock.

    A search that stops at `SEARCH_CAP` goes on with older runs: an incomplete list proves no absence.
    """
    runs: dict[int, WorkflowRun] = {}
    oldest, until = stamp_of(since), ""
    while True:
        span = f"{oldest}..{until}" if until else f">={oldest}"
        rows, seen_at = await dated(api, path, list[WorkflowRun], {"event": event, "created": span}, "workflow_runs")
        runs |= {row.id: row for row in rows}
        if len(rows) < SEARCH_CAP:
            return list(runs.values()), seen_at
        before, until = until, stamp_of(min(epoch_of(row.created_at) or since for row in rows))
        if until == before:
            raise ProviderProtocolError(f"GET {path}: too many runs in one second to list them all", request=f"GET {path}")


# -- the run of an execution ----------------------------------------------------------------------------------------------


async def carrying(api: Api, path: str, event: str, intent: RunIntent) -> WorkflowRun | None:
    """Return the run whose title or name has the correlation id; the first, if one workflow has several.

    Raises `Ambiguous` if runs of several workflows have it, or if runs without any id may be ours, and `ProviderUnavailable`
    while it is too early to decide that.
    """
    rows, seen_at = await created_since(api, path, event, intent.intended_at - LOOK_BACK_S)
    ours = [row for row in rows if intent.correlation in row.title]
    if len({row.workflow_id for row in ours}) > 1:
        hint = "Put the id into the `run-name` of one workflow only."
        raise _ambiguous(ours, "several workflows took the execution's id", hint)
    if ours:
        return min(ours, key=lambda row: row.id)
    candidates = [row for row in rows if not _MARK.search(row.title) and _is_after(row, intent.intended_at - NOT_BEFORE_S)]
    candidates = await _by_us(api, candidates)
    if not candidates:
        return None
    if seen_at - intent.intended_at < DOUBT_S:
        message = f"GET {path}: a run that carries the execution's id may still appear"
        raise ProviderUnavailable(message, request=f"GET {path}")
    hint = "Put the id into the workflow's `run-name`: Deploy ${{ inputs.reconciler_execution_id }}"
    raise _ambiguous(candidates, "runs were started meanwhile, and any of them may be this execution's", hint)


async def _by_us(api: Api, rows: Sequence[WorkflowRun]) -> list[WorkflowRun]:
    """Return the rows whose actor is our own user; all of them if that user cannot be read (an App's token)."""
    if not rows:
        return []
    try:
        user = await read(api, "/user", GitHubUser)
    except PermissionDenied:
        return list(rows)
    login = (user.login or "").lower()
    return [row for row in rows if not login or _actor(row) in ("", login)]


def _actor(row: WorkflowRun) -> str:
    return ((row.actor.login if row.actor is not None else None) or "").lower()


def _is_after(row: WorkflowRun, since: float) -> bool:
    at = epoch_of(row.created_at)
    return at is None or at >= since


def _ambiguous(rows: Sequence[WorkflowRun], what: str, hint: str) -> Ambiguous:
    shown = ", ".join(link_of(row.html_url) or str(row.id) for row in rows[:5])
    return Ambiguous(f"{what}: {shown}" + (f" and {len(rows) - 5} more" if len(rows) > 5 else ""), hint=hint)


# -- the state of a run ---------------------------------------------------------------------------------------------------


def run_of(row: WorkflowRun, repository: str) -> Run:
    """Return a run as the engine keeps it; ``repository`` is its repository where the row does not name one."""
    shown = row.repository or RunRepository()
    detail = {"repository": shown.full_name.lower() if shown.full_name is not None else repository}
    if shown.id is not None:
        detail["repository_id"] = str(shown.id)
    return Run(str(row.id), link_of(row.html_url), max(row.run_attempt or 1, 1), detail)


def report_of(row: WorkflowRun, repository: str) -> RunReport:
    """Return the state of a run, with its newest attempt. Raises `ProviderProtocolError` if status and conclusion disagree."""
    run, conclusion = run_of(row, repository), row.conclusion or None
    if row.status is None or (row.status == "completed") != (conclusion is not None):
        message = f"GitHub shows run {run.external_id} as {row.status!r} with the conclusion {conclusion!r}"
        raise ProviderProtocolError(message)
    if conclusion is None:
        status = _STATUS.get(row.status, RunStatus.RUNNING)
        message = f"waits at GitHub for an approval or a rule: {run.url}" if status is RunStatus.WAITING else ""
        return RunReport(run, status, message=message)
    result = _RESULT.get(conclusion, Result.FAILED)
    return RunReport(run, RunStatus.FINISHED, result, conclusion, message=f"{conclusion}: {run.url}")


def link_of(url: str | None) -> str:
    """Return the URL of a run's page; empty where GitHub shows no such URL."""
    return url if url is not None and url.startswith(("https://", "http://")) else ""


# -- the workflow of a manifest -------------------------------------------------------------------------------------------


async def workflow_key(api: Api, root: str, workflow: JsonValue, *, runnable: bool = True) -> str:
    """Return the path segment of ``workflow``: its id, or its file where no other workflow has the same file.

    A number, or ``{id: …}``, is an id; a text that ends in ``.yml`` or ``.yaml`` is a file; any other text, or ``{name: …}``, is a
    name. Of several the active one is chosen. With ``runnable`` an inactive one is refused. Raises `ValidationFailed`.
    """
    selector = matches(workflow, WorkflowSelector)
    number = matches(workflow if selector is None else selector.id, int)
    if number is not None:
        return str(number)
    text = workflow_name(workflow).strip()
    if selector is None and text.endswith((".yml", ".yaml")):
        return await _by_file(api, root, text, runnable=runnable)
    rows = await listed(api, f"{root}/actions/workflows", list[WorkflowFile], {})
    named = [row for row in rows if row.name == text]
    stems = [] if selector is not None else [row for row in rows if row.file.partition(".")[0] == text]
    candidates = _active(named) or _active(stems) or named or stems
    if not candidates:
        raise ValidationFailed(f"there is no workflow '{text}': {_shown(rows) or 'none'}", hint="Name the workflow's file.")
    return str(_chosen(candidates, text, runnable=runnable).id)


def workflow_name(workflow: JsonValue) -> str:
    """Return ``workflow`` of a manifest as text: the name, file or id."""
    selector = matches(workflow, WorkflowSelector)
    return str(workflow or "") if selector is None else str(selector.name or selector.id or "")


async def _by_file(api: Api, root: str, text: str, *, runnable: bool) -> str:
    file = text.rpartition("/")[2]
    try:
        rows = await listed(api, f"{root}/actions/workflows", list[WorkflowFile], {})
    except (NotFound, PermissionDenied):
        rows = []  # the request that uses the workflow reports a missing permission
    candidates = [row for row in rows if row.file == file]
    if len(candidates) > 1 or (candidates and not _active(candidates)):
        return str(_chosen(candidates, text, runnable=runnable).id)
    return quote(file, safe="")


def _chosen(candidates: Sequence[WorkflowFile], text: str, *, runnable: bool) -> WorkflowFile:
    """Return the active candidate, or without ``runnable`` the only one."""
    active = _active(candidates)
    if len(active) > 1 or (not active and not runnable and len(candidates) > 1):
        raise ValidationFailed(
            f"there is more than one workflow '{text}': {_shown(active or candidates)}",
            hint="Name the workflow's file, or give its `id`.",
        )
    if not active and runnable:
        raise ValidationFailed(
            f"the workflow '{text}' is not active: {_shown(candidates)}",
            hint="Enable it at GitHub, or name another one. A deleted workflow stays in GitHub's lists.",
        )
    return (active or candidates)[0]


def _active(rows: Sequence[WorkflowFile]) -> list[WorkflowFile]:
    return [row for row in rows if row.active]


def _shown(rows: Sequence[WorkflowFile]) -> str:
    names = sorted(f"{row.name} ({row.file}{'' if row.active else f', {row.state}'})" for row in rows)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
