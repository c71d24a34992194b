"""Webhooks of the simulated Buddy, as the API shows them: nothing is unique, and answers show the key in clear text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.sandbox.app import Call, Reply, Route
from reconciler.sandbox.buddy.answers import body_of, find, iso, refuse
from reconciler.sandbox.buddy.records import StoredBuddyWebhook, WebhookFields
from reconciler.sandbox.buddy.state import BuddyState
from reconciler.sandbox.shapes import fits, overwrite, texts

EVENTS = ("PUSH", "EXECUTION_STARTED", "EXECUTION_SUCCESSFUL", "EXECUTION_FAILED", "EXECUTION_FINISHED")
KEPT_REQUESTS = 20


class Webhooks:
    """Handles everything below ``/webhooks`` of a workspace."""

    def __init__(self, app: BuddyState) -> None:
        self.app = app

    def routes(self, root: str) -> Iterable[Route]:
        """Return the paths below a workspace."""
        yield "GET", f"{root}/webhooks", self._list
        yield "POST", f"{root}/webhooks", self._add
        yield "GET", f"{root}/webhooks/{{key}}", self._get
        yield "PATCH", f"{root}/webhooks/{{key}}", self._edit
        yield "DELETE", f"{root}/webhooks/{{key}}", self._delete

    def _list(self, call: Call, workspace: str) -> Reply:
        """All, without their latest requests."""
        rows = self.app.lagged(f"webhooks/{workspace}", self.app.workspace(call, workspace, "WEBHOOK_INFO")["webhooks"])
        shown = [_shown(call, workspace, item) for item in rows]
        summaries = [{key: value for key, value in row.items() if key != "requests"} for row in shown]
        return Reply(200, {"url": call.base_url + call.path, "webhooks": summaries})

    def _add(self, call: Call, workspace: str) -> Reply:
        """201. The same target may be there twice."""
        items = self.app.workspace(call, workspace, "WEBHOOK_ADD")["webhooks"]
        fields = _checked(body_of(call), {})
        item: StoredBuddyWebhook = {"id": self.app.next_id(), "requests": [], **fields}
        with self.app.changing(f"webhooks/{workspace}", items) as rows:
            rows.append(item)
        return Reply(201, _shown(call, workspace, item))

    def _get(self, call: Call, workspace: str, key: str) -> Reply:
        """One, with its key in clear and the last 20 requests."""
        item = find(self.app.workspace(call, workspace, "WEBHOOK_INFO")["webhooks"], "id", key)
        return Reply(200, _shown(call, workspace, item))

    def _edit(self, call: Call, workspace: str, key: str) -> Reply:
        """Change the fields of the request."""
        items = self.app.workspace(call, workspace, "WEBHOOK_MANAGE")["webhooks"]
        item = find(items, "id", key)
        changed = _checked(body_of(call), item)
        with self.app.changing(f"webhooks/{workspace}", items):
            overwrite(item, changed)
        return Reply(200, _shown(call, workspace, item))

    def _delete(self, call: Call, workspace: str, key: str) -> Reply:
        """204."""
        items = self.app.workspace(call, workspace, "WEBHOOK_MANAGE")["webhooks"]
        item = find(items, "id", key)
        with self.app.changing(f"webhooks/{workspace}", items) as rows:
            rows.remove(item)
        return Reply(204)


def noted(item: StoredBuddyWebhook, at: float, status: int, body: str) -> None:
    """Note a delivery as the provider keeps it: the last 20, newest first."""
    request: dict[str, object] = {"post_date": iso(at), "response_status": status, "body": body}
    item["requests"] = [request, *item["requests"]][:KEPT_REQUESTS]


def _shown(call: Call, workspace: str, item: StoredBuddyWebhook) -> dict[str, object]:
    return {
        "url": f"{call.base_url}/workspaces/{workspace}/webhooks/{item['id']}",
        "html_url": f"https://app.buddy.works/{workspace}/-/webhooks",
        "id": item["id"],
        "target_url": item["target_url"],
        "secret_key": item.get("secret_key"),
        "events": item["events"],
        "projects": [{"name": name} for name in item["projects"]],
        "requests": item["requests"],
    }


def _checked(body: Mapping[str, object], before: Mapping[str, object]) -> WebhookFields:
    merged = {**before, **body}
    if not str(merged.get("target_url") or "").startswith(("http://", "https://")):
        refuse(400, "Target URL is not valid")
    events, projects = merged.get("events"), merged.get("projects") or []
    if not events or not fits(events, list[str]) or not set(texts(events)) <= set(EVENTS):
        refuse(400, "Events are not valid")
    if not fits(projects, list[str]):
        refuse(400, "Projects are not valid")
    return {
        "target_url": str(merged["target_url"]),
        "events": texts(events),
        "secret_key": merged.get("secret_key"),
        "projects": texts(projects),
    }
