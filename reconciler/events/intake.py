"""A delivery from its bytes to the disk: found by its URL, proved, stored, and only then answered."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from reconciler.engine.current import Current
from reconciler.events.delivery_ids import sent_id
from reconciler.events.endpoints import Endpoint, Rotation, endpoints, keys_for, numbers_for, rotation_cursor, rotation_of
from reconciler.events.group_commit import InboxFull, Writer
from reconciler.model.errors import StateError
from reconciler.model.events import Delivery, Event, EventState, Origin, Refusal, Rejection
from reconciler.model.resources import ResourceId
from reconciler.model.secrets import SecretValue
from reconciler.state.inbox import Arrival, Stored, new_event_id

ACCEPTED, REFUSED, CONTRADICTED, BUSY = 202, 401, 409, 503


@dataclass(frozen=True, slots=True)
class LastDelivery:
    """What a source was last heard of. ``at``: epoch seconds; ``key``: 0 the key in force, else an older one."""

    at: float
    type: str
    key: int = 0


class Intake:
    """Takes deliveries in. One a process; what it remembers is made again from the active revision and the state."""

    def __init__(
        self, current: Current, writer: Writer, *, on_event: Callable[[], None], on_health_change: Callable[[], None]
    ) -> None:
        self._current = current
        self._context = current.context
        self._writer = writer
        self._on_event = on_event
        self._on_turn = on_health_change
        """Called when a source begins, or stops, to be heard of."""
        self._endpoints: dict[str, Endpoint] = {}
        self._made_of: Any = None
        self._keys: dict[tuple[str, str, tuple[int, ...]], list[SecretValue]] = {}
        self.rotations: dict[ResourceId, Rotation] = {}
        self.heard: dict[ResourceId, LastDelivery] = {}
        self.refused: dict[ResourceId, tuple[float, str]] = {}
        """When, and why, a source's newest delivery was not believed."""
        self.counts: Counter[str] = Counter()
        """Deliveries by what became of them: accepted, duplicate, contradicted, busy, and every `Refusal`."""

    async def receive(self, owner: str, uid: str, key_id: str, headers: Mapping[str, str], body: bytes) -> int:
        """Return the HTTP status of the answer: 202 once the delivery is durable, one and the same 401 for all that is not believed.

        Until a revision was read no source is known, so that none can be refused: the sender retries (503).
        """
        if self._current.active.empty:
            self.counts["busy"] += 1
            return BUSY
        endpoint = self._find(uid) if owner == self._context.owner else None
        now = self._context.clock()
        verdict = self._verify(endpoint, key_id, headers, body, now)
        if endpoint is None or isinstance(verdict, Rejection):
            self._refuse(endpoint, verdict, now)
            return REFUSED
        return await self._take(endpoint, verdict, now)

    def endpoints(self) -> Mapping[str, Endpoint]:
        """Return the endpoints of the active revision, by uid."""
        active = self._current.active
        if self._made_of is not active:
            self._endpoints = endpoints(self._context.owner, active.resources)
            self._keys.clear()
            self._made_of = active
        return self._endpoints

    def _find(self, uid: str) -> Endpoint | None:
        return self.endpoints().get(uid)

    def _verify(
        self, endpoint: Endpoint | None, key_id: str, headers: Mapping[str, str], body: bytes, now: float
    ) -> Delivery | Rejection:
        if endpoint is None:
            self._level(body, 0, parsed=False)
            return Rejection(Refusal.UNKNOWN)
        numbers = numbers_for(endpoint, self.rotations.get(endpoint.source.id), now)
        named = key_id if self._context.keyring.by_id(key_id) is not None else ""
        keys = self._keys.get((endpoint.uid, named, numbers))
        if keys is None:
            keys = keys_for(endpoint, self._context.keyring, self._context.owner, named, numbers)
            self._keys[endpoint.uid, named, numbers] = keys
        found = endpoint.receiver.verify(headers, body, keys, now=now)
        if isinstance(found, Rejection):
            signs = endpoint.receiver.signs_body
            self._level(body, len(keys) if signs and found.reason is not Refusal.UNSIGNED else 0, parsed=not signs)
        return found

    def _level(self, body: bytes, hashed: int, *, parsed: bool) -> None:
        """Make every refusal the same work over the body, so that its time does not tell which sources there are.

        ``hashed``: how many keys the body was hashed with; ``parsed``: whether it was read as JSON, because its proof is in the body.
        """
        most = max(map(len, self._keys.values()), default=1)
        for _ in range(most - hashed):
            hmac.new(_NO_KEY, body, hashlib.sha256).digest()
        if not parsed and any(not one.receiver.signs_body for one in self.endpoints().values()):
            with contextlib.suppress(orjson.JSONDecodeError):
                orjson.loads(body)

    def _refuse(self, endpoint: Endpoint | None, verdict: Delivery | Rejection, now: float) -> None:
        reason = verdict.reason if isinstance(verdict, Rejection) else Refusal.UNKNOWN
        self.counts[reason.value] += 1
        if endpoint is None or not isinstance(verdict, Rejection):
            self._context.log.debug("delivery_refused", reason=reason.value)
            return
        known = self.refused.get(endpoint.source.id)
        self.refused[endpoint.source.id] = (now, f"{reason.value}: {verdict.detail}".rstrip(": "))
        if known is None:
            self._on_turn()
        if known is None or now - known[0] > 60:  # a flood of forgeries is one line a minute
            identity = endpoint.source.id
            self._context.log.warning(
                "delivery_refused", kind=identity.kind, name=identity.name, canvas=identity.canvas, reason=reason.value
            )

    async def _take(self, endpoint: Endpoint, delivery: Delivery, now: float) -> int:
        source = endpoint.source.id
        refused, known = self.refused.get(source), self.heard.get(source)
        self.heard[source] = LastDelivery(now, delivery.type, delivery.key)
        if known is None or (refused is not None and refused[0] > known.at):
            self._on_turn()
        try:
            stored = await self.store(source, delivery, Origin.DELIVERED, now)
        except InboxFull:
            self.counts["busy"] += 1
            return BUSY
        except StateError as error:
            self.counts["busy"] += 1
            self._context.log.error(
                "delivery_not_stored", kind=source.kind, name=source.name, code=error.code, error=error.message
            )
            return BUSY
        if not stored.new and not stored.same:
            self.counts["contradicted"] += 1
            self._context.log.error(
                "delivery_contradicted",
                kind=source.kind,
                name=source.name,
                canvas=source.canvas,
                event_id=stored.event_id,
                code="RC8009",
                error="a delivery with a known id has another body: somebody replays, or the sender is defective",
            )
            return CONTRADICTED
        if stored.again:
            self._context.log.info(
                "event_replayed", kind=source.kind, name=source.name, canvas=source.canvas, event_id=stored.event_id, by="sender"
            )
        self.counts["accepted" if stored.new else "duplicate"] += 1
        return ACCEPTED

    async def store(self, source: ResourceId, delivery: Delivery, origin: Origin, now: float) -> Stored:
        """Store a delivery, however it came; raises `InboxFull`, `StateError`."""
        stored = await self._writer.store(Arrival(self._event(source, delivery, origin, now), delivery.body))
        if stored.new or stored.again:
            self._on_event()
        return stored

    def _event(self, source: ResourceId, delivery: Delivery, origin: Origin, now: float) -> Event:
        state, reason, message = EventState.PENDING, "", ""
        if delivery.problem:
            state, reason, message = EventState.REJECTED, "malformed", delivery.problem
        elif delivery.occurred_at is not None and now - delivery.occurred_at > self._context.config.retention.inbox:
            # What is older than the inbox's memory may be a replay of something that had its effect.
            state, reason, message = EventState.REJECTED, "stale", "it happened longer ago than events are kept"
        return Event(
            id=new_event_id(now),
            source=source,
            delivery_id=sent_id(delivery.id),
            type=delivery.type,
            origin=origin,
            state=state,
            received_at=now,
            occurred_at=delivery.occurred_at,
            identity=delivery.identity,
            also=delivery.also,
            body_digest=hashlib.sha256(delivery.body).hexdigest(),
            reason=reason,
            message=message,
            headers=delivery.headers,
        )

    # -- what is remembered -----------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Take up what the state knows of rotations and of when sources were heard of."""
        store = self._context.store
        for source, at in (await store.last_arrivals()).items():
            self.heard.setdefault(source, LastDelivery(at, ""))
        for endpoint in self.endpoints().values():
            if endpoint.rotation > 0:
                rotation = rotation_of(await store.get_cursor(rotation_cursor(endpoint.source.id)))
                if rotation is not None:
                    self.rotations[endpoint.source.id] = rotation

    async def save(self) -> None:
        """Store when sources were heard of, and rotations that are in force everywhere now."""
        store = self._context.store
        values: dict[str, Any] = {f"heard/{source.path}": heard.at for source, heard in self.heard.items()}
        now = await store.now()
        for endpoint in self.endpoints().values():
            source, number = endpoint.source.id, endpoint.rotation
            known = self.rotations.get(source)
            if number > 0 and (known is None or known.number != number or not known.since) and self._in_force(endpoint):
                self.rotations[source] = Rotation(number, now)
                values[rotation_cursor(source)] = {"number": number, "since": now}
        if values:
            await store.set_cursors(values)

    def _in_force(self, endpoint: Endpoint) -> bool:
        """Whether the newest key is written everywhere: the source's objects are as declared at its newest generation."""
        if not endpoint.integration:
            return True
        status = self._current.view.statuses.get(endpoint.source.id)
        return (
            status is not None
            and status.spec_digest == endpoint.source.spec_digest
            and status.observed_generation == status.generation
            and status.conditions[0].status.value == "True"
        )


_NO_KEY = bytes(64)
"""A key of no source, as long as those that are derived."""
