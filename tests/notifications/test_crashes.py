"""kill -9, fifty times: each edge arrives exactly once where the sink can tell a repetition, and is never lost anywhere."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.sandbox.pagerduty.app import KEY
from reconciler.sandbox.server import SandboxServer
from reconciler.sandbox.slack.app import CHANNEL, TOKEN
from tests.engine.world import World
from tests.notifications.notified import messages, reference
from tests.support.receiving import Receiver, receiving

pytestmark = pytest.mark.fault
ROOT = Path(__file__).parents[2]
POINTS = ["notice-before-send", "notice-after-send", "notice-after-record", "http-before-send", "http-after-send"]
INCIDENTS = 25
KILLS = 50


class Processes:
    """Processes that come and go over one state."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder, ())
        (self.world.manifests / "secrets.yaml").unlink()
        self.environment: dict[str, str | None] = {
            "RECONCILER_SECRET_BOT": TOKEN,
            "RECONCILER_SECRET_KEY": KEY,
            "RECONCILER_MASTER_KEY_FILE": None,
        }
        self._errors = (folder / "forks.log").open("wb")
        self._forks = subprocess.Popen(
            [sys.executable, "-m", "tests.notifications.doomed"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, cwd=ROOT,
            env=self.world.env,
        )  # fmt: skip
        self.log = folder / "forks.log"

    def secret(self, name: str) -> None:
        variable = f"RECONCILER_SECRET_{name.upper()}"
        self.world.write(
            f"{name}.yaml",
            f"kind: Secret\nmetadata: {{name: {name}}}\nspec: {{provider: env, data: {{value: {{env: {variable}}}}}}}",
        )

    def live(self, failpoint: str = "", kill_after_s: float = 0.0) -> int:
        assert self._forks.stdin is not None
        assert self._forks.stdout is not None
        order = {
            "config": str(self.world.config), "environment": self.environment, "failpoint": failpoint, "kill_after_s": kill_after_s
        }  # fmt: skip
        self._forks.stdin.write(json.dumps(order) + "\n")
        self._forks.stdin.flush()
        code = int(json.loads(self._forks.stdout.readline())["code"])
        assert code in {0, -9}, self.log.read_text()[-3000:]
        return code

    def close(self) -> None:
        self._forks.communicate(timeout=20)
        self._errors.close()
        self.world.close()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    yield made
    made.close()


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def declare(processes: Processes, slack: SandboxServer, pagerduty: SandboxServer, hook: Receiver) -> None:
    world = processes.world
    for name in ("bot", "key"):
        processes.secret(name)
    sinks = {
        "chat": f"{{slack: {{token: {reference('bot')}, channel: {CHANNEL}, url: '{slack.url}/api'}}}}",
        "pager": f"{{pagerduty: {{routingKey: {reference('key')}, url: '{pagerduty.url}'}}}}",
        "hook": f"{{webhook: {{url: '{hook.url}'}}}}",
    }
    for name, sink in sinks.items():
        world.write(
            f"notify-{name}.yaml",
            f"kind: Notification\nmetadata: {{name: {name}}}\nspec: {{sink: {sink}, resources: {{kinds: [Secret]}}}}",
        )


@pytest.mark.timeout(300)
def test_after_fifty_kills_each_edge_was_reported_exactly_once(
    processes: Processes, slack: SandboxServer, pagerduty: SandboxServer, hook: Receiver
) -> None:
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    declare(processes, slack, pagerduty, hook)
    assert processes.live() == 0
    killed = 0
    for number in range(INCIDENTS):
        name = f"s{number}"
        processes.secret(name)
        for value in (None, "a-value-that-is-there"):
            processes.environment[f"RECONCILER_SECRET_{name.upper()}"] = value
            point = f"{chance.choice(POINTS)}:{chance.randint(1, 3)}"
            killed += processes.live(point) == -9
    while killed < KILLS and chance.random() < 0.98:
        killed += processes.live(kill_after_s=chance.uniform(0.02, 0.4)) == -9
    for _ in range(3):
        processes.live()

    edges = _edges_of_hook(hook)
    print(f"seed {seed}, {killed} kills, {len(hook.got)} requests for {2 * INCIDENTS} edges")
    assert killed >= KILLS // 2
    assert edges == {(f"Secret/s{n} cannot be read", phase): 1 for n in range(INCIDENTS) for phase in ("start", "end")}, seed
    posted = messages(slack)
    assert sorted(row["text"] for row in posted) == sorted(f"Over: Secret/s{n} cannot be read" for n in range(INCIDENTS)), seed
    alerts = pagerduty.admin.state()["alerts"].values()
    assert sorted(alert["summary"] for alert in alerts) == sorted(f"Secret/s{n} cannot be read" for n in range(INCIDENTS)), seed
    assert {(alert["status"], alert["opened"]) for alert in alerts} == {("resolved", 1)}, seed


def _edges_of_hook(hook: Receiver) -> dict[tuple[str, str], int]:
    """Return how often each edge arrived, after repetitions were dropped by their id."""
    seen: dict[str, dict[str, Any]] = {}
    for _, headers, body in hook.got:
        identity = {name.lower(): value for name, value in headers.items()}["webhook-id"]
        seen.setdefault(identity, json.loads(body))
    edges: dict[tuple[str, str], int] = {}
    for event in seen.values():
        edge = event["data"]["title"], event["type"].partition(".")[2]
        edges[edge] = edges.get(edge, 0) + 1
    return edges


@pytest.mark.parametrize("point", POINTS[:3])
def test_a_kill_at_each_point_of_a_message_is_settled_by_the_next_process(
    processes: Processes, slack: SandboxServer, pagerduty: SandboxServer, hook: Receiver, point: str
) -> None:
    declare(processes, slack, pagerduty, hook)
    assert processes.live() == 0
    processes.secret("one")
    assert processes.live(point) == -9
    assert processes.live() == 0
    assert [row["text"] for row in messages(slack)] == ["Secret/one cannot be read"]
    assert [alert["opened"] for alert in pagerduty.admin.state()["alerts"].values()] == [1]
    assert set(_edges_of_hook(hook).values()) == {1}
