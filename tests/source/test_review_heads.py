"""Heads of pull requests in the mirror: from the base repository, bounded, and never in the way of the branch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.source import Caps, SourceOptions
from reconciler.source.errors import BranchGone, RefUnknown, SourceTooLarge
from reconciler.source.mirror import RemoteSource
from tests.support.githttp import GitHttpServer
from tests.support.gitrepo import GitRepo

A = "kind: Secret\n"


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    made = GitRepo(tmp_path / "git" / "web.git")
    made.commit({"a.yaml": A})
    return made


@pytest.fixture
def server(tmp_path: Path, repo: GitRepo) -> Iterator[GitHttpServer]:
    with GitHttpServer(tmp_path / "git") as opened:
        yield opened


def source(server: GitHttpServer, tmp_path: Path, **caps: int) -> RemoteSource:
    options = SourceOptions(server.url("web.git"), allow_hosts=("127.0.0.1",), caps=Caps(**caps))
    return RemoteSource(options, tmp_path / "state")


def pull(repo: GitRepo, files: dict[str, str | bytes | None], number: int = 1) -> str:
    repo.git("update-ref", "refs/heads/topic", repo.head)
    sha = repo.commit(files, branch="topic")
    repo.git("update-ref", f"refs/pull/{number}/head", sha)
    repo.git("update-ref", "-d", "refs/heads/topic")
    return sha


async def test_a_head_is_compared_with_where_it_left_the_branch(tmp_path: Path, repo: GitRepo, server: GitHttpServer) -> None:
    mirror = source(server, tmp_path)
    before = await mirror.fetch()
    sha = pull(repo, {"b.yaml": A})
    newest = repo.commit({"c.yaml": A})
    head = await mirror.fetch_commit("refs/pull/1/head", sha, "#1")
    base, behind = await mirror.fork_point(head)
    assert (base.commit, behind) == (before.commit, 1)
    assert [entry.path for entry in (await mirror.snapshot(head)).files] == ["a.yaml", "b.yaml"]
    assert await mirror.includes(head, base.commit)
    assert not await mirror.includes(base, sha)
    assert (await mirror.fetch()).commit == newest


async def test_a_base_that_the_daemon_has_not_seen_yet_is_the_base(tmp_path: Path, repo: GitRepo, server: GitHttpServer) -> None:
    mirror = source(server, tmp_path)
    await mirror.fetch()
    newest = repo.commit({"c.yaml": A})
    head = await mirror.fetch_commit("refs/pull/1/head", pull(repo, {"b.yaml": A}), "#1")
    base, behind = await mirror.fork_point(head)
    assert (base.commit, behind) == (newest, 0)


async def test_a_head_that_was_replaced_or_is_gone_says_so(tmp_path: Path, repo: GitRepo, server: GitHttpServer) -> None:
    mirror = source(server, tmp_path)
    old = pull(repo, {"b.yaml": A})
    pull(repo, {"c.yaml": A})
    with pytest.raises(RefUnknown):
        await mirror.fetch_commit("refs/pull/1/head", old, "#1")
    with pytest.raises(BranchGone):
        await mirror.fetch_commit("refs/pull/2/head", old, "#2")


async def test_large_heads_are_stopped_and_never_fill_the_mirror(tmp_path: Path, repo: GitRepo, server: GitHttpServer) -> None:
    mirror = source(server, tmp_path, revision_bytes=200_000, mirror_bytes=600_000)
    await mirror.fetch()
    noise = bytes(range(256)) * 40
    chance = random.Random(7)
    for at in range(5):
        files: dict[str, str | bytes | None] = {f"n{at}.bin": chance.randbytes(120_000), "noise": noise}
        sha = pull(repo, files, at)
        await mirror.fetch_commit(f"refs/pull/{at}/head", sha, f"#{at}")
    assert sum(path.stat().st_size for path in (tmp_path / "state").rglob("*") if path.is_file()) < 600_000
    big = pull(repo, {"big.bin": chance.randbytes(8_000_000)}, 9)
    for _ in range(2):
        with pytest.raises(SourceTooLarge):
            await mirror.fetch_commit("refs/pull/9/head", big, "#9")
        assert sum(path.stat().st_size for path in (tmp_path / "state").rglob("*") if path.is_file()) < 600_000
    repo.commit({"c.yaml": A})
    await mirror.fetch()
