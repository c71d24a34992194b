"""G9, events and stages: a real daemon that takes deliveries in, hands them on and runs them, against the least that can."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import counting
from benchmarks.provider import Running
from benchmarks.remote import Plan
from benchmarks.results import Row, exactly
from benchmarks.world import World
from reconciler.credentials.keys import KeyRing, read_key
from reconciler.model.resources import ResourceId

CONNECTIONS = 64
RATE = 500.0
RATE_STAGES = 50.0
HERE = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Receiver(World):
    """A world with one source that is sent to, and a daemon. ``stages`` have it as their connection and run nothing (`noop`)."""

    def __init__(self, folder: Path, api_url: str, *, stages: int = 0) -> None:
        self.port = free_port()
        super().__init__(folder, api_url, 1, listen=f"127.0.0.1:{self.port}", level="info")
        for number in range(stages):
            self.write(
                f"stage-{number}.yaml",
                f"kind: Stage\nmetadata: {{name: s{number}}}\nspec:\n  connections: [{{type: event-source, name: r00000}}]\n"
                "  concurrency: 100\n  executor: {type: noop}",
            )
        if stages:
            self.commit()
        self.process: subprocess.Popen[bytes] | None = None
        self.sent = 0

    @property
    def state(self) -> Path:
        return self.folder / "state" / "state.db"

    def start(self, *, counts: Path | None = None, wait: bool = True) -> None:
        """Start the daemon; with ``wait`` return once everything is as declared."""
        counted = ["-m", "benchmarks.counting", str(counts)] if counts is not None else ["-m", "reconciler"]
        command = [sys.executable, *counted, "run", "--config", str(self.config)]
        with (self.folder / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, env=self.env, stdout=log, stderr=log)
        if wait:
            until(lambda: self._status() == self.process_id and self._all_ready(), "the daemon got ready", self)
        until(self._believes, "the receiver listens", self)

    @property
    def process_id(self) -> int:
        assert self.process is not None
        return self.process.pid

    def _status(self) -> int:
        with contextlib.suppress(OSError, ValueError, KeyError):
            return int(json.loads((self.folder / "state" / "status.json").read_text())["daemon"]["pid"])
        return 0

    def _all_ready(self) -> bool:
        summary = json.loads((self.folder / "state" / "status.json").read_text())["summary"]
        return bool(summary["total"]) and summary["total"] == summary["ready"]

    def _believes(self) -> bool:
        """Whether deliveries are judged: until a revision was read, everybody is told to come again."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)) as connection:
            connection.request("POST", f"/hooks/bench/{self.uid}", b"{}")
            return connection.getresponse().status == 401

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()

    @property
    def key(self) -> str:
        ring = KeyRing(read_key(self.folder / "state" / "master.key"))
        return ring.signing_key("bench", self.uid, 0).reveal()

    @property
    def uid(self) -> Any:
        return ResourceId("EventSource", "default", "r00000").uid("bench")

    def sender(self, count: int, **options: Any) -> subprocess.Popen[str]:
        """Start a sender of ``count`` new deliveries."""
        self.sent += 1
        return sender(self.port, f"/hooks/bench/{self.uid}", self.key, prefix=f"d{self.sent}", count=count, **options)

    def send(self, count: int, **options: Any) -> dict[str, Any]:
        """Send ``count`` new deliveries; all must be accepted."""
        return accepted(self.sender(count, **options), count)

    def ask(self, query: str, *values: Any) -> list[Any]:
        """Read the state beside the daemon."""
        with contextlib.closing(sqlite3.connect(f"file:{self.state}?mode=ro", uri=True, timeout=30)) as db:
            return db.execute(query, values).fetchall()

    def quiet(self) -> None:
        """Wait until nothing waits and nothing runs."""
        count = "SELECT (SELECT count(*) FROM event WHERE state = 'pending') + (SELECT count(*) FROM item WHERE state != 'done')"
        until(lambda: self.ask(count)[0][0] == 0, "all is done", self, every_s=0.1)


