"""Queues of stages: items, approvals, admission. A claim is atomic: one at a time for each stage, over all processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import delete, func, select, update

from reconciler.model.codec import decode, encode
from reconciler.model.executions import Effect, Execution, Item, ItemState, Vote
from reconciler.model.incidents import Occurrence
from reconciler.model.records import AuditEntry
from reconciler.model.resources import ResourceId
from reconciler.model.traces import SpanRecord
from reconciler.model.values import JsonObject
from reconciler.state import tables
from reconciler.state.audit import append_entries
from reconciler.state.database import CHUNK, Database, chunks, insert_new, locked, newest, upsert
from reconciler.state.executions import OPEN, execution_row, insert_outputs, save_version
from reconciler.state.inbox import Arrival, insert_events
from reconciler.state.incidents import insert_occurrences
from reconciler.state.leases import lock_name
from reconciler.state.reports import PendingReport, insert_reports
from reconciler.state.spans import insert_spans

i, x, v, p, o, r = tables.item, tables.execution, tables.vote, tables.pin, tables.output, tables.report
LOOKED_AT = 500
"""Items of one queue that one admission examines."""
MAX_EFFECTS = 5_000
"""Rows that `QueueStore.effects_of` reads for one part of its events: an event may be rerun without end."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The decision of `admit` for one stage: which items start, which are discarded, and why the others wait."""

    start: tuple[Execution, ...] = ()
    discard: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Item id → (reason, message)."""
    waiting: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    reports: tuple[PendingReport, ...] = ()
    spans: tuple[SpanRecord, ...] = ()
    """The waits that end with this decision."""


Admit = Callable[[Sequence[Item], int, Mapping[str, Sequence[Vote]]], Admission]
"""(queued items oldest first, executions under way, votes by item) → what happens. Pure."""


class QueueStore(Database):
    """Items, approvals of items, pinned specs."""

    # -- items ------------------------------------------------------------------------------------------------------

    def queue_repetition(
        self, item: Item, pins: Mapping[str, bytes], reports: Sequence[PendingReport], *, audit: AuditEntry
    ) -> Item | None:
        """Queue an item that repeats another one of its event and stage. Returns None, or the item that prevents it.

        That is the item itself, if it was queued before, or another item of the same event and stage that waits or runs.
        """
        now = self.now()
        with self._write() as connection:
            lock_name(connection, f"queue/{item.stage.path}")
            rows = connection.execute(select(i.c.payload).where(i.c.event_id == item.event_id, i.c.stage == item.stage.path))
            known: list[Item] = [decode(Item, payload) for payload in rows.scalars()]
            same = next((other for other in known if other.id == item.id), None)
            active = next((other for other in known if other.state in (ItemState.QUEUED, ItemState.RUNNING)), None)
            if same is not None or active is not None:
                return same or active
            enqueue(connection, [item], pins, reports, now)
            append_entries(connection, self.signing_key, [audit])
        return None

    def stages_with_items(self) -> list[ResourceId]:
        """Return the stages with queued items."""
        with self._read() as connection:
            query = select(i.c.stage).where(i.c.state == ItemState.QUEUED.value).distinct().order_by(i.c.stage)
            return [ResourceId.from_path(path) for path in connection.execute(query).scalars()]

    def admit(self, stage: ResourceId, decide: Admit, *, limit: int = LOOKED_AT) -> Admission:
        """Apply the decision of ``decide`` in one transaction, one at a time for each stage over all processes."""
        with self._write() as connection:
            lock_name(connection, f"queue/{stage.path}")
            items = _candidates(connection, stage, limit)
            if not items:
                return Admission()
            active = select(func.count()).select_from(x).where(x.c.stage == stage.path, x.c.state.in_(OPEN))
            running = connection.execute(active).scalar_one()
            decision = decide(items, running, _votes_by_item(connection, [item.id for item in items]))
            _carry_out(connection, {item.id: item for item in items}, decision)
        return decision

    def candidates(self, stage: ResourceId, limit: int = LOOKED_AT) -> list[Item]:
        """Return the queued items that `admit` examines, oldest first."""
        with self._read() as connection:
            return _candidates(connection, stage, limit)

    def item(self, item_id: str) -> Item | None:
        """Return one item, or None."""
        with self._read() as connection:
            payload = connection.execute(select(i.c.payload).where(i.c.id == item_id)).scalar()
        return decode(Item, payload) if payload is not None else None

    def items(self, *, stage: str = "", states: Sequence[str] = (), limit: int = 200) -> list[Item]:
        """Return items, newest first."""
        with self._read() as connection:
            payloads = newest(connection, i, states or [*ItemState], limit, [i.c.stage == stage] if stage else [])
        return [decode(Item, payload) for payload in payloads]

    def items_of_event(self, event_id: str) -> list[Item]:
        """Return the items of an event."""
        with self._read() as connection:
            query = select(i.c.payload).where(i.c.event_id == event_id).order_by(i.c.id)
            return [decode(Item, payload) for payload in connection.execute(query).scalars()]

    def effects_of(self, event_ids: Sequence[str]) -> list[Effect]:
        """Return what events led to: their items in order, each with its newest execution; at most `MAX_EFFECTS`."""
        effects: dict[str, Effect] = {}
        with self._read() as connection:
            for part in chunks(list(event_ids)):
                query = (
                    select(i.c.event_id, i.c.id, i.c.stage, i.c.state, x.c.id, x.c.result)
                    .select_from(i.outerjoin(x, x.c.item_id == i.c.id))
                    .where(i.c.event_id.in_(part))
                    .order_by(i.c.created_at, i.c.id, x.c.created_at)
                    .limit(MAX_EFFECTS)
                )
                for event, item, stage, state, execution, result in connection.execute(query):
                    effects[item] = Effect(
                        event, item, ResourceId.from_path(stage), ItemState(state), execution or "", result or ""
                    )
        return list(effects.values())

    def origins_of(self, item_ids: Sequence[str]) -> dict[str, JsonObject]:
        """Return the first cause of each item, by its id."""
        origins: dict[str, JsonObject] = {}
        with self._read() as connection:
            for part in chunks(list(item_ids)):
                for payload in connection.execute(select(i.c.payload).where(i.c.id.in_(part))).scalars():
                    item: Item = decode(Item, payload)
                    origins[item.id] = item.origin
        return origins

    def discard_item(
        self,
        item_id: str,
        reason: str,
        message: str,
        *,
        reports: Sequence[PendingReport],
        audit: AuditEntry,
        spans: Sequence[SpanRecord] = (),
    ) -> bool:
        """Discard a queued item. Returns False if it is not queued any more."""
        with self._write() as connection:
            query = select(i.c.payload).where(i.c.id == item_id, i.c.state == ItemState.QUEUED.value)
            payload = connection.execute(locked(connection, query)).scalar()
            if payload is None:
                return False
            set_item(connection, decode(Item, payload), ItemState.DISCARDED, reason, message)
            insert_reports(connection, reports)
            insert_spans(connection, spans)
            append_entries(connection, self.signing_key, [audit])
        return True

    def pinned(self, digest: str) -> bytes | None:
        """Return the spec of a stage as it was when an item was queued."""
        with self._read() as connection:
            return connection.execute(select(p.c.payload).where(p.c.digest == digest)).scalar()

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the numbers of queued items and active executions by stage path: ``{"queue", "running"}``."""
        numbers: dict[str, dict[str, int]] = {}
        with self._read() as connection:
            waiting = select(i.c.stage, func.count()).where(i.c.state == ItemState.QUEUED.value).group_by(i.c.stage)
            for stage, number in connection.execute(waiting):
                numbers.setdefault(stage, {"queue": 0, "running": 0})["queue"] = number
            for state in OPEN:
                running = select(x.c.stage, func.count()).where(x.c.state == state).group_by(x.c.stage)
                for stage, number in connection.execute(running):
                    numbers.setdefault(stage, {"queue": 0, "running": 0})["running"] += number
        return numbers

    def finish_execution(
        self,
        execution: Execution,
        *,
        outputs: JsonObject,
        retry: Item | None = None,
        arrival: Arrival | None = None,
        reports: Sequence[PendingReport] = (),
        occurrences: Sequence[Occurrence] = (),
        spans: Sequence[SpanRecord] = (),
    ) -> Execution:
        """Finish an execution in one commit: its item is done, or queued again (``retry``); its event (``arrival``) is stored."""
        with self._write() as connection:
            changed = save_version(connection, execution)
            payload = connection.execute(select(i.c.payload).where(i.c.id == execution.item_id)).scalar()
            if payload is not None:
                item = decode(Item, payload)
                if retry is not None:
                    set_item(
                        connection,
                        item,
                        ItemState.QUEUED,
                        retry.reason,
                        retry.message,
                        attempt=retry.attempt,
                        not_before=retry.not_before,
                        failure=retry.failure,
                        queued_at=execution.finished_at,
                    )
                else:
                    set_item(connection, item, ItemState.DONE)
            insert_outputs(connection, execution.id, outputs)
            if arrival is not None:
                insert_events(connection, [arrival])
            insert_reports(connection, reports)
            insert_occurrences(connection, occurrences)
            insert_spans(connection, spans)
        return changed

    # -- approvals --------------------------------------------------------------------------------------------------

    def add_vote(self, vote: Vote, *, audit: AuditEntry) -> bool:
        """Store an approval with its audit row. Returns False if this person approved the item before, or it is not queued any more."""
        with self._write() as connection:
            query = select(i.c.id).where(i.c.id == vote.item_id, i.c.state == ItemState.QUEUED.value)
            if connection.execute(locked(connection, query)).first() is None:
                return False
            known = connection.execute(select(v.c.by).where(v.c.item_id == vote.item_id, v.c.by == vote.by)).first()
            if known is not None:
                return False
            connection.execute(v.insert().values(item_id=vote.item_id, by=vote.by, at=vote.at))
            append_entries(connection, self.signing_key, [audit])
        return True

    def votes(self, item_id: str) -> list[Vote]:
        """Return the approvals of an item, oldest first."""
        with self._read() as connection:
            return _votes_by_item(connection, [item_id]).get(item_id, [])

    def votes_of(self, item_ids: Sequence[str]) -> dict[str, list[Vote]]:
        """Return the approvals of several items, oldest first. Items without an approval are left out."""
        with self._read() as connection:
            return _votes_by_item(connection, item_ids)

    # -- retention --------------------------------------------------------------------------------------------------

    def prune_executions(self, before: float, limit: int = CHUNK) -> int:
        """Delete up to ``limit`` finished items older than ``before`` (epoch seconds), with their executions, votes and reports.

        Returns the number of rows; call it until it returns 0. Unused pins go last.
        """
        lease = tables.lease
        with self._write() as connection:
            old: list[str] = []
            for state in (ItemState.DONE, ItemState.DISCARDED):
                query = select(i.c.id).where(i.c.state == state.value, i.c.created_at < before).limit(limit - len(old))
                old += connection.execute(query).scalars()
            for part in chunks(old):
                runs = list(connection.execute(select(x.c.id).where(x.c.item_id.in_(part))).scalars())
                names = [f"report/{item_id}" for item_id in part] + [f"execution/{run}" for run in runs]
                for batch in chunks(names):
                    connection.execute(delete(lease).where(lease.c.name.in_(batch)))
                for batch in chunks(runs):
                    connection.execute(delete(o).where(o.c.execution_id.in_(batch)))
                connection.execute(delete(x).where(x.c.item_id.in_(part)))
                connection.execute(delete(v).where(v.c.item_id.in_(part)))
                connection.execute(delete(r).where(r.c.item_id.in_(part)))
                connection.execute(delete(i).where(i.c.id.in_(part)))
            pins = _prune_pins(connection, before, limit) if not old else 0
        return len(old) + pins


