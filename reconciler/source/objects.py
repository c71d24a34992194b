"""Reads the objects of a repository: commits, trees, blobs. Nothing is checked out, so that no links, hooks or filters apply."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.model.errors import SourceError
from reconciler.source.base import FileData, Revision, Snapshot
from reconciler.source.errors import LfsPointer, MirrorDamaged, PathGone, RefUnknown, SourceOwnership, SourceTooLarge
from reconciler.source.ignore import IGNORE_FILE
from reconciler.source.ignore import MAX_BYTES as MAX_IGNORE_BYTES
from reconciler.source.options import check_ref
from reconciler.source.runner import GitResult, GitRunner, ProcessResult
from reconciler.source.selection import LFS_PREFIX, Selector, TreeEntry

_OID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BATCH_BYTES = 16 << 20
_FORMAT = "%an%x00%ct%x00%s"
NO_COMMIT_HINT = "Commit the manifests, or plan the files on the disk: reconciler plan PATH"


@dataclass(frozen=True, slots=True)
class ObjectReader:
    """Reads one Git folder (bare, or the ``.git`` of a work tree) through the restricted runner, without network access."""

    git_dir: Path
    runner: GitRunner
    deadline_s: float = 60.0

    async def git(self, *args: str, stdin: bytes = b"", max_stdout_bytes: int = 32 << 20) -> GitResult:
        """Run a local Git command on this folder."""
        return await self.runner.run(
            self.git_dir, *args, run=ProcessResult(deadline_s=self.deadline_s, stdin=stdin, max_stdout_bytes=max_stdout_bytes)
        )

    async def commit_of(self, ref: str) -> str | None:
        """Return the commit id of ``ref``, which is checked here, or None."""
        parsed = await self.git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{check_ref(ref)}^{{commit}}")
        return parsed.text if parsed.returncode == 0 and _OID.fullmatch(parsed.text) else None

    async def revision(self, commit: str, branch: str, *, rewritten: bool = False, signer: str = "") -> Revision:
        """Return the revision of a commit id with its author, subject and date."""
        shown = await self.git("rev-list", "--max-count=1", "--no-commit-header", f"--format={_FORMAT}", commit)
        fields = shown.stdout.decode("utf-8", "replace").rstrip("\n").split("\0")
        if shown.returncode or len(fields) != 3:
            raise MirrorDamaged(f"commit {commit[:12]} cannot be read: {shown.reason}")
        algorithm = "sha1" if len(commit) == 40 else "sha256"
        return Revision(
            f"{branch}@{algorithm}:{commit}",
            commit,
            branch,
            author=fields[0][:200],
            subject=fields[2][:200],
            committed_at=float(fields[1]) if fields[1].isdigit() else 0.0,  # an invalid date
            rewritten=rewritten,
            signer=signer,
        )

    async def is_ancestor(self, old: str, new: str) -> bool:
        """Whether ``old`` is in the history of ``new``; false for an unknown ``old``."""
        return (await self.git("merge-base", "--is-ancestor", old, new)).returncode == 0

    async def snapshot(self, revision: Revision, selector: Selector) -> Snapshot:
        """Return the files of a commit below the prefix of the selector, from its trees alone."""
        tree = await self._tree(revision.commit, selector.prefix)
        listed = await self.git("ls-tree", "-r", "-l", "-z", tree)
        if listed.returncode:
            raise MirrorDamaged(f"the tree of {revision.commit[:12]} cannot be read: {listed.reason}")
        entries = list(itertools.islice(_entries(listed.stdout), selector.caps.tree_entries + 1))
        if len(entries) > selector.caps.tree_entries:
            raise SourceTooLarge(
                f"the tree has more than {selector.caps.tree_entries:,} files",
                hint="Name the manifests' folder in source.path.",
            )
        selection = await asyncio.to_thread(selector.select, entries, await self._ignore_file(entries))
        return Snapshot(revision, selection.files, selection.notices, selection.others)

    async def _tree(self, commit: str, path: str) -> str:
        """Return the id of the tree at ``path``. The look-up is in the commit, so that it cannot reach anything outside (C12)."""
        answer = await self.git("cat-file", "--batch-check", stdin=f"{commit}:{path}\n".encode())
        words = answer.text.rsplit(" ", 2)
        if answer.returncode or not answer.text:
            raise MirrorDamaged(f"commit {commit[:12]} cannot be read: {answer.reason}")
        if len(words) == 3 and words[1] == "tree" and _OID.fullmatch(words[0]):
            return words[0]
        if await self.git_type(commit) != "commit":
            raise MirrorDamaged(f"commit {commit[:12]} no longer exists")
        raise PathGone(
            f"source.path {path!r} is not a folder in revision {commit[:12]}; nothing is changed or deleted",
            hint="Restore the folder, or name the new one in source.path.",
        )

    async def git_type(self, oid: str) -> str:
        """Return the type of an object id, or "" if the object does not exist."""
        return (await self.git("cat-file", "-t", oid)).text

    async def _ignore_file(self, entries: list[TreeEntry]) -> bytes:
        entry = next((e for e in entries if e.path == IGNORE_FILE.encode() and e.mode.startswith("100")), None)
        if entry is None:
            return b""
        if entry.size > MAX_IGNORE_BYTES:  # without it, files that it lists would be read
            raise SourceTooLarge(
                f"{IGNORE_FILE} has {entry.size:,} bytes; it may have {MAX_IGNORE_BYTES:,}", hint="Use fewer patterns."
            )
        return (await self._contents([entry.blob], entry.size))[entry.blob]

    async def read(self, snapshot: Snapshot, blobs: Collection[str] | None = None) -> list[FileData]:
        """Return the content of the snapshot's files; each blob is read once. Raises `LfsPointer` (C10)."""
        requested = [entry for entry in snapshot.files if blobs is None or entry.blob in blobs]
        sizes = {entry.blob: entry.size for entry in requested}
        data: dict[str, bytes] = {}
        for batch in _batches(sizes):
            data.update(await self._contents(batch, sum(sizes[blob] for blob in batch)))
        for entry in requested:
            refuse_lfs(entry.path, data[entry.blob])
        return [(entry.path, entry.blob, data[entry.blob]) for entry in requested]

    async def _contents(self, blobs: Sequence[str], size: int) -> dict[str, bytes]:
        answer = await self.git(
            "cat-file",
            "--batch",
            "--buffer",  # without it Git flushes after every object, and each costs a read of the pipe
            stdin="".join(f"{blob}\n" for blob in blobs).encode(),
            max_stdout_bytes=size + 128 * len(blobs),
        )
        contents: dict[str, bytes] = {}
        at, text = 0, answer.stdout
        for blob in blobs:
            end = text.find(b"\n", at)
            head = text[at:end].split(b" ") if end >= 0 else []
            if answer.returncode or len(head) != 3 or head[1] != b"blob" or head[0] != blob.encode():
                raise MirrorDamaged(f"blob {blob[:12]} cannot be read: {answer.reason}")
            length = int(head[2])
            contents[blob] = text[end + 1 : end + 1 + length]
            at = end + length + 2
        return contents

    async def resolve(self, ref: str) -> Revision:
        """Return the revision of a local branch, remote branch, tag or commit. Raises `RefUnknown`."""
        for candidate in (ref, f"refs/heads/{ref}", f"refs/remotes/origin/{ref}"):
            if commit := await self.commit_of(candidate):
                return await self.revision(commit, ref)
        raise RefUnknown(f"{ref!r} is not a commit of the source", hint="Fetch it first, or check the spelling.")

    async def fork_point(self, ref: str, commit: str) -> Revision:
        """Return the newest common ancestor of ``ref`` and ``commit``, or ``ref`` if they have none. Raises `RefUnknown`."""
        base = await self.resolve(check_ref(ref))
        answer = await self.git("merge-base", base.commit, commit)
        shared = answer.text.partition("\n")[0]
        return await self.revision(shared, ref) if answer.returncode == 0 and _OID.fullmatch(shared) else base

    async def checked_out(self) -> Revision:
        """Return the commit of HEAD, with the name of its branch. Raises `RefUnknown` for a repository without commits."""
        commit = await self.commit_of("HEAD")
        if commit is None:
            raise RefUnknown("the repository has no commit yet", hint=NO_COMMIT_HINT)
        return await self.revision(commit, await self.branch_checked_out() or "HEAD")

    async def branch_checked_out(self) -> str:
        """Return the name of the branch that is checked out; empty if HEAD is detached."""
        answer = await self.git("symbolic-ref", "--quiet", "--short", "HEAD")
        return answer.text if answer.returncode == 0 else ""

    async def line_commit(self, commit: str, path: str, line: int) -> Revision | None:
        """Return the commit that last changed a line, or None."""
        if line < 1 or not _OID.fullmatch(commit):
            return None
        blame = await self.git("blame", "--porcelain", "-L", f"{line},{line}", commit, "--", path, max_stdout_bytes=1 << 20)
        author = blame.text.partition(" ")[0]
        return await self.revision(author, "") if blame.returncode == 0 and _OID.fullmatch(author) else None


