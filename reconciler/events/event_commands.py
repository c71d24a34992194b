"""Commands about events: list, show, trigger, replay, redeliver."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import orjson

from reconciler.engine.current import Current
from reconciler.events.app_intake import AppIntake
from reconciler.events.delivery_ids import key_id, made_id
from reconciler.events.lookup import Lookup, NoSuch, Waits
from reconciler.events.recovery import Recovery
from reconciler.events.requests import EventListRequest, EventRequest, RedeliverRequest, ReplayRequest, TriggerRequest
from reconciler.events.routing import BY
from reconciler.manifests.kinds import EventSourceSpec
from reconciler.model.errors import ReconcilerError, UsageError
from reconciler.model.events import Event, EventState, Origin, RejectedBy
from reconciler.model.executions import Effect
from reconciler.model.json import Json
from reconciler.model.resources import Kind
from reconciler.model.values import DEEPEST, too_deep
from reconciler.stages.views import event_view, item_view
from reconciler.state.inbox import NOTHING, Arrival, new_event_id

MAX_PAYLOAD = 1 << 20
SHOWN_DEPTH = 200
"""A payload that is nested deeper is not shown: an answer could not contain it."""
TRIGGERED = frozenset({"manual", "schedule", "webhook"})
"""Types of the sources that can be triggered by command."""


class EventCommands:
    """Commands about events. ``wake`` wakes the dispatcher of this process."""

    def __init__(self, current: Current, lookup: Lookup, recovery: Recovery, apps: AppIntake, wake: Callable[[], None]) -> None:
        self._current = current
        self._context = current.context
        self._lookup = lookup
        self._recovery = recovery
        self._apps = apps
        self._wake = wake

    async def events(self, request: EventListRequest) -> dict[str, Any]:
        """List events, newest first."""
        store = self._context.store
        name, limit, before = request.source, request.rows, request.before
        source = self._lookup.resource(name if "/" in name else f"{Kind.EVENT_SOURCE.value}/{name}").path if name else ""
        states = (request.state,) if request.state else ()
        found: list[Event] = []
        more = True
        while more:
            since = await store.events_end(source=source, before=before) if NOTHING in states else ""
            found += await store.events(source=source, before=before, since=since, limit=limit - len(found), states=states)
            before, more = since, bool(since) and len(found) < limit
        rejections: dict[str, list[RejectedBy]] = {}
        for rejection in await store.rejections([event.id for event in found]):
            rejections.setdefault(rejection.event_id, []).append(rejection)
        effects: dict[str, list[Effect]] = {}
        for effect in await store.effects_of([event.id for event in found]):
            effects.setdefault(effect.event_id, []).append(effect)
        rows = [event_view(event, rejections.get(event.id, ()), effects.get(event.id, ())) for event in found]
        return {"events": rows, "next": found[-1].id if len(found) == limit else ""}

    async def event(self, request: EventRequest) -> dict[str, Any]:
        """Show one event with its payload, its items, and its rejections."""
        store = self._context.store
        stored = await store.event(request.id) or await store.event(key_id(request.id))
        if stored is None:
            raise _no_event(request.id)
        event, body = stored
        rejections = await store.rejections([event.id])
        items = await store.items_of_event(event.id)
        unreported = [
            {"item": item.id, "kind": kind, "reason": why}
            for item in items
            for kind, why in (await self._lookup.without_target(item)).items()
        ]
        effects = await store.effects_of([event.id])
        view = {
            **event_view(event, rejections, effects),
            "payload": self._shown(body),
            "items": [item_view(item) for item in items],
        }
        return {**view, "unreported": unreported}

    def _shown(self, body: bytes) -> Json:
        """Return a payload, redacted; None if it is not JSON, or nested too deeply to be part of an answer."""
        try:
            payload: Json = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        return None if too_deep(payload, SHOWN_DEPTH) else self._context.redactor.redact_json(payload)

    async def trigger(self, request: TriggerRequest, who: str) -> dict[str, Any]:
        """Make an event of a source."""
        source = self._current.active.resources.get(self._lookup.resource(request.source, Kind.EVENT_SOURCE))
        if source is None or source.typed(EventSourceSpec).type not in TRIGGERED:
            raise ReconcilerError(
                f"{request.source} cannot be triggered: its events come from its provider",
                code="RC6033",
                hint="Name a source of type manual, schedule or webhook.",
            )
        if not (request.type + request.key).isprintable():
            raise UsageError("a type, or a key, is one line of text without control characters")
        if too_deep(request.payload):
            raise UsageError(f"the payload is nested deeper than {DEEPEST} levels")
        kind = request.type or "manual"
        body = orjson.dumps({**request.payload, "type": request.payload.get("type", kind)})
        if len(body) > MAX_PAYLOAD:
            raise UsageError(f"the payload is larger than {MAX_PAYLOAD} bytes")
        now = await self._context.store.now()
        event = Event(
            id=new_event_id(now),
            source=source.id,
            delivery_id=key_id(request.key) if request.key else made_id(secrets.token_hex(8)),
            type=kind,
            origin=Origin.MANUAL,
            state=EventState.PENDING,
            received_at=now,
            occurred_at=now,
            headers={BY: who},
        )
        await self._context.store.append_audit([self._lookup.audit("trigger", who, source.id, event=event.id)])
        stored = (await self._context.store.add_events([Arrival(event, body)]))[0]
        self._wake()
        return {"event": stored.event_id, "new": stored.new}

    async def replay(self, request: ReplayRequest, who: str) -> dict[str, Any]:
        """Dispatch a stored event again, at the active revision. Items that it made before are not repeated."""
        store = self._context.store
        stored = await store.event(request.id)
        if stored is None:
            raise _no_event(request.id)
        event, body = stored
        await store.append_audit([self._lookup.audit("replay", who, event.source, event=event.id)])
        if event.source.kind == Kind.INTEGRATION.value:
            if not await self._apps.again(event, body):
                raise ReconcilerError(
                    f"{event.id} came through the webhook of an App, and no event source asks for it",
                    code="RC4041",
                    hint="Declare an Integration for its account and a source for its repository, then replay it.",
                )
        elif not await store.replay_event(event.id):
            raise Waits(f"{event.id} is queued for dispatch already", hint=f"See `reconciler events {event.id}`.")
        self._context.log.info(
            "event_replayed",
            kind=event.source.kind,
            name=event.source.name,
            canvas=event.source.canvas,
            event_id=event.id,
            by=who,
        )
        self._wake()
        return {"event": event.id}

    async def redeliver(self, request: RedeliverRequest, who: str) -> dict[str, Any]:
        """Look for missed deliveries now."""
        only = self._lookup.resource(request.source, Kind.EVENT_SOURCE) if request.source else None
        now = await self._context.store.now()
        await self._context.store.append_audit([self._lookup.audit("redeliver", who, only, since=request.since or "")])
        results = await self._recovery.run(only, since=now - request.since if request.since else None)
        self._wake()
        rows = [
            {
                "source": str(result.source),
                "missed": result.missed,
                "redelivered": result.redelivered,
                "recovered": result.recovered,
                "failed": result.failed,
                "error": result.error,
            }
            for result in results
        ]
        return {"sources": rows}


def _no_event(identity: str) -> NoSuch:
    return NoSuch(f"no event {identity}", hint="See `reconciler events`; they are kept for `retention.inbox`.")
