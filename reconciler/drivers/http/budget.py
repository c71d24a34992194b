"""One rate budget per credential, shared by all its users: paced to the provider's published limits, stopped by its answers.

Pacing keeps an exact log of the last minute and hour, so no window of the provider, fixed or sliding, ever exceeds its limit, and
nearly all of the limit is usable: after a quiet minute 80 creating calls go at once, and the 81st waits until the first is a
minute old. A call counts from its start until a whole window after its *answer*, which never comes before the provider counted
the call; so a slow early call and a fast later one cannot meet in one window. The price is one latency per window: at 1 s and 80
a minute, 98 % of the limit is usable.

Stops and recent writes are shared through a `BudgetStore`, which is read and written at most once a second.
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
from reconciler.model.backoff import exponential
from reconciler.model.errors import RateLimited
from reconciler.model.records import BudgetState
from reconciler.wakeup import wait_at_most

MARGIN_S = 0.25
MAX_WAIT_S = 75.0
"""`Budget.acquire` waits at most this long for the pace; a longer wait ends the work until then."""
SHARE_S = 1.0
SECONDARY_S = 60.0
SECONDARY_MAX_S = 3600.0
LEAST_STOP_S = 1.0
"""The shortest stop after a refusal, whatever time the provider names; doubled for each further refusal."""
MAX_STOP_S = 86_400.0
"""The longest stop: an epoch in milliseconds must not mean the year 50,000."""
RESERVE = 0.10
"""Share of the hourly rate that is reserved for drift repair."""
UNLIMITED = ProviderLimits(concurrent=100)
_NUMBER = re.compile(r"[0-9]{1,12}")
Run = Callable[..., Awaitable[Any]]


class BudgetStore(Protocol):
    """Shares a budget between processes, and keeps it over restarts."""

    def load_budget(self, credential_id: str) -> BudgetState | None: ...

    def save_budget(self, state: BudgetState) -> None: ...


class _Window:
    """Costs of the last ``seconds`` (by their answers) and of calls in flight. Times are monotonic seconds."""

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit, self.seconds = limit, seconds
        self.in_flight = 0
        self._log: deque[tuple[float, int]] = deque()
        self._sum = 0

    def wait_s(self, cost: int, now: float) -> float:
        """Return the time until ``cost`` more fits; an estimate if that depends on calls in flight."""
        if not self.limit:
            return 0.0
        self._expire(now)
        over = self._sum + self.in_flight + cost - self.limit
        if over <= 0:
            return 0.0
        for at, spent in self._log:
            over -= spent
            if over <= 0:
                return at + self.seconds - now
        return self.seconds * (1 + (over - 1) // self.limit)

    def free(self, cost: int, now: float) -> int:
        """Return how many calls of ``cost`` fit now; a large number without a limit."""
        self._expire(now)
        return 1_000_000 if not self.limit else max(0, (self.limit - self._sum - self.in_flight) // max(cost, 1))

    def begin(self, cost: int) -> None:
        self.in_flight += cost

    def end(self, cost: int, now: float) -> None:
        self.in_flight -= cost
        self.note(cost, now)

    def note(self, cost: int, at: float) -> None:
        if not self.limit:
            return
        self._sum += cost
        if self._log and self._log[-1][0] > at:  # reported late, by another process
            self._log = deque(sorted([*self._log, (at, cost)]))
        else:
            self._log.append((at, cost))

    def _expire(self, now: float) -> None:
        while self._log and self._log[0][0] <= now - self.seconds:
            self._sum -= self._log.popleft()[1]


class _Queue:
    """Calls that wait for the pace, in order; reads do not wait behind writes."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.waiting = 0
        self.changed = asyncio.Event()

    async def pause(self, seconds: float) -> None:
        """Wait for ``seconds``, or until the state changes."""
        self.changed.clear()
        await wait_at_most(self.changed, seconds)


