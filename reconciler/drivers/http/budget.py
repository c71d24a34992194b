"""One rate budget per credential, shared by all that use it: paced to the provider's published limits, stopped by its answers.

Pacing keeps an exact log of the last minute and hour, so that no window of the provider's, fixed or sliding, ever sees more
than its limit, while nearly all of it is used: 80 creating calls go at once if the last minute was quiet, the 81st waits for
the first to be a minute old. A call counts from when it is let go until a whole window after its *answer*, which is never
before the provider counted it; so a slow first connection and a fast later one cannot meet in one window. The price is one
latency a window: at 1 s and 80 a minute, 98 % of the limit is used.

What was told (stops) and what was written lately is shared through a `BudgetStore`, read and written at most once a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

from reconciler.drivers.base import ProviderLimits
from reconciler.model.errors import RateLimited
from reconciler.model.records import BudgetState

MARGIN_S = 0.25
MAX_WAIT_S = 75.0
"""A wait for the pace up to this long is awaited; a longer one ends the work until then."""
SHARE_S = 1.0
SECONDARY_S = 60.0
SECONDARY_MAX_S = 3600.0
MAX_STOP_S = 86_400.0
"""No answer stops us for longer: an epoch in milliseconds must not mean the year 50,000."""
RESERVE = 0.10
"""Share of the hourly rate that is kept for repairing drift."""
UNLIMITED = ProviderLimits(concurrent=100)
_NUMBER = re.compile(r"[0-9]{1,12}")
Run = Callable[..., Awaitable[Any]]


class BudgetStore(Protocol):
    """Where a budget is shared between processes and over restarts."""

    def load_budget(self, credential_id: str) -> BudgetState | None: ...

    def save_budget(self, state: BudgetState) -> None: ...


class _Window:
    """Costs of the last ``seconds`` (by their answers) and of what is under way. Times are monotonic seconds."""

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit, self.seconds = limit, seconds
        self.under_way = 0
        self._log: deque[tuple[float, int]] = deque()
        self._sum = 0

    def wait_s(self, cost: int, now: float) -> float:
        """Return how long until ``cost`` more fits; an estimate where that hangs on answers still to come."""
        if not self.limit:
            return 0.0
        self._expire(now)
        over = self._sum + self.under_way + cost - self.limit
        if over <= 0:
            return 0.0
        for at, spent in self._log:
            over -= spent
            if over <= 0:
                return at + self.seconds - now
        return self.seconds * (1 + (over - 1) // self.limit)

    def free(self, cost: int, now: float) -> int:
        """Return how many of ``cost`` fit now; a large number where there is no limit."""
        self._expire(now)
        return 1_000_000 if not self.limit else max(0, (self.limit - self._sum - self.under_way) // max(cost, 1))

    def begin(self, cost: int) -> None:
        self.under_way += cost

    def end(self, cost: int, now: float) -> None:
        self.under_way -= cost
        self.note(cost, now)

    def note(self, cost: int, at: float) -> None:
        if not self.limit:
            return
        self._sum += cost
        if self._log and self._log[-1][0] > at:  # told late, by another process
            self._log = deque(sorted([*self._log, (at, cost)]))
        else:
            self._log.append((at, cost))

    def _expire(self, now: float) -> None:
        while self._log and self._log[0][0] <= now - self.seconds:
            self._sum -= self._log.popleft()[1]


class _Queue:
    """Who waits for the pace, in order; reads do not wait behind writes."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.waiting = 0
        self.changed = asyncio.Event()

    async def pause(self, seconds: float) -> None:
        """Wait until ``seconds`` have passed or something changed."""
        self.changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.changed.wait()


