"""A client of the simulated Buddy over real HTTP."""

from __future__ import annotations

from typing import Any

from reconciler.sandbox.buddy.app import TOKEN
from reconciler.sandbox.buddy.execution_shapes import ENDED
from reconciler.sandbox.server import SandboxServer
from tests.support.receiving import eventually
from tests.support.sandbox import SimulatorClient

WEB = "/workspaces/acme/projects/web/pipelines"
RUNS = f"{WEB}/21/executions"


class Hands(SimulatorClient):
    """A client of the pipeline ``deploy`` (21) of the project ``web``."""

    def __init__(self, server: SandboxServer, token: str = TOKEN) -> None:
        super().__init__(server, f"Bearer {token}")

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
        return eventually(lambda: (result := self.execution(number))["status"] in ENDED and result)

    def actions(self, number: int) -> list[dict[str, Any]]:
        """All actions of an execution, with what they said."""
        listed = self.execution(number)["action_executions"]
        return [self("GET", f"{RUNS}/{number}/action_executions/{row['action_execution_id']}") for row in listed]

    def hook(self, url: str, *events: str, projects: tuple[str, ...] = (), key: str = "k3y") -> int:
        body = {"target_url": url, "events": list(events), "projects": list(projects), "secret_key": key}
        return int(self("POST", "/workspaces/acme/webhooks", body, status=201)["id"])

    def hook_requests(self, number: int) -> list[dict[str, Any]]:
        return list(self("GET", f"/workspaces/acme/webhooks/{number}")["requests"])
