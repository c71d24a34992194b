"""Writes the status file: a row is built, redacted and encoded once, when it changes, and never on the event loop.

A heartbeat without changes only overwrites the times in the head of the file, so an idle installation with thousands of resources
costs little more than one with ten.
"""

from __future__ import annotations

import asyncio
import dataclasses
import operator
import os
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from reconciler.credentials.redact import Redactor
from reconciler.engine import statusfile
from reconciler.engine.current import Current
from reconciler.engine.revision import ActiveRevision
from reconciler.engine.statusfile import DaemonInfo, Moment
from reconciler.model.resources import ResourceId
from reconciler.model.status import ResourceStatus

_NEXT = b'"nextReconcileAt":'
_HEARTBEAT = b'"heartbeatAt":"'
_FETCHED = b'"lastFetchedAt":"'
_STAMPS = (_HEARTBEAT, _FETCHED)
"""Times in the head. Their width is fixed, so that they can be overwritten while the file is read."""
_WIDTH = len("2026-01-01T00:00:00Z")


class _Rows:
    """Encoded rows of one kind by key; a row is encoded again only when its source changed."""

    def __init__(self, encode: Callable[[Any], bytes], *, same: Callable[[Any, Any], bool]) -> None:
        self._encode = encode
        self._same = same
        self._known: dict[Hashable, tuple[Any, bytes]] = {}
        self.built = 0

    def of(self, sources: Iterable[tuple[Hashable, Any]]) -> list[bytes]:
        """Return the rows of ``sources`` in order, and forget all others."""
        known, fresh = self._known, {}
        for key, source in sources:
            row = known.get(key)
            if row is None or not (row[0] is source or self._same(row[0], source)):
                row = (source, self._encode(source))
                self.built += 1
            fresh[key] = row
        self._known = fresh
        return [row for _, row in fresh.values()]

    def clear(self) -> None:
        """Encode every row again, since a new secret is known that any row may contain."""
        self._known = {}


