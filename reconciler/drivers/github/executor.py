"""The executor ``github``: runs one workflow (``workflow_dispatch``), or those that listen to an event (``repository_dispatch``).

The correlation id travels as the input, or the key of ``client_payload``, `KEY`. GitHub answers the dispatch of a workflow with
the run's id since 2026-02-19, and on Enterprise servers later. Without it the run is found by its title, so the workflow must put
the id there: see `runs`. Nothing makes a dispatch idempotent.

Facts: GitHub's OpenAPI description of Actions; its changelogs of 2026-02-19 and of API version 2026-03-10; its OpenID Connect
reference, and that of GHE.com.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import orjson

from reconciler.drivers.base import ApiResponse
from reconciler.drivers.connection import Api
from reconciler.drivers.execution import require_commit
from reconciler.drivers.github import api as names
from reconciler.drivers.github.errors import message_of
from reconciler.drivers.github.run_output import logs_of, outputs_of
from reconciler.drivers.github.runs import WorkflowRun, carrying, link_of, report_of, run_of, workflow_key, workflow_name
from reconciler.drivers.wire import find
from reconciler.model.errors import (
    Conflict,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    ProviderProtocolError,
    ProviderUnavailable,
    ReconcilerError,
    ValidationFailed,
)
from reconciler.model.executions import LogLines, Run, RunIntent, RunReport, RunStatus
from reconciler.model.values import JsonObject, text_of

T = TypeVar("T")
KEY = "reconciler_execution_id"
DETAILS = "return_run_details"
MAX_INPUTS = 25
MAX_INPUTS_TEXT = 65_535
MAX_PAYLOAD_KEYS = 10
MAX_PAYLOAD_BYTES = 64 << 10
MAX_EVENT_TYPE = 100
PAUSES_S = (0.2, 0.5, 1.0)
"""Pauses before each lookup of a new run whose id the answer did not have; all lookups together take `LOOK_S` at most."""
LOOK_S = 5.0
_ISSUER = "https://token.actions.githubusercontent.com"


class GitHubExecutor:
    """Implements `reconciler.drivers.base.Executor`: resource ``repo`` or ``owner/repo``; spec ``workflow``, ``ref``,
    ``inputs``, or ``eventType``, ``clientPayload``.

    A run's ``detail`` has ``repository`` and, once the run was read, ``repository_id``. A run that is started again keeps its id.
    """

    type = "github"
    needs_integration = True
    settle_s = 120.0
    by_clock = True
    poll_s = 30.0
    """A webhook of ``workflow_run`` is faster; without it, polling a hundred runs stays far below the hourly limit."""

    def permissions(self, executor: JsonObject) -> Mapping[str, str]:
        """Return ``actions``, to dispatch and cancel runs, and for an event of the repository ``contents``."""
        event = find(executor, str, "spec", "eventType")
        return {"actions": "write", "contents": "write"} if event else {"actions": "write"}

    async def start(self, api: Api, intent: RunIntent) -> Run | None:
        """Dispatch once. None if GitHub accepted it, and neither its answer nor a short lookup shows the run."""
        require_commit(intent.spec)
        dispatch = _dispatch_event if intent.spec.get("eventType") else _dispatch_workflow
        run, marked = await self._below(api, intent, partial(dispatch, api, intent))
        if run is not None or not marked:
            return run
        try:
            async with asyncio.timeout(LOOK_S):
                return await self._look(api, intent)
        except (ReconcilerError, TimeoutError):
            return None  # GitHub accepted it; whatever hides the run, the next `find` reports it

    async def _look(self, api: Api, intent: RunIntent) -> Run | None:
        for pause_s in PAUSES_S:
            await asyncio.sleep(pause_s)
            try:
                run = await self.find(api, intent)
            except ProviderUnavailable:
                continue
            if run is not None:
                return run
        return None

    async def find(self, api: Api, intent: RunIntent) -> Run | None:
        """Return the run whose title carries the correlation id. Raises `Ambiguous` if runs of the same workflow and event, by
        the same user, began since and carry no execution's id: any of them may be this one.
        """
        row = await self._below(api, intent, partial(_found, api, intent))
        return None if row is None else run_of(row, _repository(api, intent))

    async def poll(self, api: Api, intent: RunIntent, run: Run) -> RunReport:
        """Return the state of the run and, at its end, its outputs; see `run_output`."""
        return await self._below(api, intent, partial(_polled, api, intent, run))

    async def cancel(self, api: Api, intent: RunIntent, run: Run) -> None:
        """Cancel the run. A run that goes on after an earlier request (``detail["cancelled"]``, which the engine keeps) is
        cancelled by force: that skips steps with ``always()``, and is GitHub's way to end runs that do not react.
        """
        await self._below(api, intent, partial(_cancel, api, run))

    async def logs(self, api: Api, intent: RunIntent, run: Run, cursor: str) -> LogLines:
        """Return the logs of the jobs of the newest attempt; see `run_output`."""
        return await self._below(api, intent, lambda root: logs_of(api, root, run.external_id, cursor))

    def run_id_of(self, event_type: str, payload: object) -> str:
        """Return the run of a ``workflow_run`` or a ``workflow_job``."""
        key = {"workflow_run": "id", "workflow_job": "run_id"}.get(event_type)
        number = find(payload, int, event_type, key) if key is not None else None
        return "" if number is None else str(number)

    def attempt_of(self, event_type: str, payload: object) -> int:
        """Return the attempt of a completed ``workflow_run``."""
        if event_type != "workflow_run" or find(payload, str, "action") != "completed":
            return 0
        return find(payload, int, "workflow_run", "run_attempt") or 0

    def matches_job_token(self, claims: Mapping[str, object], run: Run) -> bool:
        """Whether the job's run is this one, in the same repository; by the repository's id, which survives a rename, if known."""
        name = "repository_id" if run.detail.get("repository_id") else "repository"
        claimed, expected = find(claims, str, name), str(run.detail.get(name) or "")
        same = bool(expected) and claimed is not None and claimed.lower() == expected.lower()
        return same and find(claims, str, "run_id") == run.external_id

    def expects(self, run: Run) -> Mapping[str, tuple[str, ...]]:
        """Return the run's id, and its repository: by id, if known."""
        name = "repository_id" if run.detail.get("repository_id") else "repository"
        return {name: (str(run.detail.get(name) or ""),), "run_id": (run.external_id,)}

    def issuer(self, api: Api) -> str:
        """Return the issuer of job tokens: GitHub's own, that of a GHE.com subdomain, or that of an Enterprise server."""
        root = api.connection.api_url.removesuffix("/api/v3")
        host = (urlsplit(root).hostname or "").lower()
        if host == "api.github.com":
            return _ISSUER
        if host.startswith("api.") and host.endswith(".ghe.com"):
            return f"https://token.actions.{host.removeprefix('api.')}"
        return f"{root}/_services/token"

    async def _below(self, api: Api, intent: RunIntent, work: Callable[[str], Awaitable[T]]) -> T:
        return await names.follow_rename(f"/repos/{_repository(api, intent)}", work)


