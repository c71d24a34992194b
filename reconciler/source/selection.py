"""The selection of the manifests in a tree or folder. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from reconciler.model.resources import is_encrypted_name
from reconciler.source.base import FileEntry, SecurityNotice
from reconciler.source.errors import SourceTooLarge, TreeRefused
from reconciler.source.ignore import IGNORE_FILE, Ignore
from reconciler.source.options import Caps, unsafe_name

LFS_PREFIX = b"version https://git-lfs.github.com/spec/"
_SUFFIXES = (".yaml", ".yml")
_MAX_NOTICES = 100
_FORMAT_CHARACTERS = frozenset("\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One entry below ``source.path``. ``path`` is in raw bytes, relative to ``source.path``."""

    mode: str
    blob: str
    size: int
    path: bytes


def is_manifest_name(path: str) -> bool:
    """Whether ``path`` is named like a manifest (``*.yaml``, ``*.yml``) or an encrypted file, with no dot file or dot folder in it."""
    return (path.endswith(_SUFFIXES) or is_encrypted_name(path)) and not any(part.startswith(".") for part in path.split("/"))


@dataclass(frozen=True, slots=True)
class Selection:
    """The files of a tree or folder: manifests by path, paths that were left out (first those that hide a manifest), and others."""

    files: tuple[FileEntry, ...]
    notices: tuple[SecurityNotice, ...]
    others: frozenset[str]


@dataclass(frozen=True, slots=True)
class Selector:
    """The rules of one installation. ``prefix`` (``source.path``, "" for the root) precedes every path that is shown."""

    prefix: str
    config_name: str
    caps: Caps
    label: str | None = None
    """Precedes shown paths instead of ``prefix``."""

    def select(self, entries: Iterable[TreeEntry], ignore: bytes) -> Selection:
        """Return manifests, notices and other files. Raises `TreeRefused` (C11) and `SourceTooLarge` (C8)."""
        ignored = Ignore(ignore)
        files: list[FileEntry] = []
        notices: list[SecurityNotice] = []
        others: set[str] = set()
        total = 0
        for entry in entries:
            name = self._name(entry, notices)
            if name is None or name == self.config_name or ignored(name):
                continue
            if reason := _left_out(entry.mode):
                if not any(part.startswith(".") for part in name.split("/")):
                    notices.append(SecurityNotice(self.shown(name), reason, is_manifest_name(name.lower())))
                continue
            if not is_manifest_name(name):
                others.add(self.shown(name))
                if is_manifest_name(name.lower()):
                    notices.append(
                        SecurityNotice(self.shown(name), "skipped: a manifest ends in .yaml or .yml, in lower case", True)
                    )
                continue
            total += entry.size
            files.append(FileEntry(self.shown(name), entry.blob, entry.size))
            self._check_caps(files, total)
        notices.sort(key=lambda notice: (not notice.hides_manifest, notice.path))
        return Selection(tuple(sorted(files, key=lambda f: f.path)), tuple(notices[:_MAX_NOTICES]), frozenset(others))

    def shown(self, name: str) -> str:
        """Return ``name`` with the prefix: relative to the repository."""
        label = self.prefix if self.label is None else self.label
        return f"{label}/{name}" if label else name

    def _name(self, entry: TreeEntry, notices: list[SecurityNotice]) -> str | None:
        try:
            name = entry.path.decode("utf-8")
        except UnicodeDecodeError:
            notices.append(
                SecurityNotice(
                    ascii(entry.path)[:200], "skipped: the name is not UTF-8", entry.path.lower().endswith((b".yaml", b".yml"))
                )
            )
            return None
        if any(unsafe_name(part) for part in name.split("/")):
            raise TreeRefused(
                f"the tree has an entry with a forbidden name: {ascii(name)[:120]}",
                hint="Remove it from the branch; the last good revision stays in force.",
            )
        if any(ord(c) < 32 or ord(c) == 127 or c in _FORMAT_CHARACTERS for c in name):
            notices.append(
                SecurityNotice(
                    ascii(name)[:200], "skipped: the name has control or invisible characters", is_manifest_name(name.lower())
                )
            )
            return None
        return name

    def _check_caps(self, files: list[FileEntry], total: int) -> None:
        last = files[-1]
        if last.size > self.caps.file_bytes:
            raise SourceTooLarge(
                f"{last.path} has {last.size:,} bytes; a manifest may have {self.caps.file_bytes:,}",
                hint=f"Split it, or name it in {IGNORE_FILE} if it is not a manifest. It was not read.",
            )
        if len(files) > self.caps.files:
            raise SourceTooLarge(
                f"the revision has more than {self.caps.files:,} manifests",
                hint=f"Name a smaller folder in source.path, or use {IGNORE_FILE}.",
            )
        if total > self.caps.revision_bytes:
            raise SourceTooLarge(
                f"the manifests of the revision have more than {self.caps.revision_bytes:,} bytes",
                hint=f"Name a smaller folder in source.path, or use {IGNORE_FILE}.",
            )


def _left_out(mode: str) -> str:
    """Return the reason why an entry of ``mode`` is not read, or "" for a regular file."""
    if mode in {"100644", "100755", "100664"}:
        return ""
    if mode == "120000":
        return "skipped: symbolic links are never followed"
    if mode == "160000":
        return "skipped: submodules are never fetched"
    return "skipped: not a regular file"
