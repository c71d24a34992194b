"""Admission of queued items: which start now, which are discarded, and why the others wait. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.manifests.schedules import in_window, next_opening
from reconciler.model.executions import EndReason, Execution, ExecutionState, Item, Result, Vote
from reconciler.model.resources import Resource
from reconciler.model.times import iso
from reconciler.stages import statuses
from reconciler.state.queue import LOOKED_AT, Admission
from reconciler.state.reports import PendingReport


@dataclass(frozen=True, slots=True)
class Settings:
    """How the active revision bounds a stage. A stage that is gone starts nothing."""

    concurrency: int = 1
    latest: bool = False
    suspended: str = ""
    """Why nothing starts; empty if the stage is not suspended."""
    gone: bool = False


def settings_of(stage: Resource | None, suspended: str) -> Settings:
    """Return the settings of ``stage``; None stands for a stage that is no longer declared."""
    if stage is None:
        return Settings(gone=True)
    return Settings(int(stage.spec.get("concurrency", 1)), stage.spec.get("queue", "fifo") == "latest", suspended)


def decide(
    items: Sequence[Item],
    running: int,
    votes: Mapping[str, Sequence[Vote]],
    *,
    settings: Settings,
    snapshots: Mapping[str, Resource],
    now: float,
) -> Admission:
    """Return what happens to the queued ``items`` (oldest first). ``snapshots``: the items' stages as they were, by digest."""
    discard: dict[str, tuple[str, str]] = {}
    if settings.gone:
        discard = {one.id: ("removed", "the stage is no longer declared") for one in items}
    elif settings.latest:
        discard = {one.id: ("superseded", f"{items[-1].id} is newer") for one in items[:-1]}
    left = [one for one in items if one.id not in discard]
    room = settings.concurrency - running
    if settings.latest and len(items) > LOOKED_AT:
        room = 0  # between these and the newest there are more, which have to give way first
    start: list[Execution] = []
    waiting: dict[str, tuple[str, str]] = {}
    for item in left:
        why = _waits(item, settings, votes.get(item.id, ()), snapshots, now)
        if why is None and len(start) >= room:
            why = ("concurrency", f"{running + len(start)} of {settings.concurrency} running")
        if why is None:
            start.append(_execution(item, snapshots[item.spec_digest], now))
        else:
            waiting[item.id] = why
    reports: list[PendingReport] = []
    for item in items:
        if item.id in discard and item.spec_digest in snapshots:
            spec = snapshots[item.spec_digest].spec
            reports += statuses.at_end(item, spec, Result.CANCELLED, EndReason.USER, now, message=discard[item.id][1])
    return Admission(tuple(start), discard, waiting, tuple(reports))


def _waits(
    item: Item, settings: Settings, votes: Sequence[Vote], snapshots: Mapping[str, Resource], now: float
) -> tuple[str, str] | None:
    if settings.suspended:
        return "suspended", settings.suspended
    if item.not_before > now:
        return "retry", f"attempt {item.attempt} begins {iso(item.not_before)}, after: {item.failure}"[:400]
    stage = snapshots.get(item.spec_digest)
    if stage is None:
        return "queued", "just came in"
    for condition in stage.spec.get("conditions", ()):
        found = (
            _approval(condition["approval"], votes) if condition["type"] == "approval" else _window(condition["timeWindow"], now)
        )
        if found is not None:
            return found
    return None


def _approval(condition: Mapping[str, Any], votes: Sequence[Vote]) -> tuple[str, str] | None:
    counted = [one.by for one in votes if counts(condition, one.by)]
    if len(counted) >= condition["count"]:
        return None
    who = f" of {', '.join(condition['approvers'])}" if condition.get("approvers") else ""
    by = f" (by {', '.join(counted)})" if counted else ""
    return "approval", f"{len(counted)} of {condition['count']} approvals{who}{by}"


def counts(condition: Mapping[str, Any], by: str) -> bool:
    """Whether an approval of ``by`` counts for a condition."""
    return not condition.get("approvers") or by in condition["approvers"]


def _window(window: Mapping[str, Any], now: float) -> tuple[str, str] | None:
    if in_window(window, now):
        return None
    import datetime as dt
    from zoneinfo import ZoneInfo

    opens = dt.datetime.fromtimestamp(next_opening(window, now), ZoneInfo(window.get("timeZone", "UTC")))
    return "time-window", f"opens {opens:%a %Y-%m-%d %H:%M} {window.get('timeZone', 'UTC')}"


def execution_id(item: Item) -> str:
    """Return the id of an item's newest attempt. The run carries it, too. 32 characters of ``[a-z0-9-]``."""
    joined = "\0".join(("reconciler/execution/v1", item.id, str(item.attempt)))
    return "rcl-" + hashlib.sha256(joined.encode()).hexdigest()[:28]


def _execution(item: Item, stage: Resource, now: float) -> Execution:
    executor = stage.spec["executor"]
    integration = next(
        (r for r in stage.references if r.kind == "Integration" and r.name == executor.get("integration", {}).get("name")), None
    )
    identity = execution_id(item)
    return Execution(
        id=identity,
        item_id=item.id,
        stage=item.stage,
        state=ExecutionState.STARTING,
        created_at=now,
        spec_digest=item.spec_digest,
        revision=item.revision,
        integration=integration.path if integration is not None else "",
        label=item.label,
        resource=item.resource,
        correlation=identity,
        started_at=now,
        next_at=now,
    )