class Budget:
    """The pace and the stops of one credential. Use from one event loop.

    ``clock`` returns seconds since the epoch and dates stops; durations come from ``monotonic``, so setting the clock does not
    change the pace. ``run`` calls the store off the event loop. Construct it where blocking is allowed: it loads the state.
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
        """The provider's last rate: limit, remaining, resetAt (epoch seconds)."""
        return self._state.rate

    @property
    def blocked_until(self) -> float:
        """No call before this (seconds since the epoch)."""
        return self._state.blocked_until

    def admits(self) -> int:
        """Return how many writes may start now without waiting."""
        now = self._monotonic()
        free = min(self._minute.free(1, now), self._hour.free(1, now), self._points.free(self.limits.write_points, now))
        return max(0, free - self._writers.waiting)

    def low(self) -> bool:
        """Whether only the reserve for drift repair remains of the hourly rate."""
        rate = self._state.rate
        limit, remaining = rate.get("limit", 0), rate.get("remaining", 0)
        return limit >= 100 and remaining <= limit * RESERVE and rate.get("resetAt", 0) > self._clock()

    # -- pace -------------------------------------------------------------------------------------------------------

    async def acquire(self, *, write: bool) -> None:
        """Wait for the pace; raises `RateLimited` during a stop of the provider's, or if the wait would be too long.

        Every successful call needs one `release` of the same kind.
        """
        await self.sync()
        self._raise_if_stopped()
        if not self._paced:
            return
        queue = self._writers if write else self._readers
        wait_s = self._wait_s(queue.waiting + 1, write=write)
        if wait_s > self._max_wait_s:
            raise RateLimited("the provider's published rate limit allows no further call now", retry_at=self._clock() + wait_s)
        queue.waiting += 1
        try:
            async with queue.turn:
                while (wait_s := self._wait_s(1, write=write)) > 0:
                    await queue.pause(wait_s)
                    self._raise_if_stopped()
                for window, cost in self._windows(write=write):
                    window.begin(cost)
        finally:
            queue.waiting -= 1

    def release(self, *, write: bool) -> None:
        """Count the call as answered, or as failed."""
        if not self._paced:
            return
        now = self._monotonic()
        for window, cost in self._windows(write=write):
            window.end(cost, now)
        if write:
            self._recent.append(self._clock())
            self._save_soon()
        self._wake()

    def _windows(self, *, write: bool) -> tuple[tuple[_Window, int], ...]:
        if not write:
            return ((self._points, self.limits.read_points),)
        return (self._points, self.limits.write_points), (self._minute, 1), (self._hour, 1)

    def _wait_s(self, count: int, *, write: bool) -> float:
        now = self._monotonic()
        return max(window.wait_s(cost * count, now) for window, cost in self._windows(write=write))

    def _wake(self) -> None:
        self._writers.changed.set()
        self._readers.changed.set()

    def _raise_if_stopped(self) -> None:
        if self._clock() < self._state.blocked_until:
            raise RateLimited(
                f"the provider's rate limit is active ({self._state.reason or 'it asked to wait'})",
                retry_at=self._state.blocked_until,
            )

    # -- answers of the provider ------------------------------------------------------------------------------------

    def record_answer(self, headers: Mapping[str, str], *, wrote: bool = False, ahead_s: float = 0.0) -> None:
        """Record the rate headers of an answer (GitHub ``x-ratelimit-*``, Buddy ``x-rate-limit-*``), whose times are by the
        provider's clock, ``ahead_s`` before ours.

        ``wrote``: the call was a successful write. Only that, or an hour of quiet, ends the doubling of `stop`: reads succeed
        while the provider still refuses to create.
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
            # Buddy's samples show a limit of 1, which makes no sense.
            if rate.get("remaining") == 0 and rate.get("limit", 0) > 1 and reset > max(now, state.blocked_until):
                state = dataclasses.replace(state, blocked_until=reset, reason="the hourly rate is used up")
        stopped = state.blocked_until > self._state.blocked_until
        self._state = state
        if stopped:
            self._wake()
            self._save_soon(now=True)

    def stop(self, until: float | None, reason: str) -> float:
        """Stop every call until ``until``; without a future time from the provider for 60 s, doubled each time, up to an hour.

        A stop lasts at least a second, doubled each time, since a provider may name a time that is always a moment away. Returns
        the end (epoch seconds). Refusals of calls that were in flight at a stop count as one refusal.
        """
        now, state = self._clock(), self._state
        stopped = now < state.blocked_until
        failures = state.failures if stopped and state.failures else state.failures + 1
        if until is not None and until <= now:  # a reset in the past, with a refusal, is no end
            until = None
        if until is None:
            until = state.blocked_until if stopped else now + exponential(failures - 1, SECONDARY_S, SECONDARY_MAX_S)
        least_s = exponential(failures - 1, LEAST_STOP_S, SECONDARY_MAX_S)
        until = max(min(until, now + MAX_STOP_S), now + least_s, state.blocked_until)
        self._state = dataclasses.replace(state, blocked_until=until, reason=reason, failures=failures)
        self._wake()
        return until

    def pull_back(self, seconds: float) -> None:
        """End a stop earlier by ``seconds``, by which this host's clock was set back."""
        rate = self._state.rate
        if rate.get("resetAt"):
            rate = {**rate, "resetAt": round(rate["resetAt"] - seconds)}
        self._state = dataclasses.replace(self._state, blocked_until=self._state.blocked_until - seconds, rate=rate)
        self._wake()

    # -- sharing ----------------------------------------------------------------------------------------------------

    async def sync(self) -> None:
        """Take over the stops and writes of other processes, if the last read is a second old."""
        now = self._monotonic()
        if self._store is None or now - self._shared_at < SHARE_S:
            return
        self._shared_at = now
        self._take_over(await self._run(self._store.load_budget, self.credential_id))

    async def flush(self) -> None:
        """Save what is not saved yet: after a stop, and at the end."""
        if self._store is None:
            return
        mine = dataclasses.replace(self._state, recent=tuple(self._recent))
        # Pacing is optional: the owner of the state reports that it cannot be written, and the answer must not be lost for it.
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
        """Save the last writes, so that the next process keeps the pace."""
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
                for window, cost in self._windows(write=True):
                    if age_s < window.seconds:
                        window.note(cost, now - age_s)
        mine = self._state
        if other.blocked_until > mine.blocked_until:
            mine = dataclasses.replace(mine, blocked_until=other.blocked_until, reason=other.reason, failures=other.failures)
            self._wake()
        self._state = mine if mine.rate else dataclasses.replace(mine, rate=other.rate)


def _beyond(theirs: Iterable[float], ours: Iterable[float]) -> list[float]:
    """Return ``theirs`` without ``ours``, as multisets: two writes may have the same time."""
    return sorted((Counter(theirs) - Counter(ours)).elements())


def _merge_into(store: BudgetStore, mine: BudgetState) -> BudgetState:
    """Merge ``mine`` into the stored state, off the event loop. Two processes at once lose at most the writes of a second."""
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
    """Return limit, remaining and resetAt (epoch seconds) from an answer's headers; empty without them.

    GitHub has several budgets; this client uses only ``core``.
    """
    if headers.get("x-ratelimit-resource", "core") != "core":
        return {}
    rate: dict[str, int] = {}
    for prefix in ("x-ratelimit-", "x-rate-limit-", "ratelimit-"):
        for name, key in (("limit", "limit"), ("remaining", "remaining"), ("reset", "resetAt")):
            value = headers.get(prefix + name)
            if value is not None and _NUMBER.fullmatch(value):
                rate[key] = int(value)
    return rate
