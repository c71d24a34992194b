"""Events of the simulated Buddy, sent to its webhooks: the payload holds the key; there is no signature, no id and no retry.

No field names the event; the payload implies it. A webhook without projects receives the events of all projects. The last requests are
shown by the webhook itself. Facts: the provider's API documentation of webhooks.

State: ``deliveries``, oldest first: ``{"id", "at", "workspace", "webhook_id", "event", "url", "body", "status", "outcome"}``. The
outcome is ``sending``, ``delivered``, ``timeout`` or ``failed``; ``dropped`` for what a setting took away, ``off`` where the
setting ``deliver`` is.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

import orjson

from reconciler.sandbox.buddy import execution_shapes as shapes
from reconciler.sandbox.buddy.answers import iso
from reconciler.sandbox.buddy.executions import SimulatedExecutions
from reconciler.sandbox.buddy.records import BuddyDelivery, StoredBuddyExecution, StoredBuddyPipeline, StoredBuddyWebhook
from reconciler.sandbox.buddy.state import BuddyState
from reconciler.sandbox.buddy.webhooks import noted
from reconciler.sandbox.runs import KEPT, Outgoing, Sender, send
from reconciler.sandbox.shapes import fill, json_objects

TIMEOUT_S = 10.0
_HEADERS = {"Content-Type": "application/json", "User-Agent": "Buddy-Webhook"}


class WebhookSender:
    """Sends webhooks about executions and pushes."""

    def __init__(self, app: BuddyState) -> None:
        self.app = app
        self._sender = Sender(app)

    def restored(self) -> None:
        """Fill what a state from outside leaves out."""
        fill(self.app.state, {"deliveries": []})

    def execution(self, event: str, execution: StoredBuddyExecution) -> None:
        """Send the webhooks of an execution that began or ended."""
        now, base_url = self.app.clock(), self.app.base_url
        shown = {"execution": shapes.shown_execution(execution, now, base_url)}
        self._spread(event, execution["workspace"], execution["project"], {"invoker": execution["creator"], **shown})

    def push(self, domain: str, project: str, what: Mapping[str, object]) -> None:
        """Send the webhooks of a push."""
        self._spread("PUSH", domain, project, what)

    def _spread(self, event: str, domain: str, project: str, what: Mapping[str, object]) -> None:
        base_url, now = self.app.base_url, self.app.clock()
        payload = {
            "workspace": {
                "url": f"{base_url}/workspaces/{domain}",
                "html_url": f"https://app.buddy.works/{domain}",
                "id": 1,
                "name": domain,
                "domain": domain,
            },
            "project": {
                "url": f"{base_url}/workspaces/{domain}/projects/{project}",
                "html_url": f"https://app.buddy.works/{domain}/{project}",
                "name": project,
                "display_name": project,
                "status": "ACTIVE",
            },
            "current_date": iso(now),
            **what,
        }
        for hook in self.app.records["workspaces"][domain]["webhooks"]:
            if event in hook["events"] and (not hook["projects"] or project in hook["projects"]):
                self._record(event, domain, hook, {**payload, "secret_key": hook.get("secret_key")})

    def _record(self, event: str, domain: str, hook: StoredBuddyWebhook, payload: dict[str, object]) -> None:
        row: BuddyDelivery = {
            "id": self.app.next_id(),
            "at": self.app.clock(),
            "workspace": domain,
            "webhook_id": hook["id"],
            "event": event,
            "url": hook["target_url"],
            "body": orjson.dumps(payload).decode(),
            "status": 0,
            "outcome": "",
        }
        rows = self.app.records["deliveries"]
        rows.append(row)
        del rows[:-KEPT]
        row["outcome"] = self._sender.dispatch(event, lambda: self._deliver(hook, row))

    async def _deliver(self, hook: StoredBuddyWebhook, row: BuddyDelivery) -> None:
        request = Outgoing("POST", row["url"], _HEADERS, row["body"].encode(), TIMEOUT_S, TIMEOUT_S)
        try:
            row["status"] = await send(request)
            row["outcome"] = "delivered"
        except TimeoutError:
            row["outcome"] = "timeout"
        except (OSError, ValueError):
            row["outcome"] = "failed"
        noted(hook, self.app.clock(), row["status"], row["body"])


class Pushes:
    """Handles pushes to the repository of a project."""

    def __init__(self, app: BuddyState, executions: SimulatedExecutions, deliveries: WebhookSender) -> None:
        self.app, self._executions, self._deliveries = app, executions, deliveries

    def push(self, options: Mapping[str, object]) -> dict[str, object]:
        """Push (action ``push``): {workspace, project, branch | tag, commits, invoker}.

        Sends the webhooks, and starts the pipelines whose ``events`` have ``PUSH`` for that ref. Commits have ``message``, perhaps ``revision``.
        """
        domain = self._executions.pipelines.domain(options)
        name = str(options["project"])
        project = next((row for row in self.app.records["workspaces"][domain]["projects"] if row["name"] == name), None)
        if project is None:
            raise LookupError(f"unknown project {name}")
        kind = "tag" if options.get("tag") else "branch"
        ref = str(options.get(kind) or "main")
        commits = [_commit(row) for row in json_objects(options.get("commits") or [{"message": "A change"}])]
        invoker = {"name": str(options.get("invoker") or "Ada")}
        head = {"revision": commits[-1]["revision"]}
        what = {"invoker": invoker, kind: {"name": ref}, "to_revision": head, "commits": commits}
        self._deliveries.push(domain, name, what)
        full = f"refs/{'tags' if kind == 'tag' else 'heads'}/{ref}"
        started: dict[str, object] = {kind: {"name": ref}, "to_revision": head, "triggered_on": "EVENT", "creator": invoker}
        runs = [self._executions.start(domain, name, row, started)["id"] for row in project["pipelines"] if _listens(row, full)]
        return {"revision": head["revision"], "executions": runs}


def _commit(given: Mapping[str, object]) -> dict[str, object]:
    return {
        "revision": str(given.get("revision") or uuid.uuid4().hex + uuid.uuid4().hex[:8]),
        "message": str(given.get("message") or ""),
        "committer": {"name": "Ada"},
    }


def _listens(pipeline: StoredBuddyPipeline, ref: str) -> bool:
    events = (row for row in pipeline.get("events", ()) if row.get("type") == "PUSH")
    return any(ref in row.get("refs", ()) or not row.get("refs") for row in events)
