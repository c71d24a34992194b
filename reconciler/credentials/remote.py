"""Values of Secrets that lie outside of this host: loaded before they are needed, checked once a minute, kept in memory only.

Reading a value never waits for a server. A Secret is loaded as a whole; if its backend fails, every value of it is unavailable until
the backend answers again, so that a revoked right takes effect here, too.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from reconciler.model.errors import ReconcilerError, SecretUnavailable
from reconciler.model.resources import Resource, ResourceId, SecretRef
from reconciler.model.secrets import SecretValue

CHECK_S = 60.0
"""A backend is asked about a Secret at most once in this time, whether the last answer was a value or an error."""
AT_ONCE = 8
"""Secrets that are loaded from one server at the same time."""
_NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Loaded:
    """The values of one Secret. ``version`` is the backend's name for this state of them."""

    values: Mapping[str, SecretValue] = field(default_factory=dict)
    version: str = ""
    errors: Mapping[str, SecretUnavailable] = field(default_factory=dict)
    """Keys without a value, with the reason."""


class RemoteBackend(Protocol):
    """One kind of store that is not read synchronously."""

    async def load(
        self, secret: Resource, read: Callable[[SecretRef], SecretValue], known: Loaded | None, *, again: bool = False
    ) -> Loaded:
        """Return all values of ``secret``; ``known`` as it is if nothing changed. ``read`` reads the credentials of the backend.

        ``again``: a person asked, so a refusal is not repeated from memory. Raises `ReconcilerError`.
        """

    def needs(self, secret: Resource) -> Iterable[SecretRef]:
        """Return the credentials that open ``secret``: they are loaded before it."""

    def mark(self, secret: Resource) -> str:
        """Return a text that changes when ``secret`` must be loaded again at once."""

    def peer(self, secret: Resource) -> str:
        """Return the server that is asked: one that hangs does not delay the Secrets of another."""

    def retry_now(self) -> None:
        """Let refused logins be tried again at once: a person asked."""


@dataclass(slots=True)
class _RemoteEntry:
    mark: str
    loaded: Loaded | None = None
    error: SecretUnavailable | None = None
    checked_at: float = _NEVER
    proof: str = ""
    """Digest of the credentials with which the last attempt failed."""
    task: asyncio.Task[None] | None = None


