"""Workflow runs of the GitHub simulator: the clock starts and ends them, and they send events.

State: ``{"runs": {"<repository id>": [run, oldest first]}}``; a run and its attempts are as `github_run_shapes` says. A status
is worked out whenever a run is read; timers on the server's loop send the events of runs that no request reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reconciler.sandbox.app import Call, Reply, Route
from reconciler.sandbox.github import run_shapes as shapes
from reconciler.sandbox.github.commits import Commits, Ref
from reconciler.sandbox.github.deliveries import HookDeliveries
from reconciler.sandbox.github.records import GitHubWorkflow, JobDeclaration, RunAttempt, RunJob, StoredRun
from reconciler.sandbox.github.request import body_of, flag_of, refuse
from reconciler.sandbox.github.run_filters import FILTERS, matches
from reconciler.sandbox.github.run_shapes import Phase, phase_at, phases, rendered
from reconciler.sandbox.github.shapes import lite, simple_commit
from reconciler.sandbox.github.state import GitHubState, HookOwner
from reconciler.sandbox.shapes import number, whole

DEFAULTS: Mapping[str, object] = {
    "run_duration_s": None,  # of every run, instead of what its workflow says
    "run_list_lag_s": 0.0,  # lists show a run only this long after it was made
}
KEPT_RUNS = 5_000
FILTERED_MOST = 1_000
_ACTIONS = {"queued": "requested", "in_progress": "in_progress", "completed": "completed"}
"""The action of ``workflow_run`` by the status that it announces."""


@dataclass(frozen=True, slots=True)
class RunTrigger:
    """Why a run starts."""

    event: str
    ref: Ref
    actor: str
    title: str
    inputs: Mapping[str, object] = field(default_factory=dict)
    client_payload: Mapping[str, object] = field(default_factory=dict)


class Runs:
    """Starts runs, moves them on, and handles everything below ``…/actions/runs`` but logs and artifacts."""

    def __init__(self, app: GitHubState, commits: Commits, deliveries: HookDeliveries) -> None:
        self.app = app
        self._commits, self._deliveries = commits, deliveries
        self._timers: dict[int, tuple[float, asyncio.TimerHandle]] = {}

    def routes(self, prefix: str) -> Iterable[Route]:
        """Return the routes below a repository."""
        runs, item = f"{prefix}/actions/runs", f"{prefix}/actions/runs/{{run_id}}"
        yield from (
            ("GET", runs, self._list),
            ("GET", f"{prefix}/actions/workflows/{{workflow}}/runs", self._list),
            ("GET", item, self._get),
            ("GET", f"{item}/attempts/{{number}}", self._get),
            ("POST", f"{item}/cancel", self._cancel),
            ("POST", f"{item}/force-cancel", self._cancel),
            ("POST", f"{item}/rerun", self._rerun),
            ("POST", f"{item}/rerun-failed-jobs", self._rerun_failed),
            ("GET", f"{item}/jobs", self._jobs),
            ("GET", f"{item}/attempts/{{number}}/jobs", self._jobs),
            ("GET", f"{prefix}/actions/jobs/{{job_id}}", self._job),
        )

    def restored(self) -> None:
        """Resume the runs of a state that was put from outside; drop those of deleted repositories."""
        known = {str(repo["id"]) for repo in self.app.records["repos"].values()}
        self.app.records["runs"] = {key: rows for key, rows in self.app.records["runs"].items() if key in known}
        for rows in self.app.records["runs"].values():
            for run in rows:
                self.advance(run)

    # the life of a run

    def start(self, name: str, workflow: GitHubWorkflow, trigger: RunTrigger) -> StoredRun:
        """Start a run of ``workflow`` and return it."""
        repository_id, now = self.app.records["repos"][name]["id"], self.app.clock()
        rows = self.app.records["runs"].setdefault(str(repository_id), [])
        run: StoredRun = {
            "id": self.app.next_id(),
            "repository_id": repository_id,
            "workflow_id": workflow["id"],
            "name": workflow["name"],
            "path": workflow["path"],
            "run_number": 1 + sum(1 for row in rows if row["workflow_id"] == workflow["id"]),
            "event": trigger.event,
            "ref": trigger.ref.full,
            "head_branch": trigger.ref.name,
            "head_sha": trigger.ref.sha,
            "actor": trigger.actor,
            "inputs": dict(trigger.inputs),
            "client_payload": dict(trigger.client_payload),
            "created_at": now,
            "check_suite_id": self.app.next_id(),
            "attempts": [],
            "display_title": trigger.title,
        }
        if workflow["run_name"]:
            run["display_title"] = rendered(workflow["run_name"], context_of(run))
        rows.append(run)
        del rows[:-KEPT_RUNS]
        self._attempt(run, workflow, trigger.actor, ())
        return run

    def _attempt(self, run: StoredRun, workflow: GitHubWorkflow, actor: str, carried: Iterable[RunJob]) -> None:
        """Add an attempt; ``carried`` are jobs of the last one that are not run again."""
        attempt = len(run["attempts"]) + 1
        duration_s = self.app.settings["run_duration_s"]
        kept = {job["name"]: job.copy() for job in carried}
        context = context_of(run)
        jobs = [kept.get(plan["name"]) or self._job_of(plan, workflow, attempt, context) for plan in workflow["jobs"]]
        run["attempts"].append(
            {
                "number": attempt,
                "actor": actor,
                "started_at": self.app.clock(),
                "queued_s": workflow["queued_s"],
                "duration_s": workflow["duration_s"] if duration_s is None else number(duration_s),
                "result": workflow["result"],
                "ended_at": None,
                "conclusion": None,
                "held": None,
                "sent": [],
                "jobs": jobs,
                "artifacts": shapes.planned_artifacts(workflow, context, self.app.next_id),
            }
        )
        self.advance(run)

    def _job_of(self, plan: JobDeclaration, workflow: GitHubWorkflow, attempt: int, context: Mapping[str, object]) -> RunJob:
        logs = workflow["logs"]
        lines = plan.get("logs") or (logs.get(plan["name"], []) if isinstance(logs, dict) else logs)
        return {
            "id": self.app.next_id(),
            "attempt": attempt,
            "name": plan["name"],
            "result": plan.get("result", workflow["result"]),
            "run_result": workflow["result"],
            "steps": list(plan.get("steps", [])),
            "labels": list(plan.get("labels", ["ubuntu-latest"])),
            "logs": [rendered(str(line), context) for line in lines],
        }

    def advance(self, run: StoredRun) -> None:
        """Send the events of what has happened to the last attempt, and set a timer for what comes next."""
        attempt, now = run["attempts"][-1], self.app.clock()
        for phase in phases(attempt):
            if phase.at > now:
                self._wake(run, phase.at)
                return
            if phase.status in _ACTIONS and phase.status not in attempt["sent"]:
                attempt["sent"].append(phase.status)
                self._send(run, attempt, phase)

    def _wake(self, run: StoredRun, at: float) -> None:
        armed = self._timers.get(run["id"])
        if armed is not None and armed[0] == at:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # not served: reading moves runs on
            return
        handle = loop.call_later(max(0.001, at - self.app.clock()), self._woken, run["repository_id"], run["id"])
        if armed is not None:
            armed[1].cancel()
        self._timers[run["id"]] = (at, handle)

    def _woken(self, repository_id: int, run_id: int) -> None:
        self._timers.pop(run_id, None)
        for run in self.app.records["runs"].get(str(repository_id), ()):
            if run["id"] == run_id:
                self.advance(run)

    def _send(self, run: StoredRun, attempt: RunAttempt, phase: Phase) -> None:
        """Send ``workflow_job`` for each job, and ``workflow_run``: first where it begins, last where it ends.

        There is no ``requested`` for a second attempt (docs: actions/reference, events that trigger workflows).
        """
        name = self.app.name_of(run["repository_id"])
        events: list[tuple[str, dict[str, object]]] = [
            ("workflow_job", {"action": phase.status, "workflow_job": self.job(run, job, phase)})
            for job in attempt["jobs"]
            if job["attempt"] == attempt["number"]
        ]
        if phase.status != "queued" or attempt["number"] == 1:
            workflow = self.app.shown_workflow(name, run)
            payload: dict[str, object] = {
                "action": _ACTIONS[phase.status],
                "workflow_run": self.shown(run, attempt, phase),
                "workflow": workflow,
            }
            events.insert(len(events) if phase.status == "completed" else 0, ("workflow_run", payload))
        for event, body in events:
            self._deliveries.publish(name, event, body, sender=attempt["actor"])

    def end(self, run: StoredRun, conclusion: str) -> None:
        """End the last attempt now."""
        run["attempts"][-1].update({"ended_at": self.app.clock(), "conclusion": conclusion, "held": None})
        self.advance(run)

    # how it looks

    def shown(self, run: StoredRun, attempt: RunAttempt, phase: Phase) -> dict[str, object]:
        """Return a run as answers and payloads show it."""
        name = self.app.name_of(run["repository_id"])
        repo = self.app.shown(self.app.base_url, name)
        commit = simple_commit(run["head_sha"], self._commits.about(name, run["head_sha"]))
        around = shapes.Around(repo, self.app.user(run["actor"]), self.app.user(attempt["actor"]), commit, lite(repo))
        return shapes.run(run, attempt, phase, around)

    def now(self, run: StoredRun) -> dict[str, object]:
        """Return a run as it is now."""
        attempt = run["attempts"][-1]
        return self.shown(run, attempt, phase_at(attempt, self.app.clock()))

    def job(self, run: StoredRun, job: RunJob, until: Phase | None = None) -> dict[str, object]:
        """Return a job as it is now, or as it was in the phase ``until`` of its attempt."""
        repo = self.app.shown(self.app.base_url, self.app.name_of(run["repository_id"]))
        return shapes.job(job, run, self.job_phases(run, job, until), repo)

    def job_phases(self, run: StoredRun, job: RunJob, until: Phase | None = None) -> list[Phase]:
        """Return what a job has been through."""
        attempt = run["attempts"][job["attempt"] - 1]
        last = until or phase_at(attempt, self.app.clock())
        rows = phases(attempt)
        return rows[: rows.index(last) + 1]

    # answers

    def _rows(self, target: HookOwner) -> list[StoredRun]:
        return self.app.records["runs"].setdefault(str(target.repository_id), [])

    def find(self, call: Call, where: Mapping[str, str], *, write: bool) -> tuple[HookOwner, StoredRun]:
        """Return the run that a path names; raises a 404."""
        target = self.app.target(call, where, write=write, permission="actions")
        run = next((row for row in self._rows(target) if str(row["id"]) == where["run_id"]), None)
        if run is None:
            raise refuse(404, "Not Found")
        self.advance(run)
        return target, run

    def _list(self, call: Call, **where: str) -> Reply:
        target = self.app.target(call, where, write=False, permission="actions")
        rows = self._rows(target)
        if "workflow" in where:
            workflow = self.app.workflow_named(target.name, where["workflow"])
            rows = [run for run in rows if run["workflow_id"] == workflow["id"]]
        now = self.app.clock()
        visible_until = now - self.app.number("run_list_lag_s")
        filters = {key: call.query[key] for key in FILTERS if call.query.get(key)}
        selected = [run for run in reversed(rows) if run["created_at"] <= visible_until and matches(run, filters, now)]
        if filters:
            selected = selected[:FILTERED_MOST]
        shown, headers = self.app.page(call, selected)
        return Reply(200, {"total_count": len(selected), "workflow_runs": [self.now(run) for run in shown]}, headers)

    def _get(self, call: Call, **where: str) -> Reply:
        _, run = self.find(call, where, write=False)
        if "number" not in where:
            return Reply(200, self.now(run))
        attempt = _attempt_of(run, where["number"])
        return Reply(200, self.shown(run, attempt, phase_at(attempt, self.app.clock())))

    def _cancel(self, call: Call, **where: str) -> Reply:
        _, run = self.find(call, where, write=True)
        if phase_at(run["attempts"][-1], self.app.clock()).status == "completed":
            raise refuse(409, "Cannot cancel a workflow run that is completed.")
        self.end(run, "cancelled")
        return Reply(202, {})

    def _rerun(self, call: Call, **where: str) -> Reply:
        _, run = self.find(call, where, write=True)
        flag_of(body_of(call), "enable_debug_logging", default=False)
        self.again(run, failed_only=False, actor=self.app.login)
        return Reply(201, {})

    def _rerun_failed(self, call: Call, **where: str) -> Reply:
        _, run = self.find(call, where, write=True)
        flag_of(body_of(call), "enable_debug_logging", default=False)
        self.again(run, failed_only=True, actor=self.app.login)
        return Reply(201, {})

    def again(self, run: StoredRun, *, failed_only: bool, actor: str) -> None:
        """Add an attempt to a completed run; raises the refusal while it still works, and where no job failed."""
        last = run["attempts"][-1]
        if phase_at(last, self.app.clock()).status != "completed":
            raise refuse(403, "This workflow is already running")
        good = [job for job in last["jobs"] if self.job(run, job)["conclusion"] in ("success", "skipped")]
        if failed_only and len(good) == len(last["jobs"]):
            raise refuse(403, "This workflow run cannot be retried: it has no failed jobs")
        workflow = self.app.workflow_named(self.app.name_of(run["repository_id"]), str(run["workflow_id"]))
        self._attempt(run, workflow, actor, good if failed_only else ())

    def _jobs(self, call: Call, **where: str) -> Reply:
        _, run = self.find(call, where, write=False)
        attempts = [_attempt_of(run, where["number"])] if "number" in where else run["attempts"]
        if call.query.get("filter", "latest") == "latest":
            attempts = attempts[-1:]
        jobs = {job["id"]: job for attempt in attempts for job in attempt["jobs"]}
        page, headers = self.app.page(call, list(jobs.values()))
        return Reply(200, {"total_count": len(jobs), "jobs": [self.job(run, job) for job in page]}, headers)

    def _job(self, call: Call, **where: str) -> Reply:
        return Reply(200, self.job(*self.find_job(call, where)))

    def find_job(self, call: Call, where: Mapping[str, str]) -> tuple[StoredRun, RunJob]:
        """Return run and job that a path names; raises a 404."""
        target = self.app.target(call, where, write=False, permission="actions")
        for run in self._rows(target):
            for attempt in run["attempts"]:
                for job in attempt["jobs"]:
                    if str(job["id"]) == where["job_id"]:
                        return run, job
        raise refuse(404, "Not Found")

    def named(self, options: Mapping[str, object]) -> StoredRun:
        """Return the run that an action names; raises `LookupError` for an unknown one."""
        rows = self.app.records["runs"].get(str(self.app.records["repos"][str(options["repo"])]["id"]), ())
        run = next((row for row in rows if row["id"] == whole(options["run_id"])), None)
        if run is None:
            raise LookupError(f"no run {options['run_id']} in {options['repo']}")
        self.advance(run)
        return run


def context_of(run: StoredRun) -> dict[str, object]:
    """Return what expressions in a workflow can see of a run."""
    event = {"inputs": run["inputs"], "client_payload": run["client_payload"]}
    own = {"run_id": run["id"], "run_number": run["run_number"], "sha": run["head_sha"], "ref": run["ref"]}
    return {
        "inputs": run["inputs"],
        "github": {**own, "event": event, "event_name": run["event"], "actor": run["actor"], "ref_name": run["head_branch"]},
    }


def _attempt_of(run: StoredRun, number: str) -> RunAttempt:
    attempt = next((row for row in run["attempts"] if str(row["number"]) == number), None)
    if attempt is None:
        raise refuse(404, "Not Found")
    return attempt
