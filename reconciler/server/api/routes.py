"""Routes of ``/api/v1``. Every operation has the same steps: authenticate, validate the request, run the handler, redact the answer."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from reconciler.config.values import ApiToken
from reconciler.credentials.redact import Redactor
from reconciler.log import get_logger
from reconciler.model.errors import ReconcilerError
from reconciler.server.api import requests
from reconciler.server.api.access import Access, FailedLoginThrottle, Tokens, TooMany, Unauthorized, bearer
from reconciler.server.api.errors import Invalid
from reconciler.server.api.handlers import Backend, Ready
from reconciler.server.api.operations import HTTP_OPERATIONS, PREFIX, Operation
from reconciler.server.api.requests import Checks
from reconciler.server.api.streams import LogStreams
from reconciler.stages.outputs import OutputsRefused

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
Endpoint = Callable[[Request], Awaitable[Response]]


class Routes:
    """The routes and their endpoints."""

    def __init__(
        self, backend: Backend, tokens: Sequence[ApiToken], redactor: Redactor, *, throttle: FailedLoginThrottle | None = None
    ) -> None:
        self._backend = backend
        self._tokens = Tokens(tokens)
        self._throttle = throttle or FailedLoginThrottle()
        self._redactor = redactor
        self._streams = LogStreams(backend, redactor)
        self._log = get_logger("api")

    def routes(self) -> tuple[BaseRoute, ...]:
        """Return a route for every operation, and one for all other paths below ``/api``."""
        known: list[Route] = []
        for operation in HTTP_OPERATIONS:
            path = operation.path
            if operation.name == "event":
                path = path.replace("{id}", "{id:path}")  # an id of the sender may contain a slash
            known.append(_route(PREFIX + path, self._endpoint(operation), [operation.method]))

        async def other(request: Request) -> Response:
            """Answer 404, or 405 if the path has other methods."""
            allowed = sorted({method for route in known for method in _methods(route, request)})
            missing = Invalid(f"no operation {request.method} {request.url.path}"[:300], status=405 if allowed else 404)
            return self._refused(missing, {"allow": ", ".join(allowed)} if allowed else {})

        return (*known, _route("/api/{rest:path}", other, list(METHODS)))

    def _endpoint(self, operation: Operation) -> Endpoint:
        checks = Checks(operation)

        async def endpoint(request: Request) -> Response:
            try:
                who = self._who(operation, request)
                values = await checks.values(request)
                if operation.stream and values.get("follow") == "1":
                    return await self._streams.follow(values, who)
                content = await operation.handler(self._backend, values, who)
                if operation.access is not Access.PUBLIC and not isinstance(content, Ready):
                    content = self._redactor.redact_fields(content)
                return requests.answer(content, operation.status)
            except ReconcilerError as error:
                return self._refused(self._counted(error, request))
            except Exception as error:  # a defect becomes an answer here, and nowhere else  # noqa: BLE001
                self._log.error("internal_error", operation=operation.name, error=type(error).__name__, exc_info=True)
                return requests.answer({"code": "RC9001", "message": "a defect of this program", "hint": "See the log."}, 500)

        return endpoint

    def _who(self, operation: Operation, request: Request) -> str:
        """Return the name of the caller's token; for an operation of jobs, the token itself. Raises `Unauthorized`, `Forbidden`."""
        header = request.headers.get("authorization", "")
        if operation.access is Access.PUBLIC:
            return ""
        if operation.access is Access.JOB:
            token = bearer(header)
            if not token:
                raise OutputsRefused("a bearer token is required: the job's own", hint="See docs/api.md.")
            return token
        return self._tokens.check(header, operation.access).name

    def _counted(self, error: ReconcilerError, request: Request) -> ReconcilerError:
        """Return ``error``, or `TooMany` if the peer has sent too many wrong tokens."""
        if not isinstance(error, Unauthorized) and not (isinstance(error, OutputsRefused) and error.status == 401):
            return error
        if not request.headers.get("authorization"):
            return error  # the caller did not try a token
        peer = request.client.host if request.client is not None else "?"
        if not self._throttle.failed(peer):
            return TooMany("too many wrong tokens from this address", hint="Wait a minute.")
        self._log.warning("api_refused", peer=peer, path=request.url.path[:200], error=error.message)
        return error

    def _refused(self, error: ReconcilerError, headers: Mapping[str, str] | None = None) -> Response:
        status = requests.status_of(error)
        content = self._redactor.redact_fields(requests.body_of(error))
        return requests.answer(content, status, {**requests.headers_of(status), **(headers or {})})


def _route(path: str, endpoint: Endpoint, methods: list[str]) -> Route:
    """Return a route whose last part may contain any character. Starlette's own does not match a line break."""
    route = Route(path, endpoint, methods=methods)
    route.path_regex = re.compile(route.path_regex.pattern, re.DOTALL)
    return route


def _methods(route: Route, request: Request) -> set[str]:
    return set(route.methods or ()) if route.path_regex.match(request.url.path) else set()
