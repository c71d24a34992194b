"""Intake of deliveries: finds the source by its URL, verifies the delivery, and answers once it is stored."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass

import orjson

from reconciler.engine.current import Current
from reconciler.engine.revision import ActiveRevision
from reconciler.events.delivery_ids import sent_id
from reconciler.events.endpoints import Endpoint, Rotation, endpoints, keys_for, numbers_for, rotation_cursor, rotation_of
from reconciler.events.group_commit import InboxFull, Writer
from reconciler.events.traces import with_sender
from reconciler.model.errors import StateError
from reconciler.model.events import Delivery, Event, EventState, Origin, Refusal, Rejection
from reconciler.model.resources import ResourceId
from reconciler.model.secrets import SecretValue
from reconciler.state.inbox import Arrival, Stored, new_event_id

ACCEPTED, REFUSED, CONTRADICTED, BUSY = 202, 401, 409, 503


@dataclass(frozen=True, slots=True)
class LastDelivery:
    """The last verified delivery of a source. ``at``: epoch seconds; ``key``: 0 for the current key, else an older one."""

    at: float
    type: str
    key: int = 0


OnDelivery = Callable[[Collection[ResourceId], Delivery], Awaitable[None]]


async def no_reader(_integrations: Collection[ResourceId], _delivery: Delivery) -> None:
    """Do nothing: deliveries have no other reader."""


class Intake:
    """Receives deliveries, once in each process. What it caches can be rebuilt from the active revision and the state."""

    def __init__(
        self, current: Current, writer: Writer, *, on_event: Callable[[], None], on_health_change: Callable[[], None]
    ) -> None:
        self._current = current
        self._context = current.context
        self._writer = writer
        self._on_event = on_event
        self.on_health_change = on_health_change
        """Called when a source starts or stops getting verified deliveries."""
        self._endpoints: dict[str, Endpoint] = {}
        self._endpoints_of: ActiveRevision | None = None
        self._keys: dict[tuple[str, str, tuple[int, ...]], list[SecretValue]] = {}
        self.rotations: dict[ResourceId, Rotation] = {}
        self.heard: dict[ResourceId, LastDelivery] = {}
        self.refused: dict[ResourceId, tuple[float, str]] = {}
        """Time and reason of the last refused delivery of each source."""
        self.on_delivery: OnDelivery = no_reader
        """Called with the Integration of a verified delivery, before it is answered. Raises `StateError`."""
        self.counts: Counter[str] = Counter()
        """Deliveries by outcome: accepted, duplicate, contradicted, busy, and every `Refusal`."""

    async def receive(self, owner: str, uid: str, key_id: str, headers: Mapping[str, str], body: bytes) -> int:
        """Return the HTTP status of the answer: 202 once the delivery is durable, the same 401 for every refusal.

        Before the first revision is read no source is known, and the answer is 503: the sender retries.
        """
        if self._current.active.empty:
            self.counts["busy"] += 1
            return BUSY
        endpoint = self.endpoints().get(uid) if owner == self._context.owner else None
        now = self._context.clock()
        verdict = self._verify(endpoint, key_id, headers, body, now)
        if endpoint is None or isinstance(verdict, Rejection):
            self._refuse(endpoint, verdict, now)
            return REFUSED
        return await self._accept(endpoint, with_sender(self._context.tracer, verdict, headers), now)

    def endpoints(self) -> Mapping[str, Endpoint]:
        """Return the endpoints of the active revision, by uid."""
        active = self._current.active
        if self._endpoints_of is not active:
            self._endpoints = endpoints(self._context.owner, active.resources)
            self._keys.clear()
            self._endpoints_of = active
        return self._endpoints

    def _verify(
        self, endpoint: Endpoint | None, key_id: str, headers: Mapping[str, str], body: bytes, now: float
    ) -> Delivery | Rejection:
        if endpoint is None:
            self._equalize(body, 0, parsed=False)
            return Rejection(Refusal.UNKNOWN)
        numbers = numbers_for(endpoint, self.rotations.get(endpoint.source.id), now)
        named = key_id if self._context.keyring.by_id(key_id) is not None else ""
        keys = self._keys.get((endpoint.uid, named, numbers))
        if keys is None:
            keys = keys_for(endpoint, self._context.keyring, self._context.owner, named, numbers)
            self._keys[endpoint.uid, named, numbers] = keys
        verdict = endpoint.receiver.verify(headers, body, keys, now=now)
        if isinstance(verdict, Rejection):
            signs = endpoint.receiver.signs_body
            self._equalize(body, len(keys) if signs and verdict.reason is not Refusal.UNSIGNED else 0, parsed=not signs)
        return verdict

    def refuse_unknown(self, body: bytes) -> int:
        """Return the answer to a delivery for an endpoint that does not exist, after the same work as for one that does."""
        self.counts[Refusal.UNKNOWN.value] += 1
        self.equalize(body)
        return REFUSED

    def equalize(self, body: bytes) -> None:
        """Do the work over the body that a refused signature costs."""
        self._equalize(body, 0, parsed=False)

    def _equalize(self, body: bytes, hashed: int, *, parsed: bool) -> None:
        """Make every refusal the same work over the body, so that its time does not reveal which sources exist.

        ``hashed``: the number of keys that the body was hashed with; ``parsed``: whether it was parsed as JSON, since its proof is
        in the body.
        """
        most = max(map(len, self._keys.values()), default=1)
        for _ in range(most - hashed):
            hmac.new(_NO_KEY, body, hashlib.sha256).digest()
        if not parsed and any(not each.receiver.signs_body for each in self.endpoints().values()):
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
            self.on_health_change()
        if known is None or now - known[0] > 60:  # a flood of forgeries is one line a minute
            identity = endpoint.source.id
            self._context.log.warning(
                "delivery_refused", kind=identity.kind, name=identity.name, canvas=identity.canvas, reason=reason.value
            )

    async def _accept(self, endpoint: Endpoint, delivery: Delivery, now: float) -> int:
        """Store a verified delivery; returns the HTTP status of the answer."""
        source = endpoint.source.id
        self.note(source, LastDelivery(now, delivery.type, delivery.key))
        try:
            if endpoint.integration:
                await self.on_delivery((ResourceId.from_path(endpoint.integration),), delivery)
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
                error="a delivery with a known id has another body: it is a replay, or the sender is defective",
            )
            return CONTRADICTED
        if stored.again:
            self._context.log.info(
                "event_replayed", kind=source.kind, name=source.name, canvas=source.canvas, event_id=stored.event_id, by="sender"
            )
        self.counts["accepted" if stored.new else "duplicate"] += 1
        return ACCEPTED

    def note(self, source: ResourceId, delivery: LastDelivery) -> None:
        """Keep that a delivery of ``source`` arrived."""
        refused, known = self.refused.get(source), self.heard.get(source)
        self.heard[source] = delivery
        if known is None or (refused is not None and refused[0] > known.at):
            self.on_health_change()

    async def store(self, source: ResourceId, delivery: Delivery, origin: Origin, now: float) -> Stored:
        """Store a delivery of any origin. Raises `InboxFull`, `StateError`."""
        return await self.keep(self.event_of(source, delivery, origin, now), delivery.body)

    async def keep(self, event: Event, body: bytes) -> Stored:
        """Store an event. Raises `InboxFull`, `StateError`."""
        stored = await self._writer.store(Arrival(event, body))
        if stored.new or stored.again:
            self._on_event()
        return stored

    def event_of(self, source: ResourceId, delivery: Delivery, origin: Origin, now: float) -> Event:
        state, reason, message = EventState.PENDING, "", ""
        if delivery.problem:
            state, reason, message = EventState.REJECTED, "malformed", delivery.problem
        elif delivery.occurred_at is not None and now - delivery.occurred_at > self._context.config.retention.inbox:
            # An event older than the retention of the inbox may be a replay of one that was processed and then removed.
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
            body_digest=delivery.digest or hashlib.sha256(delivery.body).hexdigest(),
            reason=reason,
            message=message,
            headers=delivery.headers,
            trace=delivery.trace,
        )

    # -- state over restarts ----------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Load rotations, and the times of the last deliveries, from the state."""
        store = self._context.store
        for source, at in (await store.last_arrivals()).items():
            self.heard.setdefault(source, LastDelivery(at, ""))
        for endpoint in self.endpoints().values():
            if endpoint.rotation > 0:
                rotation = rotation_of(await store.get_cursor(rotation_cursor(endpoint.source.id)))
                if rotation is not None:
                    self.rotations[endpoint.source.id] = rotation

    async def save(self) -> None:
        """Store the times of the last deliveries, and the rotations that are in force everywhere now."""
        store = self._context.store
        values: dict[str, object] = {f"heard/{source.path}": heard.at for source, heard in self.heard.items()}
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
        """Whether the newest key is in force everywhere: the objects of the source match its newest generation."""
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
"""A key of no source, of the same length as derived keys."""
