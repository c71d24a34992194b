import asyncio
import random

import pytest

from reconciler.drivers.base import ProviderLimits
from reconciler.drivers.http.budget import MAX_STOP_S, Budget, rate_of
from reconciler.model.errors import RateLimited
from reconciler.model.records import BudgetState
from tests.http.virtual import now, run

GITHUB = ProviderLimits(
    writes_per_minute=80, writes_per_hour=500, points_per_minute=900, read_points=1, write_points=5, concurrent=100
)
MINUTE = ProviderLimits(writes_per_minute=80, points_per_minute=900)


class Store:
    """The shared row, as bytes of its own: what is not saved is not there."""

    def __init__(self):
        self.rows = {}
        self.saves = 0

    def load_budget(self, credential_id):
        return self.rows.get(credential_id)

    def save_budget(self, state):
        self.saves += 1
        self.rows[state.credential_id] = state


async def inline(call, *args):
    return call(*args)


def budget(limits=GITHUB, store=None, **options):
    return Budget("test|x", limits, store=store, run=inline, **{"clock": now, "monotonic": now, **options})


class Counter:
    """A provider that counts a call when it arrives, in windows that slide and in windows that are fixed."""

    def __init__(self, limits=GITHUB):
        self.limits = limits
        self.writes, self.points, self.refused = [], [], 0

    def arrive(self, *, write=True):
        at = now()
        cost = self.limits.write_points if write else self.limits.read_points
        inside = [t for t in self.writes if t > at - 60]
        hour = [t for t in self.writes if t > at - 3600]
        spent = sum(c for t, c in self.points if t > at - 60)
        over = write and (
            len(inside) >= (self.limits.writes_per_minute or 10**9) or len(hour) >= (self.limits.writes_per_hour or 10**9)
        )
        if over or (self.limits.points_per_minute and spent + cost > self.limits.points_per_minute):
            self.refused += 1
            return
        self.points.append((at, cost))
        if write:
            self.writes.append(at)


async def call(pace, provider, *, write=True, latency=lambda: (0.1, 0.1)):
    await pace.acquire(write=write)
    try:
        there, back = latency()
        await asyncio.sleep(there)
        provider.arrive(write=write)
        await asyncio.sleep(back)
    finally:
        pace.release(write=write)


async def work(pace, provider, count, *, at_once=20, latency=lambda: (0.1, 0.1)):
    """Do ``count`` writes as an engine does: some at once, coming back when told to."""
    left = count

    async def worker():
        nonlocal left
        while left > 0:
            left -= 1
            try:
                await call(pace, provider, latency=latency)
            except RateLimited as error:
                left += 1
                await asyncio.sleep(max(0.01, error.retry_at - now()))

    await asyncio.gather(*(worker() for _ in range(at_once)))


@pytest.mark.parametrize("at_once", [1, 20, 200])
def test_d6_g5_a_sliding_minute_is_used_to_97_percent_and_never_overrun(at_once):
    async def main():
        provider, pace, started = Counter(MINUTE), budget(MINUTE), now()
        await work(pace, provider, 80 * 10, at_once=at_once)
        took = now() - started
        assert provider.refused == 0
        assert len(provider.writes) == 800
        best = 9 * 60 + 80 * 0.2 / min(at_once, 80)  # a full burst at each of the minutes 0 to 9
        assert best / took >= 0.97

    run(main())


def test_g5_the_hour_is_used_and_never_overrun():
    async def main():
        provider, pace, started = Counter(), budget(), now()
        await work(pace, provider, 1_500)
        assert provider.refused == 0
        best = 2 * 3600 + 6 * 60  # 500 from each of the hours 0 to 2, the last 500 in six minutes and a burst
        assert best / (now() - started) >= 0.97

    run(main())


@pytest.mark.parametrize("seed", range(5))
def test_g5_latencies_that_jump_about_trip_nothing(seed):
    """A slow first connection and a fast later one would meet in one window if calls were counted when they are sent."""
    chance = random.Random(seed)

    async def main():
        provider, pace = Counter(MINUTE), budget(MINUTE)
        await work(
            pace, provider, 400, at_once=60, latency=lambda: (chance.choice([0.01, 0.05, 3.0, 8.0]), chance.choice([0.01, 0.5]))
        )
        assert provider.refused == 0

    run(main())


def test_reads_and_writes_share_the_points_of_a_minute():
    async def main():
        provider, pace = Counter(), budget()
        await asyncio.gather(*(call(pace, provider, write=False) for _ in range(850)), work(pace, provider, 60))
        assert provider.refused == 0

    run(main())


def test_a_read_does_not_wait_behind_writes():
    async def main():
        provider, pace = Counter(MINUTE), budget(MINUTE)
        writes = asyncio.ensure_future(work(pace, provider, 120, at_once=120))
        await asyncio.sleep(5)
        assert not writes.done()
        started = now()
        await call(pace, provider, write=False)
        assert now() - started < 0.5
        await writes

    run(main())


