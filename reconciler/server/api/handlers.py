"""What each operation does: it asks the one owner of the verb and hands on the answer. No rule of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from reconciler.engine.control import Control
from reconciler.events.commands import Commands
from reconciler.model.errors import ReconcilerError, UsageError
from reconciler.model.resources import ResourceId
from reconciler.model.values import too_deep
from reconciler.server.api.document import document
from reconciler.server.api.requests import Invalid, Ready
from reconciler.stages.logs import LogReader, NoLog
from reconciler.stages.outputs import MAX_BYTES, MAX_OUTPUTS, OutputReceiver

Values = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """What is: the whole document as redacted JSON, and the row of one resource."""

    document: Callable[[], Awaitable[bytes]]
    row: Callable[[ResourceId], Mapping[str, Any] | None]


@dataclasses.dataclass(frozen=True, slots=True)
class Backend:
    """What the API works with."""

    commands: Commands
    control: Control
    logs: LogReader
    pushing: OutputReceiver
    status: Status
    public_url: str = ""


class Handlers:
    """One method an operation, named as it is. ``who`` is the token's name; for `outputs` the job's token itself."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._document = document(backend.public_url)

    def find(self, name: str) -> Callable[[Values, str], Awaitable[Mapping[str, Any] | Ready]]:
        """Return the handler of an operation."""
        found: Callable[[Values, str], Awaitable[Mapping[str, Any] | Ready]] = getattr(self, name)
        return found

    # -- looking ----------------------------------------------------------------------------------------------------

    async def openapi(self, values: Values, who: str) -> Mapping[str, Any]:
        """The document itself."""
        return self._document

    async def status(self, values: Values, who: str) -> Ready:
        """What is."""
        return Ready(await self._backend.status.document())

    async def events(self, values: Values, who: str) -> Mapping[str, Any]:
        """A page of events."""
        return await self._backend.commands.events(values)

    async def event(self, values: Values, who: str) -> Mapping[str, Any]:
        """One event."""
        return await self._backend.commands.event(values)

    async def executions(self, values: Values, who: str) -> Mapping[str, Any]:
        """A page of items and executions."""
        return await self._backend.commands.executions(values)

    async def execution(self, values: Values, who: str) -> Mapping[str, Any]:
        """One item or execution."""
        return await self._backend.commands.execution(values)

    async def logs(self, values: Values, who: str) -> Mapping[str, Any]:
        """A piece of a log."""
        identity = await self._execution_of(str(values["id"]))
        try:
            piece = await self._backend.logs.read(identity, str(values.get("cursor", "")))
        except ValueError:
            raise Invalid("this is no cursor of this log", pointer="/query/cursor") from None
        return {"lines": list(piece.lines), "cursor": piece.cursor, "complete": piece.complete}

    async def _execution_of(self, identity: str) -> str:
        """Return the execution that is meant: for an item its newest."""
        if not identity.startswith("itm-"):
            return identity
        found = await self._backend.commands.execution({"id": identity})
        if not found["executions"]:
            raise NoLog(f"{identity} has not run: it is {found['item']['state']}")
        return str(found["executions"][-1]["id"])

    async def resource(self, values: Values, who: str) -> Mapping[str, Any]:
        """The status of one resource."""
        identity = self._backend.control.find(_name(values))
        row = self._backend.status.row(identity)
        if row is None:
            raise ReconcilerError(f"{identity} has no status yet", code="RC6025", hint="Ask again after the next pass.")
        return row

    # -- doing ------------------------------------------------------------------------------------------------------

    async def trigger(self, values: Values, who: str) -> Mapping[str, Any]:
        """Make an event."""
        return await self._backend.commands.trigger(values, who)

    async def approve(self, values: Values, who: str) -> Mapping[str, Any]:
        """Approve an item."""
        return await self._backend.commands.approve(values, who)

    async def cancel(self, values: Values, who: str) -> Mapping[str, Any]:
        """Discard an item, or end an execution."""
        return await self._backend.commands.cancel(values, who)

    async def rerun(self, values: Values, who: str) -> Mapping[str, Any]:
        """Repeat what has ended."""
        return await self._backend.commands.rerun(values, who)

    async def replay(self, values: Values, who: str) -> Mapping[str, Any]:
        """Hand a stored event on anew."""
        return await self._backend.commands.replay(values, who)

    async def redeliver(self, values: Values, who: str) -> Mapping[str, Any]:
        """Look for what was missed."""
        return await self._backend.commands.redeliver(values, who)

    async def outputs(self, values: Values, who: str) -> Mapping[str, Any]:
        """Take a job's outputs; ``who`` is its token."""
        pushed = values["outputs"]
        if len(pushed) > MAX_OUTPUTS:
            raise Invalid(f"more than {MAX_OUTPUTS} outputs", status=413, pointer="/body/outputs")
        if not too_deep(pushed) and len(orjson.dumps(pushed)) > MAX_BYTES:
            raise Invalid(f"the outputs are larger than {MAX_BYTES} bytes", status=413, pointer="/body/outputs")
        return {"outputs": await self._backend.pushing.push(str(values["execution_id"]), who, pushed)}

    async def approve_plan(self, values: Values, who: str) -> Mapping[str, Any]:
        """Approve a blocked set."""
        return await self._backend.control.approve(values, who)

    async def reconcile(self, values: Values, who: str) -> Mapping[str, Any]:
        """Look again."""
        return await self._backend.control.reconcile({"resource": _name(values)}, who)

    async def suspend(self, values: Values, who: str) -> Mapping[str, Any]:
        """Stop writes."""
        request = {"resource": _name(values), "reason": values["reason"], "until": values.get("until")}
        try:
            return await self._backend.control.suspend(request, who)
        except (ValueError, OverflowError, OSError):
            raise UsageError(f"until {values.get('until')} is no time that can be kept") from None

    async def resume(self, values: Values, who: str) -> Mapping[str, Any]:
        """Allow writes again."""
        return await self._backend.control.resume({"resource": _name(values)}, who)


def _name(values: Values) -> str:
    """Return ``KIND/NAME[@CANVAS]``."""
    return f"{values['kind']}/{values['name']}" + (f"@{values['canvas']}" if values.get("canvas") else "")
