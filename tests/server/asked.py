"""A running daemon with tokens of every role, and a client for its API."""

from __future__ import annotations

import hashlib
import socket
from typing import Any

import httpx

from tests.cli.staged import declare, started
from tests.engine.world import World

TOKENS = {"viewer": "canary-viewer-1f6e", "operator": "canary-operator-92c1", "approver": "canary-approver-77d0"}


class Asked(World):
    """Its daemon listens on ``url``; tokens are named ``the-ROLE``."""

    def begin(self) -> None:
        """Declare stages, start the daemon, wait until it is ready."""
        with socket.create_server(("127.0.0.1", 0)) as sock:
            port = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        rows = ", ".join(
            f'{{name: the-{role}, sha256: "{hashlib.sha256(token.encode()).hexdigest()}", role: {role}}}'
            for role, token in TOKENS.items()
        )
        self.configure(
            server=f'{{listen: "127.0.0.1:{port}", publicUrl: "https://hooks.example", tokens: [{rows}]}}',
        )
        self.repos("one", "two")
        self.source("one")
        declare(self, workflow=True)
        started(self)

    def client(self, role: str = "") -> httpx.Client:
        headers = {"authorization": f"Bearer {TOKENS[role]}"} if role else {}
        return httpx.Client(base_url=self.url + "/api/v1", headers=headers, timeout=30, trust_env=False)

    def api(self, role: str, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask once."""
        with self.client(role) as client:
            return client.request(method, path, **options)

    def item(self, target: str, **wanted: str) -> dict[str, Any]:
        """Trigger ``target`` and return its item as soon as its fields are ``wanted``."""
        body = {"source": "hand", "payload": {"for": target, "version": "1.2.3"}}
        event = self.api("operator", "POST", "/events", json=body).json()["event"]

        def found() -> dict[str, Any] | None:
            rows = self.api("viewer", "GET", f"/events/{event}").json()["items"]
            return next((one for one in rows if all(one[name] == value for name, value in wanted.items())), None)

        return self.wait(found, f"an item of {target} with {wanted}")