def _repository(api: Api, intent: RunIntent) -> str:
    return names.repository_key(intent.resource, api.connection.account)


# -- start ---------------------------------------------------------------------------------------------------------------


async def _dispatch_event(api: Api, intent: RunIntent, root: str) -> tuple[Run | None, bool]:
    """Send an event of the repository. GitHub accepts it even if no workflow listens, and its answer never has a run."""
    payload = {**(intent.spec.get("clientPayload") or {}), KEY: intent.correlation}
    if len(payload) > MAX_PAYLOAD_KEYS:
        raise ValidationFailed(
            f"`clientPayload` has {len(payload) - 1} keys; GitHub takes {MAX_PAYLOAD_KEYS}, one of them the execution's id",
            hint="Move some of them into a nested object.",
        )
    kind, size = str(intent.spec["eventType"]), len(orjson.dumps(payload))
    if not 1 <= len(kind) <= MAX_EVENT_TYPE:
        raise ValidationFailed(f"`eventType` has {len(kind)} characters; GitHub takes 1 to {MAX_EVENT_TYPE} characters")
    if size >= MAX_PAYLOAD_BYTES:
        raise ValidationFailed(f"`clientPayload` has {size} bytes; GitHub takes less than {MAX_PAYLOAD_BYTES}")
    body = {"event_type": kind, "client_payload": payload}
    await api.request("POST", f"{root}/dispatches", json=body)
    return None, True


async def _dispatch_workflow(api: Api, intent: RunIntent, root: str) -> tuple[Run | None, bool]:
    """Dispatch a workflow; after a refusal of an unknown field, dispatch without it: a refusal starts nothing.

    Returns the run, if the answer has it, and whether the run carries our id.
    """
    ref = _short(str(intent.spec.get("ref") or ""))
    if not ref:
        raise ValidationFailed("a workflow needs a branch or a tag, and `ref` is not set", hint="Set `spec.ref` of the executor.")
    path = f"{root}/actions/workflows/{await workflow_key(api, root, intent.spec.get('workflow'))}/dispatches"
    inputs = {**_texts(intent.spec), KEY: intent.correlation}
    if len(inputs) > MAX_INPUTS:
        del inputs[KEY]
    _require_fitting(inputs)
    body: dict[str, Any] = {"ref": ref, "inputs": inputs, DETAILS: True}
    while True:
        try:
            answer = await api.request("POST", path, json=body)
        except NotFound as error:
            raise _no_workflow(intent, error) from None
        except ValidationFailed as error:
            message = f"{error.message} {message_of(error.body)}"
            if "No ref found" in message:
                raise _no_ref(ref, error) from None
            if DETAILS in body and (DETAILS in message or error.status == 400):
                del body[DETAILS]  # an Enterprise server without this field
            elif KEY in inputs and (KEY in message or "No more than" in message):
                del inputs[KEY]  # the workflow does not declare it: only the answer has its run
            else:
                raise
        else:
            return _dispatched(api, intent, answer), KEY in inputs


