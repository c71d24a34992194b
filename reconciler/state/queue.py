"""Queues of stages: items, approvals, executions, outputs, and what is to be reported. Claims are atomic, writes are guarded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import delete, func, select, update

from reconciler.model.events import Event
from reconciler.model.executions import Execution, ExecutionState, Item, ItemState, Vote
from reconciler.model.records import AuditEntry
from reconciler.model.resources import ResourceId
from reconciler.state import tables
from reconciler.state.audit import AuditLog
from reconciler.state.base import chunks, pack, unpack
from reconciler.state.inbox import Arrival, Inbox
from reconciler.state.rows import FenceLost

i, x, v, p, o, r = tables.item, tables.execution, tables.vote, tables.pin, tables.output, tables.report

_OPEN = (ExecutionState.STARTING.value, ExecutionState.RUNNING.value)
LOOKED_AT = 500
"""Items of one queue that are looked at together."""


@dataclass(frozen=True, slots=True)
class PendingReport:
    """A status to be written back, in the order of ``seq``. ``payload`` is what the sender needs besides."""

    item_id: str
    kind: str
    state: str
    seq: int
    due_at: float
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Admission:
    """What `admit` decided for one stage: which items start now, which never will, and why the others wait."""

    start: tuple[Execution, ...] = ()
    discard: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Item id → (reason, message)."""
    waiting: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    reports: tuple[PendingReport, ...] = ()


Admit = Callable[[Sequence[Item], int, Mapping[str, Sequence[Vote]]], Admission]
"""(queued items oldest first, executions under way, votes by item) → what happens. Pure."""


