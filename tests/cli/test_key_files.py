"""New files for secrets: nothing is replaced, and nothing is left by a failure."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from reconciler.cli.key_files import KeyFiles
from reconciler.model.errors import ReconcilerError
from reconciler.model.secrets import SecretValue


def test_a_file_that_appears_after_the_check_is_not_replaced(tmp_path: Path) -> None:
    path, files = tmp_path / "key", KeyFiles()
    files.require_new(path)
    path.write_text("theirs")
    with pytest.raises(ReconcilerError) as caught:
        files.reserve(path)
    assert caught.value.code == "RC4206"
    files.discard()
    assert path.read_text() == "theirs"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ReconcilerError):
        KeyFiles().reserve(path)
    assert not (tmp_path / "elsewhere").exists()


def test_what_is_kept_has_mode_0600_and_what_stays_empty_goes(tmp_path: Path) -> None:
    files, key, other = KeyFiles(), tmp_path / "new" / "key", tmp_path / "new" / "other"
    before = os.umask(0)
    try:
        files.reserve(key)
        files.reserve(other)
    finally:
        os.umask(before)
    files.write(key, SecretValue("canary" * 5000))
    files.keep()
    files.discard()
    assert (key.read_text(), stat.S_IMODE(key.stat().st_mode)) == ("canary" * 5000, 0o600)
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert not other.exists()


def test_what_is_not_kept_goes(tmp_path: Path) -> None:
    files, key = KeyFiles(), tmp_path / "key"
    files.reserve(key)
    files.write(key, SecretValue("canary"))
    files.discard()
    assert not key.exists()
