"""The executor ``http``: one request, and where the work goes on after its answer, questions until a condition holds.

A request carries the execution's id as ``Idempotency-Key`` and ``X-Reconciler-Execution``, so that its receiver can tell two
tries of one execution from two executions. Nothing here can: whether a request was received is not to be found out afterwards.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

import orjson

from reconciler.drivers.base import Api, ApiResponse, Connection
from reconciler.drivers.common import NoJobToken
from reconciler.drivers.http.clock import date_of
from reconciler.drivers.http.errors import retry_after
from reconciler.model.errors import Ambiguous, ProviderUnavailable, RateLimited, ReconcilerError, ValidationFailed
from reconciler.model.executions import UNSETTABLE_HEADERS, LogLines, Result, Run, RunIntent, RunReport, RunStatus
from reconciler.model.resources import ResourceId
from reconciler.model.values import DEEPEST, JsonObject, text_of, too_deep

Evaluate = Callable[[str, Any], Awaitable[bool]]
"""(condition, JSON answer) → whether it holds. Raises `ValueError` with the reason where it cannot be told of this answer."""

POLL_S = 15.0
MAX_OUTPUTS = 64 << 10
"""Bytes of JSON that an answer may hand on."""
MAX_TRIES = 5
"""How often a start that the server asked to send again, or that may be sent twice, is sent again before it has failed."""
_ANY_STATUS = frozenset(range(100, 1000))
"""Every answer is an answer: what it means is up to the response policy, and not to the table of errors."""


class HttpExecutor(NoJobToken):
    """Implements `reconciler.drivers.base.Executor`; its client is bound to the origin of ``url`` (`connection_to`).

    An answer whose status the response policy does not name is a run that failed: when it is sent again is up to the stage's
    ``retry``. But 429 and 503 with a ``Retry-After`` say that nothing was done, and a method that may be sent twice may be sent
    again after any failure of the server: these are sent again `MAX_TRIES` times, with growing pauses. Bodies are not kept: of an
    answer only its status and, if it is a JSON object, its ``outputs``. A run's URL, the query left out, is stored and shown:
    secrets belong into headers, the payload or the query, not into the path. ``poll.url`` has to be on the same origin as ``url``.
    """

    type = "http"
    needs_integration = False
    settle_s = 60.0
    by_clock = False
    poll_s = POLL_S

    def __init__(self, evaluate: Evaluate | None = None) -> None:
        self._evaluate = evaluate

    def permissions(self, executor: JsonObject) -> Mapping[str, str]:
        """There is no integration to ask permissions of."""
        return {}

    async def start(self, api: Api, intent: RunIntent) -> Run | None:
        """Send the request and return the run that its answer makes; over at once unless there is a ``poll``.

        It is sent once; the client repeats a GET that fails on its way. Raises `ValidationFailed` for what cannot be sent,
        `RateLimited` and `ProviderUnavailable` for an answer that asks to send it again, typed errors where there was none.
        """
        request = request_of(api, intent)
        if request.poll is not None:
            self._evaluator()
        began = time.monotonic()
        answer = await api.request(request.method, request.path, json=request.payload, headers=request.headers, ok=_ANY_STATUS)
        duration_ms = round((time.monotonic() - began) * 1000)
        passed = answer.status in request.passing
        if not passed and intent.tries < MAX_TRIES:
            _raise_if_to_be_sent_again(request, answer)
        outputs, message = _outputs(_json(answer.content))
        if not passed:
            message = f"{request.name} was answered {answer.status}, and that does not pass"
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
        """Return None for a method that may be sent twice (GET, PUT, DELETE); raise `Ambiguous` for any other."""
        if method_of(intent) in IDEMPOTENT:
            return None
        raise Ambiguous(
            f"the {method_of(intent)} request may have been made, and there is nothing to tell by",
            hint="Look at the service that it goes to; run the item again if nothing happened there.",
        )

    async def poll(self, api: Api, intent: RunIntent, run: Run) -> RunReport:
        """Return how the request ended or, while that is open, what ``poll.url`` says now.

        A condition that cannot be told of the answer (a field that is not there yet) does not hold; if both hold, it failed.
        """
        request = None if run.detail["done"] else request_of(api, intent)
        if request is None or request.poll is None:
            return _finished(run)
        answer = (await api.request("GET", request.poll.path, headers=request.headers)).json()
        failed, no_failure = await self._holds("failureWhen", request.poll.failure_when, answer)
        passed, no_success = await self._holds("successWhen", request.poll.success_when, answer)
        if not failed and not passed:
            return RunReport(run, RunStatus.RUNNING, message=no_success or no_failure)
        return _finished(_ended(run, answer, passed=not failed))

    async def cancel(self, api: Api, intent: RunIntent, run: Run) -> None:
        """There is nothing to tell anybody: no place is known where work that goes on could be ended."""

    async def logs(self, api: Api, intent: RunIntent, run: Run, cursor: str) -> LogLines:
        """Return what was asked and how it was answered; there will be no more."""
        detail = run.detail
        lines = (f"{detail.get('method')} {run.url}", f"{detail.get('status')} after {detail.get('duration_ms')} ms")
        seen = int(cursor) if cursor.isdecimal() else 0
        return LogLines(lines[seen:], str(len(lines)), complete=True)

    def run_id_of(self, event_type: str, payload: Any) -> str:
        """No event is about it."""
        return ""

    def attempt_of(self, event_type: str, payload: Any) -> int:
        """No event is about it."""
        return 0

    def _evaluator(self) -> Evaluate:
        if self._evaluate is None:
            raise ReconcilerError("this executor was made without a way to evaluate conditions", code="RC9001")
        return self._evaluate

    async def _holds(self, name: str, condition: str, answer: Any) -> tuple[bool, str]:
        """Return whether ``condition`` holds, and why that cannot be told; its text is not repeated: values were put into it."""
        if not condition:
            return False, ""
        try:
            return await self._evaluator()(condition, answer), ""
        except ValueError as error:
            return False, f"`{name}` cannot be told of the answer: {error}"[:400]


def _raise_if_to_be_sent_again(request: HttpRequest, answer: ApiResponse) -> None:
    """Raise if the answer proves that nothing was done, or if it does not matter whether anything was."""
    status, headers = answer.status, answer.headers
    there = date_of(headers) or time.time()
    until = retry_after(headers, there)
    told = status in {429, 503} and until is not None
    if not told and not (request.method in IDEMPOTENT and (status >= 500 or status in {408, 425, 429})):
        return
    error = RateLimited if status == 429 else ProviderUnavailable
    at = None if until is None else time.time() + until - there
    raise error(f"{request.name} was answered {status}: it is sent again", status=status, request=request.name, retry_at=at)


def _ended(run: Run, answer: Any, *, passed: bool) -> Run:
    """Return the run with the end that an answer told."""
    outputs, message = _outputs(answer)
    word = "successWhen" if passed else "failureWhen"
    told = (message or str(run.detail["message"])) if passed else "`failureWhen` holds"
    merged = {**run.detail["outputs"], **outputs}
    return dataclasses.replace(
        run, detail={**run.detail, "done": True, **_end(passed=passed, conclusion=word, message=told, outputs=merged)}
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


def _outputs(answer: Any) -> tuple[JsonObject, str]:
    """Return what an answer hands on, and what is wrong with it."""
    outputs = answer.get("outputs") if isinstance(answer, Mapping) else None
    if not isinstance(outputs, Mapping):
        return {}, ""
    if too_deep(outputs):
        return {}, f"the outputs were left out: they are nested deeper than {DEEPEST} levels"
    if len(orjson.dumps(outputs)) > MAX_OUTPUTS:
        return {}, f"the outputs were left out: they are larger than {MAX_OUTPUTS >> 10} KiB"
    return outputs, ""


IDEMPOTENT = frozenset({"GET", "PUT", "DELETE"})
"""Methods that, sent twice, intend what they intend sent once (RFC 9110 §9.2.2)."""
SUCCESSFUL = frozenset(range(200, 300))
_BODILESS = frozenset({"GET", "DELETE"})
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class Poll:
    """What is asked until one of the conditions holds."""

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
    """The URL as it may be stored."""
    headers: Mapping[str, str]
    payload: JsonObject | None
    passing: frozenset[int]
    poll: Poll | None

    @property
    def name(self) -> str:
        """What messages call it: method and path."""
        return f"{self.method} {self.path.partition('?')[0]}"


def request_of(api: Api, intent: RunIntent) -> HttpRequest:
    """Return the request of ``intent``; raises `ValidationFailed` for one that cannot be sent as it stands."""
    spec = intent.spec
    url, method = str(spec.get("url") or ""), method_of(intent)
    path = _path(api, url, "url")
    payload = spec.get("payload", None if method in _BODILESS else {})
    codes = spec.get("responsePolicy", {}).get("statusCodes")
    passing = frozenset(codes) if codes else SUCCESSFUL
    return HttpRequest(method, path, shown(url), _headers(intent), payload, passing, _poll(api, spec.get("poll")))


def method_of(intent: RunIntent) -> str:
    """Return the method: POST unless the spec has another."""
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
            hint="One execution talks to one scheme, host and port: that of `url`.",
        )
    return path_of(url)


def _headers(intent: RunIntent) -> dict[str, str]:
    """Return the spec's headers, except those that are ours to set, and the execution's id under both its names."""
    found: dict[str, str] = {}
    for name, value in (intent.spec.get("headers") or {}).items():
        text = text_of(value)
        if not _NAME.fullmatch(name) or not text.isascii() or not text.isprintable():
            raise ValidationFailed(
                f"the header {ascii(name)[:80]} cannot be sent", hint="A value is one line of printable ASCII."
            )
        if name.lower() not in UNSETTABLE_HEADERS:
            found[name.lower()] = text.strip()
    return {**found, "idempotency-key": intent.correlation, "x-reconciler-execution": intent.correlation}


class NoopExecutor(NoJobToken):
    """Implements `reconciler.drivers.base.Executor`; never uses its client."""

    type = "noop"
    needs_integration = False
    settle_s = 0.0
    by_clock = False
    poll_s = 1.0

    def permissions(self, executor: JsonObject) -> Mapping[str, str]:
        """Nothing is asked for."""
        return {}

    async def start(self, api: Api, intent: RunIntent) -> Run | None:
        """Return a run that is over."""
        return Run(intent.correlation, detail={"done": True})

    async def find(self, api: Api, intent: RunIntent) -> Run | None:
        """Return the same: there is nothing that could be missing."""
        return await self.start(api, intent)

    async def poll(self, api: Api, intent: RunIntent, run: Run) -> RunReport:
        """Passed."""
        return RunReport(run, RunStatus.FINISHED, Result.PASSED, self.type)

    async def cancel(self, api: Api, intent: RunIntent, run: Run) -> None:
        """Already ended."""

    async def logs(self, api: Api, intent: RunIntent, run: Run, cursor: str) -> LogLines:
        """Return no line."""
        return LogLines((), cursor, complete=True)

    def run_id_of(self, event_type: str, payload: Any) -> str:
        """No event is about it."""
        return ""

    def attempt_of(self, event_type: str, payload: Any) -> int:
        """No event is about it."""
        return 0


PROVIDER = "http"
_PORTS = {"https": 443, "http": 80}


def connection_to(url: str, owner_resource: ResourceId) -> Connection:
    """Return a connection without a credential to the origin of ``url``, in the name of ``owner_resource``.

    Raises `ValidationFailed` for what is no http(s) URL, or has a user name or password in it.
    """
    origin = origin_of(url)
    return Connection(owner_resource, PROVIDER, origin, origin, "", {"use": "none"})


def origin_of(url: str) -> str:
    """Return scheme, host and port of ``url``, the scheme's own port left out (RFC 6454 §4). Raises `ValidationFailed`."""
    parts = _split(url)
    host = parts.hostname or ""
    name = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, _PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{name}{port}"


