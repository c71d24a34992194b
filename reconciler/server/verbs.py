"""Verbs of the admin socket: those of the engine and those of events and stages, by name. Also for a process of its own."""

from __future__ import annotations

import pwd
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from reconciler.engine.control import Control
from reconciler.events.commands import Commands
from reconciler.stages.logs import LogReader

Look = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
Act = Callable[[Mapping[str, Any], str], Awaitable[Mapping[str, Any]]]


class Verbs:
    """Answers a request of the admin socket; ``peer`` is the kernel's word for who asks (``uid:1000``)."""

    def __init__(self, control: Control, commands: Commands, logs: LogReader) -> None:
        self._control = control
        self._logs = logs
        self._look: Mapping[str, Look] = {
            "events": commands.events,
            "event": commands.event,
            "executions": commands.executions,
            "execution": commands.execution,
        }
        self._act: Mapping[str, Act] = {
            "trigger": commands.trigger,
            "approve-item": commands.approve,
            "cancel": commands.cancel,
            "rerun": commands.rerun,
            "redeliver": commands.redeliver,
            "replay": commands.replay,
        }

    async def handle(self, request: Mapping[str, Any], peer: str) -> Mapping[str, Any]:
        """Answer one request; raises `ReconcilerError` for what cannot be done."""
        verb = str(request.get("verb"))
        if verb in self._look:
            return await self._look[verb](request)
        if verb in self._act:
            return await self._act[verb](request, person(peer))
        if verb == "logs":
            piece = await self._logs.read(str(request["id"]), str(request.get("cursor") or ""))
            return {"lines": list(piece.lines), "cursor": piece.cursor, "complete": piece.complete}
        return await self._control.handle(request, peer)


def person(peer: str) -> str:
    """Return the local user's name for ``uid:1000``: what an approver is called in a manifest; the uid where it has no name."""
    number = peer.removeprefix("uid:")
    try:
        return pwd.getpwuid(int(number)).pw_name
    except (KeyError, ValueError):
        return peer
