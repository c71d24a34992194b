"""Derived keys: one master key, HKDF sub-keys by purpose (RFC 5869). Nothing secret is stored but the master key itself.

A webhook's signing key is HKDF(signing, owner, uid, rotation), so a lost database loses no key; write-only values are compared
by HMAC under the fingerprint key. A key is made only where neither state nor key exists, and nothing is re-keyed by itself.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.model.errors import ConfigError, StateError, storage_error
from reconciler.model.secrets import SecretValue
from reconciler.model.values import Address, Fingerprint, Uid

if TYPE_CHECKING:
    from reconciler.config.settings import Config

KEY_BYTES = 32
_FILE_BYTES = 4096


class MasterKey:
    """32 random bytes. ``key_id`` (8 hex) is in every marker's query; by ``check_value`` the state knows the key again."""

    __slots__ = ("_fingerprint_key", "_root", "check_value", "key_id")

    def __init__(self, material: bytes) -> None:
        if len(material) != KEY_BYTES:
            raise ConfigError(f"the master key is {len(material)} bytes, {KEY_BYTES} are wanted", code="RC4011")
        self._root = material
        self._fingerprint_key = self.derive("fingerprint")
        self.key_id = self.derive("key-id", length=4).hex()
        self.check_value = self.derive("check", length=16).hex()

    def __repr__(self) -> str:
        return f"MasterKey({self.key_id})"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a master key is not serialisable")

    def derive(self, purpose: str, *context: str, length: int = 32) -> bytes:
        """Return ``length`` bytes for ``purpose`` and ``context``: HKDF-SHA256, the parts length-prefixed in ``info``."""
        return hkdf(self._root, _framed("reconciler/v1", purpose, *context), length)

    def fingerprint(self, address: Address, pointer: str, value: SecretValue) -> Fingerprint:
        """Return the keyed fingerprint of a write-only value: bound to where it goes, so equal values do not show as equal."""
        text = _framed(address, pointer, value.reveal())
        return Fingerprint("hmac:" + hmac.new(self._fingerprint_key, text, hashlib.sha256).hexdigest())

    def printable(self) -> Iterator[str]:
        """Yield the forms in which the key may be written, for the redactor."""
        yield base64.b64encode(self._root).decode()
        yield self._root.hex()


def _framed(*parts: str) -> bytes:
    """Join the parts so that no two lists of parts give the same bytes."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def hkdf(material: bytes, info: bytes, length: int, salt: bytes = b"") -> bytes:
    """Return HKDF-SHA256 (RFC 5869) of ``material``."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=length, salt=salt or None, info=info).derive(material)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The key in force, and the one before it while a change is under way."""

    current: MasterKey
    previous: MasterKey | None = None

    @property
    def key_id(self) -> str:
        """Id of the key in force."""
        return self.current.key_id

    def by_id(self, key_id: str) -> MasterKey | None:
        """Return the key that a marker's ``key=`` names; None for a key that is not held."""
        return next((key for key in (self.current, self.previous) if key is not None and key.key_id == key_id), None)

    def signing_key(self, owner: str, uid: Uid, rotation: int, *, key: MasterKey | None = None) -> SecretValue:
        """Return the signing key of a source: 64 hex digits, fit for every provider's secret field.

        ``key``: another than the one in force, for what is not re-keyed yet.
        """
        return SecretValue((key or self.current).derive("signing", owner, uid, str(rotation)).hex())

    def standard_webhooks_secret(self, owner: str, uid: Uid, rotation: int, *, key: MasterKey | None = None) -> SecretValue:
        """Return the same 32 bytes as a Standard Webhooks secret: ``whsec_`` and their base64."""
        raw = (key or self.current).derive("signing", owner, uid, str(rotation))
        return SecretValue("whsec_" + base64.b64encode(raw).decode())

    def fingerprint(self, address: Address, pointer: str, value: SecretValue) -> Fingerprint:
        """Return the fingerprint of a write-only value under the key in force."""
        return self.current.fingerprint(address, pointer, value)

    def values(self) -> Iterator[str]:
        """Yield the printable forms of the master keys, for the redactor."""
        for key in (self.current, self.previous):
            if key is not None:
                yield from key.printable()


