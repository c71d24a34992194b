"""Secrets in files of the repository that SOPS encrypted with age: decryption, and the check that nobody changed them.

Format: https://getsops.io/docs/ ("Encryption Protocol"). A leaf is ``ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]``, bound
to its path; a MAC over all leaves in the order of the document protects the file as a whole. `pyrage` (extra ``sops``) is used here only.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import yaml
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import GCM

from reconciler.credentials.remote import Loaded
from reconciler.manifests.cel import Constraints, ExpressionError, check_pattern
from reconciler.manifests.secret_spec import SecretSpec
from reconciler.model.errors import SecretUnavailable
from reconciler.model.json import as_map
from reconciler.model.printable import plain
from reconciler.model.resources import EncryptedFile, Resource, SecretRef
from reconciler.model.secrets import SecretValue

MAX_BYTES = 256 << 10
MAX_NODES = 20_000
MAX_DEPTH = 32
MAX_RECIPIENTS = 100
MAX_VALUE = 64 << 10
MAX_SHOWN = 120
"""Characters of a path or a name of the file in a message."""
_ENCRYPTED = re.compile(r"ENC\[AES256_GCM,data:([^,]*),iv:([^,]*),tag:([^,]*),type:(str|int|float|bool|bytes|time)\]\Z")
_ONLY_ENCRYPTED = hashlib.sha256(b"sops").digest()
"""What the MAC of a file with ``mac_only_encrypted`` starts with, so that the setting cannot be switched."""


class SopsError(Exception):
    """The file cannot be used. ``code``: of the error page; the text has no value of the file."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


class _AgeRecipient(msgspec.Struct):
    enc: str
    recipient: str = ""


class _SopsBlock(msgspec.Struct):
    """The block ``sops`` of a file."""

    mac: str
    lastmodified: str
    age: list[_AgeRecipient] = []
    unencrypted_suffix: str = ""
    encrypted_suffix: str = ""
    unencrypted_regex: str = ""
    encrypted_regex: str = ""
    encrypted_comment_regex: str = ""
    unencrypted_comment_regex: str = ""
    mac_only_encrypted: bool = False


