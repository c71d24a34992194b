"""Several identical processes on one PostgreSQL: killed, stopped and woken, they do each thing once."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from reconciler.server.admin import call
from tests.engine.world import OWNER
from tests.flow.stage_world import NOOP, WORKFLOW, StageWorld, free_port, signed
from tests.support.postgres import Postgres

EVENTS = 40


class Peer:
    """One of several processes: a configuration, a state folder and a port of its own; state and key are shared."""

    def __init__(self, world: StageWorld, number: int, url: str) -> None:
        self.world, self.port, self.url = world, free_port(), url
        self.folder = world.folder / f"peer{number}"
        self.folder.mkdir()
        self.config = self.folder / "reconciler.yaml"
        self.config.write_text(
            f"owner: {OWNER}\n"
            f'source: {{url: "{world.manifests}", interval: 1s}}\n'
            f'state: {{url: "{url}"}}\n'
            f'server: {{listen: "127.0.0.1:{self.port}", publicUrl: "http://127.0.0.1:{world.port}"}}\n'
            "reconcile: {interval: 2s, settle: 2s, retry: {min: 1s, max: 4s}}\n"
            'network: {allow: ["127.0.0.1"]}\n'
            "status: {file: state/status.json, heartbeat: 1s}\n"
            f'masterKey: {{file: "{world.folder / "state" / "master.key"}"}}\n'
            "log: {format: json, level: info}\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        import sys

        with (self.folder / "daemon.log").open("ab") as log:
            command = [sys.executable, "-m", "reconciler", "run", "--config", str(self.config)]
            self.process = subprocess.Popen(command, env=self.world.env, cwd=self.folder, stdout=log, stderr=log)
        self.world.processes.append(self.process)

    def listens(self) -> bool:
        return self.request("GET", "/readyz") == 200

    def request(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> int:
        """Return the status of an answer; 0 for none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=3)
        try:
            connection.request(method, path, body, headers or {})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def ask(self, **request: Any) -> Any:
        return call(self.folder / "state", request)

    def log(self) -> str:
        return (self.folder / "daemon.log").read_text(errors="replace")


@pytest.fixture
def peers(tmp_path: Path, postgres: Postgres) -> Iterator[tuple[StageWorld, list[Peer]]]:
    world = StageWorld(tmp_path)
    url = postgres.database()
    world.configure(state=f'{{url: "{url}"}}')
    peers = [Peer(world, number, url) for number in range(3)]
    yield world, peers
    for process in world.processes:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
    world.close()


def declare(world: StageWorld) -> None:
    world.workflows("web", {**WORKFLOW, "duration_s": 0.5, "outputs": {}})
    world.source("web", events="[{type: push}]")
    world.source("shop", events="[{type: push}]")
    world.webhook("own")
    world.stage(
        "build",
        """
        concurrency: 8
        inputs: [{name: sha}]
        inputMappings: [{values: [{name: sha, valueFrom: {eventData: {connection: own, expression: $.number}}}]}]
        executor:
          type: github
          integration: {name: github}
          resource: {type: repository, name: web}
          spec: {workflow: ci.yml, ref: main, inputs: {sha: '${{ inputs.sha }}'}}
        """,
        after="{type: event-source, name: own}",
    )


def first_up(world: StageWorld, peers: list[Peer]) -> None:
    """One process makes the key and the schema; the others come after it."""
    key = world.folder / "state" / "master.key"
    peers[0].start()
    world.wait(key.exists, "the key", 40)
    for peer in peers[1:]:
        peer.start()
    for peer in peers:
        try:
            world.wait(peer.listens, f"ready: {peer.folder.name}", 150)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{peer.log()[-3000:]}") from None


def offer(world: StageWorld, peers: list[Peer], number: int, chance: random.Random) -> None:
    """Send one event until one of the processes has taken it."""
    body = json.dumps({"number": number}).encode()
    path, key, _ = world.place("own")
    headers = signed(key, body) | {"x-delivery-id": f"delivery-{number}", "x-event-type": "go"}
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if chance.choice(peers).request("POST", path, body, headers) == 202:
            return
        time.sleep(0.1)
    raise AssertionError(f"nobody took delivery {number}")


