"""How a verb about events and stages is asked: of the running daemon; what only looks, without one, of the state itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from reconciler.cli.session import ask_daemon, configuration_state
from reconciler.config.load import Config

Ask = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
ANSWER_S = 60.0


def act(config: Config, request: Mapping[str, Any], *, timeout_s: float = ANSWER_S) -> Mapping[str, Any]:
    """Return the daemon's answer. Only it acts on events and stages: without one, `NoDaemon` names the next step."""
    from reconciler.server.admin import call

    return call(config.state_dir, request, timeout_s=timeout_s)


def look(config: Config, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the answer to a question that changes nothing, with or without a daemon."""

    async def once() -> Mapping[str, Any]:
        async with looking(config) as ask:
            return await ask(request)

    return asyncio.run(once())


@contextlib.asynccontextmanager
async def looking(config: Config) -> AsyncIterator[Ask]:
    """Yield what answers questions: the daemon, or this process over the state, which it opens to read and does not lock."""
    if await asyncio.to_thread(ask_daemon, config, {"verb": "ping"}) is not None:
        yield lambda request: asyncio.to_thread(act, config, request)
        return
    from reconciler.daemon.session import Options, open_session

    configuration_state(config)
    async with open_session(config, Options(lock=False, create=False, read_only=True, log_level="error")) as session:
        verbs = _verbs(session.engine)
        yield lambda request: verbs.handle(request, f"uid:{os.getuid()}")


def _verbs(engine: Any) -> Any:
    """The daemon's own table of verbs, over an engine that cannot write."""
    from reconciler.engine.control import Control
    from reconciler.events.commands import Commands
    from reconciler.events.group_commit import Writer
    from reconciler.events.intake import Intake
    from reconciler.events.recovery import Recovery
    from reconciler.server.verbs import Verbs
    from reconciler.stages.executors import ExecutorResolver
    from reconciler.stages.logs import LogReader

    async def trigger(integrations: tuple[Any, ...]) -> None:
        """Nothing is reconciled from here."""

    current = engine.current
    intake = Intake(current, Writer(engine.deps), on_event=_nothing, on_health_change=_nothing)
    commands = Commands(current, Recovery(current, intake, holder="cli"), wake_events=_nothing, wake_stages=_nothing)
    return Verbs(Control(engine, trigger), commands, LogReader(current, ExecutorResolver(current)))


def _nothing() -> None:
    """No loop runs in this process that could be woken."""