def load_keyring(config: Config, *, stored_check: str | None, create_allowed: bool) -> KeyRing:
    """Return the key ring; raises `ConfigError` or `StateError` when the key is missing, wrong or too widely readable.

    ``stored_check`` is what the state knows of the key; a new key is made only with ``create_allowed`` and without it. While a
    key is being changed, the state may know the previous one: store `MasterKey.check_value` of the current one then.
    """
    path = Path(config.master_key.file)
    previous = read_key(Path(config.master_key.previous_file)) if config.master_key.previous_file else None
    current = _read(path)
    if current is None:
        if stored_check is not None:
            raise StateError(
                f"the master key {path} is missing, but this state was made with one",
                code="RC4010",
                hint="Restore the key file from your backup: without it no webhook is verified. The daemon never re-keys automatically.",
            )
        if previous is not None:
            raise ConfigError(
                f"there is no master key at {path}, but masterKey.previousFile names one",
                code="RC4010",
                hint="Name the key in force in masterKey.file; a key is only made where there was none.",
            )
        if not create_allowed:
            raise ConfigError(
                f"there is no master key at {path}", code="RC4010", hint="The first `reconciler run` or `apply` creates it."
            )
        return KeyRing(make_key(path))
    known = {key.check_value for key in (current, previous) if key is not None}
    if stored_check is not None and not any(hmac.compare_digest(stored_check, value) for value in known):
        raise StateError(
            f"the master key {path} is not the one this state was made with",
            code="RC4012",
            hint="Put the right key back, or name the old one in masterKey.previousFile while you change it.",
        )
    return KeyRing(current, previous)


def make_key(path: Path) -> MasterKey:
    """Make a new key file, mode 0600, whole or not at all; raises `ConfigError` when it cannot be written or is there already."""
    material = secrets.token_bytes(KEY_BYTES)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(base64.b64encode(material) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # unlike rename, never replaces a key that somebody else made meanwhile
        finally:
            temporary.unlink()
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise storage_error(error, f"the master key {path}") from None
        raise ConfigError(f"the master key {path} cannot be made: {error.strerror}", code="RC4010") from None
    return MasterKey(material)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_key(path: Path) -> MasterKey:
    """Read a key file; raises `ConfigError` when it is missing, no key, or readable by others."""
    key = _read(path)
    if key is None:
        raise ConfigError(f"the master key {path} cannot be read: there is no such file", code="RC4010")
    return key


def _read(path: Path) -> MasterKey | None:
    """Return the key, or None where there is no file. What is checked is what was opened, not what has its name afterwards."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if path.is_symlink():
            raise ConfigError(f"the master key {path} is a link to nothing", code="RC4010") from None
        return None
    except OSError as error:
        raise ConfigError(f"the master key {path} cannot be read: {error.strerror}", code="RC4010") from None
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise ConfigError(f"the master key {path} is not a file", code="RC4011")
        _check_access(path, info)
        data = os.read(descriptor, _FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"the master key {path} cannot be read: {error.strerror}", code="RC4010") from None
    finally:
        os.close(descriptor)
    try:
        material = base64.b64decode(data.strip(), validate=True)
    except binascii.Error:
        raise ConfigError(f"{path} is not a master key (base64 of {KEY_BYTES} bytes)", code="RC4011") from None
    return MasterKey(material)


def _check_access(path: Path, info: os.stat_result) -> None:
    mode = stat.S_IMODE(info.st_mode)
    if mode & 0o077:
        raise ConfigError(
            f"the master key {path} has mode {mode:04o}: others may read it", code="RC4013", hint=f"chmod 600 {path}"
        )
    if info.st_uid not in {os.geteuid(), 0}:  # root may read everything anyway, and mounts of secrets belong to it
        raise ConfigError(
            f"the master key {path} belongs to uid {info.st_uid}", code="RC4013", hint=f"chown {os.geteuid()} {path}"
        )
