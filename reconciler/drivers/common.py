"""What drivers share: targets, the objects that a source declares, markers, answers and reads.

Everything here is pure, except for `PassApi`, `once` and `read_each`.
"""

from __future__ import annotations

import asyncio
import difflib
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, TypeVar, cast
from urllib.parse import urlsplit

import msgspec

from reconciler.drivers.base import ApiResponse
from reconciler.drivers.connection import Api, CompileContext
from reconciler.drivers.wire import decode
from reconciler.model.errors import OutcomeUnknown, ProviderProtocolError
from reconciler.model.objects import ManagedObject, Marker, Scope, WriteOnly, address_of
from reconciler.model.resources import DerivedKeyRef, Resource, ResourceId, ValueRef
from reconciler.model.times import epoch_of
from reconciler.model.values import JsonObject, JsonValue, Uid

T = TypeVar("T")

NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]
"""A text that must not be empty: an id or a name in an answer."""
PARALLEL_READS = 8
"""Concurrent requests where one list leads to many reads."""
_MARKER = re.compile(r"/hooks/(?P<owner>[^/]+)/(?P<uid>[0-9a-f]{20})/?\Z")


# targets and markers


@dataclass(frozen=True, slots=True)
class Target:
    """``spec.resource`` of an event source: explicit ``name`` or ``names``, or a glob in ``match``."""

    type: str
    names: tuple[str, ...]
    match: str


def target_of(resource: Resource, default_type: str) -> Target:
    """Return the target of an event source."""
    spec = resource.spec.get("resource") or {}
    names = [spec["name"]] if spec.get("name") else spec.get("names") or ()
    return Target(str(spec.get("type", default_type)), tuple(map(str, names)), str(spec.get("match") or ""))


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the ``names`` that match the glob ``pattern``, sorted. Case-sensitive."""
    return sorted(name for name in names if fnmatchcase(name, pattern))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "Did you mean 'x'? " for the closest of ``known``; empty if none is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean '{close[0]}'? " if close else ""


def hook_marker(url: str) -> Marker | None:
    """Return the marker in the path of a webhook's URL (``/hooks/<owner>/<uid>``); host and query do not matter."""
    try:
        match = _MARKER.search(urlsplit(url).path)
    except ValueError:
        return None
    return Marker(match["owner"], Uid(match["uid"])) if match else None


def derived_key(resource: Resource, context: CompileContext) -> DerivedKeyRef:
    """Return the key that signs the deliveries to an event source."""
    return DerivedKeyRef(resource.id.uid(context.owner), int(resource.spec.get("keyRotation", 0)))


def declared(
    resource: Resource,
    context: CompileContext,
    scope: Scope,
    attributes: JsonObject,
    natural_key: str,
    *,
    secrets: Mapping[str, ValueRef] | None = None,
) -> ManagedObject:
    """Return the object of ``resource`` in ``scope``, with our marker; ``secrets`` are write-only values by pointer.

    After ``movedFrom`` it also has the address and the marker from before.
    """
    address, before = address_of(resource.id, scope), resource.lifecycle.moved_from
    former = ResourceId(resource.id.kind, resource.id.canvas, before) if before is not None else None
    return ManagedObject(
        address,
        resource.id,
        context.connection.integration,
        scope,
        attributes,
        natural_key,
        Marker(context.owner, resource.id.uid(context.owner)),
        tuple(WriteOnly(key, ref, context.fingerprint(address, key, ref)) for key, ref in (secrets or {}).items()),
        lifecycle=resource.lifecycle,
        location=resource.location,
        previous=address_of(former, scope) if former is not None else None,
        previous_marker=Marker(context.owner, former.uid(context.owner)) if former is not None else None,
    )


# answers


def decode_write(response: ApiResponse, kind: type[T], request: str) -> T:
    """Return the answer to a write as ``kind``.

    Raises `OutcomeUnknown` for any other answer: the provider accepted the write, so the object must be looked up.
    """
    try:
        return decode(response.json(), kind, request)
    except ProviderProtocolError as error:
        raise OutcomeUnknown(
            f"{request}: accepted, but the answer cannot be read; the object is looked up ({error.message})"[:500],
            status=response.status,
            request=request,
        ) from None


def only_shown(normal: JsonValue, raw: JsonValue) -> JsonValue:
    """Return ``normal`` (the normal form of ``raw``) without the fields that ``raw`` does not have: those are unknown, not null.

    A field that is null stays, with the value that null means in the normal form.
    """
    if isinstance(normal, Mapping) and isinstance(raw, Mapping):
        return {key: only_shown(value, raw[key]) for key, value in normal.items() if key in raw}
    return normal


def epoch_of_iso(text: str) -> float | None:
    """Return an ISO 8601 time (UTC if it has no zone) in seconds since the epoch; None for any other text."""
    try:
        return epoch_of(text)
    except ValueError:
        return None


# reads shared within a pass


class PassApi:
    """An `Api` for one pass: reads that several resources need (projects, members) are made once.

    Implements `reconciler.drivers.connection.Api`. A driver keeps no state; results live as long as this client.
    """

    def __init__(self, api: Api) -> None:
        self.connection = api.connection
        self.authenticator = api.authenticator
        self.request = api.request
        self.download = api.download
        self._reads: dict[str, asyncio.Task[Any]] = {}

    async def once(self, key: str, read: Callable[[], Awaitable[T]]) -> T:
        """Return the result of ``read`` for ``key``, or raise its error; later calls do not read again."""
        if key not in self._reads:
            self._reads[key] = asyncio.ensure_future(cast("Any", read()))
        return cast("T", await self._reads[key])


async def once(api: Api, key: str, read: Callable[[], Awaitable[T]]) -> T:
    """Return the result of ``read``: read once for ``key`` with a `PassApi`, every time with any other client."""
    return await api.once(key, read) if isinstance(api, PassApi) else await read()


Item = TypeVar("Item")


async def read_each(items: Iterable[Item], read: Callable[[Item], Awaitable[T]]) -> list[T]:
    """Return ``read(item)`` of each item, in their order, at most `PARALLEL_READS` at a time."""
    gate = asyncio.Semaphore(PARALLEL_READS)

    async def guarded(item: Item) -> T:
        async with gate:
            return await read(item)

    return list(await asyncio.gather(*map(guarded, items)))
