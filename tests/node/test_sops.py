"""sops-age reads files of our tests, and our backend reads files that typage (age for JavaScript) and Node encrypted."""

from __future__ import annotations

import json

import pyrage
import pytest

from reconciler.credentials.sops import SopsError, decrypt
from tests.credentials.test_sops import IDENTITY, encrypted, yamled
from tests.node.conftest import Run

TREE = {
    "db": {"password": "canary-of-node", "port": 5432, "ratio": 0.5, "on": True, "hosts": ["a", "b"]},
    "grüße": "ä €",
}


@pytest.mark.parametrize("file_type", ["yaml", "json"])
def test_sops_age_reads_the_files_that_our_tests_encrypt(run: Run, file_type: str) -> None:
    document = encrypted(TREE)
    text = yamled(document).decode() if file_type == "yaml" else json.dumps(document)
    assert run("sops_read.mjs", document=text, identity=str(IDENTITY), fileType=file_type) == TREE


@pytest.mark.parametrize("file_type", ["yaml", "json"])
def test_our_backend_reads_what_a_foreign_age_encrypted(run: Run, file_type: str) -> None:
    made = run("sops_write.mjs", tree=TREE, fileType=file_type)
    assert made["opened"] == TREE
    identity = pyrage.x25519.Identity.from_str(made["identity"])
    values = {path: leaf.text for path, leaf in decrypt(made["document"].encode(), [identity]).items()}
    assert values == {
        "db.password": "canary-of-node",
        "db.port": "5432",
        "db.ratio": "0.5",
        "db.on": "true",
        "db.hosts.0": "a",
        "db.hosts.1": "b",
        "grüße": "ä €",
    }
    with pytest.raises(SopsError):
        decrypt(made["document"].encode(), [IDENTITY])
