"""The state of an execution of the simulated Buddy at a moment, and its form in the API and in webhooks. Pure.

Facts: the provider's API documentation of executions and action executions.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.sandbox.buddy.answers import iso
from reconciler.sandbox.buddy.records import StoredBuddyExecution
from reconciler.sandbox.runs import Span, logged_so_far
from reconciler.sandbox.shapes import picked

ENDED = frozenset({"SUCCESSFUL", "FAILED", "TERMINATED", "SKIPPED", "NOT_EXECUTED"})
WAITS = ("APPLY", "VARIABLES", "SETTABLE_VARIABLES", "VT_SESSION")


@dataclass(frozen=True, slots=True)
class ExecutionTimeline:
    """Times are epoch seconds, None for what has not happened; ``share`` of the work is done."""

    status: str
    started_at: float | None
    finished_at: float | None
    share: float

    @property
    def ended(self) -> bool:
        return self.status in ENDED


def life_of(execution: StoredBuddyExecution, now: float) -> ExecutionTimeline:
    """Return the state of an execution, by the clock and by the actions that stopped, finished or released it."""
    span = _span(execution)
    ended = _end(execution, span)
    if ended is not None and now >= ended[0]:
        began_at = min(span.begins_at, ended[0])
        if ended[1] in ("SKIPPED", "NOT_EXECUTED") or (ended[1] == "TERMINATED" and ended[0] < span.begins_at):
            return ExecutionTimeline(ended[1], None, ended[0], 0.0)
        return ExecutionTimeline(ended[1], began_at, ended[0], _share(execution, span, ended[0]))
    if now < execution["made_at"]:
        return ExecutionTimeline("INITIAL", None, None, 0.0)
    if now < span.begins_at:
        return ExecutionTimeline("ENQUEUED", None, None, 0.0)
    share = _share(execution, span, now)
    if execution["stopped_at"] is not None:
        return ExecutionTimeline("TERMINATING", span.begins_at, None, share)
    waiting = execution["waits_for"] and execution["resumed_at"] is None
    return ExecutionTimeline(f"WAITING_FOR_{execution['waits_for']}" if waiting else "INPROGRESS", span.begins_at, None, share)


def next_change(execution: StoredBuddyExecution, now: float) -> float | None:
    """Return when something happens by itself after ``now``: it begins, or it ends."""
    span = _span(execution)
    ended = _end(execution, span)
    moments = (span.begins_at, ended[0] if ended is not None else None)
    return min((at for at in moments if at is not None and at > now), default=None)


def _span(execution: StoredBuddyExecution) -> Span:
    return Span.of(execution["made_at"], execution["queued_s"], execution["duration_s"])


def _work(execution: StoredBuddyExecution, span: Span) -> Span | None:
    """Return when the actions run: from the beginning, or from its release; None while it waits."""
    if not execution["waits_for"]:
        return span
    if execution["resumed_at"] is None:
        return None
    return Span.of(execution["resumed_at"], 0.0, execution["duration_s"])


def _end(execution: StoredBuddyExecution, span: Span) -> tuple[float, str] | None:
    if execution["finished_at"] is not None:
        return execution["finished_at"], execution["result"]
    if execution["stopped_at"] is not None:
        return execution["stopped_at"] + execution["terminating_s"], "TERMINATED"
    work = _work(execution, span)
    return None if work is None or work.ends_at is None else (work.ends_at, execution["result"])


def _share(execution: StoredBuddyExecution, span: Span, now: float) -> float:
    finished_at, stopped_at = execution["finished_at"], execution["stopped_at"]
    if finished_at is not None and now >= finished_at and execution["result"] in ("SUCCESSFUL", "FAILED"):
        return 1.0
    work = _work(execution, span)
    return 0.0 if work is None else work.share(now if stopped_at is None else min(now, stopped_at))


# actions


def action_states(execution: StoredBuddyExecution, now: float) -> list[tuple[str, float]]:
    """Return status and done share of each action: one after the other, and none after one that failed.

    The last one fails if the execution is to fail and no action says that it does.
    """
    life, actions = life_of(execution, now), execution["actions"]
    if life.status in ("SKIPPED", "NOT_EXECUTED"):
        return [(life.status, 0.0)] * len(actions)
    failing = next((n for n, row in enumerate(actions) if row["result"] == "FAILED"), len(actions) - 1)
    acting = failing + 1 if execution["result"] == "FAILED" else len(actions)
    return [_action_state(execution, life, n, acting) for n in range(len(actions))]


def _action_state(execution: StoredBuddyExecution, life: ExecutionTimeline, number: int, acting: int) -> tuple[str, float]:
    share = max(0.0, min(1.0, life.share * acting - number))
    if number < acting and share >= 1.0:
        failed = number == acting - 1 and execution["result"] == "FAILED"
        return ("FAILED" if failed else "SUCCESSFUL"), 1.0
    if life.ended:
        current = life.status == "TERMINATED" and 0.0 <= life.share * acting - number < 1.0
        return ("TERMINATED", share) if current else ("NOT_EXECUTED", 0.0)
    if life.started_at is None or number >= acting or life.share * acting < number:
        return "ENQUEUED", 0.0
    return life.status, share


def shown_action(execution: StoredBuddyExecution, number: int, now: float, place: str) -> dict[str, object]:
    """Return an action's execution as the execution lists it."""
    action, (status, share) = execution["actions"][number], action_states(execution, now)[number]
    life = life_of(execution, now)
    begun = status not in ("ENQUEUED", "NOT_EXECUTED", "SKIPPED")
    return {
        "url": f"{place}/action_executions/{action['execution_id']}",
        "action_execution_id": action["execution_id"],
        "status": status,
        "progress": int(share * 100),
        "start_date": iso(life.started_at) if begun else None,
        "finish_date": iso(life.finished_at if life.ended else now) if status in ENDED and begun else None,
        "action": {"id": action["id"], "name": action["name"], "type": action["type"]},
    }


