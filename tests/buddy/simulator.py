"""Hands for the tests of the simulated Buddy: requests over real HTTP."""

from __future__ import annotations

from typing import Any

import httpx

from reconciler.sandbox.buddy.app import TOKEN
from reconciler.sandbox.server import SandboxServer
from tests.support.receiving import eventually

ENDED = ("SUCCESSFUL", "FAILED", "TERMINATED", "SKIPPED", "NOT_EXECUTED")
WEB = "/workspaces/acme/projects/web/pipelines"
RUNS = f"{WEB}/21/executions"


class Hands:
    """A client of the pipeline ``deploy`` (21) of the project ``web``."""

    def __init__(self, server: SandboxServer, token: str = TOKEN) -> None:
        self.server, self.admin = server, server.admin
        self.http = httpx.Client(base_url=server.url, trust_env=False, headers={"authorization": f"Bearer {token}"})

    def __call__(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        answer = self.http.request(method, path, json=body)
        assert answer.status_code == status, (answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def behave(self, **behaviour: Any) -> None:
        self.admin.do("set_behaviour", project="web", pipeline="deploy", **behaviour)

    def run(self, **body: Any) -> int:
        return int(self("POST", RUNS, {"to_revision": {"revision": "HEAD"}, **body}, status=201)["id"])

    def execution(self, number: int) -> dict[str, Any]:
        return dict(self("GET", f"{RUNS}/{number}"))

    def status(self, number: int) -> str:
        return str(self.execution(number)["status"])

    def operate(self, number: int, operation: str, *, status: int = 200, **more: Any) -> Any:
        return self("PATCH", f"{RUNS}/{number}", {"operation": operation, **more}, status=status)

    def ended(self, number: int) -> dict[str, Any]:
        """Wait for an execution."""
        return eventually(lambda: (found := self.execution(number))["status"] in ENDED and found)

    def actions(self, number: int) -> list[dict[str, Any]]:
        """All actions of an execution, with what they said."""
        listed = self.execution(number)["action_executions"]
        return [self("GET", f"{RUNS}/{number}/action_executions/{one['action_execution_id']}") for one in listed]

    def hook(self, url: str, *events: str, projects: tuple[str, ...] = (), key: str = "k3y") -> int:
        body = {"target_url": url, "events": list(events), "projects": list(projects), "secret_key": key}
        return int(self("POST", "/workspaces/acme/webhooks", body, status=201)["id"])

    def hook_requests(self, number: int) -> list[dict[str, Any]]:
        return list(self("GET", f"/workspaces/acme/webhooks/{number}")["requests"])
