"""Derived keys: one master key, and HKDF sub-keys by purpose (RFC 5869). Only the master key is stored.

The signing key of a webhook is HKDF(signing, owner, uid, rotation), so that a lost database loses no key. Write-only values are
compared by HMAC with the fingerprint key. A key is created only if neither state nor key exists; nothing is re-keyed automatically.
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

from reconciler.durable import make_durable
from reconciler.model.errors import ConfigError, StateError, storage_error
from reconciler.model.secrets import SecretValue
from reconciler.model.values import Address, Fingerprint, Uid

if TYPE_CHECKING:
    from reconciler.config.settings import Config

KEY_BYTES = 32
_FILE_BYTES = 4096


class MasterKey:
    """32 random bytes. ``key_id`` (8 hex digits) is in the query of every marker; the state stores ``check_value`` to recognize the key."""

    __slots__ = ("_fingerprint_key", "_root", "check_value", "key_id")

    def __init__(self, material: bytes) -> None:
        if len(material) != KEY_BYTES:
            raise ConfigError(f"the master key has {len(material)} bytes; it must have {KEY_BYTES}", code="RC4011")
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
        """Return the keyed fingerprint of a write-only value. It depends on address and pointer, so that equal values differ."""
        text = _framed(address, pointer, value.reveal())
        return Fingerprint("hmac:" + hmac.new(self._fingerprint_key, text, hashlib.sha256).hexdigest())

    def printable(self) -> Iterator[str]:
        """Yield the text forms of the key, for the redactor."""
        yield base64.b64encode(self._root).decode()
        yield self._root.hex()


def _framed(*parts: str) -> bytes:
    """Join the parts so that different lists of parts give different bytes."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def hkdf(material: bytes, info: bytes, length: int, salt: bytes = b"") -> bytes:
    """Return HKDF-SHA256 (RFC 5869) of ``material``."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=length, salt=salt or None, info=info).derive(material)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The current key, and the previous one during a change of keys."""

    current: MasterKey
    previous: MasterKey | None = None

    @property
    def key_id(self) -> str:
        """Id of the current key."""
        return self.current.key_id

    def by_id(self, key_id: str) -> MasterKey | None:
        """Return the key with the id in ``key=`` of a marker, or None."""
        return next((key for key in (self.current, self.previous) if key is not None and key.key_id == key_id), None)

    def signing_key(self, owner: str, uid: Uid, rotation: int, *, key: MasterKey | None = None) -> SecretValue:
        """Return the signing key of a source: 64 hex digits, which every provider accepts as a secret.

        ``key`` replaces the current key, for objects that are not re-keyed yet.
        """
        return SecretValue((key or self.current).derive("signing", owner, uid, str(rotation)).hex())

    def standard_webhooks_secret(self, owner: str, uid: Uid, rotation: int, *, key: MasterKey | None = None) -> SecretValue:
        """Return the same 32 bytes as a Standard Webhooks secret: ``whsec_`` and their base64."""
        raw = (key or self.current).derive("signing", owner, uid, str(rotation))
        return SecretValue("whsec_" + base64.b64encode(raw).decode())

    def fingerprint(self, address: Address, pointer: str, value: SecretValue) -> Fingerprint:
        """Return the fingerprint of a write-only value with the current key."""
        return self.current.fingerprint(address, pointer, value)

    def values(self) -> Iterator[str]:
        """Yield the printable forms of the master keys, for the redactor."""
        for key in (self.current, self.previous):
            if key is not None:
                yield from key.printable()


