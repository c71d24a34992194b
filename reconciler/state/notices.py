"""The outbox: messages in order for each Notification, each until it is sent or abandoned.

A message that ends an incident at a former sink has no place in that order: a sink that cannot be reached any more delays nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import select, update

from reconciler.model.codec import decode, encode
from reconciler.model.incidents import Notice, NoticePhase, SinkRecord, SinkUse
from reconciler.model.traces import SpanRecord
from reconciler.state import incident_tables
from reconciler.state.database import Database, upsert
from reconciler.state.incidents import record_of, save_record
from reconciler.state.spans import insert_spans

i, n, t = incident_tables.incident, incident_tables.notice, incident_tables.sink_target
_FORMER = NoticePhase.RELEASE.value
"""The phase of rows outside the order. The payload of such a row may say that it is an ordinary end."""


class NoticeStore(Database):
    """Messages to send."""

    def due_sinks(self, now: float, limit: int) -> list[str]:
        """Return the Notifications (paths) with a message that is due: one of several that wait hides the later ones."""
        e = n.alias("earlier")
        before = (e.c.notification == n.c.notification) & (e.c.done_at == 0) & (e.c.seq < n.c.seq) & (e.c.phase != _FORMER)
        due = (n.c.done_at == 0) & (n.c.due_at <= now) & (n.c.phase != _FORMER)
        waiting = select(n.c.notification).where(due, ~select(e.c.seq).where(before).exists())
        again = select(n.c.notification).where(n.c.refresh_at > 0, n.c.refresh_at <= now)
        with self._read() as connection:
            first = list(connection.execute(waiting.order_by(n.c.due_at).limit(limit)).scalars())
            return list(dict.fromkeys([*first, *connection.execute(again.limit(limit)).scalars()]))

    def due_former_sinks(self, now: float, limit: int) -> list[str]:
        """Return the Notifications (paths), declared or not, with an incident to end at a former sink."""
        query = select(n.c.notification).where(n.c.done_at == 0, n.c.due_at <= now, n.c.phase == _FORMER)
        with self._read() as connection:
            return list(dict.fromkeys(connection.execute(query.order_by(n.c.due_at).limit(limit)).scalars()))

    def next_due(self) -> float | None:
        """Return when the next message is due; None if none waits."""
        with self._read() as connection:
            times = (
                connection.execute(select(n.c.due_at).where(n.c.done_at == 0).order_by(n.c.due_at).limit(1)).scalar(),
                connection.execute(select(n.c.refresh_at).where(n.c.refresh_at > 0).order_by(n.c.refresh_at).limit(1)).scalar(),
            )
        return min((at for at in times if at is not None), default=None)

    def due_notice(self, notification: str, now: float, *, former_only: bool = False) -> Notice | None:
        """Return what is due: an end at a former sink, else the first message that waits, else an incident to report again.

        ``former_only``: nothing else is sent, because the Notification was removed.
        """
        query = select(n.c.seq, n.c.due_at, n.c.payload).where(n.c.notification == notification)
        waiting = query.where(n.c.done_at == 0)
        with self._read() as connection:
            former = waiting.where(n.c.phase == _FORMER, n.c.due_at <= now)
            row = connection.execute(former.order_by(n.c.due_at).limit(1)).first()
            if row is None and not former_only:
                row = connection.execute(waiting.where(n.c.phase != _FORMER).order_by(n.c.seq).limit(1)).first()
                if row is None or row.due_at > now:
                    again = query.where(n.c.refresh_at > 0, n.c.refresh_at <= now)
                    row = connection.execute(again.order_by(n.c.refresh_at).limit(1)).first()
            if row is None:
                return None
            notice = decode(Notice, row.payload)
            used = connection.execute(select(t.c.payload).where(t.c.incident == notice.incident.id)).scalar()
        return replace(notice, seq=row.seq, sent_with=decode(SinkUse, used) if used is not None else None)

    def note_attempt(self, notice: Notice, now: float, use: SinkUse) -> bool:
        """Record that ``notice`` is being sent with ``use``: if the outcome is never recorded, the next attempt looks for the message first.

        Returns False if it is not to be sent any more.
        """
        with self._write() as connection:
            row = connection.execute(select(n.c.payload, n.c.done_at).where(n.c.seq == notice.seq)).first()
            if row is None or row.done_at:
                return False
            stored = decode(Notice, row.payload)
            payload = encode(replace(stored, attempted_at=stored.attempted_at or now))
            connection.execute(update(n).where(n.c.seq == notice.seq).values(payload=payload))
            _note_use(connection, notice, use)
            return True

    def end_notice(
        self,
        notice: Notice,
        now: float,
        *,
        target: Mapping[str, str] | None = None,
        again_at: float = 0.0,
        former: bool = False,
        spans: Sequence[SpanRecord] = (),
    ) -> None:
        """Record that ``notice`` was sent, to a sink that is not the present one if ``former``.

        ``again_at``: when the incident is reported again, unless it ended; 0 for never. An update that was
        replaced while it was sent stays due.
        """
        incident = notice.incident
        with self._write() as connection:
            payload = connection.execute(select(n.c.payload).where(n.c.seq == notice.seq)).scalar()
            if payload is None:  # the Notification was removed meanwhile
                return
            stored = decode(Notice, payload)
            _keep_target(connection, notice, target)
            insert_spans(connection, spans)
            values: dict[str, object] = {"done_at": now, "refresh_at": 0.0}
            if stored.version != notice.version:
                values = {"payload": encode(replace(stored, attempted_at=0.0, failures=0, failed_at=0.0))}
            elif not notice.refresh:
                connection.execute(update(n).where(n.c.incident == incident.id).values(refresh_at=0.0))
            if again_at and stored.version == notice.version and notice.phase is not NoticePhase.END:
                kept = replace(stored, refresh=True, failures=0, failed_at=0.0, attempted_at=0.0)
                values |= {"refresh_at": again_at, "payload": encode(kept)}
            connection.execute(update(n).where(n.c.seq == notice.seq).values(values))
            record = record_of(connection, incident.notification)
            sent = record.sent + (0 if notice.refresh else 1)
            record = replace(record, sent=sent, sent_at=now)
            record = replace(record, former="") if former else replace(record, error="", code="", failed_at=0.0, failures=0)
            save_record(connection, incident.notification, record)

    def skip_notice(self, notice: Notice, now: float) -> None:
        """Record that the sink has no message for this phase."""
        with self._write() as connection:
            payload = _unsent(connection, notice, "skipped")
            connection.execute(update(n).where(n.c.seq == notice.seq).values(done_at=now, **payload))

    def put_off_notice(
        self, notice: Notice, due_at: float, failed: SinkRecord, *, unknown: bool, target: Mapping[str, str] | None = None
    ) -> None:
        """Retry ``notice`` at ``due_at``. ``failed``: why; ``unknown``: whether it may have been sent; ``target``: the recipients that are left."""
        with self._write() as connection:
            payload = connection.execute(select(n.c.payload).where(n.c.seq == notice.seq)).scalar()
            if payload is None:
                return
            stored = decode(Notice, payload)
            kept = replace(
                stored,
                failures=stored.failures + 1,
                failed_at=stored.failed_at or failed.failed_at,
                error=failed.error,
                # A refusal now says nothing about an earlier attempt whose outcome is unknown.
                attempted_at=stored.attempted_at if unknown else notice.attempted_at,
            )
            when: dict[str, object] = {"refresh_at": due_at} if notice.refresh else {"due_at": due_at}
            if failed.former and notice.phase is NoticePhase.END:
                when["phase"] = _FORMER
            connection.execute(update(n).where(n.c.seq == notice.seq).values({**when, "payload": encode(kept)}))
            _keep_target(connection, notice, target)
            _note_failure(connection, notice, failed)

    def abandon_notice(self, notice: Notice, now: float, failed: SinkRecord) -> None:
        """Record that ``notice`` is not sent any more."""
        with self._write() as connection:
            payload = _unsent(connection, notice, "abandoned", failed.error)
            connection.execute(update(n).where(n.c.seq == notice.seq).values(done_at=now, refresh_at=0.0, **payload))
            _note_failure(connection, notice, replace(failed, abandoned=1))

    def hasten_notices(self, notification: str, now: float) -> None:
        """Make the messages of ``notification`` that failed due now: a person asked, or its sink changed.

        The abandoned start of an incident that lasts is sent too: the incident was never reported.
        """
        with self._write() as connection:
            record = record_of(connection, notification)
            if record.former:
                save_record(connection, notification, replace(record, former=""))
            waiting = (n.c.notification == notification) & (n.c.done_at == 0) & (n.c.due_at > now)
            connection.execute(update(n).where(waiting).values(due_at=now))
            lasts = (i.c.ended_at == 0) & (i.c.notification == notification)
            query = select(n.c.seq, n.c.payload).join(i, i.c.id == n.c.incident).where(lasts, n.c.done_at > 0)
            for seq, payload in connection.execute(query.where(n.c.phase == NoticePhase.START.value)).all():
                if (notice := decode(Notice, payload)).unsent == "abandoned":
                    again = encode(replace(notice, unsent="", error="", failures=0, failed_at=0.0))
                    connection.execute(update(n).where(n.c.seq == seq).values(done_at=0.0, due_at=now, payload=again))


def _note_use(connection: SqlConnection, notice: Notice, use: SinkUse) -> None:
    incident = notice.incident
    row = {"notification": incident.notification, "incident": incident.id, "payload": encode(use)}
    upsert(connection, t, [row])


def _keep_target(connection: SqlConnection, notice: Notice, target: Mapping[str, str] | None) -> None:
    """Store where the sink shows the incident, if it said so."""
    if not target:
        return
    used = connection.execute(select(t.c.payload).where(t.c.incident == notice.incident.id)).scalar()
    if used is not None:
        _note_use(connection, notice, replace(decode(SinkUse, used), target=dict(target)))


def _unsent(connection: SqlConnection, notice: Notice, why: str, error: str = "") -> dict[str, bytes]:
    """Return the column that says why ``notice`` was not sent; none if the Notification was removed meanwhile."""
    payload = connection.execute(select(n.c.payload).where(n.c.seq == notice.seq)).scalar()
    return {"payload": encode(replace(decode(Notice, payload), unsent=why, error=error))} if payload is not None else {}


def _note_failure(connection: SqlConnection, notice: Notice, failed: SinkRecord) -> None:
    path = notice.incident.notification
    record = record_of(connection, path)
    if failed.former:
        record = replace(record, former=failed.former, abandoned=record.abandoned + failed.abandoned)
        save_record(connection, path, record)
        return
    first = record.failed_at or failed.failed_at
    save_record(
        connection,
        path,
        replace(
            record,
            error=failed.error,
            code=failed.code,
            failed_at=first,
            failures=record.failures + 1,
            abandoned=record.abandoned + failed.abandoned,
        ),
    )


__all__ = ["NoticeStore"]
