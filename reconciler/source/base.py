"""The interface of a source, and its frozen values."""

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
    """Committer date, seconds since the epoch; 0 if unknown."""
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
    """A path that was left out on purpose. It contains no content: no link target, no file text."""

    path: str
    reason: str
    hides_manifest: bool = False
    """Whether it has the name of a manifest, so that resources of earlier revisions may be missing."""

    def __str__(self) -> str:
        """Render as ``path: reason``."""
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The manifests of a revision, sorted by path, and the paths that were left out."""

    revision: Revision
    files: tuple[FileEntry, ...]
    notices: tuple[SecurityNotice, ...] = ()
    others: frozenset[str] = frozenset()
    """Paths of the other regular files: one of them may have replaced a folder of manifests."""

    @property
    def complete(self) -> bool:
        """Whether no path with the name of a manifest was left out. Otherwise the revision must prune nothing."""
        return not any(notice.hides_manifest for notice in self.notices)


FileData = tuple[str, str, bytes]
"""(path, blob id, content)."""


class Source(Protocol):
    """The origin of revisions. Every method raises `reconciler.model.errors.SourceError`; none changes earlier results."""

    async def fetch(self) -> Revision:
        """Return the newest acceptable revision now (reachable, checked, fast-forward and signed as configured)."""

    async def resolve(self, ref: str) -> Revision:
        """Return the revision that a branch, tag or commit names; raises `RefUnknown`."""

    async def comparison(self, ref: str) -> tuple[Revision, Revision]:
        """Return the common ancestor of ``ref`` and the current revision, and the current revision: the change of a pull request.

        In a repository on this machine the current revision is HEAD, whatever ``source.branch`` is. Raises `RefUnknown`.
        """

    async def snapshot(self, revision: Revision) -> Snapshot:
        """Return the files of ``revision`` without their content. Raises for limits, unsafe names and a missing path."""

    async def read(self, snapshot: Snapshot, blobs: Collection[str] | None = None) -> list[FileData]:
        """Return the content of the snapshot's files, in order; with ``blobs`` only of those blobs."""

    async def line_commit(self, revision: Revision, path: str, line: int) -> Revision | None:
        """Return the commit that last changed a line (from 1), or None where it is unknown."""

    def changes(self) -> AsyncIterator[None]:
        """Yield when a local source may have changed. Ends at once for a remote one, which the caller polls."""

    async def close(self) -> None:
        """Stop watching. Idempotent."""


def refuse_empty(snapshot: Snapshot, *, allow_empty: bool) -> None:
    """Raise `SourceEmpty` for a revision without manifests, unless that is allowed (C5). Pure."""
    if snapshot.files or allow_empty:
        return
    raise SourceEmpty(
        f"revision {snapshot.revision.id} has no manifests; nothing is changed or deleted",
        hint="Restore the manifests, check source.path, or set source.allowEmpty: true to delete everything.",
    )
