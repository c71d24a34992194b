"""Local sources: a repository on this machine, read by commit, and a folder, read from the disk."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.model.errors import SourceError
from reconciler.source.base import FileData, FileEntry, Revision, SecurityNotice, Snapshot
from reconciler.source.errors import BranchGone, NotFastForward, PathGone, RefUnknown, SourceTooLarge, SourceUnreachable
from reconciler.source.ignore import IGNORE_FILE
from reconciler.source.ignore import MAX_BYTES as MAX_IGNORE_BYTES
from reconciler.source.objects import NO_COMMIT_HINT, ObjectReader, check_owner, refuse_lfs
from reconciler.source.options import Caps, SourceOptions, check_branch, check_ref, normalize_path
from reconciler.source.runner import GitRunner
from reconciler.source.selection import Selector, TreeEntry, is_manifest_name
from reconciler.source.signatures import verify
from reconciler.source.watch import git_filter, manifest_filter, watch

_NO_CAPS = Caps()


@dataclass(frozen=True, slots=True)
class WorkTree:
    """A checkout whose manifests differ from those of the revision."""

    branch: str
    """Empty if HEAD is detached."""
    differing: tuple[str, ...]
    error: str = ""
    """The reason why the folder could not be compared."""


def _sha1(data: bytes) -> hashlib._Hash:
    return hashlib.sha1(data, usedforsecurity=False)


@dataclass(frozen=True, slots=True)
class _Scan:
    revision: Revision
    files: tuple[FileEntry, ...]
    notices: tuple[SecurityNotice, ...]
    data: dict[str, bytes]
    others: frozenset[str]


def read_folder(path: Path, *, config_name: str = "reconciler.yaml", caps: Caps = _NO_CAPS) -> list[FileData]:
    """Return the manifests below ``path`` on the disk: (path relative to it, content id, content), sorted.

    Raises `SourceUnreachable` for a folder that does not exist, `SourceTooLarge`, and `LfsPointer`.
    """
    return look_into(path, config_name=config_name, caps=caps)[0]


def look_into(
    path: Path, *, config_name: str = "reconciler.yaml", caps: Caps = _NO_CAPS
) -> tuple[list[FileData], tuple[SecurityNotice, ...]]:
    """Return the result of `read_folder`, and the paths that were left out."""
    scan = _scan(path, Selector("", config_name, caps))
    return [(entry.path, entry.blob, scan.data[entry.blob]) for entry in scan.files], scan.notices


def _scan(root: Path, selector: Selector, digits: int = 64, *, state_dir: Path | None = None) -> _Scan:
    """Read the manifests below ``root``; ``digits`` is the length of their content ids (Git's: 40 for SHA-1, 64 for SHA-256).

    The files of this program in ``state_dir`` do not count: otherwise each run would make another revision of the same manifests.
    """
    algorithm = hashlib.sha256 if digits == 64 else _sha1
    base = _real_folder(root, selector.prefix)
    entries = list(_walk(base, selector.caps.tree_entries))
    if state_dir is not None and (own := state_dir.resolve()).is_relative_to(base):
        prefix = os.fsencode(own.relative_to(base)) + b"/"
        entries = [entry for entry in entries if not entry.path.startswith(prefix) or is_manifest_name(os.fsdecode(entry.path))]
    ignore = _read_capped(base, IGNORE_FILE, MAX_IGNORE_BYTES) or b""
    selection = selector.select(entries, ignore)
    data: dict[str, bytes] = {}
    files: list[FileEntry] = []
    for entry in selection.files:
        name = entry.path.removeprefix(f"{selector.prefix}/") if selector.prefix else entry.path
        content = _read_capped(base, name, selector.caps.file_bytes)
        if content is None:  # removed since the listing, which then counts as removed before
            continue
        refuse_lfs(entry.path, content)
        blob = algorithm(b"blob %d\0" % len(content) + content).hexdigest()
        data[blob] = content
        files.append(FileEntry(entry.path, blob, len(content)))
    lines = [f"{f.blob} {f.path}\n" for f in files] + [f"! {notice}\n" for notice in selection.notices]
    # A file without a suffix may have replaced a folder of manifests, so that its removal is another revision.
    lines += [f"- {name}\n" for name in sorted(selection.others) if "." not in name.rpartition("/")[2]]
    digest = hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
    return _Scan(Revision(f"dir@sha256:{digest}", digest, ""), tuple(files), selection.notices, data, selection.others)


def _real_folder(root: Path, prefix: str) -> Path:
    """Return the real path of ``root/prefix``; a symbolic link below ``root`` must not lead out of it."""
    try:
        top = root.resolve(strict=True)
        if not top.is_dir():
            raise SourceUnreachable(f"{root} is not a folder", hint="Name a folder of manifests.")
    except OSError as error:
        raise SourceUnreachable(
            f"folder {root} cannot be read: {error.strerror}", hint="Nothing is changed until it is back."
        ) from None
    base = (top / prefix).resolve()
    if not base.is_relative_to(top) or not base.is_dir():
        raise PathGone(
            f"source.path {prefix!r} is not a folder below {root}; nothing is changed or deleted",
            hint="Restore it, or fix source.path.",
        )
    return base


def _walk(base: Path, limit: int) -> Iterator[TreeEntry]:
    """Yield entries below ``base``. Links are not followed, but a link to a regular file inside counts as the file (mounted volumes)."""
    count = 0
    stack = [b""]
    while stack:
        folder = stack.pop()
        try:
            listed = sorted(os.scandir(os.fsencode(base) + b"/" + folder), key=lambda e: e.name)
        except FileNotFoundError:
            continue  # removed during the walk
        except OSError as error:
            raise SourceUnreachable(
                f"folder {os.fsdecode(folder) or base} cannot be read: {error.strerror}",
                hint="Nothing is changed until it can be read.",
            ) from None
        for entry in listed:
            name = entry.name
            path = folder + b"/" + name if folder else name
            if name.startswith(b".") and path != IGNORE_FILE.encode():
                continue
            count += 1
            if count > limit:
                raise SourceTooLarge(f"{base} has more than {limit:,} files", hint="Name the manifests' folder.")
            if entry.is_dir(follow_symlinks=False):
                stack.append(path)
            else:
                yield _entry(base, path, entry)


def _entry(base: Path, path: bytes, entry: os.DirEntry[bytes]) -> TreeEntry:
    try:
        info = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(info.st_mode):
            target = Path(os.fsdecode(entry.path)).resolve()
            info = target.stat()
            if not (target.is_relative_to(base) and stat.S_ISREG(info.st_mode)):
                return TreeEntry("120000", "", 0, path)
    except (OSError, RuntimeError):  # vanished, dangling or a loop
        return TreeEntry("120000", "", 0, path)
    return TreeEntry("100644" if stat.S_ISREG(info.st_mode) else "special", "", info.st_size, path)


def _read_capped(base: Path, name: str, limit: int) -> bytes | None:
    """Return the content of a regular file below ``base``, of at most ``limit`` bytes; None if it no longer exists."""
    try:
        target = (base / name).resolve(strict=True)
        if not target.is_relative_to(base):
            return None
        handle = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError) as error:
        raise SourceUnreachable(f"{name} cannot be read: {getattr(error, 'strerror', None) or 'a loop of links'}") from None
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        content = file.read(limit + 1)
    if len(content) > limit:
        raise SourceTooLarge(
            f"{name} has more than {limit:,} bytes", hint=f"Split it, or name it in {IGNORE_FILE} if it is not a manifest."
        )
    return content


class FolderSource:
    """A folder on the disk. ``resolve`` reads commits of the repository around it (``plan PATH --base``)."""

    def __init__(self, root: Path, options: SourceOptions, home: Path, *, state_dir: Path | None = None) -> None:
        self._root = root
        self._selector = Selector(normalize_path(options.path), options.config_name, options.caps)
        self._home = home
        self._state_dir = state_dir
        self._last: _Scan | None = None
        self._around: tuple[ObjectReader, Selector] | None = None
        self._closed = asyncio.Event()

    async def fetch(self) -> Revision:
        """Read the folder. Its revision is the digest of its content."""
        self._last = await asyncio.to_thread(_scan, self._root, self._selector, state_dir=self._state_dir)
        return self._last.revision

    async def resolve(self, ref: str) -> Revision:
        """Return a commit of the repository around the folder."""
        check_ref(ref)
        reader, _ = self._repository()
        return await reader.resolve(ref)

    async def comparison(self, ref: str) -> tuple[Revision, Revision]:
        """Return the common ancestor of ``ref`` and the commit of the folder, and the folder."""
        check_ref(ref)
        reader, _ = self._repository()
        return await reader.fork_point(ref, (await reader.checked_out()).commit), await self.fetch()

    async def snapshot(self, revision: Revision) -> Snapshot:
        """Return the files that `fetch` read, or those of a commit below the path of this folder."""
        if self._last is not None and revision.id == self._last.revision.id:
            return Snapshot(revision, self._last.files, self._last.notices, self._last.others)
        if revision.id.startswith("dir@"):
            raise RefUnknown("the folder has changed since that revision", hint="Read it again.")
        reader, selector = self._repository()
        return await reader.snapshot(revision, selector)

    async def read(self, snapshot: Snapshot, blobs: Collection[str] | None = None) -> list[FileData]:
        """Return the content that `fetch` read, which may be older than that on the disk."""
        if not snapshot.revision.id.startswith("dir@"):
            return await self._repository()[0].read(snapshot, blobs)
        last = self._last
        if last is None or last.revision.id != snapshot.revision.id:
            raise RefUnknown("the folder has changed since that revision", hint="Read it again.")
        return [(f.path, f.blob, last.data[f.blob]) for f in snapshot.files if blobs is None or f.blob in blobs]

    async def line_commit(self, revision: Revision, path: str, line: int) -> Revision | None:
        """Return None: a folder has no commits."""
        return None

    async def changes(self) -> AsyncIterator[None]:
        """Yield within a second of a change below the folder."""
        async for _ in watch(self._root, manifest_filter(self._root), self._closed):
            yield

    async def close(self) -> None:
        """Stop watching and drop the content."""
        self._closed.set()
        self._last = None

    def _repository(self) -> tuple[ObjectReader, Selector]:
        if self._around is None:
            here = self._root.resolve()
            for folder in (here, *here.parents):
                if (git_dir := git_dir_of(folder)) is not None:
                    check_owner(git_dir)
                    places = (here.relative_to(folder).as_posix(), self._selector.prefix)
                    place = "/".join(part for part in places if part not in {"", "."})
                    # Both sides of a comparison show paths relative to the folder.
                    selector = dataclasses.replace(self._selector, prefix=place, label=self._selector.prefix)
                    self._around = (ObjectReader(git_dir, GitRunner(self._home)), selector)
                    return self._around
            raise RefUnknown(f"{self._root} is not in a Git repository", hint="Run it inside a clone of the repository.")
        return self._around


class LocalRepository:
    """The branch head of a repository on this machine, read by commit, so that uncommitted changes do not count."""

    def __init__(self, git_dir: Path, options: SourceOptions, home: Path, *, work_tree: Path | None = None) -> None:
        check_branch(options.branch)
        self._git_dir = git_dir
        self._work_tree = work_tree
        self._options = options
        self._reader = ObjectReader(git_dir, GitRunner(home), options.deadline_s)
        self._selector = Selector(normalize_path(options.path), options.config_name, options.caps)
        self._accepted: str | None = None
        self._closed = asyncio.Event()

    async def fetch(self) -> Revision:
        """Return the branch head after the checks of a remote, against the revision that this process accepted last."""
        if not self._git_dir.is_dir():
            raise SourceUnreachable(f"repository {self._git_dir} does not exist", hint="Nothing is changed until it is back.")
        check_owner(self._git_dir)
        head = await self._reader.commit_of(f"refs/heads/{self._options.branch}")
        if head is None:
            raise await self._no_branch()
        base = self._accepted
        rewritten = base is not None and base != head and not await self._reader.is_ancestor(base, head)
        if rewritten and self._options.require_fast_forward:
            raise NotFastForward(
                f"branch {self._options.branch} was rewritten; {head[:12]} does not follow the last accepted revision"
            )
        signer = await verify(self._reader, self._options.verify, head, base) if self._options.verify is not None else ""
        revision = await self._reader.revision(head, self._options.branch, rewritten=rewritten, signer=signer)
        self._accepted = head
        return revision

    async def _no_branch(self) -> SourceError:
        if await self._reader.commit_of("HEAD") is None:
            return BranchGone(f"{self._git_dir} has no commit yet", hint=f"Nothing is deleted. {NO_COMMIT_HINT}")
        here = await self._reader.branch_checked_out()
        shown = f"branch {here} is checked out" if here else "HEAD is detached, as a CI checkout leaves it"
        return BranchGone(
            f"branch {self._options.branch} does not exist in {self._git_dir}; {shown}",
            hint="Nothing is deleted. Name the branch in source.branch, compare the checkout (reconciler plan --base REF), "
            "or plan the files on the disk (reconciler plan PATH).",
        )

    async def resolve(self, ref: str) -> Revision:
        """Return the commit of ``ref``."""
        return await self._reader.resolve(check_ref(ref))

    async def comparison(self, ref: str) -> tuple[Revision, Revision]:
        """Return the common ancestor of ``ref`` and HEAD, and HEAD: the checkout of a pull request (C16)."""
        check_owner(self._git_dir)
        head = await self._reader.checked_out()
        return await self._reader.fork_point(ref, head.commit), head

    async def uncommitted(self, revision: Revision) -> WorkTree | None:
        """Return how the manifests on the disk differ from ``revision``; None for a bare repository, or if they do not differ."""
        if self._work_tree is None:
            return None
        try:
            scan = await asyncio.to_thread(_scan, self._work_tree, self._selector, len(revision.commit))
        except SourceError as error:
            return WorkTree(await self._reader.branch_checked_out(), (), error.message)
        committed = {f.path: f.blob for f in (await self.snapshot(revision)).files}
        on_disk = {f.path: f.blob for f in scan.files}
        differing = tuple(sorted(p for p in committed.keys() | on_disk.keys() if committed.get(p) != on_disk.get(p)))
        return WorkTree(await self._reader.branch_checked_out(), differing) if differing else None

    async def snapshot(self, revision: Revision) -> Snapshot:
        """Return the files of a commit."""
        return await self._reader.snapshot(revision, self._selector)

    async def read(self, snapshot: Snapshot, blobs: Collection[str] | None = None) -> list[FileData]:
        """Return the content of a commit's manifests."""
        return await self._reader.read(snapshot, blobs)

    async def line_commit(self, revision: Revision, path: str, line: int) -> Revision | None:
        """Return the commit that last changed a line."""
        return await self._reader.line_commit(revision.commit, path, line)

    async def changes(self) -> AsyncIterator[None]:
        """Yield within a second of a commit."""
        async for _ in watch(self._git_dir, git_filter(self._git_dir), self._closed):
            yield

    async def close(self) -> None:
        """Stop watching."""
        self._closed.set()


def git_dir_of(folder: Path) -> Path | None:
    """Return the Git folder of a work tree or bare repository at ``folder`` itself, or None. Reads at most one small file."""
    inner = folder / ".git"
    if inner.is_file():  # a linked work tree or a submodule
        text = inner.read_bytes()[:4096].decode("utf-8", "replace").strip()
        if not text.startswith("gitdir: "):
            raise SourceError(f"{inner} is damaged")
        return (folder / text.removeprefix("gitdir: ")).resolve()
    for candidate in (inner, folder):
        if (candidate / "HEAD").is_file() and (candidate / "objects").is_dir():
            return candidate.resolve()
    return None


__all__ = ["FolderSource", "LocalRepository", "WorkTree", "git_dir_of", "is_manifest_name", "read_folder"]
