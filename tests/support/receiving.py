"""Whoever webhooks are sent to in tests: a server that keeps what it gets, and waiting for it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


def eventually(probe: Callable[[], Any]) -> Any:
    for _ in range(150):
        found = probe()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it never happened")


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent in ``got`` as (method, headers, body); answers ``status`` after ``delays_s`` (one each, then none)."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 204
        self.delays_s: list[float] = []
        self.url = f"http://127.0.0.1:{self.server_port}/in?x=1"

    def payloads(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.got]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.command, {k.lower(): v for k, v in self.headers.items()}, body))
        if self.server.delays_s:
            time.sleep(self.server.delays_s.pop(0))
        try:
            self.send_response(self.server.status)
            self.send_header("content-length", "0")
            self.end_headers()
        except OSError:
            pass  # the sender did not wait

    do_PUT = do_POST

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def receiving() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running
