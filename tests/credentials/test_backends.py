"""Secret backends on real files and environments."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.config.settings import SecretsConfig
from reconciler.credentials.backends import CACHE_S, MAX_BYTES, SecretResolver
from reconciler.credentials.redact import Redactor
from reconciler.model.errors import SecretUnavailable
from reconciler.model.resources import Resource, SecretRef
from tests.credentials.conftest import by_id, secret

VALUE = "canary-s3cr3t-value"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def resolver(folder: Path, *resources: Resource, **options: object) -> SecretResolver:
    return SecretResolver(by_id(*resources), SecretsConfig(folder=str(folder)), **options)  # type: ignore[arg-type]


def file_value(folder: Path, path: str) -> str:
    return resolver(folder, secret("s", "file", {"k": {"path": path}})).read(SecretRef("default", "s", "k")).reveal()


def refusal(folder: Path, path: str) -> SecretUnavailable:
    with pytest.raises(SecretUnavailable) as caught:
        file_value(folder, path)
    assert VALUE not in str(caught.value) + caught.value.hint
    return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "secrets"
    path.mkdir()
    (tmp_path / "outside").write_text(VALUE)
    return path


def put(path: Path, text: str | bytes, mode: int = 0o600) -> None:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)


@pytest.mark.parametrize(
    ("content", "value"), [("a\n", "a"), ("a\n\n", "a\n"), ("a\r\n", "a"), ("a", "a"), (" a \n", " a "), ("a\nb\n", "a\nb")]
)
def test_one_trailing_line_break_of_a_file_is_no_part_of_the_value(content: str, value: str, folder: Path) -> None:
    put(folder / "f", content)
    assert file_value(folder, "f") == value


@pytest.mark.parametrize("path", ["../outside", "a/../../outside", "/etc/passwd", ".", "", "..", "a\0b"])
def test_a_path_out_of_the_secrets_folder_is_refused(path: str, folder: Path) -> None:
    assert refusal(folder, path).code == "RC4002"


def test_a_link_out_of_the_secrets_folder_is_refused(folder: Path) -> None:
    (folder / "link").symlink_to("../outside")
    (folder / "absolute").symlink_to(folder.parent / "outside")
    (folder / "up").symlink_to("..")
    (folder / "loop").symlink_to("loop")
    for path in ("link", "absolute", "up/outside"):
        assert refusal(folder, path).code == "RC4002"
    refusal(folder, "loop")


def test_the_links_of_a_kubernetes_mount_are_followed_and_a_new_mount_is_read(folder: Path) -> None:
    for name, value in (("..2026_1", "old"), ("..2026_2", "new")):
        (folder / name).mkdir()
        put(folder / name / "token", value)
    (folder / "..data").symlink_to("..2026_1")
    (folder / "token").symlink_to("..data/token")
    assert file_value(folder, "token") == "old"
    (folder / "..tmp").symlink_to("..2026_2")
    (folder / "..tmp").rename(folder / "..data")
    assert file_value(folder, "token") == "new"


def test_what_is_no_file_or_too_large_or_no_text_is_refused_without_waiting(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "dir").mkdir()
    put(folder / "large", "x" * (MAX_BYTES + 1))
    put(folder / "whole", "x" * MAX_BYTES)
    put(folder / "binary", b"\xff\xfe\x00")
    assert [refusal(folder, path).code for path in ("pipe", "dir", "large", "binary")] == ["RC4002"] * 4
    assert len(file_value(folder, "whole")) == MAX_BYTES


def test_no_file_descriptor_is_left_open(folder: Path) -> None:
    (folder / "dir").mkdir()
    put(folder / "f", "value")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        refusal(folder, "dir")
        refusal(folder, "missing")
        file_value(folder, "f")
    assert len(os.listdir("/proc/self/fd")) == before


def test_f4_missing_empty_and_rotated_files_concern_only_their_users(folder: Path) -> None:
    clock = Clock()
    put(folder / "good", "good-value")
    put(folder / "empty", "\n")
    reader = resolver(folder, secret("s", "file", {k: {"path": k} for k in ("good", "empty", "missing")}), monotonic=clock)
    for key in ("empty", "missing"):
        with pytest.raises(SecretUnavailable, match=rf"Secret/s key '{key}'") as caught:
            reader.read(SecretRef("default", "s", key))
        assert caught.value.code == "RC4001"
    assert reader.read(SecretRef("default", "s", "good")).reveal() == "good-value"
    put(folder / "missing", "now-there")
    assert reader.read(SecretRef("default", "s", "missing")).reveal() == "now-there"  # a failure is never remembered
    put(folder / "good", "rotated-value")
    clock.now += CACHE_S - 1
    assert reader.read(SecretRef("default", "s", "good")).reveal() == "good-value"
    clock.now += 1
    assert reader.read(SecretRef("default", "s", "good")).reveal() == "rotated-value"
    (folder / "good").unlink()
    clock.now += CACHE_S
    with pytest.raises(SecretUnavailable):
        reader.read(SecretRef("default", "s", "good"))


def test_f4_a_value_that_was_refused_is_read_again_at_once(folder: Path) -> None:
    put(folder / "f", "first-value")
    reader, ref = resolver(folder, secret("s", "file", {"k": {"path": "f"}})), SecretRef("default", "s", "k")
    assert reader.read(ref).reveal() == "first-value"
    put(folder / "f", "second-value")
    assert reader.read(ref).reveal() == "first-value"
    reader.forget(ref)
    assert reader.read(ref).reveal() == "second-value"
    put(folder / "f", "third-value")
    reader.forget()
    assert reader.read(ref).reveal() == "third-value"


def test_only_variables_that_the_configuration_allows_are_read(tmp_path: Path) -> None:
    env = {"RECONCILER_SECRET_A": VALUE, "AWS_SECRET_ACCESS_KEY": VALUE, "RECONCILER_SECRET_EMPTY": ""}
    names = {
        "a": "RECONCILER_SECRET_A",
        "aws": "AWS_SECRET_ACCESS_KEY",
        "empty": "RECONCILER_SECRET_EMPTY",
        "unset": "RECONCILER_SECRET_B",
    }
    reader = resolver(tmp_path, secret("s", "env", {key: {"env": name} for key, name in names.items()}), environ=env)
    assert reader.read(SecretRef("default", "s", "a")).reveal() == VALUE
    codes = {}
    for key in ("aws", "empty", "unset"):
        with pytest.raises(SecretUnavailable) as caught:
            reader.read(SecretRef("default", "s", key))
        assert VALUE not in str(caught.value)
        codes[key] = caught.value.code
    assert codes == {"aws": "RC4002", "empty": "RC4001", "unset": "RC4001"}


def test_literal_values_are_for_the_sandbox_only(tmp_path: Path) -> None:
    resource = secret("s", "local", {"k": VALUE})
    assert resolver(tmp_path, resource, sandbox=True).read(SecretRef("default", "s", "k")).reveal() == VALUE
    with pytest.raises(SecretUnavailable, match="sandbox") as caught:
        resolver(tmp_path, resource).read(SecretRef("default", "s", "k"))
    assert caught.value.code == "RC4003"
    assert VALUE not in str(caught.value)


@pytest.mark.parametrize("provider", ["vault", "sops"])
def test_a_provider_that_has_not_landed_says_so(provider: str, tmp_path: Path) -> None:
    with pytest.raises(SecretUnavailable, match=provider) as caught:
        resolver(tmp_path, secret("s", provider, {"k": {}})).read(SecretRef("default", "s", "k"))
    assert caught.value.code == "RC4004"


def test_unknown_secrets_keys_and_forms_are_named(tmp_path: Path) -> None:
    reader = resolver(tmp_path, secret("s", "file", {"k": {"env": "X"}, "l": {"path": "l"}}))
    with pytest.raises(SecretUnavailable, match="not declared"):
        reader.read(SecretRef("default", "t", "k"))
    with pytest.raises(SecretUnavailable, match="no key 'z'") as caught:
        reader.read(SecretRef("default", "s", "z"))
    assert "k, l" in caught.value.hint
    with pytest.raises(SecretUnavailable, match=r"wants \{path"):
        reader.read(SecretRef("default", "s", "k"))


def test_every_value_that_is_read_is_told_to_the_redactor(folder: Path) -> None:
    redactor = Redactor()
    put(folder / "f", VALUE)
    reader = resolver(folder, secret("s", "file", {"k": {"path": "f"}}), redactor=redactor)
    assert redactor.redact(f"x {VALUE}") == f"x {VALUE}"
    value = reader.read(SecretRef("default", "s", "k"))
    assert redactor.redact(f"x {VALUE}") == "x ***"
    assert VALUE not in f"{value!r} {value} {value:>5}"


def test_a_file_that_others_may_read_is_reported_without_its_value(folder: Path) -> None:
    put(folder / "wide", VALUE, 0o644)
    put(folder / "narrow", VALUE, 0o640)
    reader = resolver(folder, secret("s", "file", {k: {"path": k} for k in ("wide", "narrow")}))
    for key in ("wide", "narrow"):
        reader.read(SecretRef("default", "s", key))
    assert reader.warnings() == (f"{folder}/wide has mode 0644: others on this host may read it",)
    (folder / "wide").chmod(0o600)
    reader.forget()
    reader.read(SecretRef("default", "s", "wide"))
    assert reader.warnings() == ()


def test_the_folders_to_watch_are_those_of_the_files_and_never_outside(folder: Path) -> None:
    (folder / "sub").mkdir()
    reader = resolver(
        folder,
        secret("a", "file", {"k": {"path": "sub/x"}, "l": {"path": "../outside"}, "m": {"path": "none/x"}}),
        secret("b", "env", {}),
    )
    assert reader.watch_paths() == (folder, folder / "sub")


def test_check_reads_every_key_of_a_secret(folder: Path) -> None:
    put(folder / "a", "value-a")
    resource = secret("s", "file", {"a": {"path": "a"}, "b": {"path": "b"}})
    with pytest.raises(SecretUnavailable, match="key 'b'"):
        resolver(folder, resource).check(resource)
    put(folder / "b", "value-b")
    resolver(folder, resource).check(resource)
