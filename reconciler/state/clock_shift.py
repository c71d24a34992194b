"""Clock shifts: when the clock is set back, times in the state that lie in the future are set back with it.

Otherwise a retry, a schedule or a lease that was written while the clock was two hours ahead would wait for two hours. When the clock
is set forward, work with a timeout, such as a run or an incomplete set of events, keeps its remaining time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Table, select, update
from sqlalchemy import Connection as SqlConnection

from reconciler.model.executions import ItemState
from reconciler.state import incident_tables, tables
from reconciler.state.database import Database, upsert
from reconciler.state.objects import UNSETTLED

BACK_S = 5.0
"""Smaller shifts are slewing and rounding."""
FORWARD_S = 60.0
"""No timeout is shorter than this."""
NOTE_EVERY_S = 10.0
_SEEN = "clock.seen"
Payload = dict[str, Any]
Shift = Callable[[float], float]
"""Returns the corrected time."""


class ClockShiftStore(Database):
    """Detection and correction of clock shifts."""

    _noted = 0.0
    _highest = 0.0
    _steady_noted = 0.0

    @staticmethod
    def _steady() -> float:
        """CLOCK_BOOTTIME: cannot be set, and keeps counting during suspend."""
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    def look_at_clock(self, now: float) -> float:
        """Record the time. Returns the seconds by which the clock was set back since any process recorded it last, else 0.

        When it was set back, one process sets back every future time in the state by as much. When it was set forward while this process ran,
        running work gets as much more time.
        """
        if self._noted <= now < self._noted + NOTE_EVERY_S and now > self._highest - BACK_S:
            self._highest = max(self._highest, now)
            return 0.0
        with self._write() as connection:
            last_seen = connection.execute(select(tables.meta.c.value).where(tables.meta.c.key == _SEEN)).scalar()
            back_s = float(last_seen or 0.0) - now
            ahead_s = now - self._noted - (self._steady() - self._steady_noted) if self._noted else 0.0
            if back_s > BACK_S:
                _pull_back(connection, now, back_s)
            elif ahead_s > FORWARD_S and -back_s >= ahead_s:  # if not, another process has recorded the time since
                _give_time(connection, now, ahead_s)
            upsert(connection, tables.meta, [{"key": _SEEN, "value": repr(now)}])
        self._noted = self._highest = now
        self._steady_noted = self._steady()
        return back_s if back_s > BACK_S else 0.0


def _pull_back(connection: SqlConnection, now: float, back_s: float) -> None:
    def sooner(at: float) -> float:
        return max(now, at - back_s) if at > now else at

    def past(at: float) -> float:
        return min(at, now)

    for table, column in (
        (tables.execution, tables.execution.c.next_at),
        (tables.report, tables.report.c.due_at),
        (incident_tables.notice, incident_tables.notice.c.due_at),
        (incident_tables.notice, incident_tables.notice.c.refresh_at),
        (tables.joining, tables.joining.c.deadline),
        (tables.retry, tables.retry.c.next_at),
        (tables.lease, tables.lease.c.until),
        (tables.reconcile_request, tables.reconcile_request.c.due_at),
        (tables.attempt, tables.attempt.c.at),
        (tables.review, tables.review.c.due_at),
    ):
        connection.execute(update(table).where(column > now).values({column.name: column - back_s}))
    unsettled, queued = tables.intent.c.state.in_(UNSETTLED), tables.item.c.state == ItemState.QUEUED.value
    late = unsettled & (tables.intent.c.created_at > now)
    _rewrite(connection, tables.retry, _fields(sooner, "next_at"))
    _rewrite(connection, tables.execution, _of_execution(sooner, past), tables.execution.c.state != "finished")
    _rewrite(connection, tables.item, _fields(sooner, "not_before"), queued)
    _rewrite(connection, tables.intent, _fields(past, "created_at"), late)
    connection.execute(update(tables.intent).where(late).values(created_at=now))
    _rewrite(connection, tables.managed_object, _of_object(past))
    _rewrite(connection, tables.budget, _of_budget(sooner, past))
    _rewrite(connection, tables.review, _fields(past, "open_since", "closed_at"))
    ended = incident_tables.incident.c.ended_at
    connection.execute(update(incident_tables.incident).where(ended > now).values(ended_at=now))
    _rewrite(connection, incident_tables.incident, _of_incident(past))
    _rewrite(connection, incident_tables.notice, _of_notice(past))
    for name, value in connection.execute(select(tables.cursor.c.name, tables.cursor.c.value)).all():
        changed = orjson.dumps(_of_cursor(orjson.loads(value), sooner, past)).decode()
        if changed != value:
            connection.execute(update(tables.cursor).where(tables.cursor.c.name == name).values(value=changed))


def _give_time(connection: SqlConnection, now: float, ahead_s: float) -> None:
    def later(at: float) -> float:
        return min(now, at + ahead_s)

    _rewrite(connection, tables.execution, _fields(later, "started_at", "cancel_at"), tables.execution.c.state != "finished")
    _rewrite(connection, tables.review, _fields(later, "open_since"))
    j = tables.joining.c.deadline
    connection.execute(update(tables.joining).where(j > now - ahead_s).values(deadline=j + ahead_s))


def _rewrite(
    connection: SqlConnection, table: Table, change: Callable[[Payload], None], where: ColumnElement[bool] | None = None
) -> None:
    """Apply ``change`` to the stored payloads of a table."""
    keys = list(table.primary_key.columns)
    query = select(*keys, table.c.payload)
    for *key, payload in connection.execute(query if where is None else query.where(where)).all():
        value = orjson.loads(payload)
        change(value)
        stored = orjson.dumps(value)
        if stored != payload:
            match = [column == part for column, part in zip(keys, key, strict=True)]
            connection.execute(update(table).where(*match).values(payload=stored))


def _fields(new: Shift, *names: str) -> Callable[[Payload], None]:
    def change(value: Payload) -> None:
        value.update({name: new(value[name]) for name in names if value.get(name)})

    return change


def _of_execution(sooner: Shift, past: Shift) -> Callable[[Payload], None]:
    """The time of the intent stays: together with its offset it is a time by the provider's clock."""
    later, began = _fields(sooner, "next_at"), _fields(past, "started_at", "cancel_at")

    def change(value: Payload) -> None:
        later(value)
        began(value)

    return change


