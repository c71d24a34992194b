"""Basic types: ids, digests, and the canonical form of JSON."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NewType

import orjson

from reconciler.model.json import Json

# JSON as a provider or the state returns it, not checked. `reconciler.model.json.Json` is the checked type.
JsonValue = Any
JsonObject = Mapping[str, Any]

Address = NewType("Address", str)
"""Identity of a managed object: ``EventSource/default/payments#provider/webhook[acme/payments]``."""

Uid = NewType("Uid", str)
"""``hash(owner, kind, canvas, name)`` of a resource: 20 lower-case hex digits, no dashes (see `uid_of`)."""

ExternalId = NewType("ExternalId", str)
"""The provider's own id of an object, always kept as text."""

Digest = NewType("Digest", str)
"""``sha256:<64 hex>`` over canonical JSON."""

Fingerprint = NewType("Fingerprint", str)
"""``hmac:<64 hex>``, keyed by the installation's fingerprint key, of a write-only value. Offline: ``ref:<reference>``."""


def canonical_json(value: object) -> bytes:
    """Return the canonical bytes of ``value``: sorted keys, no spaces, UTF-8. Digests cover these."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def digest_of(value: object) -> Digest:
    """Return ``sha256:…`` over the canonical JSON of ``value``."""
    return Digest("sha256:" + hashlib.sha256(canonical_json(value)).hexdigest())


def uid_of(owner: str, kind: str, canvas: str, name: str) -> Uid:
    """Return the resource's uid. It needs no randomness and no database, so a lost state can be recovered.

    Twenty hex digits (80 bits) and no dash: some providers refuse names that contain a UUID.
    """
    joined = "\0".join(("reconciler/uid/v1", owner, kind, canvas, name))
    return Uid(hashlib.sha256(joined.encode()).hexdigest()[:20])


def text_of(value: Json) -> str:
    """Return the text of ``value`` for templates, inputs, parameters, headers and names.

    A text is unchanged, null is empty, any other value is compact JSON: ``true``, ``3``, ``1.5``, ``{"a":1}``.
    """
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value).decode()


def texts_of(value: Json) -> Iterator[str]:
    """Yield every text in ``value``, however deep; keys are not among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts_of(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_of(item)


def map_texts(value: Json, change: Callable[[str], Json]) -> Json:
    """Return ``value`` with every text in it replaced by what ``change`` returns."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: map_texts(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [map_texts(item, change) for item in value]
    return value


def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an address without brackets, is this host itself."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def is_no_commit(value: object) -> bool:
    """Whether ``value`` is Git's null commit (40 or 64 zeros), as in the push of a deleted branch."""
    return isinstance(value, str) and len(value) in (40, 64) and not value.strip("0")


DEEPEST = 64
"""Nesting levels of lists and objects that an event or a run may pass into our own data."""


def too_deep(value: object, most: int = DEEPEST) -> bool:
    """Whether ``value`` has more than ``most`` nesting levels: deeper JSON can be read, but not written as a part of other JSON."""
    level: list[object] = [value]
    for _ in range(most):
        level = [
            inner
            for node in level
            if isinstance(node, Mapping | list | tuple)
            for inner in (node.values() if isinstance(node, Mapping) else node)
        ]
        if not level:
            return False
    return any(isinstance(node, Mapping | list | tuple) for node in level)
