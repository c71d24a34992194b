"""Faults at random for as long as one likes (``SOAK_ROUNDS``): nothing grows, and nothing is left undone.

A round takes about a third of a second; 3,600 rounds are the twenty minutes of a nightly run.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.stage_world import NOOP, StageWorld

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "90"))
SEED = int(os.environ.get("SOAK_SEED", "16"))
MIB = 1 << 20
SLACK_BYTES = 12 * MIB
"""Caches that fill, and what the allocator keeps; a leak of one event or one pass a round is more in a nightly run."""
SLACK_FILES = 8
FAULTS = (
    {"status": 500},
    {"status": 502, "body": "<html>"},
    {"effect": "truncate"},
    {"effect": "malformed"},
    {"delay_s": 0.3},
    {"status": 429, "headers": {"retry-after": "1"}},
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[StageWorld]:
    made = StageWorld(tmp_path)
    yield made
    made.close()


def _files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _round(world: StageWorld, dice: random.Random, number: int) -> int:
    """Make one thing happen; returns how many events that were acknowledged it made."""
    what = dice.randrange(4)
    if number % 2_000 in (10, 30):  # a third edit within ten minutes would be a fight, which is left alone on purpose
        world.set_hooks("web", [] if dice.random() < 0.5 else [{**one, "active": False} for one in world.hooks("web")])
    elif what == 0:
        world.github.fault(times=dice.randint(1, 3), **dice.choice(FAULTS))
    elif what == 1:
        world.write("canvas.yaml", f"kind: Canvas\nmetadata: {{name: c}}\nspec: {{description: 'round {number}'}}")
    else:
        return sum(world.send("own", {"n": number, "m": m, "text": "x" * dice.randrange(2_000)}) == 202 for m in range(3))
    return 0


@pytest.mark.timeout(0)
def test_f16_random_faults_leave_memory_and_file_descriptors_flat_and_nothing_stuck(world: StageWorld) -> None:
    world.source("web")
    world.webhook()
    world.stage("work", NOOP, "concurrency: 4", after="{type: event-source, name: own}")
    world.ready()
    pid, dice = world.processes[-1].pid, random.Random(SEED)
    acknowledged, files, size = 0, 0, 0
    for number in range(ROUNDS):
        if number == ROUNDS // 2:  # everything was used at least once by now
            files, size = _files(pid), _bytes(pid)
        acknowledged += _round(world, dice, number)
        time.sleep(0.2)
    world.github.clear_faults()
    world.wait(lambda: len(world.hooks("web")) == 1 and world.hooks("web")[0]["active"] and world.all_ready(), "repaired", 90)
    world.finished("work", min(acknowledged, 1000), 120)
    assert world.queued("work") == []
    assert world.processes[-1].poll() is None
    assert "Traceback" not in world.log()
    assert _files(pid) <= files + SLACK_FILES
    assert _bytes(pid) <= size + SLACK_BYTES + (ROUNDS // 2) * 1024