def test_a_wait_that_is_too_long_is_said_and_holds_nothing():
    async def main():
        pace, provider = budget(MINUTE, max_wait_s=5.0), Counter(MINUTE)
        await work(pace, provider, 80)
        assert pace.admits() == 0
        with pytest.raises(RateLimited) as caught:
            await pace.acquire(write=True)
        assert caught.value.retry_at - now() == pytest.approx(60, abs=1)
        await asyncio.sleep(caught.value.retry_at - now())
        assert 1 <= pace.admits() <= 20
        await asyncio.sleep(1)
        assert pace.admits() == 80
        await call(pace, provider)
        assert provider.refused == 0

    run(main())


def test_without_published_limits_nothing_waits():
    async def main():
        pace, provider, started = budget(ProviderLimits()), Counter(ProviderLimits()), now()
        await work(pace, provider, 5_000, at_once=100)
        assert now() - started < 15
        assert pace.admits() > 1_000

    run(main())


def test_f1_a_clock_that_is_set_changes_no_pace():
    async def main():
        shift = 0.0
        pace, provider = budget(MINUTE, clock=lambda: now() + shift), Counter(MINUTE)
        started = now()
        for shift in (0.0, 3_600.0, -3_600.0, 0.0):  # noqa: B007
            await work(pace, provider, 40)
        assert provider.refused == 0
        assert now() - started < 70

    run(main())