class _SopsYaml(yaml.SafeLoader):
    """Reads scalars as SOPS does (YAML 1.2: ``yes`` is text) and no aliases: a few lines of them can stand for gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise SopsError("RC4086", "the file has YAML aliases, which SOPS never writes")
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


_SCALARS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("int", r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
)
_SopsYaml.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _SCALARS:
    first = ["" if each == "\0" else each for each in _first]
    _SopsYaml.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), first)


@dataclass(frozen=True, slots=True)
class SopsValue:
    """One value of a file: its path, whether it is encrypted, and the value."""

    path: tuple[str, ...]
    """Mapping keys and list indexes."""
    value: object
    encrypted: bool

    @property
    def text(self) -> str | None:
        """The value as text; None for bytes that are not text, and for null."""
        if self.value is None:
            return None
        if isinstance(self.value, bool):
            return "true" if self.value else "false"
        return _decoded(_canonical(self.value))


def decrypt(data: bytes, identities: Iterable[Any]) -> dict[str, SopsValue]:
    """Return the leaves of a file by path, its parts joined by dots. Raises `SopsError`; a file with a wrong MAC gives no value at all."""
    document = _parsed(data)
    head = _head(document)
    key = _data_key(head, identities)
    leaves = list(_leaves(document, head, key))
    digest = hashlib.sha512(_ONLY_ENCRYPTED if head.mac_only_encrypted else b"")
    for leaf in leaves:
        if (leaf.encrypted or not head.mac_only_encrypted) and leaf.value is not None:
            digest.update(_canonical(leaf.value))
    mac = _open(key, head.mac, head.lastmodified, "the message authentication code of the file")
    if not isinstance(mac, str) or not hmac.compare_digest(mac.encode(), digest.hexdigest().upper().encode()):
        raise SopsError("RC4086", "the message authentication code of the file is wrong: a value was changed, moved or removed")
    return {".".join(leaf.path): leaf for leaf in leaves}


def _parsed(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_BYTES:
        raise SopsError("RC4086", f"the file is larger than {MAX_BYTES >> 10} KiB")
    try:
        # JSON by its own parser: the file may have tabs, which YAML does not read.
        document = msgspec.json.decode(data) if data.lstrip()[:1] == b"{" else yaml.load(data, _SopsYaml)  # noqa: S506  a SafeLoader
    except (yaml.YAMLError, msgspec.DecodeError, RecursionError, ValueError):
        raise SopsError("RC4086", "the file is not valid YAML or JSON") from None
    if not isinstance(document, dict) or "sops" not in document:
        hint = "Encrypt it: `sops encrypt --in-place FILE`. A value that was committed as clear text must be replaced."
        raise SopsError("RC4086", "the file is not encrypted: it has no block `sops`", hint)
    return document


def _head(document: dict[str, Any]) -> _SopsBlock:
    raw = document.pop("sops")
    try:
        head = msgspec.convert(raw, _SopsBlock)
    except msgspec.ValidationError as error:
        raise SopsError("RC4086", f"the block `sops` cannot be read: {error}") from None
    if not head.age:
        others = sorted(_shown(str(name)) for name, keys in as_map(raw).items() if isinstance(keys, list) and keys)[:10]
        named = f" (only for: {', '.join(others)})" if others else ""
        raise SopsError("RC4085", f"the file is not encrypted for any age recipient{named}", "This provider reads age only.")
    if len(head.age) > MAX_RECIPIENTS:
        raise SopsError("RC4086", f"the file has more than {MAX_RECIPIENTS} recipients")
    return head


def _data_key(head: _SopsBlock, identities: Iterable[Any]) -> bytes:
    import pyrage

    keys = list(identities)
    for recipient in head.age:
        try:
            key: bytes = pyrage.decrypt(recipient.enc.encode(), keys)
        except (pyrage.DecryptError, ValueError):
            continue
        if len(key) == 32:
            return key
    shown = ", ".join(_shown(recipient.recipient) for recipient in head.age[:5])
    hint = "Add the daemon's recipient to .sops.yaml and run `sops updatekeys FILE`."
    raise SopsError("RC4085", f"no key of `secrets.sops.ageKeyFile` opens the file, which is for {shown}", hint)


def _leaves(document: Mapping[str, Any], head: _SopsBlock, key: bytes) -> Iterator[SopsValue]:
    """Yield every leaf in the order of the document, decrypted."""
    rule = _rule(head)
    stack: list[tuple[tuple[str, ...], tuple[str, ...], object]] = [((), (), document)]
    nodes = 0
    while stack:
        path, keys, node = stack.pop()
        nodes += 1
        if nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise SopsError("RC4086", f"the file has more than {MAX_NODES} values, or is deeper than {MAX_DEPTH}")
        if isinstance(node, Mapping):
            stack.extend(((*path, str(name)), (*keys, str(name)), value) for name, value in reversed(list(node.items())))
        elif isinstance(node, list):
            stack.extend(((*path, str(index)), keys, value) for index, value in reversed(list(enumerate(node))))
        elif rule(keys, node) and node is not None and node != "":
            if not isinstance(node, str) or _ENCRYPTED.match(node) is None:
                place = _shown(".".join(path))
                raise SopsError("RC4086", f"the value at {place} is not encrypted, although the rules of the file say so")
            yield SopsValue(
                path, _open(key, node, ":".join(keys) + ":", f"the value at {_shown('.'.join(path))}"), encrypted=True
            )
        else:
            yield SopsValue(path, node, encrypted=rule(keys, node))


def _rule(head: _SopsBlock) -> Callable[[tuple[str, ...], object], bool]:
    """Return whether a value below some keys is encrypted: one rule for a file, and it holds for all that is below a key."""
    if head.encrypted_comment_regex or head.unencrypted_comment_regex:  # comments are not read; the MAC covers both forms
        return lambda _keys, value: isinstance(value, str) and _ENCRYPTED.match(value) is not None
    if head.encrypted_regex:
        wanted = _searched(head.encrypted_regex)
        return lambda keys, _value: any(wanted(key) for key in keys)
    if head.unencrypted_regex:
        clear = _searched(head.unencrypted_regex)
        return lambda keys, _value: not any(clear(key) for key in keys)
    if head.encrypted_suffix:
        return lambda keys, _value: any(key.endswith(head.encrypted_suffix) for key in keys)
    suffix = head.unencrypted_suffix or "_unencrypted"
    return lambda keys, _value: not any(key.endswith(suffix) for key in keys)


def _searched(pattern: str) -> Callable[[str], bool]:
    """Return a search for ``pattern``, in RE2 as SOPS does it: the time is linear in the text."""
    try:
        check_pattern(pattern)
    except ExpressionError as error:
        raise SopsError("RC4086", f"the regular expression in the block `sops` cannot be used: {error}") from None
    constraint = Constraints((("key", pattern),))
    return cache(lambda key: constraint.evaluate({"key": key}))


def _open(key: bytes, text: str, bound_to: str, what: str) -> object:
    match = _ENCRYPTED.match(text)
    if match is None:
        raise SopsError("RC4086", f"{what} has another form than SOPS writes")
    try:
        data, iv, tag = (base64.b64decode(part, validate=True) for part in match.groups()[:3])
        decryptor = Cipher(AES256(key), GCM(iv, tag)).decryptor()
        decryptor.authenticate_additional_data(bound_to.encode())
        plain = decryptor.update(data) + decryptor.finalize()
        return _typed(plain, match[4])
    except (InvalidTag, binascii.Error, ValueError):
        raise SopsError("RC4086", f"{what} was changed or moved after its encryption") from None


def _typed(plain: bytes, kind: str) -> object:
    if kind == "bytes":
        return plain
    text = plain.decode("utf-8")
    if kind == "int":
        return int(text)
    return text.lower() == "true" if kind == "bool" else text  # a float stays as it is written: the MAC covers its text


def _canonical(value: object) -> bytes:
    """Return the bytes of a value that the MAC covers."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return b"True" if value else b"False"
    if isinstance(value, float):
        text = format(Decimal(repr(value)), "f")  # never with an exponent
        return (text.rstrip("0").rstrip(".") if "." in text else text).encode()
    return str(value).encode("utf-8", "surrogatepass")  # YAML can escape half a character: then no MAC fits


