"""The executor ``github``: runs a workflow (``workflow_dispatch``), or what listens to an event (``repository_dispatch``).

The correlation id travels as the input, or the key of ``client_payload``, `KEY`. GitHub answers a dispatch of a workflow with the
run's id where it can (since 2026-02-19, on Enterprise servers later); where it cannot, the run is found by its title, so that
the workflow has to name the id there: see `runs`. Nothing makes a dispatch idempotent.

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

from reconciler.drivers.base import Api, ApiResponse
from reconciler.drivers.common import require_commit
from reconciler.drivers.github import api as names
from reconciler.drivers.github.api import following
from reconciler.drivers.github.errors import message_of
from reconciler.drivers.github.run_output import logs_of, outputs_of
from reconciler.drivers.github.runs import carrying, link_of, report_of, run_of, shown_name, workflow_key
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
"""Before each look, right after a start, for a run whose id no answer told; all together take `LOOK_S` at most."""
LOOK_S = 5.0
_ISSUER = "https://token.actions.githubusercontent.com"


class GitHubExecutor:
    """Implements `reconciler.drivers.base.Executor`: resource ``repo`` or ``owner/repo``; spec ``workflow``, ``ref``,
    ``inputs``, or ``eventType``, ``clientPayload``.

    A run's ``detail`` has ``repository`` and, once it was seen, ``repository_id``. Runs that are started again keep their id.
    """

    type = "github"
    needs_integration = True
    settle_s = 120.0
    by_clock = True
    poll_s = 30.0
    """A webhook of ``workflow_run`` is faster; without one, a hundred runs at a time stay far below the hourly limit."""

    def permissions(self, executor: JsonObject) -> Mapping[str, str]:
        """Dispatching and ending runs is ``actions``; an event of the repository is ``contents`` besides."""
        spec = executor.get("spec")
        event = isinstance(spec, Mapping) and spec.get("eventType")
        return {"actions": "write", "contents": "write"} if event else {"actions": "write"}

    async def start(self, api: Api, intent: RunIntent) -> Run | None:
        """Dispatch once. None where GitHub took it, and neither its answer nor a short look shows the run."""
        require_commit(intent.spec)
        dispatch = _dispatch_event if intent.spec.get("eventType") else _dispatch_workflow
        run, marked = await self._below(api, intent, partial(dispatch, api, intent))
        if run is not None or not marked:
            return run
        try:
            async with asyncio.timeout(LOOK_S):
                return await self._look(api, intent)
        except (ReconcilerError, TimeoutError):
            return None  # it was taken, whatever keeps it from being seen; `find` is asked again, and says so then

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
        """Return the run whose title carries the correlation id. Raises `Ambiguous` for runs of the same workflow and event, by
        the same user, that began since and carry no execution's id: one of them may be it.
        """
        row = await self._below(api, intent, partial(_found, api, intent))
        return None if row is None else run_of(row, _repository(api, intent))

    async def poll(self, api: Api, intent: RunIntent, run: Run) -> RunReport:
        """Return what the run is like and, at its end, its outputs (`outputs`)."""
        return await self._below(api, intent, partial(_polled, api, intent, run))

    async def cancel(self, api: Api, intent: RunIntent, run: Run) -> None:
        """End the run. One that was asked to before (``detail["cancelled"]``, which the engine keeps) and goes on all the same
        is forced: that skips steps with ``always()``, and is what GitHub has for runs that do not react.
        """
        await self._below(api, intent, partial(_cancel, api, run))

    async def logs(self, api: Api, intent: RunIntent, run: Run, cursor: str) -> LogLines:
        """Return the logs of the jobs of the newest attempt; see `run_output`."""
        return await self._below(api, intent, lambda root: logs_of(api, root, run.external_id, cursor))

    def run_id_of(self, event_type: str, payload: Any) -> str:
        """Return the run of a ``workflow_run`` or a ``workflow_job``."""
        key = {"workflow_run": "id", "workflow_job": "run_id"}.get(event_type)
        row = payload.get(event_type) if key and isinstance(payload, Mapping) else None
        number = row.get(key) if isinstance(row, Mapping) else None
        return str(number) if isinstance(number, int) and not isinstance(number, bool) else ""

    def attempt_of(self, event_type: str, payload: Any) -> int:
        """Return the attempt of a ``workflow_run`` that is completed."""
        if not isinstance(payload, Mapping) or event_type != "workflow_run" or payload.get("action") != "completed":
            return 0
        row = payload.get("workflow_run")
        number = row.get("run_attempt") if isinstance(row, Mapping) else None
        return number if isinstance(number, int) and not isinstance(number, bool) else 0

    def matches_job_token(self, claims: Mapping[str, Any], run: Run) -> bool:
        """Whether the job's run is this one, in the same repository: by its id, which survives a rename, where that is known."""
        known = run.detail.get("repository_id")
        claimed = claims.get("repository_id") if known else claims.get("repository")
        wanted = known or run.detail.get("repository")
        same = isinstance(claimed, str) and bool(wanted) and claimed.lower() == str(wanted).lower()
        return same and isinstance(claims.get("run_id"), str) and claims["run_id"] == run.external_id

    def expects(self, run: Run) -> Mapping[str, tuple[str, ...]]:
        """Return the run's id, and its repository: by id where that is known."""
        name = "repository_id" if run.detail.get("repository_id") else "repository"
        return {name: (str(run.detail.get(name) or ""),), "run_id": (run.external_id,)}

    def issuer(self, api: Api) -> str:
        """Return the issuer of job tokens: GitHub's own, GHE.com's of the subdomain, or that of an Enterprise server."""
        root = api.connection.api_url.removesuffix("/api/v3")
        host = (urlsplit(root).hostname or "").lower()
        if host == "api.github.com":
            return _ISSUER
        if host.startswith("api.") and host.endswith(".ghe.com"):
            return f"https://token.actions.{host.removeprefix('api.')}"
        return f"{root}/_services/token"

    async def _below(self, api: Api, intent: RunIntent, work: Callable[[str], Awaitable[T]]) -> T:
        return await following(api, f"/repos/{_repository(api, intent)}", work)