def _item_row(item: Item) -> dict[str, object]:
    return {
        "id": item.id,
        "stage": item.stage.path,
        "event_id": item.event_id,
        "state": item.state.value,
        "created_at": item.created_at,
        "payload": encode(item),
    }


def enqueue(
    connection: SqlConnection,
    items: Iterable[Item],
    pins: Mapping[str, bytes],
    reports: Iterable[PendingReport],
    now: float,
) -> None:
    for digest, payload in pins.items():
        upsert(connection, p, [{"digest": digest, "used_at": now, "payload": payload}])
    for item in items:
        insert_new(connection, i, _item_row(item))
    insert_reports(connection, reports)


def _candidates(connection: SqlConnection, stage: ResourceId, limit: int) -> list[Item]:
    """Return the oldest items; beyond ``limit`` also the approved ones, and the newest, which may supersede all others."""
    queued = select(i.c.payload).where(i.c.stage == stage.path, i.c.state == ItemState.QUEUED.value)
    oldest = list(connection.execute(queued.order_by(i.c.created_at, i.c.id).limit(limit)).scalars())
    if len(oldest) == limit:
        voted = select(v.c.item_id).where(v.c.item_id == i.c.id).exists()  # per queued item, not over all approvals
        approved = queued.where(voted).order_by(i.c.created_at, i.c.id).limit(limit)
        oldest += connection.execute(approved).scalars()
        oldest += connection.execute(queued.order_by(i.c.created_at.desc(), i.c.id.desc()).limit(1)).scalars()
    items = {item.id: item for item in (decode(Item, payload) for payload in oldest)}
    return sorted(items.values(), key=lambda item: (item.created_at, item.id))


