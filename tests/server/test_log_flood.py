"""Strangers cannot fill the log: what libraries say of garbage and of missing file descriptors is throttled and counted."""

from __future__ import annotations

import io
import json
import logging
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.credentials.redact import Redactor
from reconciler.log import THROTTLE_LINES, THROTTLE_S, LogThrottle, configure
from tests.flow.stage_world import StageWorld


@pytest.fixture
def world(tmp_path: Path) -> Iterator[StageWorld]:
    made = StageWorld(tmp_path, ())
    yield made
    made.close()


def library_lines(world: StageWorld) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in world.log().splitlines() if line.startswith("{")]
    return [row for row in rows if row["event"] == "library"]


def test_n36_garbage_requests_leave_a_few_lines(world: StageWorld) -> None:
    world.webhook()
    world.ready()
    for _ in range(300):
        with socket.create_connection(("127.0.0.1", world.port), 5) as sock:
            sock.sendall(b"\x16\x03\x01 garbage\r\n\r\n")
            sock.settimeout(5)
            sock.recv(4_096)
    assert world.send("own", b"{}") == 202
    assert len(library_lines(world)) <= THROTTLE_LINES
    assert len(world.log()) < 200_000


def test_n36_without_file_descriptors_the_log_stays_small(world: StageWorld) -> None:
    world.webhook()
    world.ready()
    pid = world.processes[-1].pid
    held = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (held + 4, before[1]))
    sockets = [socket.create_connection(("127.0.0.1", world.port), 5) for _ in range(100)]
    world.wait(lambda: any("accept" in str(row["message"]) for row in library_lines(world)), "the listener has no descriptors")
    for sock in sockets:
        sock.close()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    world.wait(lambda: world.send("own", b"{}") == 202, "it accepts again")
    kinds = {str(row["message"]).partition("\n")[0] for row in library_lines(world)}
    assert len(library_lines(world)) <= THROTTLE_LINES * len(kinds)
    assert len(kinds) <= 4
    assert len(world.log()) < 500_000


def test_n36_what_was_left_out_is_counted() -> None:
    clock = [0.0]
    throttle = LogThrottle(lambda: clock[0])
    found = [throttle.admit(("uvicorn", "Invalid HTTP request received.")) for _ in range(100)]
    assert found == [0] * THROTTLE_LINES + [None] * (100 - THROTTLE_LINES)
    assert throttle.admit(("uvicorn", "another")) == 0
    clock[0] = THROTTLE_S
    assert throttle.admit(("uvicorn", "Invalid HTTP request received.")) == 100 - THROTTLE_LINES


def test_n36_a_line_of_a_library_says_how_many_were_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    out, clock = io.StringIO(), [0.0]
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    try:
        configure("json", "info", Redactor(), stream=out)
        monkeypatch.setattr(root.handlers[0], "_throttle", LogThrottle(lambda: clock[0]))
        for _ in range(20):
            logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
        clock[0] = THROTTLE_S
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    finally:
        root.handlers = handlers
        root.setLevel(level)
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    assert len(rows) == THROTTLE_LINES + 1
    assert rows[-1]["suppressed"] == 20 - THROTTLE_LINES
