"""kill -9 at every boundary: afterwards there is exactly one object, and the state says what the provider says."""

import contextlib
import json
import random
import signal
import sqlite3
import time

import pytest

from tests.engine.world import World

pytestmark = pytest.mark.fault

CREATE_POINTS = [
    "apply-before-begin",
    "state-begin-before-commit",
    "state-begin-after-commit",
    "apply-after-begin",
    "http-after-send",
    "apply-before-settle",
    "state-settle-before-commit",
    "state-settle-after-commit",
    "apply-after-settle",
]


def converged(world: World, repos: list[str]) -> None:
    """One hook a repository, recorded under its id; the next plan is empty and writes nothing."""
    done = world.cli("run", "--once")
    assert done.returncode == 0, done.stderr
    for repo in repos:
        assert len(world.hooks(repo)) == 1, world.hooks(repo)
    world.forget_requests()
    again = world.cli("plan", "--detailed-exitcode", "-o", "json")
    assert again.returncode == 0, again.stdout
    assert world.writes() == []
    recorded = {o["externalId"] for r in world.status()["resources"] for o in r["objects"]}
    assert recorded == {str(world.hooks(repo)[0]["id"]) for repo in repos}


@pytest.mark.parametrize("point", CREATE_POINTS)
def test_a1_a2_a_kill_at_any_point_of_a_create_ends_with_exactly_one_hook(world: World, point: str) -> None:
    world.servers["github"].admin.settings(accept_duplicates=True)
    world.source("one")
    # `apply` plans, then plans again to execute: credential and list are read twice before the POST.
    world.killed_at(point, hit=5 if point == "http-after-send" else 1)
    converged(world, ["one"])


def test_a3_a_kill_after_a_delete_leaves_a_clean_state_and_one_effect(world: World) -> None:
    world.source("one")
    world.source("two")
    assert world.cli("apply", "--yes").returncode == 0
    world.remove("one")
    world.killed_at("apply-before-settle")
    converged(world, ["two"])
    assert world.hooks("one") == []


def test_a4_a_kill_between_patch_and_record_needs_no_second_patch(world: World) -> None:
    world.source("one")
    assert world.cli("apply", "--yes").returncode == 0
    world.source("one", events="[{type: push}, {type: release}]")
    world.killed_at("apply-before-settle")
    world.forget_requests()
    converged(world, ["one"])
    assert world.requests("github", "PATCH") == []


@pytest.mark.parametrize("hit", [1, 2])
def test_a8_a_kill_in_the_middle_of_many_objects_goes_on_where_it_was(world: World, hit: int) -> None:
    world.servers["github"].admin.settings(accept_duplicates=True)
    names = [f"r{i}" for i in range(10)]
    world.repos(*names)
    for name in names:
        world.source(name)
    world.killed_at("apply-before-settle" if hit == 1 else "http-after-send", hit=1 if hit == 1 else 26)
    converged(world, names)
    assert world.requests("github", "POST") == []


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a1_random_kills_of_the_daemon_never_double_or_lose_a_hook(world: World) -> None:
    """From outside, at random times, while manifests are added: the provider accepts duplicates, so only adoption prevents them."""
    seed = int(time.time())
    random.seed(seed)
    world.servers["github"].admin.settings(accept_duplicates=True, latency_s=0.02)
    names = [f"r{i:02}" for i in range(24)]
    world.repos(*names)
    for round_number in range(6):
        for name in names[round_number * 4 : round_number * 4 + 4]:
            world.source(name)
        process = world.daemon()
        time.sleep(random.uniform(1.2, 3.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
    converged(world, names)
    created = {}
    for row in world.servers["github"].admin.requests(method="POST"):
        created[row["path"]] = created.get(row["path"], 0) + 1
    assert all(len(world.hooks(name)) == 1 for name in names), f"seed {seed}"


def test_a11_sigterm_drains_and_leaves_with_zero_and_no_open_intent(world: World) -> None:
    for name in ("one", "two", "three"):
        world.source(name)
    world.servers["github"].admin.settings(latency_s=0.2)
    process = world.daemon()
    world.wait(lambda: world.requests("github", "POST"), "the first create")
    process.terminate()
    assert process.wait(timeout=30) == 0
    assert "daemon_stopped" in world.log()
    converged(world, ["one", "two", "three"])


def intents(world: World) -> int:
    with (
        contextlib.suppress(sqlite3.OperationalError),  # no state yet
        contextlib.closing(sqlite3.connect(world.folder / "state" / "state.db", timeout=30)) as state,
    ):
        return int(state.execute("SELECT count(*) FROM intent").fetchone()[0])
    return 0


def test_a12_a_second_sigterm_leaves_at_once_and_is_survived_like_a_crash(world: World) -> None:
    world.servers["github"].admin.settings(accept_duplicates=True)
    for name in ("one", "two", "three"):
        world.source(name)
    world.servers["github"].admin.fault(method="POST", times=3, delay_s=100.0)  # holds a daemon that waits for its calls
    process = world.daemon()
    world.wait(lambda: intents(world) > 0, "the creates are about to be sent")
    process.terminate()
    time.sleep(0.2)
    process.terminate()
    assert process.wait(timeout=60) in {0, 128 + signal.SIGTERM}
    world.servers["github"].admin.clear_faults()
    converged(world, ["one", "two", "three"])


def test_a13_a_second_daemon_on_one_state_leaves_at_once_and_names_the_first(world: World) -> None:
    world.source("one")
    first = world.daemon()
    world.wait(world.all_ready, "first daemon ready")
    world.forget_requests()
    second = world.cli("run")
    assert second.returncode == 1
    assert f"pid {first.pid}" in second.stderr
    assert world.writes() == []


def test_b6_a_lost_database_is_found_again_without_a_create_or_a_delete(world: World) -> None:
    for name in ("one", "two"):
        world.source(name)
    assert world.cli("apply", "--yes").returncode == 0
    before = {name: world.hooks(name) for name in ("one", "two")}
    for path in (world.folder / "state").glob("state.db*"):
        path.unlink()
    world.forget_requests()
    done = world.cli("run", "--once")
    assert done.returncode == 0, done.stderr
    assert world.requests("github", "POST", "DELETE") == []
    assert {name: [h["id"] for h in world.hooks(name)] for name in before} == {
        name: [h["id"] for h in hooks] for name, hooks in before.items()
    }
    assert json.loads(world.cli("plan", "-o", "json").stdout)["plans"] is not None
