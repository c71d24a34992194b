"""Sessions of the dashboard that people ended: every daemon refuses them until they would have ended by themselves."""

from __future__ import annotations

from sqlalchemy import delete, select

from reconciler.state.database import Database, upsert
from reconciler.state.tables import meta

MOST_ENDED = 4_096
_PREFIX = "session.ended/"


class SessionStore(Database):
    """Rows of ``meta``; the value is the time at which the session ends by itself, as twelve digits of epoch seconds."""

    def end_session(self, identity: str, until: float) -> None:
        """Remember that a session was ended. Forgets those that are over."""
        over = meta.c.key.startswith(_PREFIX, autoescape=True) & (meta.c.value < _text(self.now()))
        with self._write() as connection:
            connection.execute(delete(meta).where(over))
            upsert(connection, meta, [{"key": _PREFIX + identity, "value": _text(until)}])

    def ended_sessions(self) -> dict[str, float]:
        """Return the ended sessions with the times at which they end by themselves, the last ones first."""
        query = select(meta.c.key, meta.c.value).where(meta.c.key.startswith(_PREFIX, autoescape=True))
        with self._read() as connection:
            rows = connection.execute(query.order_by(meta.c.value.desc()).limit(MOST_ENDED)).all()
        return {key.removeprefix(_PREFIX): float(value) for key, value in rows}


def _text(at: float) -> str:
    return f"{int(at) + 1:012}"


__all__ = ["SessionStore"]
