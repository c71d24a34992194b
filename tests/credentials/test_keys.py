"""The master key: its file, what is derived from it, and every way it can be wrong."""

from __future__ import annotations

import base64
import copy
import dataclasses
import hashlib
import hmac
import os
import pickle
import stat
import threading
from pathlib import Path

import pytest

from reconciler.config.settings import Config, MasterKeyConfig
from reconciler.credentials.keys import KeyRing, MasterKey, _check_access, hkdf, load_keyring, make_key, read_key
from reconciler.model.errors import ConfigError, ReconcilerError, StateError
from reconciler.model.secrets import SecretValue
from reconciler.model.values import Address, Uid

KEY = MasterKey(bytes(range(32)))
OTHER = MasterKey(bytes(range(1, 33)))
UID = Uid("0123456789abcdef0123")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "master.key"


def config(path: Path, previous: Path | None = None) -> Config:
    return dataclasses.replace(Config(), master_key=MasterKeyConfig(str(path), str(previous or "")))


def put(path: Path, material: bytes = bytes(range(32)), mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64encode(material) + b"\n")
    path.chmod(mode)
    return path


# RFC 5869, appendix A: cases 1, 2 and 3 (SHA-256).
@pytest.mark.parametrize(("ikm", "salt", "info", "okm"), [
    ("0b" * 22, "000102030405060708090a0b0c", "f0f1f2f3f4f5f6f7f8f9",
     "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"),
    (bytes(range(0x50)).hex(), bytes(range(0x60, 0xB0)).hex(), bytes(range(0xB0, 0x100)).hex(),
     "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
     "cc30c58179ec3e87c14c01d5c1f3434f1d87"),
    ("0b" * 22, "", "", "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"),
])  # fmt: skip
def test_hkdf_gives_the_vectors_of_the_rfc(ikm: str, salt: str, info: str, okm: str) -> None:
    assert hkdf(bytes.fromhex(ikm), bytes.fromhex(info), len(okm) // 2, bytes.fromhex(salt)).hex() == okm


def _independent(material: bytes, parts: list[str], length: int = 32) -> bytes:
    """HKDF written out with nothing but HMAC."""
    info = b"".join(len(p.encode()).to_bytes(4, "big") + p.encode() for p in parts)
    prk = hmac.new(b"\0" * 32, material, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\x01", hashlib.sha256).digest()[:length]


def test_a_signing_key_is_what_the_documented_derivation_gives_and_never_changes() -> None:
    key = KeyRing(KEY).signing_key("team-a", UID, 3).reveal()
    assert key == _independent(bytes(range(32)), ["reconciler/v1", "signing", "team-a", UID, "3"]).hex()
    assert KEY.key_id == _independent(bytes(range(32)), ["reconciler/v1", "key-id"], 4).hex()
    assert len(key) == 64


def test_the_standard_webhooks_secret_is_the_same_key_in_its_own_form() -> None:
    ring = KeyRing(KEY)
    text = ring.standard_webhooks_secret("a", UID, 0).reveal()
    assert text.startswith("whsec_")
    assert base64.b64decode(text.removeprefix("whsec_")) == bytes.fromhex(ring.signing_key("a", UID, 0).reveal())


def test_signing_keys_differ_by_owner_uid_rotation_and_master_key() -> None:
    ring = KeyRing(KEY, OTHER)
    keys = [
        ring.signing_key(*args).reveal()
        for args in (("a", UID, 0), ("b", UID, 0), ("a", Uid("f" * 20), 0), ("a", UID, 1), ("aa", UID, 0))
    ]
    keys.append(ring.signing_key("a", UID, 0, key=OTHER).reveal())
    assert len(set(keys)) == 6


def test_parts_that_only_join_to_the_same_text_derive_different_keys() -> None:
    assert KEY.derive("p", "ab", "c") != KEY.derive("p", "a", "bc")
    assert KEY.derive("p", "a") != KEY.derive("pa")


def test_a_fingerprint_is_bound_to_address_pointer_value_and_key() -> None:
    ring, address = KeyRing(KEY), Address("EventSource/default/a#github/repository-webhook[x/y]")
    base = ring.fingerprint(address, "/secret", SecretValue("v"))
    assert base == ring.fingerprint(address, "/secret", SecretValue("v"))
    assert base.startswith("hmac:")
    assert len(base) == 5 + 64
    others = {
        ring.fingerprint(Address("x"), "/secret", SecretValue("v")),
        ring.fingerprint(address, "/other", SecretValue("v")),
        ring.fingerprint(address, "/secret", SecretValue("w")),
        KeyRing(OTHER).fingerprint(address, "/secret", SecretValue("v")),
        ring.fingerprint(address, "/secre", SecretValue("tv")),
    }
    assert base not in others
    assert len(others) == 5
    assert hashlib.sha256(b"v").hexdigest() not in base


def test_a_key_is_found_by_the_id_in_a_marker() -> None:
    ring = KeyRing(KEY, OTHER)
    assert (ring.by_id(KEY.key_id), ring.by_id(OTHER.key_id), ring.by_id("00000000"), ring.by_id("")) == (KEY, OTHER, None, None)


def test_f5_a_key_is_in_no_repr_and_cannot_be_pickled() -> None:
    shown = repr(KeyRing(KEY, OTHER)) + str(KEY)
    assert base64.b64encode(bytes(range(32))).decode() not in shown
    assert bytes(range(32)).hex() not in shown
    for attempt in (lambda: pickle.dumps(KEY), lambda: copy.deepcopy(KEY), lambda: pickle.dumps(SecretValue("x"))):
        with pytest.raises(TypeError):
            attempt()


def test_f9_a_key_that_is_made_is_0600_whole_and_the_same_when_read(path: Path) -> None:
    before = os.umask(0)
    try:
        made = make_key(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert read_key(path).check_value == made.check_value
    assert [entry.name for entry in path.parent.iterdir()] == ["master.key"]
    assert len(base64.b64decode(path.read_text())) == 32


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o601, 0o777])
def test_f9_a_key_that_others_may_read_is_refused_with_the_command_that_mends_it(mode: int, path: Path) -> None:
    put(path, mode=mode)
    with pytest.raises(ConfigError, match=f"{mode:04o}") as caught:
        read_key(path)
    assert (caught.value.code, caught.value.exit_code) == ("RC4013", 1)
    assert caught.value.hint == f"chmod 600 {path}"
    path.chmod(0o400)
    assert read_key(path).key_id == KEY.key_id


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_f9_a_key_of_another_user_is_refused(path: Path) -> None:
    put(path)
    os.chown(path, 12345, -1)
    with pytest.raises(ConfigError, match="uid 12345") as caught:
        read_key(path)
    assert caught.value.code == "RC4013"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to a group, and become another user")
@pytest.mark.parametrize(
    ("owner", "group", "mode", "accepted"),
    [
        (0, 65532, 0o440, True),  # a Kubernetes Secret in a pod with fsGroup 65532
        (0, 65532, 0o460, False),
        (0, 65532, 0o444, False),
        (0, 12345, 0o440, False),
        (65532, 65532, 0o440, False),
    ],
)
def test_f9_a_key_that_root_lends_to_a_group_of_the_daemon_is_accepted(
    owner: int, group: int, mode: int, accepted: bool, path: Path
) -> None:
    put(path, mode=mode)
    os.chown(path, owner, group)
    groups, info = os.getgroups(), path.stat()
    os.setgroups([65532])
    os.seteuid(65532)
    try:
        if accepted:
            _check_access(path, info)
        else:
            with pytest.raises(ConfigError, match=f"{mode:04o}"):
                _check_access(path, info)
    finally:
        os.seteuid(0)
        os.setgroups(groups)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"short",
        b"not base64 !!",
        base64.b64encode(b"x" * 31),
        base64.b64encode(b"x" * 33),
        b"\xff" * 44,
        b"A" * 100_000,
    ],
)
def test_what_is_no_key_is_refused_and_not_repeated(data: bytes, path: Path) -> None:
    put(path)
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        read_key(path)
    assert caught.value.code == "RC4011"
    assert not data.strip() or data.strip().decode("latin1") not in str(caught.value)


