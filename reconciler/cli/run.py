"""``run``: the daemon, and ``run --once``, one full pass."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import time
from pathlib import Path
from typing import Any

from reconciler import __version__
from reconciler.cli.main import EXIT_ERROR, EXIT_INVALID, EXIT_OK, EXIT_PARTIAL
from reconciler.cli.session import configuration
from reconciler.config.load import Config
from reconciler.daemon.pipeline import EventPipeline
from reconciler.daemon.session import Options, Session, Signals, SystemdNotifier, daemon_actor, open_session
from reconciler.engine import statusfile
from reconciler.engine.control import Control
from reconciler.engine.converge import PassOutcome, full_pass
from reconciler.engine.loop import Loop
from reconciler.engine.publishing import Publisher
from reconciler.engine.runtime import Runtime
from reconciler.log import get_logger
from reconciler.model.errors import ReconcilerError

DRAIN_S = 25
STATE_STUCK_S = 12.0
"""A call of the database that takes longer is a half-open connection, or a server that stands still."""


def run(options: argparse.Namespace) -> int:
    """Run the daemon, or one pass with ``--once``."""
    config = configuration(options)
    if options.once:
        return asyncio.run(_once(config))
    while True:
        outcome = asyncio.run(Daemon(config, options).serve())
        if outcome is None:
            config = configuration(options)  # SIGHUP with a configuration that was found valid
            continue
        return outcome


async def _once(config: Config) -> int:
    async with open_session(config, Options(actor=daemon_actor())) as session:
        info = statusfile.DaemonInfo(__version__, os.getpid(), time.time(), "once")
        verdict = await full_pass(session.engine, wait_settle=True)
        await publisher(session).publish(info)
        return exit_code(verdict)


def exit_code(verdict: PassOutcome) -> int:
    """Return the exit code of a pass: the gravest of what was found."""
    if verdict is PassOutcome.SOURCE_FAILED:
        return EXIT_ERROR
    if verdict is PassOutcome.INVALID:
        return EXIT_INVALID
    return EXIT_PARTIAL if verdict is PassOutcome.PARTIAL else EXIT_OK


def publisher(session: Session) -> Publisher:
    """Return what writes the status file of ``session``."""
    return Publisher(session.engine.current, session.redactor, Path(session.config.status.file))


class Daemon:
    """One life of the daemon under one configuration."""

    def __init__(self, config: Config, options: argparse.Namespace) -> None:
        self._config = config
        self._options = options
        self._signals = Signals()
        self._notifier = SystemdNotifier()
        self._started_at = time.time()
        self._phase = "starting"
        self._log = get_logger("daemon")

    async def serve(self) -> int | None:
        """Serve until a signal; returns the exit code, or None to start again with a new configuration."""
        self._signals.install()
        async with open_session(self._config, Options(actor=daemon_actor())) as session:
            runtime = await self._runtime(session)
            self._publisher = publisher(session)
            if session.deps.store.dialect != "sqlite":
                session.engine.holder, session.engine.patient = runtime.executor_id, False
            loop = Loop(session.engine, runtime, session.deps, publish=self._publish, monotonic=time.monotonic)
            working = EventPipeline(
                session.engine.current,
                runtime,
                holder=runtime.executor_id,
                beat=lambda name, limit_s: loop.beats.beat(name, time.monotonic(), limit_s),
                touch=loop.touch,
            )
            session.engine.read_event_status = working.event_status.read
            loop.more = working.loops()
            async with contextlib.AsyncExitStack() as stack:
                stack.callback(working.close)
                await stack.enter_async_context(self._listening(session, loop, working))
                await runtime.start(loop.run_slice, working.runner.step)
                clock = stack.enter_context(self._clock(session, loop, runtime))
                clock.start()
                self._phase = "running"
                self._log.info(
                    "daemon_started",
                    version=__version__,
                    pid=os.getpid(),
                    owner=session.config.owner,
                    source=session.config.source.url,
                )
                self._notifier.send("READY=1", f"STATUS=syncing {session.config.source.url}")
                again = await self._until_told(loop, session)
                self._phase = "draining"
                self._notifier.send("STOPPING=1")
                session.engine.drain()
                working.drain()
                await self._publish()
                await runtime.stop(DRAIN_S)
                self._phase = "stopped"
                await session.engine.finish_pass()
                await self._publish()
        self._log.info("daemon_stopped", signal=self._signals.number)
        return None if again else EXIT_OK

    async def _runtime(self, session: Session) -> Runtime:
        incarnation = await session.deps.store.get_meta("incarnation") or "none"
        # One process on SQLite: a fixed id, so that it takes up what its own last life left. Among peers each has its own.
        executor = "single" if session.deps.store.dialect == "sqlite" else f"{socket.gethostname()}-{os.getpid()}"
        return Runtime(session.config.engine_url, incarnation=incarnation, executor_id=executor)

    async def _until_told(self, loop: Loop, session: Session) -> bool:
        """Run the loops until TERM or INT; True when a reload with a valid configuration was asked for."""
        stop = asyncio.Event()
        reload = asyncio.create_task(self._reloads(stop))
        nudges = asyncio.create_task(self._nudges(loop))
        told = asyncio.create_task(self._signals.stop.wait())
        told.add_done_callback(lambda _: stop.set())
        try:
            await loop.run(stop)
        finally:
            for task in (reload, nudges, told):
                task.cancel()
            await asyncio.gather(reload, nudges, told, return_exceptions=True)
        return not self._signals.stop.is_set()

    async def _reloads(self, stop: asyncio.Event) -> None:
        """SIGHUP: a configuration that is not valid changes nothing."""
        while True:
            await self._signals.reload.wait()
            self._signals.reload.clear()
            try:
                fresh = configuration(self._options)
            except ReconcilerError as error:
                self._log.error("reload_refused", code=error.code, error=error.message)
                continue
            if fresh == self._config:
                self._log.info("reload_unchanged")
                continue
            self._log.info("reloading")
            self._notifier.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            stop.set()
            return

    async def _nudges(self, loop: Loop) -> None:
        while True:
            await self._signals.now.wait()
            self._signals.now.clear()
            self._log.info("reconcile_requested", by="SIGUSR1")
            loop.poll_now()
            await loop.trigger(explicit=True)

    @contextlib.contextmanager
    def _clock(self, session: Session, loop: Loop, runtime: Runtime) -> Any:
        from reconciler.engine.housekeeping import Clock

        clock = Clock(
            session.deps,
            runtime,
            watchdog_s=self._notifier.watchdog_s,
            alive=lambda: not loop.beats.dead(time.monotonic()),
            notify=self._notifier.send,
        )
        loop.on_turned = clock.again
        try:
            yield clock
        finally:
            clock.stop()

    @contextlib.asynccontextmanager
    async def _listening(self, session: Session, loop: Loop, working: EventPipeline) -> Any:
        from reconciler.server.admin import AdminServer
        from reconciler.server.api.handlers import Backend, Status
        from reconciler.server.api.routes import Routes
        from reconciler.server.app import App
        from reconciler.server.health import Probes
        from reconciler.server.http import HttpServer
        from reconciler.server.metrics import Metrics
        from reconciler.server.verbs import Verbs
        from reconciler.server.webhooks import WebhookEndpoint

        metrics = Metrics(session.engine.current)
        session.engine.on_slice = metrics.observe_slice
        working.runner.on_end = metrics.observe_execution
        metrics.watch_deliveries(working.intake.counts)

        async def trigger(integrations: tuple[Any, ...]) -> None:
            await loop.trigger(integrations, explicit=True)

        control, config = Control(session.engine, trigger), session.config.server
        verbs = Verbs(control, working.commands, working.logs)
        admin = AdminServer(session.config.state_dir, verbs.handle)

        def dead() -> list[str]:
            """Loops that do not come round, and a database that does not answer though its connection stands."""
            stuck = ["state"] if session.deps.store.thread.busy_s() > STATE_STUCK_S else []
            return [*loop.beats.dead(time.monotonic()), *stuck]

        probes = Probes(dead, lambda: loop.first_pass_done and not dead(), metrics.render)
        status = Status(lambda: self._publisher.encoded(self._info()), self._publisher.row)
        backend = Backend(working.commands, control, working.logs, working.pushing, status, config.public_url)
        api = Routes(backend, config.tokens, session.redactor)
        app = App(probes, WebhookEndpoint(working.intake.receive, max_body=config.max_body), api.routes())
        http = HttpServer(config.listen, app)
        await admin.start()
        try:
            await http.start()
            yield
        finally:
            await admin.stop()
            await http.stop()

    async def _publish(self) -> None:
        try:
            await self._publisher.publish(self._info())
        except OSError as error:
            self._log.error("status_file_failed", error=f"{type(error).__name__}: {error.strerror}")

    def _info(self) -> statusfile.DaemonInfo:
        return statusfile.DaemonInfo(__version__, os.getpid(), self._started_at, self._phase)


__all__ = ["Daemon", "exit_code", "run"]
