"""The signature gate, with real SSH keys and real signatures."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from reconciler.source import SourceOptions, VerifyMode, VerifyOptions
from reconciler.source.errors import SignatureRefused
from reconciler.source.mirror import RemoteSource
from tests.source.conftest import remake
from tests.support.gitrepo import GitRepo


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    for name in ("alice", "bob", "mallory", "expired", "revoked"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)], check=True)

    def public(name: str) -> str:
        return " ".join((folder / f"{name}.pub").read_text().split()[:2])

    (folder / "allowed").write_text(
        f'alice@example.com namespaces="git" {public("alice")}\nbob@example.com {public("bob")}\n'
        f"revoked@example.com {public('revoked')}\n"
        f'expired@example.com valid-before="20200101" {public("expired")}\n'
    )
    subprocess.run(["ssh-keygen", "-q", "-k", "-f", str(folder / "krl"), str(folder / "revoked.pub")], check=True)
    return folder


@pytest.fixture
def gate(keys: Path) -> VerifyOptions:
    return VerifyOptions(keys / "allowed", revocation_file=keys / "krl")


def sign(repo: GitRepo, key: Path | None) -> str:
    tree = repo.git("rev-parse", f"{repo.head}^{{tree}}")
    return repo.commit_tree(tree, "signed", sign=str(key) if key else "")


def gated(options: SourceOptions, tmp_path: Path, gate: VerifyOptions) -> RemoteSource:
    return remake(options, tmp_path, verify=gate)


@pytest.mark.fault
async def test_c21_a_revision_signed_by_an_allowed_signer_is_taken(
    repo: GitRepo, options: SourceOptions, tmp_path: Path, keys: Path, gate: VerifyOptions
) -> None:
    sha = sign(repo, keys / "alice")
    revision = await gated(options, tmp_path, gate).fetch()
    assert (revision.commit, revision.signer) == (sha, "alice@example.com")


@pytest.mark.fault
@pytest.mark.parametrize("signer", [None, "mallory", "expired", "revoked"])
async def test_c21_an_unsigned_unknown_expired_or_revoked_signer_is_refused_and_the_last_good_revision_stays(
    repo: GitRepo, options: SourceOptions, tmp_path: Path, keys: Path, gate: VerifyOptions, signer: str | None
) -> None:
    good = sign(repo, keys / "alice")
    source = gated(options, tmp_path, gate)
    await source.fetch()
    sign(repo, keys / signer if signer else None)
    for _ in range(2):
        with pytest.raises(SignatureRefused) as caught:
            await source.fetch()
    assert caught.value.code == "RC2014"
    assert (await source.resolve("main")).commit == good


@pytest.mark.fault
async def test_c21_only_the_named_principals_may_sign(
    repo: GitRepo, options: SourceOptions, tmp_path: Path, keys: Path, gate: VerifyOptions
) -> None:
    source = gated(options, tmp_path, dataclasses.replace(gate, principals=("alice@example.com",)))
    sign(repo, keys / "bob")
    with pytest.raises(SignatureRefused, match=r"bob@example\.com"):
        await source.fetch()
    sign(repo, keys / "alice")
    await source.fetch()


@pytest.mark.fault
async def test_c21_a_key_revoked_later_stops_the_same_revision(
    repo: GitRepo, options: SourceOptions, tmp_path: Path, keys: Path, gate: VerifyOptions
) -> None:
    sign(repo, keys / "alice")
    source = gated(options, tmp_path, gate)
    await source.fetch()
    subprocess.run(["ssh-keygen", "-q", "-k", "-u", "-f", str(keys / "krl"), str(keys / "alice.pub")], check=True)
    with pytest.raises(SignatureRefused):
        await source.fetch()


@pytest.mark.fault
async def test_c22_mode_range_refuses_a_signed_head_over_unsigned_commits_and_mode_head_takes_it(
    repo: GitRepo, options: SourceOptions, tmp_path: Path, keys: Path, gate: VerifyOptions
) -> None:
    strict = gated(options, tmp_path, dataclasses.replace(gate, mode=VerifyMode.RANGE))
    sign(repo, keys / "alice")
    await strict.fetch()
    sign(repo, None)
    head = sign(repo, keys / "alice")
    with pytest.raises(SignatureRefused):
        await strict.fetch()
    assert (await gated(options, tmp_path, gate).fetch()).commit == head


async def test_a_missing_list_of_signers_stops_with_the_reason(
    options: SourceOptions, tmp_path: Path, gate: VerifyOptions
) -> None:
    source = gated(options, tmp_path, dataclasses.replace(gate, allowed_signers_file=tmp_path / "none"))
    with pytest.raises(SignatureRefused, match="allowedSigners"):
        await source.fetch()