def detailed_action(execution: StoredBuddyExecution, number: int, now: float, place: str) -> dict[str, object]:
    """Return an action's execution with its log so far, and its outputs once it succeeded."""
    action, (status, share) = execution["actions"][number], action_states(execution, now)[number]
    failed = status == "FAILED"
    return {
        **shown_action(execution, number, now, place),
        "log": list(logged_so_far(action["logs"], share)),
        "passed_variables": execution["variables"],
        "outputted_variables": action["outputs"] if status == "SUCCESSFUL" else [],
        "error_message": (action["error"] or "Action failed") if failed else None,
    }


# executions


def shown_execution(execution: StoredBuddyExecution, now: float, base_url: str) -> dict[str, object]:
    """Return an execution as a list shows it."""
    life, place = life_of(execution, now), place_of(execution, base_url)
    return {
        "url": place,
        "html_url": html_url(execution),
        "id": execution["id"],
        "status": life.status,
        "start_date": iso(life.started_at),
        "finish_date": iso(life.finished_at),
        "triggered_on": execution["triggered_on"],
        **picked(execution, ("priority", "refresh", "clear_cache", "comment", "environment")),
        **picked(execution, ("branch", "tag", "pull_request", "from_revision", "to_revision", "creator")),
        "pipeline": execution["pipeline"],
    }


def detailed_execution(execution: StoredBuddyExecution, now: float, base_url: str) -> dict[str, object]:
    """Return an execution with its actions, without their logs."""
    place = place_of(execution, base_url)
    actions = [shown_action(execution, number, now, place) for number in range(len(execution["actions"]))]
    return {**shown_execution(execution, now, base_url), "action_executions": actions}


def place_of(execution: StoredBuddyExecution, base_url: str) -> str:
    """Return the address of an execution."""
    project = f"{base_url}/workspaces/{execution['workspace']}/projects/{execution['project']}"
    return f"{project}/pipelines/{execution['pipeline']['id']}/executions/{execution['id']}"


def html_url(execution: StoredBuddyExecution) -> str:
    """Return the address of the page for people."""
    project = f"https://app.buddy.works/{execution['workspace']}/{execution['project']}"
    return f"{project}/pipelines/pipeline/{execution['pipeline']['id']}/execution/{execution['id']}"