def disturb(peers: list[Peer], chance: random.Random) -> None:
    """Kill one process and start it again, or stop one for longer than its heartbeat may be away."""
    peer = chance.choice(peers)
    assert peer.process is not None
    if chance.random() < 0.5:
        peer.process.kill()
        peer.process.wait()
        peer.start()
    else:
        peer.process.send_signal(signal.SIGSTOP)
        time.sleep(7)
        peer.process.send_signal(signal.SIGCONT)


@pytest.mark.timeout(400)
def test_a14_a15_three_processes_that_are_killed_and_stopped_at_random_run_each_event_once(
    peers: tuple[StageWorld, list[Peer]],
) -> None:
    world, several = peers
    declare(world)
    first_up(world, several)
    chance = random.Random(7)
    for number in range(EVENTS):
        offer(world, several, number, chance)
        if number % 10 == 5:
            disturb(several, chance)

    def finished() -> bool:
        for peer in several:
            with contextlib.suppress(Exception):
                rows = peer.ask(verb="executions", limit=500)
                done = [row for row in rows["executions"] if row["state"] == "finished"]
                return len(done) == EVENTS and not rows["queued"]
        return False

    world.wait(finished, "every event has a finished execution", 120)
    started = Counter(run["inputs"]["sha"] for run in world.runs("web"))
    assert started == {str(number): 1 for number in range(EVENTS)}
    assert len(world.hooks("web")) == len(world.hooks("shop")) == 1
    rows = next(peer for peer in several if peer.listens()).ask(verb="executions", limit=500)["executions"]
    assert Counter(row["result"] for row in rows) == {"passed": EVENTS}


@pytest.mark.timeout(300)
def test_a7_a14_a_process_that_stood_still_between_looking_and_writing_writes_no_status_twice(
    peers: tuple[StageWorld, list[Peer]],
) -> None:
    world, several = peers
    world.source("web", events="[{type: push}]")
    world.stage("build", "report: {commitStatus: {context: ci}}", NOOP, after="{type: event-source, name: web}")
    first_up(world, several)
    world.wait(lambda: world.hooks("web"), "the hook")
    world.github.fault(method="GET", path="/statuses$", commit=True, delay_s=3.0)  # what it sees is old when it gets it
    path, key, _ = world.place("web")
    repos = world.github.state()["repos"]
    repos["acme/web"]["commits"]["a" * 40] = {}
    world.github.put_state({"repos": repos})
    body = json.dumps({"ref": "refs/heads/main", "after": "a" * 40, "repository": {"full_name": "acme/web"}}).encode()
    headers = {"x-github-event": "push", "x-github-delivery": "one", **signed(key, body, "x-hub-signature-256")}
    world.wait(lambda: several[0].request("POST", path, body, headers) == 202, "the push is taken")
    pid = world.wait(lambda: writer_of_statuses(several[0].url), "a process is about to write a status")
    os.kill(pid, signal.SIGSTOP)
    world.wait(
        lambda: len(world.commit_statuses()) == 2, "another one writes", 100
    )  # a peer notices within seconds; the rest is a slow machine
    os.kill(pid, signal.SIGCONT)
    awake = next(peer for peer in several if peer.process is not None and peer.process.pid == pid)
    world.wait(awake.listens, "it is awake")
    time.sleep(2)
    assert [one["state"] for one in world.commit_statuses()] == ["pending", "success"]


