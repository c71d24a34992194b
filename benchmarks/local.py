"""G6, G7, G10, G11, G12: what needs no provider, against Git, SQLite and a bare Python."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.floors import git, sqlite
from benchmarks.provider import Running
from benchmarks.remote import Plan
from benchmarks.results import Row, seconds
from benchmarks.world import World, timed

NOWHERE = "http://127.0.0.1:9"
MANY = 10
"""How much more than `Plan.count` the large sizes have: 10,000 to 1,000."""


def manifests(plan: Plan) -> Iterator[Row]:
    """G6, G7: a large Git repository, unknown and known."""
    count = plan.count * MANY
    world = World(plan.folder / "many", NOWHERE, count)
    floor_s, blobs = git.read_all(world.manifests)
    assert blobs > count
    snapshot = world.folder / "nothing.json"
    snapshot.write_text(json.dumps({"resources": []}))
    world.cli("version")
    planned = world.cli("plan", "--snapshot", str(snapshot), "-o", "json")
    assert planned.out.count('"create"') >= count
    yield Row(
        "G6",
        f"plan {count} manifests from Git, process, nothing known",
        seconds(planned.wall),
        seconds(floor_s),
        planned.wall,
        3.0,
        "s",
    )
    found = world.worker("sync", count=count)
    yield Row(
        "G6",
        f"take {count} manifests live, nothing known",
        seconds(found["seconds"]),
        seconds(floor_s),
        found["seconds"],
        3.0,
        "s",
    )
    known = [world.worker("sync", count=count) for _ in range(plan.repeat)]
    warm = statistics.median(one["seconds"] for one in known)
    process = statistics.median(one["wall"] for one in known)
    yield Row(
        "G7", f"the same, nothing changed, new process: {count} live", seconds(warm), seconds(floor_s), warm * 1000, 300, "ms"
    )
    yield Row("G7", "with start and end of the process", seconds(process), "", process * 1000, 300, "ms")
    commit = world.worker("commit", files=10, passes=3, manifests=str(world.manifests))["seconds"]
    yield Row("G7", f"commit of 10 files of {count} in the daemon, after the fetch", seconds(commit), "", commit * 1000, 50, "ms")
    peak = world.worker("plans", count=count)
    yield Row(
        "G12", f"{count} manifests live and planned, resident", f"{peak['rss_now_mb']:.0f} MB", "", peak["rss_now_mb"], 160, "MB"
    )
    yield Row("G12", "the same process at its peak", f"{peak['rss_mb']:.0f} MB")


def linear(plan: Plan) -> Iterator[Row]:
    """G10: ten times the work in eleven times the time: CPU seconds, which a busy machine does not stretch."""
    times: dict[str, list[float]] = {"load": [], "plan": [], "state": [], "cold apply, 0 ms": [], "no-op, 0 ms": []}
    floors = []
    for count in (plan.count, plan.count * MANY):
        with Running() as provider:
            world = World(plan.folder / f"linear-{count}", provider.url, count)
            times["load"].append(world.worker("sync", count=count)["cpu"])
            times["plan"].append(world.worker("plans", count=count)["cpu"])
            times["state"].append(world.worker("state")["cpu"])
            floors.append(sqlite.write_and_read(world.folder / "floor.db", count))
            times["cold apply, 0 ms"].append(world.worker("pass")["cpu"])
            times["no-op, 0 ms"].append(world.worker("noop", passes=1)["passes"][0]["cpu"])
    for name, (few, many) in times.items():
        floor_s = seconds(floors[1]) if name == "state" else ""
        yield Row(
            "G10",
            f"{name}, CPU: {plan.count} → {plan.count * MANY}",
            f"{seconds(few)} → {seconds(many)}",
            floor_s,
            many / few,
            11,
            "×",
        )


def startup(plan: Plan) -> Iterator[Row]:
    """G11: how long a command takes to say something, over a bare Python."""
    world = World(plan.folder / "small", NOWHERE, 1)
    file = str(world.manifests / "sources" / "r00000.yaml")
    commands = {"bare Python": [sys.executable, "-c", "pass"]}
    commands |= {name: [sys.executable, "-m", "reconciler", *name.split()] for name in ("--help", "version")}
    commands["validate of one file"] = [
        sys.executable,
        "-m",
        "reconciler",
        "validate",
        file,
        str(world.manifests / "integration.yaml"),
    ]
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(plan.repeat * 2 + 2):  # in turns, so that a busy moment hits all alike; the first round makes byte code
        for name, command in commands.items():
            times[name].append(timed(command, cwd=world.folder, env=world.env).wall)
    bare = statistics.median(times.pop("bare Python")[1:])
    for name, values in times.items():
        found = statistics.median(values[1:])
        limit = 250.0 if name.startswith("validate") else 30.0
        yield Row("G11", name, seconds(found), f"bare Python {seconds(bare)}", (found - bare) * 1000, limit, "ms over")


def memory(plan: Plan) -> Iterator[Row]:
    """G12: the resident set of a daemon that has nothing to do."""
    count = max(plan.count // 10, 10)
    with Running() as provider:
        world = World(plan.folder / "idle", provider.url, count)
        command = [sys.executable, "-m", "reconciler", "run", "--config", str(world.config)]
        with subprocess.Popen(
            command, cwd=world.folder, env=world.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as daemon:
            try:
                _wait_ready(world.folder / "state" / "status.json", count)
                time.sleep(5)
                status = Path(f"/proc/{daemon.pid}/status").read_text()
            finally:
                daemon.send_signal(signal.SIGTERM)
    resident = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))) / 1024
    yield Row("G12", f"idle daemon, {count} webhooks, resident", f"{resident:.0f} MB", "", resident, 100, "MB")


def _wait_ready(file: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.2)
        if file.exists() and json.loads(file.read_text())["summary"]["ready"] > count:
            return
    raise RuntimeError("the daemon did not get ready")
