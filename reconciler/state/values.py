"""Values of the state that no other package defines."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from reconciler.model.errors import StateError
from reconciler.model.objects import ObservedObject, Scope
from reconciler.model.values import JsonObject


@dataclass(frozen=True, slots=True)
class StoredObservation:
    """The last complete list of a scope, with the validators of the next conditional read. Disposable. ``observed_at``: epoch seconds."""

    scope: Scope
    validators: JsonObject
    objects: tuple[ObservedObject, ...]
    observed_at: float


@dataclass(frozen=True, slots=True)
class AuditKey:
    """A key of the audit log; ``id`` names the master key that it is derived from."""

    id: str
    material: bytes

    def mac(self, digest: str) -> str:
        """Return the MAC of a row's hash as ``<key id>:<hex>``."""
        return f"{self.id}:{hmac.new(self.material, digest.encode(), hashlib.sha256).hexdigest()}"


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The result of verifying the audit chain."""

    ok: bool
    rows: int
    first_bad_seq: int = 0
    fault: str = ""
    """``changed``: a row is not what its hash says; ``rewritten``: hashes were recomputed without the key, or an anchor differs;
    ``unsigned``: the newest rows were written without the key; ``truncated``: rows at the end are missing."""
    expected: int = 0
    """For ``truncated``: the least number of rows that existed."""

    def __str__(self) -> str:
        row = self.first_bad_seq
        return {
            "": f"{self.rows} rows: the chain holds",
            "changed": f"the chain is broken at row {row}: it was changed, or rows before it are missing",
            "rewritten": f"rewritten: row {row} is not the one that this installation's key signed",
            "unsigned": f"rows from {row} on are not signed with this installation's key: rewritten, or written by an older version",
            "truncated": f"truncated: rows {row} to {self.expected} are missing",
        }[self.fault]


@dataclass(frozen=True, slots=True)
class Fence:
    """The fencing number of a lease: a write with an older number is refused."""

    name: str
    number: int


class StorageFull(StateError):
    """The disk is full: no remote write is made, because its intent could not be stored."""

    code = "RC7005"
    stops_integration = True


class FenceLost(StateError):
    """Another process has taken over: nothing was written, and this process must stop the work."""

    code = "RC7006"
