"""A daemon with something to see: what is broken, what waits for people, what ran, texts that would like to run; and people who log in."""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.cli.staged import declare, payload, started, waiting
from tests.engine.world import World

PEOPLE = {"viewer": "canary-vera-1f6e", "operator": "canary-otto-92c1", "approver": "canary-ada-77d0"}
"""Tokens by role; they are named ``the-ROLE``."""
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}‮"
_FORM = re.compile(r'name="form" value="([0-9a-f]{64})"')


class Watched(World):
    """Its dashboard is at ``url``."""

    def begin(self, *, tokens: bool = True, path: str = "") -> None:
        """Declare stages, start the daemon, wait until it is ready."""
        with socket.create_server(("127.0.0.1", 0)) as sock:
            port = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        rows = ", ".join(
            f'{{name: the-{role}, sha256: "{hashlib.sha256(token.encode()).hexdigest()}", role: {role}}}'
            for role, token in PEOPLE.items()
        )
        known = f"tokens: [{rows}]" if tokens else ""
        self.configure(server=f'{{listen: "127.0.0.1:{port}", publicUrl: "{self.url}{path}", {known}}}')
        self.repos("one", "two")
        self.source("one")
        self.source("two")
        declare(self, workflow=True)
        started(self)

    def fill(self) -> None:
        """Let something happen: a run with a log, a run that waits, hostile texts, a stalled source, blocked deletes."""
        for target in ("quick", "deploy"):
            self.cli("trigger", "hand", "--payload", payload(target))
        made = {"source": "hand", "type": HOSTILE[:60], "payload": {"for": "quick", "version": HOSTILE}}
        headers = {"authorization": f"Bearer {PEOPLE['operator']}"}
        answer = httpx.post(f"{self.url}/api/v1/events", json=made, headers=headers, timeout=30, trust_env=False)
        assert answer.status_code == 202, answer.text
        self.item = waiting(self)
        done = self.cli("suspend", "EventSource/two", "--reason", HOSTILE)
        assert done.returncode == 0, done.stderr

    @contextmanager
    def browser_of(self, role: str = "") -> Iterator[httpx.Client]:
        """A client that is logged in with ``role``, as a browser would be."""
        with httpx.Client(base_url=self.url, timeout=30, trust_env=False) as client:
            if role:
                answer = client.post("/login", data={"form": form_of(client.get("/login").text), "token": PEOPLE[role]})
                assert answer.status_code == 303, answer.text
            yield client

    def api_of(self, path: str) -> Any:
        """Ask the API as a viewer."""
        headers = {"authorization": f"Bearer {PEOPLE['viewer']}"}
        return httpx.get(f"{self.url}/api/v1{path}", headers=headers, timeout=30, trust_env=False).json()

    def act(self, client: httpx.Client, action: str, place: str = "/", **fields: str) -> httpx.Response:
        """Send a form as the page ``place`` has it."""
        token = form_of(client.get(place).text)
        return client.post(f"/actions/{action}", data={"form": token, "back": place, **fields})


def form_of(page: str) -> str:
    """Return the form token of a page."""
    match = _FORM.search(page)
    assert match is not None, page[:2_000]
    return match[1]


def many(folder: Path, number: int) -> None:
    """Write so many sources into one file."""
    rows = [f"kind: EventSource\nmetadata: {{name: source-{n:04}}}\nspec: {{type: manual}}" for n in range(number)]
    (folder / "many.yaml").write_text("\n---\n".join(rows))
