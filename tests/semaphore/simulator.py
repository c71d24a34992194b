"""A client of the simulated Semaphore over real HTTP."""

from __future__ import annotations

from typing import Any

from reconciler.sandbox.semaphore.app import TOKEN
from reconciler.sandbox.semaphore.shapes import project_id
from reconciler.sandbox.server import SandboxServer
from tests.support.receiving import eventually
from tests.support.sandbox import SimulatorClient

ROOT = "/api/v1alpha"
WEB = project_id("web")


class Hands(SimulatorClient):
    """A client of the project ``web``."""

    def __init__(self, server: SandboxServer, authorization: str = f"Token {TOKEN}", root: str = ROOT) -> None:
        super().__init__(server, authorization, root)

    def run(self, **more: Any) -> tuple[str, str]:
        """Run a workflow of ``web``; returns the ids of it and of its pipeline."""
        started = self("POST", "/plumber-workflows", {"project_id": WEB, "reference": "refs/heads/main", **more})
        return started["workflow_id"], started["pipeline_id"]

    def pipeline(self, key: str) -> dict[str, Any]:
        return dict(self("GET", f"/pipelines/{key}")["pipeline"])

    def done(self, key: str) -> dict[str, Any]:
        """Wait for a pipeline."""
        return eventually(lambda: (result := self.pipeline(key))["state"] == "done" and result)

    def delivered(self, count: int) -> list[dict[str, Any]]:
        """Wait until ``count`` deliveries have come to their end."""
        return eventually(lambda: len(rows := self.settled()) >= count and rows)

    def settled(self) -> list[dict[str, Any]]:
        return [row for row in self.admin.state()["deliveries"] if row["outcome"] != "sending"]


def behave(server: SandboxServer, **behaviour: Any) -> None:
    server.admin.put_state({"behaviour": {"web": behaviour}})
