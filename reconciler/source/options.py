"""The options of a source, and the checks of their values before any process starts. Pure."""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from reconciler.model.errors import ConfigError
from reconciler.source.errors import RefUnknown

_MIB = 1024 * 1024
_SCP = re.compile(r"(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9_][A-Za-z0-9._-]+:[^:\s][^\s]*")
"""``[user@]host:path``, as scp and Git write it. A host of one letter is a drive of Windows."""
_REF = re.compile(r"[A-Za-z0-9_@+][A-Za-z0-9_./@+~^-]*")
_DRIVE = re.compile(r"[A-Za-z]:")


class VerifyMode(enum.StrEnum):
    """Which commits must be signed."""

    HEAD = "HEAD"
    RANGE = "Range"  # all commits since the last accepted revision


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """The signature check: SSH signatures against a list of allowed signers."""

    allowed_signers_file: Path
    mode: VerifyMode = VerifyMode.HEAD
    revocation_file: Path | None = None
    principals: tuple[str, ...] = ()
    """The allowed signers who may sign here; empty: all of them."""


@dataclass(frozen=True, slots=True)
class Caps:
    """Limits of a source. Sizes are in bytes."""

    file_bytes: int = _MIB
    files: int = 20_000
    revision_bytes: int = 64 * _MIB
    tree_entries: int = 200_000
    mirror_bytes: int = 1024 * _MIB


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Section ``source`` of the configuration, with the keys of ``network`` that a source uses."""

    url: str
    branch: str = "main"
    path: str = "."
    token_file: Path | None = None
    """A token, or ``user:password``; read again at every fetch."""
    ssh_key_file: Path | None = None
    known_hosts_file: Path | None = None
    require_fast_forward: bool = False
    allow_empty: bool = False
    allow_hosts: tuple[str, ...] = ()
    """``network.allow``: hosts or CIDRs where plain http is permitted."""
    deadline_s: float = 120.0
    """Longest time for one fetch, seconds."""
    verify: VerifyOptions | None = None
    config_name: str = "reconciler.yaml"
    """The daemon's own configuration, relative to ``path``, which is not a manifest."""
    ca_bundle: Path | None = None
    proxy: str = ""
    caps: Caps = field(default_factory=Caps)


def local_folder(url: str) -> Path | None:
    """Return the folder that ``url`` names (a path or ``file://``), or None for a remote."""
    if url.startswith("file://"):
        parts = urlsplit(url)
        return Path(parts.path) if parts.netloc in {"", "localhost"} else None
    return Path(url) if is_folder(url) else None


def is_folder(url: str) -> bool:
    """Whether ``url`` is a path: no scheme, and no colon before the first slash, which makes it ``host:path`` for Git as well. Pure."""
    return "://" not in url and ":" not in url.partition("/")[0]


def check_url(url: str, allow_hosts: Iterable[str] = ()) -> None:
    """Raise `ConfigError` for an invalid source URL. The message does not repeat userinfo (C24)."""
    if not url:
        raise ConfigError(
            "source.url is not set",
            code="RC2015",
            hint="Use https://HOST/OWNER/REPOSITORY, ssh://git@HOST/PATH or a folder, also as --repo.",
        )
    if any(ord(c) < 32 or ord(c) == 127 for c in url):
        raise _refused("it holds control characters")
    if url.startswith("-") or "::" in url.partition("/")[0]:
        raise _refused("it is neither a URL nor a folder")
    if _DRIVE.match(url):
        raise _refused("it is a path of Windows, where this program does not run", "Name a folder as /PATH or ./PATH.")
    if local_folder(url) is not None:
        return
    if "://" not in url:
        if not _SCP.fullmatch(url):
            raise _refused("it is neither a URL nor host:path", "Use ssh://git@HOST/PATH; a folder with a colon is ./NAME:REST.")
        return
    _check_parts(_split(url), allow_hosts)


