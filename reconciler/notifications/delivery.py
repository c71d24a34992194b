"""The condition Delivering of each Notification, and `notify test`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.engine.conditions import ConditionCause
from reconciler.engine.current import Current
from reconciler.engine.signals import RETRYING
from reconciler.engine.view import EventStatus
from reconciler.manifests.notification_spec import NotificationSpec
from reconciler.manifests.resource_argument import parse_resource
from reconciler.model.errors import ProviderError, ReconcilerError, UsageError
from reconciler.model.incidents import SinkRecord, WaitingNotices
from reconciler.model.resources import Kind, Resource, ResourceId
from reconciler.model.status import ConditionStatus
from reconciler.model.times import iso
from reconciler.notifications.message import message_of, test_notice
from reconciler.notifications.outbox import delivery_text
from reconciler.notifications.senders import SinkFactory, sink_name

REPORTED_AFTER = 3
"""Failures in a row from which other Notifications report that a Notification does not deliver."""


async def with_deliveries(current: Current, outside: EventStatus) -> EventStatus:
    """Return ``outside`` with the condition Delivering of every Notification."""
    own = [identity for identity in current.active.resources if identity.kind == Kind.NOTIFICATION.value]
    if not own:
        return outside
    store = current.context.store
    records, waiting = await store.sink_records(), await store.waiting_notices()
    delivering = {
        identity: delivering_of(records.get(identity.path, SinkRecord()), waiting.get(identity.path, WaitingNotices()))
        for identity in own
    }
    by_sink = _waiting_by_sink((current.active.resources[identity], waiting.get(identity.path)) for identity in own)
    return dataclasses.replace(outside, delivering={**outside.delivering, **delivering}, waiting=by_sink)


def _waiting_by_sink(waiting: Iterable[tuple[Resource, WaitingNotices | None]]) -> dict[str, WaitingNotices]:
    rows: dict[str, list[WaitingNotices]] = {}
    for resource, each in waiting:
        rows.setdefault(sink_name(resource.typed(NotificationSpec).sink), []).extend([each] if each is not None else [])
    return {
        sink: WaitingNotices(
            sum(each.count for each in some),
            min((each.since for each in some), default=0.0),
            min((each.due_at for each in some), default=0.0),
        )
        for sink, some in rows.items()
    }


def delivering_of(record: SinkRecord, waiting: WaitingNotices) -> tuple[ConditionStatus, ConditionCause]:
    """Return the condition that follows from what is known of a Notification's messages."""
    text = delivery_text(record, waiting)
    if record.error:
        # A rate limit or an answer of 500 that the next attempts pass is no reason to send messages elsewhere.
        reason = "DeliveriesFail" if record.failures >= REPORTED_AFTER or record.abandoned else RETRYING
        return ConditionStatus.FALSE, ConditionCause(reason, f"{record.code}: {record.error}; {text}")
    if record.former:
        return ConditionStatus.FALSE, ConditionCause(
            "FormerSinkFails",
            f"the former sink still shows an incident, and does not take its end: {record.former}. "
            f"End it there by hand if that lasts; {text}",
        )
    if not record.sent_at:
        return ConditionStatus.UNKNOWN, ConditionCause(
            "NoMessagesYet", "no message was sent yet; `reconciler notify test` sends one"
        )
    return ConditionStatus.TRUE, ConditionCause("Delivered", text)


async def send_test(current: Current, request: Mapping[str, Any], by: str) -> Mapping[str, Any]:
    """Send a test message through the sink of a Notification now. Raises the sink's error."""
    identity = _notification(current, str(request.get("name") or ""))
    resource = current.active.resources[identity]
    context = current.context
    notice = test_notice(identity, by, context.clock())
    try:
        sink = await SinkFactory(current, current.secrets).sink(resource)
        await sink.send(message_of(notice), {})
    except ReconcilerError as error:
        context.log.warning("notification_test_failed", notification=identity.path, code=error.code, error=error.message)
        message = context.redactor.redact(f"{identity}: {error.message}")
        hint = error.hint
        if isinstance(error, ProviderError) and error.retry_at is not None:
            hint = f"{hint} Try again after {iso(error.retry_at)}.".strip()
        raise ReconcilerError(message, code=error.code, hint=context.redactor.redact(hint)) from None
    await context.store.hasten_notices(identity.path, await context.store.now())
    context.log.info(
        "notification_sent", notification=identity.path, incident=notice.incident.id, phase="test", topic="", sink=sink.name
    )
    return {"notification": identity.path, "sink": sink.name}


def _notification(current: Current, text: str) -> ResourceId:
    known = {identity for identity in current.active.resources if identity.kind == Kind.NOTIFICATION.value}
    identity = parse_resource(text if "/" in text else f"Notification/{text}", known)
    if identity not in known:
        names = ", ".join(sorted(str(each) for each in known)[:5]) or "none"
        raise UsageError(f"there is no {identity} in the active revision", hint=f"Declared: {names}.")
    return identity


__all__ = ["delivering_of", "send_test", "with_deliveries"]
