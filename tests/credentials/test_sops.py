"""Secrets in files that SOPS encrypted: every rule of the format, and no value of a file that somebody changed."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyrage
import pytest
import yaml
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import GCM

from reconciler.config.settings import SecretsConfig
from reconciler.credentials.backends import SecretResolver
from reconciler.credentials.redact import Redactor
from reconciler.credentials.remote import RemoteSecrets
from reconciler.credentials.sops import MAX_BYTES, MAX_DEPTH, MAX_NODES, SopsBackend, SopsError, decrypt, read_identities
from reconciler.model.errors import SecretUnavailable
from reconciler.model.resources import EncryptedFile, Location, Resource, ResourceId, SecretRef

IDENTITY = pyrage.x25519.Identity.generate()
OTHER = pyrage.x25519.Identity.generate()
VALUE = "canary-of-the-encrypted-file"
TREE = {
    "db": {
        "password": VALUE,
        "port": 5432,
        "ratio": 0.5,
        "on": True,
        "hosts": ["a", "b", {"name": "c"}],
        "none": None,
        "empty": "",
    },
    "note_unencrypted": {"owner": "team", "big": 1e21, "small": 1e-07, "whole": 3.0, "yes": "yes"},
}
Tree = Mapping[str, Any]


def _bytes(value: object) -> bytes:
    if isinstance(value, bool):
        return str(value).encode()
    if isinstance(value, float):
        return {1e21: b"1000000000000000000000", 1e-07: b"0.0000001", 3.0: b"3"}.get(value) or repr(value).encode()
    return str(value).encode()


def _seal(key: bytes, value: object, bound_to: str) -> str:
    iv = os.urandom(32)
    sealer = Cipher(AES256(key), GCM(iv)).encryptor()
    sealer.authenticate_additional_data(bound_to.encode())
    data = sealer.update(_bytes(value)) + sealer.finalize()
    parts = (base64.b64encode(part).decode() for part in (data, iv, sealer.tag))
    kind = {bool: "bool", int: "int", float: "float"}.get(type(value), "str")
    return "ENC[AES256_GCM,data:{},iv:{},tag:{},type:{}]".format(*parts, kind)


def encrypted(
    tree: Tree,
    encrypts: Callable[[str], bool] = lambda key: not key.endswith("_unencrypted"),
    recipient: Any = None,
    **rules: Any,
) -> dict[str, Any]:
    """Return ``tree`` as SOPS encrypts it: written from the description of the format, not from the code under test."""
    key, mac = os.urandom(32), hashlib.sha512()
    if rules.get("mac_only_encrypted"):
        mac.update(hashlib.sha256(b"sops").digest())

    def walk(node: Any, keys: tuple[str, ...], inside: bool) -> Any:
        if isinstance(node, dict):
            return {name: walk(item, (*keys, name), inside_of(name, inside)) for name, item in node.items()}
        if isinstance(node, list):
            return [walk(item, keys, inside) for item in node]
        if node is None:
            return None
        if inside or not rules.get("mac_only_encrypted"):
            mac.update(_bytes(node))
        return _seal(key, node, ":".join(keys) + ":") if inside and node != "" else node

    def inside_of(name: str, inside: bool) -> bool:
        return (inside or encrypts(name)) if rules.keys() & {"encrypted_regex", "encrypted_suffix"} else inside and encrypts(name)

    body = walk(tree, (), not rules.keys() & {"encrypted_regex", "encrypted_suffix"})
    stamp = "2026-11-27T10:00:00Z"
    to = [recipient or IDENTITY.to_public()]
    age = [{"recipient": str(each), "enc": pyrage.encrypt(key, [each], armored=True).decode()} for each in to]
    body["sops"] = {
        "age": age,
        "lastmodified": stamp,
        "mac": _seal(key, mac.hexdigest().upper(), stamp),
        "version": "3.11.0",
        **rules,
    }
    return body


def opened(document: Tree | str | bytes) -> dict[str, str | None]:
    data = document if isinstance(document, bytes) else document.encode() if isinstance(document, str) else yamled(document)
    return {path: leaf.text for path, leaf in decrypt(data, [IDENTITY]).items()}


def yamled(document: Tree) -> bytes:
    return yaml.safe_dump(dict(document), sort_keys=False).encode()


def refused(document: Tree | str | bytes) -> SopsError:
    with pytest.raises(SopsError) as caught:
        opened(document)
    assert VALUE not in f"{caught.value.message} {caught.value.hint}"
    return caught.value


@pytest.mark.parametrize("write", [yamled, lambda document: json.dumps(document, indent="\t").encode()], ids=["yaml", "json"])
def test_types_lists_and_clear_values_are_read_and_the_mac_holds(write: Callable[[Tree], bytes]):
    values = opened(write(encrypted(TREE)))
    assert values["db.password"] == VALUE
    assert (values["db.port"], values["db.ratio"], values["db.on"]) == ("5432", "0.5", "true")
    assert (values["db.hosts.1"], values["db.hosts.2.name"]) == ("b", "c")
    assert (values["note_unencrypted.owner"], values["note_unencrypted.yes"]) == ("team", "yes")
    assert (values["db.none"], values["db.empty"]) == (None, "")


def test_every_rule_of_what_is_encrypted_is_followed():
    data = {"data": {"token": VALUE}, "kind": "plain"}
    for document in (
        encrypted(data, lambda key: re.search("^data$", key) is not None, encrypted_regex="^data$"),
        encrypted(data, lambda key: re.search("^kind$", key) is None, unencrypted_regex="^kind$"),
        encrypted(data, lambda key: key.endswith("ta"), encrypted_suffix="ta"),
        encrypted(data, lambda key: not key.endswith("nd"), unencrypted_suffix="nd"),
        encrypted(data, lambda key: key == "data", encrypted_regex="^data$", mac_only_encrypted=True),
    ):
        assert document["kind"] == "plain"
        assert opened(document) == {"data.token": VALUE, "kind": "plain"}


def test_a_clear_value_may_change_only_where_the_mac_leaves_it_out():
    data = {"data": {"token": VALUE}, "kind": "plain"}
    rules = {"encrypted_regex": "^data$"}
    whole = encrypted(data, lambda key: key == "data", **rules)
    assert refused({**whole, "kind": "other"}).code == "RC4086"
    narrow = encrypted(data, lambda key: key == "data", **rules, mac_only_encrypted=True)
    assert opened({**narrow, "kind": "other"})["data.token"] == VALUE
    narrow["sops"]["mac_only_encrypted"] = False
    assert refused(narrow).code == "RC4086"


def test_comments_do_not_matter():
    text = yamled(encrypted({"a": VALUE, "b": "2"})).decode()
    assert opened(f"#ENC[AES256_GCM,data:AA==,iv:AA==,tag:AA==,type:comment]\n# clear\n{text}")["a"] == VALUE


def test_every_change_refuses_the_whole_file():
    def changed(change: Callable[[dict[str, Any]], object]) -> str:
        document = encrypted({"a": VALUE, "b": "other", "c": ["x", "y"]})
        change(document)
        return refused(document).code

    assert {
        changed(lambda d: d.update(a=d["b"])),  # moved
        changed(lambda d: d.pop("b")),
        changed(lambda d: d.update(d=d["a"])),
        changed(lambda d: d["c"].reverse()),
        changed(lambda d: d.update(a="in clear text")),
        changed(lambda d: d.update(b="")),
        changed(lambda d: d.update(a=d["a"].replace("type:str", "type:bytes").replace("tag:", "tag:AA"))),
        changed(lambda d: d["sops"].update(lastmodified="2027-01-01T00:00:00Z")),
        changed(lambda d: d["sops"].update(mac=encrypted({"a": "1"})["sops"]["mac"])),
        changed(lambda d: d["sops"].update(mac="none")),
        changed(lambda d: d["sops"].pop("mac")),
        changed(lambda d: d.update(sops=[])),
        changed(lambda d: d.pop("sops")),
    } == {"RC4086"}


def test_a_broken_code_of_the_file_is_told_from_a_broken_value():
    document = encrypted({"a": VALUE, "b": [{"c": "x"}]})
    document["sops"]["lastmodified"] = "2027-01-01T00:00:00Z"
    assert "message authentication code of the file was changed" in refused(document).message
    document = encrypted({"a": VALUE, "b": [{"c": "x"}]})
    document["b"][0]["c"] = document["a"]
    assert "the value at b.0.c was changed or moved" in refused(document).message


def test_files_for_others_say_for_whom():
    assert IDENTITY.to_public().__str__() not in refused(encrypted({"a": VALUE}, recipient=OTHER.to_public())).message
    assert str(OTHER.to_public()) in refused(encrypted({"a": VALUE}, recipient=OTHER.to_public())).message
    document = encrypted({"a": VALUE})
    document["sops"].update(age=[], pgp=[{"fp": "x"}], kms=[])
    assert "(only for: pgp)" in refused(document).message


def test_any_of_several_recipients_opens_the_file_with_any_of_several_identities():
    third = pyrage.x25519.Identity.generate()
    document, more = (encrypted({"a": VALUE}, recipient=each.to_public()) for each in (third, OTHER))
    document["sops"]["age"] = [*more["sops"]["age"], *document["sops"]["age"]]  # the first is of another data key
    assert decrypt(yamled(document), [IDENTITY, third])["a"].text == VALUE
    for identities in ([IDENTITY], []):
        with pytest.raises(SopsError, match="opens the file"):
            decrypt(yamled(document), identities)


def test_a_file_with_too_many_values_or_levels_is_refused():
    clear = {"unencrypted_suffix": "x"}
    many, deep = encrypted({"a": VALUE}, **clear), encrypted({"a": VALUE}, **clear)
    many["bx"] = list(range(MAX_NODES))
    node: Any = 1
    for _ in range(MAX_DEPTH + 1):
        node = [node]
    deep["bx"] = node
    for document in (many, deep):
        assert "more than" in refused(json.dumps(document)).message


def test_bombs_are_refused_in_time():
    laughs = "a: &a [x, x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20))
    assert "aliases" in refused(laughs + "sops: {}").message
    assert refused("[" * 50_000).code == "RC4086"
    assert refused('{"a":' * 50_000).code == "RC4086"
    assert refused(b"x" * (MAX_BYTES + 1)).code == "RC4086"
    assert refused(encrypted({"a": VALUE}, encrypted_regex="(a{1000}){1000}")).code == "RC4086"
    assert opened(encrypted({"a" * 5000: "x"}, lambda _key: False, encrypted_regex="^(a+)+$b")) == {"a" * 5000: "x"}


# -- the backend ------------------------------------------------------------------------------------------------------


def backend(tmp_path: Path, files: dict[str, EncryptedFile], key: str | None = None) -> Callable[..., SecretResolver]:
    key_file = tmp_path / "age.txt"
    key_file.write_text(f"# created: today\n{IDENTITY}\n" if key is None else key)
    remote = RemoteSecrets({"sops": SopsBackend(lambda: files, str(key_file))}, conceal=Redactor().add, monotonic=lambda: 0.0)

    def resolver(**paths: str) -> SecretResolver:
        spec = {"provider": "sops", "sops": {"file": "x.sops.yaml", "data": {key: {"path": path} for key, path in paths.items()}}}
        resource = Resource(ResourceId("Secret", "default", "s"), spec, Location("s.yaml"))
        resolver = SecretResolver({resource.id: resource}, SecretsConfig())
        resolver.remote = remote
        return resolver

    return resolver


async def read(resolver: SecretResolver, key: str) -> str:
    ref = SecretRef("default", "s", key)
    await resolver.prepare([ref])
    return resolver.read(ref).reveal()


async def test_another_content_of_the_file_is_read_at_once_and_a_broken_one_gives_nothing(tmp_path: Path):
    files = {"x.sops.yaml": EncryptedFile("1", yamled(encrypted({"db": {"password": VALUE}})))}
    resolver = backend(tmp_path, files)(token="db.password", other="db.none")
    assert await read(resolver, "token") == VALUE
    with pytest.raises(SecretUnavailable, match=r"db\.none"):
        await read(resolver, "other")
    files["x.sops.yaml"] = EncryptedFile("2", yamled(encrypted({"db": {"password": "next-value"}})))
    assert await read(resolver, "token") == "next-value"
    files["x.sops.yaml"] = EncryptedFile("3", files["x.sops.yaml"].data.replace(b"mac: ENC", b"mac: EN"))
    with pytest.raises(SecretUnavailable) as caught:
        await read(resolver, "token")
    assert caught.value.code == "RC4086"
    del files["x.sops.yaml"]
    with pytest.raises(SecretUnavailable, match=r"x\.sops\.yaml"):
        await read(resolver, "token")


@pytest.mark.parametrize("half", ['"\\ud800"', '"\\udfff x"'])
async def test_half_a_character_in_clear_text_refuses_the_file_and_nothing_else(tmp_path: Path, half: str):
    """YAML can escape a surrogate, which no encoding takes: whoever may commit could stop the reconcile of everything else."""
    broken = yamled(encrypted({"a": VALUE, "b_unencrypted": "x"})).replace(b"b_unencrypted: x", f"b_unencrypted: {half}".encode())
    assert refused(broken).code == "RC4086"
    key = yamled(encrypted({"a": VALUE})) + f"? {half}\n: ENC[AES256_GCM,data:,iv:,tag:,type:str]\n".encode()
    assert refused(key).code == "RC4086"
    files = {"x.sops.yaml": EncryptedFile("1", broken)}
    with pytest.raises(SecretUnavailable) as caught:
        await read(backend(tmp_path, files)(token="a"), "token")
    assert caught.value.code == "RC4086"


def test_what_a_file_says_of_itself_is_shown_short_and_without_control_sequences():
    document = encrypted({"a": VALUE}, recipient=OTHER.to_public())
    document["sops"]["age"][0]["recipient"] = "\x1b[2J" + "r" * 5000
    document["sops"]["\x1b[31m" + "k" * 5000] = [1]
    for error in (refused(document), refused({**document, "sops": {**document["sops"], "age": []}})):
        assert "\x1b" not in error.message
        assert len(error.message) < 1000
    long = encrypted({"a": VALUE})
    long["\x1b[2J" + "k" * 5000] = "in clear text"
    assert len(refused(long).message) < 400
    assert "\x1b" not in refused(long).message


async def test_an_error_that_nobody_expected_is_one_of_the_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(*_: object) -> None:
        raise RuntimeError(VALUE)

    monkeypatch.setattr(SopsBackend, "_decrypt", fails)
    files = {"x.sops.yaml": EncryptedFile("1", b"")}
    with pytest.raises(SecretUnavailable) as caught:
        await read(backend(tmp_path, files)(token="a"), "token")
    assert "RuntimeError" in caught.value.message
    assert VALUE not in caught.value.message


@pytest.mark.parametrize(
    "content",
    ["", "# only a comment\n", "AGE-SECRET-KEY-1WRONG\n", f"{OTHER}\n"],
    ids=["empty", "comment", "not a key", "another key"],
)
async def test_a_wrong_key_file_is_named_without_its_content(tmp_path: Path, content: str):
    files = {"x.sops.yaml": EncryptedFile("1", yamled(encrypted({"a": VALUE})))}
    with pytest.raises(SecretUnavailable) as caught:
        await read(backend(tmp_path, files, content)(token="a"), "token")
    assert caught.value.code == "RC4085"
    assert "AGE-SECRET-KEY-1W" not in f"{caught.value}{caught.value.hint}"


def test_a_missing_key_file_is_named(tmp_path: Path):
    with pytest.raises(SopsError, match="cannot be read"):
        read_identities(str(tmp_path / "none"))
    with pytest.raises(SopsError, match="ageKeyFile"):
        read_identities("")