def test_a_folder_a_pipe_and_a_dead_link_are_refused_without_waiting(path: Path) -> None:
    path.mkdir(parents=True)
    os.mkfifo(path.parent / "pipe", 0o600)
    (path.parent / "link").symlink_to("nowhere")
    for name in ("master.key", "pipe", "link"):
        with pytest.raises(ConfigError):
            load_keyring(config(path.parent / name), stored_check=None, create_allowed=True)
    assert not (path.parent / "nowhere").exists()


def test_a_key_is_made_only_where_neither_state_nor_key_exists(path: Path) -> None:
    with pytest.raises(ConfigError, match="no master key"):
        load_keyring(config(path), stored_check=None, create_allowed=False)
    assert not path.exists()
    with pytest.raises(StateError, match="missing") as caught:
        load_keyring(config(path), stored_check=KEY.check_value, create_allowed=True)
    assert caught.value.code == "RC4010"
    assert not path.exists()
    with pytest.raises(ConfigError, match="previousFile"):
        load_keyring(config(path, put(path.parent / "old")), stored_check=None, create_allowed=True)
    assert not path.exists()
    made = load_keyring(config(path), stored_check=None, create_allowed=True)
    again = load_keyring(config(path), stored_check=made.current.check_value, create_allowed=True)
    assert again.key_id == made.key_id


def test_a_lost_state_takes_the_key_that_is_there(path: Path) -> None:
    put(path)
    assert load_keyring(config(path), stored_check=None, create_allowed=True).key_id == KEY.key_id


def test_a_wrong_key_stops_with_the_reason_and_leaves_the_file_alone(path: Path) -> None:
    put(path, bytes(range(1, 33)))
    before = path.read_bytes()
    with pytest.raises(StateError) as caught:
        load_keyring(config(path), stored_check=KEY.check_value, create_allowed=True)
    assert (caught.value.code, caught.value.exit_code) == ("RC4012", 1)
    assert path.read_bytes() == before


def test_a_key_is_changed_with_the_old_one_named_as_the_previous(path: Path) -> None:
    put(path, bytes(range(1, 33)))
    old = put(path.parent / "old.key")
    ring = load_keyring(config(path, old), stored_check=KEY.check_value, create_allowed=False)
    assert ring.previous is not None
    assert (ring.key_id, ring.previous.key_id) == (OTHER.key_id, KEY.key_id)
    after = load_keyring(config(path), stored_check=ring.current.check_value, create_allowed=False)
    assert after.key_id == OTHER.key_id


def test_of_two_that_make_a_key_at_once_one_wins_and_the_other_is_told(path: Path) -> None:
    results: list[object] = []

    def attempt() -> None:
        try:
            results.append(make_key(path).check_value)
        except ReconcilerError as error:
            results.append(error.code)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count("RC4010") == 7
    assert read_key(path).check_value in results
    assert [entry.name for entry in path.parent.iterdir()] == ["master.key"]
