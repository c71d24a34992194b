"""The daemon process: it serves until a signal, reloads on SIGHUP and drains on SIGTERM. `run_once` is a single pass."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

from reconciler import __version__
from reconciler.config.settings import Config
from reconciler.daemon.pipeline import EventPipeline
from reconciler.daemon.session import Options, Session, daemon_actor, open_session
from reconciler.daemon.signals import Signals, SystemdNotifier
from reconciler.daemon.telemetry import Loops, exporting
from reconciler.engine import statusfile
from reconciler.engine.controller import SINGLE
from reconciler.engine.converge import PassOutcome, full_pass
from reconciler.engine.loop import Loop
from reconciler.engine.publisher import Publisher
from reconciler.engine.queue import WorkQueue
from reconciler.engine.view import EventStatus
from reconciler.log import get_logger
from reconciler.model.errors import ReconcilerError
from reconciler.model.exit_codes import EXIT_ERROR, EXIT_INVALID, EXIT_OK, EXIT_PARTIAL
from reconciler.notifications.delivery import with_deliveries
from reconciler.notifications.outbox import NotificationOutbox
from reconciler.reviews.loop import ReviewLoop

DRAIN_S = 25
OUTBOX_S = 30.0
"""How long a single pass waits for its messages to be sent; the next process sends the others."""
Reload = Callable[[], Config]
"""Reads the configuration again. Raises `ReconcilerError` if it is invalid."""


def serve(config: Config, reload: Reload) -> int:
    """Run the daemon until a signal ends it; each valid reload starts a new `Daemon` in the same process."""
    following: Config | None = config
    while following is not None:
        following = asyncio.run(Daemon(following, reload).serve())
    return EXIT_OK


async def run_once(config: Config) -> int:
    """Run one full pass (sync, plan, apply), write the status file and return the exit code."""
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(open_session(config, Options(actor=daemon_actor(), traced=True)))
        holder = session.engine.holder or SINGLE
        await stack.enter_async_context(exporting(session.deps, holder=holder, under_load=lambda _: False, beat=lambda _: None))
        info = statusfile.DaemonInfo(__version__, os.getpid(), time.time(), "once")
        outbox = NotificationOutbox(session.engine.current, holder=holder)
        session.engine.read_event_status = lambda _: with_deliveries(session.engine.current, EventStatus())
        outcome = await full_pass(session.engine, wait_settle=True)
        await outbox.settle(OUTBOX_S)
        await session.engine.finish_pass()  # the messages of this pass are part of its statuses
        await _publisher(session).publish(info)
        return exit_code(outcome)


def exit_code(outcome: PassOutcome) -> int:
    """Return the exit code of a pass."""
    if outcome is PassOutcome.SOURCE_FAILED:
        return EXIT_ERROR
    if outcome is PassOutcome.INVALID:
        return EXIT_INVALID
    return EXIT_PARTIAL if outcome is PassOutcome.PARTIAL else EXIT_OK


def _publisher(session: Session) -> Publisher:
    return Publisher(session.engine.current, session.redactor, Path(session.config.status.file))


def _peer_loops(session: Session, queue: WorkQueue) -> Mapping[str, Callable[[], Awaitable[None]]]:
    if session.deps.store.dialect == "sqlite":
        return {}
    from reconciler.engine.peers import PeerNotifications

    return {"notifications": PeerNotifications(session.deps, queue).run}


class Daemon:
    """The daemon from start to stop, under one configuration."""

    def __init__(self, config: Config, reload: Reload) -> None:
        self._config = config
        self._reload = reload
        self._signals = Signals()
        self._notifier = SystemdNotifier()
        self._started_at = time.time()
        self._phase = "starting"
        self._conflict: ReconcilerError | None = None
        self._log = get_logger("daemon")

    async def serve(self) -> Config | None:
        """Serve until a signal; return the configuration to start again with, or None to exit."""
        from reconciler.daemon.servers import listening
        from reconciler.server.api.handlers import Status

        self._signals.install()
        async with open_session(self._config, Options(actor=daemon_actor(), traced=True)) as session:
            queue = self._queue(session)
            publisher = self._publisher = _publisher(session)
            loop = Loop(session.engine, queue, session.deps, publish=self._publish, monotonic=time.monotonic)
            queue.beat = lambda: loop.beats.beat("queue", time.monotonic())
            pipeline = EventPipeline(
                session.engine.current,
                queue,
                beat=lambda name, limit_s: loop.beats.beat(name, time.monotonic(), limit_s),
                touch=loop.touch,
            )
            session.engine.read_event_status = pipeline.read_status
            session.engine.announcer.on_news = pipeline.outbox.wake
            reviews = ReviewLoop(
                session.engine.current,
                session.engine.source,
                holder=queue.holder,
                beat=lambda limit_s: loop.beats.beat("reviews", time.monotonic(), limit_s),
            )
            reviews.intake.poll_source = loop.poll_now
            pipeline.intake.on_delivery = pipeline.apps.on_delivery = reviews.intake.note
            status = Status(lambda: publisher.encoded(self._info()), publisher.row)
            async with contextlib.AsyncExitStack() as stack:
                stack.callback(pipeline.close)
                export = self._exporting(session, pipeline, loop, queue)
                loop.more = {
                    **pipeline.loops(),
                    "reviews": reviews.run,
                    **_peer_loops(session, queue),
                    **await stack.enter_async_context(export),
                }
                await stack.enter_async_context(listening(session, loop, pipeline, status, reviews))
                await queue.start(loop.reconcile, pipeline.step)
                stack.enter_context(self._clock(session, loop, queue))
                self._running()
                following = await self._run_loops(loop)
                await self._drain(session, pipeline, queue)
        self._log.info("daemon_stopped", signal=self._signals.number)
        if self._conflict is not None:
            raise self._conflict
        return following

    def _exporting(
        self, session: Session, pipeline: EventPipeline, loop: Loop, queue: WorkQueue
    ) -> contextlib.AbstractAsyncContextManager[Loops]:
        return exporting(
            session.deps,
            holder=queue.holder,
            under_load=pipeline.under_load,
            beat=lambda limit_s: loop.beats.beat("telemetry", time.monotonic(), limit_s),
        )

    def _queue(self, session: Session) -> WorkQueue:
        """Return the queue; several processes on PostgreSQL are named by host and pid, and do not wait for each other's leases."""
        engine = session.engine
        engine.patient = session.deps.store.dialect == "sqlite"
        return WorkQueue(session.deps, holder=engine.holder or SINGLE)

    def _running(self) -> None:
        self._phase = "running"
        config = self._config
        self._log.info("daemon_started", version=__version__, pid=os.getpid(), owner=config.owner, source=config.source.url)
        self._notifier.send("READY=1", f"STATUS=syncing {config.source.url}")

    async def _drain(self, session: Session, pipeline: EventPipeline, queue: WorkQueue) -> None:
        """Start nothing new, finish running work, and publish the last status."""
        self._phase = "draining"
        self._notifier.send("STOPPING=1")
        session.engine.drain()
        pipeline.drain()
        await self._publish()
        await queue.stop(DRAIN_S)
        self._phase = "stopped"
        await session.engine.finish_pass()
        await self._publish()

    async def _run_loops(self, loop: Loop) -> Config | None:
        """Run the loops until TERM, INT or a valid reload; return the new configuration of a reload."""
        stop = asyncio.Event()
        reloading = asyncio.create_task(self._reloads(stop))
        nudging = asyncio.create_task(self._nudges(loop))
        stopping = asyncio.create_task(self._signals.stop.wait())
        stopping.add_done_callback(lambda _: stop.set())
        try:
            await loop.run(stop)
            return reloading.result() if reloading.done() and not self._signals.stop.is_set() else None
        finally:
            for task in (reloading, nudging, stopping):
                task.cancel()
            await asyncio.gather(reloading, nudging, stopping, return_exceptions=True)

    async def _reloads(self, stop: asyncio.Event) -> Config:
        """Wait for a SIGHUP with a valid and changed configuration. An invalid one changes nothing."""
        while True:
            await self._signals.reload.wait()
            self._signals.reload.clear()
            try:
                fresh = self._reload()
            except ReconcilerError as error:
                self._log.error("reload_refused", code=error.code, error=error.message)
                continue
            if fresh == self._config:
                self._log.info("reload_unchanged")
                continue
            self._log.info("reloading")
            self._notifier.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            stop.set()
            return fresh

    async def _nudges(self, loop: Loop) -> None:
        """Reconcile at once on every SIGUSR1."""
        while True:
            await self._signals.now.wait()
            self._signals.now.clear()
            self._log.info("reconcile_requested", by="SIGUSR1")
            loop.poll_now()
            await loop.trigger(explicit=True)

    @contextlib.contextmanager
    def _clock(self, session: Session, loop: Loop, queue: WorkQueue) -> Iterator[None]:
        from reconciler.engine.housekeeping import Housekeeping

        clock = Housekeeping(
            session.deps,
            queue,
            watchdog_s=self._notifier.watchdog_s,
            alive=lambda: not loop.beats.dead(time.monotonic()),
            notify=self._notifier.send,
        )
        clock.on_conflict = self._outdated
        loop.on_clock_step = clock.restart_periods
        try:
            clock.start()
            yield
        finally:
            clock.stop()

    def _outdated(self, conflict: ReconcilerError) -> None:
        """Drain and exit: a newer version has changed the state under this process."""
        if self._conflict is None:
            self._conflict = conflict
            self._log.error("daemon_outdated", code=conflict.code, error=conflict.message)
            self._signals.stop.set()

    async def _publish(self) -> None:
        try:
            await self._publisher.publish(self._info())
        except OSError as error:
            self._log.error("status_file_failed", error=f"{type(error).__name__}: {error.strerror}")

    def _info(self) -> statusfile.DaemonInfo:
        return statusfile.DaemonInfo(__version__, os.getpid(), self._started_at, self._phase)


__all__ = ["Daemon", "Reload", "exit_code", "run_once", "serve"]
