"""Secret backends: the stores of the values that a Secret refers to."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from reconciler.model.errors import SecretUnavailable
from reconciler.model.resources import Kind, Resource, ResourceId, SecretRef
from reconciler.model.secrets import SecretValue

if TYPE_CHECKING:
    from reconciler.config.settings import SecretsConfig
    from reconciler.credentials.redact import Redactor
    from reconciler.credentials.remote import RemoteSecrets

MAX_BYTES = 64 << 10
CACHE_S = 60.0


class SecretBackend(Protocol):
    """One store of Secret values."""

    def get(self, secret: ResourceId, key: str, entry: Mapping[str, Any]) -> str:
        """Return the value of ``key``. Raises `SecretUnavailable` with the names of Secret and key, without the value."""


class EnvBackend:
    """Environment variables whose names the configuration allows.

    If ``NAME`` is not set but ``NAME_FILE`` is, the value is in that file (Docker and Compose secrets).
    """

    def __init__(self, allowed: tuple[str, ...], environ: Mapping[str, str]) -> None:
        self._allowed, self._environ = allowed, environ

    def get(self, secret: ResourceId, key: str, entry: Mapping[str, Any]) -> str:
        name = str(entry["env"])
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in self._allowed):
            raise SecretUnavailable(
                f"{secret} key {key!r}: the configuration does not allow the variable {name}",
                code="RC4002",
                hint=f"Add it to `secrets.env` (now: {', '.join(self._allowed)}).",
            )
        value = self._environ.get(name, "") or self._of_file(f"{secret} key {key!r}", f"{name}_FILE")
        if not value:
            raise SecretUnavailable(
                f"{secret} key {key!r}: the environment variable {name} is not set",
                hint=f"Set it, or {name}_FILE to the path of a file, for the daemon.",
            )
        return value

    def _of_file(self, what: str, variable: str) -> str:
        path = self._environ.get(variable, "")
        if not path:
            return ""
        data, _ = _read_file(what, f"the file that {variable} names", Path(path))
        return _text(what, f"the file that {variable} names", data)


class FileBackend:
    """Files below the secrets folder: systemd credentials, Kubernetes mounts (``..data`` links inside it), plain files."""

    def __init__(self, folder: Path, reserved: Iterable[Path] = ()) -> None:
        self._folder = folder
        self._reserved = tuple(reserved)
        self._wide: dict[str, int] = {}

    def get(self, secret: ResourceId, key: str, entry: Mapping[str, Any]) -> str:
        relative = str(entry["path"])
        path = self._inside(f"{secret} key {key!r}", relative)
        data = self._bytes(f"{secret} key {key!r}", relative, path)
        return _text(f"{secret} key {key!r}", f"{relative} in the secrets folder", data)

    def warnings(self) -> tuple[str, ...]:
        """Return a line for each file read so far that other users of this host can read."""
        return tuple(f"{path} has mode {mode:04o}: others on this host may read it" for path, mode in sorted(self._wide.items()))

    def _inside(self, what: str, relative: str) -> Path:
        """Return the real path. Raises `SecretUnavailable` for one outside of the folder."""
        if "\0" not in relative and relative and not Path(relative).is_absolute():
            root = Path(os.path.realpath(self._folder))
            path = Path(os.path.realpath(root / relative))
            if path.is_relative_to(root) and path != root:
                if any(path.is_relative_to(os.path.realpath(own)) for own in self._reserved):
                    raise SecretUnavailable(
                        f"{what}: {relative!r} is a credential of the daemon itself, which no manifest may use",
                        code="RC4002",
                        hint="Put the secrets of the manifests into separate files.",
                    )
                return path
        raise SecretUnavailable(
            f"{what}: {relative!r} is not a path inside the secrets folder",
            code="RC4002",
            hint="Name a file below `secrets.folder`, without `..` and without a link that leads out of it.",
        )

    def _bytes(self, what: str, relative: str, path: Path) -> bytes:
        data, info = _read_file(what, f"{relative} in the secrets folder", path)
        mode = stat.S_IMODE(info.st_mode)
        if mode & 0o007:
            self._wide[str(path)] = mode
        else:
            self._wide.pop(str(path), None)
        return data


def _read_file(what: str, shown: str, path: Path) -> tuple[bytes, os.stat_result]:
    """Return the content of a regular file, at most `MAX_BYTES`, and its status; raises `SecretUnavailable`."""
    try:
        # O_NONBLOCK: a pipe must not block; O_NOFOLLOW: the path is resolved, so that a link there now is an exchanged file.
        descriptor = os.open(os.path.realpath(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            info = os.fstat(descriptor)
            regular = stat.S_ISREG(info.st_mode)
            data = os.read(descriptor, MAX_BYTES + 1) if regular else b""
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SecretUnavailable(
            f"{what}: {shown} cannot be read: {error.strerror}", hint=f"Put the value into {path}; it is retried automatically."
        ) from None
    if not regular:
        raise SecretUnavailable(f"{what}: {shown} is not a file", code="RC4002")
    if len(data) > MAX_BYTES:
        raise SecretUnavailable(f"{what}: {shown} is larger than {MAX_BYTES >> 10} KiB", code="RC4002")
    return data, info


def _text(what: str, shown: str, data: bytes) -> str:
    """Return the value in ``data``, without one line end; raises `SecretUnavailable` if it is empty or not UTF-8."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise SecretUnavailable(f"{what}: {shown} is not UTF-8 text", code="RC4002") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise SecretUnavailable(f"{what}: {shown} is empty")
    return text