def until(check: Callable[[], Any], what: str, world: Receiver, *, limit_s: float = 120.0, every_s: float = 0.02) -> None:
    """Wait for ``check``; raises `RuntimeError` with the end of the daemon's log when it does not come."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            if check():
                return
        time.sleep(every_s)
    raise RuntimeError(f"not within {limit_s:.0f} s: {what}\n{(world.folder / 'daemon.log').read_text()[-2000:]}")


def sender(port: int, path: str, key: str, **options: Any) -> subprocess.Popen[str]:
    """Start `benchmarks.senders`."""
    given = json.dumps({"port": port, "path": path, "key": key, **options})
    return subprocess.Popen([sys.executable, "-m", "benchmarks.senders", given], cwd=HERE, stdout=subprocess.PIPE, text=True)


def accepted(process: subprocess.Popen[str], count: int) -> dict[str, Any]:
    """Return what a sender said; raises `RuntimeError` unless all was accepted."""
    out, _ = process.communicate(timeout=300)
    found: dict[str, Any] = json.loads(out.splitlines()[-1]) if process.returncode == 0 else {}
    if found.get("statuses") != {"202": count}:
        raise RuntimeError(f"of {count} deliveries not all were accepted: {found}")
    return found


@contextlib.contextmanager
def floor(folder: Path, how: str) -> Iterator[int]:
    """Serve the floor (``group`` or ``each``) on a new file; yields its port."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.floors.ingest", str(folder / f"{how}-{time.monotonic_ns()}.db"), "floor", how]
    with subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def ingest(plan: Plan) -> Iterator[Row]:
    """G9: deliveries as fast as they are taken, and at 500 a second, against a server that does nothing but store them."""
    count = plan.count * 4
    found: dict[str, list[dict[str, Any]]] = {}

    def note(name: str, one: dict[str, Any]) -> None:
        found.setdefault(name, []).append(one)

    with Running() as provider:
        world = Receiver(plan.folder / "ingest", provider.url)
        try:
            world.start()
            world.send(count // 4, connections=CONNECTIONS)
            for _ in range(plan.repeat):  # in turns, so that a busy moment hits all alike
                world.quiet()
                note("ours", world.send(count, connections=CONNECTIONS))
                began = time.monotonic()
                world.quiet()
                note("rest", {"seconds": time.monotonic() - began})
                note("ours paced", world.send(count, connections=CONNECTIONS, rate=RATE))
                for how in ("group", "each"):
                    with floor(plan.folder / "floor", how) as port:
                        note(how, accepted(sender(port, "/", "floor", prefix="d", count=count, connections=CONNECTIONS), count))
                        if how == "group":
                            paced = sender(port, "/", "floor", prefix="p", count=count, connections=CONNECTIONS, rate=RATE)
                            note("group paced", accepted(paced, count))
        finally:
            world.stop()

    def median(name: str, key: str = "seconds") -> float:
        return float(statistics.median(one[key] for one in found[name]))

    def each_s(name: str) -> str:
        return f"{count / median(name):.0f}/s"

    for how, limit, what in (("group", 0.7, "group commit"), ("each", 2.0, "one commit each")):
        name = f"{count} signed deliveries of 10 KB, {CONNECTIONS} connections, durable, against {what}"
        yield Row("G9", name, each_s("ours"), each_s(how), median(how) / median("ours"), limit, "×", at_least=True)
    left = f"{median('rest') * 1000:.0f} ms"
    yield Row("G9", "the same, handed on in the same process: from the last answer to the last one handed on", left)
    for share, bound in (("p50", None), ("p99", 5.0), ("max", None)):
        ours, raw = median("ours paced", share) * 1000, median("group paced", share) * 1000
        yield Row("G9", f"at {RATE:.0f}/s, from when it was due: {share}", f"{ours:.2f} ms", f"{raw:.2f} ms", ours, bound, "ms")


def losses(plan: Plan) -> Iterator[Row]:
    """G9: kill -9 while deliveries come in: what was acknowledged is there afterwards."""
    acked: set[str] = set()
    others: dict[str, int] = {}
    early = lost = 0
    with Running() as provider:
        world = Receiver(plan.folder / "losses", provider.url)
        try:
            world.start()
            acks = plan.folder / "acks"
            for number in range(plan.kills):
                if number:
                    world.start(wait=False)
                process = world.sender(4_000, connections=16, acks=str(acks), ends=True)
                assert process.stdout is not None
                begun = process.stdout.readline().strip() == "begun"
                time.sleep(random.Random(number).uniform(0.0, 0.3))
                early += not begun or process.poll() is not None
                world.kill()
                said = json.loads(process.communicate(timeout=60)[0].splitlines()[-1])
                for status, many in said["statuses"].items():
                    others[status] = others.get(status, 0) + many
                now = {line.split()[0] for line in acks.read_text().splitlines()}
                stored = {
                    row[0] for row in world.ask("SELECT delivery_id FROM event WHERE delivery_id LIKE ?", f"d{world.sent}-%")
                }
                lost += len(now - stored)
                acked |= now
            world.start()
            world.quiet()
            stored = {row[0] for row in world.ask("SELECT delivery_id FROM event")}
        finally:
            world.stop()
    if early:
        raise RuntimeError(f"{early} of {plan.kills} kills were not under load")
    name = f"{plan.kills} kill -9 under load, {len(acked)} acknowledged"
    note = f"answers: {', '.join(f'{status}: {many}' for status, many in sorted(others.items()))}"
    yield exactly("G9", f"{name}: lost, right after each", lost, 0, note=note)
    yield exactly("G9", f"{name}: lost, or not handed on, at the end", len(acked - stored), 0)


class Eyes:
    """Sees from outside when items, and executions of them, are in the state: committed, and no earlier."""

    def __init__(self, world: Receiver) -> None:
        self._db = sqlite3.connect(f"file:{world.state}?mode=ro", uri=True, timeout=30, isolation_level=None)
        self._version = 0
        self._items = self._one("SELECT coalesce(max(rowid), 0) FROM item")
        self._executions = self._one("SELECT coalesce(max(rowid), 0) FROM execution")
        self.deliveries: dict[str, str] = {}
        """Delivery by item."""
        self.seen: dict[str, dict[str, float]] = {"queued": {}, "running": {}, "finished": {}}
        """When a delivery's item was first seen so."""

    def _one(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])

    def look(self) -> None:
        """Look, if anything was committed since the last time."""
        version = self._one("PRAGMA data_version")
        if version == self._version:
            return
        self._version = version
        now = time.monotonic()
        items = "SELECT i.rowid, i.id, e.delivery_id FROM item i JOIN event e ON e.id = i.event_id WHERE i.rowid > ?"
        for rowid, item, delivery in self._db.execute(items, (self._items,)).fetchall():
            self._items = max(self._items, rowid)
            self.deliveries[item] = delivery
            self.seen["queued"][delivery] = now
        runs = self._db.execute("SELECT rowid, item_id, state FROM execution WHERE rowid > ? ORDER BY rowid", (self._executions,))
        ended = True
        for rowid, item, state in runs.fetchall():
            delivery = self.deliveries[item]
            if state in ("running", "finished"):
                self.seen["running"].setdefault(delivery, now)
            if state == "finished":
                self.seen["finished"].setdefault(delivery, now)
            ended = ended and state == "finished"
            if ended:
                self._executions = rowid

    def close(self) -> None:
        self._db.close()


