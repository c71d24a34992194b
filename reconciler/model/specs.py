"""What the typed specs of all kinds are made of: see `reconciler.manifests.kinds`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from reconciler.model.resources import Adopt, DeletionPolicy, DriftMode, IgnoreRule, Kind, Management, Suspension


class Spec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A spec, or a part of one, in canonical form."""


class Reference(Spec, frozen=True):
    """A resource by name."""

    name: str
    domain_type: str | None = None
    domain_id: str | None = None


class SecretKey(Spec, frozen=True):
    """A key of a Secret."""

    name: str
    key: str
    domain_type: str | None = None
    domain_id: str | None = None


class SecretSource(Spec, frozen=True):
    """Where a value is."""

    secret: SecretKey


class Credential(Spec, frozen=True):
    """A reference to a value, never the value itself."""

    value_from: SecretSource


class ExpressionSpec(Spec, frozen=True):
    expression: str


class FilterSpec(Spec, frozen=True):
    type: Literal["data", "header", "payload"]
    data: ExpressionSpec | None = None
    header: ExpressionSpec | None = None
    payload: Mapping[str, str] = {}


CONNECTION_KINDS: Mapping[str, Kind] = {
    "event-source": Kind.EVENT_SOURCE,
    "stage": Kind.STAGE,
    "connection-group": Kind.CONNECTION_GROUP,
}
"""Type of a connection → the kind of the resource that it names."""


class ConnectionSpec(Spec, frozen=True):
    type: Literal["event-source", "stage", "connection-group"]
    name: str
    filters: tuple[FilterSpec, ...] = ()
    filter_operator: Literal["and", "or"] = "and"


class LifecycleSpec(Spec, frozen=True):
    """``spec.lifecycle`` of every kind, as its schema has it."""

    deletion_policy: DeletionPolicy = DeletionPolicy.DELETE
    management: Management = Management.FULL
    drift: DriftMode = DriftMode.REPAIR
    adopt: Adopt = Adopt.NEVER
    replace: Literal["forbid", "allow"] = "forbid"
    ignore: tuple[IgnoreRule, ...] = ()
    interval: str | int | float | None = None
    suspend: Suspension | None = None
    prevent_destroy: bool = False
    moved_from: str | None = None
    external_id: str | int | float | None = None