class Budget:
    """The pace and the stops of one credential. Use from one event loop.

    ``clock`` gives seconds since the epoch and dates stops; durations come from ``monotonic``, so that a clock that is set
    changes no pace. ``run`` calls the store off the event loop. Construct it where blocking is allowed: it loads the state.
    """

    def __init__(
        self,
        credential_id: str,
        limits: ProviderLimits,
        *,
        store: BudgetStore | None,
        clock: Callable[[], float],
        run: Run = asyncio.to_thread,
        max_wait_s: float = MAX_WAIT_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.credential_id = credential_id
        self.limits = limits
        self._store, self._run = store, run
        self._clock, self._monotonic = clock, monotonic
        self._max_wait_s = max_wait_s
        self._minute = _Window(limits.writes_per_minute, 60.0 + MARGIN_S)
        self._hour = _Window(limits.writes_per_hour, 3600.0 + MARGIN_S)
        self._points = _Window(limits.points_per_minute, 60.0 + MARGIN_S)
        self._paced = bool(limits.writes_per_minute or limits.writes_per_hour or limits.points_per_minute)
        self.gate = asyncio.Semaphore(limits.concurrent or 100)
        self._writers, self._readers = _Queue(), _Queue()
        self._recent: deque[float] = deque(maxlen=max(1_000, limits.writes_per_hour, limits.writes_per_minute))
        self._state = BudgetState(credential_id)
        self._shared_at = -SHARE_S
        self._saver: asyncio.Task[None] | None = None
        if store is not None:
            self._take_over(store.load_budget(credential_id))

    @property
    def rate(self) -> Mapping[str, int]:
        """What the provider told last: limit, remaining, resetAt (epoch seconds)."""
        return self._state.rate

    @property
    def blocked_until(self) -> float:
        """No call before this (seconds since the epoch)."""
        return self._state.blocked_until

    def admits(self) -> int:
        """Return how many writes may go now without waiting."""
        now = self._monotonic()
        free = min(self._minute.free(1, now), self._hour.free(1, now), self._points.free(self.limits.write_points, now))
        return max(0, free - self._writers.waiting)

    def low(self) -> bool:
        """Whether only the reserve for drift repair is left of the hourly rate."""
        rate = self._state.rate
        limit, remaining = rate.get("limit", 0), rate.get("remaining", 0)
        return limit >= 100 and remaining <= limit * RESERVE and rate.get("resetAt", 0) > self._clock()

    # -- pace -------------------------------------------------------------------------------------------------------

    async def acquire(self, *, write: bool) -> None:
        """Wait for the pace; raises `RateLimited` where the provider said stop, or the wait would be long.

        Each return must be followed by one `release` of the same kind.
        """
        await self.sync()
        self._raise_if_stopped()
        if not self._paced:
            return
        queue = self._writers if write else self._readers
        wait_s = self._wait_s(write, queue.waiting + 1)
        if wait_s > self._max_wait_s:
            raise RateLimited("the provider's published pace allows no further call now", retry_at=self._clock() + wait_s)
        queue.waiting += 1
        try:
            async with queue.turn:
                while (wait_s := self._wait_s(write, 1)) > 0:
                    await queue.pause(wait_s)
                    self._raise_if_stopped()
                for window, cost in self._windows(write):
                    window.begin(cost)
        finally:
            queue.waiting -= 1

    def release(self, *, write: bool) -> None:
        """The answer is there, or there will be none."""
        if not self._paced:
            return
        now = self._monotonic()
        for window, cost in self._windows(write):
            window.end(cost, now)
        if write:
            self._recent.append(self._clock())
            self._save_soon()
        self._wake()

    def _windows(self, write: bool) -> tuple[tuple[_Window, int], ...]:
        if not write:
            return ((self._points, self.limits.read_points),)
        return (self._points, self.limits.write_points), (self._minute, 1), (self._hour, 1)

    def _wait_s(self, write: bool, count: int) -> float:
        now = self._monotonic()
        return max(window.wait_s(cost * count, now) for window, cost in self._windows(write))

    def _wake(self) -> None:
        self._writers.changed.set()
        self._readers.changed.set()

    def _raise_if_stopped(self) -> None:
        if self._clock() < self._state.blocked_until:
            raise RateLimited(
                f"the provider's rate limit holds ({self._state.reason or 'told to wait'})", retry_at=self._state.blocked_until
            )

    # -- what the provider tells ------------------------------------------------------------------------------------

    def told(self, headers: Mapping[str, str], *, wrote: bool = False, ahead_s: float = 0.0) -> None:
        """Take up the rate headers of an answer (GitHub ``x-ratelimit-*``, Buddy ``x-rate-limit-*``), which name times by the
        provider's clock: that is ``ahead_s`` before ours.

        ``wrote``: it was a write that succeeded. Only that, or an hour of quiet, ends the doubling of `stop`: reads go
        through while creating is still refused.
        """
        state, now = self._state, self._clock()
        if state.failures and now >= state.blocked_until and (wrote or now >= state.blocked_until + SECONDARY_MAX_S):
            state = dataclasses.replace(state, failures=0)
        rate = rate_of(headers)
        if "resetAt" in rate:
            rate["resetAt"] = max(0, round(rate["resetAt"] - ahead_s))
        if rate:
            state = dataclasses.replace(state, rate=rate)
            reset = min(float(rate.get("resetAt", 0)), now + MAX_STOP_S)
            # A limit of 1 is nonsense that Buddy's own samples show.
            if rate.get("remaining") == 0 and rate.get("limit", 0) > 1 and reset > max(now, state.blocked_until):
                state = dataclasses.replace(state, blocked_until=reset, reason="nothing remains of the hourly rate")
        stopped = state.blocked_until > self._state.blocked_until
        self._state = state
        if stopped:
            self._wake()
            self._save_soon(now=True)

    def stop(self, until: float | None, reason: str) -> float:
        """Stop every call until ``until``; without a time to come from the provider 60 s, doubled each time, an hour at most.

        A time that is named again and again, each time a moment away, is not believed either: the shortest pause doubles from a
        second. Returns the time (epoch seconds). Refusals of calls that were under way at a stop are one refusal, not many.
        """
        now, state = self._clock(), self._state
        stopped = now < state.blocked_until
        failures = state.failures if stopped and state.failures else state.failures + 1
        if until is not None and until <= now:  # a reset that is over by now, and yet we are refused: it names no end
            until = None
        if until is None:
            until = state.blocked_until if stopped else now + min(SECONDARY_MAX_S, SECONDARY_S * 2.0 ** min(failures - 1, 10))
        least = min(SECONDARY_MAX_S, 2.0 ** min(failures - 1, 12))
        until = max(min(until, now + MAX_STOP_S), now + least, state.blocked_until)
        self._state = dataclasses.replace(state, blocked_until=until, reason=reason, failures=failures)
        self._wake()
        return until

    def pull_back(self, seconds: float) -> None:
        """End a stop as much earlier as this host's clock was set back."""
        rate = self._state.rate
        if rate.get("resetAt"):
            rate = {**rate, "resetAt": round(rate["resetAt"] - seconds)}
        self._state = dataclasses.replace(self._state, blocked_until=self._state.blocked_until - seconds, rate=rate)
        self._wake()

    # -- sharing ----------------------------------------------------------------------------------------------------

    async def sync(self) -> None:
        """Take over what other processes were told and have written, if the last look is a second old."""
        now = self._monotonic()
        if self._store is None or now - self._shared_at < SHARE_S:
            return
        self._shared_at = now
        self._take_over(await self._run(self._store.load_budget, self.credential_id))

    async def flush(self) -> None:
        """Share what is not shared yet: after a stop, and at the end."""
        if self._store is None:
            return
        mine = dataclasses.replace(self._state, recent=tuple(self._recent))
        # The pace is an aid: where the state cannot be written, its owner says so, and an answer that is here is not lost.
        with contextlib.suppress(Exception):
            self._take_over(await self._run(_merge_into, self._store, mine))

    def _save_soon(self, *, now: bool = False) -> None:
        if self._store is None:
            return
        if self._saver is None or self._saver.done():
            self._saver = asyncio.get_running_loop().create_task(self._save_later(0.0 if now else SHARE_S))

    async def _save_later(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await self.flush()

    async def aclose(self) -> None:
        """Share the last writes, so that a next process keeps the pace."""
        if self._saver is not None and not self._saver.done():
            self._saver.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._saver
            await self.flush()

    def _take_over(self, other: BudgetState | None) -> None:
        if other is None:
            return
        now, clock = self._monotonic(), self._clock()
        for at in _beyond(other.recent, self._recent):
            age_s = max(0.0, clock - at)
            if age_s < 3600.0 + MARGIN_S:
                self._recent.append(at)
                for window, cost in self._windows(True):
                    if age_s < window.seconds:
                        window.note(cost, now - age_s)
        mine = self._state
        if other.blocked_until > mine.blocked_until:
            mine = dataclasses.replace(mine, blocked_until=other.blocked_until, reason=other.reason, failures=other.failures)
            self._wake()
        self._state = mine if mine.rate else dataclasses.replace(mine, rate=other.rate)


def _beyond(theirs: Iterable[float], ours: Iterable[float]) -> list[float]:
    """Return what ``theirs`` has more than ``ours``, as multisets: two writes may carry one time."""
    return sorted((Counter(theirs) - Counter(ours)).elements())


def _merge_into(store: BudgetStore, mine: BudgetState) -> BudgetState:
    """Add ``mine`` to what is stored, off the event loop. Two processes at the same instant lose at most a second's writes."""
    other = store.load_budget(mine.credential_id)
    if other is not None:
        recent = sorted([*mine.recent, *_beyond(other.recent, mine.recent)])
        latest = other if other.blocked_until > mine.blocked_until else mine
        mine = dataclasses.replace(
            mine,
            recent=tuple(at for at in recent if at > recent[-1] - 3600.0 - MARGIN_S),
            blocked_until=latest.blocked_until,
            reason=latest.reason,
            failures=latest.failures,
        )
    store.save_budget(mine)
    return mine


def rate_of(headers: Mapping[str, str]) -> dict[str, int]:
    """Return limit, remaining and resetAt (epoch seconds) from an answer's headers; empty where it tells none.

    GitHub has more than one budget; only ``core`` is ours.
    """
    if headers.get("x-ratelimit-resource", "core") != "core":
        return {}
    found: dict[str, int] = {}
    for prefix in ("x-ratelimit-", "x-rate-limit-", "ratelimit-"):
        for name, key in (("limit", "limit"), ("remaining", "remaining"), ("reset", "resetAt")):
            value = headers.get(prefix + name)
            if value is not None and _NUMBER.fullmatch(value):
                found[key] = int(value)
    return found
