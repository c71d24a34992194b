"""Semaphore in the contract suite."""

from __future__ import annotations

from reconciler.drivers.registry import DRIVERS
from reconciler.model.executions import Run
from reconciler.sandbox.app import Simulator
from reconciler.sandbox.semaphore.app import TOKEN, Semaphore
from reconciler.sandbox.server import SandboxServer
from tests.contract.provider import LINES, Provider
from tests.support.driving import resource

SPEC = {"integration": {"name": "semaphore"}, "resource": {"type": "project", "name": "payments"}}
VIEW = ["organization.notifications.view", "organization.secrets.view", "organization.projects.view", "project.view"]


class SemaphoreProvider(Provider):
    driver = DRIVERS["semaphore"]
    token, url = TOKEN, "https://acme.semaphoreci.com"
    source = resource("EventSource", "pipelines", SPEC)
    managed = {"semaphore/notification": source, "semaphore/secret": source}
    changes = {"semaphore/notification": {"resource": {"type": "project", "name": "web"}}}
    executors = {"semaphore": {"resource": "web", "spec": {"ref": "refs/heads/main"}}}
    receivers = {"semaphore": driver.receiver} if driver.receiver is not None else {}
    read_only = {"permissions": VIEW}
    rights = {
        "semaphore/notification": "organization.notifications.manage",
        "semaphore/secret": "organization.secrets.manage",
        "semaphore": "lacks the permission",  # a 404 like that of a project that is not there
    }
    lacks = {
        "update:semaphore/secret": "most organizations refuse to change a secret: a new key is a new secret",
        "secret:semaphore/notification": "it names a secret, and holds none",
        "check": "nothing tells what a token may change",
        "conditional": "no list of Semaphore has a validator",
        "rename": "an organization has no id that a call shows",
        "limits": "Semaphore publishes no limit",
        "reporter": "Semaphore is no code host",
    }

    def simulator(self) -> Simulator:
        return Semaphore()

    def prepare(self, server: SandboxServer) -> None:
        server.admin.put_state({"behaviour": {"web": {"logs": list(LINES)}}})

    def hide(self, server: SandboxServer, type_name: str) -> None:
        server.admin.settings(organization_found=False)

    def runs(self, server: SandboxServer) -> int:
        return len(server.admin.state()["workflows"])

    def fail(self, server: SandboxServer) -> None:
        server.admin.settings(run_result="failed")

    def lose(self, server: SandboxServer, run: Run) -> None:
        server.admin.do("lose_workflow", workflow_id=run.external_id)

    def happen(self, server: SandboxServer) -> None:
        server.admin.settings(run_duration_s=0)
        server.admin.do("run_pipeline", project="payments")