def writer_of_statuses(url: str) -> int:
    """Return the process that has the lease of a report; 0 while there is none."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        query = sa.text("SELECT holder FROM lease WHERE name LIKE 'report/%' AND until > 0")
        holder = connection.execute(query).scalar()
    return int(holder.rpartition("-")[2]) if holder else 0


def test_a15_what_a_dead_process_left_is_taken_over_within_seconds(peers: tuple[StageWorld, list[Peer]]) -> None:
    world, several = peers
    declare(world)
    first_up(world, several)
    several[0].process.kill()  # type: ignore[union-attr]
    world.set_hooks("web", [])
    world.wait(lambda: len(world.hooks("web")) == 1, "the hook is repaired by another", 30)
    world.wait(lambda: any("peer_failover" in peer.log() for peer in several[1:]), "the take-over", 15)


def rows(url: str, statement: str) -> list[Any]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        return list(connection.execute(sa.text(statement)).all())


def holder_of(url: str, prefix: str) -> int:
    """Return the pid of the process that has a lease with this prefix; 0 if there is none."""
    holders = rows(
        url, f"SELECT holder FROM lease WHERE name LIKE '{prefix}/%' AND until > extract(epoch FROM clock_timestamp())"
    )
    return int(holders[0].holder.rpartition("-")[2]) if holders else 0


@pytest.mark.timeout(300)
def test_a14_a_process_that_stood_still_in_a_reconcile_makes_no_second_hook(peers: tuple[StageWorld, list[Peer]]) -> None:
    world, several = peers
    declare(world)
    first_up(world, several)
    world.github.settings(accept_duplicates=True)
    world.github.fault(method="GET", path="/repos/acme/web/hooks", commit=True, delay_s=4.0)
    world.set_hooks("web", [])
    pid = world.wait(lambda: holder_of(several[0].url, "slice"), "a process reconciles")
    os.kill(pid, signal.SIGSTOP)
    others = [peer for peer in several if peer.process is not None and peer.process.pid != pid]
    world.wait(lambda: any("peer_failover" in peer.log() for peer in others), "another one takes over", 40)
    world.wait(lambda: len(world.hooks("web")) == 1, "another one repairs it", 60)
    os.kill(pid, signal.SIGCONT)
    awake = next(peer for peer in several if peer not in others)
    world.wait(awake.listens, "it is awake")
    time.sleep(4)
    assert len(world.hooks("web")) == 1


@pytest.mark.timeout(300)
def test_a15_steps_of_a_process_that_is_killed_are_taken_over_and_repeat_nothing(peers: tuple[StageWorld, list[Peer]]) -> None:
    world, several = peers
    declare(world)
    first_up(world, several)
    world.github.settings(latency_s=0.5)
    chance = random.Random(3)
    for number in range(8):
        offer(world, several, number, chance)
    pid = world.wait(lambda: holder_of(several[0].url, "execution"), "a process works on a step")
    os.kill(pid, signal.SIGKILL)
    alive = [peer for peer in several if peer.process is not None and peer.process.pid != pid]
    world.wait(lambda: any("peer_failover" in peer.log() for peer in alive), "the take-over", 40)
    world.github.settings(latency_s=0)

    def finished() -> bool:
        states = rows(several[0].url, "SELECT state FROM execution")
        return len(states) == 8 and {row.state for row in states} == {"finished"}

    world.wait(finished, "every execution has finished", 120)
    assert Counter(run["inputs"]["sha"] for run in world.runs("web")) == {str(number): 1 for number in range(8)}


REQUEST = "SELECT number, done FROM reconcile_request WHERE integration LIKE '%github'"


def idle(world: StageWorld, several: list[Peer]) -> str:
    """Start the processes with a long interval, wait until no reconcile is requested, and slow GitHub down; return the database's URL."""
    world.source("web", events="[{type: push}]")
    for peer in several:
        peer.config.write_text(peer.config.read_text().replace("interval: 2s", "interval: 1h"))
    first_up(world, several)
    world.wait(lambda: world.hooks("web"), "the hook")
    url = several[0].url
    world.wait(lambda: (row := rows(url, REQUEST)[0]).number == row.done, "nothing is requested")
    time.sleep(2)  # nor by a start that is not over
    world.github.settings(latency_s=1.0)
    return url


