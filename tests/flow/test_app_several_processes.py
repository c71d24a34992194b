"""Several processes behind one App's webhook on one PostgreSQL: some are killed, and each event has one effect."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.stage_world import WORKFLOW
from tests.flow.test_app_move import APP, INSTALLATION, PERMISSIONS, AppWorld
from tests.flow.test_several_processes import Peer, first_up
from tests.support.postgres import Postgres

PUSHES = 60


class Balancer:
    """What stands before the processes: passes each connection on to one of them, chosen at random, dead or alive."""

    def __init__(self, port: int, peers: list[Peer]) -> None:
        self._peers = peers
        self._chance = random.Random(5)
        self._socket = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._socket.accept()
                threading.Thread(target=self._pass, args=(near, self._chance.choice(self._peers).port), daemon=True).start()

    def _pass(self, near: socket.socket, port: int) -> None:
        with near, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as far:
            back = threading.Thread(target=_pump, args=(far, near), daemon=True)
            back.start()
            _pump(near, far)
            back.join()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # ends the accept
        self._socket.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def several(tmp_path: Path, postgres: Postgres) -> Iterator[tuple[AppWorld, list[Peer]]]:
    world = AppWorld(tmp_path)
    url = postgres.database()
    world.configure(state=f'{{url: "{url}"}}')
    peers = [Peer(world, number, url) for number in range(3)]
    balancer = Balancer(world.port, peers)
    yield world, peers
    balancer.close()
    world.close()


def declare(world: AppWorld) -> None:
    world.github.do("change_app", app=APP, permissions=PERMISSIONS | {"actions": "write"}, events=["push"])
    world.github.do("accept_permissions", installation=INSTALLATION)
    world.use_app()
    world.workflows("web", {**WORKFLOW, "duration_s": 0.2, "outputs": {}})
    world.source("web")
    world.stage(
        "build",
        """
        concurrency: 16
        inputs: [{name: sha}]
        inputMappings: [{values: [{name: sha, valueFrom: {eventData: {connection: web, expression: $.after}}}]}]
        executor:
          type: github
          integration: {name: github}
          resource: {type: repository, name: web}
          spec: {workflow: ci.yml, ref: main, inputs: {sha: '${{ inputs.sha }}'}}
        """,
        after="{type: event-source, name: web}",
    )


@pytest.mark.timeout(400)
def test_three_processes_behind_one_app_lose_and_double_nothing_while_one_after_the_other_is_killed(
    several: tuple[AppWorld, list[Peer]],
) -> None:
    world, peers = several
    declare(world)
    first_up(world, peers)
    world.connect_app()
    chance, sent = random.Random(11), []
    for number in range(PUSHES):
        sent.append(world.push()["sha"])
        if number % 12 == 6:
            peer = chance.choice(peers)
            assert peer.process is not None
            sent.append(world.push()["sha"])
            peer.process.kill()
            sent += [world.push()["sha"] for _ in range(3)]  # some go to the dead one
            peer.process.wait()
            peer.start()
        time.sleep(0.05)

    def started() -> Counter[str]:
        return Counter(run["inputs"]["sha"] for run in world.runs())

    world.wait(lambda: len(started()) >= len(sent), "a run for each push", 150)
    time.sleep(3)
    assert started() == dict.fromkeys(sent, 1)
    assert world.hooks("web") == []


@pytest.mark.timeout(300)
def test_every_process_acts_within_seconds_of_a_granted_permission(several: tuple[AppWorld, list[Peer]]) -> None:
    world, peers = several
    for peer in peers:
        peer.config.write_text(
            peer.config.read_text().replace(
                "reconcile: {interval: 2s, settle: 2s, retry: {min: 1s, max: 4s}}",
                "reconcile: {interval: 10m, settle: 2s, retry: {min: 5m, max: 10m}}",
            )
        )
    declare(world)
    first_up(world, peers)
    world.connect_app()
    world.github.do("change_app", app=APP, permissions=PERMISSIONS, events=["push"])
    sent = [world.push()["sha"] for _ in range(6)]

    def blocked() -> bool:
        rows = peers[0].ask(verb="executions", limit=100)["executions"]
        return len([row for row in rows if "actions: write" in row["message"]]) == len(sent)

    world.wait(blocked, "every run is blocked", 60)
    world.github.do("change_app", app=APP, permissions=PERMISSIONS | {"actions": "write"}, events=["push"])
    world.github.do("accept_permissions", installation=INSTALLATION)
    world.wait(lambda: len(world.runs()) == len(sent), "the runs", 30)  # a retry would take five minutes
