"""Derived keys: one master key, HKDF sub-keys by purpose (RFC 5869). Nothing secret is stored but the master key itself.

A webhook's signing key is HKDF(signing, owner, uid, rotation), so a lost database loses no key; write-only values are compared
by HMAC under the fingerprint key. A key is made only where neither state nor key exists, and nothing is re-keyed by itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.model.errors import ConfigError, StateError
from reconciler.model.secrets import SecretValue
from reconciler.model.values import Address, Fingerprint, Uid

if TYPE_CHECKING:
    from reconciler.config import Config

KEY_BYTES = 32


class MasterKey:
    """32 random bytes. ``key_id`` (8 hex) is in every marker's query; ``check_value`` is what the state keeps to know the key again."""

    __slots__ = ("_root", "check_value", "key_id")

    def __init__(self, material: bytes) -> None:
        if len(material) != KEY_BYTES:
            raise ConfigError(f"the master key is {len(material)} bytes, {KEY_BYTES} are wanted", code="RC4011")
        self._root = material
        self.key_id = self.derive("key-id", length=4).hex()
        self.check_value = self.derive("check", length=16).hex()

    def __repr__(self) -> str:
        return f"MasterKey({self.key_id})"

    def derive(self, purpose: str, *context: str, length: int = 32) -> bytes:
        """Return ``length`` bytes for ``purpose`` and ``context``: HKDF-SHA256, the parts length-prefixed in ``info``."""
        parts = [part.encode() for part in ("reconciler/v1", purpose, *context)]
        info = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hkdf(self._root, info, length)


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

    def signing_key(self, owner: str, uid: Uid, rotation: int) -> SecretValue:
        """Return the signing key of a source: 64 hex digits, fit for every provider's secret field."""
        return SecretValue(self.current.derive("signing", owner, uid, str(rotation)).hex())

    def standard_webhooks_secret(self, owner: str, uid: Uid, rotation: int) -> SecretValue:
        """Return the same key as a Standard Webhooks secret (``whsec_`` + base64)."""
        raw = self.current.derive("signing", owner, uid, str(rotation)).hex().encode()[:32]
        return SecretValue("whsec_" + base64.b64encode(raw).decode())

    def fingerprint(self, address: Address, pointer: str, value: SecretValue) -> Fingerprint:
        """Return the keyed fingerprint of a write-only value: bound to where it goes, so equal values do not show as equal."""
        key = self.current.derive("fingerprint")
        text = "\0".join((address, pointer, value.reveal()))
        return Fingerprint("hmac:" + hmac.new(key, text.encode(), hashlib.sha256).hexdigest())

    def values(self) -> Iterator[str]:
        """Yield the printable forms of the master keys, for the redactor."""
        for key in (self.current, self.previous):
            if key is not None:
                yield base64.b64encode(key._root).decode()  # noqa: SLF001 - the redactor must know it
                yield key._root.hex()  # noqa: SLF001


def load_keyring(config: Config, *, stored_check: str | None, create_allowed: bool) -> KeyRing:
    """Return the key ring; raises `ConfigError` or `StateError` with the reason when the key is missing, wrong or too widely readable.

    ``stored_check`` is what the state knows of the key; a new key is made only with ``create_allowed`` and without it.
    """
    path = Path(config.master_key.file)
    previous = read_key(Path(config.master_key.previous_file)) if config.master_key.previous_file else None
    if not path.exists():
        if stored_check is not None:
            raise StateError(f"the master key {path} is missing, but this state was made with one", code="RC4010",
                             hint="Put the key file back from your backup. Without it no webhook can be verified; nothing is re-keyed by itself.")
        if not create_allowed:
            raise ConfigError(f"there is no master key at {path}", code="RC4010", hint="It is made by the first `reconciler run` or `apply`.")
        return KeyRing(make_key(path), previous)
    current = read_key(path)
    if stored_check is not None and current.check_value != stored_check and (previous is None or previous.check_value != stored_check):
        raise StateError(f"the master key {path} is not the one this state was made with", code="RC4012",
                         hint="Put the right key back, or name the old one in masterKey.previousFile while you change it.")
    return KeyRing(current, previous)


def make_key(path: Path) -> MasterKey:
    """Make a new key file, mode 0600; raises `ConfigError` when it cannot be written."""
    material = secrets.token_bytes(KEY_BYTES)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(material) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ConfigError(f"the master key {path} cannot be made: {error.strerror}", code="RC4010") from None
    return MasterKey(material)


def read_key(path: Path) -> MasterKey:
    """Read a key file; raises `ConfigError` when it is missing, no key, or readable by others."""
    try:
        info = path.stat()
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the master key {path} cannot be read: {error.strerror}", code="RC4010") from None
    if stat.S_IMODE(info.st_mode) & 0o077:
        raise ConfigError(f"the master key {path} has mode {stat.S_IMODE(info.st_mode):04o}: others may read it", code="RC4013", hint=f"chmod 600 {path}")
    if info.st_uid not in {os.geteuid(), 0}:
        raise ConfigError(f"the master key {path} belongs to uid {info.st_uid}", code="RC4013", hint=f"chown {os.geteuid()} {path}")
    try:
        material = base64.b64decode(data.strip(), validate=True)
    except binascii.Error:
        raise ConfigError(f"{path} is no master key (base64 of {KEY_BYTES} bytes)", code="RC4011") from None
    return MasterKey(material)