def test_a_call_that_is_cancelled_gives_its_place_back():
    async def main():
        pace, provider = budget(MINUTE), Counter(MINUTE)
        tasks = [asyncio.ensure_future(call(pace, provider, latency=lambda: (30, 30))) for _ in range(100)]
        await asyncio.sleep(1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(61)
        assert pace.admits() == 80

    run(main())


def test_d3_a_stop_ends_waits_at_once_and_every_call_until_then():
    async def main():
        pace, provider = budget(MINUTE), Counter(MINUTE)
        await work(pace, provider, 80)
        waiting = asyncio.ensure_future(pace.acquire(write=True))
        await asyncio.sleep(1)
        until = pace.stop(now() + 300, "told")
        with pytest.raises(RateLimited) as caught:
            await waiting
        assert caught.value.retry_at == until
        assert until - now() == 300, "not at the end of its own wait"
        for write in (True, False):
            with pytest.raises(RateLimited):
                await pace.acquire(write=write)
        await asyncio.sleep(300)
        await call(pace, provider, write=False)

    run(main())


def test_d4_without_a_time_the_stop_is_a_minute_doubled_each_time_up_to_an_hour():
    async def main():
        pace = budget()
        stops = []
        for _ in range(9):
            stops.append(pace.stop(None, "secondary") - now())
            await asyncio.sleep(stops[-1])
            pace.record_answer({"x-ratelimit-remaining": "4000", "x-ratelimit-limit": "5000"})  # reads go through meanwhile
        assert stops == pytest.approx([60, 120, 240, 480, 960, 1920, 3600, 3600, 3600])
        pace.record_answer({}, wrote=True)
        assert pace.stop(None, "secondary") - now() == pytest.approx(60)

    run(main())


@pytest.mark.parametrize("ago_s", [0, 1, 60, 86_400, 10**9])
def test_n31_a_reset_that_is_over_names_no_end(ago_s):
    async def main():
        pace = budget()
        stops = []
        for _ in range(9):
            stops.append(pace.stop(now() - ago_s, "told by the provider") - now())
            await asyncio.sleep(stops[-1])
        assert stops == pytest.approx([60, 120, 240, 480, 960, 1920, 3600, 3600, 3600])

    run(main())


def test_n31_a_reset_that_is_always_a_moment_away_is_believed_less_each_time():
    async def main():
        pace = budget()
        began = now()
        for _ in range(13):
            await asyncio.sleep(pace.stop(now() + 0.5, "told by the provider") - now())
            pace.record_answer(
                {"x-ratelimit-remaining": "0", "x-ratelimit-limit": "5000", "x-ratelimit-reset": str(int(now()) - 3)}
            )
        assert now() - began > 3600  # thirteen calls, and not one a second

    run(main())


def test_d4_the_refusals_of_calls_under_way_are_one_refusal():
    async def main():
        pace = budget()
        untils = {pace.stop(None, "secondary") for _ in range(100)}
        assert untils == {now() + 60}
        pace.record_answer({}, wrote=True)  # one that was under way succeeded
        await asyncio.sleep(60)
        assert pace.stop(None, "secondary") - now() == pytest.approx(120)

    run(main())


def test_d5_when_nothing_remains_nobody_calls_before_the_reset():
    async def main():
        pace = budget()
        reset = int(now()) + 1_800
        pace.record_answer({"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "0", "x-ratelimit-reset": str(reset)})
        with pytest.raises(RateLimited) as caught:
            await pace.acquire(write=False)
        assert caught.value.retry_at == reset
        assert pace.rate == {"limit": 5000, "remaining": 0, "resetAt": reset}

    run(main())


@pytest.mark.parametrize(("remaining", "low"), [(501, False), (500, True), (1, True)])
def test_d5_the_last_tenth_of_the_rate_is_the_reserve(remaining, low):
    async def main():
        pace = budget()
        pace.record_answer(
            {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": str(remaining), "x-ratelimit-reset": str(int(now()) + 60)}
        )
        assert pace.low() is low
        await asyncio.sleep(61)
        assert not pace.low()

    run(main())


@pytest.mark.parametrize(
    "headers",
    [
        {"x-rate-limit-limit": "1", "x-rate-limit-remaining": "0", "x-rate-limit-reset": "9999999"},
        {
            "x-ratelimit-limit": "30",
            "x-ratelimit-remaining": "0",
            "x-ratelimit-reset": "9999999",
            "x-ratelimit-resource": "search",
        },
        {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "5"},
        {"x-ratelimit-limit": "²", "x-ratelimit-remaining": "-1", "x-ratelimit-reset": "9" * 5_000},
    ],
)
def test_rate_headers_that_mean_nothing_stop_nothing(headers):
    async def main():
        pace = budget()
        pace.record_answer(headers)
        assert pace.blocked_until <= now()

    run(main())


def test_no_answer_stops_for_more_than_a_day():
    async def main():
        pace = budget()
        pace.record_answer({"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "179999999999"})
        assert pace.blocked_until == now() + MAX_STOP_S
        assert budget().stop(now() * 1_000, "milliseconds") == now() + MAX_STOP_S

    run(main())


def test_every_family_of_rate_headers_is_read():
    assert rate_of({"x-rate-limit-limit": "10", "x-rate-limit-remaining": "7", "x-rate-limit-reset": "99"}) == {
        "limit": 10,
        "remaining": 7,
        "resetAt": 99,
    }
    assert rate_of({"x-ratelimit-remaining": "7", "x-ratelimit-resource": "core"}) == {"remaining": 7}
    assert rate_of({"ratelimit-limit": "5000", "ratelimit-remaining": "0", "ratelimit-reset": "99"})["resetAt"] == 99
    assert rate_of({}) == {}


def test_d3_a_stop_is_seen_by_every_worker_within_a_second():
    async def main():
        store = Store()
        workers = [budget(store=store) for _ in range(3)]
        for worker in workers:
            await worker.acquire(write=False)
            worker.release(write=False)
        until = workers[0].stop(now() + 300, "told")
        await workers[0].flush()
        await asyncio.sleep(1.0)
        for worker in workers:
            with pytest.raises(RateLimited) as caught:
                await worker.acquire(write=False)
            assert caught.value.retry_at == until
        late = budget(store=store)
        assert late.blocked_until == until

    run(main())


def test_g5_workers_that_take_turns_keep_one_pace():
    async def main():
        store, provider = Store(), Counter(MINUTE)
        workers = [budget(MINUTE, store) for _ in range(3)]
        for turn in range(9):
            await work(workers[turn % 3], provider, 50, at_once=10)
            await asyncio.sleep(2.1)
        assert provider.refused == 0
        for worker in workers:
            await worker.aclose()

    run(main())


def test_g5_a_process_that_starts_anew_keeps_the_pace_of_the_last():
    async def main():
        store, provider = Store(), Counter(MINUTE)
        for _ in range(4):
            pace = budget(MINUTE, store)
            await work(pace, provider, 60, at_once=10)
            await pace.aclose()
        assert provider.refused == 0
        assert len(provider.writes) == 240

    run(main())


def test_what_two_workers_write_is_merged_and_counted_once():
    async def main():
        store = Store()
        first, second = budget(MINUTE, store), budget(MINUTE, store)
        for pace in (first, second):
            for _ in range(10):  # several at one instant
                await pace.acquire(write=True)
                pace.release(write=True)
            await asyncio.sleep(0.001)
        for _ in range(5):
            await asyncio.sleep(1.1)
            for pace in (first, second):
                await pace.flush()
                await pace.sync()
        assert (first.admits(), second.admits()) == (60, 60)
        assert len(store.rows["test|x"].recent) == 20
        for pace in (first, second):
            await pace.aclose()

    run(main())


def test_a_busy_budget_is_saved_at_most_once_a_second():
    async def main():
        store = Store()
        pace, provider, started = budget(MINUTE, store), Counter(MINUTE), now()
        await work(pace, provider, 160, at_once=10)
        await pace.aclose()
        assert store.saves <= now() - started + 2

    run(main())


def test_a_store_that_cannot_be_written_takes_no_answer_away():
    class Full(Store):
        def save_budget(self, state):
            raise OSError("disk full")

    async def main():
        pace = budget(MINUTE, Full())
        await call(pace, Counter(MINUTE))
        pace.stop(now() + 5, "told")
        await pace.flush()
        await pace.aclose()
        assert pace.blocked_until == now() + 5

    run(main())


def test_writes_older_than_every_window_are_forgotten():
    async def main():
        store = Store()
        store.save_budget(BudgetState("test|x", recent=tuple(now() - age for age in (90_000, 3_700, 3_000, 30, -50))))
        pace = budget(store=store)
        await pace.flush()
        assert len(store.rows["test|x"].recent) == 3
        assert pace.admits() == 80 - 2

    run(main())
