"""Logging with structlog: JSON lines if stderr is not a terminal, readable lines if it is. Every line passes the redactor last."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Protocol, TextIO

from reconciler import tracing
from reconciler.model.json import Json
from reconciler.model.printable import plain

if TYPE_CHECKING:
    from structlog.typing import Processor

_QUIET = (
    "httpx",
    "httpcore",
    "aiohttp",
    "alembic",
    "apscheduler",
    "uvicorn",
    "uvicorn.error",
    "uvicorn.access",
    "sqlalchemy",
    "watchfiles",
    "git",
    "asyncio",
)
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_FIRST = (
    "ts",
    "level",
    "event",
    "kind",
    "name",
    "canvas",
    "reconcile_id",
    "revision",
    "integration",
    "action",
    "outcome",
    "duration_ms",
    "external_id",
    "error",
    "code",
)


_NAME = "logger_name"
THROTTLE_S, THROTTLE_LINES = 60.0, 5
"""At most so many lines of one kind from libraries in such a time; the next line gives the number of the suppressed ones."""
THROTTLE_KINDS = 256


_Event = MutableMapping[str, object]
"""The fields of one line."""


class Logger(Protocol):
    """Logs an event, which is a constant text, with its fields."""

    def debug(self, event: str, **fields: object) -> None: ...

    def info(self, event: str, **fields: object) -> None: ...

    def warning(self, event: str, **fields: object) -> None: ...

    def error(self, event: str, **fields: object) -> None: ...

    def exception(self, event: str, **fields: object) -> None:
        """Log an error with the exception that is being handled."""


class Redacts(Protocol):
    """`reconciler.credentials.redact.Redactor`."""

    def redact_fields(self, fields: Mapping[str, object]) -> dict[str, Json]:
        """Return ``fields`` with every text in it redacted."""


@contextlib.contextmanager
def _without_rich() -> Iterator[None]:
    """Hide rich while structlog is imported: its module of tracebacks, which is not used, imports rich and pygments where they exist."""
    hide = "structlog" not in sys.modules and "rich" not in sys.modules
    if hide:
        sys.modules["rich"] = None  # type: ignore[assignment]  # an import of it raises ImportError
    try:
        yield
    finally:
        if hide:
            del sys.modules["rich"]


def configure(style: str, level: str, redactor: Redacts, *, stream: TextIO | None = None) -> None:
    """Configure logging for the process. ``style``: auto, json or console; ``level``: debug, info, warning, error, or critical (nothing)."""
    with _without_rich():
        import structlog

    out = stream if stream is not None else sys.stderr
    console = style == "console" or (style == "auto" and out.isatty())
    render = _Console() if console else _Json()
    least = _LEVELS[level]
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts")
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        stamp,
        _traced,
        _named,
        _traceback if least <= _LEVELS["debug"] else _raised_at,
        _Redact(redactor),
        render,
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=lambda *_: _Writer(out),
        cache_logger_on_first_use=False,
    )
    logging.raiseExceptions = False  # a record that cannot be formatted must not be printed raw to stderr
    root = logging.getLogger()
    root.handlers = [_StandardLibraryBridge()]
    root.setLevel(least)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(least, logging.WARNING))
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True


def get_logger(name: str) -> Logger:
    """Return the logger ``name``.

    It looks up the configuration for every line, so that a logger made before `configure`, or kept over a reload, uses the current
    redactor. (``bind`` would fix the configuration of this moment.)
    """
    with _without_rich():
        import structlog

    logger: Logger = structlog.get_logger(**{_NAME: name})  # structlog uses the keyword `logger` itself
    return logger


class _Writer:
    """Writes whole lines, one thread at a time."""

    _lock = threading.Lock()

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def _write(self, message: str) -> None:
        with self._lock:
            try:
                self._out.write(message + "\n")
                self._out.flush()
            except (ValueError, OSError):
                pass  # closed at exit, no reader, or a full disk: no reason to stop working

    debug = info = warning = error = critical = exception = msg = log = _write


def _traced(_logger: object, _method: str, event: _Event) -> _Event:
    """Add the ids of the span in which the line is written, by which a log is joined with its trace."""
    context = tracing.current()
    if context is not None:
        event["trace_id"], event["span_id"] = context.trace_id, context.span_id
    return event


def _named(_logger: object, _method: str, event: _Event) -> _Event:
    name = event.pop(_NAME, None)
    return event if name is None else {"logger": name, **event}


class _Redact:
    def __init__(self, redactor: Redacts) -> None:
        self._redactor = redactor

    def __call__(self, _logger: object, _name: str, event: _Event) -> _Event:
        own = {
            key: event.pop(key) for key in ("ts", "level", "trace_id", "span_id") if key in event
        }  # set here, and none can be a secret
        return {**own, **self._redactor.redact_fields(event)}


def _pop_error(event: _Event) -> BaseException | None:
    """Remove ``exc_info`` from ``event`` and return its exception."""
    info = event.pop("exc_info", None)
    if info and not isinstance(info, BaseException | tuple):
        return sys.exc_info()[1]
    error: object = info[1] if isinstance(info, tuple) else info
    return error if isinstance(error, BaseException) else None


def _traceback(_logger: object, _name: str, event: _Event) -> _Event:
    """Replace ``exc_info`` by a traceback, which has no local variables."""
    error = _pop_error(event)
    if error is not None:
        import traceback

        event["traceback"] = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return event


def _raised_at(_logger: object, _name: str, event: _Event) -> _Event:
    """Replace ``exc_info`` by the place where it was raised; ``log.level: debug`` gives the traceback."""
    error = _pop_error(event)
    if error is not None:
        import traceback

        event.setdefault("error", type(error).__name__)
        frames = traceback.extract_tb(error.__traceback__)
        event["raised_at"] = f"{frames[-1].filename.rpartition('site-packages/')[2]}:{frames[-1].lineno}" if frames else ""
    return event


def _ordered(event: Mapping[str, object]) -> dict[str, object]:
    first = {key: event[key] for key in _FIRST if key in event}
    return {**first, **{key: value for key, value in event.items() if key not in first}}


class _Json:
    """One JSON object per line: no field can break a line."""

    def __call__(self, _logger: object, _name: str, event: _Event) -> str:
        return json.dumps(_ordered(event), default=str, ensure_ascii=True)


class _Console:
    """Readable lines. Control characters of fields are escaped, so that no field can forge a line or control a terminal."""

    def __call__(self, _logger: object, _name: str, event: _Event) -> str:
        fields = _ordered(event)
        at, level, name = str(fields.pop("ts", "")), str(fields.pop("level", "")), str(fields.pop("event", ""))
        trace = fields.pop("traceback", "")
        fields.pop("logger", None)
        text = " ".join(f"{plain(key)}={_shown(value)}" for key, value in fields.items() if value not in ("", None))
        line = f"{at[11:19]} {level:7} {plain(name):22} {text}".rstrip()
        return line + ("\n" + "\n".join("    " + plain(row) for row in str(trace).splitlines()) if trace else "")


def _shown(value: object) -> str:
    text = plain(value if isinstance(value, str) else json.dumps(value, default=str))
    if isinstance(value, str) and (not text or any(c in text for c in ' "=')):
        return '"' + text.replace('"', '\\"') + '"'
    return text


class LogThrottle:
    """Admits a few lines of each kind in a time and counts the others: a remote side decides how often a library logs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}
        """Kind → (start of its time, lines since then)."""

    def admit(self, kind: tuple[str, str]) -> int | None:
        """Return the number of suppressed lines of ``kind`` since the last one, or None to suppress this one too."""
        now = self._clock()
        with self._lock:
            began, count = self._seen.get(kind, (now, 0))
            suppressed = 0
            if now - began >= THROTTLE_S:
                began, count, suppressed = now, 0, max(0, count - THROTTLE_LINES)
            if len(self._seen) >= THROTTLE_KINDS:
                self._seen.clear()
            self._seen[kind] = (began, count + 1)
            return suppressed if count < THROTTLE_LINES else None


class _StandardLibraryBridge(logging.Handler):
    """Passes the lines of libraries through the same processors and redactor, at a bounded rate."""

    def __init__(self) -> None:
        super().__init__()
        self._throttle = LogThrottle()

    def emit(self, record: logging.LogRecord) -> None:
        suppressed = self._throttle.admit((record.name, str(record.msg).partition("\n")[0][:80]))
        if suppressed is None:
            return
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            message = str(record.msg)  # arguments that do not fit the text
        fields: dict[str, object] = {"message": message}
        if suppressed:
            fields["suppressed"] = suppressed
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        log = get_logger(record.name)
        write = {"info": log.info, "warning": log.warning, "error": log.error, "critical": log.error}
        level = next((name for name, number in reversed(_LEVELS.items()) if record.levelno >= number), "debug")
        write.get(level, log.debug)("library", **fields)