def _check_parts(parts: SplitResult, allow_hosts: Iterable[str]) -> None:
    if parts.scheme not in {"https", "ssh", "http"}:
        raise _refused(f"protocol {parts.scheme!r} is not one of https, ssh")
    if parts.scheme == "ssh":
        if parts.password is not None:
            raise _refused("it holds a password")
    elif parts.username is not None or parts.password is not None:
        raise _refused("it holds a user name or a token", "Put the token into a file and name it in source.auth.tokenFile.")
    if parts.query or parts.fragment:
        raise _refused("it has a query or a fragment")
    if not parts.hostname or parts.hostname.startswith("-"):
        raise _refused("it names no host")
    if parts.scheme == "http" and not host_allowed(parts.hostname, allow_hosts):
        raise _refused(
            f"plain http to {parts.hostname} would show the credential and the manifests to anyone on the way",
            "Use https, or name the host in network.allow.",
        )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise _refused("it cannot be parsed") from None
    return parts


def _refused(reason: str, hint: str = "Use https://HOST/OWNER/REPOSITORY, ssh://git@HOST/PATH or a folder.") -> ConfigError:
    return ConfigError(f"source.url is refused: {reason}", code="RC2015", hint=hint)


def host_allowed(host: str, allow: Iterable[str]) -> bool:
    """Whether ``host`` is named in ``allow``: an equal name, ``*.suffix``, or a CIDR that contains its literal address."""
    name = host.lower().strip("[]")
    literal = "127.0.0.1" if name == "localhost" else name
    for entry in allow:
        allowed = entry.lower()
        bare = allowed.rpartition(":")[0] if allowed.count(":") == 1 else allowed
        if name in {allowed, bare} or (allowed.startswith("*.") and name.endswith(allowed[1:])):
            return True
        try:
            if ipaddress.ip_address(literal) in ipaddress.ip_network(allowed, strict=False):
                return True
        except (ValueError, TypeError):
            continue
    return False


def normalize_path(path: str) -> str:
    """Return ``source.path`` as a tree path (no ``./``; "" is the root). Pure.

    Raises `ConfigError` for a path outside of the tree (C12).
    """
    if path.startswith(("/", "~")) or "\\" in path or _DRIVE.match(path):
        raise _bad_path(path, "it is absolute; it is a folder inside the repository")
    if any(ord(c) < 32 or ord(c) == 127 for c in path):
        raise _bad_path(path, "it holds control characters")
    parts = [part for part in path.split("/") if part not in {"", "."}]
    for part in parts:
        if part == ".." or unsafe_name(part):
            raise _bad_path(path, f"{part!r} is not allowed in it")
    return "/".join(parts)


def _bad_path(path: str, reason: str) -> ConfigError:
    return ConfigError(
        f"source.path {path[:80]!r} is refused: {reason}",
        code="RC2015",
        hint="Name a folder inside the repository, such as `manifests`.",
    )


_IGNORED_BY_HFS = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")


def unsafe_name(name: str) -> bool:
    """Whether a file system may read the name of a tree entry as ``..`` or ``.git`` (C11). Pure."""
    plain = _IGNORED_BY_HFS.sub("", name).lower().rstrip(" .")
    plain = plain.partition(":")[0].rstrip(" .")
    return name in {"", ".", ".."} or "\0" in name or "/" in name or plain in {".git", "git~1"}


def check_ref(ref: str) -> str:
    """Return ``ref`` if it is valid as a revision for Git. Raises `RefUnknown` (CVE-2023-41040: a ref is not a path)."""
    if len(ref) > 250 or not _REF.fullmatch(ref) or ".." in ref or "@{" in ref or "//" in ref or ref.endswith((".lock", "/")):
        raise RefUnknown(
            f"{ref[:80]!r} is not the name of a branch, tag or commit", hint="Use for example `main`, `v1.2` or a commit id."
        )
    return ref


def check_branch(branch: str) -> None:
    """Raise `ConfigError` for a ``source.branch`` that is not a valid name. Git checks its other rules."""
    try:
        check_ref(branch)
    except RefUnknown:
        raise ConfigError(
            f"source.branch {branch[:80]!r} is not the name of a branch", code="RC2015", hint="Name it as in `git branch`."
        ) from None
