"""Intake of an App's webhook: one URL for everything that the App sees. Each event is stored once for every source that asks for it.

The rows are those that the webhook of each repository would make, with the sender's id of the event, so that an event that arrives by
both is one event.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from reconciler.drivers.apps import AppEvent
from reconciler.drivers.connection import Connection
from reconciler.engine.app_hooks import PLACE, heard_cursor, place_cursor
from reconciler.engine.connections import Client
from reconciler.engine.current import Current
from reconciler.engine.former_apps import former_apps
from reconciler.engine.revision import ActiveRevision
from reconciler.events.app_routing import AppEndpoint, app_endpoints, unrouted
from reconciler.events.group_commit import InboxFull
from reconciler.events.intake import ACCEPTED, BUSY, CONTRADICTED, REFUSED, Intake, LastDelivery, OnDelivery, no_reader
from reconciler.events.traces import with_sender
from reconciler.model.errors import ReconcilerError, StateError
from reconciler.model.events import Delivery, Event, EventState, Origin, Refusal, Rejection
from reconciler.model.resources import ResourceId, SecretRef
from reconciler.model.secrets import SecretValue

FORMER_S = 30.0
"""How often the Apps that Integrations have left are read again."""
SECRETS_S = 30.0
"""How long the value of a webhook's secret is used before it is read again."""
HEARD_S = 60.0
"""How often the time of the last delivery of an App is stored."""
STRANGERS, STRANGERS_S = 100, 60.0
"""How many events of undeclared installations are kept within this time (seconds): whoever may install the App can send them."""
REMEMBERED = 4_096
"""Ids of deliveries that are remembered."""
OnReach = Callable[[tuple[ResourceId, ...]], Awaitable[None]]


@dataclass(slots=True)
class WebhookSecrets:
    """The values of an App's webhook secrets, in the order of `AppEndpoint.secrets`."""

    values: list[SecretValue]
    read_at: float


