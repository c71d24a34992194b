"""Sends the messages of the outbox: in order for each Notification, independently of the others, by one process at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from reconciler.credentials.backends import SecretResolver
from reconciler.engine.backoff import pause_after
from reconciler.engine.context import Context
from reconciler.engine.current import Current
from reconciler.engine.lease import lease
from reconciler.engine.revision import ActiveRevision
from reconciler.failpoints import failpoint
from reconciler.manifests.notification_spec import NotificationSpec, destination_of
from reconciler.model.codec import resource_from_json, resource_to_json
from reconciler.model.errors import OutcomeUnknown, ProviderError, ReconcilerError, StateError
from reconciler.model.incidents import Notice, NoticePhase, SinkRecord, SinkUse, WaitingNotices
from reconciler.model.resources import Kind, Resource, ResourceId
from reconciler.model.times import iso
from reconciler.notifications.message import message_of
from reconciler.notifications.senders import SinkFactory, follows_revision, is_final, sink_name
from reconciler.notifications.sinks.base import PartlySent
from reconciler.notifications.traces import notice_context, notice_spans
from reconciler.tracing import within
from reconciler.wakeup import wait_at_most

LEASE_S = 180.0
"""Longer than a whole send, so that no other process starts it again."""
IN_A_ROW = 25
"""Messages that one turn sends for a Notification."""
SINKS_AT_ONCE = 50
IDLE_S = 15.0
SHORTEST_S = 0.5
FINAL_AFTER = 3
"""Attempts after which a message that the service refuses as such is abandoned, so that it does not block later ones."""
GIVE_UP_S = 24 * 3600.0
"""A message that cannot be sent for a day is abandoned; incidents that last are reported by the next change."""
PARTLY_S = 3600.0
"""Likewise for a message that some of its recipients have."""
ERROR = 300


@dataclass(frozen=True, slots=True)
class Place:
    """A sink of the manifests as they are, or (``former``) as they were."""

    resource: Resource
    use: SinkUse
    secrets: SecretResolver
    former: bool = False


class NotificationOutbox:
    """Sends due messages. One process at a time works on one Notification."""

    def __init__(
        self,
        current: Current,
        *,
        holder: str,
        on_change: Callable[[], None] = lambda: None,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._current = current
        self._context: Context = current.context
        self._holder = holder
        self._on_change = on_change
        self._beat = beat
        self._wake = asyncio.Event()
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._draining = False
        self._seen: ActiveRevision | None = None
        self._digests: dict[str, str] = {}
        """Digest of each Notification's spec as it was last used."""
        self.counts: dict[tuple[str, str], int] = {}
        """Attempts of this process, by sink and outcome."""

    def wake(self) -> None:
        """Look for due messages at once."""
        self._wake.set()

    def drain(self) -> None:
        """Start no further message."""
        self._draining = True

    async def run(self) -> None:
        """Send until the process ends."""
        try:
            while True:
                self._beat()
                pause_s = await self.turn()
                await wait_at_most(self._wake, pause_s)
                self._wake.clear()
        finally:
            for task in self._busy.values():
                task.cancel()
            await asyncio.gather(*self._busy.values(), return_exceptions=True)

    async def turn(self) -> float:
        """Start a task for each Notification with a due message. Returns the seconds until there may be another."""
        store = self._context.store
        await self._hasten_changed()
        now = await store.now()
        if not self._draining:
            former = await store.due_former_sinks(now, SINKS_AT_ONCE)
            for path in dict.fromkeys([*await store.due_sinks(now, SINKS_AT_ONCE), *former]):
                resource = self._current.active.resources.get(ResourceId.from_path(path))
                may_send = path in former if resource is None else not self._current.suspended(resource)
                if may_send and path not in self._busy:
                    self._busy[path] = asyncio.create_task(self._work(path, resource))
        due = await store.next_due()
        return IDLE_S if due is None else min(IDLE_S, max(SHORTEST_S, due - now))

    async def settle(self, timeout_s: float) -> None:
        """Send everything that is due now, for a process that ends afterwards."""
        try:
            async with asyncio.timeout(timeout_s):
                while await self.turn() <= SHORTEST_S and self._busy:
                    await asyncio.gather(*self._busy.values(), return_exceptions=True)
        except TimeoutError:
            self._context.log.warning("notifications_pending", action="settle")

    async def _work(self, path: str, resource: Resource | None) -> None:
        try:
            await self._exclusively(path, resource)
        except StateError as error:
            self._context.log.error("loop_stalled", action="notifications", code=error.code, error=error.message)
            await asyncio.sleep(1.0)
        finally:
            self._busy.pop(path, None)
            self._wake.set()

    async def _exclusively(self, path: str, resource: Resource | None) -> None:
        if self._context.store.dialect == "sqlite":
            await self._send_due(path, resource)
            return
        async with lease(self._context, f"notify/{path}"[:400], self._holder, LEASE_S) as held:
            if held is None:
                await asyncio.sleep(1.0)
                return
            await self._send_due(path, resource, renew=held.ensure_held)

    async def _send_due(self, path: str, resource: Resource | None, renew: Callable[[], Awaitable[None]] | None = None) -> None:
        store = self._context.store
        for _ in range(IN_A_ROW):
            notice = await store.due_notice(path, await store.now(), former_only=resource is None)
            if notice is None or self._draining:
                return
            if renew is not None:
                await renew()
            if not await self._send(notice, self._place(notice, resource)):
                return

    def _place(self, notice: Notice, resource: Resource | None) -> Place:
        """Return where ``notice`` belongs: where its incident was reported, also if the manifests name another sink since."""
        used, active = notice.sent_with, self._current.active.resources
        if resource is not None and (used is None or used.destination == destination_of(resource)):
            secrets = [active[ref] for ref in resource.references if ref.kind == Kind.SECRET.value and ref in active]
            texts = tuple(resource_to_json(each).decode() for each in secrets)
            target = used.target if used is not None else {}
            use = SinkUse(destination_of(resource), resource_to_json(resource).decode(), texts, target)
            return Place(resource, use, self._current.secrets)
        if used is None:
            raise StateError(f"nothing says where {notice.incident.notification} reported {notice.incident.id}", code="RC7009")
        secrets = [resource_from_json(text.encode()) for text in used.secrets]
        former = resource_from_json(used.resource.encode())
        return Place(former, used, self._current.former_secrets(secrets), former=True)

    async def _send(self, notice: Notice, place: Place) -> bool:
        """Send one message. Returns False if it failed: later ones wait for it."""
        store = self._context.store
        try:
            if notice.phase is NoticePhase.RELEASE and follows_revision(place.resource):
                await store.skip_notice(notice, await store.now())
                return True
            sink = await SinkFactory(self._current, place.secrets).sink(place.resource)
            message = message_of(notice)
            if message.phase not in sink.phases and not notice.refresh:
                await store.skip_notice(notice, await store.now())
                return True
            if not notice.refresh and not await store.note_attempt(notice, await store.now(), place.use):
                return True
            failpoint("notice-before-send")
            with within(notice_context(self._context.tracer, notice)):
                target = await sink.send(message, place.use.target)
            failpoint("notice-after-send")
        except StateError:
            raise
        except ReconcilerError as error:
            await self._failed(notice, error, place)
            return False
        except Exception as error:  # one Notification must not stop the others
            self._context.log.exception("notification_failed", notification=notice.incident.notification, code="RC9001", error="")
            defect = ReconcilerError(f"a defect of this program: {type(error).__name__}", code="RC9001")
            await self._failed(notice, defect, place)
            return False
        now = await store.now()
        again_at = now + sink.refresh_s if sink.refresh_s and notice.incident.open else 0.0
        spans = notice_spans(self._context.tracer, notice, sink.name, now)
        await store.end_notice(notice, now, target=target, again_at=again_at, former=place.former, spans=spans)
        failpoint("notice-after-record")
        self._count(sink.name, "sent")
        with within(notice_context(self._context.tracer, notice)):
            self._context.log.info("notification_sent", **_fields(notice), sink=sink.name)
        self._on_change()
        return True

    async def _failed(self, notice: Notice, error: ReconcilerError, place: Place) -> None:
        store = self._context.store
        now = await store.now()
        self._count(sink_name(place.resource.typed(NotificationSpec).sink), "failed")
        message = self._context.redactor.redact(error.message + (f" ({error.hint})" if error.hint else ""))[:ERROR]
        record = SinkRecord(
            error=message, code=error.code, failed_at=now, former=f"{error.code}: {message}" if place.former else ""
        )
        first = notice.failed_at or now
        fields = {**_fields(notice), "code": error.code, "error": message}
        partly = error if isinstance(error, PartlySent) else None
        final = partly.lasting if partly is not None else is_final(error) and notice.failures + 1 >= FINAL_AFTER
        late = now - first > (GIVE_UP_S if partly is None else PARTLY_S)
        # The number too: a clock that was set forward is no day of attempts.
        if final or (late and notice.failures >= FINAL_AFTER and not notice.refresh):
            self._count(sink_name(place.resource.typed(NotificationSpec).sink), "abandoned")
            self._context.log.error("notification_abandoned", **fields)
            await store.abandon_notice(notice, now, record)
        else:
            pause_s = pause_after(self._context, notice.failures, error)
            unknown = isinstance(error, OutcomeUnknown) or (isinstance(error, ProviderError) and error.unknown_outcome)
            self._context.log.warning("notification_retry_scheduled", **fields)
            target = partly.target if partly is not None else None
            await store.put_off_notice(notice, now + pause_s, record, unknown=unknown, target=target)
        self._on_change()

    def _count(self, sink: str, outcome: str) -> None:
        self.counts[sink, outcome] = self.counts.get((sink, outcome), 0) + 1

    async def _hasten_changed(self) -> None:
        """Try again at once what failed, where the Notification changed since: it may be repaired."""
        if self._seen is self._current.active:
            return
        self._seen = self._current.active
        for identity, resource in self._current.active.resources.items():
            if identity.kind != Kind.NOTIFICATION.value:
                continue
            before = self._digests.get(identity.path)
            self._digests[identity.path] = resource.spec_digest
            if before is not None and before != resource.spec_digest:
                await self._context.store.hasten_notices(identity.path, await self._context.store.now())


def _fields(notice: Notice) -> dict[str, str]:
    incident = notice.incident
    return {
        "notification": incident.notification,
        "incident": incident.id,
        "phase": notice.phase.value,
        "topic": incident.topic.value,
    }


def delivery_text(record: SinkRecord, waiting: WaitingNotices) -> str:
    """Return the counts of a Notification's messages as a sentence. Times are absolute, so that the text changes only with its facts."""
    parts = [f"{record.sent} sent"]
    if record.suppressed:
        parts.append(f"{record.suppressed} suppressed ({record.why})")
    if record.abandoned:
        parts.append(f"{record.abandoned} abandoned")
    if waiting.count and (record.error or record.former):
        parts.append(f"{waiting.count} waiting since {iso(waiting.since)}, next attempt at {iso(waiting.due_at)}")
    return ", ".join(parts)


__all__ = ["NotificationOutbox", "delivery_text"]
