"""The outbox: messages in order for each Notification, each until it is sent or abandoned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy import Connection as SqlConnection
from sqlalchemy import select, update

from reconciler.model.codec import decode, encode
from reconciler.model.incidents import Notice, NoticePhase, SinkRecord
from reconciler.state import incident_tables
from reconciler.state.database import Database, upsert
from reconciler.state.incidents import record_of, save_record

n, t = incident_tables.notice, incident_tables.sink_target


class NoticeStore(Database):
    """Messages to send."""

    def due_sinks(self, now: float, limit: int) -> list[str]:
        """Return the Notifications (paths) with a message that is due: one of several that wait hides the later ones."""
        e = n.alias("earlier")
        before = (e.c.notification == n.c.notification) & (e.c.done_at == 0) & (e.c.seq < n.c.seq)
        waiting = select(n.c.notification).where(n.c.done_at == 0, n.c.due_at <= now, ~select(e.c.seq).where(before).exists())
        again = select(n.c.notification).where(n.c.refresh_at > 0, n.c.refresh_at <= now)
        with self._read() as connection:
            first = list(connection.execute(waiting.order_by(n.c.due_at).limit(limit)).scalars())
            return list(dict.fromkeys([*first, *connection.execute(again.limit(limit)).scalars()]))

    def next_due(self) -> float | None:
        """Return when the next message is due; None if none waits."""
        with self._read() as connection:
            times = (
                connection.execute(select(n.c.due_at).where(n.c.done_at == 0).order_by(n.c.due_at).limit(1)).scalar(),
                connection.execute(select(n.c.refresh_at).where(n.c.refresh_at > 0).order_by(n.c.refresh_at).limit(1)).scalar(),
            )
        return min((at for at in times if at is not None), default=None)

    def due_notice(self, notification: str, now: float) -> Notice | None:
        """Return the first message of ``notification`` that waits, or an incident to report again; None if it is not due."""
        with self._read() as connection:
            query = select(n.c.seq, n.c.due_at, n.c.payload).where(n.c.notification == notification)
            row = connection.execute(query.where(n.c.done_at == 0).order_by(n.c.seq).limit(1)).first()
            if row is None or row.due_at > now:
                again = query.where(n.c.refresh_at > 0, n.c.refresh_at <= now)
                row = connection.execute(again.order_by(n.c.refresh_at).limit(1)).first()
            if row is None:
                return None
            notice = decode(Notice, row.payload)
            target = connection.execute(select(t.c.payload).where(t.c.incident == notice.incident.id)).scalar()
        return replace(notice, seq=row.seq, target=decode(dict, target) if target is not None else {})

    def note_attempt(self, notice: Notice, now: float) -> None:
        """Record that ``notice`` is being sent: if the outcome is never recorded, the next attempt looks for the message first."""
        with self._write() as connection:
            stored = decode(Notice, connection.execute(select(n.c.payload).where(n.c.seq == notice.seq)).scalar_one())
            payload = encode(replace(stored, attempted_at=stored.attempted_at or now))
            connection.execute(update(n).where(n.c.seq == notice.seq).values(payload=payload))

    def end_notice(self, notice: Notice, now: float, *, target: Mapping[str, str] | None = None, again_at: float = 0.0) -> None:
        """Record that ``notice`` was sent. ``again_at``: when the incident is reported again, unless it ended; 0 for never.

        An update that was replaced while it was sent stays due.
        """
        incident = notice.incident
        with self._write() as connection:
            payload = connection.execute(select(n.c.payload).where(n.c.seq == notice.seq)).scalar()
            if payload is None:  # the Notification was removed meanwhile
                return
            stored = decode(Notice, payload)
            if target:
                row = {"notification": incident.notification, "incident": incident.id, "payload": encode(dict(target))}
                upsert(connection, t, [row])
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
            save_record(
                connection, incident.notification, replace(record, sent=sent, error="", code="", failed_at=0.0, sent_at=now)
            )

    def skip_notice(self, notice: Notice, now: float) -> None:
        """Record that the sink has no message for this phase."""
        with self._write() as connection:
            payload = _unsent(connection, notice, "skipped")
            connection.execute(update(n).where(n.c.seq == notice.seq).values(done_at=now, **payload))

    def put_off_notice(self, notice: Notice, due_at: float, failed: SinkRecord, *, unknown: bool) -> None:
        """Retry ``notice`` at ``due_at``. ``failed``: why; ``unknown``: whether it may have been sent."""
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
            when = {"refresh_at": due_at} if notice.refresh else {"due_at": due_at}
            connection.execute(update(n).where(n.c.seq == notice.seq).values({**when, "payload": encode(kept)}))
            _note_failure(connection, notice, failed)

    def abandon_notice(self, notice: Notice, now: float, failed: SinkRecord) -> None:
        """Record that ``notice`` is not sent any more."""
        with self._write() as connection:
            payload = _unsent(connection, notice, "abandoned", failed.error)
            connection.execute(update(n).where(n.c.seq == notice.seq).values(done_at=now, refresh_at=0.0, **payload))
            _note_failure(connection, notice, replace(failed, abandoned=1))

    def hasten_notices(self, notification: str, now: float) -> None:
        """Make the messages of ``notification`` that failed due now: a person asked, or its sink changed."""
        with self._write() as connection:
            waiting = (n.c.notification == notification) & (n.c.done_at == 0) & (n.c.due_at > now)
            connection.execute(update(n).where(waiting).values(due_at=now))


def _unsent(connection: SqlConnection, notice: Notice, why: str, error: str = "") -> dict[str, bytes]:
    """Return the column that says why ``notice`` was not sent; none if the Notification was removed meanwhile."""
    payload = connection.execute(select(n.c.payload).where(n.c.seq == notice.seq)).scalar()
    return {"payload": encode(replace(decode(Notice, payload), unsent=why, error=error))} if payload is not None else {}


def _note_failure(connection: SqlConnection, notice: Notice, failed: SinkRecord) -> None:
    path = notice.incident.notification
    record = record_of(connection, path)
    first = record.failed_at or failed.failed_at
    save_record(
        connection,
        path,
        replace(record, error=failed.error, code=failed.code, failed_at=first, abandoned=record.abandoned + failed.abandoned),
    )


__all__ = ["NoticeStore"]
