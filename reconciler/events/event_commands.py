"""Commands about events: list, show, trigger, replay, redeliver."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from reconciler.engine.current import Current
from reconciler.events.delivery_ids import key_id, made_id
from reconciler.events.lookup import Lookup, NoSuch, Waits, limit_of
from reconciler.events.recovery import Recovery
from reconciler.events.routing import BY
from reconciler.manifests.kinds import EventSourceSpec
from reconciler.model.errors import ReconcilerError, UsageError
from reconciler.model.events import Event, EventState, Origin, RejectedBy
from reconciler.model.resources import Kind
from reconciler.model.values import DEEPEST, too_deep
from reconciler.stages.views import event_view, item_view
from reconciler.state.inbox import NOTHING, Arrival, new_event_id

MAX_PAYLOAD = 1 << 20
SHOWN_DEPTH = 200
"""A payload that is nested deeper is not shown: it could not be written as part of an answer."""
TRIGGERED = frozenset({"manual", "schedule", "webhook"})
"""Types of sources that a person may trigger."""


class EventCommands:
    """``wake``: makes the dispatcher of this process look at once."""

    def __init__(self, current: Current, lookup: Lookup, recovery: Recovery, wake: Callable[[], None]) -> None:
        self._current = current
        self._context = current.context
        self._lookup = lookup
        self._recovery = recovery
        self._wake = wake

    async def events(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """List events, newest first: ``source``, ``state``, ``before`` (an id), ``limit``."""
        store = self._context.store
        name = str(request.get("source") or "")
        source = self._lookup.resource(name if "/" in name else f"{Kind.EVENT_SOURCE.value}/{name}").path if name else ""
        states = (str(request["state"]),) if request.get("state") else ()
        found: list[Event] = []
        before, more = str(request.get("before") or ""), True
        while more:
            since = await store.events_end(source=source, before=before) if NOTHING in states else ""
            left = limit_of(request) - len(found)
            found += await store.events(source=source, before=before, since=since, limit=left, states=states)
            before, more = since, bool(since) and len(found) < limit_of(request)
        rejections: dict[str, list[RejectedBy]] = {}
        for one in await store.rejections([one.id for one in found]):
            rejections.setdefault(one.event_id, []).append(one)
        rows = [event_view(one, rejections.get(one.id, ())) for one in found]
        return {"events": rows, "next": found[-1].id if len(found) == limit_of(request) else ""}

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
            for kind, why in (await self._lookup.without_target(one)).items()
        ]
        view = {**event_view(event, rejections), "payload": payload, "items": [item_view(one) for one in items]}
        return {**view, "unreported": unreported}

    async def trigger(self, request: Mapping[str, Any], who: str) -> dict[str, Any]:
        """Make an event of a source: ``source``, ``payload`` (an object), ``type``."""
        source = self._current.active.resources.get(self._lookup.resource(str(request["source"]), Kind.EVENT_SOURCE))
        if source is None or source.typed(EventSourceSpec).type not in TRIGGERED:
            raise ReconcilerError(
                f"{request['source']} cannot be triggered: its events come from its provider",
                code="RC6033",
                hint="Name a source of type manual, schedule or webhook.",
            )
        payload = request.get("payload") or {}
        if not isinstance(payload, dict):
            raise UsageError("the payload must be a JSON object")
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
        await self._context.store.append_audit([self._lookup.audit("trigger", who, source.id, event=event.id)])
        stored = (await self._context.store.add_events([Arrival(event, body)]))[0]
        self._wake()
        return {"event": stored.event_id, "new": stored.new}

    async def replay(self, request: Mapping[str, Any], who: str) -> dict[str, Any]:
        """Dispatch a stored event again, with the manifests as they are now. What it led to before is not repeated. ``id``."""
        store = self._context.store
        found = await store.event(str(request["id"]))
        if found is None:
            raise NoSuch(f"no event {request['id']}", hint="See `reconciler events`; they are kept for `retention.inbox`.")
        event = found[0]
        await store.append_audit([self._lookup.audit("replay", who, event.source, event=event.id)])
        if not await store.replay_event(event.id):
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

    async def redeliver(self, request: Mapping[str, Any], who: str) -> dict[str, Any]:
        """Look for missed deliveries now: ``source`` (optional), ``since`` (seconds back, optional)."""
        only = self._lookup.resource(str(request["source"]), Kind.EVENT_SOURCE) if request.get("source") else None
        now = await self._context.store.now()
        since = now - float(request["since"]) if request.get("since") else None
        found = await self._recovery.run(only, since=since)
        self._wake()
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
