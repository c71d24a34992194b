"""Executions: their state, their next poll, their outputs. A version number guards every write."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from operator import itemgetter

import orjson
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import select, tuple_, update

from reconciler.model.codec import decode, encode
from reconciler.model.executions import Execution, ExecutionState, Item, Result
from reconciler.model.records import AuditEntry
from reconciler.model.resources import ResourceId
from reconciler.model.traces import SpanRecord
from reconciler.model.values import JsonObject
from reconciler.state import tables
from reconciler.state.audit import append_entries
from reconciler.state.database import Database, locked, newest, upsert
from reconciler.state.reports import PendingReport, insert_reports
from reconciler.state.spans import insert_spans
from reconciler.state.values import FenceLost

i, x, o = tables.item, tables.execution, tables.output
OPEN = (ExecutionState.STARTING.value, ExecutionState.RUNNING.value)


class ExecutionStore(Database):
    """Executions and their outputs."""

    def execution(self, execution_id: str) -> Execution | None:
        """Return one execution, or None."""
        with self._read() as connection:
            payload = connection.execute(select(x.c.payload).where(x.c.id == execution_id)).scalar()
        return decode(Execution, payload) if payload is not None else None

    def executions(
        self, *, stage: str = "", states: Sequence[str] = (), before: tuple[float, str] | None = None, limit: int = 100
    ) -> list[Execution]:
        """Return executions, newest first. ``before``: (created_at, id) of the last execution of the previous page."""
        conditions = [x.c.stage == stage] if stage else []
        if before is not None:
            conditions.append(tuple_(x.c.created_at, x.c.id) < before)
        with self._read() as connection:
            payloads = newest(connection, x, states or [*ExecutionState], limit, conditions)
        return [decode(Execution, payload) for payload in payloads]

    def executions_of_item(self, item_id: str) -> list[Execution]:
        """Return the executions of an item, oldest first."""
        with self._read() as connection:
            query = select(x.c.payload).where(x.c.item_id == item_id).order_by(x.c.created_at)
            return [decode(Execution, payload) for payload in connection.execute(query).scalars()]

    def save_execution(
        self, execution: Execution, *, reports: Sequence[PendingReport] = (), spans: Sequence[SpanRecord] = ()
    ) -> Execution:
        """Store an execution and return it with its new version. Raises `FenceLost` when another process has written it since."""
        with self._write() as connection:
            changed = save_version(connection, execution)
            insert_reports(connection, reports)
            insert_spans(connection, spans)
        return changed

    def ask_cancel(self, execution_id: str, by: str, at: float, *, audit: AuditEntry) -> bool:
        """Request the cancellation of an execution. Returns False if it has finished, or if that was requested before."""
        with self._write() as connection:
            query = select(x.c.payload).where(x.c.id == execution_id, x.c.state != ExecutionState.FINISHED.value)
            payload = connection.execute(locked(connection, query)).scalar()
            if payload is None:
                return False
            execution: Execution = decode(Execution, payload)
            if execution.cancel_at:
                return False
            save_version(connection, dataclasses.replace(execution, cancel_at=at, cancel_by=by, next_at=at))
            append_entries(connection, self.signing_key, [audit])
        return True

    def hint(self, integration: str, external_id: str, now: float) -> int:
        """Make the executions of this run due now, since an event reported on it. Returns how many there are."""
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

    def hasten_executions(self, integrations: Sequence[str], now: float) -> int:
        """Make the executions of ``integrations`` (paths) that wait for a start due now. Returns how many there are."""
        with self._write() as connection:
            waiting = (x.c.integration.in_(integrations), x.c.state == ExecutionState.STARTING.value, x.c.next_at > now)
            matched = connection.execute(update(x).where(*waiting).values(next_at=now))
        return int(matched.rowcount)

    def hint_again(self, integration: str, external_id: str, attempt: int, now: float) -> int:
        """Make finished executions due once more, when the run has a later attempt than they know. Returns how many."""
        count = 0
        with self._write() as connection:
            query = select(x.c.id, x.c.payload).where(
                x.c.integration == integration, x.c.external_id == external_id, x.c.state == ExecutionState.FINISHED.value
            )
            for execution_id, payload in connection.execute(locked(connection, query)).all():
                execution = decode(Execution, payload)
                run = execution.later or execution.run
                known = run.attempt if run is not None else attempt
                if known < attempt:
                    count += 1
                    due = encode(dataclasses.replace(execution, next_at=now))
                    connection.execute(update(x).where(x.c.id == execution_id).values(next_at=now, payload=due))
        return count

    def wake(self, execution_id: str, now: float) -> None:
        """Make an execution due now."""
        with self._write() as connection:
            connection.execute(update(x).where(x.c.id == execution_id, x.c.next_at > now).values(next_at=now))

    def last_inputs(self, stage: ResourceId, results: Sequence[str]) -> JsonObject | None:
        """Return the inputs of the newest finished execution with one of ``results``, or None."""
        with self._read() as connection:
            ended: list[tuple[float, str]] = []
            for result in results:  # one by one: the newest of each result is the last entry of its part of the index
                query = select(x.c.finished_at, x.c.item_id).where(x.c.stage == stage.path, x.c.result == result)
                ended += connection.execute(query.order_by(x.c.finished_at.desc()).limit(1)).all()
            if not ended:
                return None
            _, item_id = max(ended, key=itemgetter(0))
            payload = connection.execute(select(i.c.payload).where(i.c.id == item_id)).scalar()
            return decode(Item, payload).inputs if payload is not None else {}

    def finished_before(self, stage: ResourceId, before: float, item_id: str) -> Execution | None:
        """Return the newest execution of ``stage`` that finished before ``before`` (epoch seconds), except those of ``item_id``."""
        with self._read() as connection:
            ended: list[tuple[float, bytes]] = []
            for result in Result:  # one by one, as in `last_inputs`: no index orders all results by their end
                query = select(x.c.finished_at, x.c.payload).where(
                    x.c.stage == stage.path, x.c.result == result.value, x.c.finished_at < before, x.c.item_id != item_id
                )
                ended += connection.execute(query.order_by(x.c.finished_at.desc()).limit(1)).all()
        if not ended:
            return None
        _, payload = max(ended, key=itemgetter(0))
        return decode(Execution, payload)

    def last_executions(self, stages: Sequence[str]) -> dict[str, Execution]:
        """Return the newest execution of each stage (by path)."""
        newest_of: dict[str, Execution] = {}
        with self._read() as connection:
            for stage in stages:
                query = select(x.c.payload).where(x.c.stage == stage).order_by(x.c.created_at.desc()).limit(1)
                payload = connection.execute(query).scalar()
                if payload is not None:
                    newest_of[stage] = decode(Execution, payload)
        return newest_of

    def put_outputs(self, execution_id: str, values: JsonObject) -> bool:
        """Merge outputs that a job pushed. Returns False if the execution has finished."""
        with self._write() as connection:
            query = select(x.c.id).where(x.c.id == execution_id, x.c.state != ExecutionState.FINISHED.value)
            if connection.execute(locked(connection, query)).first() is None:
                return False
            insert_outputs(connection, execution_id, values)
        return True

    def outputs(self, execution_id: str) -> dict[str, object]:
        """Return the outputs of an execution."""
        with self._read() as connection:
            rows = connection.execute(select(o.c.name, o.c.value).where(o.c.execution_id == execution_id).order_by(o.c.name))
            return {name: orjson.loads(value) for name, value in rows}


def execution_row(execution: Execution) -> dict[str, object]:
    """Return the row of an execution."""
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
        "result": execution.result.value if execution.result is not None else "",
        "payload": encode(execution),
    }


def save_version(connection: SqlConnection, execution: Execution) -> Execution:
    changed = dataclasses.replace(execution, version=execution.version + 1)
    row = execution_row(changed)
    matched = connection.execute(update(x).where(x.c.id == execution.id, x.c.version == execution.version).values(row))
    if matched.rowcount != 1:
        raise FenceLost(f"another process works on {execution.id}", hint="Nothing was written; this process stops working on it.")
    return changed


def insert_outputs(connection: SqlConnection, execution_id: str, values: Mapping[str, object]) -> None:
    rows = [{"execution_id": execution_id, "name": name, "value": orjson.dumps(value)} for name, value in values.items()]
    upsert(connection, o, rows)
