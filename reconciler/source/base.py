"""The contract of a source, and the frozen values it speaks in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Protocol

from reconciler.source.errors import SourceEmpty


@dataclass(frozen=True, slots=True)
class Revision:
    """One state of the source: a commit, or the content of a folder."""

    id: str
    """``main@sha1:<40 hex>`` (``sha256:<64 hex>`` in a SHA-256 repository) or ``dir@sha256:<64 hex>``."""
    commit: str
    """The commit, or for a folder the digest of its content."""
    branch: str
    author: str = ""
    subject: str = ""
    committed_at: float = 0.0
    """Committer date, seconds since the epoch; 0 where there is none."""
    rewritten: bool = False
    """The branch was rewritten since the last fetch: the former head is not an ancestor. Reported once."""
    signer: str = ""
    """Principal of the verified signature; empty without ``source.verify``."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One manifest file of a revision. ``path`` is relative to the repository (or folder), ``size`` in bytes."""

    path: str
    blob: str
    size: int


@dataclass(frozen=True, slots=True)
class SecurityNotice:
    """Something that was left out on purpose. Never holds content: no link target, no file text."""

    path: str
    reason: str
    hides_manifest: bool = False
    """Its name is a manifest's: what it used to declare is missing from this revision."""

    def __str__(self) -> str:
        """Render as ``path: reason``."""
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which manifests a revision holds, sorted by path, and what was left out."""

    revision: Revision
    files: tuple[FileEntry, ...]
    notices: tuple[SecurityNotice, ...] = ()
    others: frozenset[str] = frozenset()
    """Paths of the other regular files: where one of them stands now, there may have been a folder of manifests."""

    @property
    def complete(self) -> bool:
        """False when something with a manifest's name was left out: such a revision should prune nothing."""
        return not any(notice.hides_manifest for notice in self.notices)


FileData = tuple[str, str, bytes]
"""(path, blob id, content)."""


class Source(Protocol):
    """Where revisions come from. Every method raises `reconciler.model.errors.SourceError`; none changes what was read before."""

    async def fetch(self) -> Revision:
        """Look now and return the newest acceptable revision (reachable, checked, fast-forward and signed as configured)."""

    async def resolve(self, ref: str) -> Revision:
        """Return the revision that a branch, tag or commit names; raises `RefUnknown`."""

    async def comparison(self, ref: str) -> tuple[Revision, Revision]:
        """Return where ``ref`` and what is looked at parted, and what is looked at: the step that a pull request makes.

        Of a repository on this machine, what is checked out (HEAD) is looked at, whatever ``source.branch`` says. Raises `RefUnknown`.
        """

    async def snapshot(self, revision: Revision) -> Snapshot:
        """Return what ``revision`` holds, without reading content; raises on caps, unsafe names and a missing path."""

    async def read(self, snapshot: Snapshot, blobs: Collection[str] | None = None) -> list[FileData]:
        """Return the content of the snapshot's files, in order; with ``blobs`` only of those blobs."""

    async def line_commit(self, revision: Revision, path: str, line: int) -> Revision | None:
        """Return the commit that last changed a line (from 1), or None where it is unknown."""

    def changes(self) -> AsyncIterator[None]:
        """Yield whenever a local source may have changed; ends at once for a remote one, which is polled by the caller."""

    async def close(self) -> None:
        """Stop watching. Idempotent."""


def refuse_empty(snapshot: Snapshot, *, allow_empty: bool) -> None:
    """Raise `SourceEmpty` for a revision without any manifest, unless that is allowed (C5). Pure."""
    if snapshot.files or allow_empty:
        return
    raise SourceEmpty(
        f"revision {snapshot.revision.id} holds no manifest at all; nothing is changed or deleted",
        hint="Restore the manifests, check source.path, or set source.allowEmpty: true if all is to be deleted.",
    )
