"""The daemon's listeners: the admin socket, and HTTP with webhooks, API, dashboard, probes and metrics."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator

from reconciler.daemon.pipeline import EventPipeline
from reconciler.daemon.session import Session
from reconciler.engine.control import Control
from reconciler.engine.loop import Loop
from reconciler.model.resources import ResourceId
from reconciler.reviews.commands import ReviewCommands
from reconciler.reviews.loop import ReviewLoop
from reconciler.reviews.pages import ReviewPages
from reconciler.server import wellknown
from reconciler.server.admin import AdminOperations, AdminServer
from reconciler.server.api.access import FailedLoginThrottle
from reconciler.server.api.document import document as openapi
from reconciler.server.api.handlers import Backend, Status
from reconciler.server.api.routes import Routes
from reconciler.server.app import App, HttpServer
from reconciler.server.dashboard.routes import Dashboard, DashboardParts
from reconciler.server.health import SECURITY_HEADERS, Probes
from reconciler.server.metrics import Metrics
from reconciler.server.scrapes import Scrapes
from reconciler.server.webhooks import WebhookEndpoint

STATE_STUCK_S = 12.0
"""A longer database call means a half-open connection or a server that hangs."""


@contextlib.asynccontextmanager
async def listening(
    session: Session, loop: Loop, pipeline: EventPipeline, status: Status, reviews: ReviewLoop
) -> AsyncIterator[None]:
    """Listen on the admin socket and on ``server.listen`` until the context ends."""

    async def trigger(integrations: tuple[ResourceId, ...]) -> None:
        await loop.trigger(integrations, explicit=True)

    config = session.config.server
    control = Control(session.engine, trigger)
    backend = Backend(
        commands=pipeline.commands,
        control=control,
        logs=pipeline.logs,
        pushing=pipeline.pushing,
        status=status,
        public_url=config.public_url,
        issuer=session.issuer,
        openapi=openapi,
        reviews=ReviewCommands(session.engine.current, session.engine.source, reviews.intake),
        review_pages=ReviewPages(session.engine.current, reviews.planner),
    )
    reviews.request = trigger
    admin = AdminServer(session.config.state_dir, AdminOperations(backend).handle)
    throttle = FailedLoginThrottle()
    dashboard = Dashboard(
        DashboardParts(
            backend, session.engine.current, session.redactor, session.deps.keyring, session.config.owner, config, throttle
        )
    )
    app = App(
        _probes(session, loop, _metrics(session, loop, pipeline, reviews)),
        WebhookEndpoint(pipeline.intake.receive, pipeline.apps.receive, max_body=config.max_body),
        (
            *Routes(backend, config.tokens, session.redactor, throttle=throttle).routes(),
            *(wellknown.routes(session.issuer) if session.issuer is not None else ()),
            *dashboard.routes(),  # last: its catch-all answers everything else
        ),
    )
    http = HttpServer(config.listen, app)
    await admin.start()
    try:
        await http.start()
        yield
    finally:
        await admin.stop()
        await dashboard.close()
        await http.stop()


def _metrics(session: Session, loop: Loop, pipeline: EventPipeline, reviews: ReviewLoop) -> Metrics:
    metrics = Metrics(session.engine.current)
    thread = session.deps.store.thread
    thread.on_call = metrics.observe_state
    session.deps.session.on_request = metrics.observe_request
    loop.on_sync = metrics.observe_sync
    pipeline.measurements.on_lag = metrics.observe_lag
    metrics.watch_state(pipeline.measurements, thread)
    metrics.watch_loops(loop, lambda: _dead(session, loop), time.monotonic)
    session.engine.on_slice = metrics.observe_slice
    pipeline.runner.on_end = metrics.observe_execution
    metrics.watch_deliveries(pipeline.intake.counts, pipeline.recovery.counts)
    metrics.watch_notifications(pipeline.outbox.counts)
    metrics.watch_spans(session.deps.tracer)
    reviews.on_end = metrics.observe_review
    metrics.watch_reviews(lambda: reviews.oldest_open_at)
    return metrics


def _probes(session: Session, loop: Loop, metrics: Metrics) -> Probes:
    def dead() -> list[str]:
        return _dead(session, loop)

    return Probes(dead, lambda: loop.first_pass_done and not dead(), Scrapes(metrics.expose, SECURITY_HEADERS))


def _dead(session: Session, loop: Loop) -> list[str]:
    """Return the loops that are late, and ``state`` when the database does not answer on an open connection."""
    stuck = ["state"] if session.deps.store.thread.busy_s() > STATE_STUCK_S else []
    return [*loop.beats.dead(time.monotonic()), *stuck]
