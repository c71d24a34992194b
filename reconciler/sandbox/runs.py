"""Parts of simulated runs and webhooks: time spans by the clock, timers, and a webhook sender with configurable losses."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from reconciler.sandbox.app import Simulator
from reconciler.sandbox.shapes import number, texts, whole

KEPT = 5_000
"""How many runs and deliveries a simulator keeps; it drops the oldest first."""
RUN_DEFAULTS: Mapping[str, object] = {
    "run_duration_s": None,  # of every run that starts, instead of what its behaviour says; negative: until it is finished by hand
    "run_result": None,  # likewise
    "run_list_lag_s": 0.0,  # lists show a run only this long after it was made
}
DELIVERY_DEFAULTS: Mapping[str, object] = {
    "drop_deliveries": 0.0,  # a fraction, true for all, or a list of events: noted, never sent
    "duplicate_deliveries": False,  # each is sent twice
    "shuffle_deliveries_s": 0.0,  # each waits for a random part of this, so that their order changes
    "delivery_seed": 1,  # of the two settings above: the same seed, the same losses
}
_MAX_ANSWER = 64 << 10


@dataclass(frozen=True, slots=True)
class Span:
    """When a run begins to work and when it ends; None: only an action ends it. Times are epoch seconds."""

    begins_at: float
    ends_at: float | None

    @classmethod
    def of(cls, made_at: float, queued_s: float, duration_s: float) -> Span:
        """Return the span of a run; a negative duration has no end."""
        begins_at = made_at + max(0.0, queued_s)
        return cls(begins_at, None if duration_s < 0 else begins_at + duration_s)

    def share(self, now: float) -> float:
        """Return the share of the work that is done, 0 to 1; 0.5 while the end is unknown."""
        if now < self.begins_at:
            return 0.0
        if self.ends_at is None:
            return 0.5
        length = self.ends_at - self.begins_at
        return 1.0 if length <= 0 or now >= self.ends_at else (now - self.begins_at) / length


def logged_so_far(lines: Sequence[str], share: float) -> Sequence[str]:
    """Return the lines that are logged when a ``share`` of the work is done."""
    return lines[: len(lines) if share >= 1 else int(len(lines) * share)]


class Timers:
    """Calls on the server's loop at a moment of the clock, one for each key. Without a loop nothing is called: reading moves runs on."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._armed: dict[Hashable, asyncio.TimerHandle] = {}

    def at(self, key: Hashable, moment: float, call: Callable[[], None]) -> None:
        """Call at ``moment``; replaces the earlier plan for ``key``."""
        self.drop(key)
        with contextlib.suppress(RuntimeError):  # not served
            loop = asyncio.get_running_loop()
            self._armed[key] = loop.call_later(max(0.001, moment - self._clock()), self._fire, key, call)

    def drop(self, key: Hashable) -> None:
        """Cancel the plan for ``key``."""
        if (handle := self._armed.pop(key, None)) is not None:
            handle.cancel()

    def clear(self) -> None:
        """Cancel all plans."""
        for key in list(self._armed):
            self.drop(key)

    def _fire(self, key: Hashable, call: Callable[[], None]) -> None:
        self._armed.pop(key, None)
        call()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One HTTP request of a webhook."""

    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes
    connect_s: float
    response_s: float


class Sender:
    """Sends webhooks on the server's loop. Drops, duplicates and reorders them as the settings of `DELIVERY_DEFAULTS` say."""

    def __init__(self, app: Simulator) -> None:
        self._app = app
        self._tasks: set[asyncio.Task[None]] = set()
        self._random = random.Random()  # noqa: S311 - losses on demand
        self._seed: object = None

    def dispatch(self, event: str, deliver: Callable[[], Coroutine[Any, Any, None]]) -> str:
        """Let ``deliver`` run soon, perhaps twice; returns ``sending``, or why nothing is sent: ``dropped``, ``off``."""
        settings = self._app.settings
        if settings["delivery_seed"] != self._seed:
            self._seed = settings["delivery_seed"]
            self._random.seed(whole(self._seed))
        if self._drops(event):
            return "dropped"
        if not settings["deliver"]:
            return "off"
        for _ in range(2 if settings["duplicate_deliveries"] else 1):
            wait_s = self._random.uniform(0.0, self._app.number("shuffle_deliveries_s"))
            task = asyncio.get_running_loop().create_task(_later(wait_s, deliver))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return "sending"

    def _drops(self, event: str) -> bool:
        dropped = self._app.settings["drop_deliveries"]
        return event in texts(dropped) if isinstance(dropped, list) else self._random.random() < number(dropped)


async def _later(wait_s: float, deliver: Callable[[], Coroutine[Any, Any, None]]) -> None:
    if wait_s > 0:
        await asyncio.sleep(wait_s)
    await deliver()


async def send(request: Outgoing) -> int:
    """Send and return the status of the answer; redirects are not followed. Raises `TimeoutError`, `OSError` or `ValueError`."""
    parts = urlsplit(request.url)
    tls = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if tls else 80)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    own = {"Host": parts.netloc.rpartition("@")[2], "Content-Length": str(len(request.content)), "Connection": "close"}
    head = [f"{request.method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in {**own, **request.headers}.items())]
    async with asyncio.timeout(request.connect_s):
        reader, writer = await asyncio.open_connection(host, port, ssl=_tls() if tls else None)
    try:
        async with asyncio.timeout(request.response_s):
            writer.write("\r\n".join([*head, "", ""]).encode("latin-1") + request.content)
            await writer.drain()
            return await _status(reader)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _status(reader: asyncio.StreamReader) -> int:
    """Read an answer to its end if it has a content length."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise ConnectionError("the connection was closed without an answer") from error
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    length = fields.get("content-length", "")
    if length.isdigit() and int(length) <= _MAX_ANSWER:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readexactly(int(length))
    return int(head[0].split(" ")[1])


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
