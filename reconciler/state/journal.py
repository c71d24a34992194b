"""The journal that `explain` shows, and the retention of the history."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import insert, select

from reconciler.model.codec import decode, encode
from reconciler.model.objects import IntentState
from reconciler.model.records import JournalEntry
from reconciler.model.resources import ResourceId
from reconciler.state import tables
from reconciler.state.database import CHUNK, Database, drop_some


class JournalStore(Database):
    """The journal, and the retention of settled rows."""

    def journal(self, entries: Sequence[JournalEntry]) -> None:
        """Append journal entries."""
        if not entries:
            return
        with self._write() as connection:
            connection.execute(
                insert(tables.journal), [{"path": e.resource.path, "at": e.at, "payload": encode(e)} for e in entries]
            )

    def journal_of(self, identity: ResourceId, limit: int) -> list[JournalEntry]:
        """Return the newest entries of one resource, newest first."""
        query = (
            select(tables.journal.c.payload)
            .where(tables.journal.c.path == identity.path)
            .order_by(tables.journal.c.id.desc())
            .limit(limit)
        )
        with self._read() as connection:
            return [decode(JournalEntry, payload) for payload in connection.execute(query).scalars()]

    def prune_history(self, before: float, limit: int = CHUNK) -> int:
        """Delete up to ``limit`` journal entries, settled intents or approvals older than ``before`` (epoch seconds).

        Returns the number of rows; call it until it returns 0.
        """
        done = [state.value for state in IntentState if state not in {IntentState.PENDING, IntentState.UNKNOWN}]
        journal, intent, approval = tables.journal, tables.intent, tables.approval
        with self._write() as connection:
            for table, where in (
                (journal, journal.c.at < before),
                (intent, (intent.c.created_at < before) & intent.c.state.in_(done)),
                (approval, approval.c.at < before),
            ):
                if gone := drop_some(connection, table, where, limit):
                    return gone
        return 0