def _of_incident(past: Shift) -> Callable[[Payload], None]:
    times = _fields(past, "opened_at", "closed_at", "changed_at")

    def change(value: Payload) -> None:
        times(value)
        value["edges"] = [past(at) for at in value.get("edges") or ()]

    return change


def _of_notice(past: Shift) -> Callable[[Payload], None]:
    incident, own = _of_incident(past), _fields(past, "failed_at", "attempted_at")

    def change(value: Payload) -> None:
        incident(value["incident"])
        own(value)

    return change


def _of_object(past: Shift) -> Callable[[Payload], None]:
    applied = _fields(past, "applied_at")

    def change(value: Payload) -> None:
        applied(value)
        if value.get("repairs"):
            value["repairs"] = [past(at) for at in value["repairs"]]

    return change


def _of_budget(sooner: Shift, past: Shift) -> Callable[[Payload], None]:
    stop = _fields(sooner, "blocked_until")

    def change(value: Payload) -> None:
        stop(value)
        value["recent"] = [past(at) for at in value.get("recent") or ()]
        if (value.get("rate") or {}).get("resetAt"):
            value["rate"]["resetAt"] = round(sooner(value["rate"]["resetAt"]))

    return change


def _of_cursor(value: object, sooner: Shift, past: Shift) -> object:
    """A cursor holds the time up to which something was read, or the time at which something is due."""
    if isinstance(value, float):
        return past(value)
    if isinstance(value, dict):
        rules = {"after": past, "at": past, "next_at": sooner}
        return {key: rules[key](item) if key in rules and isinstance(item, int | float) else item for key, item in value.items()}
    return value
