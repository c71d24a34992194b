"""A sender of signed deliveries, in a process of its own: ``python -m benchmarks.senders OPTIONS`` (JSON) prints JSON.

Raw asyncio protocols over keep-alive connections. With ``rate`` the load is open: each delivery has a time at which it is due,
and its latency counts from then, so that a receiver that stands still is not spared the deliveries that it holds up. Without,
each connection sends its next delivery when the last is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import selectors
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

BODY_BYTES = 10_240
SIGNATURE = "X-Hub-Signature-256"
_AFTER = "f" * 40
_URLS = (
    *("forks", "keys", "collaborators", "teams", "hooks", "issue_events", "events", "assignees", "branches", "tags", "blobs"),
    *("git_tags", "git_refs", "trees", "statuses", "languages", "stargazers", "contributors", "subscribers", "subscription"),
    *("commits", "git_commits", "comments", "issue_comment", "contents", "compare", "merges", "archive", "downloads", "issues"),
    *("pulls", "milestones", "notifications", "labels", "releases", "deployments"),
)


def push(mark: str) -> bytes:
    """Return a push of 10 KB, in the shape of GitHub's and unlike any with another ``mark``."""
    return _pattern().replace(_AFTER.encode(), hashlib.sha1(mark.encode(), usedforsecurity=False).hexdigest().encode())


@cache
def _pattern() -> bytes:
    after = _AFTER
    person = {"name": "Ada Writer", "email": "ada@example.org", "username": "ada"}
    repository: dict[str, Any] = {"id": 186853002, "name": "r00000", "full_name": "acme/r00000", "private": False, "fork": False}
    repository |= {f"{name}_url": f"https://api.github.com/repos/acme/r00000/{name}{{/sha}}" for name in _URLS}
    repository |= {
        "owner": {**person, "id": 21031067, "type": "User", "site_admin": False},
        "topics": ["a", "b"],
        "license": None,
    }
    payload: dict[str, Any] = {"ref": "refs/heads/main", "before": "0" * 40, "after": after, "repository": repository}
    payload |= {"pusher": person, "sender": {"login": "ada", "id": 21031067}, "created": False, "forced": False, "commits": []}
    number = 0
    while len(data := json.dumps(payload, separators=(",", ":")).encode()) < BODY_BYTES - 700:
        number += 1
        commit = {"id": f"{number:040x}", "tree_id": after, "distinct": True, "message": f"Change part {number}\n\nFor a reason."}
        commit |= {"author": person, "committer": person, "added": [], "removed": [], "modified": [f"src/part{number}.py"]}
        payload["commits"].append(commit)
    return data[:-1] + b',"note":"' + b"x" * (BODY_BYTES - len(data) - 10) + b'"}'


@dataclass(frozen=True, slots=True)
class Options:
    """What is sent."""

    port: int
    path: str
    key: str
    prefix: str
    """What the ids of the deliveries begin with."""
    count: int
    connections: int = 64
    rate: float = 0.0
    """Deliveries a second; 0: as fast as they are answered."""
    acks: str = ""
    """File to write ``ID TIME`` of every accepted delivery to (`time.monotonic`)."""
    ends: bool = False
    """Whether the receiver is expected to die: a closed connection is then an end and no error."""


