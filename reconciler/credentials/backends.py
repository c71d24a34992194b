"""Secret backends: where the values lie that a Secret only refers to."""

from __future__ import annotations

import fnmatch
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from reconciler.model.errors import SecretUnavailable
from reconciler.model.resources import Kind, Resource, ResourceId, SecretRef
from reconciler.model.secrets import SecretValue

if TYPE_CHECKING:
    from reconciler.config import SecretsConfig
    from reconciler.credentials.redact import Redactor

MAX_BYTES = 64 << 10
CACHE_S = 60.0


class SecretBackend(Protocol):
    """One provider of Secret values."""

    def get(self, secret: ResourceId, key: str, entry: Mapping[str, Any]) -> str:
        """Return the value of ``key``; raises `SecretUnavailable` naming Secret and key, never the value."""


class EnvBackend:
    """Environment variables, only those whose names the configuration allows."""

    def __init__(self, allowed: tuple[str, ...], environ: Mapping[str, str]) -> None:
        self._allowed, self._environ = allowed, environ

    def get(self, secret: ResourceId, key: str, entry: Mapping[str, Any]) -> str:
        name = str(entry["env"])
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in self._allowed):
            raise SecretUnavailable(f"{secret} key {key!r}: the variable {name} is not one that the configuration allows", code="RC4002",
                                    hint=f"Add it to `secrets.env` (now: {', '.join(self._allowed)}).")
        value = self._environ.get(name, "")
        if not value:
            raise SecretUnavailable(f"{secret} key {key!r}: the environment variable {name} is not set", hint="Set it for the daemon, then it is tried again by itself.")
        return value


class FileBackend:
    """Files below the secrets folder: ``*_FILE`` conventions, systemd credentials, Kubernetes mounts (``..data`` links inside it)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, secret: ResourceId, key: str, entry: Mapping[str, Any]) -> str:
        relative = str(entry["path"])
        root = Path(os.path.realpath(self._folder))
        path = Path(os.path.realpath(root / relative))
        if Path(relative).is_absolute() or "\0" in relative or not path.is_relative_to(root):
            raise SecretUnavailable(f"{secret} key {key!r}: {relative!r} is not a path inside the secrets folder", code="RC4002")
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise SecretUnavailable(f"{secret} key {key!r}: {relative} in the secrets folder cannot be read: {error.strerror}",
                                    hint=f"Put the value into {self._folder / relative}; it is tried again by itself.") from None
        if len(data) > MAX_BYTES:
            raise SecretUnavailable(f"{secret} key {key!r}: {relative} is larger than {MAX_BYTES >> 10} KiB", code="RC4002")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            raise SecretUnavailable(f"{secret} key {key!r}: {relative} is not UTF-8 text", code="RC4002") from None
        text = text.removesuffix("\n").removesuffix("\r")
        if not text:
            raise SecretUnavailable(f"{secret} key {key!r}: {relative} in the secrets folder is empty")
        return text


class LocalBackend:
    """Literal values in the manifest: refused outside the sandbox."""

    def __init__(self, *, sandbox: bool) -> None:
        self._sandbox = sandbox

    def get(self, secret: ResourceId, key: str, entry: Mapping[str, Any]) -> str:
        if not self._sandbox:
            raise SecretUnavailable(f"{secret}: provider local is only for the sandbox", code="RC4003", hint="Use provider env or file: a value never belongs into Git.")
        return str(entry["value"])


class SecretResolver:
    """Reads values through their Secret resources, remembers them for at most a minute, and tells the redactor of each."""

    def __init__(self, secrets: Mapping[ResourceId, Resource], config: SecretsConfig, *, sandbox: bool = False, redactor: Redactor | None = None,
                 environ: Mapping[str, str] | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._secrets = {i: r for i, r in secrets.items() if i.kind == Kind.SECRET.value}
        self._backends: dict[str, SecretBackend] = {
            "env": EnvBackend(config.env, os.environ if environ is None else environ), "file": FileBackend(Path(config.folder)),
            "local": LocalBackend(sandbox=sandbox)}
        self._redactor = redactor
        self._monotonic = monotonic
        self._cache: dict[SecretRef, tuple[float, SecretValue]] = {}
        self._lock = threading.Lock()

    def read(self, ref: SecretRef) -> SecretValue:
        """Return the value of ``ref``; raises `SecretUnavailable`."""
        with self._lock:
            known = self._cache.get(ref)
            if known is not None and self._monotonic() - known[0] < CACHE_S:
                return known[1]
        value = self._fetch(ref)
        if self._redactor is not None:
            self._redactor.add(value)
        secret = SecretValue(value)
        with self._lock:
            self._cache[ref] = (self._monotonic(), secret)
        return secret

    def forget(self, ref: SecretRef | None = None) -> None:
        """Read again at the next use: one value (a provider refused it), or all."""
        with self._lock:
            if ref is None:
                self._cache.clear()
            else:
                self._cache.pop(ref, None)

    def check(self, resource: Resource) -> None:
        """Read every value of a Secret; raises `SecretUnavailable` for the first that is missing."""
        for key in self._entries(resource):
            self.read(SecretRef(resource.id.canvas, resource.id.name, key))

    def _entries(self, resource: Resource) -> Mapping[str, Any]:
        spec = resource.spec
        if spec.get("provider") == "local":
            return {key: {"value": value} for key, value in spec.get("local", {}).get("data", {}).items()}
        data = spec.get("data", {})
        return data if isinstance(data, Mapping) else {}

    def _fetch(self, ref: SecretRef) -> str:
        identity = ResourceId(Kind.SECRET.value, ref.canvas, ref.name)
        resource = self._secrets.get(identity)
        if resource is None:
            raise SecretUnavailable(f"{identity} is not declared", hint="Add the Secret manifest, or mend the reference.")
        provider = str(resource.spec.get("provider"))
        backend = self._backends.get(provider)
        if backend is None:
            raise SecretUnavailable(f"{identity}: the {provider!r} provider is not part of this version yet", code="RC4004", hint="Use provider env or file.")
        entries = self._entries(resource)
        if ref.key not in entries:
            raise SecretUnavailable(f"{identity} has no key {ref.key!r}", hint=f"Its keys: {', '.join(sorted(entries)) or 'none'}.")
        return backend.get(identity, ref.key, entries[ref.key])


__all__ = ["EnvBackend", "FileBackend", "LocalBackend", "SecretBackend", "SecretResolver"]
