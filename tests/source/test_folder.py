"""Local sources: a folder as it lies on the disk, and a repository on this machine read by commit."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.source import Caps, Source, SourceOptions, open_folder, open_source, read_folder
from reconciler.source.errors import (
    BranchGone,
    LfsPointer,
    NotFastForward,
    PathGone,
    RefUnknown,
    SourceOwnership,
    SourceTooLarge,
    SourceUnreachable,
    TreeRefused,
)
from reconciler.source.folder import FolderSource, LocalRepository
from tests.support.gitrepo import GitRepo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "manifests"
    (made / "sub").mkdir(parents=True)
    (made / "a.yaml").write_text("kind: Canvas\n")
    (made / "sub" / "b.yml").write_text("kind: Stage\n")
    return made


def source_of(folder: Path, **changes: object) -> Source:
    return open_source(SourceOptions(str(folder), **changes), folder.parent / "state")  # type: ignore[arg-type]


def test_a_folder_is_read_as_it_lies_on_the_disk(folder: Path) -> None:
    for name in (".hidden.yaml", "reconciler.yaml", "notes.txt", "ignored.yaml"):
        (folder / name).write_text("x")
    (folder / ".git").mkdir()
    (folder / ".git" / "x.yaml").write_text("x")
    (folder / ".reconcilerignore").write_text("ignored.*\n")
    assert [(path, data) for path, _, data in read_folder(folder)] == [
        ("a.yaml", b"kind: Canvas\n"),
        ("sub/b.yml", b"kind: Stage\n"),
    ]


async def test_a_folders_revision_is_its_content(folder: Path) -> None:
    source = source_of(folder)
    first = await source.fetch()
    assert first.id.startswith("dir@sha256:")
    os.utime(folder / "a.yaml", (1, 1))
    (folder / "notes.txt").write_text("not a manifest")
    assert (await source.fetch()).id == first.id
    (folder / "a.yaml").rename(folder / "c.yaml")
    renamed = await source.fetch()
    assert renamed.id != first.id
    snapshot = await source.snapshot(renamed)
    assert [p for p, _, _ in await source.read(snapshot)] == ["c.yaml", "sub/b.yml"]
    with pytest.raises(RefUnknown):
        await source.snapshot(first)


async def test_what_is_read_is_the_revisions_content_though_the_file_was_changed_since(folder: Path) -> None:
    source = source_of(folder)
    snapshot = await source.snapshot(await source.fetch())
    (folder / "a.yaml").write_text("changed: 1\n")
    assert (await source.read(snapshot))[0][2] == b"kind: Canvas\n"


@pytest.mark.fault
def test_c9_links_out_of_the_folder_loops_and_special_files_are_not_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text("canary: 1\n")
    (folder / "out.yaml").symlink_to(tmp_path / "secret.yaml")
    (folder / "passwd.yaml").symlink_to("/etc/passwd")
    (folder / "loop.yaml").symlink_to("loop.yaml")
    (folder / "dangling.yaml").symlink_to("nothing")
    (folder / "outdir").symlink_to(tmp_path)
    (folder / "self").symlink_to(".")
    os.mkfifo(folder / "pipe.yaml")
    (folder / "in.yaml").symlink_to("sub/b.yml")
    read = read_folder(folder)
    assert [path for path, _, _ in read] == ["a.yaml", "in.yaml", "sub/b.yml"]
    assert "canary" not in repr(read)


async def test_links_that_were_left_out_are_told(folder: Path) -> None:
    (folder / "out.yaml").symlink_to("/etc/passwd")
    source = source_of(folder)
    snapshot = await source.snapshot(await source.fetch())
    assert [str(n) for n in snapshot.notices] == ["out.yaml: skipped: symbolic links are never followed"]
    assert not snapshot.complete


def test_a_mounted_volume_with_its_links_is_read(tmp_path: Path) -> None:
    (tmp_path / "..2026_01").mkdir()
    (tmp_path / "..2026_01" / "a.yaml").write_text("kind: Canvas\n")
    (tmp_path / "..data").symlink_to("..2026_01")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    assert [path for path, _, _ in read_folder(tmp_path)] == ["a.yaml"]


@pytest.mark.fault
def test_c8_caps_hold_on_a_folder_too(folder: Path) -> None:
    (folder / "big.yaml").write_bytes(b"#" * 2000)
    for caps in (Caps(file_bytes=1000), Caps(files=2), Caps(revision_bytes=100), Caps(tree_entries=2)):
        with pytest.raises(SourceTooLarge):
            read_folder(folder, caps=caps)


@pytest.mark.fault
def test_c10_a_large_file_pointer_on_the_disk_is_refused(folder: Path) -> None:
    (folder / "p.yaml").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(LfsPointer):
        read_folder(folder)


async def test_a_folder_that_is_gone_is_an_error_and_never_an_empty_revision(folder: Path) -> None:
    source = source_of(folder)
    await source.fetch()
    folder.rename(folder.with_name("away"))
    with pytest.raises(SourceUnreachable):
        await source.fetch()


@pytest.mark.fault
async def test_c5_a_path_that_is_gone_is_an_error(folder: Path) -> None:
    assert [f[0] for f in [*(await _read(source_of(folder, path="sub")))]] == ["sub/b.yml"]
    with pytest.raises(PathGone):
        await source_of(folder, path="none").fetch()


@pytest.mark.fault
async def test_c12_a_source_path_through_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    (folder / "etc").symlink_to("/etc")
    with pytest.raises(PathGone):
        await source_of(folder, path="etc").fetch()


async def _read(source: Source) -> list[tuple[str, str, bytes]]:
    return await source.read(await source.snapshot(await source.fetch()))


async def _first_change(source: Source, act: Callable[[], object], *, patience_s: float = 8) -> float:
    """Return seconds from ``act`` until the source tells of a change."""
    seen = asyncio.Event()

    async def listen() -> None:
        async for _ in source.changes():
            seen.set()

    task = asyncio.create_task(listen())
    await asyncio.sleep(0.5)
    assert not seen.is_set()
    started = time.monotonic()
    act()
    try:
        await asyncio.wait_for(seen.wait(), patience_s)
        return time.monotonic() - started
    finally:
        await source.close()
        await asyncio.wait_for(task, 5)


async def test_a_saved_file_is_seen_within_a_second(folder: Path) -> None:
    source = source_of(folder)
    assert await _first_change(source, lambda: (folder / "a.yaml").write_text("kind: Stage\n")) < 2


async def test_files_that_are_no_manifests_wake_nobody(folder: Path) -> None:
    def write_others() -> None:
        (folder / ".a.yaml.swp").write_text("x")
        (folder / "notes.txt").write_text("x")
        (folder / ".git").mkdir()
        (folder / ".git" / "x.yaml").write_text("x")

    with pytest.raises(TimeoutError):
        await _first_change(source_of(folder), write_others, patience_s=1.5)


async def test_a_folder_that_is_replaced_is_still_watched(folder: Path) -> None:
    def replace() -> None:
        folder.rename(folder.with_name("old"))
        folder.mkdir()
        (folder / "new.yaml").write_text("x")

    assert await _first_change(source_of(folder), replace) < 5


async def test_a_commit_to_a_local_repository_is_seen_within_a_second(repo: GitRepo) -> None:
    source = source_of(repo.path)
    assert isinstance(source, LocalRepository)
    assert await _first_change(source, lambda: repo.commit({"b.yaml": "b"})) < 2


async def test_a_local_repository_is_read_by_commit_not_by_its_work_tree(repo: GitRepo, tmp_path: Path) -> None:
    work = tmp_path / "work"
    subprocess.run(
        ["git", "clone", "-q", str(repo.path), str(work)], check=True, env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
    )
    (work / "apps" / "a.yaml").write_text("not committed\n")
    source = source_of(work)
    assert (await _read(source))[0] == ("apps/a.yaml", (await _read(source))[0][1], b"kind: Canvas\n")
    assert (await source.fetch()).id == f"main@sha1:{repo.head}"


async def test_a_local_repository_keeps_the_gates(repo: GitRepo) -> None:
    source = source_of(repo.path, require_fast_forward=True)
    await source.fetch()
    head = repo.head
    repo.commit({"x.yaml": "x"}, orphan=True)
    with pytest.raises(NotFastForward):
        await source.fetch()
    repo.git("update-ref", "-d", "refs/heads/main")
    with pytest.raises(BranchGone):
        await source.fetch()
    repo.git("update-ref", "refs/heads/main", head)
    assert (await source.fetch()).commit == head


@pytest.mark.fault
async def test_c11_forbidden_names_are_refused_in_a_local_repository_that_no_fetch_has_checked(repo: GitRepo) -> None:
    good = repo.blob(b"kind: Canvas\n")
    repo.commit_tree(repo.tree([("40000", "..", repo.tree([("100644", "a.yaml", good)]))]))
    source = source_of(repo.path)
    revision = await source.fetch()
    with pytest.raises(TreeRefused):
        await source.snapshot(revision)


@pytest.mark.fault
async def test_c23_a_local_repository_of_another_user_is_refused(repo: GitRepo) -> None:
    source = source_of(repo.path)
    os.chown(repo.path, 12345, 12345)
    with pytest.raises(SourceOwnership, match="12345"):
        await source.fetch()


async def test_plan_path_reads_the_disk_and_its_base_the_repository_around_it(repo: GitRepo, tmp_path: Path) -> None:
    work = tmp_path / "work"
    subprocess.run(
        ["git", "clone", "-q", str(repo.path), str(work)], check=True, env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
    )
    (work / "apps" / "a.yaml").write_text("changed: 1\n")
    source = open_folder(work / "apps")
    assert isinstance(source, FolderSource)
    now = await _read(source)
    base = await source.resolve("main")
    before = await source.read(await source.snapshot(base))
    assert [(p, d) for p, _, d in now] == [("a.yaml", b"changed: 1\n")]
    assert [(p, d) for p, _, d in before] == [("a.yaml", b"kind: Canvas\n")]
    assert (await source.resolve("origin/main")).commit == repo.head
    with pytest.raises(RefUnknown):
        await open_folder(tmp_path).resolve("main")


@pytest.mark.parametrize("state", ["state", "sub/state"])
async def test_the_state_in_the_folder_is_no_part_of_the_revision(folder: Path, state: str) -> None:
    source = open_source(SourceOptions(str(folder)), folder / state)
    before = await source.fetch()
    (folder / state).mkdir()
    (folder / state / "lock").touch()
    (folder / state / "reserve").touch()
    os.mkfifo(folder / state / "admin.sock")
    assert (await source.fetch()).id == before.id
    assert (await source.snapshot(before)).notices == ()
    (folder / state / "kept.yaml").write_text("kind: Canvas\n")  # a manifest counts wherever it is
    assert (await source.fetch()).id != before.id
    await source.close()
