"""The executors ``http`` and ``noop``.

``http`` sends one request and, if the work continues after the answer, polls until a condition holds. A request carries the
execution's id as ``Idempotency-Key`` and ``X-Reconciler-Execution``, so that the receiver can recognize a retry of one execution. We
cannot: there is no way to find out later whether a request was received.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from reconciler.drivers.base import ApiResponse
from reconciler.drivers.builtin.identity import CallIdentity
from reconciler.drivers.builtin.urls import origin_of, path_of, shown
from reconciler.drivers.connection import Api
from reconciler.drivers.execution import NoEvents, NoJobToken
from reconciler.drivers.http.clock import date_of
from reconciler.drivers.http.errors import retry_after
from reconciler.drivers.wire import find
from reconciler.model.errors import Ambiguous, AuthFailed, ProviderUnavailable, RateLimited, ReconcilerError, ValidationFailed
from reconciler.model.executions import UNSETTABLE_HEADERS, LogLines, Result, Run, RunIntent, RunReport, RunStatus
from reconciler.model.values import DEEPEST, JsonObject, JsonValue, text_of, too_deep

Evaluate = Callable[[str, Any], Awaitable[bool]]
"""(condition, JSON answer) → whether it holds. Raises `ValueError` with the reason if it cannot be evaluated on this answer."""

POLL_S = 15.0
MAX_OUTPUTS = 64 << 10
"""Bytes of JSON that an answer may give as outputs."""
REFUSED_S = 60.0
"""A service that refuses the credential is called again not earlier than this."""
MAX_TRIES = 5
"""How often a start is retried, if the server asks for it or the method is idempotent, before it counts as failed."""
_ANY_STATUS = frozenset(range(100, 1000))
"""The response policy decides what a status means, not the shared table of errors."""


class _LocalExecutor(NoJobToken, NoEvents):
    """What both executors share: there is no integration."""

    needs_integration = False
    by_clock = False

    def permissions(self, executor: JsonObject) -> Mapping[str, str]:
        return {}


class HttpExecutor(_LocalExecutor):
    """Implements `reconciler.drivers.base.Executor`; its client is bound to the origin of ``url`` (`connection_to`).

    An answer whose status the response policy does not name is a failed run; the stage's ``retry`` decides about another. But 429
    and 503 with a ``Retry-After`` mean that nothing was done, and an idempotent method may be sent again after any server failure:
    these are retried `MAX_TRIES` times with back-off. Bodies are not kept: only the answer's status and, if it is a JSON object, its
    ``outputs``. A run's URL is stored and shown without the query: secrets belong in headers, the payload or the query, not in the
    path. ``poll.url`` must be on the same origin as ``url``.
    """

    type = "http"
    settle_s = 60.0
    poll_s = POLL_S

    def __init__(self, evaluate: Evaluate | None = None) -> None:
        self._evaluate = evaluate

    async def start(self, api: Api, intent: RunIntent) -> Run | None:
        """Send the request and return its run, finished at once unless there is a ``poll``.

        It is sent once; the client retries a GET that fails in transit. Raises `ValidationFailed` for an invalid request,
        `RateLimited` and `ProviderUnavailable` if it is to be sent again, and other typed errors if there was no answer.
        """
        request = request_of(api, intent)
        if request.poll is not None:
            self._evaluator()
        identity = _identity(api)
        began = time.monotonic()
        answer = await _answer(api, request, identity)
        duration_ms = round((time.monotonic() - began) * 1000)
        failure = identity.failure(answer.headers) if identity is not None else ""
        passed = answer.status in request.passing and not failure
        if not passed:
            _raise_if_refused(request, answer, identity)
        if not passed and intent.tries < MAX_TRIES:
            _raise_if_retryable(request, answer)
        outputs, message = _outputs(_json(answer.content), identity)
        if not passed:
            what = f"but {failure}" if failure else f"which does not pass{_asked_by(identity, answer.status)}"
            message = f"{request.name} was answered {answer.status}, {what}"
        detail = {
            "origin": api.connection.api_url,
            "method": request.method,
            "status": answer.status,
            "duration_ms": duration_ms,
            "poll_s": request.poll.interval_s if request.poll else POLL_S,
            "done": not passed or request.poll is None,
            **_end(passed=passed, conclusion=str(answer.status), message=message, outputs=outputs),
        }
        return Run(intent.correlation, request.shown, detail=detail)

    async def find(self, api: Api, intent: RunIntent) -> Run | None:
        """Return None for an idempotent method (GET, PUT, DELETE); raise `Ambiguous` for any other."""
        if method_of(intent) in IDEMPOTENT:
            return None
        raise Ambiguous(
            f"the {method_of(intent)} request may have been received: its outcome is unknown",
            hint="Check the service that receives it; run the item again if nothing happened there.",
        )

    async def poll(self, api: Api, intent: RunIntent, run: Run) -> RunReport:
        """Return how the request ended or, until then, the state at ``poll.url``.

        A condition that cannot be evaluated (a field is still missing) does not hold; if both conditions hold, the run failed.
        """
        request = None if run.detail["done"] else request_of(api, intent)
        if request is None or request.poll is None:
            return _finished(run)
        answer = (await api.request("GET", request.poll.path, headers=request.headers)).json()
        failed, no_failure = await self._holds("failureWhen", request.poll.failure_when, answer)
        passed, no_success = await self._holds("successWhen", request.poll.success_when, answer)
        if not failed and not passed:
            return RunReport(run, RunStatus.RUNNING, message=no_success or no_failure)
        return _finished(_ended(run, answer, passed=not failed, identity=_identity(api)))

    async def cancel(self, api: Api, intent: RunIntent, run: Run) -> None:
        """Do nothing: there is no endpoint to cancel the work."""

    async def logs(self, api: Api, intent: RunIntent, run: Run, cursor: str) -> LogLines:
        """Return the request and its answer; there will be no more lines."""
        detail = run.detail
        lines = (f"{detail.get('method')} {run.url}", f"{detail.get('status')} after {detail.get('duration_ms')} ms")
        seen = int(cursor) if cursor.isdecimal() else 0
        return LogLines(lines[seen:], str(len(lines)), complete=True)

    def _evaluator(self) -> Evaluate:
        if self._evaluate is None:
            raise ReconcilerError("this executor cannot evaluate conditions", code="RC9001")
        return self._evaluate

    async def _holds(self, name: str, condition: str, answer: Any) -> tuple[bool, str]:
        """Return whether ``condition`` holds, and why it cannot be evaluated. Its text may hold secret values and is not repeated."""
        if not condition:
            return False, ""
        try:
            return await self._evaluator()(condition, answer), ""
        except ValueError as error:
            return False, f"`{name}` cannot be evaluated on the answer: {error}"[:400]


def _identity(api: Api) -> CallIdentity | None:
    """Return the identity that the requests of ``api`` carry; None if they carry only the headers of the spec."""
    return api.authenticator if isinstance(api.authenticator, CallIdentity) else None


async def _answer(api: Api, request: HttpRequest, identity: CallIdentity | None) -> ApiResponse:
    """Return the answer, whatever its status. A request whose credential was refused did nothing: it is sent once more with a new one."""
    for attempt in range(2):
        answer = await api.request(request.method, request.path, json=request.payload, headers=request.headers, ok=_ANY_STATUS)
        refused = identity is not None and bool(identity.refused(answer.status, answer.headers, answer.text))
        if attempt or identity is None or not refused or not await identity.refresh():
            break
    return answer


def _raise_if_refused(request: HttpRequest, answer: ApiResponse, identity: CallIdentity | None) -> None:
    """Raise `AuthFailed` if the answer names the credential as invalid. A plain 401 of a service to a new token is an answer like others."""
    why = identity.refused(answer.status, answer.headers, answer.text) if identity is not None else ""
    if identity is None or answer.status == 401 or not why:
        return
    raise AuthFailed(
        f"{request.name}: the credential of {identity.principal.name} is refused ({why})",
        status=answer.status,
        request=request.name,
        code="RC4404",
        retry_at=time.time() + REFUSED_S,
        hint=f"See `reconciler credentials {identity.principal.name}`.",
    )


def _asked_by(identity: CallIdentity | None, status: int) -> str:
    """Return who was refused, for the message of a run."""
    if identity is None or status not in (401, 403):
        return ""
    return (
        f": the service {'does not accept the identity' if status == 401 else 'does not allow it to'} {identity.principal.name}"
    )


def _raise_if_retryable(request: HttpRequest, answer: ApiResponse) -> None:
    """Raise if the answer proves that nothing was done, or if the method is idempotent and the failure may pass."""
    status, headers = answer.status, answer.headers
    server_time = date_of(headers) or time.time()
    until = retry_after(headers, server_time)
    refused = status in {429, 503} and until is not None
    if not refused and not (request.method in IDEMPOTENT and (status >= 500 or status in {408, 425, 429})):
        return
    error = RateLimited if status == 429 else ProviderUnavailable
    at = None if until is None else time.time() + until - server_time
    raise error(f"{request.name} was answered {status}: it is retried", status=status, request=request.name, retry_at=at)


def _ended(run: Run, answer: Any, *, passed: bool, identity: CallIdentity | None) -> Run:
    """Return the run with its end as ``answer`` gives it."""
    outputs, message = _outputs(answer, identity)
    condition = "successWhen" if passed else "failureWhen"
    message = (message or str(run.detail["message"])) if passed else "`failureWhen` holds"
    merged = {**run.detail["outputs"], **outputs}
    return dataclasses.replace(
        run, detail={**run.detail, "done": True, **_end(passed=passed, conclusion=condition, message=message, outputs=merged)}
    )


def _end(*, passed: bool, conclusion: str, message: str, outputs: JsonObject) -> dict[str, Any]:
    return {"passed": passed, "conclusion": conclusion, "message": message, "outputs": dict(outputs)}


def _finished(run: Run) -> RunReport:
    detail = run.detail
    result = Result.PASSED if detail["passed"] else Result.FAILED
    return RunReport(run, RunStatus.FINISHED, result, detail["conclusion"], detail["message"], detail["outputs"])


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def _outputs(answer: JsonValue, identity: CallIdentity | None) -> tuple[JsonObject, str]:
    """Return the outputs in an answer, and why they were left out."""
    outputs = find(answer, dict[str, JsonValue], "outputs")
    if outputs is None:
        return {}, ""
    if too_deep(outputs):
        return {}, f"the outputs were left out: they are nested deeper than {DEEPEST} levels"
    if identity is not None and identity.is_in(outputs):
        return {}, "the outputs were left out: they repeat the credential of the request"
    if len(orjson.dumps(outputs)) > MAX_OUTPUTS:
        return {}, f"the outputs were left out: they are larger than {MAX_OUTPUTS >> 10} KiB"
    return outputs, ""


IDEMPOTENT = frozenset({"GET", "PUT", "DELETE"})
"""Idempotent methods (RFC 9110 §9.2.2)."""
SUCCESSFUL = frozenset(range(200, 300))
_BODILESS = frozenset({"GET", "DELETE"})
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class Poll:
    """A request that is repeated until one of the conditions holds."""

    path: str
    success_when: str
    failure_when: str
    interval_s: float


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request to the origin that a client is bound to."""

    method: str
    path: str
    """Path and query."""
    shown: str
    """The URL without its query, as it is stored and shown."""
    headers: Mapping[str, str]
    payload: JsonObject | None
    passing: frozenset[int]
    poll: Poll | None

    @property
    def name(self) -> str:
        return f"{self.method} {self.path.partition('?')[0]}"


