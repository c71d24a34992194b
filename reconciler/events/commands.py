"""What people and scripts may ask about events and stages. One owner: the admin socket, the API and the CLI all come here.

``who`` is the name that goes into the audit log and counts as an approver: a token's name, or the local user's.
"""

from __future__ import annotations

import difflib
import secrets
from collections.abc import Mapping
from typing import Any

import orjson

from reconciler.engine.control import parse_resource
from reconciler.engine.current import Current
from reconciler.events.delivery_ids import key_id, made_id
from reconciler.events.recovery import Recovery
from reconciler.events.routing import BY
from reconciler.manifests.codec import resource_from_json
from reconciler.manifests.nearest import Guesses
from reconciler.model.errors import ReconcilerError, UsageError
from reconciler.model.events import Event, EventState, Origin, RejectedBy
from reconciler.model.executions import EndReason, Execution, ExecutionState, Item, ItemState, Result, Vote
from reconciler.model.records import AuditEntry
from reconciler.model.resources import Kind, Resource, ResourceId
from reconciler.model.values import DEEPEST, too_deep
from reconciler.stages import statuses
from reconciler.stages.admission import counts
from reconciler.stages.items import again
from reconciler.stages.views import (
    event_view,
    execution_view,
    item_digest,
    item_view,
    previous_view,
    report_view,
    runs_view,
    unreported_view,
)
from reconciler.state.inbox import NOTHING, Arrival, new_event_id

MAX_PAYLOAD = 1 << 20
MAX_LIST = 1_000
_NEAR = 200
"""Items and executions, the newest, that a mistyped id is compared with."""
SHOWN_DEPTH = 200
"""A payload that is nested deeper is not shown: it could not be written as part of an answer."""
TRIGGERED = frozenset({"manual", "schedule", "webhook"})


class NoSuch(ReconcilerError):
    """There is no item, execution or event with this id."""

    code = "RC6030"


class Waits(ReconcilerError):
    """The event waits to be handed on already."""

    code = "RC6061"


class TooLate(ReconcilerError):
    """It has begun, or ended, already."""

    code = "RC6031"


class NotCounted(ReconcilerError):
    """An approval that does not count."""

    code = "RC6032"


