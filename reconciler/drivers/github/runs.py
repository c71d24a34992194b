"""Workflow runs as GitHub shows them: complete lists, the one that carries our id, and what a run is like. Facts: GitHub's
OpenAPI description of Actions, and its documentation of ``run-name`` and of search by date.

A run shows nothing of its inputs. What carries the correlation id is its title, if the workflow says so::

    run-name: Deploy ${{ inputs.reconciler_execution_id }}

(``${{ github.event.client_payload.reconciler_execution_id }}`` for a ``repository_dispatch``).

Which workflow a manifest means: by id, by file, or by name. Lists keep workflows that were deleted or disabled.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from reconciler.drivers.base import Api
from reconciler.drivers.github.api import epoch_of, stamp_of
from reconciler.drivers.http.clock import date_of
from reconciler.drivers.http.paging import ListBound, paginate
from reconciler.model.errors import (
    Ambiguous,
    NotFound,
    PermissionDenied,
    ProviderProtocolError,
    ProviderUnavailable,
    ValidationFailed,
)
from reconciler.model.executions import Result, Run, RunIntent, RunReport, RunStatus

Item = Mapping[str, Any]
PER_PAGE = 100
SEARCH_CAP = 1_000
"""A search with filters shows no more results than this."""
LOOK_BACK_S = 120.0
"""How much older than the intent a run may look: an offset of clocks is measured, and not exact."""
NOT_BEFORE_S = 5.0
"""A run without our id that began longer than this before the intent is none of ours."""
DOUBT_S = 20.0
"""So long after the intent a run that carries our id may yet appear in lists, before others are taken for it."""
_MARK = re.compile(r"rcl-[a-z0-9-]{28}")
_STATUS = {
    "queued": RunStatus.QUEUED,
    "requested": RunStatus.QUEUED,
    "pending": RunStatus.QUEUED,  # another run of its concurrency group is not done
    "waiting": RunStatus.WAITING,
    "completed": RunStatus.FINISHED,
}
_RESULT = {
    "success": Result.PASSED,
    "neutral": Result.PASSED,
    "skipped": Result.PASSED,
    "cancelled": Result.CANCELLED,
}


async def listed(api: Api, path: str, key: str, params: Mapping[str, str | int]) -> list[Item]:
    """Return every row of ``{"total_count", key: […]}``, all pages; raises `ProviderProtocolError` for another shape."""
    return (await dated(api, path, key, params))[0]


async def dated(api: Api, path: str, key: str, params: Mapping[str, str | int]) -> tuple[list[Item], float]:
    """Return what `listed` does, and when that was by GitHub's clock (by ours, where its answer tells no time)."""
    rows: list[Item] = []
    at: float | None = None
    bound = ListBound(path)
    async for page in paginate(api, path, params={**params, "per_page": PER_PAGE}, bound=bound):
        body = page.json()
        found = body.get(key) if isinstance(body, Mapping) else None
        if not isinstance(found, list) or not all(isinstance(row, Mapping) and _is_id(row.get("id")) for row in found):
            raise ProviderProtocolError(f"GET {path}: no list of {key}", request=f"GET {path}")
        bound.count(len(found))
        rows += found
        at = date_of(page.headers) or at
    return rows, time.time() if at is None else at


async def created_since(api: Api, path: str, event: str, since: float) -> tuple[list[Item], float]:
    """Return every run of ``event`` that was made at ``since`` or later, and when that was seen, all by GitHub's clock.

    Where a search is cut off at `SEARCH_CAP`, it goes on with the older ones: a list that is not complete proves no absence.
    """
    found: dict[int, Item] = {}
    oldest, until = stamp_of(since), ""
    while True:
        span = f"{oldest}..{until}" if until else f">={oldest}"
        rows, seen_at = await dated(api, path, "workflow_runs", {"event": event, "created": span})
        found |= {row["id"]: row for row in rows}
        if len(rows) < SEARCH_CAP:
            return list(found.values()), seen_at
        before, until = until, stamp_of(min(epoch_of(row.get("created_at")) or since for row in rows))
        if until == before:
            raise ProviderProtocolError(f"GET {path}: too many runs in one second to see them all", request=f"GET {path}")