class AppIntake:
    """Receives the deliveries of Apps, once in each process."""

    def __init__(self, current: Current, intake: Intake, *, on_reach: OnReach) -> None:
        self._current = current
        self._context = current.context
        self._intake = intake
        self._on_reach = on_reach
        """Called with Integrations whose App may do or see something else now, or whose webhook has delivered for the first time."""
        self._endpoints: dict[str, AppEndpoint] = {}
        self._endpoints_of: ActiveRevision | None = None
        self._former: Mapping[ResourceId, Connection] = {}
        self._former_at = float("-inf")
        self._secrets: dict[str, WebhookSecrets] = {}
        self._ids: dict[str, dict[str, str]] = {}
        """App → name of a repository in manifests → its id."""
        self.heard: dict[str, float] = {}
        """App → when its last verified delivery arrived (epoch seconds)."""
        self._stored_at: dict[str, float] = {}
        self._strangers: deque[float] = deque(maxlen=STRANGERS)
        self.refused: dict[str, tuple[float, str]] = {}
        """App → time and reason of its last refused delivery."""

        self.on_delivery: OnDelivery = no_reader
        """Called with the Integrations that a verified delivery belongs to, before it is answered. Raises `StateError`."""
        self.arrived: OrderedDict[str, None] = OrderedDict()
        """Ids of the newest deliveries that are stored, for the recovery that asked for them."""

    def endpoints(self) -> Mapping[str, AppEndpoint]:
        """Return the endpoints of the active revision, by the key in their URL."""
        active = self._current.active
        if self._endpoints_of is not active:
            self._endpoints = app_endpoints(self._context.owner, active.resources, self._former)
            self._secrets.clear()
            self._endpoints_of = active
        return self._endpoints

    async def refresh(self) -> Mapping[str, AppEndpoint]:
        """Return the endpoints, with those of Apps that Integrations have left. Raises `StateError`."""
        now = self._context.clock()
        if self._endpoints_of is not self._current.active or not 0 <= now - self._former_at < FORMER_S:
            former = await former_apps(self._context)
            if former != self._former:
                self._former, self._endpoints_of = former, None
            self._former_at = now
        return self.endpoints()

    async def client(self, endpoint: AppEndpoint, integration: ResourceId) -> Client:
        """Return a client that acts as the App of ``endpoint``. Raises `ReconcilerError` if it cannot be connected."""
        former = next((user.former for user in endpoint.users if user.integration == integration), None)
        if former is None:
            return await self._current.client(integration)
        identity = ResourceId("App", integration.canvas, integration.name)  # the Integration itself has another credential now
        stored = {identity: dataclasses.replace(former, integration=identity)}
        return await self._current.clients.link(identity, self._current.active, stored, self._current.secrets)

    async def receive(self, owner: str, uid: str, key_id: str, headers: Mapping[str, str], body: bytes) -> int:
        """Return the HTTP status of the answer: 202 once the delivery is durable, the same 401 for every refusal.

        503 before the first revision is read, and while the secret cannot be read: the sender lists it as failed, and it is recovered.
        """
        if self._current.active.empty:
            return self._busy()
        try:
            endpoint = (await self.refresh()).get(uid) if owner == self._context.owner else None
        except StateError as error:
            self._context.log.error("delivery_not_stored", app=uid[:20], code=error.code, error=error.message)
            return self._busy()
        if endpoint is None:
            return self._intake.refuse_unknown(body)
        now = self._context.clock()
        keys = await self._keys(endpoint, key_id, now)
        if not keys:
            return self._busy()
        verdict = endpoint.receiver.verify(headers, body, keys, now=now)
        if isinstance(verdict, Rejection):
            self._refuse(endpoint, verdict, body, now)
            return REFUSED
        try:
            return await self.accept(endpoint, with_sender(self._context.tracer, verdict, headers), Origin.DELIVERED, now)
        except (InboxFull, StateError) as error:
            self._context.log.error("delivery_not_stored", app=endpoint.uid, code=error.code, error=error.message)
            return self._busy()

    async def accept(self, endpoint: AppEndpoint, delivery: Delivery, origin: Origin, now: float) -> int:
        """Store a verified delivery for each source that asks for it. Raises `InboxFull`, `StateError`.

        What comes from an installation that no Integration has is stored under an Integration of the App, with the reason. What no
        source asks for is counted: the sender would not send it to the webhook of a repository either.
        """
        event = endpoint.webhooks.read(delivery)
        owners = tuple(user.integration for user in endpoint.users if user.owns(event))
        sources: tuple[ResourceId, ...] = ()
        if owners:  # what an installation says that nobody declared is not believed
            await self._learn(endpoint, event)
            sources = endpoint.route(event, delivery.type, self._names(endpoint))
            await self.on_delivery(owners, delivery)
        await self._note(endpoint, delivery, origin, now)
        events = [self._intake.event_of(source, delivery, origin, now) for source in sources]
        known = bool(owners) or owner_known(endpoint, event)
        about_app = event.about_app or bool(delivery.problem)
        if about_app if known else self._admits_stranger(endpoint, delivery, event, now):
            events.append(self._own_event(endpoint, delivery, event, origin, now))
        status = await self._store(events, delivery.body)
        self._remember(delivery.id)
        for source in sources:
            self._intake.note(source, LastDelivery(now, delivery.type, delivery.key))
        if not events and owners:
            self._intake.counts["not-asked-for"] += 1
        if event.changes_reach and owners:  # strangers who install the App cause no work
            await self._on_reach(owners)
        return status

    async def again(self, stored: Event, body: bytes) -> bool:
        """Route an event that was stored under an Integration, at the active revision; False if no source asks for it now."""
        endpoint = next((each for each in (await self.refresh()).values() if stored.source in each.integrations), None)
        if endpoint is None:
            return False
        delivery = Delivery(
            stored.delivery_id,
            stored.type,
            body,
            identity=stored.identity,
            occurred_at=stored.occurred_at,
            headers=stored.headers,
            digest=stored.body_digest,
        )
        event, now = endpoint.webhooks.read(delivery), await self._context.store.now()
        if not any(user.owns(event) for user in endpoint.users):
            return False
        sources = endpoint.route(event, delivery.type, self._names(endpoint))
        await self._store([self._intake.event_of(source, delivery, stored.origin, now) for source in sources], body)
        return bool(sources)

    # -- verification -----------------------------------------------------------------------------------------------

    async def _keys(self, endpoint: AppEndpoint, key_id: str, now: float) -> list[SecretValue]:
        """Return the keys that may verify a delivery: the declared secrets, and the derived key where an Integration declares none."""
        known = self._secrets.get(endpoint.uid)
        if known is None or not 0 <= now - known.read_at < SECRETS_S:
            refs = [ref for ref in endpoint.secrets if ref is not None]
            values = await asyncio.to_thread(self._read, refs)
            known = self._secrets[endpoint.uid] = WebhookSecrets(values, now)
        keys = list(known.values)
        if None in endpoint.secrets:
            ring, owner = self._context.keyring, self._context.owner
            masters = {key.key_id: key for key in (ring.by_id(key_id), ring.current, ring.previous) if key is not None}
            keys += [ring.signing_key(owner, endpoint.uid, 0, key=master) for master in masters.values()]
        return keys

    def _read(self, refs: Sequence[SecretRef]) -> list[SecretValue]:
        values = []
        for ref in refs:
            try:
                values.append(self._current.secrets.read(ref))
            except ReconcilerError as error:
                self._context.log.warning("webhook_secret_unavailable", secret=str(ref), code=error.code, error=error.message)
        return values

    def _refuse(self, endpoint: AppEndpoint, verdict: Rejection, body: bytes, now: float) -> None:
        self._intake.counts[verdict.reason.value] += 1
        if verdict.reason is Refusal.UNSIGNED:
            self._intake.equalize(body)
        known = self.refused.get(endpoint.uid)
        self.refused[endpoint.uid] = (now, f"{verdict.reason.value}: {verdict.detail}".rstrip(": "))
        if known is None:
            self._intake.on_health_change()
        if known is None or now - known[0] > 60:  # a flood of forgeries is one line a minute
            users = ", ".join(identity.name for identity in endpoint.integrations)
            self._context.log.warning("delivery_refused", integrations=users, reason=verdict.reason.value)

    def _busy(self) -> int:
        self._intake.counts["busy"] += 1
        return BUSY

    # -- storing ----------------------------------------------------------------------------------------------------

    async def _store(self, events: Sequence[Event], body: bytes) -> int:
        """Store the rows of one delivery in one group commit. Returns the status of the answer."""
        stored = await asyncio.gather(*(self._intake.keep(event, body) for event in events))
        if any(not each.new and not each.same for each in stored):
            self._intake.counts["contradicted"] += 1
            self._context.log.error(
                "delivery_contradicted",
                event_id=next(each.event_id for each in stored if not each.new and not each.same),
                code="RC8009",
                error="a delivery with a known id has another body: it is a replay, or the sender is defective",
            )
            return CONTRADICTED
        if stored:
            self._intake.counts["accepted" if any(each.new for each in stored) else "duplicate"] += 1
        return ACCEPTED

    def _remember(self, delivery_id: str) -> None:
        self.arrived[delivery_id] = None
        while len(self.arrived) > REMEMBERED:
            self.arrived.popitem(last=False)

    def _own_event(self, endpoint: AppEndpoint, delivery: Delivery, event: AppEvent, origin: Origin, now: float) -> Event:
        """Return the row of an event about the App itself, or of one that belongs to no Integration. It is not dispatched."""
        owner = next((user.integration for user in endpoint.users if user.owns(event)), endpoint.integrations[0])
        row = self._intake.event_of(owner, delivery, origin, now)
        if row.state is not EventState.PENDING:
            return row
        if owner_known(endpoint, event):
            return dataclasses.replace(row, state=EventState.PROCESSED, reason=delivery.type)
        return dataclasses.replace(row, state=EventState.REJECTED, reason="unrouted", message=unrouted(event))

    def _admits_stranger(self, endpoint: AppEndpoint, delivery: Delivery, event: AppEvent, now: float) -> bool:
        """Count and log an event of an undeclared installation; return whether it is kept, too."""
        self._intake.counts["unrouted"] += 1
        kept = len(self._strangers) < STRANGERS or not 0 <= now - self._strangers[0] < STRANGERS_S
        if kept:
            self._strangers.append(now)
            owner = endpoint.integrations[0].name
            self._context.log.warning("delivery_unrouted", integrations=owner, type=delivery.type, error=unrouted(event))
        return kept

    async def _note(self, endpoint: AppEndpoint, delivery: Delivery, origin: Origin, now: float) -> None:
        """Keep that the App's webhook delivers: then the webhooks that it replaces may go."""
        if origin is not Origin.DELIVERED:
            return
        before = self._stored_at.get(endpoint.uid)
        refused = self.refused.get(endpoint.uid)
        if endpoint.uid not in self.heard or (refused is not None and refused[0] > self.heard[endpoint.uid]):
            self._intake.on_health_change()
        self.heard[endpoint.uid] = now
        if before is None or not 0 <= now - before < HEARD_S:
            name = heard_cursor(endpoint.uid)
            first = before is None and await self._context.store.get_cursor(name) is None
            await self._context.store.set_cursors({name: now})
            self._stored_at[endpoint.uid] = now
            if first:
                await self._on_reach(endpoint.integrations)

    # -- names and ids ----------------------------------------------------------------------------------------------

    def _names(self, endpoint: AppEndpoint) -> Mapping[str, frozenset[str]]:
        """Return the names in manifests by the id of the repository."""
        names: dict[str, frozenset[str]] = {}
        for name, number in self._ids.get(endpoint.uid, {}).items():
            names[number] = names.get(number, frozenset()) | {name}
        return names

    async def _learn(self, endpoint: AppEndpoint, event: AppEvent) -> None:
        """Keep the id of a repository that a source names, so that it is known when it is called otherwise.

        The ids are read again for a repository that is not known: a reconcile or another process may have learned it.
        """
        stranger = event.place not in endpoint.names and event.place_id not in self._ids.get(endpoint.uid, {}).values()
        if endpoint.uid not in self._ids or (stranger and event.place_id):
            prefix = f"{PLACE}{endpoint.uid}/"
            rows = await self._context.store.cursors(prefix)
            self._ids[endpoint.uid] = {name.removeprefix(prefix): str(number) for name, number in rows.items()}
        known = self._ids[endpoint.uid]
        name = event.former if event.former in endpoint.names and event.place not in endpoint.names else event.place
        if event.place_id and name in endpoint.names and known.get(name) != event.place_id:
            await self._context.store.set_cursors({place_cursor(endpoint.uid, name): event.place_id})
            known[name] = event.place_id


def owner_known(endpoint: AppEndpoint, event: AppEvent) -> bool:
    """Whether an event belongs to an Integration, or is about the App as a whole."""
    everywhere = event.about_app and not event.installation and not event.account
    return everywhere or any(user.owns(event) for user in endpoint.users)


__all__ = ["AppIntake"]
