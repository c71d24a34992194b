"""What drivers share: credentials, signatures, targets, markers, log cursors and reads.

Everything here is pure, except for `PassApi`, `once` and `read_each`.
"""

from __future__ import annotations

import asyncio
import base64
import difflib
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated, Any, Protocol, TypeVar, cast
from urllib.parse import urlsplit

import msgspec

from reconciler.drivers.base import Api, ApiResponse, CompileContext, Connection
from reconciler.drivers.wire import decode
from reconciler.model.errors import NotImplementedYet, OutcomeUnknown, ProviderProtocolError, ValidationFailed
from reconciler.model.executions import Run
from reconciler.model.objects import Marker, Scope, address_of
from reconciler.model.resources import Resource, ResourceId, SecretRef
from reconciler.model.secrets import SecretValue
from reconciler.model.times import epoch_of
from reconciler.model.values import Address, JsonObject, JsonValue, Uid, canonical_json, is_no_commit

T = TypeVar("T")

NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]
"""A text that must not be empty: an id or a name in an answer."""
LOOK_BACK_S = 120
"""How much older than its intent a run may look: clock offsets are measured, not exact."""
PARALLEL_READS = 8
"""Concurrent requests where one list leads to many reads."""
_MARKER = re.compile(r"/hooks/(?P<owner>[^/]+)/(?P<uid>[0-9a-f]{20})/?\Z")


# credentials


def require_auth(resource: Resource, supported: Iterable[str], hint: str) -> str:
    """Return ``spec.auth.use`` of an Integration; raises `NotImplementedYet` unless it is one of ``supported``."""
    use = str(resource.spec.get("auth", {}).get("use"))
    if use not in supported:
        raise NotImplementedYet(
            f"{resource.id}: auth '{use}' is not supported for this provider", hint=hint, location=resource.location
        )
    return use


@dataclass(frozen=True, slots=True)
class SecretHeader:
    """How a provider takes its credential.

    ``Authorization: <scheme> <secret>``; with ``username``, HTTP basic authentication (RFC 7617). ``extra`` headers are sent as they
    are.
    """

    scheme: str = "Bearer"
    username: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)

    def put(self, headers: dict[str, str], secret: SecretValue) -> None:
        """Add the headers to ``headers``."""
        headers.update(self.extra)
        if self.username:
            pair = f"{self.username}:{secret.reveal()}".encode()
            headers["authorization"] = "Basic " + base64.b64encode(pair).decode()
        else:
            headers["authorization"] = f"{self.scheme} {secret.reveal()}"


class TokenAuthenticator:
    """Sends one secret with every request; implements `reconciler.drivers.base.Authenticator`."""

    def __init__(self, ref: SecretRef, read: Callable[[SecretRef], SecretValue], header: SecretHeader) -> None:
        self._ref = ref
        self._read = read
        self._header = header
        self._secret: SecretValue | None = None

    async def authorize(self, headers: dict[str, str]) -> None:
        """Add the credential. Raises `SecretUnavailable`."""
        if self._secret is None:
            self._secret = self._read(self._ref)
        self._header.put(headers, self._secret)

    async def refresh(self) -> bool:
        """Read the secret again; True only if it changed, since the provider would refuse the same token again."""
        before, self._secret = self._secret, self._read(self._ref)
        return before is None or before.reveal() != self._secret.reveal()


def token_authenticator(
    connection: Connection, read: Callable[[SecretRef], SecretValue], header: SecretHeader, *, pointer: str = "/token"
) -> TokenAuthenticator:
    """Return the authenticator for the secret at ``pointer`` of ``spec.auth``; raises `ValidationFailed` if none is set."""
    ref = connection.secrets.get(pointer)
    if ref is None:
        name = pointer.strip("/").replace("/", ".")
        raise ValidationFailed(
            f"{connection.integration}: auth.{name} names no secret", hint=f"Set `auth.{name}.valueFrom.secret`."
        )
    return TokenAuthenticator(ref, read, header)


# webhooks