def _shown(text: str) -> str:
    """Return a text of the file for a message."""
    return plain(text[:MAX_SHOWN])


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return None


class SopsBackend:
    """Loads Secrets of provider ``sops`` from the files of the revision in force."""

    def __init__(self, files: Callable[[], Mapping[str, EncryptedFile]], key_file: str) -> None:
        self._files, self._key_file = files, key_file

    def mark(self, secret: Resource) -> str:
        """Return the blob of the file: another content is read at once."""
        file = self._file(secret)
        return file.blob if file is not None else ""

    def peer(self, secret: Resource) -> str:
        """No server is asked."""
        return ""

    def retry_now(self) -> None:
        """Nothing is remembered but what was read."""

    def _file(self, secret: Resource) -> EncryptedFile | None:
        spec = secret.typed(SecretSpec).sops
        return self._files().get(spec.file) if spec is not None else None

    def needs(self, secret: Resource) -> Iterable[SecretRef]:
        """Return nothing: a file of the configuration opens it."""
        return ()

    async def load(
        self, secret: Resource, read: Callable[[SecretRef], SecretValue], known: Loaded | None, *, again: bool = False
    ) -> Loaded:
        """Return the values that ``secret`` names. Raises `SecretUnavailable`."""
        file = self._file(secret)
        spec = secret.typed(SecretSpec).sops
        if spec is None or file is None:
            known_files = self._files()
            name = spec.file if spec is not None else ""
            if not known_files:
                hint = "It is read with the next revision; see `reconciler status` for the source."
                raise SecretUnavailable(f"{secret.id}: {name} is not read yet, or does not exist", code="RC4087", hint=hint)
            hint = f"Encrypted files of the revision: {', '.join(sorted(known_files)[:10])}."
            raise SecretUnavailable(f"{secret.id}: there is no file {name!r} in this revision", code="RC4084", hint=hint)
        if known is not None and known.version == file.blob:
            return known
        try:
            leaves = await asyncio.to_thread(self._decrypt, file.data)
        except SopsError as error:
            raise SecretUnavailable(f"{secret.id}: {spec.file}: {error.message}", code=error.code, hint=error.hint) from None
        values: dict[str, SecretValue] = {}
        errors: dict[str, SecretUnavailable] = {}
        for key, entry in spec.data.items():
            leaf = leaves.get(entry.path)
            text = leaf.text if leaf is not None else None
            if text and len(text.encode()) <= MAX_VALUE:
                values[key] = SecretValue(text)
                continue
            what = "does not exist or is no single value" if leaf is None else "is empty, no text, or larger than 64 KiB"
            text = f"{secret.id} key {key!r}: {entry.path!r} in {spec.file} {what}"
            errors[key] = SecretUnavailable(text, code="RC4084", hint="Fix the path: keys and indexes, joined by dots.")
        return Loaded(values, file.blob, errors)

    def _decrypt(self, data: bytes) -> dict[str, SopsValue]:
        return decrypt(data, read_identities(self._key_file))


def read_identities(key_file: str) -> list[Any]:
    """Return the age identities of a key file. Raises `SopsError`; no message has a part of a key."""
    try:
        from pyrage import IdentityError, x25519
    except ImportError:
        hint = "Install it: `pip install 'integrations-reconciler[sops]'`."
        raise SopsError("RC4089", "the package pyrage is not installed", hint) from None
    if not key_file:
        raise SopsError("RC4085", "`secrets.sops.ageKeyFile` is not set", "Name a file that `age-keygen -o FILE` wrote.")
    try:
        lines = Path(key_file).read_text(encoding="utf-8")[:MAX_BYTES].splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SopsError("RC4085", f"the age key file {key_file} cannot be read: {reason}") from None
    identities = []
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                identities.append(x25519.Identity.from_str(line.strip()))
            except IdentityError:
                raise SopsError("RC4085", f"{key_file}:{number} is not an age identity (AGE-SECRET-KEY-1…)") from None
    if not identities:
        raise SopsError("RC4085", f"the age key file {key_file} has no identity")
    return identities


__all__ = ["SopsBackend", "SopsError", "SopsValue", "decrypt", "read_identities"]
