"""A real moto server for tests: AWS on loopback. It checks signatures' keys on demand only, and no trust policy at all."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

START_S = 30.0


@contextmanager
def moto(*, authenticate: bool = False) -> Iterator[str]:
    """Start a server, yield its URL when it answers, and stop it. With ``authenticate`` it refuses access keys that it did not make."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | ({"INITIAL_NO_AUTH_ACTION_COUNT": "0"} if authenticate else {})
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_S
        while True:
            assert process.poll() is None, "moto ended at its start"
            assert time.monotonic() < deadline, "moto did not start"
            try:
                if httpx.get(f"{url}/moto-api/data.json", timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(10)