def _repository(api: Api, intent: RunIntent) -> str:
    return names.repository_key(intent.resource, api.connection.account)


# starting


async def _dispatch_event(api: Api, intent: RunIntent, root: str) -> tuple[Run | None, bool]:
    """Send an event of the repository. GitHub takes it whether a workflow listens or not, and never tells a run."""
    payload = {**(intent.spec.get("clientPayload") or {}), KEY: intent.correlation}
    if len(payload) > MAX_PAYLOAD_KEYS:
        raise ValidationFailed(
            f"`clientPayload` has {MAX_PAYLOAD_KEYS} keys already, and GitHub takes no more: the execution's id has no room",
            hint="Put some of them into an object of their own.",
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
    """Dispatch a workflow; what GitHub refuses to know is left out and asked for again, since a refusal starts nothing.

    Returns the run, if the answer told it, and whether it carries our id.
    """
    ref = _short(str(intent.spec.get("ref") or ""))
    if not ref:
        raise ValidationFailed(
            "a workflow runs on a branch or a tag, and `ref` is not set", hint="Set `spec.ref` of the executor."
        )
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
            said = f"{error.message} {message_of(error.body)}"
            if "No ref found" in said:
                raise _no_ref(ref, error) from None
            if DETAILS in body and (DETAILS in said or error.status == 400):
                del body[DETAILS]  # an Enterprise server that does not know it yet
            elif KEY in inputs and (KEY in said or "No more than" in said):
                del inputs[KEY]  # the workflow does not declare it: its run is known by the answer alone
            else:
                raise
        else:
            return _told(api, intent, answer), KEY in inputs


def _require_fitting(inputs: Mapping[str, str]) -> None:
    """Raise `ValidationFailed` for what GitHub would refuse in words that name no input."""
    if len(inputs) > MAX_INPUTS:
        raise ValidationFailed(f"`inputs` has {len(inputs)} names; GitHub takes {MAX_INPUTS}")
    size = len(orjson.dumps(inputs).decode())
    if size > MAX_INPUTS_TEXT:
        longest = max(inputs, key=lambda name: len(inputs[name]))
        raise ValidationFailed(
            f"`inputs` has {size} characters; GitHub takes {MAX_INPUTS_TEXT}", hint=f"The longest is {longest!r}."
        )


def _told(api: Api, intent: RunIntent, answer: ApiResponse) -> Run | None:
    """Return the run that the answer names; None for 204. Raises `OutcomeUnknown` for an answer that names none."""
    if answer.status == 204:
        return None
    body = answer.json()
    number = body.get("workflow_run_id") if isinstance(body, Mapping) else None
    if not isinstance(number, int) or isinstance(number, bool):
        raise OutcomeUnknown("a workflow was dispatched, and the answer does not name its run", status=answer.status)
    return Run(str(number), link_of(body), detail={"repository": _repository(api, intent)})


def _no_ref(ref: str, error: ValidationFailed) -> ValidationFailed:
    return ValidationFailed(
        f"No ref found: the repository has no branch or tag '{ref}'; it was deleted, perhaps after the event",
        status=error.status,
        request=error.request,
        hint="Nothing was started. Push the branch again and rerun, or leave it.",
    )


def _no_workflow(intent: RunIntent, error: NotFound) -> NotFound:
    return NotFound(
        f"there is no workflow '{shown_name(intent.spec.get('workflow'))}' in {intent.resource}, or the credential may not run it",
        status=error.status,
        request=error.request,
        hint="Its file has to be on the default branch, too; the credential needs `actions: write`.",
    )


def _short(ref: str) -> str:
    return ref.removeprefix("refs/heads/").removeprefix("refs/tags/")


def _texts(spec: JsonObject) -> dict[str, str]:
    """Return the inputs as GitHub takes them: all are texts."""
    given: Mapping[str, Any] = spec.get("inputs") or {}
    return {str(name): text_of(value) for name, value in given.items()}


# following


async def _found(api: Api, intent: RunIntent, root: str) -> JsonObject | None:
    if intent.spec.get("eventType"):
        return await carrying(api, f"{root}/actions/runs", "repository_dispatch", intent)
    key = await workflow_key(api, root, intent.spec.get("workflow"), runnable=False)
    return await carrying(api, f"{root}/actions/workflows/{key}/runs", "workflow_dispatch", intent)


async def _polled(api: Api, intent: RunIntent, run: Run, root: str) -> RunReport:
    try:
        row = (await api.request("GET", f"{root}/actions/runs/{run.external_id}")).json()
    except NotFound:
        await _require_repository(api, root)
        raise
    if not isinstance(row, Mapping) or str(row.get("id")) != run.external_id:
        raise ProviderProtocolError(f"GitHub shows another run than {run.external_id}")
    report = report_of(row, _repository(api, intent))
    if report.status is not RunStatus.FINISHED:
        return report
    outputs, problem = await outputs_of(api, root, run.external_id)
    message = f"{report.message}; {problem}" if problem else report.message
    return RunReport(report.run, report.status, report.result, report.conclusion, message, outputs)


async def _require_repository(api: Api, root: str) -> None:
    """Return if the repository is to be seen; a credential that lost its right is no lost run."""
    try:
        await api.request("GET", root)
    except NotFound as error:
        raise PermissionDenied(
            f"{root.removeprefix('/repos/')} is not there, or the credential does not see it any more",
            status=404,
            request=error.request,
            hint="Check the repository's name, and what the credential may see.",
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
        row = (await api.request("GET", path)).json()
        if not isinstance(row, Mapping) or row.get("status") != "completed":
            raise  # refused for another reason ("not queued yet"): it goes on, and is asked to end again