def require_written_out(written: str, url: str) -> None:
    """Raise `ValidationFailed` unless scheme, host and port of ``url`` stand in the manifest as they are: ``written``, in which
    templates are not replaced. Validation refuses such a manifest; one that was accepted by an older version may be in force.
    """
    root = written.partition("${{")[0]
    behind = root.partition("://")[2]
    if root != written and not any(mark in behind for mark in "/?#"):
        raise ValidationFailed("the host of the URL is a template", hint="Write scheme, host and port out in the manifest.")
    if origin_of(root) != origin_of(url):
        raise ValidationFailed("the URL leads to another host than the manifest names")


def path_of(url: str) -> str:
    """Return path and query of ``url``: what is asked of its origin. Raises `ValidationFailed`."""
    parts = _split(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def shown(url: str) -> str:
    """Return ``url`` without query and fragment, as it may be stored and shown. Raises `ValidationFailed`."""
    return origin_of(url) + path_of(url).partition("?")[0]


def _split(url: str) -> SplitResult:
    """Take ``url`` apart; messages repeat nothing of it, since a secret may have been put into it."""
    if not all("!" <= char <= "~" and char != "\\" for char in url):
        raise ValidationFailed("the URL has a character that no URL has", hint="Percent-encode values that are put into a URL.")
    try:
        parts = urlsplit(url)
        readable = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        readable = False
    if not readable:
        raise ValidationFailed("the URL is not http(s)://HOST/…")
    if "@" in parts.netloc:
        raise ValidationFailed("the URL holds a user name or password", hint="Send it in a header, by `${{ secrets.NAME }}`.")
    return parts
