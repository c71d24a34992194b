"""Runs and jobs of the GitHub simulator: how the clock decides their status, and how answers and payloads show them. Pure.

A run is a list of attempts, each with its plan: it begins at ``started_at``, waits ``queued_s``, works ``duration_s`` (None: until
an action ends it) and ends with ``result``. ``ended_at`` and ``conclusion`` are set where something ended it earlier, ``held``
(status and time) where it is kept in a status by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson

from reconciler.sandbox.github.records import GitHubWorkflow, RunAttempt, RunJob, StoredArtifact, StoredRun
from reconciler.sandbox.github.shapes import stamp
from reconciler.sandbox.shapes import is_object, picked

CONCLUSIONS = (
    "success",
    "failure",
    "neutral",
    "cancelled",
    "skipped",
    "timed_out",
    "action_required",
    "stale",
    "startup_failure",
)
OUTPUTS = "reconciler-outputs"
"""The artifact that holds a run's outputs, in one file ``outputs.json``."""
STATUSES = ("queued", "in_progress", "completed", "waiting", "requested", "pending")
_EXPRESSION = re.compile(r"\$\{\{\s*([\w.-]+)\s*\}\}")
_STEPS = ("Set up job", "Run", "Complete job")


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of an attempt's life, and when it began."""

    status: str
    at: float
    conclusion: str | None = None


@dataclass(frozen=True, slots=True)
class Around:
    """What the answer about a run repeats from elsewhere."""

    repository: Mapping[str, object]
    actor: Mapping[str, object]
    triggering_actor: Mapping[str, object]
    head_commit: Mapping[str, object]
    lite: Mapping[str, object]


def phases(attempt: RunAttempt) -> list[Phase]:
    """Return the stretches of an attempt, in order; those that begin in the future are what will be if nothing interferes."""
    began = attempt["started_at"]
    if attempt["held"] is not None:
        return [Phase("queued", began), Phase(attempt["held"]["status"], attempt["held"]["at"])]
    working = began + attempt["queued_s"]
    end = attempt["ended_at"]
    if end is None and attempt["duration_s"] is not None:
        end = working + attempt["duration_s"]
    rows = [Phase("queued", began)]
    if end is None or working <= end:
        rows.append(Phase("in_progress", working))
    if end is not None:
        rows.append(Phase("completed", end, attempt["conclusion"] or attempt["result"]))
    return rows


def phase_at(attempt: RunAttempt, now: float) -> Phase:
    """Return the stretch that an attempt is in."""
    return [phase for phase in phases(attempt) if phase.at <= now or phase.status == "queued"][-1]


def rendered(text: str, context: Mapping[str, object]) -> str:
    """Return ``text`` with its ``${{ inputs.X }}`` filled in from ``context``; an unknown expression becomes empty, as at GitHub."""

    def value(match: re.Match[str]) -> str:
        result: object = context
        for key in match[1].split("."):
            result = result.get(key) if is_object(result) else None
        return "" if result is None else str(result).lower() if isinstance(result, bool) else str(result)

    return _EXPRESSION.sub(value, text)


def run(stored: StoredRun, attempt: RunAttempt, phase: Phase, around: Around) -> dict[str, object]:
    """Return a run as it is in ``phase`` of ``attempt``."""
    repo = around.repository
    url, html = f"{repo['url']}/actions/runs/{stored['id']}", f"{repo['html_url']}/actions/runs/{stored['id']}"
    previous = f"{url}/attempts/{attempt['number'] - 1}" if attempt["number"] > 1 else None
    copied = ("id", "name", "head_branch", "head_sha", "path", "display_title", "run_number", "event", "workflow_id")
    links = ("jobs", "logs", "artifacts", "cancel", "rerun")
    return {
        **picked(stored, copied),
        "node_id": f"WFR_{stored['id']}",
        "run_attempt": attempt["number"],
        "status": phase.status,
        "conclusion": phase.conclusion,
        "check_suite_id": stored["check_suite_id"],
        "check_suite_node_id": f"CS_{stored['check_suite_id']}",
        "url": url,
        "html_url": html,
        **{f"{name}_url": f"{url}/{name}" for name in links},
        "previous_attempt_url": previous,
        "workflow_url": f"{repo['url']}/actions/workflows/{stored['workflow_id']}",
        "check_suite_url": f"{repo['url']}/check-suites/{stored['check_suite_id']}",
        "pull_requests": [],
        "referenced_workflows": [],
        "created_at": stamp(stored["created_at"]),
        "updated_at": stamp(max(phase.at, stored["created_at"])),
        "run_started_at": stamp(attempt["started_at"]),
        "actor": dict(around.actor),
        "triggering_actor": dict(around.triggering_actor),
        "head_commit": dict(around.head_commit),
        "repository": dict(around.lite),
        "head_repository": dict(around.lite),
    }