class Commands:
    """Verbs. ``wake_events`` and ``wake_stages`` make the loops of this process look at once."""

    def __init__(self, current: Current, recovery: Recovery, *, wake_events: Any, wake_stages: Any) -> None:
        self._current = current
        self._context = current.context
        self._recovery = recovery
        self._wake_events = wake_events
        self._wake_stages = wake_stages

    # -- looking ----------------------------------------------------------------------------------------------------

    async def events(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """List events, newest first: ``source``, ``state``, ``before`` (an id), ``limit``."""
        store = self._context.store
        name = str(request.get("source") or "")
        source = self._find(name if "/" in name else f"{Kind.EVENT_SOURCE.value}/{name}").path if name else ""
        states = (str(request["state"]),) if request.get("state") else ()
        found: list[Event] = []
        before, more = str(request.get("before") or ""), True
        while more:
            since = await store.events_end(source=source, before=before) if NOTHING in states else ""
            left = _limit(request) - len(found)
            found += await store.events(source=source, before=before, since=since, limit=left, states=states)
            before, more = since, bool(since) and len(found) < _limit(request)
        rejections: dict[str, list[RejectedBy]] = {}
        for one in await store.rejections([one.id for one in found]):
            rejections.setdefault(one.event_id, []).append(one)
        rows = [event_view(one, rejections.get(one.id, ())) for one in found]
        return {"events": rows, "next": found[-1].id if len(found) == _limit(request) else ""}

    async def event(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Show one event with its payload and what it led to; ``id`` is ours, the sender's, or the key it was made with."""
        store = self._context.store
        found = await store.event(str(request["id"])) or await store.event(key_id(str(request["id"])))
        if found is None:
            raise NoSuch(f"no event {request['id']}", hint="See `reconciler events`; they are kept for `retention.inbox`.")
        event, body = found
        rejections = await store.rejections([event.id])
        items = await store.items_of_event(event.id)
        try:
            payload = orjson.loads(body)
        except orjson.JSONDecodeError:
            payload = None
        payload = None if too_deep(payload, SHOWN_DEPTH) else self._context.redactor.redact_json(payload)
        unreported = [
            {"item": one.id, "kind": kind, "reason": why}
            for one in items
            for kind, why in (await self._without_target(one)).items()
        ]
        view = {**event_view(event, rejections), "payload": payload, "items": [item_view(one) for one in items]}
        return {**view, "unreported": unreported}

    async def executions(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """List what waits and what ran, newest first: ``stage``, ``state``, ``before`` (an execution's id), ``limit``.

        What waits is on the first page.
        """
        store = self._context.store
        stage = self._find(str(request["stage"]), Kind.STAGE).path if request.get("stage") else ""
        limit, state, before = _limit(request), str(request.get("state") or ""), str(request.get("before") or "")
        waiting = state in ("", "queued") and not before
        items = await store.items(stage=stage, states=("queued",), limit=limit) if waiting else []
        runs: list[Execution] = []
        if state != "queued":
            wanted = {"": (), "running": ("starting", "running"), "finished": ("finished",)}.get(state)
            if wanted is None:
                raise UsageError(f"no state {state!r}", hint="There are: queued, running, finished.")
            runs = await store.executions(stage=stage, states=wanted, before=await self._place(before), limit=limit + 1)
        more, runs = len(runs) > limit, runs[:limit]
        votes = await store.votes_of([one.id for one in items])
        return {
            "queued": [item_view(one, votes.get(one.id, ())) for one in items],
            "executions": [execution_view(one) for one in runs],
            "next": runs[-1].id if more else "",
        }

    async def execution(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Show an item or an execution with everything that belongs to it."""
        store = self._context.store
        item, execution = await self._one(str(request["id"]))
        if item is None:
            raise await self._no_such(str(request["id"]))
        runs = await store.executions_of_item(item.id)
        shown = [execution_view(one, await store.outputs(one.id)) for one in runs]
        reports = [report_view(one, at) for one, at in await store.reports_of(item.id)]
        reports += [unreported_view(kind, why) for kind, why in (await self._without_target(item)).items()]
        view: dict[str, Any] = {
            "item": item_view(item, await store.votes(item.id)),
            "runs": await self._runs(item),
            "previous": await self._previous(item, runs),
            "executions": shown,
            "reports": reports,
        }
        if execution is not None:
            view["execution"] = next(one for one in shown if one["id"] == execution.id)
        return view

    async def _runs(self, item: Item) -> dict[str, Any]:
        """Return what runs, or ran, for an item: all but secrets, which are read at the start only."""
        payload = await self._context.store.pinned(item.spec_digest)
        shown = runs_view(item, resource_from_json(payload)) if payload is not None else {}
        found: dict[str, Any] = self._context.redactor.redact_json(shown)
        return found

    async def _previous(self, item: Item, runs: list[Execution]) -> dict[str, Any] | None:
        """Return what the stage ran before ``item``."""
        store = self._context.store
        began = runs[0].created_at if runs else await store.now()
        found = await store.finished_before(item.stage, began, item.id)
        return previous_view(found, await store.item(found.item_id)) if found is not None else None

    async def _without_target(self, item: Item) -> Mapping[str, str]:
        payload = await self._context.store.pinned(item.spec_digest)
        if payload is None:
            return {}
        return {kind.value: why for kind, why in statuses.without_target(item, resource_from_json(payload).spec).items()}

    async def _place(self, before: str) -> tuple[float, str] | None:
        """Return where the page that ended with ``before`` ended."""
        if not before:
            return None
        one = await self._context.store.execution(before)
        if one is None:
            raise NoSuch(f"no execution {before} to continue from", hint="Begin again without `before`.")
        return one.created_at, one.id

    # -- doing ------------------------------------------------------------------------------------------------------

    async def trigger(self, request: Mapping[str, Any], who: str) -> dict[str, Any]:
        """Make an event of a source: ``source``, ``payload`` (an object), ``type``."""
        source = self._current.active.resources.get(self._find(str(request["source"]), Kind.EVENT_SOURCE))
        if source is None or source.spec.get("type") not in TRIGGERED:
            raise ReconcilerError(
                f"{request['source']} cannot be triggered: its events come from its provider",
                code="RC6033",
                hint="Name a source of type manual, schedule or webhook.",
            )
        payload = request.get("payload") or {}
        if not isinstance(payload, dict):
            raise UsageError("the payload is no JSON object")
        if not all(str(request.get(name) or "x").isprintable() for name in ("type", "key")):
            raise UsageError("a type, or a key, is one line of text without control characters")
        if too_deep(payload):
            raise UsageError(f"the payload is nested deeper than {DEEPEST} levels")
        body = orjson.dumps({**payload, **({} if "type" in payload else {"type": str(request.get("type") or "manual")})})
        if len(body) > MAX_PAYLOAD:
            raise UsageError(f"the payload is larger than {MAX_PAYLOAD} bytes")
        now = await self._context.store.now()
        event = Event(
            id=new_event_id(now),
            source=source.id,
            delivery_id=key_id(str(request["key"])) if request.get("key") else made_id(secrets.token_hex(8)),
            type=str(request.get("type") or "manual"),
            origin=Origin.MANUAL,
            state=EventState.PENDING,
            received_at=now,
            occurred_at=now,
            headers={BY: who},
        )
        await self._context.store.append_audit([self._audit("trigger", who, source.id, event=event.id)])
        stored = (await self._context.store.add_events([Arrival(event, body)]))[0]
        self._wake_events()
        return {"event": stored.event_id, "new": stored.new}

    async def approve(self, request: Mapping[str, Any], who: str) -> dict[str, Any]:
        """Approve an item: ``id``, and ``digest`` of what was reviewed (optional). Never twice by one person."""
        store = self._context.store
        item, _ = await self._one(str(request["id"]))
        if item is None:
            raise await self._no_such(str(request["id"]))
        if item.state is not ItemState.QUEUED:
            raise TooLate(f"{request['id']} does not wait any more: it is {item.state.value}", hint=await self._waiting())
        stage = await self._pinned(item)
        wanted = [one["approval"] for one in stage.spec.get("conditions", ()) if one["type"] == "approval"]
        if not wanted:
            raise NotCounted(f"{item.stage} asks for no approval")
        if not all(counts(one, who) for one in wanted):
            names = ", ".join(sorted({name for one in wanted for name in one.get("approvers", ())}))
            raise NotCounted(f"{who} is none of the approvers of {item.stage}", hint=f"They are: {names}.")
        if request.get("digest") and request["digest"] != item_digest(item):
            raise NotCounted(f"{item.id} is not what was reviewed: its digest is {item_digest(item)}")
        now = await store.now()
        audit = self._audit("approve", who, item.stage, item=item.id, digest=item_digest(item))
        if not await store.add_vote(Vote(item.id, who, now), audit=audit):
            raise NotCounted(f"{who} approved {item.id} before, or it does not wait any more")
        self._wake_stages()
        return {"item": item.id, "approvals": [one.by for one in await store.votes(item.id)]}

    async def cancel(self, request: Mapping[str, Any], who: str) -> dict[str, Any]:
        """Take an item out of its queue, or end an execution, outside too: ``id``."""
        store = self._context.store
        item, execution = await self._one(str(request["id"]))
        if item is None:
            raise await self._no_such(str(request["id"]))
        now = await store.now()
        if item.state is ItemState.QUEUED:
            stage = await self._pinned(item)
            reports = statuses.at_end(item, stage.spec, Result.CANCELLED, EndReason.USER, now, message=f"discarded by {who}")
            audit = self._audit("discard", who, item.stage, item=item.id)
            if await store.discard_item(item.id, "user", f"discarded by {who}", reports=reports, audit=audit):
                self._wake_stages()
                return {"item": item.id, "state": "discarded"}
        execution = execution or next(
            iter([one for one in await store.executions_of_item(item.id) if one.state is not ExecutionState.FINISHED]), None
        )
        if execution is None or execution.state is ExecutionState.FINISHED:
            raise TooLate(f"{request['id']} has ended already")
        audit = self._audit("cancel", who, item.stage, execution=execution.id)
        asked = await store.ask_cancel(execution.id, who, now, audit=audit)
        if not asked and not execution.cancel_at:
            raise TooLate(f"{execution.id} has ended already")
        self._wake_stages()
        return {"execution": execution.id, "state": "cancelling"}

    async def rerun(self, request: Mapping[str, Any], who: str) -> dict[str, Any]:
        """Repeat what has ended, as it was: same inputs, same commit; its conditions are asked again. ``id``, ``key``.

        One repetition at a time: while one waits or runs there is no other. Equal keys are one repetition for good.
        """
        store = self._context.store
        item, execution = await self._one(str(request["id"]))
        if item is None:
            raise await self._no_such(str(request["id"]))
        key = str(request.get("key") or "")
        if not (key or "x").isprintable():
            raise UsageError("a key is one line of text without control characters")
        stage = await self._pinned(item)
        now = await store.now()
        number = sum(1 for one in await store.items_of_event(item.event_id) if one.stage == item.stage)
        while True:
            queued = again(item, execution.id if execution is not None else "", f"key/{key}" if key else number, stage, now)
            audit = self._audit("rerun", who, item.stage, item=queued.item.id, of=item.id)
            snapshots = {queued.snapshot.digest: queued.snapshot.payload}
            other = await store.queue_repetition(queued.item, snapshots, queued.reports, audit=audit)
            if other is None:
                self._wake_stages()
                return {"item": queued.item.id, "new": True}
            if other.id == queued.item.id and key:
                return {"item": other.id, "new": False}
            if other.id != queued.item.id:
                raise TooLate(f"{other.id} has not ended yet: it is {other.state.value}", hint="Cancel it first, or wait.")
            number += 1

    async def replay(self, request: Mapping[str, Any], who: str) -> dict[str, Any]:
        """Hand a stored event on anew, by the manifests as they are now; what it led to before is not repeated. ``id``."""
        store = self._context.store
        found = await store.event(str(request["id"]))
        if found is None:
            raise NoSuch(f"no event {request['id']}", hint="See `reconciler events`; they are kept for `retention.inbox`.")
        event = found[0]
        await store.append_audit([self._audit("replay", who, event.source, event=event.id)])
        if not await store.replay_event(event.id):
            raise Waits(f"{event.id} waits to be handed on already", hint=f"See `reconciler events {event.id}`.")
        self._context.log.info(
            "event_replayed",
            kind=event.source.kind,
            name=event.source.name,
            canvas=event.source.canvas,
            event_id=event.id,
            by=who,
        )
        self._wake_events()
        return {"event": event.id}

    async def redeliver(self, request: Mapping[str, Any], who: str) -> dict[str, Any]:
        """Look for missed deliveries now: ``source`` (optional), ``since`` (seconds back, optional)."""
        only = self._find(str(request["source"]), Kind.EVENT_SOURCE) if request.get("source") else None
        now = await self._context.store.now()
        since = now - float(request["since"]) if request.get("since") else None
        found = await self._recovery.run(only, since=since)
        self._wake_events()
        rows = [
            {
                "source": str(one.source),
                "missed": one.missed,
                "redelivered": one.redelivered,
                "recovered": one.recovered,
                "failed": one.failed,
                "error": one.error,
            }
            for one in found
        ]
        return {"sources": rows}

    # -- shared -----------------------------------------------------------------------------------------------------

    async def _one(self, identity: str) -> tuple[Item | None, Execution | None]:
        """Return the item, or the execution with its item; raises `NoSuch` for an id that neither has."""
        store = self._context.store
        item = await store.item(identity)
        if item is not None:
            return item, None
        execution = await store.execution(identity)
        if execution is None:
            raise await self._no_such(identity)
        return await store.item(execution.item_id), execution

    async def _no_such(self, identity: str) -> NoSuch:
        """Return the error for an id that is not known, with ids that are near it, else with what waits."""
        store = self._context.store
        items = await store.items(limit=_NEAR)
        known = [one.id for one in items] + [one.id for one in await store.executions(limit=_NEAR)]
        near = difflib.get_close_matches(identity, known, n=3, cutoff=0.8)
        hint = f"Did you mean {' or '.join(near)}?" if near else await self._waiting()
        return NoSuch(f"there is no item or execution {identity[:80]!r}", hint=hint)

    async def _waiting(self) -> str:
        """Return a hint that names what waits for somebody, or for anything."""
        queued = await self._context.store.items(states=("queued",), limit=_NEAR)
        asked = [one for one in queued if one.reason == "approval"] or queued
        shown = ", ".join(f"{one.id} ({one.stage.name}: {one.reason or 'new'})" for one in asked[:5])
        more = f" and {len(asked) - 5} more" if len(asked) > 5 else ""
        return f"Waiting: {shown}{more}. See `reconciler executions`." if shown else "Nothing waits. See `reconciler executions`."

    async def _pinned(self, item: Item) -> Resource:
        payload = await self._context.store.pinned(item.spec_digest)
        if payload is None:
            raise NoSuch(f"the configuration of {item.id} is gone")
        return resource_from_json(payload)

    def _find(self, text: str, kind: Kind | None = None) -> ResourceId:
        known = set(self._current.active.resources)
        identity = parse_resource(text if "/" in text or kind is None else f"{kind.value}/{text}", known)
        if identity not in known:
            near = Guesses().nearest(str(identity), [str(one) for one in known])
            raise ReconcilerError(
                f"no resource {identity}",
                code="RC6025",
                hint=f"Did you mean {near}?" if near else "See `reconciler status`.",
            )
        if kind is not None and identity.kind != kind.value:
            raise UsageError(f"{text} is no {kind.value}")
        return identity

    def _audit(self, verb: str, who: str, identity: ResourceId, **detail: object) -> AuditEntry:
        return AuditEntry(
            at=self._context.clock(),
            actor=who,
            verb=verb,
            resource=identity.path,
            revision=self._current.active.revision,
            detail=detail,
        )


def _limit(request: Mapping[str, Any]) -> int:
    return max(1, min(MAX_LIST, int(request.get("limit") or 50)))
