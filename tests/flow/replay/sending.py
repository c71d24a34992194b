"""Who sends in a replay, and who is sent to: senders that insist, daemons that are killed, a balancer before several."""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import hashlib
import hmac
import http.client
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from tests.flow.replay.inputs import OWN, SHOP, STD, WEB, Schedule, Shot
from tests.flow.stage_world import StageWorld, signed
from tests.flow.test_several_processes import Peer, first_up

SENDERS = 12
ANSWER_S = 5.0


class Site(Protocol):
    """Who is sent to."""

    strict: bool
    """Whether there is one process only, so that order holds to the last."""
    url: str
    kills: int

    def disturb(self, dice: random.Random) -> None:
        """Kill a process and start it again, or let it stand still for a while."""

    def rss(self) -> int:
        """Return the resident set of the largest process (bytes)."""

    def well(self) -> bool:
        """Whether all are alive and ready."""

    def log(self) -> str:
        """Return what was logged."""

    def close(self) -> None:
        """End all as an operator does."""


class Senders:
    """Send the shots of a schedule at their times, each again until it is answered as it must be."""

    def __init__(self, world: StageWorld, schedule: Schedule, *, limit_s: float) -> None:
        self._world, self._limit_s = world, limit_s
        self._keys = {name: world.place(name) for name in (WEB, SHOP, OWN, STD)}
        self._lock = threading.Lock()
        self._left = iter(schedule.shots)
        self._pool = concurrent.futures.ThreadPoolExecutor(SENDERS, thread_name_prefix="sender")
        self._began = time.monotonic()
        self.stop = threading.Event()
        self.answers: Counter[int] = Counter()
        self._work = [self._pool.submit(self._run) for _ in range(SENDERS)]

    def sending(self) -> bool:
        """Whether anything is left; raises what went wrong in a sender."""
        for one in self._work:
            if one.done():
                one.result()
        return not all(one.done() for one in self._work)

    def close(self) -> None:
        self.stop.set()
        self._pool.shutdown(wait=True)

    def _run(self) -> None:
        while not self.stop.is_set():
            with self._lock:
                shot = next(self._left, None)
            if shot is None:
                return
            self.stop.wait(max(0.0, self._began + shot.at - time.monotonic()))
            self._drop(shot) if shot.dropped else self._until_answered(shot)
            shot.done.set()

    def _drop(self, shot: Shot) -> None:
        github = self._world.github
        with self._lock:
            github.settings(drop_deliveries=1.0)
            github.do("emit", repository=f"acme/{shot.source}", event=shot.event, payload=shot.payload)
            github.settings(drop_deliveries=0.0)

    def _until_answered(self, shot: Shot) -> None:
        deadline = time.monotonic() + self._limit_s
        while shot.after is not None and not shot.after.done.wait(0.5):
            if self.stop.is_set():
                return
        while not self.stop.is_set():
            status = self._post(shot)
            self.answers[status] += 1
            if status == shot.answer:
                return
            assert status in (0, 401, 503), f"{shot.source} {shot.guid} {shot.forgery}: {status} instead of {shot.answer}"
            assert time.monotonic() < deadline, f"{shot.source} {shot.guid} was never answered with {shot.answer}, last {status}"
            self.stop.wait(random.uniform(0.1, 0.5))

    def _post(self, shot: Shot) -> int:
        path, key, standard = self._keys[shot.source]
        body = shot.body
        if shot.form and shot.source in (WEB, SHOP):
            body = b"payload=" + quote(body, safe="").encode()
        headers = proved(shot, body, key, standard)
        connection = http.client.HTTPConnection("127.0.0.1", self._world.port, timeout=ANSWER_S)
        try:
            connection.request("POST", path, body=body, headers=headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()


def proved(shot: Shot, body: bytes, key: str, standard: str) -> dict[str, str]:
    """Return the headers of a delivery, with the proof that its sender has, or with none that counts."""
    if shot.source == STD:
        moment, raw = str(int(time.time())), base64.b64decode(standard.removeprefix("whsec_"))
        proof = hmac.new(raw, f"{shot.guid}.{moment}.".encode() + body, hashlib.sha256).digest()
        if shot.forgery:
            proof = proof[::-1]
        return {
            "webhook-id": shot.guid,
            "webhook-timestamp": moment,
            "webhook-signature": f"v1,{base64.b64encode(proof).decode()}",
        }
    if shot.source == OWN:
        name, headers = "x-signature-256", {"x-request-id": shot.guid}
    else:
        name, headers = "x-hub-signature-256", {"x-github-event": shot.event, "x-github-delivery": shot.guid}
    good = signed(key, body, name)
    wrong: Mapping[str, Mapping[str, str]] = {
        "": good,
        "no signature": {},
        "another key": signed(key[::-1], body, name),
        "another body": signed(key, body + b" ", name),
        "sha1": {name: "sha1=" + hmac.new(key.encode(), body, hashlib.sha1).hexdigest()},
        "cut": {name: good[name][:-1]},
        "odd": {name: "sha256=\xe9"},
    }
    return headers | dict(wrong[shot.forgery])


class Alone:
    """One daemon on SQLite, that is killed."""

    strict = True

    def __init__(self, world: StageWorld) -> None:
        self.world = world
        self.kills = 0
        self.url = f"sqlite:///{world.folder / 'state' / 'state.db'}"
        world.ready()

    def disturb(self, dice: random.Random) -> None:
        self.world.kill()
        self.kills += 1
        time.sleep(dice.choice((0.0, 0.0, dice.uniform(0, 2))))
        self.world.daemon()

    def rss(self) -> int:
        return _rss(self.world.processes[-1].pid)

    def well(self) -> bool:
        return get(self.world.port, "/healthz") == get(self.world.port, "/readyz") == 200 and self.world.all_ready()

    def log(self) -> str:
        return self.world.log()

    def close(self) -> None:
        self.world.stop()


class Three:
    """Three processes on one PostgreSQL behind a balancer; one at a time is killed, or stands still for a while."""

    strict = False

    def __init__(self, world: StageWorld, url: str) -> None:
        self.world, self.url = world, url
        self.peers = [Peer(world, number, url) for number in range(3)]
        self.balancer = Balancer(world.port, [peer.port for peer in self.peers])
        self.kills = 0
        first_up(world, self.peers)

    def disturb(self, dice: random.Random) -> None:
        peer = dice.choice(self.peers)
        assert peer.process is not None
        self.kills += 1
        if dice.random() < 0.5:
            peer.process.kill()
            peer.process.wait()
            peer.start()
            return
        peer.process.send_signal(signal.SIGSTOP)
        time.sleep(dice.uniform(0.5, 9) if dice.random() < 0.85 else dice.uniform(11, 15))  # longer than any lock is kept
        peer.process.send_signal(signal.SIGCONT)

    def rss(self) -> int:
        return max(_rss(peer.process.pid) for peer in self.peers if peer.process is not None)

    def well(self) -> bool:
        return all(get(peer.port, path) == 200 for peer in self.peers for path in ("/healthz", "/readyz"))

    def log(self) -> str:
        return "".join(peer.log() for peer in self.peers)

    def close(self) -> None:
        for peer in self.peers:
            assert peer.process is not None
            peer.process.terminate()
        for peer in self.peers:
            assert peer.process is not None
            assert peer.process.wait(timeout=60) == 0
        self.balancer.close()


class Balancer:
    """Hands each connection to one of several ports; to another where nobody listens."""

    def __init__(self, port: int, targets: Sequence[int]) -> None:
        self._targets = list(targets)
        self._server = socket.create_server(("127.0.0.1", port), backlog=256)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)  # ends the accept
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            for port in random.sample(self._targets, len(self._targets)):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2) as server:
                    server.settimeout(None)
                    back = threading.Thread(target=_pump, args=(server, client), daemon=True)
                    back.start()
                    _pump(client, server)
                    back.join()
                    return


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


def get(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def _rss(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) << 10
    return 0
