"""Histories as they are: old commits with faults that mislead nobody, and remotes that are shallow clones themselves."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from reconciler.source import SourceOptions, check_url, local_folder
from reconciler.source.errors import TreeRefused
from reconciler.source.mirror import RemoteSource
from tests.support.githttp import GitHttpServer
from tests.support.gitrepo import GitRepo


def rewrite(repo: GitRepo, header: bytes, replaced: bytes) -> str:
    """Commit once more with a header as an old tool wrote it, and go on from there."""
    raw = subprocess.run(
        ["git", "cat-file", "commit", repo.head],
        env={"GIT_DIR": str(repo.path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
    ).stdout
    assert header in raw
    made = repo.git("hash-object", "-t", "commit", "-w", "--stdin", "--literally", stdin=raw.replace(header, replaced))
    repo.git("update-ref", f"refs/heads/{repo.branch}", made)
    return made


OLD = {
    "bad time zone": (b"+0000\ncommitter", b"-4294967291\ncommitter"),
    "no space before the date": (b"Ada <ada@example.com> ", b"Ada <ada@example.com>"),
    "no e-mail": (b"<ada@example.com>", b""),
    "no name": (b"author Ada <", b"author <"),
    "a date before the calendar": (b"author Ada <ada@example.com> ", b"author Ada <ada@example.com> 00"),
}


@pytest.mark.parametrize("fault", OLD)
async def test_n40_an_old_commit_with_a_harmless_fault_is_read(repo: GitRepo, remote: RemoteSource, fault: str) -> None:
    old = rewrite(repo, *OLD[fault])
    newer = repo.commit({"apps/b.yaml": "kind: Canvas\n"}, "newer")
    assert repo.git("rev-parse", f"{newer}^") == old
    revision = await remote.fetch()
    assert revision.commit == newer
    assert [entry.path for entry in (await remote.snapshot(revision)).files] == ["apps/a.yaml", "apps/b.yaml"]


@pytest.mark.parametrize("fault", ["bad time zone", "no e-mail"])
async def test_n40_a_head_with_such_a_fault_is_a_revision(repo: GitRepo, remote: RemoteSource, fault: str) -> None:
    head = rewrite(repo, *OLD[fault])
    assert (await remote.fetch()).commit == head


async def test_n40_a_mode_with_a_zero_before_it_is_read(repo: GitRepo, remote: RemoteSource) -> None:
    blob = repo.git("rev-parse", "HEAD:apps/a.yaml")
    inner = repo.git("hash-object", "-t", "tree", "-w", "--stdin", "--literally", stdin=b"100644 a.yaml\0" + bytes.fromhex(blob))
    tree = repo.git("hash-object", "-t", "tree", "-w", "--stdin", "--literally", stdin=b"040000 apps\0" + bytes.fromhex(inner))
    commit = repo.git("commit-tree", tree, "-m", "old tool")
    repo.git("update-ref", "refs/heads/main", commit)
    revision = await remote.fetch()
    assert [entry.path for entry in (await remote.snapshot(revision)).files] == ["apps/a.yaml"]


@pytest.mark.parametrize("name", [b".git", b"..", b".GIT", b"git~1"])
async def test_n40_what_is_dangerous_stays_refused_beside_a_harmless_fault(
    repo: GitRepo, remote: RemoteSource, name: bytes
) -> None:
    rewrite(repo, *OLD["bad time zone"])
    blob = repo.git("rev-parse", "HEAD:apps/a.yaml")
    tree = repo.git(
        "hash-object", "-t", "tree", "-w", "--stdin", "--literally", stdin=b"100644 " + name + b"\0" + bytes.fromhex(blob)
    )
    commit = repo.git("commit-tree", tree, "-p", repo.head, "-m", "bad")
    repo.git("update-ref", "refs/heads/main", commit)
    with pytest.raises(TreeRefused):
        await remote.fetch()


async def test_n40_a_shallow_remote_is_fetched_and_its_mirror_kept(
    repo: GitRepo, server: GitHttpServer, options: SourceOptions, tmp_path: Path
) -> None:
    for number in range(3):
        repo.commit({"apps/a.yaml": f"kind: Canvas\n# {number}\n"}, str(number))
    shallow = GitRepo(repo.path.parent / "shallow.git")
    shallow.git("fetch", "-q", "--depth=1", repo.path.as_uri(), "+main:main")
    assert (shallow.path / "shallow").exists()
    source = RemoteSource(
        SourceOptions(server.url("shallow.git"), allow_hosts=options.allow_hosts, deadline_s=20), tmp_path / "state"
    )
    first = await source.fetch()
    (mirror,) = (tmp_path / "state" / "source").glob("*.git")
    made = (mirror.stat().st_ino, (mirror / "HEAD").stat().st_mtime_ns)
    packs = sorted(mirror.glob("objects/pack/*.pack"))
    assert (await source.fetch()) == first
    shallow.commit({"apps/b.yaml": "kind: Canvas\n"}, "newer")
    second = await source.fetch()
    assert second.commit == shallow.head
    assert not second.rewritten
    assert (mirror.stat().st_ino, (mirror / "HEAD").stat().st_mtime_ns) == made
    assert set(packs) <= set(mirror.glob("objects/pack/*.pack"))  # what was fetched once was not fetched again


# -- what names a remote -------------------------------------------------------------------------------------------------

REMOTE = [
    "git@host:/srv/x.git",
    "git@host:srv/x.git",
    "host:acme/x.git",
    "host.example:/srv/x.git",
    "user@host:path",
    "user@host:~/x",
    "ssh://git@host/srv/x.git",
    "ssh://git@host:2222/srv/x.git",
]


@pytest.mark.parametrize("url", REMOTE)
def test_n43_what_names_a_host_is_never_a_folder(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reconciler.config.load import load_config
    from reconciler.config.values import is_folder

    monkeypatch.chdir(tmp_path)
    check_url(url)
    assert local_folder(url) is None
    assert not is_folder(url)
    config = load_config(None, {"RECONCILER_SOURCE_URL": url})
    assert config.source.url == url  # not made a path below this folder


@pytest.mark.parametrize(
    "url", ["C:\\work\\x", "C:/work/x", "c:x", "git@[::1]:x.git", "host:", "git@host:", "a b:c", "ext::sh -c x"]
)
def test_n43_what_is_neither_is_refused_with_the_form_to_write(url: str) -> None:
    from reconciler.model.errors import ConfigError

    with pytest.raises(ConfigError) as caught:
        check_url(url)
    assert caught.value.code == "RC2015"
    assert "./" in caught.value.hint or "ssh://" in caught.value.hint


@pytest.mark.parametrize("url", ["./host:acme/x", "/srv/a:b", "manifests", ".", "../x", "dir/with:colon"])
def test_n43_a_path_stays_a_folder(url: str) -> None:
    check_url(url)
    assert local_folder(url) == Path(url)


def test_n43_a_short_form_without_its_key_says_what_is_missing(tmp_path: Path) -> None:
    from reconciler.model.errors import ConfigError
    from reconciler.source import open_source

    with pytest.raises(ConfigError, match="sshKeyFile"):
        open_source(SourceOptions("git@host:/srv/x.git"), tmp_path)
