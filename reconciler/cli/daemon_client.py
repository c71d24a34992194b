"""Sends requests to the running daemon; without one, reads are answered from the state itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import msgspec

from reconciler import __version__
from reconciler.cli.output import emit_json
from reconciler.cli.session import ask_daemon, require_state
from reconciler.config.settings import Config
from reconciler.model.errors import StateError

if TYPE_CHECKING:
    from reconciler.daemon.session import Session
    from reconciler.engine.control import TriggerSlices
    from reconciler.model.resources import ResourceId
    from reconciler.server.admin import AdminOperations

ANSWER_S = 60.0
Request = Mapping[str, object]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DaemonAnswer(Generic[T]):
    """One answer: ``document`` is the JSON object for scripts, ``view`` the same as a struct."""

    document: Mapping[str, object]
    view: T

    def show(self, output: str, as_text: Callable[[T], None]) -> None:
        """Print the document if ``output`` is ``json``, else the view."""
        if output == "json":
            emit_json(self.document)
        else:
            as_text(self.view)


class Ask(Protocol):
    """Answers read requests, whether a daemon runs or not."""

    async def __call__(self, request: Request, kind: type[T]) -> T: ...


def answer_of(document: Mapping[str, object], kind: type[T]) -> DaemonAnswer[T]:
    """Return an answer with its view. Raises `StateError` (RC8001) if it has another form."""
    try:
        return DaemonAnswer({name: value for name, value in document.items() if name != "ok"}, msgspec.convert(document, kind))
    except msgspec.ValidationError as error:
        raise StateError(
            f"the answer of the daemon cannot be read: {error}",
            code="RC8001",
            hint="Use the same version of command and daemon.",
        ) from None


def act(config: Config, request: Request, kind: type[T], *, timeout_s: float = ANSWER_S) -> DaemonAnswer[T]:
    """Return the daemon's answer. Raises `NoDaemon` without one: only the daemon acts on events and stages."""
    from reconciler.server.admin import call

    return answer_of(call(config.state_dir, request, timeout_s=timeout_s), kind)


def look(config: Config, request: Request, kind: type[T]) -> DaemonAnswer[T]:
    """Return the answer to a read request, whether a daemon runs or not."""

    async def once() -> DaemonAnswer[T]:
        async with _reader(config) as read:
            return answer_of(await read(request), kind)

    return asyncio.run(once())


@contextlib.asynccontextmanager
async def looking(config: Config) -> AsyncIterator[Ask]:
    """Yield a function for several read requests."""
    async with _reader(config) as read:

        async def ask(request: Request, kind: type[T]) -> T:
            return answer_of(await read(request), kind).view

        yield ask


class _Read(Protocol):
    async def __call__(self, request: Request, /) -> Mapping[str, object]: ...


@contextlib.asynccontextmanager
async def _reader(config: Config) -> AsyncIterator[_Read]:
    """Yield the daemon, or this process over the state, which it opens without the lock."""
    if await asyncio.to_thread(ask_daemon, config, {"verb": "ping"}) is not None:
        from reconciler.server.admin import call

        async def from_daemon(request: Request) -> Mapping[str, object]:
            return await asyncio.to_thread(call, config.state_dir, request, timeout_s=ANSWER_S)

        yield from_daemon
        return
    from reconciler.daemon.session import Options, open_session

    require_state(config)
    async with open_session(config, Options(lock=False, create=False, read_only=True, log_level="error")) as session:
        operations = operations_of(session, _no_trigger)

        async def from_state(request: Request) -> Mapping[str, object]:
            return await operations.handle(request, f"uid:{os.getuid()}")

        yield from_state


def operations_of(session: Session, trigger: TriggerSlices) -> AdminOperations:
    """Return the operations of the admin socket over a session of this process, for use without a daemon."""
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
    logs, pushing = LogReader(current, executors), OutputReceiver(current, executors)
    return AdminOperations(Backend(commands, control, logs, pushing, status, issuer=session.issuer))


async def _no_trigger(integrations: tuple[ResourceId, ...]) -> None:
    """Reconcile nothing: this process only reads."""


def _nothing() -> None:
    """Wake nothing: no loop runs in this process."""
