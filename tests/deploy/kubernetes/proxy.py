"""An HTTP proxy with a login that only knows the hosts of a world."""

from __future__ import annotations

import base64
import socket
import threading
from types import TracebackType

from tests.deploy.kubernetes.world import World

_LOGIN_REQUIRED = (
    b"HTTP/1.1 407 Proxy Authentication Required\r\n"
    b'proxy-authenticate: Basic realm="proxy"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n'
)


class ConnectProxy:
    """Answers CONNECT on loopback; every tunnel ends at the TLS of a host of ``world``."""

    def __init__(self, world: World, login: str) -> None:
        self._world = world
        self._login = "basic " + base64.b64encode(login.encode()).decode()
        self.hosts: set[str] = set()
        """Hosts to which a tunnel was opened."""

    def __enter__(self) -> ConnectProxy:
        self._listeners = [socket.create_server(("127.0.0.1", 0)) for _ in self._world.routes]
        self._serving = self._world.serving([listener.dup() for listener in self._listeners])
        self._serving.__enter__()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._serving.__exit__(kind, error, trace)
        self._server.shutdown(socket.SHUT_RDWR)
        for listener in (*self._listeners, self._server):
            listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._tunnel, args=(client,), daemon=True).start()

    def _tunnel(self, client: socket.socket) -> None:
        with client:
            head = b""
            while b"\r\n\r\n" not in head and (data := client.recv(4096)):
                head += data
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            if headers.get("proxy-authorization", "").lower().split() != self._login.lower().split():
                client.sendall(_LOGIN_REQUIRED)
                return
            host, _, port = first.split()[1].rpartition(":")
            target = {(route.host, route.port): item for route, item in zip(self._world.routes, self._listeners, strict=True)}
            if first.split()[0] != "CONNECT" or (host, int(port)) not in target:
                client.sendall(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
                return
            self.hosts.add(host)
            with socket.create_connection(target[host, int(port)].getsockname()) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                _pump(client, server)
                back.join(10)


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return
