"""A proxy between browser and daemon that cuts connections in the middle of what the daemon sends."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self


class CuttingProxy:
    """Forwards bytes. A connection whose answer contains ``cut_at`` ends right after it; that happens once for each value."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cut_at = b""
        self.cuts = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # ends the accept
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                browser, _ = self._listener.accept()
                daemon = socket.create_connection(("127.0.0.1", self._port))
                for target, arguments in ((self._forward, (browser, daemon)), (self._answer, (daemon, browser))):
                    threading.Thread(target=target, args=arguments, daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        _close(source, sink)

    def _answer(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                head, found, _ = data.partition(self.cut_at) if self.cut_at else (data, b"", b"")
                sink.sendall(head + found)
                if found:
                    self.cut_at = b""
                    self.cuts += 1
                    break
        _close(source, sink)


def _close(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
