"""Hands for the tests of the simulators: requests over real HTTP."""

from __future__ import annotations

from typing import Any

import httpx

from reconciler.sandbox.semaphore.app import TOKEN
from reconciler.sandbox.semaphore.shapes import project_id
from reconciler.sandbox.server import SandboxServer
from tests.support.receiving import eventually

ROOT = "/api/v1alpha"
WEB = project_id("web")


class Hands:
    """A client that keeps its last answer; answers are JSON, whatever they say of themselves."""

    def __init__(self, server: SandboxServer, authorization: str = f"Token {TOKEN}", root: str = ROOT) -> None:
        self.server, self.admin = server, server.admin
        self.http = httpx.Client(base_url=server.url + root, trust_env=False, headers={"authorization": authorization})
        self.last: httpx.Response

    def __call__(self, method: str, path: str, body: Any = None, *, status: int = 200, **options: Any) -> Any:
        self.last = self.http.request(method, path, json=body, **options)
        assert self.last.status_code == status, (self.last.status_code, self.last.text)
        try:
            return self.last.json()
        except ValueError:
            return self.last.text

    def run(self, **more: Any) -> tuple[str, str]:
        """Run a workflow of ``web``; returns the ids of it and of its pipeline."""
        made = self("POST", "/plumber-workflows", {"project_id": WEB, "reference": "refs/heads/main", **more})
        return made["workflow_id"], made["pipeline_id"]

    def pipeline(self, key: str) -> dict[str, Any]:
        return dict(self("GET", f"/pipelines/{key}")["pipeline"])

    def done(self, key: str) -> dict[str, Any]:
        """Wait for a pipeline."""
        return eventually(lambda: (found := self.pipeline(key))["state"] == "done" and found)

    def delivered(self, count: int) -> list[dict[str, Any]]:
        """Wait until ``count`` deliveries have come to their end."""
        return eventually(lambda: len(rows := self.settled()) >= count and rows)

    def settled(self) -> list[dict[str, Any]]:
        return [one for one in self.admin.state()["deliveries"] if one["outcome"] != "sending"]


def behave(server: SandboxServer, **behaviour: Any) -> None:
    server.admin.put_state({"behaviour": {"web": behaviour}})
