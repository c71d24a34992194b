"""A daemon with something to see: what is broken, what waits for people, what ran, texts that would like to run; and people who log in."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from reconciler.model.reviews import ReviewState
from reconciler.sandbox.server import SandboxServer, simulator
from reconciler.sandbox.slack.app import CHANNEL, TOKEN
from reconciler.state.reviews import NEVER, StoredReview
from reconciler.state.store import Store
from tests.cli.staged import declare, payload, started, waiting
from tests.engine.world import World

PEOPLE = {"viewer": "canary-vera-1f6e", "operator": "canary-otto-92c1", "approver": "canary-ada-77d0"}
"""Tokens by role; they are named ``the-ROLE``."""
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}‮"
_FORM = re.compile(r'name="form" value="([0-9a-f]{64})"')


class Watched(World):
    """Its dashboard is at ``url``."""

    def begin(self, *, tokens: bool = True, path: str = "", **sections: str) -> None:
        """Declare stages, start the daemon, wait until it is ready."""
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.port = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        rows = ", ".join(
            f'{{name: the-{role}, sha256: "{hashlib.sha256(token.encode()).hexdigest()}", role: {role}}}'
            for role, token in PEOPLE.items()
        )
        known = f"tokens: [{rows}]" if tokens else ""
        self.configure(server=f'{{listen: "127.0.0.1:{self.port}", publicUrl: "{self.url}{path}", {known}}}', **sections)
        self.extra_env["RECONCILER_SECRET_BOT"] = TOKEN
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
        self.notify()
        self.review(
            7, title=HOSTILE, author="<i>mallory</i>", outcome="2 changes wait for an approval", conclusion="action_required"
        )

    def notify(self) -> None:
        """Let an incident begin: one Notification reports it to Slack, and one to a port that nobody listens on."""
        slack = self._stack.enter_context(SandboxServer(simulator("slack")))
        self.write(
            "absent.yaml",
            "kind: Secret\nmetadata: {name: absent}\nspec: {provider: env, data: {key: {env: RECONCILER_SECRET_NO}}}",
        )
        bot = "kind: Secret\nmetadata: {name: bot}\nspec: {provider: env, data: {token: {env: RECONCILER_SECRET_BOT}}}"
        sinks = {
            "team": f"slack: {{token: {{valueFrom: {{secret: {{name: bot, key: token}}}}}}, channel: {CHANNEL}, url: '{slack.url}/api'}}",
            "pager": "webhook: {url: 'http://127.0.0.1:9/hook'}",
        }
        rows = [f"kind: Notification\nmetadata: {{name: {name}}}\nspec: {{sink: {{{sink}}}}}" for name, sink in sinks.items()]
        self.write("notifications.yaml", "\n---\n".join([bot, *rows]))
        self.wait(lambda: (self.condition("Notification", "pager", "Delivering") or {}).get("status") == "False", "a failure", 60)

    def block(self, name: str) -> None:
        """Let a delete wait for an approval: that of a source that may not be destroyed."""
        self.servers["github"].admin.put_state({"repos": {f"acme/{name}": {}}})
        self.source(name, more="  lifecycle: {preventDestroy: true}\n")
        self.wait(lambda: (self.condition("EventSource", name) or {}).get("status") == "True", "the source", 60)
        self.remove(name)
        self.wait(lambda: any(plan["blocked"] for plan in self.status()["plans"]), "a blocked delete", 60)

    def rows(self) -> list[dict[str, Any]]:
        """Return the newest rows of the audit log, newest first."""
        return json.loads(self.cli("history", "-o", "json", "--limit", "200").stdout)["rows"]

    def review(self, number: int, *, head: str = "a1b2c3d4" * 5, **more: Any) -> None:
        """Store the review of a pull request, as the daemon does when it is complete."""
        store = Store.open(f"sqlite:///{self.folder / 'state' / 'state.db'}", state_dir=self.folder / "state", create=False)
        try:
            key = f"github/acme/one#{number}"
            state = ReviewState(
                "acme/one", number, head, "main", done_head=head, updated_at=time.time(), url=f"{self.url}/pull/{number}", **more
            )
            assert store.save_review(store.review(key) or StoredReview(key, 0, NEVER, state), state, NEVER)
        finally:
            store.close()

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