class Queue(Inbox, AuditLog):
    """Part of `Store`."""

    # -- items ------------------------------------------------------------------------------------------------------

    def _queue(
        self,
        connection: SqlConnection,
        items: Iterable[Item],
        pins: Mapping[str, bytes],
        reports: Iterable[PendingReport],
        now: float,
    ) -> None:
        for digest, payload in pins.items():
            self._upsert(connection, p, [{"digest": digest, "used_at": now, "payload": payload}])
        for item in items:
            self._insert_new(connection, i, _item_row(item))
        self._add_reports(connection, reports)

    def queue_item(self, item: Item, pins: Mapping[str, bytes], reports: Sequence[PendingReport], *, audit: AuditEntry) -> bool:
        """Put one item into its queue (a rerun); False if it is there already."""
        now = self.now()
        with self._write() as connection:
            known = connection.execute(select(i.c.id).where(i.c.id == item.id)).first()
            if known is not None:
                return False
            self._queue(connection, [item], pins, reports, now)
            self._append(connection, [audit])
        return True

    def stages_with_items(self) -> list[ResourceId]:
        """Return the stages that something waits for."""
        with self._read() as connection:
            query = select(i.c.stage).where(i.c.state == ItemState.QUEUED.value).distinct().order_by(i.c.stage)
            return [ResourceId.from_path(path) for path in connection.execute(query).scalars()]

    def admit(self, stage: ResourceId, decide: Admit, *, limit: int = LOOKED_AT) -> Admission:
        """Let ``decide`` say what starts, and make it so: one transaction, one at a time for each stage over all processes."""
        with self._write() as connection:
            self._alone(connection, f"queue/{stage.path}")
            items = self._candidates(connection, stage, limit)
            if not items:
                return Admission()
            running = connection.execute(
                select(func.count()).select_from(x).where(x.c.stage == stage.path, x.c.state != ExecutionState.FINISHED.value)
            ).scalar_one()
            decision = decide(items, int(running), self._votes(connection, [one.id for one in items]))
            self._carry_out(connection, {one.id: one for one in items}, decision)
        return decision

    def candidates(self, stage: ResourceId, limit: int = LOOKED_AT) -> list[Item]:
        """Return the queued items that `admit` looks at, oldest first."""
        with self._read() as connection:
            return self._candidates(connection, stage, limit)

    def _candidates(self, connection: SqlConnection, stage: ResourceId, limit: int) -> list[Item]:
        """The oldest; where there are more, also those that somebody approved, and the newest, for which all others may give way."""
        queued = select(i.c.payload).where(i.c.stage == stage.path, i.c.state == ItemState.QUEUED.value)
        oldest = list(connection.execute(queued.order_by(i.c.created_at, i.c.id).limit(limit)).scalars())
        if len(oldest) == limit:
            approved = queued.where(i.c.id.in_(select(v.c.item_id))).order_by(i.c.created_at, i.c.id).limit(limit)
            oldest += connection.execute(approved).scalars()
            oldest += connection.execute(queued.order_by(i.c.created_at.desc(), i.c.id.desc()).limit(1)).scalars()
        found: dict[str, Item] = {one.id: one for one in (unpack(Item, payload) for payload in oldest)}
        return sorted(found.values(), key=lambda one: (one.created_at, one.id))

    def _carry_out(self, connection: SqlConnection, items: Mapping[str, Item], decision: Admission) -> None:
        for execution in decision.start:
            self._set_item(connection, items[execution.item_id], ItemState.RUNNING)
            connection.execute(x.insert().values(_execution_row(execution)))
        for item_id, (reason, message) in decision.discard.items():
            self._set_item(connection, items[item_id], ItemState.DISCARDED, reason, message)
        for item_id, (reason, message) in decision.waiting.items():
            known = items[item_id]
            if (known.reason, known.message) != (reason, message):
                self._set_item(connection, known, ItemState.QUEUED, reason, message)
        self._add_reports(connection, decision.reports)

    def _set_item(
        self, connection: SqlConnection, item: Item, state: ItemState, reason: str = "", message: str = "", **changes: Any
    ) -> None:
        changed = dataclasses.replace(item, state=state, reason=reason, message=message, **changes)
        connection.execute(update(i).where(i.c.id == item.id).values(state=state.value, payload=pack(changed)))

    def item(self, item_id: str) -> Item | None:
        """Return one item, or None."""
        with self._read() as connection:
            payload = connection.execute(select(i.c.payload).where(i.c.id == item_id)).scalar()
        return unpack(Item, payload) if payload is not None else None

    def items(self, *, stage: str = "", states: Sequence[str] = (), limit: int = 200) -> list[Item]:
        """Return items, newest first."""
        query = select(i.c.payload).order_by(i.c.created_at.desc(), i.c.id).limit(limit)
        if stage:
            query = query.where(i.c.stage == stage)
        if states:
            query = query.where(i.c.state.in_(list(states)))
        with self._read() as connection:
            return [unpack(Item, payload) for payload in connection.execute(query).scalars()]

    def items_of_event(self, event_id: str) -> list[Item]:
        """Return the items that an event was queued as."""
        with self._read() as connection:
            query = select(i.c.payload).where(i.c.event_id == event_id).order_by(i.c.id)
            return [unpack(Item, payload) for payload in connection.execute(query).scalars()]

    def discard_item(
        self, item_id: str, reason: str, message: str, *, reports: Sequence[PendingReport], audit: AuditEntry
    ) -> bool:
        """Take a waiting item out of its queue; False if it does not wait any more."""
        with self._write() as connection:
            query = select(i.c.payload).where(i.c.id == item_id, i.c.state == ItemState.QUEUED.value)
            payload = connection.execute(query if self.dialect == "sqlite" else query.with_for_update()).scalar()
            if payload is None:
                return False
            self._set_item(connection, unpack(Item, payload), ItemState.DISCARDED, reason, message)
            self._add_reports(connection, reports)
            self._append(connection, [audit])
        return True

    def pinned(self, digest: str) -> bytes | None:
        """Return a pinned stage, as it was when something was queued for it."""
        with self._read() as connection:
            payload = connection.execute(select(p.c.payload).where(p.c.digest == digest)).scalar()
        return bytes(payload) if payload is not None else None

    # -- approvals --------------------------------------------------------------------------------------------------

    def add_vote(self, vote: Vote, *, audit: AuditEntry) -> bool:
        """Store an approval with its audit entry; False if this person approved the item before, or it does not wait any more."""
        with self._write() as connection:
            query = select(i.c.id).where(i.c.id == vote.item_id, i.c.state == ItemState.QUEUED.value)
            if connection.execute(query if self.dialect == "sqlite" else query.with_for_update()).first() is None:
                return False
            known = connection.execute(select(v.c.by).where(v.c.item_id == vote.item_id, v.c.by == vote.by)).first()
            if known is not None:
                return False
            connection.execute(v.insert().values(item_id=vote.item_id, by=vote.by, at=vote.at))
            self._append(connection, [audit])
        return True

    def votes(self, item_id: str) -> list[Vote]:
        """Return the approvals of an item, oldest first."""
        with self._read() as connection:
            return self._votes(connection, [item_id]).get(item_id, [])

    def _votes(self, connection: SqlConnection, item_ids: Sequence[str]) -> dict[str, list[Vote]]:
        found: dict[str, list[Vote]] = {}
        for part in chunks(list(item_ids)):
            for row in connection.execute(select(v).where(v.c.item_id.in_(part)).order_by(v.c.at, v.c.by)):
                found.setdefault(row.item_id, []).append(Vote(row.item_id, row.by, row.at))
        return found

    # -- executions -------------------------------------------------------------------------------------------------

    def execution(self, execution_id: str) -> Execution | None:
        """Return one execution, or None."""
        with self._read() as connection:
            payload = connection.execute(select(x.c.payload).where(x.c.id == execution_id)).scalar()
        return unpack(Execution, payload) if payload is not None else None

    def executions(self, *, stage: str = "", states: Sequence[str] = (), limit: int = 100) -> list[Execution]:
        """Return executions, newest first."""
        query = select(x.c.payload).order_by(x.c.created_at.desc(), x.c.id).limit(limit)
        if stage:
            query = query.where(x.c.stage == stage)
        if states:
            query = query.where(x.c.state.in_(list(states)))
        with self._read() as connection:
            return [unpack(Execution, payload) for payload in connection.execute(query).scalars()]

    def executions_of_item(self, item_id: str) -> list[Execution]:
        """Return the tries of an item, oldest first."""
        with self._read() as connection:
            query = select(x.c.payload).where(x.c.item_id == item_id).order_by(x.c.created_at)
            return [unpack(Execution, payload) for payload in connection.execute(query).scalars()]

    def due_executions(self, now: float, limit: int) -> list[tuple[str, int]]:
        """Return (id, version) of the executions that are to be looked at, most overdue first; of ended ones only if somebody asked."""
        ended = (x.c.state == ExecutionState.FINISHED.value) & (x.c.next_at > 0) & (x.c.next_at <= now)
        query = (
            select(x.c.id, x.c.version)
            .where((x.c.state.in_(_OPEN) & (x.c.next_at <= now)) | ended)
            .order_by(x.c.next_at)
            .limit(limit)
        )
        with self._read() as connection:
            return [(str(row.id), int(row.version)) for row in connection.execute(query)]

    def next_due(self) -> float:
        """Return when the next execution is to be looked at (epoch seconds); 0 if none is under way."""
        with self._read() as connection:
            again = (x.c.state == ExecutionState.FINISHED.value) & (x.c.next_at > 0)
            query = select(func.min(x.c.next_at)).where(x.c.state.in_(_OPEN) | again)
            return float(connection.execute(query).scalar() or 0.0)

    def save_execution(self, execution: Execution, *, reports: Sequence[PendingReport] = ()) -> Execution:
        """Store what an execution is now; raises `FenceLost` when another process wrote it meanwhile."""
        with self._write() as connection:
            changed = self._save(connection, execution)
            self._add_reports(connection, reports)
        return changed

    def _save(self, connection: SqlConnection, execution: Execution) -> Execution:
        changed = dataclasses.replace(execution, version=execution.version + 1)
        row = _execution_row(changed)
        matched = connection.execute(update(x).where(x.c.id == execution.id, x.c.version == execution.version).values(row))
        if matched.rowcount != 1:
            raise FenceLost(
                f"another process works on {execution.id}", hint="Nothing was written; this process stops working on it."
            )
        return changed

    def finish_execution(
        self,
        execution: Execution,
        *,
        outputs: Mapping[str, Any],
        retry: Item | None = None,
        event: Event | None = None,
        body: bytes = b"",
        reports: Sequence[PendingReport] = (),
    ) -> Execution:
        """End an execution: its item is done, or goes back into the queue (``retry``); its event goes out. One commit."""
        with self._write() as connection:
            changed = self._save(connection, execution)
            payload = connection.execute(select(i.c.payload).where(i.c.id == execution.item_id)).scalar()
            if payload is not None:
                item = unpack(Item, payload)
                if retry is not None:
                    self._set_item(
                        connection,
                        item,
                        ItemState.QUEUED,
                        retry.reason,
                        retry.message,
                        attempt=retry.attempt,
                        not_before=retry.not_before,
                        failure=retry.failure,
                    )
                else:
                    self._set_item(connection, item, ItemState.DONE)
            self._put_outputs(connection, execution.id, outputs)
            if event is not None:
                self._add_events(connection, [Arrival(event, body)])
            self._add_reports(connection, reports)
        return changed

    def ask_cancel(self, execution_id: str, by: str, at: float, *, audit: AuditEntry) -> bool:
        """Note that an execution is to be ended; False if it has ended, or was asked before."""
        with self._write() as connection:
            query = select(x.c.payload).where(x.c.id == execution_id, x.c.state != ExecutionState.FINISHED.value)
            payload = connection.execute(query if self.dialect == "sqlite" else query.with_for_update()).scalar()
            if payload is None:
                return False
            execution: Execution = unpack(Execution, payload)
            if execution.cancel_at:
                return False
            self._save(connection, dataclasses.replace(execution, cancel_at=at, cancel_by=by, next_at=at))
            self._append(connection, [audit])
        return True

    def hint(self, integration: str, external_id: str, now: float) -> int:
        """Look at the executions of this run at once: an event said something of it. Returns how many there are."""
        with self._write() as connection:
            matched = connection.execute(
                update(x)
                .where(
                    x.c.integration == integration,
                    x.c.external_id == external_id,
                    x.c.state == ExecutionState.RUNNING.value,
                    x.c.next_at > now,
                )
                .values(next_at=now)
            )
        return int(matched.rowcount)

    def hint_again(self, integration: str, external_id: str, attempt: int, now: float) -> int:
        """Look once more at executions that ended with an earlier attempt of this run; returns how many there are."""
        found = 0
        with self._write() as connection:
            query = select(x.c.id, x.c.payload).where(
                x.c.integration == integration, x.c.external_id == external_id, x.c.state == ExecutionState.FINISHED.value
            )
            for execution_id, payload in connection.execute(query if self.dialect == "sqlite" else query.with_for_update()).all():
                one: Execution = unpack(Execution, payload)
                known = one.later.attempt if one.later is not None else one.run.attempt if one.run is not None else attempt
                if known < attempt:
                    found += 1
                    asked = pack(dataclasses.replace(one, next_at=now))
                    connection.execute(update(x).where(x.c.id == execution_id).values(next_at=now, payload=asked))
        return found

    def wake(self, execution_id: str, now: float) -> None:
        """Look at an execution at once."""
        with self._write() as connection:
            connection.execute(update(x).where(x.c.id == execution_id, x.c.next_at > now).values(next_at=now))

    def last_inputs(self, stage: ResourceId, results: Sequence[str], page: int = 50) -> Mapping[str, Any] | None:
        """Return the inputs of the newest finished execution with one of ``results``; None if there is none."""
        query = (
            select(x.c.payload)
            .where(x.c.stage == stage.path, x.c.state == ExecutionState.FINISHED.value)
            .order_by(x.c.finished_at.desc(), x.c.id)
            .execution_options(yield_per=page)
        )
        with self._read() as connection:
            for payload in connection.execute(query).scalars():
                execution: Execution = unpack(Execution, payload)
                if execution.result is not None and execution.result.value in results:
                    found = connection.execute(select(i.c.payload).where(i.c.id == execution.item_id)).scalar()
                    return unpack(Item, found).inputs if found is not None else {}
        return None

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many items wait and executions run, by stage path: ``{"queue", "running"}``."""
        found: dict[str, dict[str, int]] = {}
        with self._read() as connection:
            waiting = select(i.c.stage, func.count()).where(i.c.state == ItemState.QUEUED.value).group_by(i.c.stage)
            for stage, number in connection.execute(waiting):
                found.setdefault(stage, {"queue": 0, "running": 0})["queue"] = int(number)
            running = select(x.c.stage, func.count()).where(x.c.state != ExecutionState.FINISHED.value).group_by(x.c.stage)
            for stage, number in connection.execute(running):
                found.setdefault(stage, {"queue": 0, "running": 0})["running"] = int(number)
        return found

    def last_executions(self, stages: Sequence[str]) -> dict[str, Execution]:
        """Return the newest execution of each stage (by path)."""
        found: dict[str, Execution] = {}
        with self._read() as connection:
            for stage in stages:
                query = select(x.c.payload).where(x.c.stage == stage).order_by(x.c.created_at.desc()).limit(1)
                payload = connection.execute(query).scalar()
                if payload is not None:
                    found[stage] = unpack(Execution, payload)
        return found

    # -- outputs ----------------------------------------------------------------------------------------------------

    def put_outputs(self, execution_id: str, values: Mapping[str, Any]) -> bool:
        """Merge values that a job pushed; False if the execution has ended."""
        with self._write() as connection:
            query = select(x.c.id).where(x.c.id == execution_id, x.c.state != ExecutionState.FINISHED.value)
            if connection.execute(query if self.dialect == "sqlite" else query.with_for_update()).first() is None:
                return False
            self._put_outputs(connection, execution_id, values)
        return True

    def _put_outputs(self, connection: SqlConnection, execution_id: str, values: Mapping[str, Any]) -> None:
        rows = [{"execution_id": execution_id, "name": name, "value": orjson.dumps(value)} for name, value in values.items()]
        self._upsert(connection, o, rows)

    def outputs(self, execution_id: str) -> dict[str, Any]:
        """Return what an execution hands on."""
        with self._read() as connection:
            rows = connection.execute(select(o.c.name, o.c.value).where(o.c.execution_id == execution_id).order_by(o.c.name))
            return {name: orjson.loads(value) for name, value in rows}

    # -- reports ----------------------------------------------------------------------------------------------------

    def _add_reports(self, connection: SqlConnection, reports: Iterable[PendingReport]) -> None:
        for one in reports:
            row = {
                "item_id": one.item_id,
                "kind": one.kind,
                "state": one.state,
                "seq": one.seq,
                "due_at": one.due_at,
                "done_at": 0.0,
                "payload": orjson.dumps(dict(one.payload)),
            }
            self._insert_new(connection, r, row)

    def due_reports(self, now: float, limit: int) -> list[PendingReport]:
        """Return what is to be written back: of each target only the first that is open, so that they arrive in order."""
        e = r.alias("earlier")
        # "Not above 0" says open, too, and keeps SQLite to the few rows of one item: it would go through all that are open.
        before = (e.c.item_id == r.c.item_id) & (e.c.kind == r.c.kind) & (e.c.done_at <= 0) & (e.c.seq < r.c.seq)
        query = (
            select(r)
            .where(r.c.done_at == 0, r.c.due_at <= now, ~select(e.c.item_id).where(before).exists())
            .order_by(r.c.due_at, r.c.item_id, r.c.kind, r.c.seq)
            .limit(limit)
        )
        with self._read() as connection:
            return [
                PendingReport(row.item_id, row.kind, row.state, row.seq, row.due_at, orjson.loads(row.payload))
                for row in connection.execute(query)
            ]

    def end_report(self, report: PendingReport, now: float, *, target: Mapping[str, Any] | None = None) -> None:
        """Note that a status is written; ``target`` is what later ones of the same item need to know."""
        with self._write() as connection:
            where = (r.c.item_id == report.item_id) & (r.c.kind == report.kind)
            connection.execute(update(r).where(where, r.c.state == report.state).values(done_at=now))
            if target:
                for row in connection.execute(select(r.c.state, r.c.payload).where(where)).all():
                    payload = {**orjson.loads(row.payload), **target}
                    connection.execute(update(r).where(where, r.c.state == row.state).values(payload=orjson.dumps(payload)))

    def put_off_report(self, report: PendingReport, due_at: float, payload: Mapping[str, Any]) -> None:
        """Try a status again later."""
        with self._write() as connection:
            connection.execute(
                update(r)
                .where(r.c.item_id == report.item_id, r.c.kind == report.kind, r.c.state == report.state)
                .values(due_at=due_at, payload=orjson.dumps(dict(payload)))
            )

    def reports_of(self, item_id: str) -> list[tuple[PendingReport, float]]:
        """Return the statuses of an item, with when each was written (0: not yet)."""
        with self._read() as connection:
            rows = connection.execute(select(r).where(r.c.item_id == item_id).order_by(r.c.kind, r.c.seq))
            return [
                (PendingReport(x.item_id, x.kind, x.state, x.seq, x.due_at, orjson.loads(x.payload)), float(x.done_at))
                for x in rows
            ]

    # -- retention --------------------------------------------------------------------------------------------------

    def prune_executions(self, before: float, limit: int = 5_000) -> int:
        """Drop up to ``limit`` ended items older than ``before`` (epoch seconds) with all of theirs; returns how many.

        Call it again while it returns ``limit``. After the last of them, pins go that nothing was queued with since then.
        """
        ended = [ItemState.DONE.value, ItemState.DISCARDED.value]
        lease = tables.lease
        with self._write() as connection:
            query = select(i.c.id).where(i.c.state.in_(ended), i.c.created_at < before).limit(limit)
            old = list(connection.execute(query).scalars())
            for part in chunks(old):
                runs = list(connection.execute(select(x.c.id).where(x.c.item_id.in_(part))).scalars())
                names = [f"report/{one}" for one in part] + [f"execution/{one}" for one in runs]
                for some in chunks(names):
                    connection.execute(delete(lease).where(lease.c.name.in_(some)))
                for some in chunks(runs):
                    connection.execute(delete(o).where(o.c.execution_id.in_(some)))
                connection.execute(delete(x).where(x.c.item_id.in_(part)))
                connection.execute(delete(v).where(v.c.item_id.in_(part)))
                connection.execute(delete(r).where(r.c.item_id.in_(part)))
                connection.execute(delete(i).where(i.c.id.in_(part)))
            if len(old) < limit:
                self._prune_pins(connection, before)
        return len(old)

    def _prune_pins(self, connection: SqlConnection, before: float) -> None:
        """Drop the pins that were not used since ``before``, but for those of items that wait or run for that long."""
        still = select(i.c.payload).where(
            i.c.state.in_([ItemState.QUEUED.value, ItemState.RUNNING.value]), i.c.created_at < before
        )
        used = {unpack(Item, row).spec_digest for row in connection.execute(still).scalars()}
        known = set(connection.execute(select(p.c.digest).where(p.c.used_at < before)).scalars())
        for part in chunks(sorted(known - used)):  # asked again: another process may queue something with it right now
            connection.execute(delete(p).where(p.c.digest.in_(part), p.c.used_at < before))


def _item_row(item: Item) -> dict[str, Any]:
    return {
        "id": item.id,
        "stage": item.stage.path,
        "event_id": item.event_id,
        "state": item.state.value,
        "created_at": item.created_at,
        "payload": pack(item),
    }


def _execution_row(execution: Execution) -> dict[str, Any]:
    return {
        "id": execution.id,
        "item_id": execution.item_id,
        "stage": execution.stage.path,
        "state": execution.state.value,
        "integration": execution.integration,
        "external_id": execution.run.external_id if execution.run is not None else "",
        "version": execution.version,
        "next_at": execution.next_at,
        "created_at": execution.created_at,
        "finished_at": execution.finished_at,
        "payload": pack(execution),
    }


__all__ = ["Admission", "Admit", "PendingReport", "Queue"]