def job(stored: RunJob, of_run: StoredRun, job_phases: list[Phase], repo: Mapping[str, object]) -> dict[str, object]:
    """Return a job as it is in the last of ``job_phases``."""
    phase = job_phases[-1]
    began = next((row.at for row in job_phases if row.status == "in_progress"), phase.at)
    conclusion = job_conclusion(stored, phase)
    run_url = f"{repo['url']}/actions/runs/{of_run['id']}"
    runs = phase.status in ("in_progress", "completed")
    return {
        "id": stored["id"],
        "run_id": of_run["id"],
        "run_url": run_url,
        "run_attempt": stored["attempt"],
        "node_id": f"CR_{stored['id']}",
        "head_sha": of_run["head_sha"],
        "head_branch": of_run["head_branch"],
        "workflow_name": of_run["name"],
        "name": stored["name"],
        "url": f"{repo['url']}/actions/jobs/{stored['id']}",
        "html_url": f"{repo['html_url']}/actions/runs/{of_run['id']}/job/{stored['id']}",
        "check_run_url": f"{repo['url']}/check-runs/{stored['id']}",
        "status": phase.status,
        "conclusion": conclusion,
        "created_at": stamp(job_phases[0].at),
        "started_at": stamp(began),
        "completed_at": stamp(phase.at) if phase.status == "completed" else None,
        "steps": _steps(stored, phase.status, conclusion, (stamp(began), stamp(phase.at))) if runs else [],
        "labels": list(stored["labels"]),
        "runner_id": 1 if runs else None,
        "runner_name": "GitHub Actions 1" if runs else None,
        "runner_group_id": 1 if runs else None,
        "runner_group_name": "GitHub Actions" if runs else None,
    }


def job_conclusion(stored: RunJob, phase: Phase) -> str | None:
    """Return how a job ended: as it was planned, unless the attempt was ended otherwise than planned."""
    if phase.status != "completed" or phase.conclusion is None:
        return None
    planned = stored["result"]
    ended = planned if phase.conclusion == stored["run_result"] else phase.conclusion
    return ended if ended in CONCLUSIONS[:7] else "failure"


def _steps(stored: RunJob, status: str, conclusion: str | None, times: tuple[str, str]) -> list[dict[str, object]]:
    names = list(stored["steps"] or _STEPS)
    done = status == "completed"
    bad = conclusion if conclusion in ("failure", "cancelled", "skipped") else "failure" if conclusion != "success" else None
    working = min(1, len(names) - 1)
    return [
        {
            "name": name,
            "number": number + 1,
            "status": status if done or number == working else "completed" if number < working else "queued",
            "conclusion": (bad if bad and number == working else "success") if done or number < working else None,
            "started_at": times[0] if done or number <= working else None,
            "completed_at": times[1] if done or number < working else None,
        }
        for number, name in enumerate(names)
    ]


def workflow(stored: GitHubWorkflow, repo: Mapping[str, object]) -> dict[str, object]:
    """Return a workflow."""
    file = stored["path"].rpartition("/")[2]
    return {
        "id": stored["id"],
        "node_id": f"W_{stored['id']}",
        "name": stored["name"],
        "path": stored["path"],
        "state": stored["state"],
        "created_at": stored["created_at"],
        "updated_at": stored["created_at"],
        "url": f"{repo['url']}/actions/workflows/{stored['id']}",
        "html_url": f"{repo['html_url']}/blob/{repo['default_branch']}/{stored['path']}",
        "badge_url": f"{repo['html_url']}/workflows/{file}/badge.svg",
    }


def planned_artifacts(
    workflow: GitHubWorkflow, context: Mapping[str, object], next_id: Callable[[], int]
) -> list[StoredArtifact]:
    """Return the artifacts that a new attempt will leave."""
    files = {name: dict(contents) for name, contents in workflow["artifacts"].items()}
    if workflow["outputs"]:
        outputs = {
            name: rendered(value, context) if isinstance(value, str) else value for name, value in workflow["outputs"].items()
        }
        files[OUTPUTS] = {"outputs.json": orjson.dumps(outputs).decode()}
    return [{"id": next_id(), "name": name, "files": contents} for name, contents in files.items()]
