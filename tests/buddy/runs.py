"""A simulated Buddy whose executions are set by the test; shapes of the provider's API documentation."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from reconciler.sandbox.app import Call, RefusedCall, Reply, Route
from reconciler.sandbox.buddy.answers import iso
from reconciler.sandbox.buddy.app import TOKEN, Buddy
from reconciler.sandbox.buddy.execution_shapes import ENDED


class Runs(Buddy):
    """Executions are in ``executions`` by (project, pipeline); ``per_page`` cuts their lists."""

    def __init__(self) -> None:
        self.executions: dict[tuple[str, int], list[dict[str, Any]]] = {}
        self.per_page = 3
        self.counted_pages = True
        super().__init__()

    def seed(self) -> dict[str, Any]:
        state = super().seed()
        state["tokens"][TOKEN]["scopes"] = sorted({*state["tokens"][TOKEN]["scopes"], "EXECUTION_RUN", "EXECUTION_MANAGE"})
        return state

    def routes(self) -> Iterable[Route]:
        root = "/workspaces/{workspace}/projects/{project}/pipelines/{pipeline}/executions"
        yield "GET", root, self.list_executions
        yield "POST", root, self.run
        yield "GET", f"{root}/{{key}}", self.get_execution
        yield "PATCH", f"{root}/{{key}}", self.operate
        yield "GET", f"{root}/{{key}}/action_executions/{{action}}", self.get_action
        yield from super().routes()

    # what tests make happen

    def start(self, project: str = "web", pipeline: int = 21, *, at: float | None = None, **more: Any) -> dict[str, Any]:
        rows = self.executions.setdefault((project, pipeline), [])
        execution = {
            "id": self.next_id(), "status": "INPROGRESS", "start": time.time() if at is None else at, "finish": None,
            "comment": "", "actions": [], "creator": {"name": "Ada"}, **more,
        }  # fmt: skip
        rows.append(execution)
        return execution

    def finish(self, execution: dict[str, Any], status: str = "SUCCESSFUL", *, at: float | None = None) -> None:
        execution.update(status=status, finish=time.time() if at is None else at)

    # what the API answers

    def list_executions(self, call: Call, workspace: str, project: str, pipeline: str) -> Reply:
        rows = sorted(self.rows(call, workspace, project, pipeline), key=lambda row: -row["id"])
        first = (int(call.query["page"]) - 1) * self.per_page
        shown = [self.shown(row) for row in rows[first : first + self.per_page]]
        counts = (
            {"page": int(call.query["page"]), "total_page_count": -(-len(rows) // self.per_page)} if self.counted_pages else {}
        )
        return Reply(200, {"url": call.path, "executions": shown, **counts})

    def run(self, call: Call, workspace: str, project: str, pipeline: str) -> Reply:
        self.rows(call, workspace, project, pipeline, "EXECUTION_RUN")
        body = call.json()
        if not (body.get("to_revision") or {}).get("revision"):
            return Reply(400, {"errors": [{"message": "Revision is required"}]})
        return Reply(201, self.shown(self.start(project, int(pipeline), comment=body.get("comment", ""), status="ENQUEUED")))

    def get_execution(self, call: Call, workspace: str, project: str, pipeline: str, key: str) -> Reply:
        row = self.find(self.rows(call, workspace, project, pipeline), "id", key)
        hidden = ("log", "outputted_variables", "error_message")
        actions = [{k: v for k, v in action.items() if k not in hidden} for action in row["actions"]]
        return Reply(200, {**self.shown(row), "action_executions": actions})

    def operate(self, call: Call, workspace: str, project: str, pipeline: str, key: str) -> Reply:
        row = self.find(self.rows(call, workspace, project, pipeline, "EXECUTION_MANAGE"), "id", key)
        operation, ended = call.json()["operation"], row["status"] in ENDED
        if (operation == "CANCEL") == ended:
            return Reply(400, {"errors": [{"message": f"Cannot {operation.lower()} this execution"}]})
        if operation == "CANCEL":
            self.finish(row, "TERMINATED")
        else:
            row.update(status="INPROGRESS", finish=None)
        return Reply(200, self.shown(row))

    def get_action(self, call: Call, workspace: str, project: str, pipeline: str, key: str, action: str) -> Reply:
        row = self.find(self.rows(call, workspace, project, pipeline), "id", key)
        return Reply(200, self.find(row["actions"], "action_execution_id", action))

    def rows(
        self, call: Call, workspace: str, project: str, pipeline: str, scope: str = "EXECUTION_INFO"
    ) -> list[dict[str, Any]]:
        projects = self.workspace(call, workspace, scope)["projects"]
        result = next((row for row in projects if row["name"] == project), None)
        if result is None or not any(str(row["id"]) == pipeline for row in result.get("pipelines", ())):
            raise RefusedCall(Reply(404, {"errors": [{"message": "Pipeline not found"}]}))
        return self.executions.get((project, int(pipeline)), [])

    def find(self, rows: list[dict[str, Any]], key: str, value: str) -> dict[str, Any]:
        result = next((row for row in rows if str(row[key]) == value), None)
        if result is None:
            raise RefusedCall(Reply(404, {"errors": [{"message": "Resource not found"}]}))
        return result

    def shown(self, execution: dict[str, Any]) -> dict[str, Any]:
        shown = {k: v for k, v in execution.items() if k not in ("start", "finish", "actions")}
        html = f"https://app.buddy.works/acme/runs/{execution['id']}"
        return {**shown, "html_url": html, "start_date": iso(execution["start"]), "finish_date": iso(execution["finish"])}


def action(name: str, status: str = "SUCCESSFUL", **more: Any) -> dict[str, Any]:
    """An action's execution, as its own page shows it."""
    return {
        "action_execution_id": f"a-{name}", "status": status, "progress": 100, "action": {"id": 1, "name": name},
        "log": [], "outputted_variables": [], "error_message": None, **more,
    }  # fmt: skip
