"""The same program on PostgreSQL: state and engine in one database, two schemas."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.engine.world import World
from tests.support.postgres import Postgres
from tests.support.terminal import on_a_terminal


def test_the_daemon_applies_repairs_and_survives_a_kill_on_postgresql(world: World, postgres: Postgres) -> None:
    world.configure(source=str(world.manifests), state=f'{{url: "{postgres.database()}"}}')
    world.source("one")
    process = world.daemon()
    world.wait(world.all_ready, "ready", 40)
    process.send_signal(signal.SIGKILL)
    process.wait()
    world.set_hooks("one", [])
    world.source("two")
    process = world.daemon()
    world.wait(lambda: world.hooks("one") and world.hooks("two"), "both hooks", 40)
    world.wait(world.all_ready, "ready again")
    process.terminate()
    assert process.wait(timeout=30) == 0
    time.sleep(0.2)
    assert world.cli("plan", "--detailed-exitcode").returncode == 0
    assert world.cli("history", "--verify").returncode == 0
    assert len(world.hooks("one")) == len(world.hooks("two")) == 1


def test_n49_the_digest_of_the_first_plan_approves_it_on_postgresql(world: World, postgres: Postgres) -> None:
    world.configure(source=str(world.manifests), state=f'{{url: "{postgres.database()}"}}')
    world.source("one")
    planned = world.cli("plan", "-o", "json")
    assert planned.returncode == 0, planned.stderr
    done = world.cli("apply", "--plan", json.loads(planned.stdout)["sha256"])
    assert done.returncode == 0, done.stderr
    assert len(world.hooks("one")) == 1


def test_n0_apply_leaves_out_what_a_daemon_beside_it_did_meanwhile(world: World, postgres: Postgres) -> None:
    world.configure(source=str(world.manifests), state=f'{{url: "{postgres.database()}"}}')
    world.servers["github"].admin.settings(accept_duplicates=True)
    world.source("one")
    assert world.cli("plan").returncode == 0
    elsewhere = world.folder / "elsewhere.yaml"  # another host: its own state folder, the same key and database
    (world.folder / "there").mkdir()
    elsewhere.write_text(
        world.config.read_text().replace("state/status.json", "there/status.json")
        + f"masterKey: {{file: {world.folder / 'state' / 'master.key'}}}\n"
    )
    code, text = on_a_terminal(world.command("apply"), world.env, world.folder, lambda: run_once(world, elsewhere))
    assert code in {0, 6}, text
    assert [row["method"] for row in world.writes()] == ["POST"]
    assert len(world.hooks("one")) == 1


def run_once(world: World, config: Path) -> None:
    command = [sys.executable, "-m", "reconciler", "run", "--once", "--config", str(config)]
    done = subprocess.run(command, env=world.env, cwd=world.folder / "there", capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
