"""The status file: one JSON document for people, scripts and the dashboard, written atomically. No secrets in it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from reconciler.engine.passes import Engine
from reconciler.engine.reporting import iso
from reconciler.manifests.codec import resource_to_json
from reconciler.model.plan import Plan
from reconciler.model.status import Condition, ConditionType, ResourceStatus

MODE = 0o640


@dataclass(frozen=True, slots=True)
class DaemonInfo:
    """Who writes the file. ``phase``: starting, running, draining or stopped."""

    version: str
    pid: int
    started_at: float
    phase: str


def document(engine: Engine, daemon: DaemonInfo, now: float) -> dict[str, Any]:
    """Return the document of interface.md (``StatusReport``)."""
    rows = sorted(engine.view.statuses.values(), key=lambda status: status.id)
    return {
        "apiVersion": "v1",
        "kind": "StatusReport",
        "daemon": {
            "version": daemon.version,
            "pid": daemon.pid,
            "startedAt": iso(daemon.started_at),
            "heartbeatAt": iso(now),
            "phase": daemon.phase,
        },
        "source": _source(engine),
        "summary": _summary(rows),
        "plans": [_plan(plan) for result in _results(engine) if (plan := result.plan) is not None],
        "credentials": _credentials(engine),
        "resources": [_resource(status) for status in rows],
        "stages": [dict(row) for row in engine.view.outside.stages],
        "events": {name: getattr(engine.view.outside, name) for name in ("pending", "failed", "quarantined")},
    }


def _results(engine: Engine) -> list[Any]:
    return [engine.view.results[key] for key in sorted(engine.view.results)]


def _source(engine: Engine) -> dict[str, Any]:
    state, config = engine.state, engine.deps.config.source
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
            for p in engine.live.problems[:100]
        ],
        "notices": list(state.notices[:20]),
    }
    return row


def _summary(rows: list[ResourceStatus]) -> dict[str, int]:
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


def _plan(plan: Plan) -> dict[str, Any]:
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


def _credentials(engine: Engine) -> list[dict[str, Any]]:
    rows = []
    for result in _results(engine):
        report = result.credential
        refused = result.error is not None and result.error.code == "RC5011"
        if report is None and not refused:
            continue
        budget = engine.links.rate_of(result.integration)
        rows.append(
            {
                "name": result.integration.path,
                "valid": report.valid if report is not None and not refused else False,
                "identity": report.identity if report else "",
                "expiresAt": report.expires_at if report else "",
                "missing": list(report.missing) if report else [],
                "rate": _rate({**(report.rate if report else {}), **budget}),
            }
        )
    return rows


def _rate(rate: Mapping[str, Any]) -> dict[str, Any]:
    reset = rate.get("resetAt", rate.get("reset", 0))
    return {"limit": rate.get("limit"), "remaining": rate.get("remaining"), "resetAt": iso(float(reset)) if reset else None}


def _resource(status: ResourceStatus) -> dict[str, Any]:
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


def snapshot(engine: Engine) -> dict[str, Any]:
    """Return what ``plan --snapshot`` reads: the live specs, which hold references and no values."""
    rows = sorted(engine.live.resources.values(), key=lambda resource: resource.id)
    return {
        "formatVersion": 1,
        "kind": "Snapshot",
        "revision": engine.live.revision,
        "resources": [orjson.loads(resource_to_json(one)) for one in rows],
    }


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Replace ``path`` atomically: temporary in the same folder, fsync, rename, fsync of the folder; mode 0640. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".status-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            file.flush()
            os.fchmod(file.fileno(), MODE)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
