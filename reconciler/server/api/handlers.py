"""Handlers of operations that do more than call one service. A handler gets the services, the values of the request and the caller.

``who`` is the caller in the audit log: the name of a token, or the local user; for `outputs`, the job's token.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from reconciler.credentials.id_tokens import IdTokenIssuer
from reconciler.engine.control import Control
from reconciler.events.commands import Commands
from reconciler.events.requests import CommandRequest, ExecutionRequest, decode_request
from reconciler.model.errors import ReconcilerError, UsageError
from reconciler.model.resources import ResourceId
from reconciler.model.values import too_deep
from reconciler.notifications.delivery import send_test
from reconciler.reviews.commands import ReviewCommands, ReviewRequest
from reconciler.reviews.pages import ReviewPages
from reconciler.reviews.target import ReviewImpossible
from reconciler.server.api.errors import Invalid
from reconciler.stages.logs import LogReader, NoLog
from reconciler.stages.outputs import MAX_BYTES, MAX_OUTPUTS, OutputReceiver

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ready:
    """An answer that is already encoded and redacted."""

    content: bytes


Answer = Mapping[str, Any] | Ready


@dataclass(frozen=True, slots=True)
class Status:
    """The status document as redacted JSON, and the row of one resource."""

    document: Callable[[], Awaitable[bytes]]
    row: Callable[[ResourceId], Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Backend:
    """The services that operations work with."""

    commands: Commands
    control: Control
    logs: LogReader
    pushing: OutputReceiver
    status: Status
    public_url: str = ""
    issuer: IdTokenIssuer | None = None
    """The OIDC issuer; None if this installation is none."""
    openapi: Callable[[str], Mapping[str, Any]] = lambda _url: {}
    """Returns the OpenAPI document for a public URL. It is built from the table of operations, which imports this module."""
    reviews: ReviewCommands | None = None
    """Reviews of pull requests; None in a one-shot command."""
    review_pages: ReviewPages | None = None


Handler = Callable[[Backend, Values, str], Awaitable[Answer]]
Request = TypeVar("Request", bound=CommandRequest)


def query(kind: type[Request], command: Callable[[Commands], Callable[[Request], Awaitable[Answer]]]) -> Handler:
    """Return the handler of a command that only reads: it decodes the request as a ``kind``."""

    async def handler(backend: Backend, values: Values, who: str) -> Answer:
        request = decode_request(kind, values)
        return await command(backend.commands)(request)

    return handler


def change(kind: type[Request], command: Callable[[Commands], Callable[[Request, str], Awaitable[Answer]]]) -> Handler:
    """Return the handler of a command that changes something, which records who requested it."""

    async def handler(backend: Backend, values: Values, who: str) -> Answer:
        request = decode_request(kind, values)
        return await command(backend.commands)(request, who)

    return handler


async def openapi(backend: Backend, values: Values, who: str) -> Answer:
    """Return the OpenAPI document."""
    return backend.openapi(backend.public_url)


async def status(backend: Backend, values: Values, who: str) -> Answer:
    """Return the status document."""
    return Ready(await backend.status.document())


async def resource(backend: Backend, values: Values, who: str) -> Answer:
    """Return the status of one resource."""
    identity = backend.control.find(resource_name(values))
    row = backend.status.row(identity)
    if row is None:
        raise ReconcilerError(f"{identity} has no status yet", code="RC6025", hint="Try again after the next pass.")
    return row


async def logs(backend: Backend, values: Values, who: str) -> Mapping[str, Any]:
    """Return a piece of the log of an execution, or of an item's newest execution."""
    identity = await _execution_of(backend, str(values["id"]))
    try:
        piece = await backend.logs.read(identity, str(values.get("cursor") or ""))
    except ValueError:
        raise Invalid("not a cursor of this log", pointer="/query/cursor") from None
    return {"lines": list(piece.lines), "cursor": piece.cursor, "complete": piece.complete}


async def _execution_of(backend: Backend, identity: str) -> str:
    if not identity.startswith("itm-"):
        return identity
    detail = await backend.commands.execution(ExecutionRequest(id=identity))
    if not detail["executions"]:
        raise NoLog(f"{identity} has not run: it is {detail['item']['state']}")
    return str(detail["executions"][-1]["id"])


async def outputs(backend: Backend, values: Values, who: str) -> Answer:
    """Store the outputs of a job; ``who`` is its token."""
    pushed = values["outputs"]
    if len(pushed) > MAX_OUTPUTS:
        raise Invalid(f"more than {MAX_OUTPUTS} outputs", status=413, pointer="/body/outputs")
    if not too_deep(pushed) and len(orjson.dumps(pushed)) > MAX_BYTES:
        raise Invalid(f"the outputs are larger than {MAX_BYTES} bytes", status=413, pointer="/body/outputs")
    return {"outputs": await backend.pushing.push(str(values["execution_id"]), who, pushed)}


async def review(backend: Backend, values: Values, who: str) -> Answer:
    """Review a pull request now."""
    if backend.reviews is None:
        raise ReviewImpossible("only the daemon reviews pull requests", hint="Start `reconciler run`.")
    return await backend.reviews.review(decode_request(ReviewRequest, values))


async def reconcile(backend: Backend, values: Values, who: str) -> Answer:
    """Reconcile a resource now."""
    return await backend.control.reconcile({**values, "resource": resource_name(values)}, who)


async def suspend(backend: Backend, values: Values, who: str) -> Answer:
    """Stop writes for a resource."""
    try:
        return await backend.control.suspend({**values, "resource": resource_name(values)}, who)
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"until {values.get('until')} is not a time that can be stored") from None


async def resume(backend: Backend, values: Values, who: str) -> Answer:
    """Allow writes again."""
    return await backend.control.resume({**values, "resource": resource_name(values)}, who)


async def notify_test(backend: Backend, values: Values, who: str) -> Answer:
    """Send a test message through a Notification."""
    return await send_test(backend.control.current, values, who)


def resource_name(values: Values) -> str:
    """Return ``KIND/NAME[@CANVAS]``: as the socket spells it, or from the parts of an API path. Raises `UsageError` without either."""
    if "kind" not in values:
        name = values.get("resource")
        if not isinstance(name, str):
            raise UsageError(
                "the field 'resource' of the request is missing or is not text", hint="For example EventSource/payments."
            )
        return name
    return f"{values['kind']}/{values['name']}" + (f"@{values['canvas']}" if values.get("canvas") else "")
