"""Tracing of a process: the tracer, and the export of its spans. Part of the composition root."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from reconciler.config.settings import Config
from reconciler.credentials.redact import Redactor
from reconciler.engine.context import Context
from reconciler.tracing import NO_TRACER, Tracer

LIMIT_S = 300.0
"""Time between two beats after which the export counts as stuck: more than its longest pause, a burst and a request that hangs."""
Loops = Mapping[str, Callable[[], Awaitable[None]]]


def open_tracer(config: Config, redactor: Redactor) -> Tracer:
    """Return the tracer of a process; headers of the export are masked from now on, wherever they are written."""
    if not config.telemetry.enabled:
        return NO_TRACER
    from reconciler.telemetry.recorder import Recorder

    for header in config.telemetry.headers:
        value = header.partition("=")[2].strip()
        redactor.add(value)
        redactor.add(value.partition(" ")[2])  # `Bearer TOKEN`: the token alone is a secret too
    return Recorder(config.telemetry)


@contextlib.asynccontextmanager
async def exporting(
    context: Context, *, holder: str, under_load: Callable[[bool], bool], beat: Callable[[float], None]
) -> AsyncIterator[Loops]:
    """Yield the loop that exports spans, and export the last ones at the end; nothing without telemetry.

    Raises `ConfigError` if the libraries of OpenTelemetry are not installed.
    """
    if not context.tracer.on:
        yield {}
        return
    from reconciler.telemetry.exporter import Exporter, collector_session
    from reconciler.telemetry.recorder import Recorder

    if not isinstance(context.tracer, Recorder):
        raise TypeError("a tracer that is on is a Recorder")
    async with collector_session(context.config) as session:
        exporter = Exporter(context, context.tracer, session, holder=holder, under_load=under_load, beat=lambda: beat(LIMIT_S))
        try:
            yield {"telemetry": exporter.run}
        finally:
            await exporter.flush()


__all__ = ["exporting", "open_tracer"]