def _carry_out(connection: SqlConnection, items: Mapping[str, Item], decision: Admission) -> None:
    for execution in decision.start:
        set_item(connection, items[execution.item_id], ItemState.RUNNING)
        connection.execute(x.insert().values(execution_row(execution)))
    for item_id, (reason, message) in decision.discard.items():
        set_item(connection, items[item_id], ItemState.DISCARDED, reason, message)
    for item_id, (reason, message) in decision.waiting.items():
        known = items[item_id]
        if (known.reason, known.message) != (reason, message):
            set_item(connection, known, ItemState.QUEUED, reason, message)
    insert_reports(connection, decision.reports)
    insert_spans(connection, decision.spans)


def set_item(
    connection: SqlConnection, item: Item, state: ItemState, reason: str = "", message: str = "", **changes: Any
) -> None:
    changed = dataclasses.replace(item, state=state, reason=reason, message=message, **changes)
    connection.execute(update(i).where(i.c.id == item.id).values(state=state.value, payload=encode(changed)))


def _votes_by_item(connection: SqlConnection, item_ids: Sequence[str]) -> dict[str, list[Vote]]:
    votes: dict[str, list[Vote]] = {}
    for part in chunks(list(item_ids)):
        query = select(v.c.item_id, v.c.by, v.c.at).where(v.c.item_id.in_(part)).order_by(v.c.at, v.c.by)
        for item_id, by, at in connection.execute(query):
            votes.setdefault(item_id, []).append(Vote(item_id, by, at))
    return votes


def _prune_pins(connection: SqlConnection, before: float, limit: int) -> int:
    """Delete pins unused since ``before``, except those of items that have been waiting or running since then."""
    known = set(connection.execute(select(p.c.digest).where(p.c.used_at < before)).scalars())
    if not known:
        return 0
    still = select(i.c.payload).where(i.c.state.in_([ItemState.QUEUED.value, ItemState.RUNNING.value]), i.c.created_at < before)
    used = {decode(Item, payload).spec_digest for payload in connection.execute(still).scalars()}
    gone = 0
    for part in chunks(sorted(known - used)[:limit]):  # checked again: another process may queue an item with it now
        gone += connection.execute(delete(p).where(p.c.digest.in_(part), p.c.used_at < before)).rowcount
    return gone
