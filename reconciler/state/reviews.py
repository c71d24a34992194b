"""Reviews of pull requests: what was seen of each, and how far its review is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update

from reconciler.model.codec import decode, encode
from reconciler.model.records import AuditEntry
from reconciler.model.reviews import ReviewState
from reconciler.state import tables
from reconciler.state.audit import append_entries
from reconciler.state.database import Database, locked

r = tables.review
MOST_OPEN = 500
"""Open reviews that are read to find the newest."""
NEVER = 1e18
"""Due time of a review that has nothing to do (seconds since the epoch)."""


@dataclass(frozen=True, slots=True)
class StoredReview:
    """A review as it was read; ``version`` rises with every change, 0 is one that is not stored."""

    key: str
    version: int
    due_at: float
    state: ReviewState


class ReviewStore(Database):
    """Reviews, each changed by comparison of its version: an event that arrives meanwhile is never overwritten."""

    def review(self, key: str) -> StoredReview | None:
        """Return a review; None if there is none."""
        with self._read() as connection:
            row = connection.execute(select(r).where(r.c.key == key)).first()
        return _stored(row.key, row.version, row.due_at, row.payload) if row is not None else None

    def open_reviews(self, prefix: str, limit: int) -> list[str]:
        """Return the keys that begin with ``prefix`` of the reviews of open pull requests."""
        query = select(r.c.key).where(r.c.is_open.is_(True), r.c.key.startswith(prefix, autoescape=True)).order_by(r.c.key)
        with self._read() as connection:
            return list(connection.scalars(query.limit(limit)))

    def newest_reviews(self, limit: int) -> list[StoredReview]:
        """Return the reviews of open pull requests and merge groups, the newest change of the request first."""
        with self._read() as connection:
            rows = connection.execute(select(r).where(r.c.is_open.is_(True)).order_by(r.c.key).limit(MOST_OPEN))
            stored = [_stored(row.key, row.version, row.due_at, row.payload) for row in rows]
        return sorted(stored, key=lambda review: (-review.state.updated_at, review.key))[:limit]

    def review_of_check(self, prefix: str, check_id: str) -> str | None:
        """Return the key of the review whose newest check has this id; None if there is none."""
        query = select(r.c.key).where(r.c.check_id == check_id, r.c.key.startswith(prefix, autoescape=True)).limit(1)
        with self._read() as connection:
            return connection.scalar(query)

    def due_reviews(self, prefix: str, now: float, limit: int) -> list[StoredReview]:
        """Return the reviews with something to do now, the longest due first."""
        query = (
            select(r)
            .where(r.c.due_at <= now, r.c.key.startswith(prefix, autoescape=True))
            .order_by(r.c.due_at, r.c.key)
            .limit(limit)
        )
        with self._read() as connection:
            return [_stored(row.key, row.version, row.due_at, row.payload) for row in connection.execute(query)]

    def save_review(self, before: StoredReview, state: ReviewState, due_at: float, *, audit: Sequence[AuditEntry] = ()) -> bool:
        """Store the new state of a review; False, and nothing is stored, if it was changed since ``before`` was read."""
        values = {
            "version": before.version + 1,
            "due_at": due_at,
            "is_open": not state.closed,
            "check_id": state.check_id[:40],
            "payload": encode(state),
        }
        with self._write() as connection:
            if before.version:
                where = (r.c.key == before.key) & (r.c.version == before.version)
                if connection.execute(update(r).where(where).values(**values)).rowcount != 1:
                    return False
            else:
                query = locked(connection, select(r.c.key).where(r.c.key == before.key))
                if connection.execute(query).first() is not None:
                    return False
                connection.execute(insert(r).values(key=before.key, **values))
            if audit:
                append_entries(connection, self.signing_key, list(audit))
        return True

    def drop_reviews(self, keys: Sequence[str]) -> None:
        """Delete reviews."""
        with self._write() as connection:
            connection.execute(delete(r).where(r.c.key.in_(list(keys))))


def _stored(key: str, version: int, due_at: float, payload: bytes) -> StoredReview:
    return StoredReview(key, version, due_at, decode(ReviewState, payload))
