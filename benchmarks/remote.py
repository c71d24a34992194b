"""G1 to G5: webhooks at a provider, against raw sockets."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.provider import Running
from benchmarks.results import Row, exactly, seconds
from benchmarks.world import IN_FLIGHT, World, timed


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    folder: Path
    count: int = 1_000
    repeat: int = 3
    kills: int = 100
    """How often the daemon is killed under load."""


def floor(url: str, count: int, what: str, repeat: int) -> dict[str, float]:
    """Return the median of the raw-socket floor."""
    found = []
    for _ in range(repeat if what == "noop" else 1):
        run = timed(
            [sys.executable, "-m", "benchmarks.floors.http", url, str(count), str(IN_FLIGHT), what], cwd=Path(__file__).parents[1]
        )
        found.append(json.loads(run.out))
    return {key: statistics.median(one[key] for one in found) for key in ("seconds", "cpu")}


def noop(plan: Plan) -> Iterator[Row]:
    """G1, G2, G3: nothing to do, at 50 ms and at 0 ms."""
    with Running() as provider:
        world = World(plan.folder / "noop", provider.url, plan.count)
        world.worker("pass")
        for latency_s in (0.05, 0.0):
            provider.do("settings", latency_s=latency_s)
            raw = floor(provider.url, plan.count, "noop", plan.repeat)
            provider.do("forget")
            passes = world.worker("noop", passes=plan.repeat)["passes"]
            counts = provider.do("forget")
            whole = [world.cli("run", "--once") for _ in range(plan.repeat)]
            daemon = statistics.median(one["seconds"] for one in passes)
            cpu = statistics.median(one["cpu"] for one in passes)
            process = statistics.median(one.wall for one in whole)
            process_cpu = statistics.median(one.cpu for one in whole)
            if latency_s:
                name = f"no-op of {plan.count}, 50 ms, {IN_FLIGHT} in flight"
                yield Row("G1", f"{name}, daemon", seconds(daemon), seconds(raw["seconds"]), daemon / raw["seconds"], 1.3)
                yield Row("G1", f"{name}, process", seconds(process), seconds(raw["seconds"]), process / raw["seconds"], 2.0)
            else:
                name = f"no-op of {plan.count}, 0 ms, CPU"
                yield Row("G2", f"{name}, daemon", seconds(cpu), seconds(raw["cpu"]), cpu / plan.count * 1000, 1.0, "ms each")
                yield Row(
                    "G2",
                    f"{name}, process",
                    seconds(process_cpu),
                    seconds(raw["cpu"]),
                    process_cpu / plan.count * 1000,
                    1.0,
                    "ms each",
                )
                yield from _requests(plan, counts)


def _requests(plan: Plan, counts: dict[str, int]) -> Iterator[Row]:
    passes = plan.repeat + 1  # the worker makes one pass more, to warm up
    writes = sum(counts.get(method, 0) for method in ("POST", "PATCH", "PUT", "DELETE"))
    yield exactly("G3", "conditional requests answered 304, a repository and pass", counts.get("304", 0), plan.count * passes)
    yield exactly(
        "G3",
        "requests that count against the rate, a pass (the credential's check)",
        (counts.get("GET", 0) - counts.get("304", 0)) // passes,
        1,
    )
    yield exactly("G3", "writes of a no-op", writes, 0)


def cold(plan: Plan) -> Iterator[Row]:
    """G4: everything is to be made, no limits."""
    for latency_s in (0.05, 0.0):
        with Running() as provider:
            provider.do("settings", latency_s=latency_s)
            raw = floor(provider.url, plan.count, "cold", 1)
            provider.do("clear")
            world = World(plan.folder / f"cold-{latency_s}", provider.url, plan.count)
            found = world.worker("pass")
            made = provider.do("stats")["hooks"]
            name = f"cold apply of {plan.count}, {latency_s * 1000:.0f} ms"
            limit = 1.5 if latency_s else None
            yield Row("G4", name, seconds(found["seconds"]), seconds(raw["seconds"]), found["seconds"] / raw["seconds"], limit)
            yield exactly("G4", f"{name}: hooks made", made, plan.count)


SCALE = 6
"""G5: a minute takes 10 s, at the provider, in the client's windows and on the wire, so that the whole ends within one minute."""
CREATES, POINTS, CREATES_HOUR, CONCURRENT = 80, 900, 500, 100


def limited(plan: Plan) -> Iterator[Row]:
    """G5: everything is to be made under GitHub's published limits, which the provider enforces."""
    count = CREATES * (6 if plan.count >= 1_000 else 2)
    with Running() as provider:
        minute = 60 / SCALE
        provider.do(
            "settings",
            latency_s=0.05 / SCALE,
            limits={
                "seconds": minute,
                "hour_seconds": minute * 60,
                "points": POINTS,
                "creates": CREATES,
                "creates_hour": CREATES_HOUR,
                "concurrent": CONCURRENT,
            },
        )
        pace = (
            f"rateLimits: {{github: {{writesPerMinute: {CREATES}, writesPerHour: {CREATES_HOUR}, pointsPerMinute: {POINTS}}}}}\n"
        )
        world = World(plan.folder / "limited", provider.url, count, pace=pace)
        world.worker("paced", scale=SCALE)
        found = provider.do("stats")
    span = found["write_seconds"]
    share = found["hooks"] / (CREATES * (span / minute + 1)) * 100  # what any sliding window allows in that span
    refused = found.get("403", 0) + found.get("429", 0)
    note = f"a minute is scaled to {minute:.0f} s: windows, margins and latency alike"
    allowed = f"{CREATES}/min"
    yield Row(
        "G5",
        f"cold apply of {count} under GitHub's limits: share of the budget",
        seconds(span),
        allowed,
        share,
        97,
        "%",
        at_least=True,
        note=note,
    )
    yield exactly("G5", "answers 403 and 429", refused, 0)
    yield exactly("G5", "hooks made", found["hooks"], count)
