"""Admission of queued items: which of them start, which are discarded, and why the others wait. Pure."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from reconciler.manifests.kinds import ApprovalSpec, ConditionSpec, StageSpec, TimeWindowSpec
from reconciler.manifests.schedules import in_window, next_opening
from reconciler.model.executions import EndReason, Execution, ExecutionState, Item, Result, Vote
from reconciler.model.resources import Kind, Resource
from reconciler.model.times import iso
from reconciler.stages import statuses
from reconciler.state.queue import LOOKED_AT, Admission
from reconciler.state.reports import PendingReport


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits of a stage at the active revision. A stage that is ``gone`` starts nothing."""

    concurrency: int = 1
    latest: bool = False
    suspended: str = ""
    """Why nothing starts; empty if the stage is not suspended."""
    refused: str = ""
    """Why nothing starts: the credential with which it would call is refused; empty if it is not."""
    gone: bool = False


def settings_of(stage: Resource | None, suspended: str, refused: str = "") -> Settings:
    """Return the settings of ``stage``; None stands for a stage that is no longer declared."""
    if stage is None:
        return Settings(gone=True)
    spec = stage.typed(StageSpec)
    return Settings(spec.concurrency, spec.queue == "latest", suspended, refused)


def decide(
    items: Sequence[Item],
    running: int,
    votes: Mapping[str, Sequence[Vote]],
    *,
    settings: Settings,
    snapshots: Mapping[str, Resource],
    now: float,
) -> Admission:
    """Decide about the queued ``items`` (oldest first). ``snapshots``: the stages of the items when they were queued, by digest."""
    discard: dict[str, tuple[str, str]] = {}
    if settings.gone:
        discard = {item.id: ("removed", "the stage is no longer declared") for item in items}
    elif settings.latest:
        discard = {item.id: ("superseded", f"{items[-1].id} is newer") for item in items[:-1]}
    room = settings.concurrency - running
    if settings.latest and len(items) > LOOKED_AT:
        room = 0  # there are more items between these and the newest: they are discarded first
    start: list[Execution] = []
    waiting: dict[str, tuple[str, str]] = {}
    for item in (item for item in items if item.id not in discard):
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
            spec = snapshots[item.spec_digest].typed(StageSpec)
            reports += statuses.at_end(item, spec, Result.CANCELLED, EndReason.USER, now, message=discard[item.id][1])
    return Admission(tuple(start), discard, waiting, tuple(reports))


def _waits(
    item: Item, settings: Settings, votes: Sequence[Vote], snapshots: Mapping[str, Resource], now: float
) -> tuple[str, str] | None:
    if settings.suspended:
        return "suspended", settings.suspended
    if settings.refused:
        return "credential", settings.refused[:400]
    if item.not_before > now:
        return "retry", f"attempt {item.attempt} begins {iso(item.not_before)}, after: {item.failure}"[:400]
    stage = snapshots.get(item.spec_digest)
    if stage is None:
        return "queued", "its snapshot is not loaded yet"
    unmet = (_unmet(condition, votes, now) for condition in stage.typed(StageSpec).conditions)
    return next((reason for reason in unmet if reason is not None), None)


def _unmet(condition: ConditionSpec, votes: Sequence[Vote], now: float) -> tuple[str, str] | None:
    """Return why ``condition`` does not hold yet; None if it holds."""
    if condition.approval is not None:
        return _approval(condition.approval, votes)
    return _window(condition.time_window, now) if condition.time_window is not None else None


def _approval(condition: ApprovalSpec, votes: Sequence[Vote]) -> tuple[str, str] | None:
    counted = [vote.by for vote in votes if counts(condition, vote.by)]
    if len(counted) >= condition.count:
        return None
    who = f" of {', '.join(condition.approvers)}" if condition.approvers else ""
    by = f" (by {', '.join(counted)})" if counted else ""
    return "approval", f"{len(counted)} of {condition.count} approvals{who}{by}"


def counts(condition: ApprovalSpec, by: str) -> bool:
    """Whether an approval by ``by`` counts for ``condition``."""
    return not condition.approvers or by in condition.approvers


def _window(window: TimeWindowSpec, now: float) -> tuple[str, str] | None:
    if in_window(window, now):
        return None
    opens = dt.datetime.fromtimestamp(next_opening(window, now), ZoneInfo(window.time_zone))
    return "time-window", f"opens {opens:%a %Y-%m-%d %H:%M} {window.time_zone}"


def execution_id(item: Item) -> str:
    """Return the id of an item's newest attempt. The run carries it, too. 32 characters of ``[a-z0-9-]``."""
    joined = "\0".join(("reconciler/execution/v1", item.id, str(item.attempt)))
    return "rcl-" + hashlib.sha256(joined.encode()).hexdigest()[:28]


def _execution(item: Item, stage: Resource, now: float) -> Execution:
    reference = stage.typed(StageSpec).executor.integration
    named = reference.name if reference is not None else ""
    integration = next((r.path for r in stage.references if r.kind == Kind.INTEGRATION.value and r.name == named), "")
    identity = execution_id(item)
    return Execution(
        id=identity,
        item_id=item.id,
        stage=item.stage,
        state=ExecutionState.STARTING,
        created_at=now,
        spec_digest=item.spec_digest,
        revision=item.revision,
        integration=integration,
        label=item.label,
        resource=item.resource,
        correlation=identity,
        started_at=now,
        next_at=now,
    )
