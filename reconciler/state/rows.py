"""Values that only the state has."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.errors import StateError
from reconciler.model.objects import ObservedObject, Scope
from reconciler.model.values import JsonObject


@dataclass(frozen=True, slots=True)
class StoredObservation:
    """The last complete list of a scope, with what makes the next read conditional. Disposable. ``observed_at``: epoch seconds."""

    scope: Scope
    validators: JsonObject
    objects: tuple[ObservedObject, ...]
    observed_at: float


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Result of walking the audit chain."""

    ok: bool
    rows: int
    first_bad_seq: int = 0


@dataclass(frozen=True, slots=True)
class Fence:
    """The number of a lease: a write under an older one changes nothing."""

    name: str
    number: int


class StorageFull(StateError):
    """The disk is full: no remote write is made, because its intent could not be stored."""

    code = "RC7005"


class FenceLost(StateError):
    """Another process has taken over: stop at once, nothing was written."""

    code = "RC7006"