class RemoteSecrets:
    """The remote values of one process. They outlive a revision: a commit that leaves a Secret as it is loads nothing."""

    def __init__(
        self,
        backends: Mapping[str, RemoteBackend],
        *,
        conceal: Callable[[str], None],
        monotonic: Callable[[], float],
        check_s: float = CHECK_S,
    ) -> None:
        self.backends = backends
        self._conceal, self._monotonic, self._check_s = conceal, monotonic, check_s
        self._entries: dict[ResourceId, _RemoteEntry] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}

    def serves(self, secret: Resource) -> bool:
        """Whether the values of ``secret`` are loaded here."""
        return str(secret.spec.get("provider")) in self.backends

    def needs(self, secret: Resource) -> Iterable[SecretRef]:
        """Return the credentials that open ``secret``."""
        return self.backends[str(secret.spec["provider"])].needs(secret)

    def retry_now(self) -> None:
        """Let refused logins be tried again at once: a person asked."""
        for backend in self.backends.values():
            backend.retry_now()

    def keep(self, secrets: Iterable[ResourceId]) -> None:
        """Drop the values of every Secret that is not among ``secrets``."""
        known = frozenset(secrets)
        for identity in [identity for identity in self._entries if identity not in known]:
            del self._entries[identity]

    async def refresh(
        self,
        secret: Resource,
        read: Callable[[SecretRef], SecretValue],
        before: Callable[[], Awaitable[None]],
        *,
        again: bool = False,
    ) -> None:
        """Load ``secret``, unless that was tried within the last minute; after a failure a replaced credential is tried at once.

        ``again``: a person asked, so it is tried in any case.

        Concurrent callers share one attempt. ``before`` loads what the login needs. Raises nothing: `value` does.
        """
        mark = self._mark(secret)
        entry = self._entries.get(secret.id)
        if entry is None or entry.mark != mark:
            entry = self._entries[secret.id] = _RemoteEntry(mark)
        if entry.task is None or entry.task.done():
            if not again and self._monotonic() - entry.checked_at < self._check_s and not self._replaced(secret, entry, read):
                return
            entry.task = asyncio.create_task(self._load(secret, entry, read, before, again=again))
        await asyncio.shield(entry.task)

    async def _load(
        self,
        secret: Resource,
        entry: _RemoteEntry,
        read: Callable[[SecretRef], SecretValue],
        before: Callable[[], Awaitable[None]],
        *,
        again: bool,
    ) -> None:
        backend = self.backends[str(secret.spec["provider"])]
        await before()
        proof = self._proof(secret, read)
        try:
            async with self._slots.setdefault(backend.peer(secret), asyncio.Semaphore(AT_ONCE)):
                loaded = await backend.load(secret, read, entry.loaded, again=again)
        except ReconcilerError as error:
            entry.error, entry.proof = _unavailable(secret.id, error), proof
        except Exception as error:  # noqa: BLE001  a defect, perhaps on purpose of who wrote the file, must not stop other Secrets
            entry.error = SecretUnavailable(f"{secret.id}: the values cannot be read ({type(error).__name__})", code="RC4080")
            entry.proof = proof
        else:
            for value in loaded.values.values():
                self._conceal(value.reveal())
            entry.loaded, entry.error = loaded, None
        entry.checked_at = self._monotonic()

    def due_in_s(self, secret: Resource) -> float:
        """Return the seconds until the backend may be asked about ``secret`` again; 0 if it may be now."""
        entry = self._entries.get(secret.id)
        if entry is None or entry.mark != self._mark(secret):
            return 0.0
        return max(0.0, entry.checked_at + self._check_s - self._monotonic())

    def _replaced(self, secret: Resource, entry: _RemoteEntry, read: Callable[[SecretRef], SecretValue]) -> bool:
        return entry.error is not None and entry.proof != self._proof(secret, read)

    def _proof(self, secret: Resource, read: Callable[[SecretRef], SecretValue]) -> str:
        """Return a digest of the credentials that open ``secret``; one that cannot be read counts as empty."""
        digest = hashlib.sha256()
        for ref in sorted(self.needs(secret), key=str):
            try:
                value = read(ref).reveal()
            except SecretUnavailable:
                value = ""
            digest.update(f"{ref}\0{value}\0".encode())
        return digest.hexdigest()

    def value(self, secret: Resource, key: str) -> SecretValue:
        """Return a loaded value. Raises `SecretUnavailable`."""
        entry = self._entries.get(secret.id)
        if entry is None or entry.mark != self._mark(secret) or (entry.loaded is None and entry.error is None):
            raise SecretUnavailable(
                f"{secret.id} key {key!r}: the values are not loaded yet",
                code="RC4087",
                hint="They are read before the next reconcile.",
            )
        if entry.error is not None:
            raise entry.error.with_traceback(None)  # else each reader adds to its traceback
        loaded = entry.loaded or Loaded()
        if key in loaded.errors:
            raise loaded.errors[key].with_traceback(None)
        if key not in loaded.values:
            raise SecretUnavailable(
                f"{secret.id} has no key {key!r}",
                code="RC4084",
                hint=f"Its keys: {', '.join(sorted(loaded.values)[:20]) or 'none'}.",
            )
        return loaded.values[key]

    def problem(self, secret: Resource) -> SecretUnavailable | None:
        """Return why ``secret`` or a value of it is not available; None if all are, or if it was not loaded yet."""
        entry = self._entries.get(secret.id)
        if entry is None or entry.error is not None or entry.loaded is None:
            return entry.error if entry is not None else None
        return next(iter(entry.loaded.errors.values()), None)

    def _mark(self, secret: Resource) -> str:
        return f"{secret.spec_digest}\n{self.backends[str(secret.spec['provider'])].mark(secret)}\n{secret.spec}"


def _unavailable(secret: ResourceId, error: ReconcilerError) -> SecretUnavailable:
    """Return ``error`` as an error of the Secret, whatever failed below."""
    if isinstance(error, SecretUnavailable):
        return error
    return SecretUnavailable(f"{secret}: {error.message}", code="RC4080", hint=error.hint)


__all__ = ["CHECK_S", "Loaded", "RemoteBackend", "RemoteSecrets"]
