"""A remote over HTTP, served by git http-backend: what is read, and what each fault does."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.server
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from reconciler.source import Caps, SourceOptions, refuse_empty
from reconciler.source.errors import (
    BranchGone,
    LfsPointer,
    NotFastForward,
    PathGone,
    RefUnknown,
    SourceAuthFailed,
    SourceEmpty,
    SourceMoved,
    SourceOwnership,
    SourceTimeout,
    SourceTooLarge,
    SourceUnreachable,
    TreeRefused,
)
from reconciler.source.mirror import RemoteSource
from reconciler.source.runner import GitResult, GitRunner
from tests.source.conftest import processes_with, remake
from tests.support.githttp import GitHttpServer
from tests.support.gitrepo import GitRepo

ROOT = Path(__file__).parents[2]
FETCHES = int(os.environ.get("FETCHES", "20"))


def mirror_of(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "state" / "source").glob("*.git")
    return found


async def test_a_revision_names_branch_and_commit_and_its_manifests_are_read(repo: GitRepo, remote: RemoteSource) -> None:
    revision = await remote.fetch()
    assert revision.id == f"main@sha1:{repo.head}"
    assert (revision.commit, revision.branch, revision.author, revision.subject) == (repo.head, "main", "Ada", "first")
    assert abs(revision.committed_at - time.time()) < 3600
    snapshot = await remote.snapshot(revision)
    assert [(f.path, f.size) for f in snapshot.files] == [("apps/a.yaml", 13)]
    assert await remote.read(snapshot) == [("apps/a.yaml", snapshot.files[0].blob, b"kind: Canvas\n")]
    assert snapshot.notices == ()


async def test_only_manifests_are_chosen_and_the_ignore_file_is_heeded(repo: GitRepo, remote: RemoteSource) -> None:
    repo.commit(
        {
            "b.yml": "b",
            ".hidden.yaml": "x",
            ".github/ci.yaml": "x",
            "reconciler.yaml": "own",
            "sub/reconciler.yaml": "s",
            "notes.txt": "x",
            "values/v.yaml": "x",
            ".reconcilerignore": "values/\n",
            "ü é.yaml": "u",
        }
    )
    snapshot = await remote.snapshot(await remote.fetch())
    assert [f.path for f in snapshot.files] == ["apps/a.yaml", "b.yml", "sub/reconciler.yaml", "ü é.yaml"]
    assert snapshot.complete


async def test_only_the_blobs_that_are_asked_for_are_read(repo: GitRepo, remote: RemoteSource) -> None:
    repo.commit({"b.yaml": "b\n", "c.yaml": "c\n", "same.yaml": "b\n"})
    snapshot = await remote.snapshot(await remote.fetch())
    wanted = {f.blob for f in snapshot.files if f.path == "b.yaml"}
    assert [(p, d) for p, _, d in await remote.read(snapshot, wanted)] == [("b.yaml", b"b\n"), ("same.yaml", b"b\n")]
    assert await remote.read(snapshot, ()) == []


async def test_contents_with_any_bytes_come_back_as_they_are(repo: GitRepo, remote: RemoteSource) -> None:
    tricky = {"a.yaml": b"", "b.yaml": b"\n", "c.yaml": bytes(range(256)) * 40, "d.yaml": b"deadbeef blob 3\nx\n"}
    repo.commit({"apps/a.yaml": None, **tricky})
    read = await remote.read(await remote.snapshot(await remote.fetch()))
    assert {path: data for path, _, data in read} == tricky


async def test_paths_below_source_path_are_shown_from_the_repositorys_root(
    repo: GitRepo, options: SourceOptions, tmp_path: Path
) -> None:
    repo.commit({"other.yaml": "x", "apps/deep/b.yaml": "b"})
    source = remake(options, tmp_path, path="./apps/")
    assert [f.path for f in (await source.snapshot(await source.fetch())).files] == ["apps/a.yaml", "apps/deep/b.yaml"]


async def test_an_old_revision_stays_readable_after_newer_ones(repo: GitRepo, remote: RemoteSource) -> None:
    first = await remote.fetch()
    for n in range(3):
        repo.commit({"apps/a.yaml": f"n: {n}\n"})
        await remote.fetch()
    assert (await remote.read(await remote.snapshot(first)))[0][2] == b"kind: Canvas\n"


async def test_resolve_finds_branches_tags_and_commits_and_nothing_else(repo: GitRepo, remote: RemoteSource) -> None:
    first = repo.head
    repo.git("update-ref", "refs/tags/v1", first)
    repo.commit({"apps/a.yaml": "n: 2\n"})
    other = repo.commit({"x.yaml": "x"}, branch="topic/one")
    await remote.fetch()
    assert (await remote.resolve("main")).commit == repo.head
    assert (await remote.resolve("main~1")).commit == first
    assert (await remote.resolve(first[:12])).commit == first
    assert (await remote.resolve("v1")).commit == first
    assert (await remote.resolve("topic/one")).commit == other
    for bad in ("nothing", "../../etc/passwd", "--upload-pack=touch /tmp/x", "a b", "x:y", "@{-1}", "HEAD\n", ""):
        with pytest.raises(RefUnknown):
            await remote.resolve(bad)


async def test_blame_names_the_commit_of_a_line(repo: GitRepo, remote: RemoteSource) -> None:
    second = repo.commit({"apps/a.yaml": "kind: Canvas\nname: x\n"}, "second")
    revision = await remote.fetch()
    one, two = await remote.line_commit(revision, "apps/a.yaml", 1), await remote.line_commit(revision, "apps/a.yaml", 2)
    assert one is not None
    assert two is not None
    assert one.subject == "first"
    assert (two.commit, two.subject) == (second, "second")
    assert await remote.line_commit(revision, "apps/a.yaml", 99) is None
    assert await remote.line_commit(revision, "none.yaml", 1) is None


async def test_fetching_again_and_again_leaves_no_descriptor_and_no_process_open(repo: GitRepo, remote: RemoteSource) -> None:
    async def fetch_and_read(number: int) -> int:
        repo.commit({"apps/a.yaml": f"kind: Canvas # {number}\n"}, str(number))
        await remote.read(await remote.snapshot(await remote.fetch()))
        return len(os.listdir("/proc/self/fd"))

    before = await fetch_and_read(0)
    assert [await fetch_and_read(number) for number in range(1, FETCHES)] == [before] * (FETCHES - 1)
    assert processes_with(str(remote._reader.git_dir)) == []


async def test_ten_thousand_manifests_are_read_by_a_few_git_commands(
    repo: GitRepo, remote: RemoteSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.commit({f"f/{n}.yaml": f"kind: Canvas\nname: n{n}\n" * 20 for n in range(10_000)})
    revision = await remote.fetch()
    commands: list[str] = []
    run = GitRunner.run

    async def counted(self: GitRunner, git_dir: Path, *args: str, **options: Any) -> GitResult:
        commands.append(args[0])
        return await run(self, git_dir, *args, **options)

    monkeypatch.setattr(GitRunner, "run", counted)
    snapshot = await remote.snapshot(revision)
    read = await remote.read(snapshot)
    assert len(read) == 10_001
    assert len(commands) < 10, commands


# --- faults


@pytest.mark.fault
async def test_a9_a_fetch_killed_at_random_times_is_followed_by_a_good_one(
    repo: GitRepo, options: SourceOptions, tmp_path: Path
) -> None:
    rng = random.Random(9)
    script = (
        "import asyncio, sys; from pathlib import Path; from reconciler.source import SourceOptions, open_source\n"
        "o = SourceOptions(sys.argv[1], allow_hosts=('127.0.0.0/8',), deadline_s=20)\n"
        "print('go', flush=True)\nasyncio.run(open_source(o, Path(sys.argv[2])).fetch())"
    )
    for round_ in range(8):
        repo.commit({f"r{round_}/{n}.yaml": os.urandom(200_000) for n in range(10)}, f"round {round_}")
        with subprocess.Popen(
            [sys.executable, "-c", script, options.url, str(tmp_path / "state")], stdout=subprocess.PIPE, cwd=ROOT
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(rng.uniform(0.005, 0.12))
            child.send_signal(signal.SIGKILL)
        source = RemoteSource(options, tmp_path / "state")
        revision = await source.fetch()
        assert revision.commit == repo.head
        snapshot = await source.snapshot(revision)
        assert len(await source.read(snapshot)) == 1 + 10 * (round_ + 1)
    left = [p.name for p in mirror_of(tmp_path).rglob("*") if p.name.endswith(".lock") or p.name.startswith("tmp_")]
    assert left == []


@pytest.mark.fault
async def test_a9_stale_locks_and_temporary_packs_are_removed(repo: GitRepo, remote: RemoteSource, tmp_path: Path) -> None:
    await remote.fetch()
    mirror = mirror_of(tmp_path)
    for name in ("config.lock", "refs/heads/main.lock", "packed-refs.lock", "shallow.lock", "objects/pack/tmp_pack_abc"):
        (mirror / name).write_bytes(b"half")
    repo.commit({"b.yaml": "b"})
    assert (await remote.fetch()).commit == repo.head
    assert not list(mirror.rglob("*.lock"))
    assert not list(mirror.rglob("tmp_*"))


@pytest.mark.fault
@pytest.mark.parametrize("damage", ["pack", "head", "objects", "config", "ref"])
async def test_a9_a_damaged_mirror_is_cloned_again(repo: GitRepo, remote: RemoteSource, tmp_path: Path, damage: str) -> None:
    revision = await remote.fetch()
    mirror = mirror_of(tmp_path)
    if damage == "pack":
        for pack in mirror.glob("objects/pack/*.pack"):
            pack.chmod(0o600)
            pack.write_bytes(pack.read_bytes()[:40] + b"\0" * 100)
    elif damage == "head":
        (mirror / "HEAD").write_bytes(b"\0\0")
    elif damage == "objects":
        shutil.rmtree(mirror / "objects" / "pack")
    elif damage == "config":
        (mirror / "config").write_bytes(b"[[[[")
    else:
        (mirror / "refs/heads/main").write_bytes(b"zzzz")
    if damage == "pack":
        assert (await remote.read(await remote.snapshot(revision)))[0][2] == b"kind: Canvas\n"
    repo.commit({"b.yaml": "b"})
    newer = await remote.fetch()
    assert newer.commit == repo.head
    assert len(await remote.read(await remote.snapshot(newer))) == 2


@pytest.mark.fault
@pytest.mark.parametrize("status", [500, 503, 404])
async def test_c1_an_error_of_the_remote_keeps_the_last_revision_readable(
    server: GitHttpServer, remote: RemoteSource, status: int
) -> None:
    revision = await remote.fetch()
    server.status = status
    with pytest.raises(SourceUnreachable) as caught:
        await remote.fetch()
    assert caught.value.code == "RC2002"
    assert caught.value.hint
    assert len((await remote.snapshot(revision)).files) == 1
    server.status = 0
    assert await remote.fetch() == revision


@pytest.mark.fault
async def test_c1_a_refused_connection_and_an_unknown_name_are_unreachable(
    server: GitHttpServer, remote: RemoteSource, tmp_path: Path
) -> None:
    revision = await remote.fetch()
    server.stop()
    with pytest.raises(SourceUnreachable):
        await remote.fetch()
    assert len((await remote.snapshot(revision)).files) == 1
    nowhere = RemoteSource(SourceOptions("https://no-such-host.invalid/x.git", deadline_s=20), tmp_path / "state")
    with pytest.raises(SourceUnreachable, match="no-such-host"):
        await nowhere.fetch()


@pytest.mark.fault
async def test_c2_a_silent_remote_is_left_at_the_deadline_with_no_process_behind(
    server: GitHttpServer, options: SourceOptions, tmp_path: Path
) -> None:
    source = remake(options, tmp_path, deadline_s=1.0)
    server.mute = True
    with pytest.raises(SourceTimeout):
        await source.fetch()
    assert processes_with(f":{server.port}/") == []


@pytest.mark.fault
async def test_c2_a_pack_that_stalls_is_left_at_the_deadline_and_the_next_fetch_is_good(
    repo: GitRepo, server: GitHttpServer, options: SourceOptions, tmp_path: Path
) -> None:
    repo.commit({"big.yaml": os.urandom(300_000)})
    source = remake(options, tmp_path, deadline_s=1.5)
    server.stall_pack = True
    with pytest.raises(SourceTimeout):
        await source.fetch()
    assert processes_with(f":{server.port}/") == []
    server.stall_pack = False
    assert (await remake(options, tmp_path).fetch()).commit == repo.head


async def test_a_cancelled_fetch_leaves_no_process_behind(server: GitHttpServer, remote: RemoteSource) -> None:
    server.mute = True
    task = asyncio.create_task(remote.fetch())
    while not server.requests:
        await asyncio.sleep(0.02)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert processes_with(f":{server.port}/") == []


@pytest.mark.fault
async def test_c3_a_rewritten_branch_is_told_once_and_refused_where_fast_forward_is_required(
    repo: GitRepo, options: SourceOptions, tmp_path: Path
) -> None:
    source, strict = remake(options, tmp_path), remake(options, tmp_path, require_fast_forward=True)
    first = await source.fetch()
    repo.commit({"apps/a.yaml": "new: 1\n"}, orphan=True)
    with pytest.raises(NotFastForward) as caught:
        await strict.fetch()
    assert caught.value.code == "RC2010"
    with pytest.raises(NotFastForward):  # refused again: the mirror's branch did not move
        await strict.fetch()
    rewritten = await source.fetch()
    assert rewritten.commit == repo.head != first.commit
    assert rewritten.rewritten
    assert not (await source.fetch()).rewritten
    assert (await source.read(await source.snapshot(first)))[0][2] == b"kind: Canvas\n"


@pytest.mark.fault
async def test_c3_a_lost_mirror_does_not_let_a_rewritten_branch_through_a_running_process(
    repo: GitRepo, options: SourceOptions, tmp_path: Path
) -> None:
    strict = remake(options, tmp_path, require_fast_forward=True)
    await strict.fetch()
    shutil.rmtree(mirror_of(tmp_path))
    repo.commit({"apps/a.yaml": "new: 1\n"}, orphan=True)
    with pytest.raises(NotFastForward):
        await strict.fetch()


@pytest.mark.fault
async def test_c4_a_deleted_branch_is_an_error_and_never_an_empty_revision(repo: GitRepo, remote: RemoteSource) -> None:
    revision = await remote.fetch()
    repo.git("update-ref", "-d", "refs/heads/main")
    with pytest.raises(BranchGone) as caught:
        await remote.fetch()
    assert caught.value.code == "RC2004"
    assert len((await remote.snapshot(revision)).files) == 1


@pytest.mark.fault
async def test_c5_an_emptied_revision_is_refused_unless_that_is_allowed(repo: GitRepo, remote: RemoteSource) -> None:
    repo.commit({"apps/a.yaml": None})
    snapshot = await remote.snapshot(await remote.fetch())
    with pytest.raises(SourceEmpty):
        refuse_empty(snapshot, allow_empty=False)
    refuse_empty(snapshot, allow_empty=True)


@pytest.mark.fault
async def test_c5_a_source_path_that_is_gone_is_refused_whatever_is_allowed(
    repo: GitRepo, options: SourceOptions, tmp_path: Path
) -> None:
    source = remake(options, tmp_path, path="apps", allow_empty=True)
    await source.fetch()
    repo.commit({"apps/a.yaml": None, "apps": "now a file"})
    revision = await source.fetch()
    with pytest.raises(PathGone):
        await source.snapshot(revision)


@pytest.mark.fault
async def test_c8_a_huge_manifest_is_refused_by_its_size_without_being_read(repo: GitRepo, remote: RemoteSource) -> None:
    repo.commit({"huge.yaml": b"#" * (50 << 20), "huge.txt": b"#" * (2 << 20)})
    revision = await remote.fetch()
    with pytest.raises(SourceTooLarge, match=r"huge\.yaml has 52,428,800 bytes"):
        await remote.snapshot(revision)


@pytest.mark.fault
@pytest.mark.parametrize("caps", [Caps(files=5), Caps(revision_bytes=50), Caps(tree_entries=5)])
async def test_c8_a_revision_over_a_cap_is_refused(repo: GitRepo, options: SourceOptions, tmp_path: Path, caps: Caps) -> None:
    repo.commit({f"{n}.yaml": "kind: Canvas\n" for n in range(8)})
    source = remake(options, tmp_path, caps=caps)
    revision = await source.fetch()
    with pytest.raises(SourceTooLarge):
        await source.snapshot(revision)


@pytest.mark.fault
async def test_c8_a_pack_over_the_mirrors_quota_is_ended(
    repo: GitRepo, server: GitHttpServer, options: SourceOptions, tmp_path: Path
) -> None:
    source = remake(options, tmp_path, caps=Caps(mirror_bytes=1 << 20))
    revision = await source.fetch()
    repo.commit({"blob.bin": os.urandom(40 << 20)})
    with pytest.raises(SourceTooLarge, match="MiB"):
        await source.fetch()
    assert processes_with(f":{server.port}/") == []
    assert sum(p.stat().st_size for p in mirror_of(tmp_path).rglob("*") if p.is_file()) < 2 << 20
    assert len((await source.snapshot(revision)).files) == 1


@pytest.mark.fault
async def test_c9_symbolic_links_are_skipped_and_their_target_is_in_no_output(repo: GitRepo, remote: RemoteSource) -> None:
    out, loop, good = repo.blob(b"/etc/passwd-canary"), repo.blob(b"loop.yaml"), repo.blob(b"kind: Canvas\n")
    repo.commit_tree(repo.tree([("120000", "evil.yaml", out), ("100644", "good.yaml", good), ("120000", "loop.yaml", loop)]))
    snapshot = await remote.snapshot(await remote.fetch())
    assert [f.path for f in snapshot.files] == ["good.yaml"]
    assert [n.path for n in snapshot.notices] == ["evil.yaml", "loop.yaml"]
    assert "canary" not in repr(snapshot) + "".join(map(str, snapshot.notices)) + repr(await remote.read(snapshot))
    assert not snapshot.complete


@pytest.mark.fault
async def test_c9_a_source_path_through_a_symbolic_link_is_no_folder(
    repo: GitRepo, options: SourceOptions, tmp_path: Path
) -> None:
    good, link = repo.blob(b"kind: Canvas\n"), repo.blob(b"real")
    repo.commit_tree(repo.tree([("120000", "link", link), ("40000", "real", repo.tree([("100644", "a.yaml", good)]))]))
    source = remake(options, tmp_path, path="link")
    revision = await source.fetch()
    with pytest.raises(PathGone):
        await source.snapshot(revision)


@pytest.mark.fault
async def test_c10_a_submodule_is_skipped_and_nothing_more_is_fetched(
    repo: GitRepo, server: GitHttpServer, remote: RemoteSource
) -> None:
    modules = repo.blob(f'[submodule "lib"]\n\tpath = lib\n\turl = {server.url("other.git")}\n'.encode())
    good = repo.blob(b"kind: Canvas\n")
    repo.commit_tree(repo.tree([("100644", ".gitmodules", modules), ("100644", "a.yaml", good), ("160000", "lib", repo.head)]))
    snapshot = await remote.snapshot(await remote.fetch())
    assert [f.path for f in snapshot.files] == ["a.yaml"]
    assert [str(n) for n in snapshot.notices] == ["lib: skipped: submodules are never fetched"]
    assert not [path for _, path, _ in server.requests if "other.git" in path]


@pytest.mark.fault
async def test_c10_a_large_file_pointer_is_refused_with_the_reason_and_nothing_is_fetched(
    repo: GitRepo, server: GitHttpServer, remote: RemoteSource
) -> None:
    repo.commit(
        {
            "big.yaml": f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 12\n",
            ".gitattributes": "*.yaml filter=lfs diff=lfs\n",
        }
    )
    snapshot = await remote.snapshot(await remote.fetch())
    with pytest.raises(LfsPointer, match=r"big\.yaml"):
        await remote.read(snapshot)
    assert not [path for _, path, _ in server.requests if "lfs" in path]


@pytest.mark.fault
async def test_c10_attributes_with_filters_run_nothing(repo: GitRepo, remote: RemoteSource, tmp_path: Path) -> None:
    repo.commit({".gitattributes": "*.yaml filter=evil diff=evil working-tree-encoding=UTF-16\n", "b.yaml": "b: 1\n"})
    read = await remote.read(await remote.snapshot(await remote.fetch()))
    assert ("b.yaml", b"b: 1\n") in [(p, d) for p, _, d in read]


@pytest.mark.fault
@pytest.mark.parametrize("name", ["..", ".git", ".GIT", "git~1", ".g\u200cit"])
async def test_c11_a_tree_with_a_forbidden_name_is_refused_and_the_last_good_one_stays(
    repo: GitRepo, remote: RemoteSource, name: str
) -> None:
    revision = await remote.fetch()
    good = repo.blob(b"kind: Canvas\n")
    repo.commit_tree(repo.tree([("40000", name, repo.tree([("100644", "a.yaml", good)]))]))
    with pytest.raises(TreeRefused) as caught:
        await remote.fetch()
    assert caught.value.code == "RC2007"
    assert len((await remote.snapshot(revision)).files) == 1
    assert (await remote.resolve("main")).commit == revision.commit


@pytest.mark.fault
async def test_c23_a_mirror_of_another_user_is_refused_with_the_command_that_mends_it(
    remote: RemoteSource, tmp_path: Path
) -> None:
    await remote.fetch()
    os.chown(mirror_of(tmp_path), 12345, 12345)
    with pytest.raises(SourceOwnership, match="12345") as caught:
        await remote.fetch()
    assert caught.value.hint.startswith("chown -R 0 ")


@pytest.mark.fault
async def test_c24_a_token_is_in_no_argument_file_message_or_object_text(
    server: GitHttpServer, options: SourceOptions, tmp_path: Path
) -> None:
    canary = "ghp_canary0123456789"
    server.token = canary
    token = tmp_path / "token"
    token.write_text(canary + "\n")
    source = remake(options, tmp_path, token_file=token, deadline_s=2)
    await source.fetch()
    assert "Authorization" in server.requests[0][2]  # sent at once, never only after a refusal
    server.mute = True
    task = asyncio.create_task(source.fetch())
    seen: list[str] = []
    while not task.done():
        seen += processes_with("git")
        await asyncio.sleep(0.1)
    encoded = server.requests[0][2]["Authorization"].split()[1]
    with pytest.raises(SourceTimeout) as caught:
        task.result()
    texts = ["".join(seen), str(caught.value), repr(caught.value), repr(source._options), repr(source._remote)]
    texts += [p.read_bytes().decode("latin-1") for p in (tmp_path / "state").rglob("*") if p.is_file()]
    assert any("remote-http" in line for line in seen)
    assert [t for t in texts if canary in t or encoded in t] == []


async def test_a_wrong_token_is_an_auth_error_and_a_rotated_one_is_used_at_once(
    repo: GitRepo, server: GitHttpServer, options: SourceOptions, tmp_path: Path
) -> None:
    server.token = "right"
    token = tmp_path / "token"
    source = remake(options, tmp_path, token_file=token)
    with pytest.raises(Exception, match="cannot be read") as missing:
        await source.fetch()
    assert missing.value.code == "RC2003"  # type: ignore[attr-defined]
    token.write_text("wrong")
    with pytest.raises(SourceAuthFailed) as caught:
        await source.fetch()
    assert "wrong" not in str(caught.value)
    token.write_text("someone:right")
    assert (await source.fetch()).commit == repo.head


async def test_a_redirect_is_never_followed(server: GitHttpServer, options: SourceOptions, repo: GitRepo, tmp_path: Path) -> None:
    with GitHttpServer(repo.path.parent) as other:
        server.redirect = other.url("team.git") + "/info/refs?service=git-upload-pack"
        with pytest.raises(SourceMoved):
            await remake(options, tmp_path).fetch()
        assert other.requests == []


async def test_a_login_page_in_place_of_a_git_server_is_an_error_and_never_an_empty_revision(
    options: SourceOptions, tmp_path: Path
) -> None:
    class Login(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html>please log in</html>")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Login) as web:
        threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        with pytest.raises((SourceUnreachable, BranchGone)) as caught:  # Git takes it for an old server without refs
            await remake(options, tmp_path, url=f"http://127.0.0.1:{web.server_address[1]}/x.git").fetch()
        web.shutdown()
    assert "log in" not in str(caught.value)
    assert "Git server" in caught.value.hint or isinstance(caught.value, SourceUnreachable)


async def test_two_processes_may_fetch_into_one_mirror_at_once(repo: GitRepo, options: SourceOptions, tmp_path: Path) -> None:
    sources = [remake(options, tmp_path) for _ in range(4)]
    for n in range(3):
        repo.commit({f"{n}.yaml": "x"})
        found = await asyncio.gather(*(source.fetch() for source in sources))
        assert {revision.commit for revision in found} == {repo.head}


async def test_nothing_of_the_users_git_configuration_is_seen(
    repo: GitRepo, options: SourceOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = tmp_path / "evil"
    evil.write_text(f'[url "http://127.0.0.1:1/"]\n\tinsteadOf = {options.url}\n[core]\n\tsshCommand = touch {tmp_path}/ran\n')
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, str(evil))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert (await remake(options, tmp_path).fetch()).commit == repo.head


async def test_a_bad_branch_name_never_reaches_the_remote(options: SourceOptions, tmp_path: Path) -> None:
    for bad in ("--upload-pack=touch x", "a..b", "a b", "x:refs/heads/y", "*", "", "a.lock"):
        with pytest.raises(Exception, match="not the name of a branch"):
            await remake(options, tmp_path, branch=bad).fetch()


def test_options_are_frozen_and_hold_no_secret(options: SourceOptions) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.url = "x"  # type: ignore[misc]
