"""What a hostile peer, sender, provider or payload may do, and what of it must not matter."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest

from tests.flow.stage_world import StageWorld
from tests.flow.test_receiver import rss

pytestmark = pytest.mark.fault

MIB = 1 << 20


def connected(world: StageWorld) -> socket.socket:
    return socket.create_connection(("127.0.0.1", world.port), 20)


def told(sock: socket.socket) -> bytes:
    """Return what is answered until the other side ends the connection."""
    found = b""
    with contextlib.suppress(OSError):
        while part := sock.recv(65_536):
            found += part
    return found


def test_e6_e7_connections_heads_and_bodies_of_strangers_are_bounded(world: StageWorld) -> None:
    world.webhook("own")
    world.ready()
    path, pid = world.place("own")[0], world.processes[-1].pid
    assert world.send("own", {"n": 0}) == 202
    before = rss(pid)

    # a head without an end
    with connected(world) as sock:
        line = b"x-a: " + b"a" * 60_000 + b"\r\n"
        with contextlib.suppress(OSError):
            sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n")
            for _ in range(2_000):
                sock.sendall(line)
    with connected(world) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nx-a: " + b"a" * (70 << 10))
        assert b" 431 " in told(sock)
    assert rss(pid) - before < 10 * MIB

    # more connections than there are places, and nothing said on any of them
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(world)) for _ in range(450)]
        for number in range(5):
            assert world.send("own", {"n": number}) == 202
        began = time.monotonic()
        assert told(idle[-1]) == b""
        assert time.monotonic() - began < 15

    # bodies that nobody has proved anything of yet
    with contextlib.ExitStack() as stack:
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {20 * MIB + 1}\r\n\r\n".encode()
        refused = 0
        for _ in range(10):
            sock = stack.enter_context(connected(world))
            try:
                sock.sendall(head + b"x" * (20 * MIB))
            except OSError:
                refused += 1
        assert refused >= 3
        assert rss(pid) - before < 260 * MIB
        assert world.send("own", {"n": "small"}) == 202

    # a body that drips on after it was refused
    with connected(world) as sock:
        sock.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-encoding: br\r\ncontent-length: 1000\r\n\r\n".encode())
        began = time.monotonic()
        assert b" 415 " in sock.recv(1000)
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 9:
                sock.sendall(b"x")
                time.sleep(0.2)
        assert time.monotonic() - began < 8
    assert world.processes[-1].poll() is None
    assert "Traceback" not in world.log()
