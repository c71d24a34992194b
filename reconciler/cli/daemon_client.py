"""Sends operations to the running daemon; without one, reads are answered from the state itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler import __version__
from reconciler.cli.session import ask_daemon, configuration_state
from reconciler.config.settings import Config

if TYPE_CHECKING:
    from reconciler.daemon.session import Session
    from reconciler.engine.control import TriggerSlices
    from reconciler.model.resources import ResourceId
    from reconciler.server.admin import AdminOperations

Ask = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
ANSWER_S = 60.0


def act(config: Config, request: Mapping[str, Any], *, timeout_s: float = ANSWER_S) -> Mapping[str, Any]:
    """Return the daemon's answer; raises `NoDaemon` where none runs: only the daemon acts on events and stages."""
    from reconciler.server.admin import call

    return call(config.state_dir, request, timeout_s=timeout_s)


def look(config: Config, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the answer to a request that changes nothing, with or without a daemon."""

    async def once() -> Mapping[str, Any]:
        async with looking(config) as ask:
            return await ask(request)

    return asyncio.run(once())


@contextlib.asynccontextmanager
async def looking(config: Config) -> AsyncIterator[Ask]:
    """Yield what answers read requests: the daemon, or this process over the state, which it opens without the lock."""
    if await asyncio.to_thread(ask_daemon, config, {"verb": "ping"}) is not None:
        yield lambda request: asyncio.to_thread(act, config, request)
        return
    from reconciler.daemon.session import Options, open_session

    configuration_state(config)
    async with open_session(config, Options(lock=False, create=False, read_only=True, log_level="error")) as session:
        operations = operations_of(session, _no_trigger)
        yield lambda request: operations.handle(request, f"uid:{os.getuid()}")


def operations_of(session: Session, trigger: TriggerSlices) -> AdminOperations:
    """Return the operations of the admin socket over a session of this process, where no daemon runs."""
    from reconciler.engine.control import Control
    from reconciler.engine.publisher import Publisher
    from reconciler.engine.statusfile import DaemonInfo
    from reconciler.events.commands import Commands
    from reconciler.events.group_commit import Writer
    from reconciler.events.intake import Intake
    from reconciler.events.recovery import Recovery
    from reconciler.server.admin import AdminOperations
    from reconciler.server.api.handlers import Backend, Status
    from reconciler.stages.executors import ExecutorResolver
    from reconciler.stages.logs import LogReader
    from reconciler.stages.outputs import OutputReceiver

    engine, current = session.engine, session.engine.current
    executors = ExecutorResolver(current)
    intake = Intake(current, Writer(engine.deps), on_event=_nothing, on_health_change=_nothing)
    commands = Commands(current, Recovery(current, intake, holder="cli"), wake_events=_nothing, wake_stages=_nothing)
    publisher = Publisher(current, session.redactor, Path(session.config.status.file))
    status = Status(lambda: publisher.encoded(DaemonInfo(__version__, os.getpid(), time.time(), "once")), publisher.row)
    control = Control(engine, trigger)
    return AdminOperations(Backend(commands, control, LogReader(current, executors), OutputReceiver(current, executors), status))


async def _no_trigger(integrations: tuple[ResourceId, ...]) -> None:
    """Reconcile nothing: this process only reads."""


def _nothing() -> None:
    """Wake nothing: no loop runs in this process."""
