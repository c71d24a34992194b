"""GitHub's rate limits, by token: the hourly one, and the secondary ones on points and on creating calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reconciler.sandbox.app import Call, RefusedCall, Reply, SlidingLimit
from reconciler.sandbox.github import shapes as shapes
from reconciler.sandbox.shapes import number, whole

DEFAULTS: Mapping[str, object] = {
    "primary_per_hour": 5000,
    "points_per_minute": 900,
    "creates_per_minute": 80,
    "creates_per_hour": 500,
    "concurrent": 100,
}
_CREATING = frozenset({"POST", "PATCH", "PUT"})


class RateLimits:
    """Counts the use of each token while the setting ``rate_limits`` is on."""

    def __init__(self, settings: Callable[[], Mapping[str, object]], clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._sliding: dict[tuple[str, str], SlidingLimit] = {}
        self._used: dict[str, tuple[float, int]] = {}

    def clear(self) -> None:
        """Reset all counts."""
        self._sliding.clear()
        self._used.clear()

    def check(self, call: Call, token: str, in_flight: int) -> None:
        """Raise the refusal of a request that is over a limit; a write takes its points here."""
        if self.numbers(token)["remaining"] <= 0:
            body = shapes.error("API rate limit exceeded for user ID 1.", 403)
            raise RefusedCall(Reply(403, body, self.headers(token)))
        if in_flight > number(self._settings()["concurrent"]):
            raise _secondary(0)
        if call.method == "GET":
            return
        self._take(token, "points_per_minute", 60.0, 5)
        if call.method in _CREATING:
            self._take(token, "creates_per_minute", 60.0, 1)
            self._take(token, "creates_per_hour", 3600.0, 1)

    def count(self, call: Call, token: str) -> RefusedCall | None:
        """Count an answer that is not 304; a read takes its point here. Return a refusal to answer instead."""
        if call.method == "GET":
            try:
                self._take(token, "points_per_minute", 60.0, 1)
            except RefusedCall as refusal:
                return refusal
        reset, used = self._window(token)
        self._used[token] = (reset, used + 1)
        return None

    def numbers(self, token: str) -> dict[str, int]:
        """Return limit, remaining, reset (epoch seconds) and used."""
        reset, used = self._window(token)
        limit = whole(self._settings()["primary_per_hour"])
        return {"limit": limit, "remaining": max(0, limit - used), "reset": int(reset), "used": used}

    def headers(self, token: str) -> dict[str, str]:
        """Return the x-ratelimit headers."""
        return {f"x-ratelimit-{name}": str(value) for name, value in self.numbers(token).items()} | {
            "x-ratelimit-resource": "core"
        }

    def _take(self, token: str, name: str, seconds: float, cost: int) -> None:
        most = whole(self._settings()[name])
        limit = self._sliding.get((token, name))
        if limit is None or limit.limit != most:
            limit = self._sliding[token, name] = SlidingLimit(most, seconds)
        wait_s = limit.take(self._clock(), cost)
        if wait_s:
            raise _secondary(wait_s)

    def _window(self, token: str) -> tuple[float, int]:
        reset, used = self._used.get(token, (0.0, 0))
        return (reset, used) if self._clock() < reset else (self._clock() + 3600.0, 0)


def _secondary(wait_s: float) -> RefusedCall:
    message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
    headers = {"retry-after": str(int(wait_s) + 1)} if wait_s else {}
    return RefusedCall(Reply(403, shapes.error(message, 403), headers))
