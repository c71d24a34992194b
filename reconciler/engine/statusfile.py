"""The content of the status document for people, scripts and the dashboard. `reconciler.engine.publisher` writes it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from reconciler.durable import make_durable
from reconciler.engine.credentials import credential_row
from reconciler.engine.current import Current
from reconciler.engine.reconcile import ReconcileResult
from reconciler.engine.revision import ActiveRevision
from reconciler.model.codec import resource_to_json
from reconciler.model.plan import Plan
from reconciler.model.resources import ResourceId
from reconciler.model.status import Condition, ConditionType, ResourceStatus
from reconciler.model.times import iso

MODE = 0o640


@dataclass(frozen=True, slots=True)
class DaemonInfo:
    """The process that writes the file. ``phase``: starting, running, draining or stopped."""

    version: str
    pid: int
    started_at: float
    phase: str


@dataclass(frozen=True, slots=True)
class Moment:
    """The inputs of the document at one moment. It is taken on the event loop and cheap; a thread does the rest."""

    daemon: DaemonInfo
    at: float
    source: Mapping[str, Any]
    events: Mapping[str, int]
    """Numbers of pending, failed and quarantined events."""
    credentials: tuple[Mapping[str, Any], ...]
    plans: tuple[Plan, ...]
    stages: tuple[Mapping[str, Any], ...]
    schedules: tuple[Mapping[str, Any], ...]
    statuses: Mapping[ResourceId, ResourceStatus]
    """Replaced by every pass, never changed: the same object has the same rows."""


def moment(current: Current, daemon: DaemonInfo, now: float) -> Moment:
    """Return the present moment."""
    return Moment(
        daemon,
        now,
        _source(current),
        {name: getattr(current.view.outside, name) for name in ("pending", "failed", "quarantined")},
        tuple(_credentials(current)),
        tuple(plan for result in _results(current) if (plan := result.plan) is not None),
        current.view.outside.stages,
        current.view.outside.schedules,
        current.view.statuses,
    )


def document(current: Current, daemon: DaemonInfo, now: float) -> dict[str, Any]:
    """Return the ``StatusReport`` document, not redacted."""
    seen = moment(current, daemon, now)
    rows = sorted(seen.statuses.values(), key=lambda status: status.id)
    return {
        **head_of(seen),
        "summary": summary_of(rows),
        "plans": [plan_row(plan) for plan in seen.plans],
        "credentials": list(seen.credentials),
        "resources": [resource_row(status) for status in rows],
        "stages": list(seen.stages),
        "schedules": list(seen.schedules),
    }


def head_of(seen: Moment) -> dict[str, Any]:
    """Return the document without its rows."""
    return {
        "apiVersion": "v1",
        "kind": "StatusReport",
        "daemon": {
            "version": seen.daemon.version,
            "pid": seen.daemon.pid,
            "startedAt": iso(seen.daemon.started_at),
            "heartbeatAt": iso(seen.at),
            "phase": seen.daemon.phase,
        },
        "source": seen.source,
        "events": seen.events,
    }


def _results(current: Current) -> list[ReconcileResult]:
    return [current.view.results[key] for key in sorted(current.view.results)]


def _source(current: Current) -> dict[str, Any]:
    state, config = current.source, current.context.config.source
    error = state.error
    row: dict[str, Any] = {
        "url": config.url,
        "branch": config.branch,
        "path": config.path,
        "lastFetched": state.fetched.id if state.fetched else "",
        "lastFetchedAt": iso(state.fetched_at),
        "lastValid": state.valid,
        "lastApplied": state.applied,
        "lastAttempted": state.attempted,
        "error": {"code": error.code, "message": error.message, "hint": error.hint} if error is not None else None,
        "problems": [
            {"location": str(p.location), "code": p.code, "message": p.message, "severity": p.severity.value}
            for p in current.active.problems[:100]
        ],
        "notices": list(state.notices[:20]),
    }
    return row


def summary_of(rows: Sequence[ResourceStatus]) -> dict[str, int]:
    """Return the number of resources in each state."""

    def count(kind: ConditionType) -> int:
        return sum(1 for status in rows if status.condition(kind) is not None)

    return {
        "total": len(rows),
        "ready": sum(1 for status in rows if status.ready),
        "progressing": count(ConditionType.RECONCILING),
        "stalled": count(ConditionType.STALLED),
        "drifted": count(ConditionType.DRIFTED),
        "suspended": count(ConditionType.SUSPENDED),
        "blocked": count(ConditionType.PLAN_BLOCKED),
    }


def plan_row(plan: Plan) -> dict[str, Any]:
    """Return a row of ``plans[]``."""
    blocked = plan.blocked_sha256
    return {
        "integration": plan.integration.path,
        "sha256": plan.sha256,
        "changes": len(plan.changes),
        "blocked": None
        if blocked is None
        else {
            "sha256": blocked,
            "approve": f"reconciler approve {blocked}",
            "changes": [
                {"address": c.address, "action": c.action.value, "reason": c.reason, "message": c.message} for c in plan.blocked
            ],
        },
    }


def _credentials(current: Current) -> list[dict[str, Any]]:
    rows = (credential_row(result, current.clients.rate_of(result.integration)) for result in _results(current))
    return [row for row in rows if row is not None]


def resource_row(status: ResourceStatus) -> dict[str, Any]:
    """Return a row of ``resources[]``."""
    return {
        "kind": status.id.kind,
        "canvas": status.id.canvas,
        "name": status.id.name,
        "file": status.location.file,
        "line": status.location.line,
        "generation": status.generation,
        "observedGeneration": status.observed_generation,
        "deleting": status.deleting,
        "objects": [dict(row) for row in status.objects],
        "drift": [dict(row) for row in status.drift],
        "lastChangedAt": status.last_changed_at,
        "nextReconcileAt": status.next_reconcile_at,
        "attempts": status.attempts,
        "history": list(status.history),
        "conditions": [_condition(c) for c in status.conditions],
    }


def _condition(condition: Condition) -> dict[str, Any]:
    return {
        "type": condition.type.value,
        "status": condition.status.value,
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": condition.last_transition_time,
        "observedGeneration": condition.observed_generation,
    }


def snapshot_of(live: ActiveRevision) -> dict[str, Any]:
    """Return the input of ``plan --snapshot``: the active specs, which contain references and no values."""
    rows = sorted(live.resources.values(), key=lambda resource: resource.id)
    return {
        "formatVersion": 1,
        "kind": "Snapshot",
        "revision": live.revision,
        "resources": [orjson.loads(resource_to_json(resource)) for resource in rows],
    }


def write(path: Path, parts: Sequence[bytes]) -> int:
    """Replace ``path`` with ``parts`` atomically: temporary in the same folder, fsync, rename, fsync of the folder; mode 0640.

    Returns the inode of the new file. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".status-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fchmod(file.fileno(), MODE)
            os.fsync(file.fileno())
            inode = os.fstat(file.fileno()).st_ino
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    make_durable(path.parent)
    return inode