async def carrying(api: Api, path: str, event: str, intent: RunIntent) -> Item | None:
    """Return the run whose title or name has the correlation id; of several runs of one workflow the first.

    Raises `Ambiguous` when it is in runs of several workflows, or when there are runs that nothing tells from ours, and
    `ProviderUnavailable` while it is too early to say so.
    """
    rows, seen_at = await created_since(api, path, event, intent.intended_at - LOOK_BACK_S)
    ours = [row for row in rows if intent.correlation in _title(row)]
    if len({row.get("workflow_id") for row in ours}) > 1:
        raise _ambiguous(
            ours, "several workflows took the execution's id", "Put the id into the `run-name` of one workflow only."
        )
    if ours:
        return min(ours, key=lambda row: int(row["id"]))
    others = [row for row in rows if not _MARK.search(_title(row)) and _is_after(row, intent.intended_at - NOT_BEFORE_S)]
    others = await _by_us(api, others)
    if not others:
        return None
    if seen_at - intent.intended_at < DOUBT_S:
        raise ProviderUnavailable(f"GET {path}: a run that carries the execution's id may yet appear", request=f"GET {path}")
    hint = "Put the id into the workflow's `run-name`: Deploy ${{ inputs.reconciler_execution_id }}"
    raise _ambiguous(others, "runs were started meanwhile, and nothing tells whether one of them is this execution's", hint)


async def _by_us(api: Api, rows: Sequence[Item]) -> list[Item]:
    """Return the rows whose actor is who we are at GitHub; all of them where that cannot be asked (an App's token)."""
    if not rows:
        return []
    try:
        body = (await api.request("GET", "/user")).json()
    except PermissionDenied:
        return list(rows)
    login = str(body.get("login") or "").lower() if isinstance(body, Mapping) else ""
    return [row for row in rows if not login or _actor(row) in ("", login)]


def run_of(row: Item, repository: str) -> Run:
    """Return a run as the engine keeps it; ``repository`` is what it is called where the row does not say."""
    where = row.get("repository")
    where = where if isinstance(where, Mapping) else {}
    name, number = where.get("full_name"), where.get("id")
    detail = {"repository": name.lower() if isinstance(name, str) else repository}
    if _is_id(number):
        detail["repository_id"] = str(number)
    attempt = row.get("run_attempt")
    return Run(str(row["id"]), link_of(row), attempt if isinstance(attempt, int) and attempt > 0 else 1, detail)


def report_of(row: Item, repository: str) -> RunReport:
    """Return what a run is like; a run that was started again shows its newest attempt. Raises `ProviderProtocolError`."""
    run, status, conclusion = run_of(row, repository), row.get("status"), row.get("conclusion") or None
    if not isinstance(status, str) or (status == "completed") != isinstance(conclusion, str):
        raise ProviderProtocolError(f"GitHub shows run {run.external_id} as {status!r} with the conclusion {conclusion!r}")
    if not isinstance(conclusion, str):
        shown = _STATUS.get(status, RunStatus.RUNNING)
        waits = f"waits at GitHub for an approval or a rule: {run.url}" if shown is RunStatus.WAITING else ""
        return RunReport(run, shown, message=waits)
    result = _RESULT.get(conclusion, Result.FAILED)
    return RunReport(run, RunStatus.FINISHED, result, conclusion, message=f"{conclusion}: {run.url}")


def link_of(row: Item) -> str:
    """Return the page of a run, or nothing where an answer has something else there."""
    url = row.get("html_url")
    return url if isinstance(url, str) and url.startswith(("https://", "http://")) else ""


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _title(row: Item) -> str:
    return " ".join(str(row.get(key) or "") for key in ("display_title", "name"))