def load_keyring(config: Config, *, stored_check: str | None, create_allowed: bool) -> KeyRing:
    """Return the key ring. Raises `ConfigError` or `StateError` if the key is missing, wrong or readable by others.

    ``stored_check`` is the check value in the state; a new key is created only with ``create_allowed`` and without a check value.
    During a change of keys the state may hold that of the previous key: then store `MasterKey.check_value` of the current one.
    """
    path = Path(config.master_key.file)
    previous = read_key(Path(config.master_key.previous_file)) if config.master_key.previous_file else None
    current = _read(path)
    if current is None:
        if stored_check is not None:
            raise StateError(
                f"the master key {path} is missing, but this state was created with one",
                code="RC4010",
                hint="Restore the key file from your backup: without it no webhook is verified. The daemon never re-keys automatically.",
            )
        if previous is not None:
            raise ConfigError(
                f"there is no master key at {path}, but masterKey.previousFile names one",
                code="RC4010",
                hint="Name the current key in masterKey.file; a key is created only if there was none before.",
            )
        if not create_allowed:
            raise ConfigError(
                f"there is no master key at {path}", code="RC4010", hint="The first `reconciler run` or `apply` creates it."
            )
        return KeyRing(make_key(path))
    known = {key.check_value for key in (current, previous) if key is not None}
    if stored_check is not None and not any(hmac.compare_digest(stored_check, value) for value in known):
        raise StateError(
            f"the master key {path} is not the one that this state was created with",
            code="RC4012",
            hint="Put the right key back, or name the old one in masterKey.previousFile while you change it.",
        )
    return KeyRing(current, previous)


def make_key(path: Path) -> MasterKey:
    """Create a key file with mode 0600, atomically. Raises `ConfigError` if it exists or cannot be written."""
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
            os.link(temporary, path)  # unlike rename, it does not replace a key that another process has just created
        finally:
            temporary.unlink()
        make_durable(path.parent)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise storage_error(error, f"the master key {path}") from None
        raise ConfigError(f"cannot create the master key {path}: {error.strerror}", code="RC4010") from None
    return MasterKey(material)


def read_key(path: Path) -> MasterKey:
    """Read a key file. Raises `ConfigError` if it is missing, invalid, or readable by others."""
    key = _read(path)
    if key is None:
        raise ConfigError(f"the master key {path} cannot be read: the file does not exist", code="RC4010")
    return key


def _read(path: Path) -> MasterKey | None:
    """Return the key, or None if there is no file. The checks are of the opened file, which its path may no longer name."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if path.is_symlink():
            raise ConfigError(f"the master key {path} is a dangling link", code="RC4010") from None
        return None
    except OSError as error:
        raise ConfigError(f"the master key {path} cannot be read: {error.strerror}", code="RC4010") from None
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise ConfigError(f"the master key {path} is not a file", code="RC4011")
        if not _is_systemd_credential(path):
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


def _is_systemd_credential(path: Path) -> bool:
    """Whether systemd provides the file (systemd.exec(5), LoadCredential=). Its folder is the service's alone.

    The file belongs to root, and an access control list lets the service read it: stat(2) shows that as the mode 0440.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    return bool(folder) and path.parent == Path(folder)


def _check_access(path: Path, info: os.stat_result) -> None:
    mode = stat.S_IMODE(info.st_mode)
    if readable_by_others(info):
        raise ConfigError(
            f"the master key {path} has mode {mode:04o}: others may read it", code="RC4013", hint=f"chmod 600 {path}"
        )
    if info.st_uid not in {os.geteuid(), 0}:  # root can read everything anyway, and owns mounted secrets
        raise ConfigError(
            f"the master key {path} belongs to uid {info.st_uid}", code="RC4013", hint=f"chown {os.geteuid()} {path}"
        )


def readable_by_others(info: os.stat_result) -> bool:
    """Whether the mode of a key file is too wide.

    A file that root gives to a group of this process for reading is not: a Kubernetes Secret in a pod with ``fsGroup`` has mode 0440.
    """
    mode = stat.S_IMODE(info.st_mode)
    lent = info.st_uid == 0 != os.geteuid() and info.st_gid in {os.getegid(), *os.getgroups()}
    return bool(mode & (0o037 if lent else 0o077))
