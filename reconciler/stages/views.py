"""Items, executions and events as JSON for people and scripts: what the CLI, the API and the status file show. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.manifests.kinds import StageSpec
from reconciler.manifests.templates import TemplateError
from reconciler.model.events import Event, RejectedBy
from reconciler.model.executions import Effect, Execution, Item, ItemState, Later, Vote
from reconciler.model.resources import Resource
from reconciler.model.times import iso
from reconciler.model.values import JsonObject, digest_of
from reconciler.stages.inputs import SpecTooLarge, resolved_spec
from reconciler.stages.provenance import text_at
from reconciler.stages.statuses import payload_of
from reconciler.stages.summary import one_line
from reconciler.state.reports import PendingReport


def item_digest(item: Item) -> str:
    """Return the digest that an approval may name: it covers the stage's spec, the inputs and the event."""
    content = {"item": item.id, "stage": item.stage.path, "inputs": item.inputs, "spec": item.spec_digest, "event": item.event_id}
    return digest_of(content | ({"resource": item.resource} if item.resource else {}))


def item_view(item: Item, votes: Sequence[Vote] = ()) -> dict[str, Any]:
    """Return an item; for a queued one ``reason`` and ``message`` always say why it waits."""
    return {
        "id": item.id,
        "stage": str(item.stage),
        "state": item.state.value,
        "reason": item.reason or ("queued" if item.state is ItemState.QUEUED else ""),
        "message": item.message or ("others are before it" if item.state is ItemState.QUEUED else ""),
        "label": item.label,
        "event": item.event_id,
        "origin": origin_view(item.origin),
        "connection": item.connection,
        "revision": item.revision,
        "inputs": dict(item.inputs),
        "attempt": item.attempt,
        "createdAt": iso(item.created_at),
        "notBefore": iso(item.not_before),
        "rerunOf": item.rerun_of,
        "digest": item_digest(item),
        "approvals": [{"by": vote.by, "at": iso(vote.at)} for vote in votes],
    }


def origin_view(origin: JsonObject) -> dict[str, str]:
    """Return the first cause of an item, for its approvers: event, people, repository, ref, commit with its page.

    All texts are untrusted, short, and one line.
    """
    about = {key: one_line(text_at(origin, ("about", key))) for key in ("type", "source", "sender", "author", "message")}
    return {
        **about,
        "repository": one_line(text_at(origin, ("repository",))),
        "ref": one_line(text_at(origin, ("ref",))),
        "deletedRef": one_line(text_at(origin, ("deleted",))),
        "commit": text_at(origin, ("sha",)),
        "commitUrl": text_at(origin, ("about", "url")),
        "deployment": text_at(origin, ("deployment",)),
        "environment": one_line(text_at(origin, ("environment",))),
    }


def runs_view(item: Item, stage: Resource) -> dict[str, Any]:
    """Return the executor of an item: its type, resource, and spec with every template but those of secrets replaced."""
    spec = stage.typed(StageSpec)
    executor, secrets = spec.executor, {secret.name: "***" for secret in spec.secrets}
    try:
        shown = resolved_spec(executor.spec, {"inputs": item.inputs, "event": item.event, "secrets": secrets})
    except (TemplateError, SpecTooLarge):
        shown = dict(executor.spec)
    return {
        "type": executor.type,
        "integration": executor.integration_name,
        "resource": item.resource or executor.resource_name,
        "spec": shown,
    }


def previous_view(execution: Execution, item: Item | None) -> dict[str, Any]:
    """Return a previous execution of a stage, with the origin of its event."""
    return {
        "id": execution.id,
        "label": execution.label,
        "result": execution.result.value if execution.result else "",
        "finishedAt": iso(execution.finished_at),
        "url": execution.run.url if execution.run else "",
        "origin": origin_view(item.origin if item is not None else {}),
    }


def unreported_view(kind: str, why: str) -> dict[str, Any]:
    """Return a report that the stage declares, but that has no target."""
    return {"kind": kind, "state": "none", "repository": "", "target": "", "writtenAt": "", "error": why}


def execution_view(
    execution: Execution, outputs: Mapping[str, Any] | None = None, origin: JsonObject | None = None
) -> dict[str, Any]:
    """Return an execution; with its outputs, and with the origin of its item, if they are given."""
    run = execution.run
    return {
        "id": execution.id,
        "item": execution.item_id,
        "stage": str(execution.stage),
        "label": execution.label,
        "state": execution.state.value,
        "status": execution.status,
        "result": execution.result.value if execution.result else "",
        "reason": execution.why.value if execution.why else "",
        "message": execution.message,
        "revision": execution.revision,
        "createdAt": iso(execution.created_at),
        "startedAt": iso(execution.intended_at),
        "finishedAt": iso(execution.finished_at),
        "cancelRequestedBy": execution.cancel_by,
        "externalId": run.external_id if run else "",
        "url": run.url if run else "",
        "runAttempt": run.attempt if run else 0,
        **({"later": later_view(execution.later)} if execution.later is not None else {}),
        **({"origin": origin_view(origin)} if origin is not None else {}),
        **({"outputs": dict(outputs)} if outputs is not None else {}),
    }


def later_view(later: Later) -> dict[str, Any]:
    """Return the newest attempt of a run that was started after its execution had ended."""
    return {
        "attempt": later.attempt,
        "result": later.result.value,
        "status": later.conclusion,
        "url": later.url,
        "seenAt": iso(later.at),
    }


def event_view(event: Event, rejections: Sequence[RejectedBy] = (), effects: Sequence[Effect] = ()) -> dict[str, Any]:
    """Return an event without its payload, with its rejections and with what it led to."""
    return {
        "id": event.id,
        "source": str(event.source),
        "type": event.type,
        "deliveryId": event.delivery_id,
        "origin": event.origin.value,
        "state": event.state.value,
        "reason": event.reason,
        "message": event.message,
        "receivedAt": iso(event.received_at),
        "occurredAt": iso(event.occurred_at or 0.0),
        "rejectedBy": [{"target": str(each.target), "reason": each.reason, "message": each.message} for each in rejections],
        "effects": [effect_view(effect) for effect in effects],
    }


def effect_view(effect: Effect) -> dict[str, str]:
    """Return what an event led to at one stage."""
    return {
        "stage": str(effect.stage),
        "item": effect.item_id,
        "state": effect.state.value,
        "execution": effect.execution_id,
        "result": effect.result,
    }


def report_view(report: PendingReport, done_at: float) -> dict[str, Any]:
    """Return a status that was written back, or is still pending."""
    payload = payload_of(report)
    return {
        "kind": report.kind,
        "state": report.state,
        "repository": payload.repository,
        "target": payload.target,
        "writtenAt": iso(done_at),
        "error": payload.error,
    }


def stage_view(stage: Resource, counts: Mapping[str, int], last: Execution | None) -> dict[str, Any]:
    """Return a row of ``stages[]`` in the status file."""
    return {
        "name": stage.id.name,
        "canvas": stage.id.canvas,
        "queue": counts.get("queue", 0),
        "running": counts.get("running", 0),
        "concurrency": stage.typed(StageSpec).concurrency,
        "last": execution_view(last) if last is not None else None,
    }