def _followed(world: Receiver, count: int, rate: float, acks: Path) -> dict[str, list[float]]:
    """Send ``count`` deliveries at ``rate``; return the times from each one's 202 to each thing that is seen of it."""
    with contextlib.closing(Eyes(world)) as eyes:
        process = world.sender(count, connections=4, rate=rate, acks=str(acks))
        deadline = time.monotonic() + count / rate + 60
        while len(eyes.seen["finished"]) < count and time.monotonic() < deadline:
            eyes.look()
            time.sleep(0.001)
        accepted(process, count)
    if len(eyes.seen["finished"]) < count:
        raise RuntimeError(f"of {count} deliveries {len(eyes.seen['finished'])} were executed")
    times = {identity: float(at) for identity, at in (line.split() for line in acks.read_text().splitlines())}
    return {name: sorted(at - times[identity] for identity, at in found.items()) for name, found in eyes.seen.items()}


def dispatch(plan: Plan) -> Iterator[Row]:
    """From a delivery's 202 to its place in a queue, its run, and its end: idle, and at 50 a second."""
    with Running() as provider:
        world = Receiver(plan.folder / "dispatch", provider.url, stages=1)
        try:
            world.start()
            world.send(20, connections=4)
            world.quiet()
            idle = _followed(world, max(plan.count // 20, 10), 2.0, plan.folder / "acks")
            busy = _followed(world, plan.count // 2, RATE_STAGES, plan.folder / "acks")
        finally:
            world.stop()
    for load, found in (("idle", idle), (f"at {RATE_STAGES:.0f}/s", busy)):
        for name, what in (("queued", "in the queue"), ("running", "its run has begun"), ("finished", "its run has ended")):
            times = found[name]
            p50, p99 = times[len(times) // 2], times[min(len(times) - 1, int(len(times) * 0.99))]
            measured = f"{p50 * 1000:.1f} / {p99 * 1000:.1f} ms"
            yield Row("stages", f"from the 202 until {what}, p50 / p99, {load} ({len(times)})", measured)


def drain(plan: Plan) -> Iterator[Row]:
    """How many executions a second, and what one costs."""
    count, few = plan.count, max(plan.count // 10, 10)
    with Running() as provider:
        world = Receiver(plan.folder / "drain", provider.url, stages=1)
        try:
            world.start()
            world.send(20, connections=4)
            world.quiet()
            cpu = cpu_s(world.process_id)
            began = time.monotonic()
            sent = world.send(count, connections=CONNECTIONS)
            world.quiet()
            took = time.monotonic() - began
            cpu = cpu_s(world.process_id) - cpu
            world.stop()
            counts = plan.folder / "commits"
            world.start(counts=counts)
            world.quiet()
            idle = _commits(counts, 3.0)
            before = counting.read(counts)
            watched = time.monotonic()
            world.send(few, connections=4, rate=5.0)
            world.quiet()
            watched = time.monotonic() - watched
            after = counting.read(counts)
        finally:
            world.stop()
    name = f"{count} events to a stage that runs nothing, 100 at a time"
    yield Row("stages", f"{name}: executions", f"{count / took:.0f}/s", f"taken in at {count / sent['seconds']:.0f}/s")
    yield Row("stages", f"{name}: CPU of the daemon, each", f"{cpu / count * 1000:.1f} ms")
    for index, what in enumerate(("state", "engine's tables")):
        each = (after[index] - before[index] - idle[index] * watched) / few
        yield Row("stages", f"commits an execution costs, from delivery to end, at 5/s: {what}", f"{each:.1f}")


def _commits(counts: Path, for_s: float) -> tuple[float, float]:
    """Return how many commits a second an idle daemon makes."""
    before = counting.read(counts)
    time.sleep(for_s)
    after = counting.read(counts)
    return (after[0] - before[0]) / for_s, (after[1] - before[1]) / for_s


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