class LocalBackend:
    """Literal values in the manifest: refused outside the sandbox."""

    def __init__(self, *, sandbox: bool) -> None:
        self._sandbox = sandbox

    def get(self, secret: ResourceId, key: str, entry: Mapping[str, Any]) -> str:
        if not self._sandbox:
            raise SecretUnavailable(
                f"{secret}: provider local is only for the sandbox",
                code="RC4003",
                hint="Use provider env or file: secret values do not belong in Git.",
            )
        value = entry["value"]
        if not isinstance(value, str) or not value:
            raise SecretUnavailable(f"{secret} key {key!r}: must be a non-empty string")
        return value


class SecretResolver:
    """Reads values through their Secret resources, caches them for at most a minute, and adds each to the redactor."""

    def __init__(
        self,
        secrets: Mapping[ResourceId, Resource],
        config: SecretsConfig,
        *,
        sandbox: bool = False,
        redactor: Redactor | None = None,
        environ: Mapping[str, str] | None = None,
        reserved: Iterable[Path] = (),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._secrets = {i: r for i, r in secrets.items() if i.kind == Kind.SECRET.value}
        self._folder = Path(config.folder)
        self._files = FileBackend(self._folder, reserved)
        self._backends: dict[str, SecretBackend] = {
            "env": EnvBackend(config.env, os.environ if environ is None else environ),
            "file": self._files,
            "local": LocalBackend(sandbox=sandbox),
        }
        self.remote: RemoteSecrets | None = None
        """Reads the providers whose values are not on this host."""
        self._redactor = redactor
        self._monotonic = monotonic
        self._cache: dict[SecretRef, tuple[float, SecretValue]] = {}
        self._lock = threading.Lock()

    def read(self, ref: SecretRef) -> SecretValue:
        """Return the value of ``ref``, without waiting for a server: see `prepare`. Raises `SecretUnavailable`."""
        resource = self._secrets.get(ResourceId(Kind.SECRET.value, ref.canvas, ref.name))
        if self.remote is not None and resource is not None and self.remote.serves(resource):
            return self.remote.value(resource, ref.key)
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

    async def prepare(self, refs: Iterable[SecretRef], *, again: bool = False) -> None:
        """Load the values behind ``refs`` that are not on this host. Raises nothing: `read` names what is missing.

        A backend is asked at most once a minute; ``again``: at once, because a person asked.
        """
        if self.remote is not None and again:
            self.remote.retry_now()
        await self._prepare(refs, again=again)

    async def _prepare(self, refs: Iterable[SecretRef], *, again: bool) -> None:
        remote = self.remote
        if remote is None:
            return
        wanted = {ResourceId(Kind.SECRET.value, ref.canvas, ref.name) for ref in refs}
        loads = [
            remote.refresh(resource, self.read, partial(self._prepare, remote.needs(resource), again=again), again=again)
            for identity in sorted(wanted)
            if (resource := self._secrets.get(identity)) is not None and remote.serves(resource)
        ]
        await asyncio.gather(*loads)

    def due_in_s(self, refs: Iterable[SecretRef]) -> float:
        """Return the seconds until every backend behind ``refs`` may be asked again: see `prepare`."""
        remote = self.remote
        found = [self._secrets.get(ResourceId(Kind.SECRET.value, ref.canvas, ref.name)) for ref in refs]
        return max((remote.due_in_s(each) for each in found if each and remote.serves(each)), default=0.0) if remote else 0.0

    def require(self, refs: Iterable[SecretRef]) -> None:
        """Raise `SecretUnavailable` unless the store of each of ``refs`` gave its value: a token that was made from it does not outlive it."""
        for ref in refs:
            resource = self._secrets.get(ResourceId(Kind.SECRET.value, ref.canvas, ref.name))
            if self.remote is not None and resource is not None and self.remote.serves(resource):
                self.remote.value(resource, ref.key)

    async def prepare_all(self, *, timeout_s: float) -> None:
        """Load the values of every Secret, but wait for slow backends no longer than ``timeout_s``; their loading goes on."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.prepare(SecretRef(each.canvas, each.name, "") for each in self._secrets)

    def forget(self, ref: SecretRef | None = None) -> None:
        """Remove one value (which a provider refused) or all from the cache."""
        with self._lock:
            if ref is None:
                self._cache.clear()
            else:
                self._cache.pop(ref, None)

    def watch_paths(self) -> tuple[Path, ...]:
        """Return the folders in which a changed file or link can change a value."""
        folders = {self._folder}
        for resource in self._secrets.values():
            if resource.spec.get("provider") == "file":
                entries = self._entries(resource).values()
                folders |= {
                    (self._folder / str(entry["path"])).parent
                    for entry in entries
                    if isinstance(entry, Mapping) and "path" in entry
                }
        root = os.path.normpath(self._folder)
        return tuple(sorted(f for f in folders if Path(os.path.normpath(f)).is_relative_to(root) and f.is_dir()))

    def warnings(self) -> tuple[str, ...]:
        """Return warnings about unsafe storage of the values, without the values."""
        return self._files.warnings()

    def check(self, resource: Resource) -> None:
        """Read every value of a Secret. Raises `SecretUnavailable` for the first that is missing."""
        if self.remote is not None and self.remote.serves(resource):
            if (problem := self.remote.problem(resource)) is not None:
                raise problem
            return
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
            raise SecretUnavailable(f"{identity} is not declared", hint="Add the Secret manifest, or fix the reference.")
        provider = str(resource.spec.get("provider"))
        backend = self._backends.get(provider)
        if backend is None:
            raise SecretUnavailable(
                f"{identity}: this version does not support the provider {provider!r}",
                code="RC4004",
                hint="Use provider env or file.",
            )
        entries = self._entries(resource)
        if ref.key not in entries:
            raise SecretUnavailable(
                f"{identity} has no key {ref.key!r}", hint=f"Its keys: {', '.join(sorted(entries)) or 'none'}."
            )
        entry = entries[ref.key]
        wanted = {"env": "env", "file": "path", "local": "value"}[provider]
        if not isinstance(entry, Mapping) or wanted not in entry:
            raise SecretUnavailable(f"{identity} key {ref.key!r}: provider {provider} wants {{{wanted}: …}}", code="RC4002")
        return backend.get(identity, ref.key, entry)


__all__ = ["EnvBackend", "FileBackend", "LocalBackend", "SecretBackend", "SecretResolver"]