def _actor(row: Item) -> str:
    who = row.get("actor")
    return str(who.get("login") or "").lower() if isinstance(who, Mapping) else ""


def _is_after(row: Item, since: float) -> bool:
    at = epoch_of(row.get("created_at"))
    return at is None or at >= since


def _ambiguous(rows: Sequence[Item], what: str, hint: str) -> Ambiguous:
    shown = ", ".join(link_of(row) or str(row["id"]) for row in rows[:5])
    return Ambiguous(f"{what}: {shown}" + (f" and {len(rows) - 5} more" if len(rows) > 5 else ""), hint=hint)


_SHOWN = 20


async def workflow_key(api: Api, root: str, wanted: Any, *, runnable: bool = True) -> str:
    """Return what names the workflow ``wanted`` in a path: its id, or its file where no other workflow has the same.

    A number, or ``{id: …}``, is an id; a text that ends in ``.yml`` or ``.yaml`` is a file; any other text, or ``{name: …}``, is a
    name. Of several the active one is meant. With ``runnable`` one that is not active is refused. Raises `ValidationFailed`.
    """
    number = wanted.get("id") if isinstance(wanted, Mapping) else wanted
    if isinstance(number, int) and not isinstance(number, bool):
        return str(number)
    text = shown_name(wanted).strip()
    if not isinstance(wanted, Mapping) and text.endswith((".yml", ".yaml")):
        return await _by_file(api, root, text, runnable=runnable)
    rows = await listed(api, f"{root}/actions/workflows", "workflows", {})
    named = [row for row in rows if row.get("name") == text]
    stems = [] if isinstance(wanted, Mapping) else [row for row in rows if _file(row).partition(".")[0] == text]
    found = _active(named) or _active(stems) or named or stems
    if not found:
        raise ValidationFailed(f"there is no workflow '{text}': {_shown(rows) or 'none'}", hint="Name the workflow's file.")
    return str(_only(found, text, runnable=runnable)["id"])


def shown_name(wanted: Any) -> str:
    """Return ``wanted`` as a text."""
    if isinstance(wanted, Mapping):
        return str(wanted.get("name") or wanted.get("id") or "")
    return str(wanted or "")


async def _by_file(api: Api, root: str, text: str, *, runnable: bool) -> str:
    file = text.rpartition("/")[2]
    try:
        rows = await listed(api, f"{root}/actions/workflows", "workflows", {})
    except (NotFound, PermissionDenied):
        rows = []  # what may be done with the workflow itself is answered where it is done
    found = [row for row in rows if _file(row) == file]
    if len(found) > 1 or (found and not _active(found)):
        return str(_only(found, text, runnable=runnable)["id"])
    return quote(file, safe="")


def _only(found: Sequence[Item], text: str, *, runnable: bool) -> Item:
    """Return the one that is meant: the active one of ``found``, or without ``runnable`` the one that is left."""
    active = _active(found)
    if len(active) > 1 or (not active and not runnable and len(found) > 1):
        raise ValidationFailed(
            f"there is more than one workflow '{text}': {_shown(active or found)}",
            hint="Name the workflow's file, or give its `id`.",
        )
    if not active and runnable:
        raise ValidationFailed(
            f"the workflow '{text}' is not active: {_shown(found)}",
            hint="Enable it at GitHub, or name another one. A deleted workflow stays in GitHub's lists.",
        )
    return (active or found)[0]


def _active(rows: Sequence[Item]) -> list[Item]:
    """Return those that run; a server that shows no state shows only what runs."""
    return [row for row in rows if row.get("state", "active") == "active"]


def _file(row: Item) -> str:
    return str(row.get("path") or "").rpartition("/")[2]


def _shown(rows: Sequence[Item]) -> str:
    active = {id(row) for row in _active(rows)}
    names = sorted(f"{row.get('name')} ({_file(row)}{'' if id(row) in active else ', ' + str(row['state'])})" for row in rows)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
