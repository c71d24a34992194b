"""A remote repository, read through a bare mirror in the state folder.

The mirror holds one branch with its whole history, because `is_ancestor`, blame and `--base` need it; a shallow mirror would need a
full fetch for each of them. A fetch writes ``refs/reconciler/incoming`` first, and ``refs/heads/<branch>`` moves only after every check,
so that the last good revision stays readable whatever fails. After a kill at any time, the mirror is cleaned or cloned again.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from reconciler.model.errors import ConfigError, SourceError
from reconciler.source.base import FileData, Revision, Snapshot
from reconciler.source.classify import error_of
from reconciler.source.errors import BranchGone, MirrorDamaged, NotFastForward, RefUnknown, SourceTimeout, SourceTooLarge
from reconciler.source.objects import ObjectReader, check_owner
from reconciler.source.options import SourceOptions, check_branch, check_ref, check_url, normalize_path
from reconciler.source.runner import GitResult, GitRunner, ProcessResult, ssh_command
from reconciler.source.selection import Selector
from reconciler.source.signatures import verify

_T = TypeVar("_T")
_INCOMING = "refs/reconciler/incoming"
_FORMER = "refs/reconciler/former"
_BASE = "refs/reconciler/base"
_REVIEWED = "refs/reconciler/reviewed"
_REVIEW_BASE = "refs/reconciler/review-base"
_MAX_PACKS = 30
_MAX_TOKEN_BYTES = 16_384


class RemoteSource:
    """The source of a remote URL. One fetch runs at a time, across processes too: Git inherits the lock file."""

    def __init__(self, options: SourceOptions, state_dir: Path) -> None:
        check_url(options.url, options.allow_hosts)
        check_branch(options.branch)
        self._options = options
        self._folder = state_dir.resolve() / "source"
        key = hashlib.sha256(f"{options.url}\0{options.branch}".encode()).hexdigest()[:16]
        self._mirror = self._folder / f"{key}.git"
        self._lock_file = self._folder / f"{key}.lock"
        self._remote = GitRunner(self._folder, _protocols(options), _ssh(options))
        self._reader = ObjectReader(self._mirror, GitRunner(self._folder), min(options.deadline_s, 60.0))
        self._selector = Selector(normalize_path(options.path), options.config_name, options.caps)
        self._accepted: str | None = None

    @property
    def _branch_ref(self) -> str:
        return f"refs/heads/{self._options.branch}"

    async def fetch(self) -> Revision:
        """Fetch the branch and check it; see `reconciler.source.base.Source`."""
        async with self._locked() as lock:
            return await self._repairing(lambda: self._fetch(lock))

    async def _fetch(self, lock: int) -> Revision:
        await self._prepare()
        await self._transfer(lock, self._branch_ref, _INCOMING)
        head = await self._reader.commit_of(_INCOMING)
        if head is None:
            raise MirrorDamaged("the fetched commit is missing")
        base = await self._reader.commit_of(self._branch_ref) or self._accepted
        rewritten = base is not None and base != head and not await self._reader.is_ancestor(base, head)
        if rewritten and self._options.require_fast_forward:
            raise NotFastForward(
                f"branch {self._options.branch} was rewritten: {base and base[:12]} is not in the history of {head[:12]}",
                hint="Restore the branch, or set source.requireFastForward: false for one fetch.",
            )
        signer = await verify(self._reader, self._options.verify, head, base) if self._options.verify is not None else ""
        revision = await self._reader.revision(head, self._options.branch, rewritten=rewritten, signer=signer)
        await self._accept(head, base if rewritten else None)
        return revision

    async def _accept(self, head: str, former: str | None) -> None:
        if former is not None and await self._reader.git_type(former) == "commit":
            await self._reader.git("update-ref", "--no-deref", _FORMER, former)
        moved = await self._reader.git("update-ref", "--no-deref", self._branch_ref, head)
        if moved.returncode:
            raise MirrorDamaged(f"the mirror cannot be written: {moved.reason}")
        self._accepted = head
        await self._tidy()

    async def comparison(self, ref: str) -> tuple[Revision, Revision]:
        """Return the common ancestor of ``ref`` and the newest revision of the branch, and that revision."""
        after = await self.fetch()
        base = await self.resolve(ref)
        return await self._reader.fork_point(base.commit, after.commit), after

    async def resolve(self, ref: str) -> Revision:
        """Return a commit of the mirror, or fetch the branch or tag ``ref``."""
        check_ref(ref)
        async with self._locked() as lock:
            await self._prepare()
            with contextlib.suppress(RefUnknown):
                return await self._reader.resolve(ref)
            for remote in (f"refs/heads/{ref}", f"refs/tags/{ref}"):
                with contextlib.suppress(BranchGone):
                    await self._transfer(lock, remote, _BASE)
                    if commit := await self._reader.commit_of(_BASE):
                        return await self._reader.revision(commit, ref)
        raise RefUnknown(
            f"{ref!r} is not a commit of the source", hint="Name a branch, a tag or a commit in the branch's history."
        )

    async def fetch_commit(self, ref: str, commit: str, name: str) -> Revision:
        """Fetch ``ref`` of the remote and return ``commit``, which is its newest commit or in its history. ``name`` is shown.

        The branch does not move. Raises `RefUnknown` if the ref has moved to other commits, and `BranchGone` if it is gone.
        """
        check_ref(commit)
        async with self._locked() as lock:
            await self._prepare()
            await self._make_room()
            await self._transfer(lock, self._branch_ref, _REVIEW_BASE)
            try:
                await self._transfer(lock, ref, _REVIEWED, await self._growth_guard())
            except SourceTooLarge:
                await self._drop_reviewed()
                raise
            newest = await self._reader.commit_of(_REVIEWED)
            if newest is None or not (newest == commit or await self._reader.is_ancestor(commit, newest)):
                raise RefUnknown(f"{commit[:12]} is not in {ref} any more", hint="It was replaced by newer commits.")
            return await self._reader.revision(commit, name)

    async def fork_point(self, revision: Revision, of: str = "") -> tuple[Revision, int]:
        """Return the newest common ancestor of ``revision`` and the branch (or the commit ``of``), and how many commits it lacks.

        The branch is as `fetch_commit` saw it: it may be newer than the revision in force.
        """
        other = of or _REVIEW_BASE
        base = await self._reader.fork_point(other, revision.commit)
        behind = await self._reader.git("rev-list", "--count", f"{base.commit}..{other}")
        return base, int(behind.text) if behind.returncode == 0 and behind.text.isdigit() else 0

    async def includes(self, revision: Revision, commit: str) -> bool:
        """Whether ``commit`` is in the history of ``revision``."""
        return revision.commit == commit or await self._reader.is_ancestor(check_ref(commit), revision.commit)

    async def snapshot(self, revision: Revision) -> Snapshot:
        """Return the content of ``revision``. A damaged mirror is cloned again first."""
        return await self._retrying(lambda: self._reader.snapshot(revision, self._selector))

    async def read(self, snapshot: Snapshot, blobs: Collection[str] | None = None) -> list[FileData]:
        """Return the content of the snapshot's files. A damaged mirror is cloned again first."""
        return await self._retrying(lambda: self._reader.read(snapshot, blobs))

    async def line_commit(self, revision: Revision, path: str, line: int) -> Revision | None:
        """Return the commit that last changed a line."""
        return await self._reader.line_commit(revision.commit, path, line)

    async def changes(self) -> AsyncIterator[None]:
        """Yield nothing: the caller polls a remote."""
        return
        yield

    async def close(self) -> None:
        """Do nothing: no resource is held between calls."""

    async def _retrying(self, work: Callable[[], Awaitable[_T]]) -> _T:
        try:
            return await work()
        except MirrorDamaged:
            await asyncio.to_thread(shutil.rmtree, self._mirror, ignore_errors=True)
            await self.fetch()
            return await work()

    async def _repairing(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Run ``work``. If the mirror is damaged, delete it and run ``work`` again on a new one (A9)."""
        try:
            return await work()
        except MirrorDamaged:
            with contextlib.suppress(SourceError):
                self._accepted = self._accepted or await self._reader.commit_of(self._branch_ref)
            await asyncio.to_thread(shutil.rmtree, self._mirror, ignore_errors=True)
            return await work()

    async def _prepare(self) -> None:
        """Create the mirror if it does not exist, and remove the leftovers of a killed process."""
        if not (self._mirror / "HEAD").is_file():
            await asyncio.to_thread(shutil.rmtree, self._mirror, ignore_errors=True)
            created = await self._reader.runner.run(
                self._mirror, "init", "--quiet", "--bare", "--template=", "--initial-branch=reconciler-none"
            )
            if created.returncode:
                raise SourceError(
                    f"cannot create the mirror {self._mirror}: {created.reason}",
                    hint="Check the space and permissions of the state folder.",
                )
        check_owner(self._mirror)
        await asyncio.to_thread(_remove_leftovers, self._mirror)

    async def _make_room(self) -> None:
        """Drop the objects of pull requests before they reach half of the limit: they must never keep the branch from being fetched."""
        if await asyncio.to_thread(_bytes_in, self._mirror) < self._options.caps.mirror_bytes // 2:
            return
        await self._drop_reviewed()

    async def _drop_reviewed(self) -> None:
        """Delete the objects that only pull requests need."""
        await self._reader.git("update-ref", "-d", _REVIEWED)
        await self._reader.git("repack", "-a", "-d", "-q")
        await self._reader.git("prune", "--expire=now")

    async def _growth_guard(self) -> Callable[[], None]:
        """Return a check that raises `SourceTooLarge` when the mirror has grown by more than a revision may have."""
        limit = self._options.caps.revision_bytes
        before = await asyncio.to_thread(_bytes_in, self._mirror)

        def guard() -> None:
            if _bytes_in(self._mirror) - before > limit:
                raise SourceTooLarge(
                    f"the pull request brings more than {limit >> 20} MiB; the fetch was stopped",
                    hint="Keep large files out of the repository of the manifests.",
                )

        return guard

    async def _transfer(self, lock: int, remote_ref: str, local_ref: str, guard: Callable[[], None] | None = None) -> None:
        checked = await self._reader.git("check-ref-format", remote_ref)
        if checked.returncode:
            raise RefUnknown(f"{remote_ref[:80]!r} is not the name of a branch or tag", hint="Correct `source.branch`.")
        config, secrets = self._credentials()
        run = ProcessResult(
            deadline_s=self._options.deadline_s, config=config, secrets=secrets, pass_fds=(lock,), guard=guard or self._quota
        )
        try:
            result = await self._remote.run(
                self._mirror,
                "fetch",
                "--quiet",
                "--no-tags",
                "--update-shallow",  # a remote may be a shallow clone itself
                "--no-auto-maintenance",
                "--no-write-fetch-head",
                "--recurse-submodules=no",
                "--no-show-forced-updates",
                "--end-of-options",
                self._options.url,
                f"+{remote_ref}:{local_ref}",
                run=run,
            )
        except SourceError:
            await asyncio.to_thread(_remove_leftovers, self._mirror)
            raise
        if result.returncode == 0:
            return
        await asyncio.to_thread(_remove_leftovers, self._mirror)
        raise await self._error_of(result, remote_ref.split("/", 2)[2])

    async def _error_of(self, result: GitResult, name: str) -> SourceError:
        error = error_of(result, name)
        if error is not None and not isinstance(error, MirrorDamaged):
            return error
        check = await self._reader.git("fsck", "--connectivity-only", "--no-dangling", "--no-progress")
        if check.returncode:
            return MirrorDamaged(f"the mirror is damaged: {result.reason}")
        return error_of(result, name, mirror_is_whole=True) or SourceError(f"git fetch failed: {result.reason}")

    def _quota(self) -> None:
        limit = self._options.caps.mirror_bytes
        if _bytes_in(self._mirror) > limit:
            raise SourceTooLarge(
                f"the repository has more than {limit >> 20} MiB; the fetch was stopped",
                hint="Use a repository for the manifests alone.",
            )

    def _credentials(self) -> tuple[dict[str, str], tuple[str, ...]]:
        """Return Git configuration for the environment, and the secrets to mask in messages."""
        options = self._options
        config: dict[str, str] = {}
        if options.ca_bundle is not None:
            config["http.sslCAInfo"] = str(options.ca_bundle)
        if options.proxy:
            config["http.proxy"] = options.proxy
        if options.token_file is None or urlsplit(options.url).scheme not in {"https", "http"}:
            return config, ()
        token = _read_token(options.token_file)
        pair = token if ":" in token else f"x-access-token:{token}"
        encoded = base64.b64encode(pair.encode()).decode()
        parts = urlsplit(options.url)
        config[f"http.{parts.scheme}://{parts.netloc}/.extraHeader"] = f"Authorization: Basic {encoded}"
        return config, (encoded, token, pair.partition(":")[2])

    async def _tidy(self) -> None:
        """Repack when there are many packs. A failure costs only space."""
        packs = await asyncio.to_thread(lambda: len(list(self._mirror.glob("objects/pack/*.pack"))))
        if packs > _MAX_PACKS:
            with contextlib.suppress(SourceError):
                await self._reader.git("repack", "-a", "-d", "-q")

    @contextlib.asynccontextmanager
    async def _locked(self) -> AsyncIterator[int]:
        """Hold the lock of the mirror. Git inherits it: the child of a killed process keeps it until its low-speed limit ends it."""
        await asyncio.to_thread(self._folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            await self._take(handle)
            yield handle
        finally:
            os.close(handle)

    async def _take(self, handle: int) -> None:
        try:
            async with asyncio.timeout(self._options.deadline_s):
                while not _try_lock(handle):  # noqa: ASYNC110 - another process holds it, and cannot notify this one
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise SourceTimeout(
                f"another process has been fetching into {self._mirror} for {self._options.deadline_s:g} s",
                hint="It is retried automatically.",
            ) from None


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _protocols(options: SourceOptions) -> tuple[str, ...]:
    # check_url has already refused http to a host that is not allowed.
    return ("https", "ssh", "http") if options.url.startswith("http://") else ("https", "ssh")


def _ssh(options: SourceOptions) -> str:
    if not (options.url.startswith("ssh://") or "://" not in options.url):
        return ""
    if options.ssh_key_file is None or options.known_hosts_file is None:
        raise ConfigError(
            "a source over SSH needs source.auth.sshKeyFile and source.auth.knownHostsFile",
            hint="Create the second with `ssh-keyscan HOST`, and compare the key with the one that the provider publishes.",
        )
    return ssh_command(options.ssh_key_file.resolve(), options.known_hosts_file.resolve())


def _read_token(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_TOKEN_BYTES + 1)
    except OSError as error:
        raise SourceError(f"source.auth.tokenFile {path} cannot be read: {error.strerror}", code="RC2003") from None
    token = raw.decode("utf-8", "replace").strip()
    if not token or len(raw) > _MAX_TOKEN_BYTES or any(ord(c) < 33 for c in token):
        raise SourceError(f"source.auth.tokenFile {path} does not contain a token (one line, at most 16 KiB)", code="RC2003")
    return token


def _walk(folder: Path) -> Iterator[Path]:
    for base, _, names in os.walk(folder):
        for name in names:
            yield Path(base) / name


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in _walk(folder):
        with contextlib.suppress(OSError):  # Git may rename its temporary files during the walk
            total += path.lstat().st_size
    return total


def _remove_leftovers(mirror: Path) -> None:
    """Remove locks and temporary files. The caller holds the lock, so that no other process uses them (A9)."""
    for path in _walk(mirror):
        if path.name.endswith(".lock") or path.name.startswith(("tmp_", ".tmp-")):
            path.unlink(missing_ok=True)
    for folder in (mirror / "objects").glob("tmp_objdir-*"):
        shutil.rmtree(folder, ignore_errors=True)