def _require_fitting(inputs: Mapping[str, str]) -> None:
    """Raise `ValidationFailed` for inputs that GitHub would refuse without naming one."""
    if len(inputs) > MAX_INPUTS:
        raise ValidationFailed(f"`inputs` has {len(inputs)} names; GitHub takes {MAX_INPUTS}")
    size = len(orjson.dumps(inputs).decode())
    if size > MAX_INPUTS_TEXT:
        longest = max(inputs, key=lambda name: len(inputs[name]))
        raise ValidationFailed(
            f"`inputs` has {size} characters; GitHub takes {MAX_INPUTS_TEXT}", hint=f"The longest is {longest!r}."
        )


def _dispatched(api: Api, intent: RunIntent, answer: ApiResponse) -> Run | None:
    """Return the run that the answer names; None for 204. Raises `OutcomeUnknown` for an answer without a run."""
    if answer.status == 204:
        return None
    body = answer.json()
    number = find(body, int, "workflow_run_id")
    if number is None:
        raise OutcomeUnknown("a workflow was dispatched, and the answer does not name its run", status=answer.status)
    return Run(str(number), link_of(find(body, str, "html_url")), detail={"repository": _repository(api, intent)})


def _no_ref(ref: str, error: ValidationFailed) -> ValidationFailed:
    return ValidationFailed(
        f"No ref found: the repository has no branch or tag '{ref}'; it was deleted, perhaps after the event",
        status=error.status,
        request=error.request,
        hint="Nothing was started. Push the branch again and rerun, or ignore this.",
    )


def _no_workflow(intent: RunIntent, error: NotFound) -> NotFound:
    return NotFound(
        f"there is no workflow '{workflow_name(intent.spec.get('workflow'))}' in {intent.resource}, or the credential may not run it",
        status=error.status,
        request=error.request,
        hint="Its file must also be on the default branch; the credential needs `actions: write`.",
    )


def _short(ref: str) -> str:
    return ref.removeprefix("refs/heads/").removeprefix("refs/tags/")


def _texts(spec: JsonObject) -> dict[str, str]:
    """Return the inputs, which GitHub takes only as texts."""
    inputs: JsonObject = spec.get("inputs") or {}
    return {str(name): text_of(value) for name, value in inputs.items()}


# -- find, poll, cancel --------------------------------------------------------------------------------------------------


async def _found(api: Api, intent: RunIntent, root: str) -> WorkflowRun | None:
    if intent.spec.get("eventType"):
        return await carrying(api, f"{root}/actions/runs", "repository_dispatch", intent)
    key = await workflow_key(api, root, intent.spec.get("workflow"), runnable=False)
    return await carrying(api, f"{root}/actions/workflows/{key}/runs", "workflow_dispatch", intent)


async def _polled(api: Api, intent: RunIntent, run: Run, root: str) -> RunReport:
    try:
        row = await names.read(api, f"{root}/actions/runs/{run.external_id}", WorkflowRun)
    except NotFound:
        await _require_repository(api, root)
        raise
    if str(row.id) != run.external_id:
        raise ProviderProtocolError(f"GitHub shows another run than {run.external_id}")
    report = report_of(row, _repository(api, intent))
    if report.status is not RunStatus.FINISHED:
        return report
    outputs, problem = await outputs_of(api, root, run.external_id)
    message = f"{report.message}; {problem}" if problem else report.message
    return RunReport(report.run, report.status, report.result, report.conclusion, message, outputs)


async def _require_repository(api: Api, root: str) -> None:
    """Return if the repository is visible; a credential that lost its rights must not count as a lost run."""
    try:
        await api.request("GET", root)
    except NotFound as error:
        raise PermissionDenied(
            f"{root.removeprefix('/repos/')} does not exist, or the credential does not see it any more",
            status=404,
            request=error.request,
            hint="Check the repository's name, and the rights of the credential.",
        ) from None


async def _cancel(api: Api, run: Run, root: str) -> None:
    path = f"{root}/actions/runs/{run.external_id}"
    try:
        if run.detail.get("cancelled"):
            try:
                await api.request("POST", f"{path}/force-cancel")
                return
            except NotFound:
                pass  # an Enterprise server without it
        await api.request("POST", f"{path}/cancel")
    except Conflict:
        if find((await api.request("GET", path)).json(), str, "status") != "completed":
            raise  # refused for another reason ("not queued yet"): the run goes on, and is cancelled again later
