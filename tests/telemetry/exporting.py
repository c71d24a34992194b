"""An `Exporter` over a real state and real sockets, without a daemon."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from reconciler.config.load import load_config
from reconciler.credentials.redact import Redactor
from reconciler.drivers.auth import no_issuer
from reconciler.engine.context import Context
from reconciler.model.traces import Attribute, SpanKind, SpanRecord, ids_of_event
from reconciler.state import Store
from reconciler.state.async_store import AsyncStore
from reconciler.state.spans import insert_spans
from reconciler.state.thread import StateThread
from reconciler.telemetry.exporter import Exporter, collector_session
from reconciler.telemetry.recorder import Recorder


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def _line(self, event: str, **fields: object) -> None:
        self.lines.append((event, fields))

    debug = info = warning = error = exception = _line


class Bench:
    """``recorder`` and ``store`` have what ``exporter`` exports; ``log`` is what it writes."""

    def __init__(self, exporter: Exporter, recorder: Recorder, store: Store, log: Log, redactor: Redactor) -> None:
        self.exporter, self.recorder, self.store, self.log, self.redactor = exporter, recorder, store, log, redactor

    def keep(self, *spans: SpanRecord) -> None:
        """Store spans, in a row of their own."""
        with self.store._write() as connection:
            insert_spans(connection, spans)

    @property
    def counts(self) -> dict[str, int]:
        return {name: number for name, number in self.recorder.counts.items() if number}


def span(number: int | str = 1, **attributes: Any) -> SpanRecord:
    ids = *ids_of_event(f"event-{number}"), ""
    return SpanRecord(*ids, f"span {number}", SpanKind.INTERNAL, 1.0, 2.0, {Attribute.STAGE: "build", **attributes})


@contextlib.asynccontextmanager
async def exporting(folder: Path, url: str, *, state: str = "", busy: Any = lambda _: False, **keys: str) -> AsyncIterator[Bench]:
    """Yield a bench whose exporter sends to ``url``; ``keys``: further keys of section ``telemetry``."""
    folder.mkdir(exist_ok=True)
    config = load_config(
        None,
        {},
        overrides={
            "source.url": str(folder),
            "telemetry.enabled": "true",
            "telemetry.endpoint": url,
            **{f"telemetry.{key}": value for key, value in keys.items()},
        },
    )
    store = Store.open(state or f"sqlite:///{folder / 'state.db'}", state_dir=folder)
    thread, log, redactor, recorder = StateThread(), Log(), Redactor(), Recorder(config.telemetry)
    async with collector_session(config) as session:
        context = Context(
            config=config,
            store=AsyncStore(store, thread),
            keyring=None,  # type: ignore[arg-type]
            session=session,
            clock=lambda: 1.0,
            log=log,
            actor="daemon:host:1",
            owner="team-a",
            redactor=redactor,
            id_token=no_issuer,
            tracer=recorder,
        )
        exporter = Exporter(context, recorder, session, holder="me", under_load=busy, beat=lambda: None)
        try:
            yield Bench(exporter, recorder, store, log, redactor)
        finally:
            thread.close()
            store.close()
