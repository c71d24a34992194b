"""The events of the demo: pushes and deliveries at GitHub, runs there and at Semaphore, and what the daemon reports about them."""

from __future__ import annotations

import http.client
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
import orjson

from reconciler.cli.daemon_client import answer_of
from reconciler.cli.demo.shapes import GitHubRows, ListedDelivery, SemaphoreRows, StoredPipeline
from reconciler.cli.demo.world import DemoWorld
from reconciler.model.errors import ReconcilerError
from reconciler.model.views import EventList, EventView, ExecutionDetail, ExecutionList, ExecutionView, ItemView
from reconciler.server.admin import call

T = TypeVar("T")
REPO = "acme/web"
BRANCH = "refs/heads/main"
ANSWER_S = 60.0
MAX_ROWS = 1000


class Traffic:
    """Sends events, and reads their effects."""

    def __init__(self, world: DemoWorld) -> None:
        self._world = world
        self._github = world.providers["github"].admin
        self._semaphore = world.providers["semaphore"].admin

    # -- GitHub -----------------------------------------------------------------------------------------------------

    def push(self, *, lost: bool = False) -> str:
        """Push to ``acme/web``, and with ``lost`` let GitHub lose the delivery; returns the commit."""
        self._github.settings(drop_deliveries=["push"] if lost else 0)
        try:
            return str(self._github.do("push", repo=REPO, ref=BRANCH)["sha"])
        finally:
            self._github.settings(drop_deliveries=0)

    def deliveries(self, sha: str) -> list[ListedDelivery]:
        """Return GitHub's list of deliveries for a pushed commit, oldest first, without those under way."""
        rows = [row for rows in self._github_rows().deliveries.values() for row in rows]
        pushes = [row for row in rows if row.event == "push" and row.commit == sha and row.status_code]
        return sorted(pushes, key=lambda row: row.id)

    def deliver(self, delivery: ListedDelivery, **headers: str) -> int:
        """Send the bytes of a delivery once more, with ``headers`` replaced; returns the status of the answer."""
        target = urlsplit(delivery.url)
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=ANSWER_S)
        try:
            body = orjson.dumps(delivery.request.payload)
            connection.request(
                "POST", f"{target.path}?{target.query}", body=body, headers={**delivery.request.headers, **headers}
            )
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    def redeliver_by_hand(self, delivery: ListedDelivery) -> None:
        """Press "Redeliver" at GitHub."""
        hook = self._world.hooks("web")[0].id
        self._world.github("POST", f"/repos/{REPO}/hooks/{hook}/deliveries/{delivery.id}/attempts")

    def workflow_runs(self) -> int:
        """Return the number of workflow runs at GitHub."""
        rows = self._github_rows()
        return len(rows.runs.get(rows.of(REPO), ()))

    def deployments(self) -> list[list[str]]:
        """Return the statuses of each GitHub Deployment, oldest first."""
        rows = self._github_rows()
        return [[status.state for status in row.statuses] for row in rows.deployments.get(rows.of(REPO), ())]

    def commit_statuses(self, sha: str) -> list[str]:
        """Return the statuses of a commit, oldest first."""
        rows = self._github_rows()
        return [status.state for status in rows.commit_statuses.get(rows.of(REPO), ()) if status.sha == sha]

    def _github_rows(self) -> GitHubRows:
        return msgspec.convert(self._github.state(), GitHubRows)

    # -- Semaphore --------------------------------------------------------------------------------------------------

    def pipelines(self) -> list[StoredPipeline]:
        """Return every pipeline that was ever started at Semaphore, oldest first."""
        return msgspec.convert(self._semaphore.state(), SemaphoreRows).pipelines

    def finish(self, pipeline: StoredPipeline) -> None:
        """Let a pipeline pass."""
        self._semaphore.do("finish_pipeline", pipeline_id=pipeline.ppl_id)

    # -- the daemon -------------------------------------------------------------------------------------------------

    def ask(self, verb: str, kind: type[T], **parameters: object) -> T:
        """Return the answer of the daemon's admin socket."""
        return answer_of(call(self._world.folder / "state", {"verb": verb, **parameters}, timeout_s=ANSWER_S), kind).view

    def events(self, delivery: str) -> list[EventView]:
        """Return the events of a delivery id of GitHub."""
        return [event for event in self.ask("events", EventList, limit=MAX_ROWS).events if event.delivery_id == delivery]

    def waiting(self, stage: str) -> ItemView | None:
        """Return the first item that waits at a stage, after its conditions were checked."""
        queued = self.ask("executions", ExecutionList, stage=stage, state="queued").queued
        return next((item for item in queued if item.reason != "queued"), None)

    def execution(self, item: str) -> ExecutionView | None:
        """Return the newest execution of an item; None if there is none yet, or no daemon answers."""
        try:
            executions = self.ask("execution", ExecutionDetail, id=item).executions
        except ReconcilerError:
            return None
        return executions[-1] if executions else None

    def executions(self, stage: str) -> list[ExecutionView]:
        """Return the executions of a stage, oldest first."""
        return list(reversed(self.ask("executions", ExecutionList, stage=stage, limit=MAX_ROWS).executions))
