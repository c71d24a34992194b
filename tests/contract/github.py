"""GitHub in the contract suite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.drivers.registry import DRIVERS
from reconciler.model.executions import Run
from reconciler.sandbox.app import Simulator
from reconciler.sandbox.github.app import TOKEN, GitHub
from reconciler.sandbox.server import SandboxServer
from tests.contract.provider import LINES, Provider
from tests.support.driving import resource

KEY = "reconciler_execution_id"
WORKFLOW: Mapping[str, Any] = {
    "id": 7,
    "name": "Deploy",
    "path": ".github/workflows/deploy.yml",
    "on": {"workflow_dispatch": {"inputs": {KEY: {}}}},
    "run_name": f"Deploy ${{{{ inputs.{KEY} }}}}",
    "logs": list(LINES),
}
SPEC = {"integration": {"name": "github"}, "events": [{"type": "push"}], "resource": {"type": "repository", "name": "payments"}}


class GitHubProvider(Provider):
    driver = DRIVERS["github"]
    token, url = TOKEN, "https://github.com/acme"
    source = resource("EventSource", "pushes", SPEC)
    managed = {
        "github/repository-webhook": source,
        "github/organization-webhook": resource(
            "EventSource", "all", {**SPEC, "resource": {"type": "organization", "name": "acme"}}
        ),
    }
    changes = {name: {"events": [{"type": "deployment"}, {"type": "push"}]} for name in managed}
    empty: list[object] = []
    executors = {"github": {"resource": "web", "spec": {"workflow": "deploy.yml", "ref": "main"}}}
    receivers = {"github": driver.receiver} if driver.receiver is not None else {}
    read_only = {"kind": "fine", "permissions": dict.fromkeys(("webhooks", "organization_hooks", "actions", "contents"), "read")}
    rights = {
        "github/repository-webhook": "repository_hooks: write",
        "github/organization-webhook": "organization_hooks: write",
        "github": "actions: write",
    }
    limits = {"rate_limits": True, "primary_per_hour": 1}
    lacks = {
        "check": "only a classic token shows what it may do",
        "rename:github/organization-webhook": "the former name of an organization answers 404",
    }

    def simulator(self) -> Simulator:
        return GitHub()

    def prepare(self, server: SandboxServer) -> None:
        server.admin.put_state({"workflows": {"acme/web": [WORKFLOW]}})

    def renamed(self, server: SandboxServer, key: str) -> str:
        server.admin.do("rename", **{"from": key, "to": f"{key}-2"})
        return f"{key}-2"

    def hide(self, server: SandboxServer, type_name: str) -> None:
        if type_name == "github/organization-webhook":
            server.admin.do("rename_organization", **{"from": "acme", "to": "former"})
        else:
            server.admin.do("delete_repository", repository="acme/payments")

    def runs(self, server: SandboxServer) -> int:
        return sum(len(rows) for rows in server.admin.state()["runs"].values())

    def fail(self, server: SandboxServer) -> None:
        server.admin.put_state({"workflows": {"acme/web": [{**WORKFLOW, "result": "failure"}]}})

    def lose(self, server: SandboxServer, run: Run) -> None:
        server.admin.do("lose_run", repo="acme/web", run_id=int(run.external_id))

    def happen(self, server: SandboxServer) -> None:
        server.admin.do("push", repo="acme/payments", ref="main")