def refuse_lfs(path: str, data: bytes) -> None:
    """Raise `LfsPointer` if ``data`` is a Git LFS pointer: its file would have to be fetched, which is never done."""
    if data.startswith(LFS_PREFIX):
        raise LfsPointer(
            f"{path} is a Git LFS pointer, not a manifest",
            hint=f"Store manifests in Git itself (git lfs untrack), or name it in {IGNORE_FILE}.",
        )


def check_owner(folder: Path) -> None:
    """Raise `SourceOwnership` if a Git folder belongs to another user, whose configuration Git would use (C23)."""
    try:
        owner = folder.stat().st_uid
    except OSError as error:
        raise SourceError(f"{folder} cannot be read: {error.strerror}") from None
    if owner != os.geteuid():
        raise SourceOwnership(
            f"{folder} belongs to user id {owner}, this process runs as {os.geteuid()}: its Git configuration cannot be trusted",
            hint=f"chown -R {os.geteuid()} {folder}  (or run as its owner; safe.directory is never widened)",
        )


def _entries(listing: bytes) -> Iterator[TreeEntry]:
    start = 0
    while (end := listing.find(b"\0", start)) >= 0:
        head, _, path = listing[start:end].partition(b"\t")
        mode, _kind, blob, size = head.decode("ascii").split()
        yield TreeEntry(mode, blob, int(size) if size != "-" else 0, path)
        start = end + 1


def _batches(sizes: dict[str, int]) -> Iterator[list[str]]:
    batch: list[str] = []
    total = 0
    for blob, size in sizes.items():
        if batch and total + size > _BATCH_BYTES:
            yield batch
            batch, total = [], 0
        batch.append(blob)
        total += size
    if batch:
        yield batch