def signing_key(secrets: Sequence[bytes], expected: Callable[[bytes], bytes], signatures: Sequence[bytes]) -> int | None:
    """Return the index of the first of ``secrets`` for which ``expected`` gives one of ``signatures``; None if there is none.

    Compares in constant time and tries every pair, also after a match. An empty secret never matches.
    """
    match: int | None = None
    for index, secret in enumerate(secrets):
        proof = expected(secret)
        for signature in signatures:
            if hmac.compare_digest(proof, signature) and secret and match is None:
                match = index
    return match


def identity_of(body: bytes) -> str:
    """Return ``sha256:<hex>`` of a body: the identity of an event that has no id of its own."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def kept_headers(headers: Mapping[str, str], names: Iterable[str], limit: int = 200) -> dict[str, str]:
    """Return the headers in ``names``, each value cut to ``limit`` characters."""
    return {name: headers[name][:limit] for name in names if name in headers}


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


def moved_from(resource: Resource, context: CompileContext, scope: Scope) -> tuple[Address | None, Marker | None]:
    """Return the address and marker that the object of ``resource`` in ``scope`` had before ``movedFrom``; None without it."""
    if resource.lifecycle.moved_from is None:
        return None, None
    before = ResourceId(resource.id.kind, resource.id.canvas, resource.lifecycle.moved_from)
    return address_of(before, scope), Marker(context.owner, before.uid(context.owner))


# answers


ItemT_co = TypeVar("ItemT_co", covariant=True)


class ListPage(Protocol[ItemT_co]):
    """The answer of a list: a struct whose field, whatever its name in JSON, is ``items``."""

    @property
    def items(self) -> Sequence[ItemT_co]:
        """The items of this page."""


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

    Implements `reconciler.drivers.base.Api`. A driver keeps no state; results live as long as this client.
    """

    def __init__(self, api: Api) -> None:
        self.connection = api.connection
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


# runs


def require_commit(spec: JsonObject) -> None:
    """Raise `ValidationFailed` if ``spec`` (an intent's) names a commit of zeros: what Git writes for a deleted ref."""
    for key in ("ref", "branch", "tag", "revision"):
        if is_no_commit(spec.get(key)):
            raise ValidationFailed(
                f"`{key}` is {spec[key][:12]}…, which is no commit: the branch or tag was deleted",
                hint="Leave events of deleted refs out with a filter: `!$.deleted`.",
            )


class NoJobToken:
    """Part of an `Executor` whose jobs have no token that names their run: outputs cannot be pushed."""

    def matches_job_token(self, claims: Mapping[str, Any], run: Run) -> bool:
        """Return False."""
        return False

    def expects(self, run: Run) -> Mapping[str, tuple[str, ...]]:
        """Return no claims."""
        return {}

    def issuer(self, api: Api) -> str:
        """Return an empty issuer."""
        return ""


class NoEvents:
    """Part of an `Executor` whose provider sends no events about its runs."""

    def run_id_of(self, event_type: str, payload: Any) -> str:
        """Return no run."""
        return ""

    def attempt_of(self, event_type: str, payload: Any) -> int:
        """Return 0."""
        return 0


class LogCursor:
    """How far each part (a job, an action) of a run's log was read.

    Its text is JSON: ``{part: lines returned, or null once read to its end}``. Any other text starts from the beginning.
    """

    def __init__(self, text: str) -> None:
        try:
            self._positions = msgspec.json.decode(text or "{}", type=dict[str, Annotated[int, msgspec.Meta(ge=0)] | None])
        except msgspec.DecodeError:
            self._positions = {}

    def is_complete(self, part: str) -> bool:
        """Whether ``part`` was read to its end."""
        return self._positions.get(part, 0) is None

    def take(self, part: str, lines: Sequence[str], *, ended: bool) -> Sequence[str]:
        """Return those of ``lines`` (all lines of ``part``) that were not returned before; ``ended``: there will be no more."""
        start = self._positions.get(part) or 0
        self._positions[part] = None if ended else max(start, len(lines))
        return lines[start:]

    def __str__(self) -> str:
        return canonical_json(self._positions).decode()