@dataclass(slots=True)
class Work:
    """What is to be sent, and what became of it."""

    options: Options
    requests: deque[tuple[str, bytes]]
    free: deque[_Connection] = field(default_factory=deque)
    """Taken in turns: none is idle for so long that the receiver closes it."""
    due: deque[tuple[float, str, bytes]] = field(default_factory=deque)
    open: int = 0
    closed: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    acked: list[tuple[str, float]] = field(default_factory=list)
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    def answered(self, connection: _Connection, status: str) -> None:
        now = time.monotonic()
        self.statuses[status] += 1
        self.latencies.append(now - connection.since)
        if status == "202":
            self.acked.append((connection.id, now))
            if len(self.acked) == 1 and self.options.ends:
                print("begun", flush=True)
        self.open -= 1
        if self.due:
            connection.send(*self.due.popleft())
        elif self.requests and not self.options.rate:
            self.open += 1
            connection.send(time.monotonic(), *self.requests.popleft())
        else:
            self.free.append(connection)
            if not self.open and not self.requests:
                self.finished.set()

    def lost(self) -> None:
        self.closed += 1
        if self.closed == self.options.connections:
            self.finished.set()


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, work: Work) -> None:
        self.work, self.id, self.since, self.buffer = work, "", 0.0, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def send(self, since: float, identity: str, data: bytes) -> None:
        self.since, self.id = since, identity
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.buffer.endswith(b"\r\n\r\n"):  # no answer has a body
            status, self.buffer = self.buffer[9:12].decode(), b""
            self.work.answered(self, status)

    def connection_lost(self, exc: Exception | None) -> None:
        self.work.lost()


def request(options: Options, number: int) -> tuple[str, bytes]:
    """Return the id and the bytes of a delivery."""
    identity = f"{options.prefix}-{number:06}"
    body = push(identity)
    proof = hmac.new(options.key.encode(), body, hashlib.sha256).hexdigest()
    head = (
        f"POST {options.path} HTTP/1.1\r\nHost: 127.0.0.1:{options.port}\r\nUser-Agent: GitHub-Hookshot/0000000\r\nAccept: */*\r\n"
        f"Content-Type: application/json\r\nX-GitHub-Delivery: {identity}\r\nX-GitHub-Event: push\r\nX-GitHub-Hook-ID: 2\r\n"
        f"X-GitHub-Hook-Installation-Target-ID: 1\r\nX-GitHub-Hook-Installation-Target-Type: repository\r\n"
        f"{SIGNATURE}: sha256={proof}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return identity, head.encode() + body


async def send(options: Options) -> dict[str, Any]:
    """Send all, return what became of it."""
    loop = asyncio.get_running_loop()
    work = Work(options, deque(request(options, number) for number in range(options.count)))
    wanted = [loop.create_connection(lambda: _Connection(work), "127.0.0.1", options.port) for _ in range(options.connections)]
    work.free = deque(protocol for _, protocol in await asyncio.gather(*wanted))
    began, cpu = time.monotonic(), time.process_time()
    if options.rate:
        await _paced(work, began)
    else:
        for _ in range(min(options.count, options.connections)):
            work.open += 1
            work.free.popleft().send(time.monotonic(), *work.requests.popleft())
    await work.finished.wait()
    ended = time.monotonic()
    if work.closed and not options.ends:
        raise RuntimeError(f"{work.closed} connections were closed by the receiver; answers so far: {dict(work.statuses)}")
    if options.acks:
        Path(options.acks).write_text("".join(f"{identity} {at!r}\n" for identity, at in work.acked))
    return {
        "began": began,
        "seconds": ended - began,
        "cpu": time.process_time() - cpu,
        "statuses": dict(work.statuses),
        "unanswered": work.open,
        **_quantiles(work.latencies),
    }


async def _paced(work: Work, began: float) -> None:
    """Send each delivery when it is due; one that finds no free connection waits, and its time runs."""
    for number in range(work.options.count):
        at = began + number / work.options.rate
        if (pause := at - time.monotonic()) > 0:
            await asyncio.sleep(pause)
        work.open += 1
        one = (at, *work.requests.popleft())
        if work.free:
            work.free.popleft().send(*one)
        else:
            work.due.append(one)


def _quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values) or [0.0]
    return {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] for name, share in SHARES.items()}


SHARES = {"p50": 0.5, "p99": 0.99, "max": 1.0}


if __name__ == "__main__":
    # select(2) waits for microseconds; epoll's whole milliseconds would be counted as the receiver's.
    with contextlib.closing(asyncio.SelectorEventLoop(selectors.SelectSelector())) as running:
        print(json.dumps(running.run_until_complete(send(Options(**json.loads(sys.argv[1]))))))