@pytest.mark.timeout(300)
def test_a14_a_request_at_another_process_during_a_reconcile_leads_to_one_more(peers: tuple[StageWorld, list[Peer]]) -> None:
    world, several = peers
    url = idle(world, several)
    before = rows(url, REQUEST)[0]
    several[0].ask(verb="reconcile", resource="EventSource/web")
    world.wait(lambda: holder_of(url, "slice"), "it is reconciled")
    assert rows(url, REQUEST)[0].done == before.done
    several[1].ask(verb="reconcile", resource="EventSource/web")
    several[2].ask(verb="reconcile", resource="EventSource/web")
    seen: set[int] = set()

    def all_done() -> bool:
        row = rows(url, REQUEST)[0]
        seen.add(row.done)
        return bool(row.done == row.number == before.number + 3)

    world.wait(all_done, "the last request is covered")
    assert seen == {before.done, before.number + 1, before.number + 3}  # one, and then one more for both


@pytest.mark.timeout(300)
def test_a14_a_command_waits_for_the_reconcile_of_another_process(peers: tuple[StageWorld, list[Peer]]) -> None:
    world, several = peers
    url = idle(world, several)
    several[0].ask(verb="reconcile", resource="EventSource/web")
    pid = world.wait(lambda: holder_of(url, "slice"), "it is reconciled")
    world.set_hooks("web", [])
    other = next(peer for peer in several if peer.process is not None and peer.process.pid != pid)
    answer = other.ask(verb="reconcile", resource="EventSource/web", wait=True, timeout=25)  # the same process does it, too
    assert (answer["ready"], answer["reason"]) == ("True", "Reconciled")
    assert len(world.hooks("web")) == 1
    assert (row := rows(url, REQUEST)[0]).number == row.done


@pytest.mark.timeout(300)
def test_b8_notifications_that_are_lost_delay_nothing_for_long(peers: tuple[StageWorld, list[Peer]]) -> None:
    world, several = peers
    declare(world)
    first_up(world, several)
    url = several[0].url
    listeners = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
    world.wait(lambda: len(rows(url, listeners)) == 3, "every process listens")
    before = {row.pid for row in rows(url, listeners)}
    rows(url, f"SELECT pg_terminate_backend(pid) FROM ({listeners}) AS listeners")
    for number in range(5):
        offer(world, several, number, random.Random(number))
    world.wait(lambda: len(world.runs("web")) == 5, "the runs", 60)
    world.wait(lambda: len({row.pid for row in rows(url, listeners)} - before) == 3, "every process listens again", 60)
    assert Counter(run["inputs"]["sha"] for run in world.runs("web")) == {str(number): 1 for number in range(5)}


def test_b8_work_goes_on_after_postgresql_was_away(peers: tuple[StageWorld, list[Peer]], postgres: Postgres) -> None:
    world, several = peers
    declare(world)
    first_up(world, several[:2])
    postgres.restart(away_s=5)
    offer(world, several[:2], 1, random.Random(1))
    world.wait(lambda: [r for r in world.runs("web") if r["inputs"]["sha"] == "1"], "the run", 30)
    assert all(peer.process is not None and peer.process.poll() is None for peer in several[:2])
    assert len(world.runs("web")) == 1


def test_n4_an_event_that_overruns_is_quarantined_once_by_several_processes(peers: tuple[StageWorld, list[Peer]]) -> None:
    world, several = peers
    declare(world)
    world.stage(
        "poisoned",
        NOOP,
        after="{type: event-source, name: own, filters: [{type: payload, payload: {msg: '((x{0,10}){0,10}){0,9}y'}}]}",
    )
    first_up(world, several[:2])
    path, key, _ = world.place("own")
    for number, text in enumerate(["x" * (4 << 20), "y"]):
        body = json.dumps({"number": number, "msg": text}).encode()
        assert several[number].request("POST", path, body, {"x-delivery-id": str(number), **signed(key, body)}) == 202

    def states() -> dict[str, str]:
        return {one["deliveryId"]: one["state"] for one in several[0].ask(verb="events", source="own")["events"]}

    world.wait(lambda: states() == {"0": "quarantined", "1": "processed"}, "one is put aside, by whoever it was", 60)
    world.wait(lambda: len(world.runs("web")) == 2, "the other stage got both", 30)
    time.sleep(2)
    assert len(world.runs("web")) == 2
    assert sum(peer.log().count('event_quarantined"') for peer in several[:2]) == 1