def request_of(api: Api, intent: RunIntent) -> HttpRequest:
    """Return the request of ``intent``; raises `ValidationFailed` for an invalid one."""
    spec = intent.spec
    url, method = str(spec.get("url") or ""), method_of(intent)
    path = _path(api, url, "url")
    payload = spec.get("payload", None if method in _BODILESS else {})
    codes = spec.get("responsePolicy", {}).get("statusCodes")
    passing = frozenset(codes) if codes else SUCCESSFUL
    return HttpRequest(method, path, shown(url), _headers(intent), payload, passing, _poll(api, spec.get("poll")))


def method_of(intent: RunIntent) -> str:
    """Return the method; the default is POST."""
    return str(intent.spec.get("method", "POST"))


def _poll(api: Api, spec: JsonObject | None) -> Poll | None:
    if spec is None:
        return None
    path = _path(api, str(spec.get("url") or ""), "poll.url")
    interval_s = float(spec.get("interval") or POLL_S)
    return Poll(path, str(spec["successWhen"]), str(spec.get("failureWhen", "")), interval_s)


def _path(api: Api, url: str, name: str) -> str:
    if origin_of(url) != api.connection.api_url:
        raise ValidationFailed(
            f"`{name}` is not on {api.connection.api_url}",
            hint="One execution uses one scheme, host and port: those of `url`.",
        )
    return path_of(url)


