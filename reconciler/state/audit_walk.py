"""One walk over the audit chain, row by row: what `AuditStore.verify_audit` does at once, and the daemon in small steps."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from reconciler.state.values import AuditKey, AuditReport

GENESIS = "0" * 64
SEAL = "seal"
"""Verb of the row that proves the rows written before rows were signed, or under the previous key."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """Number and hash of a row that was once the newest."""

    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class AuditRow:
    """A row as it is stored."""

    seq: int
    prev: str
    hash: str
    mac: str
    resource: str
    payload: bytes


class _EntryHead(msgspec.Struct, frozen=True):
    """The fields of a stored entry that the verification reads."""

    resource: str = ""
    verb: str = ""


_entry_head = msgspec.json.Decoder(_EntryHead)


class AuditWalk:
    """The state of a verification between two rows. ``anchors`` are earlier newest rows that were kept elsewhere."""

    def __init__(self, keys: Mapping[str, AuditKey], anchors: Sequence[Anchor] = ()) -> None:
        self.rows = 0
        """Rows that were verified; the next one has the next number."""
        self._keys = keys
        self._anchors = {anchor.seq: anchor.hash for anchor in anchors}
        self._prev = GENESIS
        self._signed = 0
        self._signing = False

    def take(self, row: AuditRow) -> AuditReport | None:
        """Verify the next row; returns a report if it is bad."""
        expected, before = self.rows + 1, self.rows
        whole = (
            _is_typed(row)
            and row.seq == expected
            and row.prev == self._prev
            and row.hash == link(self._prev, row.seq, row.payload)
        )
        # The search column is not part of the hash: it must equal the payload.
        entry = _head_of(row.payload) if whole else None
        if entry is None or entry.resource != row.resource:
            return AuditReport(ok=False, rows=before, first_bad_seq=expected, fault="changed")
        key = self._keys.get(row.mac.partition(":")[0])
        if key is not None and not hmac.compare_digest(key.mac(row.hash), row.mac):
            return AuditReport(ok=False, rows=before, first_bad_seq=expected, fault="rewritten")
        if self._keys and _out_of_turn(row.mac, entry.verb, before, signing=self._signing):
            return AuditReport(ok=False, rows=before, first_bad_seq=expected if self._signing else 1, fault="unsigned")
        if self._anchors.get(row.seq, row.hash) != row.hash:
            return AuditReport(ok=False, rows=before, first_bad_seq=row.seq, fault="rewritten")
        self._signed = row.seq if key is not None else self._signed
        self._signing = self._signing or bool(row.mac)
        self._prev, self.rows = row.hash, expected
        return None

    def end(self, signing_key: AuditKey | None) -> AuditReport:
        """Return the report after the last row."""
        newest = max(self._anchors, default=0)
        if self.rows < newest:
            return AuditReport(ok=False, rows=self.rows, first_bad_seq=self.rows + 1, fault="truncated", expected=newest)
        if signing_key is not None and self._signed < self.rows:  # an attacker without the key cannot sign rows
            return AuditReport(ok=False, rows=self.rows, first_bad_seq=self._signed + 1, fault="unsigned")
        return AuditReport(ok=True, rows=self.rows)


def link(prev: str, seq: int, payload: bytes) -> str:
    """Return the hash of a row: SHA-256 over the previous hash, the number and the payload as stored."""
    return hashlib.sha256(prev.encode() + seq.to_bytes(8, "big") + bytes(payload)).hexdigest()


def _is_typed(row: AuditRow) -> bool:
    """Whether the values have the types of their columns: SQLite stores any type in any column."""
    texts = (row.prev, row.hash, row.mac, row.resource)
    return isinstance(row.seq, int) and isinstance(row.payload, bytes) and all(isinstance(text, str) for text in texts)


def _out_of_turn(mac: str, verb: str, before: int, *, signing: bool) -> bool:
    """Whether an unsigned row follows a signed one, or the first signed row after unsigned ones is not a seal."""
    if signing or not mac:
        return signing and not mac
    return bool(before) and verb != SEAL


def _head_of(payload: bytes) -> _EntryHead | None:
    try:
        return _entry_head.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


__all__ = ["GENESIS", "SEAL", "Anchor", "AuditRow", "AuditWalk", "link"]
