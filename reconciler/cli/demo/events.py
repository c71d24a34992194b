"""What goes through the demo's world: pushes and deliveries at GitHub, runs there and at Semaphore, and what the daemon says of them."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from reconciler.cli.demo.world import DemoWorld
from reconciler.model.errors import ReconcilerError
from reconciler.server.admin import call

REPO = "acme/web"
BRANCH = "refs/heads/main"
ANSWER_S = 60.0


class Traffic:
    """Hands and eyes for events and stages."""

    def __init__(self, world: DemoWorld) -> None:
        self._world = world
        self._github = world.providers["github"].admin
        self._semaphore = world.providers["semaphore"].admin

    # -- GitHub -----------------------------------------------------------------------------------------------------

    def push(self, *, lost: bool = False) -> str:
        """Push to ``acme/web`` as somebody does, and let its delivery be lost if asked to; returns the commit."""
        self._github.settings(drop_deliveries=["push"] if lost else 0)
        try:
            return str(self._github.do("push", repo=REPO, ref=BRANCH)["sha"])
        finally:
            self._github.settings(drop_deliveries=0)

    def deliveries(self, sha: str) -> list[dict[str, Any]]:
        """Return what GitHub lists as sent about a pushed commit, oldest first, without what is still on its way."""
        rows = [row for rows in self._github.state()["deliveries"].values() for row in rows]
        mine = [row for row in rows if row["event"] == "push" and row["request"]["payload"].get("after") == sha]
        return sorted((row for row in mine if row["status_code"]), key=lambda row: int(row["id"]))

    def deliver(self, delivery: Mapping[str, Any], **headers: str) -> int:
        """Send the bytes of a delivery once more, with other headers where given; returns the status of the answer."""
        target = urlsplit(delivery["url"])
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=ANSWER_S)
        try:
            body = orjson.dumps(delivery["request"]["payload"])
            whole = {**delivery["request"]["headers"], **headers}
            connection.request("POST", f"{target.path}?{target.query}", body=body, headers=whole)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    def redeliver_by_hand(self, delivery: Mapping[str, Any]) -> None:
        """Press "Redeliver" at GitHub."""
        hook = self._world.hooks("web")[0]["id"]
        self._world.github("POST", f"/repos/{REPO}/hooks/{hook}/deliveries/{delivery['id']}/attempts")

    def workflow_runs(self) -> list[dict[str, Any]]:
        """Return the runs of GitHub's workflows."""
        return self._of_repo("runs")

    def deployments(self) -> list[list[str]]:
        """Return the statuses of each GitHub Deployment, in the order in which they were written."""
        return [[status["state"] for status in one["statuses"]] for one in self._of_repo("deployments")]

    def commit_statuses(self, sha: str) -> list[str]:
        """Return the statuses of a commit, in the order in which they were written."""
        return [one["state"] for one in self._of_repo("commit_statuses") if one["sha"] == sha]

    def _of_repo(self, what: str) -> list[dict[str, Any]]:
        state = self._github.state()
        return list(state[what].get(str(state["repos"][REPO]["id"]), []))

    # -- Semaphore --------------------------------------------------------------------------------------------------

    def pipelines(self) -> list[dict[str, Any]]:
        """Return what was ever started at Semaphore."""
        return list(self._semaphore.state()["pipelines"])

    def finish(self, pipeline: Mapping[str, Any]) -> None:
        """Let a pipeline pass."""
        self._semaphore.do("finish_pipeline", pipeline_id=pipeline["ppl_id"])

    # -- the daemon -------------------------------------------------------------------------------------------------

    def ask(self, verb: str, **more: Any) -> dict[str, Any]:
        """Ask the daemon over its admin socket."""
        return dict(call(self._world.folder / "state", {"verb": verb, **more}, timeout_s=ANSWER_S))

    def events(self, delivery: str) -> list[dict[str, Any]]:
        """Return the events that came in under a delivery id of GitHub's."""
        return [one for one in self.ask("events", limit=1000)["events"] if one["deliveryId"] == delivery]

    def waiting(self, stage: str) -> dict[str, Any] | None:
        """Return what waits at a stage, once its conditions were looked at."""
        return next(
            (one for one in self.ask("executions", stage=stage, state="queued")["queued"] if one["reason"] != "queued"), None
        )

    def execution(self, item: str) -> dict[str, Any] | None:
        """Return the newest execution of an item; None while there is none, and while no daemon answers."""
        try:
            found = self.ask("execution", id=item)["executions"]
        except ReconcilerError:
            return None
        return dict(found[-1]) if found else None

    def executions(self, stage: str) -> list[dict[str, Any]]:
        """Return the executions of a stage, oldest first."""
        return list(reversed(self.ask("executions", stage=stage, limit=1000)["executions"]))
