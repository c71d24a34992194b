"""The floor of HTTP: N requests over C keep-alive connections from raw asyncio protocols. ``python -m benchmarks.floors.http URL N C what``.

``noop``: N conditional GETs, all 304, after an untimed round that learns the ETags. ``cold``: N GETs, then N POSTs: two round trips.
The connections are opened inside the time, as any client must.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from urllib.parse import urlsplit

TOKEN = "canary-github-bench"
_HEAD = f"host: 127.0.0.1\r\nuser-agent: floor\r\naccept: application/json\r\nauthorization: Bearer {TOKEN}\r\n"
_HOOK = json.dumps(
    {
        "name": "web",
        "active": True,
        "events": ["push"],
        "config": {
            "url": "https://hooks.example/hooks/floor/0123456789abcdef0123?key=0123456789abcdef",
            "content_type": "json",
            "insecure_ssl": "0",
            "secret": "s" * 43,
        },
    }
)


class _Client(asyncio.Protocol):
    """One connection: takes the next request when the last is answered."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.buffer = b""
        self.next()

    def next(self) -> None:
        request = self.work.take()
        if request is None:
            self.transport.close()
            return
        self.number, data = request
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        at = self.buffer.find(b"content-length: ", 0, end)
        length = int(self.buffer[at + 16 : self.buffer.find(b"\r", at)]) if at >= 0 else 0
        if len(self.buffer) < end + 4 + length:
            return
        self.work.done(self.number, self.buffer[:end])
        self.buffer = self.buffer[end + 4 + length :]
        self.next()


class Work:
    """The requests of one round."""

    def __init__(self, requests: list[bytes]) -> None:
        self.requests = list(enumerate(requests))[::-1]
        self.left = len(requests)
        self.heads: dict[int, bytes] = {}
        self.finished = asyncio.Event()

    def take(self) -> tuple[int, bytes] | None:
        return self.requests.pop() if self.requests else None

    def done(self, number: int, head: bytes) -> None:
        self.heads[number] = head
        self.left -= 1
        if not self.left:
            self.finished.set()


async def round_trips(port: int, requests: list[bytes], connections: int) -> dict[int, bytes]:
    """Send all, return the heads of the answers."""
    work = Work(requests)
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.create_connection(lambda: _Client(work), "127.0.0.1", port) for _ in range(connections)))
    await work.finished.wait()
    return work.heads


def get(number: int, tag: bytes = b"") -> bytes:
    condition = b"if-none-match: " + tag + b"\r\n" if tag else b""
    return f"GET /repos/acme/r{number:05}/hooks?per_page=100 HTTP/1.1\r\n{_HEAD}".encode() + condition + b"\r\n"


def post(number: int) -> bytes:
    return f"POST /repos/acme/r{number:05}/hooks HTTP/1.1\r\n{_HEAD}content-type: application/json\r\ncontent-length: {len(_HOOK)}\r\n\r\n{_HOOK}".encode()


def _tag(head: bytes) -> bytes:
    at = head.index(b"etag: ") + 6
    return head[at:].partition(b"\r")[0]


async def measure(port: int, count: int, connections: int, what: str) -> dict[str, float]:
    """Return wall and CPU seconds of the floor."""
    numbers = range(count)
    if what == "noop":
        heads = await round_trips(port, [get(number) for number in numbers], connections)
        rounds = [[get(number, _tag(heads[number])) for number in numbers]]
    else:
        rounds = [[get(number) for number in numbers], [post(number) for number in numbers]]
    wall, cpu = time.perf_counter(), time.process_time()
    for requests in rounds:
        heads = await round_trips(port, requests, connections)
        wanted = {b"304"} if what == "noop" else {b"200", b"201"}
        assert {head[9:12] for head in heads.values()} <= wanted
    return {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


if __name__ == "__main__":
    url, count, connections, what = sys.argv[1:]
    port = urlsplit(url).port
    assert port
    print(json.dumps(asyncio.run(measure(port, int(count), int(connections), what))))