def _headers(intent: RunIntent) -> dict[str, str]:
    """Return the spec's headers, except reserved ones, and the execution's id under both its names."""
    headers: dict[str, str] = {}
    for name, value in (intent.spec.get("headers") or {}).items():
        text = text_of(value)
        if not _NAME.fullmatch(name) or not text.isascii() or not text.isprintable():
            raise ValidationFailed(f"the header {ascii(name)[:80]} is invalid", hint="A value is one line of printable ASCII.")
        if name.lower() not in UNSETTABLE_HEADERS:
            headers[name.lower()] = text.strip()
    return {**headers, "idempotency-key": intent.correlation, "x-reconciler-execution": intent.correlation}


class NoopExecutor(_LocalExecutor):
    """Implements `reconciler.drivers.base.Executor`: runs nothing, every execution passes at once. The engine simulates outputs."""

    type = "noop"
    settle_s = 0.0
    poll_s = 1.0

    async def start(self, api: Api, intent: RunIntent) -> Run | None:
        return Run(intent.correlation, detail={"done": True})

    async def find(self, api: Api, intent: RunIntent) -> Run | None:
        """Return the same finished run."""
        return await self.start(api, intent)

    async def poll(self, api: Api, intent: RunIntent, run: Run) -> RunReport:
        """Return that it passed."""
        return RunReport(run, RunStatus.FINISHED, Result.PASSED, self.type)

    async def cancel(self, api: Api, intent: RunIntent, run: Run) -> None:
        """Do nothing: it has already ended."""

    async def logs(self, api: Api, intent: RunIntent, run: Run, cursor: str) -> LogLines:
        return LogLines((), cursor, complete=True)
