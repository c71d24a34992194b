"""A GitHub for load, in a process of its own: webhooks of repositories with ETags, latency, counts and enforced limits.

The sandbox of the product is exact; this one is quick, so that what is measured is the client: raw asyncio protocols, a
header block as large as GitHub's, bodies and ETags made once. Steered below ``/_bench/``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import json
import subprocess
import sys
import time
from collections import Counter, deque
from typing import Any

import httptools
import orjson

_BIG = b"".join(
    b"%s: %s\r\n" % (name, b"x" * size)
    for name, size in (
        (b"content-security-policy", 40),
        (b"strict-transport-security", 44),
        (b"referrer-policy", 57),
        (b"x-frame-options", 4),
        (b"x-content-type-options", 7),
        (b"x-xss-protection", 1),
        (b"x-github-media-type", 28),
        (b"x-github-request-id", 39),
        (b"access-control-expose-headers", 300),
        (b"access-control-allow-origin", 1),
        (b"vary", 90),
        (b"server", 10),
        (b"x-accepted-oauth-scopes", 40),
        (b"x-github-api-version-selected", 10),
        (b"cache-control", 34),
    )
)
_REASON = {200: b"OK", 201: b"Created", 204: b"No Content", 304: b"Not Modified", 403: b"Forbidden", 404: b"Not Found"}
_REFUSED = (403, b'{"message":"You have exceeded a secondary rate limit."}', "")


class Window:
    """At most ``limit`` units in any ``seconds``."""

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit, self.seconds, self.used = limit, seconds, 0
        self.log: deque[tuple[float, int]] = deque()

    def fits(self, cost: int, now: float) -> bool:
        while self.log and self.log[0][0] <= now - self.seconds:
            self.used -= self.log.popleft()[1]
        return not self.limit or self.used + cost <= self.limit

    def take(self, cost: int, now: float) -> None:
        self.used += cost
        self.log.append((now, cost))


class Provider:
    """The state: hooks by repository, counts, settings."""

    def __init__(self) -> None:
        self.latency_s = 0.0
        self.base_url = ""
        self.clear()

    def clear(self) -> None:
        self.hooks: dict[str, list[dict[str, Any]]] = {}
        self.pages: dict[str, tuple[bytes, str]] = {}
        self.next_id = 1
        self.tags: dict[tuple[str, bytes], str] = {}
        self.limits: list[tuple[Window, int, int]] = []
        self.concurrent = 0
        self.forget()

    def forget(self) -> None:
        self.counts: Counter[str] = Counter()
        self.in_flight = self.most_in_flight = 0
        self.first_write = self.last_write = 0.0

    def settings(self, wanted: dict[str, Any]) -> None:
        """``latency_s``; ``limits``: {"seconds", "hour_seconds", "points", "creates", "creates_hour", "concurrent"}."""
        self.latency_s = float(wanted.get("latency_s", self.latency_s))
        limits = wanted.get("limits")
        if limits is not None:
            self.concurrent = limits["concurrent"]
            self.limits = (
                [  # (window, cost of a read, cost of a write)
                    (Window(limits["points"], limits["seconds"]), 1, 5),
                    (Window(limits["creates"], limits["seconds"]), 0, 1),
                    (Window(limits["creates_hour"], limits["hour_seconds"]), 0, 1),
                ]
                if limits
                else []
            )

    def stats(self) -> dict[str, Any]:
        hooks = sum(map(len, self.hooks.values()))
        return {
            **self.counts,
            "most_in_flight": self.most_in_flight,
            "hooks": hooks,
            "write_seconds": self.last_write - self.first_write,
        }

    def refused(self, *, write: bool, now: float) -> bool:
        """Whether a limit forbids this request; takes its cost otherwise."""
        if not self.limits:
            return False
        costs = [(window, write_cost if write else read_cost) for window, read_cost, write_cost in self.limits]
        if self.in_flight > self.concurrent or not all(window.fits(cost, now) for window, cost in costs):
            return True
        for window, cost in costs:
            window.take(cost, now)
        return False

    def answer(self, method: str, path: str, body: bytes, seen: bytes, tag: str) -> tuple[int, bytes, str]:
        """Return status, body and ETag."""
        now = time.monotonic()
        parts = path.split("/")
        self.counts[method] += 1
        if method != "GET" and self.refused(write=True, now=now):
            status, content, etag = _REFUSED
        elif path == "/user":
            status, content, etag = 200, b'{"login":"bench-bot","id":1}', ""
        elif len(parts) == 4 and parts[1] == "repos":
            shown = {"id": 1, "name": parts[3], "full_name": f"acme/{parts[3]}", "url": self.base_url + path}
            status, content, etag = 200, orjson.dumps(shown), ""
        elif len(parts) == 5 and parts[4] == "hooks":
            status, content, etag = self.list(parts[3], seen, tag) if method == "GET" else self.create(parts[3], body)
        elif len(parts) == 6 and parts[4] == "hooks":
            status, content, etag = self.change(method, parts[3], int(parts[5]), body)
        elif len(parts) == 7 and parts[6].startswith("deliveries"):
            status, content, etag = 200, b"[]", ""  # none was missed: whoever sends here is not this provider
        else:
            status, content, etag = 404, b'{"message":"Not Found"}', ""
        if method == "GET" and status != 304 and self.refused(write=False, now=now):
            status, content, etag = _REFUSED
        self.counts[str(status)] += 1
        return status, content, etag

    def list(self, repo: str, seen: bytes, tag: str) -> tuple[int, bytes, str]:
        page = self.pages.get(repo)
        if page is None:
            content = orjson.dumps(self.hooks.get(repo, []))
            page = self.pages[repo] = (content, hashlib.sha256(content).hexdigest())
        key = (page[1], seen)
        etag = self.tags.get(key)
        if etag is None:
            etag = self.tags[key] = f'W/"{hashlib.sha256(seen + page[0]).hexdigest()}"'
        return (304, b"", etag) if tag == etag else (200, page[0], etag)

    def create(self, repo: str, body: bytes) -> tuple[int, bytes, str]:
        sent = orjson.loads(body)
        self.next_id += 1
        self.last_write = time.monotonic()
        self.first_write = self.first_write or self.last_write
        url = f"https://api.github.com/repos/acme/{repo}/hooks/{self.next_id}"
        hook = {
            "type": "Repository",
            "id": self.next_id,
            "name": "web",
            "active": sent.get("active", True),
            "events": sent["events"],
            "config": {**sent["config"], "secret": "********"},
            "updated_at": "2026-01-01T00:00:00Z",
            "created_at": "2026-01-01T00:00:00Z",
            "url": url,
            "test_url": f"{url}/tests",
            "last_response": {"code": None, "status": "unused", "message": None},
            "ping_url": f"{url}/pings",
            "deliveries_url": f"{url}/deliveries",
        }
        self.hooks.setdefault(repo, []).append(hook)
        self.pages.pop(repo, None)
        return 201, orjson.dumps(hook), ""

    def change(self, method: str, repo: str, number: int, body: bytes) -> tuple[int, bytes, str]:
        hook = next((one for one in self.hooks.get(repo, []) if one["id"] == number), None)
        if hook is None:
            return 404, b'{"message":"Not Found"}', ""
        if method != "GET":
            self.pages.pop(repo, None)
        if method == "DELETE":
            self.hooks[repo].remove(hook)
            return 204, b"", ""
        if method == "PATCH":
            sent = orjson.loads(body)
            hook.update({**sent, "config": {**sent.get("config", hook["config"]), "secret": "********"}})
        return 200, orjson.dumps(hook), ""


class _Protocol(asyncio.Protocol):
    def __init__(self, app: Provider) -> None:
        self.app = app

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.url, self.body, self.auth, self.accept, self.tag = b"", b"", b"", b"", ""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"authorization":
            self.auth = value
        elif name == b"accept":
            self.accept = value
        elif name == b"if-none-match":
            self.tag = value.decode()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        method, path = self.parser.get_method().decode(), self.url.partition(b"?")[0].decode()
        if path.startswith("/_bench/"):
            self.send(200, control(self.app, path[8:], self.body), "")
            return
        app = self.app
        app.in_flight += 1
        app.most_in_flight = max(app.most_in_flight, app.in_flight)
        call = (method, path, self.body, self.accept + b":" + self.auth, self.tag)
        if app.latency_s:
            asyncio.get_running_loop().call_later(app.latency_s, self.reply, call)
        else:
            self.reply(call)

    def reply(self, call: tuple[str, str, bytes, bytes, str]) -> None:
        status, content, etag = self.app.answer(*call)
        self.app.in_flight -= 1
        if not self.transport.is_closing():
            self.send(status, content, etag)

    def send(self, status: int, content: bytes, etag: str) -> None:
        head = b"HTTP/1.1 %d %s\r\n%sdate: Sat, 21 Nov 2026 06:00:00 GMT\r\n" % (status, _REASON[status], _BIG)
        head += b"x-oauth-scopes: repo, admin:org_hook\r\nx-ratelimit-limit: 1000000\r\nx-ratelimit-remaining: 999999\r\n"
        head += b"x-ratelimit-reset: %d\r\nx-ratelimit-resource: core\r\n" % (time.time() + 3600)
        if etag:
            head += b"etag: %s\r\n" % etag.encode()
        if status not in (204, 304):
            head += b"content-type: application/json; charset=utf-8\r\ncontent-length: %d\r\n" % len(content)
        self.transport.write(head + b"\r\n" + content)


def control(app: Provider, name: str, body: bytes) -> bytes:
    """Answer ``/_bench/NAME``: settings, forget (counts), clear (everything), stats; always with the counts until then."""
    found = orjson.dumps(app.stats())
    if name == "settings":
        app.settings(orjson.loads(body))
    elif name in ("forget", "clear"):
        getattr(app, name)()
    return found


async def _serve() -> None:
    app = Provider()
    server = await asyncio.get_running_loop().create_server(lambda: _Protocol(app), "127.0.0.1", 0, backlog=2048)
    port = server.sockets[0].getsockname()[1]
    app.base_url = f"http://127.0.0.1:{port}"
    print(port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # the parent left


class Running:
    """The provider as a process: ``with Running() as provider: provider.url``."""

    def __enter__(self) -> Running:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.provider"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._process.communicate("")

    def do(self, name: str, **body: Any) -> dict[str, Any]:
        """Steer it, and return its counts: ``do("forget")``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("POST", f"/_bench/{name}", json.dumps(body))
        found = json.loads(connection.getresponse().read())
        connection.close()
        return found


if __name__ == "__main__":
    asyncio.run(_serve())
