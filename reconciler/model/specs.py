"""What the typed specs of all kinds are made of: see `reconciler.manifests.kinds`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec


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


class ConnectionSpec(Spec, frozen=True):
    type: Literal["event-source", "stage", "connection-group"]
    name: str
    filters: tuple[FilterSpec, ...] = ()
    filter_operator: Literal["and", "or"] = "and"
