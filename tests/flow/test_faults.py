"""Faults of several triggers, poison, dead loops and old backups."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.config.load import load_config
from reconciler.daemon.session import Options, open_session
from reconciler.engine.loop import Beats, Loop
from reconciler.engine.queue import WorkQueue
from tests.flow.stage_world import StageWorld
from tests.support.postgres import Postgres


@pytest.fixture
def world(tmp_path: Path) -> Iterator[StageWorld]:
    made = StageWorld(tmp_path)
    yield made
    made.close()


def test_a16_triggers_from_everywhere_at_once_leave_one_hook_at_the_newest_spec(world: StageWorld) -> None:
    world.source("web", events="[{type: push}]")
    world.ready()
    for round_ in range(6):
        world.source("web", events="[{type: push}]" if round_ % 2 else "[{type: push}, {type: release}]")
        threads = [
            threading.Thread(target=world.ask, args=("reconcile",), kwargs={"resource": "EventSource/web"}) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if round_ == 3:
            world.kill()
            world.ready()
    world.wait(lambda: [hook["events"] for hook in world.hooks("web")] == [["push"]], "one hook, the newest spec")
    world.wait(world.all_ready, "ready")


def test_a17_an_execution_whose_every_step_fails_is_given_up_and_all_others_run(world: StageWorld) -> None:
    world.manual()
    world.stage("fine")
    world.stage(
        "poison",
        """
        executor:
          type: github
          integration: {name: github}
          resource: {type: repository, name: web}
          spec: {workflow: ci.yml, ref: main}
        """,
    )
    world.github.fault(method="POST", path=".*/dispatches", times=0, effect="malformed")
    world.ready()
    world.trigger()
    assert world.finished("fine")[0]["result"] == "passed"
    world.trigger()
    assert len(world.finished("fine", 2)) == 2
    poison = [row for row in world.executions() if row["stage"] == "Stage/poison"]
    assert poison
    assert world.processes[-1].poll() is None


async def test_a18_a_loop_that_ends_takes_the_process_with_it_and_one_that_hangs_makes_it_unhealthy(world: StageWorld) -> None:
    config = load_config(world.config, world.env, overrides={})
    async with open_session(config, Options()) as session:
        queue = WorkQueue(session.deps, holder="test")
        loop = Loop(session.engine, queue, session.deps, publish=nothing, monotonic=time.monotonic)
        loop.more = {"brittle": nothing}
        with pytest.raises(RuntimeError, match="the brittle loop ended"):
            await loop.run(asyncio.Event())
    beats = Beats()
    beats.beat("stages", 100.0, 60.0)
    assert beats.dead(159.0) == []
    assert beats.dead(161.0) == ["stages"]


async def nothing() -> None:
    return None


class Proxy:
    """Stands between the program and PostgreSQL; `stall` keeps every byte without breaking a connection."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._flow = threading.Event()
        self._flow.set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self) -> None:
        self._flow.clear()

    def flow(self) -> None:
        self._flow.set()

    def close(self) -> None:
        self._flow.set()
        self._server.shutdown(socket.SHUT_RDWR)  # ends the accept
        for one in (self._server, *self._open):
            with contextlib.suppress(OSError):
                one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self._flow.wait()
                sink.sendall(data)
        for each in (source, sink):  # a close alone sends nothing while the other thread reads from the socket
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def test_b9_a_half_open_database_is_noticed_within_15_seconds_and_work_goes_on_after_it(world: StageWorld) -> None:
    postgres = Postgres()
    proxy = Proxy(postgres.port)
    try:
        url = postgres.database().replace(f":{postgres.port}/", f":{proxy.port}/")
        world.configure(state=f'{{url: "{url}"}}')
        world.manual()
        world.stage("fine")
        world.ready()
        world.trigger()
        world.finished("fine")
        proxy.stall()
        world.wait(lambda: health(world) != 200, "the daemon notices")
        proxy.flow()
        world.wait(lambda: health(world) == 200, "healthy again")
        world.trigger()
        world.finished("fine", 2)
    finally:
        world.close()
        proxy.close()
        postgres.stop()


def health(world: StageWorld) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def test_b10_an_old_backup_leads_to_no_delete_and_no_second_of_anything(world: StageWorld) -> None:
    world.source("web", events="[{type: push}]")
    world.manual()
    world.stage("fine")
    world.ready()
    world.trigger()
    world.finished("fine")
    world.stop()
    backup = world.folder / "backup.db"
    shutil.copy(world.folder / "state" / "state.db", backup)
    world.source("shop", events="[{type: push}]")
    world.ready()
    world.trigger()
    world.finished("fine", 2)
    world.stop()
    for name in ("state.db-wal", "state.db-shm"):
        (world.folder / "state" / name).unlink(missing_ok=True)
    shutil.copy(backup, world.folder / "state" / "state.db")
    world.forget_requests()
    world.ready()
    time.sleep(1)
    assert [row["method"] for row in world.writes() if row["method"] == "DELETE"] == []
    assert len(world.hooks("web")) == len(world.hooks("shop")) == 1
    world.trigger()
    assert len(world.finished("fine", 2)) == 2
