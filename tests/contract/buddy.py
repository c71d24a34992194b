"""Buddy in the contract suite."""

from __future__ import annotations

from reconciler.drivers.registry import DRIVERS
from reconciler.model.executions import Run
from reconciler.sandbox.app import Simulator
from reconciler.sandbox.buddy.app import SCOPES, TOKEN, Buddy
from reconciler.sandbox.server import SandboxServer
from tests.contract.provider import LINES, Provider, without_key
from tests.support.driving import resource

SPEC = {
    "integration": {"name": "buddy"},
    "resource": {"type": "project", "name": "web"},
    "events": [{"type": "EXECUTION_FINISHED"}],
}
TOKEN_REF = {"valueFrom": {"secret": {"name": "credentials", "key": "token"}}}
INTEGRATION = {"integration": {"name": "buddy"}, "workspace": "acme", "type": "GIT_HUB", "name": "Code", "token": TOKEN_REF}


class BuddyProvider(Provider):
    driver = DRIVERS["buddy"]
    token, url = TOKEN, "https://app.buddy.works/acme"
    source = resource("EventSource", "runs", SPEC)
    managed = {
        "buddy/webhook": source,
        "buddy/integration": resource("BuddyIntegration", "code", INTEGRATION, secrets=["credentials"]),
    }
    changes = {"buddy/webhook": {"events": [{"type": "PUSH"}]}, "buddy/integration": {"name": "Source"}}
    executors = {"buddy": {"resource": "deploy", "spec": {"workspace": "acme", "project": "web"}}}
    receivers = {"buddy": driver.receiver} if driver.receiver is not None else {}
    told_once = ("current_date",)
    read_only = {"scopes": [scope for scope in SCOPES if not scope.endswith(("_ADD", "_MANAGE", "_RUN"))]}
    rights = {"buddy/webhook": "WEBHOOK_ADD", "buddy/integration": "INTEGRATION_ADD", "buddy": "EXECUTION_RUN"}
    limits = {"rate_limits": True, "requests_per_minute": 1}
    lacks = {
        "pages": "Buddy answers webhooks and integrations as whole lists",
        "conditional": "no list of Buddy has a validator",
        "unique:buddy/webhook": "Buddy takes any number of webhooks with one target",
        "redirect": "the former domain of a workspace answers 404",
        "reporter": "Buddy is no code host",
    }

    def simulator(self) -> Simulator:
        return Buddy()

    def prepare(self, server: SandboxServer) -> None:
        server.admin.do("set_behaviour", project="web", pipeline="deploy", logs=list(LINES))

    def renamed(self, server: SandboxServer, key: str) -> str:
        server.admin.do("rename_workspace", **{"from": key, "to": f"{key}-2"})
        return f"{key}-2"

    def hide(self, server: SandboxServer, type_name: str) -> None:
        self.renamed(server, "acme")

    def runs(self, server: SandboxServer) -> int:
        return len(server.admin.state()["workspaces"]["acme"]["executions"])

    def fail(self, server: SandboxServer) -> None:
        server.admin.settings(run_result="FAILED")

    def lose(self, server: SandboxServer, run: Run) -> None:
        server.admin.do("lose_execution", execution_id=int(run.external_id))

    def happen(self, server: SandboxServer) -> None:
        server.admin.settings(run_duration_s=0)
        server.admin.do("run_pipeline", project="web", pipeline="deploy")

    def altered(self, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        return headers, body.replace(b'"secret_key":"', b'"secret_key":"x')

    def unproved(self, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        return headers, without_key(body, "secret_key")
