"""Executions of the simulated Buddy: the clock queues, runs and ends them; a retry runs the same execution again.

State: a workspace's ``executions``, oldest first.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Iterable, Mapping

import msgspec

from reconciler.sandbox.app import Call, Reply, Route
from reconciler.sandbox.buddy import execution_shapes as shapes
from reconciler.sandbox.buddy.answers import body_of, find, page_of, refuse
from reconciler.sandbox.buddy.execution_shapes import ENDED, life_of
from reconciler.sandbox.buddy.pipelines import BuddyPipelines, behaviour_of, identifier_of, planned
from reconciler.sandbox.buddy.records import BuddyBehaviour, ExecutionPlan, StoredBuddyExecution, StoredBuddyPipeline
from reconciler.sandbox.buddy.state import BuddyState
from reconciler.sandbox.runs import KEPT, Timers
from reconciler.sandbox.shapes import Named, Text, fill, fits, json_objects, number, overwrite, whole

PRIORITIES = ("LOW", "NORMAL", "HIGH")
_SHOWN = ("branch", "tag", "pull_request", "from_revision", "environment")
SendEvent = Callable[[str, StoredBuddyExecution], None]
"""(event, execution): sends it to the webhooks."""


class SimulatedExecutions:
    """Handles everything below ``/executions`` of a pipeline, and runs executions by the clock."""

    def __init__(self, app: BuddyState, pipelines: BuddyPipelines, send: SendEvent) -> None:
        self.app, self.pipelines = app, pipelines
        self._send = send
        self._timers = Timers(lambda: app.clock())

    def routes(self, root: str) -> Iterable[Route]:
        """Return the paths below a workspace."""
        runs = f"{root}/projects/{{project}}/pipelines/{{pipeline}}/executions"
        yield "GET", runs, self._list
        yield "POST", runs, self._run
        yield "GET", f"{runs}/{{key}}", self._get
        yield "PATCH", f"{runs}/{{key}}", self._operate
        yield "GET", f"{runs}/{{key}}/action_executions/{{action}}", self._get_action

    def restored(self) -> None:
        """Resume the executions of a state that was put from outside."""
        self._timers.clear()
        for workspace in self.app.records["workspaces"].values():
            fill(workspace, {"executions": []})
            for execution in workspace["executions"]:
                self.settle(execution)

    # the life of an execution

    def start(
        self, domain: str, project: str, pipeline: StoredBuddyPipeline, options: Mapping[str, object]
    ) -> StoredBuddyExecution:
        """Start a pipeline and return the execution; ``options`` are fields of a request, and keys of a behaviour."""
        behaviour = behaviour_of(pipeline, options, self.app.settings)
        execution_id, now = self.app.next_id(), self.app.clock()
        delayed = options.get("delayed_until")
        made_at = max(now, number(delayed)) if delayed is not None else now
        execution: StoredBuddyExecution = {
            "id": execution_id,
            "workspace": domain,
            "project": project,
            "pipeline": {"id": pipeline["id"], "identifier": identifier_of(pipeline), "name": pipeline["name"]},
            "created_at": now,
            "triggered_on": options.get("triggered_on", "CLICK"),
            "to_revision": options.get("to_revision") or {"revision": "HEAD"},
            "branch": options.get("branch"),
            "tag": options.get("tag"),
            "pull_request": options.get("pull_request"),
            "from_revision": options.get("from_revision"),
            "environment": options.get("environment"),
            "comment": str(options.get("comment") or ""),
            "priority": options.get("priority") or "NORMAL",
            "refresh": bool(options.get("refresh", False)),
            "clear_cache": bool(options.get("clear_cache", False)),
            "variables": json_objects(options.get("variables")),
            "creator": options.get("creator"),
            **_plan(f"{execution_id}/1", pipeline, behaviour, made_at),
        }
        rows = self.app.records["workspaces"][domain]["executions"]
        rows.append(execution)
        del rows[:-KEPT]
        self.settle(execution)
        return execution

    def settle(self, execution: StoredBuddyExecution) -> None:
        """Send the events that are due and not sent yet, and set a timer for the next ones."""
        now, key = self.app.clock(), execution["id"]
        life = life_of(execution, now)
        if life.started_at is not None:
            self._send_once(execution, "EXECUTION_STARTED")
        if life.ended:
            self._send_once(execution, {"SUCCESSFUL": "EXECUTION_SUCCESSFUL", "FAILED": "EXECUTION_FAILED"}.get(life.status, ""))
            self._send_once(execution, "EXECUTION_FINISHED")
        moment = shapes.next_change(execution, now)
        if moment is None:
            self._timers.drop(key)
        else:
            self._timers.at(key, moment, lambda: self._wake(key))

    def _send_once(self, execution: StoredBuddyExecution, event: str) -> None:
        if event and event not in execution["sent"]:
            execution["sent"].append(event)
            self._send(event, execution)

    def _wake(self, number: int) -> None:
        _, execution = self._anywhere(number)
        if execution is not None:
            self.settle(execution)

    def _anywhere(self, number: int) -> tuple[list[StoredBuddyExecution], StoredBuddyExecution | None]:
        for workspace in self.app.records["workspaces"].values():
            for row in reversed(workspace["executions"]):
                if row["id"] == number:
                    return workspace["executions"], row
        return [], None

    # by hand

    def run_by_hand(self, options: Mapping[str, object]) -> dict[str, object]:
        """Start a pipeline as a user of Buddy would (action ``run_pipeline``).

        What `BuddyPipelines.named` takes, fields of a request (a branch or tag may be a text), and keys of a behaviour.
        """
        domain, pipeline = self.pipelines.named(options)
        given = dict(options)
        for key in ("branch", "tag", "pull_request"):
            if isinstance(given.get(key), str):
                given[key] = {"name": given[key]}
        return {"execution_id": self.start(domain, str(options["project"]), pipeline, given)["id"]}

    def finish(self, options: Mapping[str, object]) -> dict[str, object]:
        """End an execution now (action ``finish_execution``): {execution_id, status, error}."""
        _, execution = self._anywhere(whole(options["execution_id"]))
        if execution is None or life_of(execution, self.app.clock()).ended:
            raise LookupError("no running execution has this id")
        status = str(options.get("status", execution["result"]))
        if status not in ENDED:
            raise ValueError(f"an execution's result is one of {', '.join(sorted(ENDED))}")
        execution.update({"finished_at": self.app.clock(), "result": status})
        for action in execution["actions"]:
            action["error"] = str(options.get("error", action["error"]))
        self.settle(execution)
        return {"execution_id": execution["id"], "status": status}

    def lose(self, options: Mapping[str, object]) -> dict[str, object]:
        """Forget an execution (action ``lose_execution``): {execution_id}; no event is sent, and it answers 404."""
        rows, execution = self._anywhere(whole(options["execution_id"]))
        if execution is None:
            raise LookupError("no execution has this id")
        rows.remove(execution)
        return {"execution_id": execution["id"]}

    # answers

    def _list(self, call: Call, **where: str) -> Reply:
        """Newest first, with counts."""
        now = self.app.clock()
        lag_s = self.app.number("run_list_lag_s")
        rows = [row for row in reversed(self._of(call, where, "EXECUTION_INFO")) if row["created_at"] + lag_s <= now]
        number, size = page_of(call, self.app.settings)
        page = rows[(number - 1) * size : number * size]
        counts = {
            "page": number,
            "page_size": size,
            "total_page_count": -(-len(rows) // size),
            "element_count": len(page),
            "total_element_count": len(rows),
        }
        shown = [shapes.shown_execution(row, now, call.base_url) for row in page]
        return Reply(200, {"url": call.base_url + call.path, **counts, "executions": shown})

    def _run(self, call: Call, **where: str) -> Reply:
        """Answer 201 with the number at once. Not idempotent: a repeated request starts another execution."""
        _, pipeline = self.pipelines.seen(call, where, "EXECUTION_RUN")
        options = _checked(body_of(call), pipeline)
        creator = {"name": self.app.user_name(call)}
        execution = self.start(where["workspace"], where["project"], pipeline, {**options, "creator": creator})
        return self._answer(call, execution, 201)

    def _get(self, call: Call, **where: str) -> Reply:
        return self._answer(call, self._one(call, where, "EXECUTION_INFO"), 200)

    def _get_action(self, call: Call, **where: str) -> Reply:
        execution = self._one(call, where, "EXECUTION_INFO")
        action = find(execution["actions"], "execution_id", where["action"])
        place = shapes.place_of(execution, call.base_url)
        return Reply(200, shapes.detailed_action(execution, execution["actions"].index(action), self.app.clock(), place))

    def _operate(self, call: Call, **where: str) -> Reply:
        """Refuse an operation that the current status does not allow."""
        execution = self._one(call, where, "EXECUTION_MANAGE")
        body, now = body_of(call), self.app.clock()
        operation, status = str(body.get("operation")), life_of(execution, now).status
        allowed = {
            "CANCEL": status not in ENDED and status != "TERMINATING",
            "RETRY": status in ENDED,
            "APPLY": status == "WAITING_FOR_APPLY",
            "APPLY_VARIABLES": status in ("WAITING_FOR_VARIABLES", "WAITING_FOR_SETTABLE_VARIABLES"),
            "RUN_DELAYED": status == "INITIAL",
        }
        if operation not in allowed:
            refuse(400, "Operation is not valid")
        if not allowed[operation]:
            refuse(400, f"Operation {operation} cannot be done while the execution is {status}")
        if operation == "RETRY":
            _, pipeline = self.pipelines.seen(call, where, "EXECUTION_MANAGE")
            behaviour = behaviour_of(pipeline, {}, self.app.settings)
            attempt = execution["attempt"] + 1
            overwrite(execution, {**_plan(f"{execution['id']}/{attempt}", pipeline, behaviour, now), "attempt": attempt})
        elif operation == "APPLY_VARIABLES":
            execution.update({"resumed_at": now, "variables": [*execution["variables"], *_variables_of(body)]})
        elif operation == "CANCEL":
            execution["stopped_at"] = now
        elif operation == "APPLY":
            execution["resumed_at"] = now
        else:
            execution["made_at"] = now
        self.settle(execution)
        return self._answer(call, execution, 200)

    def _answer(self, call: Call, execution: StoredBuddyExecution, status: int) -> Reply:
        return Reply(status, shapes.detailed_execution(execution, self.app.clock(), call.base_url))

    def _of(self, call: Call, where: Mapping[str, str], scope: str) -> list[StoredBuddyExecution]:
        workspace, pipeline = self.pipelines.seen(call, where, scope)
        return [row for row in workspace["executions"] if row["pipeline"]["id"] == pipeline["id"]]

    def _one(self, call: Call, where: Mapping[str, str], scope: str) -> StoredBuddyExecution:
        execution: StoredBuddyExecution = find(self._of(call, where, scope), "id", where["key"])
        self.settle(execution)
        return execution


def _plan(key: str, pipeline: StoredBuddyPipeline, behaviour: BuddyBehaviour, made_at: float) -> ExecutionPlan:
    """Return a first attempt of an execution; the ids of its actions are derived from ``key``."""
    actions = planned(pipeline, behaviour, hashlib.sha256(key.encode()).hexdigest()[:22])
    fails = behaviour["result"] == "SUCCESSFUL" and any(action["result"] == "FAILED" for action in actions)
    return {
        "attempt": 1,
        "queued_s": behaviour["queued_s"],
        "duration_s": behaviour["duration_s"],
        "result": "FAILED" if fails else behaviour["result"],
        "waits_for": behaviour["waits_for"],
        "terminating_s": behaviour["terminating_s"],
        "made_at": made_at,
        "resumed_at": None,
        "stopped_at": None,
        "finished_at": None,
        "actions": actions,
        "sent": [],
    }


class _Revision(msgspec.Struct, frozen=True):
    revision: Text


class _ExecutionVariable(msgspec.Struct, frozen=True):
    key: Text


def _checked(body: Mapping[str, object], pipeline: StoredBuddyPipeline) -> dict[str, object]:
    """Return the fields of a request; refuses invalid ones."""
    kept: dict[str, object] = {
        key: body.get(key) for key in (*_SHOWN, "to_revision", "comment", "priority", "refresh", "clear_cache", "variables")
    }
    for key in ("to_revision", "from_revision"):
        if not fits(kept[key], _Revision | None):
            refuse(400, "Revision is not valid")
    for key in ("branch", "tag", "pull_request"):
        if not fits(kept[key], Named | None):
            refuse(400, f"Field {key} needs a name")
    refs = pipeline.get("refs", [])
    if (len(refs) > 1 or any("*" in item for item in refs)) and not any(kept[key] for key in ("branch", "tag", "pull_request")):
        refuse(400, "The pipeline has several refs: a branch, a tag or a pull request is required")
    if kept["priority"] not in (None, *PRIORITIES):
        refuse(400, "Priority is not valid")
    return {**kept, "variables": _variables_of(body), "delayed_until": _moment(body.get("delay_until"))}


def _variables_of(body: Mapping[str, object]) -> list[dict[str, object]]:
    variables = body.get("variables") or []
    if not fits(variables, list[_ExecutionVariable]):
        refuse(400, "Each variable needs a key")
    return json_objects(variables)


def _moment(value: object) -> float | None:
    if value is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(str(value))
    except ValueError:
        refuse(400, "delay_until is not a date")
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)).timestamp()
