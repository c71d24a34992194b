"""The guarded runner, and what Git's texts are taken for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.source.classify import error_of
from reconciler.source.errors import MirrorDamaged, SourceTimeout, SourceTooLarge, SourceUnreachable
from reconciler.source.runner import GitResult, GitRunner, ProcessResult, ssh_command
from tests.source.conftest import processes_with
from tests.support.gitrepo import GitRepo

SOURCE = Path(__file__).parents[2] / "reconciler"


async def test_the_environment_is_ours_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECONCILER_SECRET_X", "canary")
    monkeypatch.setenv("GIT_SSH", "/bin/evil")
    env = GitRunner(tmp_path, ("https",)).environment(tmp_path / "x.git", {"a.b": "c"})
    assert "canary" not in env.values()
    assert "GIT_SSH" not in env
    assert (env["GIT_ALLOW_PROTOCOL"], env["HOME"], env["GIT_TERMINAL_PROMPT"]) == ("https", str(tmp_path), "0")
    assert (env["GIT_CONFIG_COUNT"], env["GIT_CONFIG_KEY_0"], env["GIT_CONFIG_VALUE_0"]) == ("1", "a.b", "c")


async def test_a_protocol_that_is_not_allowed_is_refused_by_git_itself(tmp_path: Path, repo: GitRepo) -> None:
    for url in (f"file://{repo.path}", f"ext::sh -c touch% {tmp_path}/ran", str(repo.path)):
        result = await GitRunner(tmp_path, ("https", "ssh")).run(None, "ls-remote", "--end-of-options", url)
        assert result.returncode != 0
        assert "not allowed" in result.reason
    assert not (tmp_path / "ran").exists()


async def test_hooks_of_a_repository_are_never_run(tmp_path: Path, repo: GitRepo) -> None:
    hook = repo.path / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    result = await GitRunner(tmp_path).run(repo.path, "update-ref", "refs/heads/x", repo.head)
    assert result.returncode == 0
    assert not (tmp_path / "ran").exists()


async def test_the_deadline_kills_the_whole_group(tmp_path: Path, repo: GitRepo) -> None:
    mark = f"sleep 61.{os.getpid()}"
    with pytest.raises(SourceTimeout):
        await GitRunner(tmp_path).run(repo.path, "-c", f"alias.hang=!{mark} & {mark}", "hang", run=ProcessResult(deadline_s=0.5))
    assert processes_with(mark) == []


async def test_output_over_its_bound_ends_the_process(tmp_path: Path, repo: GitRepo) -> None:
    with pytest.raises(SourceTooLarge):
        await GitRunner(tmp_path).run(repo.path, "-c", "alias.flood=!yes", "flood", run=ProcessResult(max_stdout_bytes=1 << 20))


async def test_secrets_and_control_characters_are_cut_out_of_what_git_prints(tmp_path: Path, repo: GitRepo) -> None:
    result = await GitRunner(tmp_path).run(
        repo.path,
        "-c",
        r"alias.say=!printf 'fatal: tok-canary \033[31m\342\200\256x\n' >&2; false",
        "say",
        run=ProcessResult(secrets=("tok-canary",)),
    )
    assert result.reason == "*** ?[31m?x"
    assert "tok-canary" not in result.stderr


def test_ssh_paths_with_spaces_and_percent_signs_stay_one_word() -> None:
    command = ssh_command(Path("/a b/k%h"), Path("/c'd/known hosts"))
    assert 'IdentityFile="/a b/k%%h"' in command
    assert "StrictHostKeyChecking=yes" in command
    assert "BatchMode=yes" in command


@pytest.mark.parametrize(
    ("stderr", "kind"),
    [
        ("remote: fsck error in tree\nfatal: unable to access 'x': The requested URL returned error: 502\n", SourceUnreachable),
        ("fatal: unable to access 'x': Could not resolve host: x\n", SourceUnreachable),
        ("error: RPC failed; curl 18 transfer closed\nfatal: early EOF\nfatal: index-pack died of signal 15\n", MirrorDamaged),
    ],
)
def test_the_remotes_own_words_do_not_choose_the_error(stderr: str, kind: type[Exception]) -> None:
    result = GitResult(128, b"", stderr)
    assert type(error_of(result, "main")) is kind
    assert type(error_of(result, "main", mirror_is_whole=True)) is SourceUnreachable


def test_processes_are_started_in_one_place_only_and_never_by_a_shell() -> None:
    words = ("subprocess.run(", "subprocess.Popen(", "create_subprocess", "os.system(", "shell=True", "os.popen(", "repo.git.")
    found = {path.name for path in (SOURCE / "source").glob("*.py") for word in words if word in path.read_text()}
    assert found == {"runner.py"}
