"""A remote over SSH, served by a real OpenSSH server on loopback."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from reconciler.model.errors import ConfigError
from reconciler.source import SourceOptions, open_source
from reconciler.source.errors import HostKeyRefused, SourceAuthFailed, SourceUnreachable
from tests.source.conftest import Sshd
from tests.support.gitrepo import GitRepo


def options_for(sshd: Sshd, url: str, **changes: object) -> SourceOptions:
    values: dict[str, object] = {
        "ssh_key_file": sshd.client_key,
        "known_hosts_file": sshd.known_hosts,
        "deadline_s": 30.0,
        **changes,
    }
    return SourceOptions(url, **values)  # type: ignore[arg-type]


async def test_a_repository_is_read_over_ssh_with_our_key_and_host_keys_only(sshd: Sshd, repo: GitRepo, tmp_path: Path) -> None:
    source = open_source(options_for(sshd, sshd.url(repo.path)), tmp_path / "state")
    revision = await source.fetch()
    assert revision.commit == repo.head
    assert [f.path for f in (await source.snapshot(revision)).files] == ["apps/a.yaml"]


async def test_an_unknown_host_key_is_refused_without_asking(sshd: Sshd, repo: GitRepo, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    kind, key, *_ = (tmp_path / "other.pub").read_text().split()
    for number, text in enumerate(("", f"[127.0.0.1]:{sshd.port} {kind} {key}\n")):
        known = tmp_path / f"known{number}"
        known.write_text(text)
        with pytest.raises(HostKeyRefused) as caught:
            await open_source(options_for(sshd, sshd.url(repo.path), known_hosts_file=known), tmp_path / "state").fetch()
        assert caught.value.code == "RC2012"
        assert known.read_text() == text  # never learned


async def test_a_wrong_key_is_an_auth_error(sshd: Sshd, repo: GitRepo, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    with pytest.raises(SourceAuthFailed):
        await open_source(options_for(sshd, sshd.url(repo.path), ssh_key_file=tmp_path / "other"), tmp_path / "state").fetch()


async def test_a_repository_that_is_not_there_is_named_so(sshd: Sshd, tmp_path: Path) -> None:
    with pytest.raises(SourceUnreachable, match="not found"):
        await open_source(options_for(sshd, sshd.url(tmp_path / "none.git")), tmp_path / "state").fetch()


@pytest.mark.parametrize("missing", ["ssh_key_file", "known_hosts_file"])
def test_a_source_over_ssh_needs_key_and_host_keys(tmp_path: Path, missing: str) -> None:
    values = {"ssh_key_file": tmp_path / "k", "known_hosts_file": tmp_path / "h", missing: None}
    for url in ("ssh://git@example.com/x.git", "git@example.com:acme/x.git"):
        with pytest.raises(ConfigError, match="knownHostsFile"):
            open_source(SourceOptions(url, **values), tmp_path)  # type: ignore[arg-type]
