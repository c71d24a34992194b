"""Secrets whose values a provider keeps: read with the identity of an Integration, and asked for their version at each interval.

A refusal, a rate limit or a failure is remembered for each Integration, so that many Secrets do not repeat one refused call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from reconciler.credentials.remote import Loaded
from reconciler.drivers.auth import RETRY_AFTER_S
from reconciler.drivers.base import SecretStore, StoredText
from reconciler.engine.connections import Client
from reconciler.manifests.secret_spec import SecretSpec
from reconciler.model.errors import AuthFailed, RateLimited, ReconcilerError, SecretUnavailable
from reconciler.model.json import as_map
from reconciler.model.resources import Kind, Resource, ResourceId, SecretRef
from reconciler.model.secrets import SecretValue

READ_AGAIN_S = 600.0
"""A value is read again after this time though its version is the same, so that a revoked right to read takes effect here, too."""
ASK_AGAIN_S = 3_600.0
"""For how long the version is not asked for after the provider has refused the question; the value is read instead."""
WORKS_S = 5.0
"""After a Secret was read, others of the Integration are read at the same time."""
MAX_VALUE = 64 << 10
_MAX_NAMED = 5
_NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class SourceReading:
    """What is known of one source. Times are monotonic seconds."""

    version: str
    read_at: float
    ask_from: float = 0.0


@dataclass(frozen=True, slots=True)
class StoredValues(Loaded):
    """The values of one Secret, and the state of the sources that they came from."""

    sources: Mapping[str, SourceReading] = field(default_factory=dict)


class ConnectStore(Protocol):
    """Returns the client of an Integration. Raises `ReconcilerError`; a remembered refusal unless ``explicit``."""

    async def __call__(self, integration: ResourceId, *, explicit: bool) -> Client: ...


class CredentialTrials(Protocol):
    """What is known of refused credentials; see `reconciler.engine.connections.ClientPool`."""

    def trying(self, integration: ResourceId) -> AbstractAsyncContextManager[None]:
        """Try a credential alone, and remember a refusal."""

    async def note_refusal(self, integration: ResourceId, error: AuthFailed | None) -> None:
        """Remember a refusal."""


@dataclass(slots=True)
class _Account:
    """One Integration: of each interval's Secrets the first goes alone, and the others follow if it was read."""

    mark: str
    """Of the manifest: another identity starts without memories."""
    works_until: float = _NEVER
    error: ReconcilerError | None = None
    failed_at: float = _NEVER
    until: float = 0.0