class Publisher:
    """The status document of one process: as bytes (`encoded`), and as the file (`publish`)."""

    def __init__(self, current: Current, redactor: Redactor, path: Path) -> None:
        self._current = current
        self._redactor = redactor
        self._path = path
        self._lock = threading.Lock()
        self._resources = _Rows(self._resource, same=_same_row)
        self._plans = _Rows(lambda plan: self._dump(statusfile.plan_row(plan)), same=operator.eq)
        self._stages = _Rows(self._dump, same=operator.eq)
        self._schedules = _Rows(self._dump, same=operator.eq)
        self._generation = -1
        self._statuses: Mapping[ResourceId, ResourceStatus] | None = None
        self._body, self._summary = b"", b""
        self._written: tuple[bytes, bytes, bytes] | None = None
        self._inode = 0
        self._snapshot_of: str | None = None
        self.files = 0
        """Whole files written."""
        self.beats = 0
        """Heartbeats written into the existing file."""

    @property
    def rows_built(self) -> int:
        """Return the number of rows built so far; it stays the same while nothing changes."""
        return self._resources.built + self._plans.built + self._stages.built + self._schedules.built

    async def publish(self, info: DaemonInfo) -> None:
        """Write the file, and the snapshot if the active revision changed. Raises OSError."""
        seen = statusfile.moment(self._current, info, time.time())
        await asyncio.to_thread(self._publish, seen)
        live = self._current.active
        if live.revision != self._snapshot_of:
            await asyncio.to_thread(self._write_snapshot, live)
            self._snapshot_of = live.revision

    async def encoded(self, info: DaemonInfo) -> bytes:
        """Return the redacted document as JSON."""
        seen = statusfile.moment(self._current, info, time.time())
        return await asyncio.to_thread(lambda: b"".join(self._parts(seen)))

    def row(self, identity: ResourceId) -> Mapping[str, Any] | None:
        """Return the row of one resource, not redacted, or None."""
        status = self._current.view.statuses.get(identity)
        return statusfile.resource_row(status) if status is not None else None

    # -- on a thread ------------------------------------------------------------------------------------------------

    def _publish(self, seen: Moment) -> None:
        head, body, rest = parts = self._parts(seen)
        content = (_unstamped(head), body, rest)
        if content == self._written and _stamp(self._path, self._inode, parts):
            self.beats += 1
            return
        self._written = None
        self._inode = statusfile.write(self._path, parts)
        self.files += 1
        self._written = content

    def _parts(self, seen: Moment) -> tuple[bytes, bytes, bytes]:
        """Return the document in parts: the head, the rows of resources, the rest."""
        with self._lock:
            if self._redactor.generation != self._generation:
                self._generation = self._redactor.generation
                for rows in (self._resources, self._plans, self._stages, self._schedules):
                    rows.clear()
                self._statuses = None
            if seen.statuses is not self._statuses:
                self._take(seen.statuses)
            plans = _listed(self._plans.of((plan.integration, plan) for plan in seen.plans))
            stages = _listed(self._stages.of(((row["canvas"], row["name"]), row) for row in seen.stages))
            schedules = _listed(self._schedules.of(((row["canvas"], row["name"]), row) for row in seen.schedules))
            credentials = self._dump(list(seen.credentials))
            head = self._dump(statusfile.head_of(seen))[:-1]
            opening = b',\n"summary":' + self._summary + b',\n"plans":' + plans + b',\n"credentials":' + credentials
            return (
                head + opening + b',\n"resources":',
                self._body,
                b',\n"stages":' + stages + b',\n"schedules":' + schedules + b"}\n",
            )

    def _take(self, statuses: Mapping[ResourceId, ResourceStatus]) -> None:
        rows = sorted(statuses.values(), key=lambda status: status.id)
        encoded = self._resources.of((status.id, status) for status in rows)
        body = _listed(_with_next(row, status) for row, status in zip(encoded, rows, strict=True))
        self._body = self._body if self._body == body else body  # keep one copy of equal bytes
        self._summary = orjson.dumps(statusfile.summary_of(rows))
        self._statuses = statuses

    def _resource(self, status: ResourceStatus) -> bytes:
        """Encode a row without the time of the next reconcile, which changes with every reconcile."""
        return self._dump(statusfile.resource_row(dataclasses.replace(status, next_reconcile_at="")))

    def _dump(self, value: Any) -> bytes:
        return orjson.dumps(self._redactor.redact_json(value))

    def _write_snapshot(self, live: ActiveRevision) -> None:
        content = self._redactor.redact_json(statusfile.snapshot_of(live))
        text = orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        statusfile.write(self._path.parent / "snapshot.json", [text])


def _same_row(old: ResourceStatus, new: ResourceStatus) -> bool:
    return old == dataclasses.replace(new, next_reconcile_at=old.next_reconcile_at)


def _with_next(row: bytes, status: ResourceStatus) -> bytes:
    # The first match is the row's own key: a quotation mark inside a text is escaped.
    return row.replace(_NEXT + b'""', _NEXT + orjson.dumps(status.next_reconcile_at), 1)


def _listed(rows: Iterable[bytes]) -> bytes:
    return b"[\n" + b",\n".join(rows) + b"\n]"


def _places(head: bytes) -> Iterable[int]:
    """Yield the positions of the times in the head."""
    for stamp in _STAMPS:
        at = head.find(stamp) + len(stamp)
        if head[at : at + _WIDTH + 1].endswith(b'Z"'):
            yield at


def _unstamped(head: bytes) -> bytes:
    """Return the head without its times, to detect changes."""
    blank = bytearray(head)
    for at in _places(head):
        blank[at : at + _WIDTH] = b" " * _WIDTH
    return bytes(blank)


def _stamp(path: Path, inode: int, parts: tuple[bytes, ...]) -> bool:
    """Overwrite the times in the file. Returns False when it is not the file that this process wrote.

    Each is one write of twenty bytes of the same form within a page, so a concurrent reader sees a complete document.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        info, head = os.fstat(descriptor), parts[0]
        if info.st_ino != inode or info.st_size != sum(map(len, parts)):
            return False
        for at in _places(head):
            os.pwrite(descriptor, head[at : at + _WIDTH], at)
    finally:
        os.close(descriptor)
    return True


__all__ = ["Publisher"]
