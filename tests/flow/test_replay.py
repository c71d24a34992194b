"""A replay of many deliveries against the real program while it is killed: whatever was accepted, or missed, has its effects once.

The inputs are made of a seed: deliveries of several types to several sources, sent twice, sent again under another id, sent with
another body, signed wrongly, out of order, late, or only listed by the provider as lost. Senders repeat what is not answered
with 202. In the end the state and the simulated provider are held against an oracle (`tests.flow.replay`).

``REPLAY_EVENTS`` is how many (default 300; 10,000 take about half an hour), ``REPLAY_SEED`` the seed, which a test that fails
prints. ``A5_KILLS`` is how often the start of a run is interrupted (default 12; the fault matrix says 50).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reconciler.model.errors import ReconcilerError
from tests.flow.replay.inputs import Schedule, declare, known_commits, known_deployments
from tests.flow.replay.sending import Alone, Senders, Site, Three
from tests.flow.replay.verdict import Found, OracleReport
from tests.flow.stage_world import StageWorld
from tests.support.postgres import Postgres

pytestmark = [pytest.mark.fault, pytest.mark.slow]

EVENTS = int(os.environ.get("REPLAY_EVENTS", "300"))
SEED = int(os.environ.get("REPLAY_SEED", "7"))
KILLS = int(os.environ.get("A5_KILLS", "12"))
LIMIT_S = 120 + EVENTS / 5
MAX_RSS = 400 << 20
"""Of one process, whatever it has been through."""


@contextlib.contextmanager
def awake(world: StageWorld) -> Iterator[None]:
    """Let processes that stand still run again, so that they can be ended."""
    try:
        yield
    finally:
        for process in world.processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)


def replay(world: StageWorld, begin: Callable[[], Site]) -> None:
    """Declare, send, disturb, wait until nothing is under way, and judge."""
    print(f"REPLAY_SEED={SEED} REPLAY_EVENTS={EVENTS}")
    dice, schedule = random.Random(SEED + 1), Schedule(SEED, EVENTS)
    declare(world)
    known_commits(world, sorted(schedule.commits))
    known_deployments(world, schedule.deployments)
    with awake(world):
        site = begin()
        found = Found(site.url, world)
        world.wait(found.swept, "a first sweep")
        senders = Senders(world, schedule, limit_s=LIMIT_S)
        try:
            disturbed(site, senders, dice)
            settled(site, found)
            assert world.wait(site.well, "the daemon is well")
            site.close()
            OracleReport(world, found, schedule, strict=site.strict).check()
        finally:
            senders.close()
    log = site.log()
    for sign in ("Traceback", "RC9001", "step_failed", "event_failed", "status_abandoned", "reports_failed"):
        assert sign not in log, [line for line in log.splitlines() if sign in line][:3]


def disturbed(site: Site, senders: Senders, dice: random.Random) -> None:
    """Kill, and go on killing for a while after the last delivery was taken."""
    began, high, extra = time.monotonic(), 0, 2
    while senders.sending() or extra > 0:
        extra -= not senders.sending()
        for _ in range(round(dice.uniform(1, 6) * 10)):
            if not senders.sending() and extra <= 0:
                break
            time.sleep(0.1)
        high = max(high, site.rss())
        site.disturb(dice)
        assert time.monotonic() - began < LIMIT_S, "the senders do not come to an end"
    print(f"sent in {time.monotonic() - began:.0f} s, {site.kills} times disturbed, {high >> 20} MB, {dict(senders.answers)}")
    assert high < MAX_RSS


def settled(site: Site, found: Found) -> None:
    """Wait until nothing is under way, and nothing that the provider lists is missing."""
    began, told = time.monotonic(), 0.0
    left: dict[str, int] = {}
    while time.monotonic() - began < LIMIT_S:
        left = found.left()
        if time.monotonic() - told > 10:
            told = time.monotonic()
            print(f"{told - began:.0f} s: {left}, missing {len(found.missing())}, {site.rss() >> 20} MB", flush=True)
        if not any(left.values()) and not found.missing() and not any(found.left().values()):
            print(f"settled in {time.monotonic() - began:.0f} s, {site.rss() >> 20} MB")
            assert site.rss() < MAX_RSS
            return
        time.sleep(0.2)
    missing = [(row["event"], row["guid"], row["status"]) for row in found.missing()[:5]]
    raise AssertionError(f"not settled: {left}, missing {missing}\n{site.log()[-6000:]}")


@pytest.mark.timeout(3 * LIMIT_S)
def test_a5_a7_e3_e5_e8_e11_a_replay_through_kills_leaves_every_event_its_effects_exactly_once(world: StageWorld) -> None:
    replay(world, lambda: Alone(world))


@pytest.mark.timeout(3 * LIMIT_S)
def test_a14_a15_e3_e8_e11_a_replay_to_three_processes_that_are_killed_or_stand_still_is_no_different(
    world: StageWorld, postgres: Postgres
) -> None:
    url = postgres.database()
    world.configure(state=f'{{url: "{url}"}}')
    replay(world, lambda: Three(world, url))


# -- the start of a run -------------------------------------------------------------------------------------------------


@pytest.mark.timeout(120 + 20 * KILLS)
def test_a5_kills_at_random_moments_around_the_start_of_a_run_leave_exactly_one_run_each(world: StageWorld) -> None:
    """Before the dispatch, while its answer is under way, and after it; with an answer that names the run, and with none."""
    print(f"REPLAY_SEED={SEED} A5_KILLS={KILLS}")
    dice = random.Random(SEED)
    world.manual()
    world.stage(
        "build",
        "concurrency: 64",
        "executor: {type: github, integration: {name: github}, resource: {type: repository, name: web}, "
        "spec: {workflow: ci.yml, ref: main}}",
    )
    world.github.settings(run_list_lag_s=2.0)
    world.ready()
    runs = world.servers["github"].app.state["runs"]

    def started() -> int:
        return sum(len(rows) for rows in runs.values())

    moments: Counter[tuple[str, bool]] = Counter()
    for number in range(KILLS):
        moment, named = ("before", "during", "after")[number % 3], number % 2 == 0
        moments[moment, named] += 1
        world.github.settings(return_run_details=named)
        world.wait(lambda: asked(world) == [], "the daemon answers, and all before it have begun")
        if moment == "during":  # it is taken at once, and answered late
            world.github.fault(method="POST", path="/dispatches$", effect="answer", commit=True, delay_s=1.0, times=1)
        before = started()
        world.trigger()
        if moment != "before":
            world.wait(lambda before=before: started() > before, "the provider has taken it")
        time.sleep(dice.uniform(0, 0.15 if moment == "before" else 0.9))  # the moment is random, nothing is waited for
        world.kill()
        world.github.clear_faults()
        world.daemon()
    done = world.finished("build", KILLS, 120)
    assert Counter((one["result"], one["reason"]) for one in done) == {("passed", "ok"): KILLS}
    found = Counter(run["inputs"]["reconciler_execution_id"] for run in world.runs())
    assert found == {one["id"]: 1 for one in done}, f"{sum(found.values())} runs for {KILLS} executions; {moments}"


def asked(world: StageWorld) -> list[dict[str, Any]] | None:
    """Return what waits in the queue; None while nobody answers."""
    try:
        return world.queued("build")
    except (ReconcilerError, OSError):
        return None