class ProviderSecrets:
    """Implements `reconciler.credentials.remote.RemoteBackend` for every provider that keeps values."""

    def __init__(
        self,
        connect: ConnectStore,
        trials: CredentialTrials,
        integrations: Callable[[], Mapping[ResourceId, Resource]],
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._connect, self._trials, self._integrations = connect, trials, integrations
        self._clock, self._monotonic = clock, monotonic
        self._accounts: dict[ResourceId, _Account] = {}

    def mark(self, secret: Resource) -> str:
        """Return the digest of the Integration: with another identity, all is read again at once."""
        integration = self._declared(secret)
        return integration.spec_digest if integration is not None else ""

    def needs(self, secret: Resource) -> Iterable[SecretRef]:
        """Return the credentials of the Integration."""
        integration = self._declared(secret)
        return integration.secret_refs("/auth").values() if integration is not None else ()

    def peer(self, secret: Resource) -> str:
        """Return the path of the Integration that keeps the values of ``secret``."""
        integration = _integration_of(secret)
        return integration.path if integration is not None else ""

    def retry_now(self) -> None:
        """Do nothing: `load` gets ``again``, and a rate limit overrules it."""

    def _declared(self, secret: Resource) -> Resource | None:
        found = _integration_of(secret)
        return self._integrations().get(found) if found is not None else None

    async def load(
        self, secret: Resource, read: Callable[[SecretRef], SecretValue], known: Loaded | None, *, again: bool = False
    ) -> Loaded:
        """Return the values of ``secret``. Raises `SecretUnavailable` if its Integration cannot read at all."""
        integration = _integration_of(secret)
        if integration is None:
            raise SecretUnavailable(f"{secret.id} names no Integration", code="RC4002")
        account = self._account(integration, self.mark(secret))
        asked_at = self._monotonic()
        try:
            if self._monotonic() >= account.works_until:
                async with self._trials.trying(integration):
                    if self._monotonic() >= account.works_until:
                        client = await self._first(account, integration, asked_at if again else None)
                        return await self._values(secret, client, account, known)
            client = await self._connect(integration, explicit=False)
            return await self._values(secret, client, account, known)
        except ReconcilerError as error:
            raise _unavailable(secret, integration, error) from None

    async def _first(self, account: _Account, integration: ResourceId, asked_at: float | None) -> Client:
        """Return the client for the first load of an interval. Raises what failed lately, unless a person asked after that."""
        again = asked_at is not None and account.failed_at < asked_at
        limited = isinstance(account.error, RateLimited)
        if account.error is not None and self._monotonic() < account.until and (limited or not again):
            raise account.error
        return await self._connect(integration, explicit=again)

    def _account(self, integration: ResourceId, mark: str) -> _Account:
        account = self._accounts.get(integration)
        if account is None or account.mark != mark:
            account = self._accounts[integration] = _Account(mark)
        return account

    async def _values(self, secret: Resource, client: Client, account: _Account, known: Loaded | None) -> StoredValues:
        """Read what changed, and remember whether that worked."""
        try:
            values = await self._read(secret, client, known if isinstance(known, StoredValues) else StoredValues())
        except ReconcilerError as error:
            await self._note(account, client.connection.integration, error)
            raise
        account.works_until, account.error = self._monotonic() + WORKS_S, None
        return values

    async def _note(self, account: _Account, integration: ResourceId, error: ReconcilerError) -> None:
        """Remember a failure: a refusal with the credential that it is about, all else here."""
        account.works_until, account.failed_at = _NEVER, self._monotonic()
        if isinstance(error, AuthFailed):
            await self._trials.note_refusal(integration, error)
            return
        wait_s = RETRY_AFTER_S
        if isinstance(error, RateLimited) and error.retry_at is not None:
            wait_s = max(wait_s, error.retry_at - self._clock())
        account.error, account.until = error, account.failed_at + wait_s

    async def _read(self, secret: Resource, client: Client, before: StoredValues) -> StoredValues:
        store = client.driver.secret_store
        if store is None:
            raise SecretUnavailable(f"{client.connection.provider} keeps no values for Secrets", code="RC4004")
        values: dict[str, SecretValue] = {}
        errors: dict[str, SecretUnavailable] = {}
        states: dict[str, SourceReading] = {}
        for source, entries in _sources(secret, store).items():
            try:
                text, states[source] = await self._source(client, store, source, before.sources.get(source))
            except SecretUnavailable as error:
                errors |= {key: _of_key(secret, key, error) for key in entries}
                continue
            for key, entry in entries.items():
                if text is None:
                    values |= {key: before.values[key]} if key in before.values else {}
                    errors |= {key: before.errors[key]} if key in before.errors else {}
                    continue
                try:
                    values[key] = _usable(store.value(entry, source, text.text))
                except SecretUnavailable as error:
                    errors[key] = _of_key(secret, key, error)
        if states == before.sources and not errors and not before.errors and before.values:
            return before
        return StoredValues(values, " ".join(sorted(f"{name}={state.version}" for name, state in states.items())), errors, states)

    async def _source(
        self, client: Client, store: SecretStore, source: str, state: SourceReading | None
    ) -> tuple[StoredText | None, SourceReading]:
        """Return the text of ``source``, or None if it is the one that was read before, and what is known now."""
        now, ask_from = self._monotonic(), state.ask_from if state is not None else 0.0
        if state is not None and now - state.read_at < READ_AGAIN_S and now >= ask_from:
            version = await store.version(client.api, source)
            if version == state.version:
                return None, state
            ask_from = ask_from if version else now + ASK_AGAIN_S
        stored = await store.read(client.api, source)
        return stored, SourceReading(stored.version, now, ask_from)


def _integration_of(secret: Resource) -> ResourceId | None:
    """Return the Integration that validation resolved: of the own canvas, or of ``default``."""
    return next((each for each in secret.references if each.kind == Kind.INTEGRATION.value), None)


def _sources(secret: Resource, store: SecretStore) -> dict[str, dict[str, Mapping[str, object]]]:
    """Return the entries of ``secret`` by source and key, in the order of the manifest."""
    block = as_map(secret.spec.get(secret.typed(SecretSpec).provider))
    found: dict[str, dict[str, Mapping[str, object]]] = {}
    for key, entry in as_map(block.get("data")).items():
        found.setdefault(store.source(as_map(entry)), {})[key] = as_map(entry)
    return found


def _usable(value: SecretValue) -> SecretValue:
    text = value.reveal()
    if not text or len(text.encode()) > MAX_VALUE:
        raise SecretUnavailable(
            "the value is empty, or larger than 64 KiB", code="RC4064", hint="Store a value of 1 byte to 64 KiB."
        )
    return value


def _of_key(secret: Resource, key: str, error: SecretUnavailable) -> SecretUnavailable:
    return SecretUnavailable(f"{secret.id} key {key!r}: {error.message}", code=error.code, hint=error.hint)


def _unavailable(secret: Resource, integration: ResourceId, error: ReconcilerError) -> SecretUnavailable:
    """Return ``error`` as that of ``secret``: which keys are missing, and why the Integration cannot read them."""
    keys = sorted(secret.typed(SecretSpec).keys or ())
    named = ", ".join(repr(key) for key in keys[:_MAX_NAMED]) + (", …" if len(keys) > _MAX_NAMED else "")
    text = error.message if str(integration) in error.message else f"{integration}: {error.message}"
    code = "RC4080"
    if isinstance(error, AuthFailed):
        code = "RC4082"
    elif isinstance(error, RateLimited):
        code = "RC4300"
    elif isinstance(error, SecretUnavailable):
        code = error.code
    return SecretUnavailable(f"{secret.id} key {named}: {text}", code=code, hint=error.hint)


__all__ = ["ProviderSecrets"]
