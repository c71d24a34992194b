"""Logging: structlog, JSON lines when stderr is not a terminal, readable lines when it is. One redactor, last before the sink."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Protocol, TextIO

from reconciler.model.printable import plain

_QUIET = (
    "httpx",
    "httpcore",
    "aiohttp",
    "alembic",
    "dbos",
    "apscheduler",
    "uvicorn",
    "uvicorn.error",
    "uvicorn.access",
    "sqlalchemy",
    "watchfiles",
    "git",
    "asyncio",
)
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
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
"""Of one kind of library line so many in such a time; the next one says how many were left out."""
THROTTLE_KINDS = 256


class Redacts(Protocol):
    """The one redactor (`reconciler.credentials.redact.Redactor`)."""

    def redact(self, text: str) -> str:
        """Return ``text`` without secrets."""

    def redact_json(self, value: Any) -> Any:
        """Return ``value`` with every text in it redacted."""


def configure(style: str, level: str, redactor: Redacts, *, stream: TextIO | None = None) -> None:
    """Set logging up for the process. ``style``: auto, json or console; ``level``: debug, info, warning or error."""
    import structlog

    out = stream if stream is not None else sys.stderr
    console = style == "console" or (style == "auto" and out.isatty())
    render = _Console() if console else _Json()
    least = _LEVELS[level]
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts")
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        stamp,
        _named,
        _exception if least <= _LEVELS["debug"] else _exception_in_short,
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
        if name == "dbos":  # it adds a handler of its own unless it has one, which would write past the redactor
            logging.getLogger(name).addHandler(logging.NullHandler())


class Logger(Protocol):
    """A structlog logger. ``event`` is a constant name; what varies is a field."""

    def debug(self, event: str, **fields: object) -> None: ...

    def info(self, event: str, **fields: object) -> None: ...

    def warning(self, event: str, **fields: object) -> None: ...

    def error(self, event: str, **fields: object) -> None: ...

    def exception(self, event: str, **fields: object) -> None: ...


def get_logger(name: str) -> Logger:
    """Return a logger: ``log.info("event_name", key=value)``; events are constant texts, what varies is a field.

    It is a proxy that looks the configuration up at every line: one made before `configure`, or kept over a reload, goes
    through the redactor in force as well. (``bind`` would fix the configuration of this moment.)
    """
    import structlog

    logger: Logger = structlog.get_logger(**{_NAME: name})  # the keyword `logger` is taken by structlog itself
    return logger


class _Writer:
    """Writes whole lines; a line is never torn by another thread's."""

    _lock = threading.Lock()

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def _write(self, message: str) -> None:
        with self._lock:
            try:
                self._out.write(message + "\n")
                self._out.flush()
            except (ValueError, OSError):
                pass  # closed at exit, or the reader is gone or the disk full: no reason to stop working

    debug = info = warning = error = critical = exception = msg = log = _write


def _named(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    name = event.pop(_NAME, None)
    return event if name is None else {"logger": name, **event}


class _Redact:
    def __init__(self, redactor: Redacts) -> None:
        self._redactor = redactor

    def __call__(self, _logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        clear = {key: event.pop(key) for key in ("ts", "level") if key in event}  # made here, and a time is not a secret
        return {**clear, **self._redactor.redact_json(event)}


def _exception(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Turn ``exc_info`` into a traceback without a single local variable."""
    info = event.pop("exc_info", None)
    if info:
        import traceback

        error = info if isinstance(info, BaseException) else (info[1] if isinstance(info, tuple) else sys.exc_info()[1])
        if error is not None:
            event["traceback"] = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return event


def _exception_in_short(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Say where ``exc_info`` was raised, in one line: the traceback is for those who ask for it (``log.level: debug``)."""
    import traceback

    info = event.pop("exc_info", None)
    error = (
        info if isinstance(info, BaseException) else info[1] if isinstance(info, tuple) else sys.exc_info()[1] if info else None
    )
    if error is not None:
        event.setdefault("error", type(error).__name__)
        frames = traceback.extract_tb(error.__traceback__)
        event["raised_at"] = f"{frames[-1].filename.rpartition('site-packages/')[2]}:{frames[-1].lineno}" if frames else ""
    return event


def _ordered(event: Mapping[str, Any]) -> dict[str, Any]:
    first = {key: event[key] for key in _FIRST if key in event}
    return {**first, **{key: value for key, value in event.items() if key not in first}}


class _Json:
    """One JSON object a line: nothing in a field can break a line."""

    def __call__(self, _logger: Any, _name: str, event: MutableMapping[str, Any]) -> str:
        return json.dumps(_ordered(event), default=str, ensure_ascii=True)


class _Console:
    """Readable lines; control characters of fields are escaped, so no field can forge a line or drive a terminal."""

    def __call__(self, _logger: Any, _name: str, event: MutableMapping[str, Any]) -> str:
        fields = _ordered(event)
        at, level, name = str(fields.pop("ts", "")), str(fields.pop("level", "")), str(fields.pop("event", ""))
        trace = fields.pop("traceback", "")
        fields.pop("logger", None)
        text = " ".join(f"{plain(key)}={_shown(value)}" for key, value in fields.items() if value not in ("", None))
        line = f"{at[11:19]} {level:7} {plain(name):22} {text}".rstrip()
        return line + ("\n" + "\n".join("    " + plain(one) for one in str(trace).splitlines()) if trace else "")


def _shown(value: Any) -> str:
    text = plain(value if isinstance(value, str) else json.dumps(value, default=str))
    if isinstance(value, str) and (not text or any(c in text for c in ' "=')):
        return '"' + text.replace('"', '\\"') + '"'
    return text


class LogThrottle:
    """Lets a few lines of one kind through in a while, and counts the others: strangers decide how often a library complains."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}
        """Kind → (when its time began, how many came in it)."""

    def admit(self, kind: tuple[str, str]) -> int | None:
        """Return how many lines of this ``kind`` were left out since the last one, or None to leave this one out, too."""
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
    """What libraries log goes the same way, through the same redactor, and no more than so much of it."""

    def __init__(self) -> None:
        super().__init__()
        self._throttle = LogThrottle()

    def emit(self, record: logging.LogRecord) -> None:
        import structlog

        suppressed = self._throttle.admit((record.name, str(record.msg).partition("\n")[0][:80]))
        if suppressed is None:
            return
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            message = str(record.msg)  # arguments that do not fit the text
        method = next((name for name, number in reversed(_LEVELS.items()) if record.levelno >= number), "debug")
        fields: dict[str, Any] = {"logger": record.name, "message": message}
        if suppressed:
            fields["suppressed"] = suppressed
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        getattr(structlog.get_logger(), method)("library", **fields)
