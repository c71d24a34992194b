"""Hands for the tests of the simulators: requests over real HTTP, and a receiver of webhooks."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from reconciler.sandbox.semaphore import TOKEN
from reconciler.sandbox.semaphore_shapes import project_id
from reconciler.sandbox.server import SandboxServer

ROOT = "/api/v1alpha"
WEB = project_id("web")


class Hands:
    """A client that keeps its last answer; answers are JSON, whatever they say of themselves."""

    def __init__(self, server: SandboxServer, authorization: str = f"Token {TOKEN}", root: str = ROOT) -> None:
        self.server, self.admin = server, server.admin
        self.http = httpx.Client(base_url=server.url + root, trust_env=False, headers={"authorization": authorization})
        self.last: httpx.Response

    def __call__(self, method: str, path: str, body: Any = None, *, status: int = 200, **options: Any) -> Any:
        self.last = self.http.request(method, path, json=body, **options)
        assert self.last.status_code == status, (self.last.status_code, self.last.text)
        try:
            return self.last.json()
        except ValueError:
            return self.last.text

    def run(self, **more: Any) -> tuple[str, str]:
        """Run a workflow of ``web``; returns the ids of it and of its pipeline."""
        made = self("POST", "/plumber-workflows", {"project_id": WEB, "reference": "refs/heads/main", **more})
        return made["workflow_id"], made["pipeline_id"]

    def pipeline(self, key: str) -> dict[str, Any]:
        return dict(self("GET", f"/pipelines/{key}")["pipeline"])

    def done(self, key: str) -> dict[str, Any]:
        """Wait for a pipeline."""
        return eventually(lambda: (found := self.pipeline(key))["state"] == "done" and found)

    def delivered(self, count: int) -> list[dict[str, Any]]:
        """Wait until ``count`` deliveries have come to their end."""
        return eventually(lambda: len(rows := self.settled()) >= count and rows)

    def settled(self) -> list[dict[str, Any]]:
        return [one for one in self.admin.state()["deliveries"] if one["outcome"] != "sending"]


def behave(server: SandboxServer, **behaviour: Any) -> None:
    server.admin.put_state({"behaviour": {"web": behaviour}})


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
