"""One rate budget per credential, shared by all that use it: paced to the provider's published limits, stopped by its answers.

Pacing keeps an exact log of the last minute and hour, so that no window of the provider's, fixed or sliding, ever sees more
than its limit, while all of it is used: 80 creating calls go at once if the last minute was quiet, the 81st waits for the
first to be a minute old. Times are taken when the answer is there, which is never before the provider counted the call.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from reconciler.drivers.base import Limits
from reconciler.model.errors import RateLimited
from reconciler.model.records import BudgetState

MARGIN_S = 0.25
MAX_WAIT_S = 75.0
"""A wait for the pace up to this long is awaited; a longer one ends the work until then."""
SECONDARY_S = 60.0
SECONDARY_MAX_S = 3600.0
RESERVE = 0.10
"""Share of the hourly rate that is kept for repairing drift."""
UNLIMITED = Limits(concurrent=100)


class BudgetStore(Protocol):
    """Where a budget is shared between processes and over restarts."""

    def load_budget(self, credential_id: str) -> BudgetState | None: ...

    def save_budget(self, state: BudgetState) -> None: ...


class _Window:
    """Log of costs within the last ``seconds``; says when another may be added."""

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit, self.seconds = limit, seconds
        self._log: deque[tuple[float, int]] = deque()
        self._sum = 0

    def _expire(self, now: float) -> None:
        while self._log and self._log[0][0] <= now - self.seconds:
            self._sum -= self._log.popleft()[1]

    def ready_at(self, cost: int, now: float) -> float:
        """Return when ``cost`` more fits, counting what is reserved for later."""
        self._expire(now)
        if not self.limit or self._sum + cost <= self.limit:
            return now
        over = self._sum + cost - self.limit
        for at, spent in self._log:
            over -= spent
            if over <= 0:
                return at + self.seconds
        return now + self.seconds

    def add(self, at: float, cost: int) -> None:
        if self.limit:
            self._log.append((at, cost))
            self._sum += cost

    def free(self, cost: int, now: float) -> int:
        """Return how many of ``cost`` fit now; a large number where there is no limit."""
        self._expire(now)
        return 1_000_000 if not self.limit else max(0, (self.limit - self._sum) // max(cost, 1))

    def times(self) -> tuple[float, ...]:
        return tuple(at for at, _ in self._log)


class Budget:
    """The pace and the stops of one credential. Use from one event loop."""

    def __init__(self, credential_id: str, limits: Limits, *, store: BudgetStore | None, clock: Callable[[], float]) -> None:
        self.credential_id = credential_id
        self.limits = limits
        self._store = store
        self._clock = clock
        self._minute = _Window(limits.writes_per_minute, 60.0 + MARGIN_S)
        self._hour = _Window(limits.writes_per_hour, 3600.0 + MARGIN_S)
        self._points = _Window(limits.points_per_minute, 60.0 + MARGIN_S)
        self.gate = asyncio.Semaphore(limits.concurrent or 100)
        self._state = (store.load_budget(credential_id) if store is not None else None) or BudgetState(credential_id)
        for at in self._state.recent:
            self._minute.add(at, 1)
            self._hour.add(at, 1)
            self._points.add(at, limits.write_points)
        self._saved_at = 0.0

    @property
    def rate(self) -> Mapping[str, int]:
        """What the provider told last: limit, remaining, resetAt (epoch seconds)."""
        return self._state.rate

    @property
    def blocked_until(self) -> float:
        """No call before this (seconds since the epoch)."""
        return self._state.blocked_until

    def refresh(self) -> None:
        """Take over what another process was told: its stop is ours."""
        if self._store is None:
            return
        other = self._store.load_budget(self.credential_id)
        if other is not None and other.blocked_until > self._state.blocked_until:
            self._state = dataclasses.replace(self._state, blocked_until=other.blocked_until, reason=other.reason, failures=other.failures)

    def admits(self) -> int:
        """Return how many writes may go now without waiting."""
        now = self._clock()
        return min(self._minute.free(1, now), self._hour.free(1, now), self._points.free(self.limits.write_points, now))

    def low(self) -> bool:
        """Whether only the reserve for drift repair is left of the hourly rate."""
        rate = self._state.rate
        limit, remaining = rate.get("limit", 0), rate.get("remaining", 0)
        return limit >= 100 and remaining <= limit * RESERVE and rate.get("resetAt", 0) > self._clock()

    async def acquire(self, *, write: bool) -> None:
        """Wait for the pace; raises `RateLimited` where the provider said stop, or the wait would be long."""
        now = self._clock()
        if now < self._state.blocked_until:
            raise RateLimited(f"the provider's rate limit holds ({self._state.reason or 'told to wait'})", retry_at=self._state.blocked_until)
        windows = [(self._points, self.limits.write_points if write else self.limits.read_points)]
        if write:
            windows += [(self._minute, 1), (self._hour, 1)]
        at = max(window.ready_at(cost, now) for window, cost in windows)
        if at - now > MAX_WAIT_S:
            raise RateLimited("the provider's published pace allows no further write now", retry_at=at)
        for window, cost in windows:
            window.add(at, cost)
        if at > now:
            await asyncio.sleep(at - now)
            if self._clock() < self._state.blocked_until:
                raise RateLimited(f"the provider's rate limit holds ({self._state.reason or 'told to wait'})", retry_at=self._state.blocked_until)

    def told(self, headers: Mapping[str, str]) -> None:
        """Take up the rate headers of an answer (GitHub ``x-ratelimit-*``, Buddy ``x-rate-limit-*``)."""
        rate = rate_of(headers)
        if rate:
            self._state = dataclasses.replace(self._state, rate=rate, failures=0)
            if rate.get("remaining") == 0 and rate.get("limit", 0) > 1 and rate.get("resetAt", 0) > self._clock():
                self._state = dataclasses.replace(self._state, blocked_until=max(self._state.blocked_until, float(rate["resetAt"])), reason="nothing remains of the hourly rate")
                self.save(force=True)

    def stop(self, until: float | None, reason: str) -> float:
        """Stop every call until ``until``; without a time from the provider 60 s, doubled each time, an hour at most. Returns the time."""
        failures = self._state.failures + 1
        if until is None:
            until = self._clock() + min(SECONDARY_MAX_S, SECONDARY_S * 2 ** (failures - 1))
        until = max(until, self._state.blocked_until)
        self._state = dataclasses.replace(self._state, blocked_until=until, reason=reason, failures=failures)
        self.save(force=True)
        return until

    def save(self, *, force: bool = False) -> None:
        """Share the state; at most once a second unless ``force``."""
        now = self._clock()
        if self._store is None or (not force and now - self._saved_at < 1.0):
            return
        self._saved_at = now
        window = self._hour if self.limits.writes_per_hour else self._minute
        self._state = dataclasses.replace(self._state, recent=window.times()[-1_000:])
        self._store.save_budget(self._state)


def rate_of(headers: Mapping[str, str]) -> dict[str, int]:
    """Return limit, remaining and resetAt (epoch seconds) from an answer's headers; empty where it tells none."""
    found: dict[str, int] = {}
    for prefix in ("x-ratelimit-", "x-rate-limit-"):
        for name, key in (("limit", "limit"), ("remaining", "remaining"), ("reset", "resetAt")):
            value = headers.get(prefix + name, "")
            if value.isdigit():
                found[key] = int(value)
    return found
