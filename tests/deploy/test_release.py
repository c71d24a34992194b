"""What `make release` builds: the same bytes from the same commit, with a valid bill of materials, allowed licences and a manual page."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cyclonedx.model.bom import Bom
from referencing import Registry, Resource

from deploy import components
from reconciler import __version__
from reconciler.cli.verbs import GLOBALS, VERBS

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-image.lock")
MANUAL = ROOT / "docs" / "reconciler.1"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two builds of one commit."""
    folders = [tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("again")]
    for folder in folders:
        subprocess.run([sys.executable, str(ROOT / "deploy" / "release.py"), str(folder)], check=True, capture_output=True)
    return folders


def bill(built: list[Path]) -> dict[str, Any]:
    return dict(json.loads(next(built[0].glob("*.cdx.json")).read_text()))


def test_two_builds_of_one_commit_are_the_same_and_the_hashes_are_beside_them(built: list[Path]) -> None:
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in built)
    assert first == second
    listed = dict(reversed(line.split("  ")) for line in first.pop("SHA256SUMS").decode().splitlines())
    assert listed == {name: hashlib.sha256(content).hexdigest() for name, content in first.items()}
    assert sorted(name.removeprefix(f"integrations_reconciler-{__version__}") for name in first) == [
        "-py3-none-any.whl",
        ".cdx.json",
        ".tar.gz",
    ]


def test_the_wheel_has_the_manual_page_and_the_licences_and_the_archive_all_to_build_it(built: list[Path]) -> None:
    with zipfile.ZipFile(next(built[0].glob("*.whl"))) as wheel:
        names = {re.sub(r"^integrations_reconciler-[^/]*?\.(data|dist-info)/", "", name) for name in wheel.namelist()}
        assert {"data/share/man/man1/reconciler.1", "licenses/LICENSE", "licenses/THIRD_PARTY_LICENSES.md"} <= names
        assert not [name for name in names if name.startswith("tests")]
    with tarfile.open(next(built[0].glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "schemas", "docs/reconciler.1", "THIRD_PARTY_LICENSES.md", *LOCKS} <= {
        *names,
        *(n.split("/")[0] for n in names),
    }


# -- the bill of materials ----------------------------------------------------------------------------------------------


def test_the_bill_of_materials_is_valid_cyclonedx(built: list[Path]) -> None:
    document = bill(built)
    folder = resources.files("cyclonedx.schema._res")
    schemas = {
        name: json.loads((folder / f"{name}.SNAPSHOT.schema.json").read_text()) for name in ("bom-1.6", "spdx", "jsf-0.82")
    }
    registry: Registry[Any] = Registry().with_resources(
        [
            (f"http://cyclonedx.org/schema/{name}.SNAPSHOT.schema.json", Resource.from_contents(schema))
            for name, schema in schemas.items()
        ]
    )
    validator = jsonschema.Draft7Validator(schemas["bom-1.6"], registry=registry)
    assert [error.message for error in validator.iter_errors(document)] == []
    assert [error.message for error in validator.iter_errors({**document, "components": [{"name": "x"}]})] != []
    parsed = Bom.from_json(document)  # type: ignore[attr-defined]
    assert parsed.validate()
    assert len(parsed.components) == len(document["components"])


def test_the_bill_has_everything_that_the_program_needs_and_how_it_comes_in(built: list[Path]) -> None:
    document = bill(built)
    graph = {row["ref"]: row["dependsOn"] for row in document["dependencies"]}
    root = document["metadata"]["component"]["bom-ref"]
    assert root == f"pkg:pypi/integrations-reconciler@{__version__}"
    reached, todo = set(), [root]
    while todo:
        ref = todo.pop()
        if ref not in reached:
            reached.add(ref)
            todo += graph[ref]
    assert reached - {root} == {part["bom-ref"] for part in document["components"]}
    names = {part["name"] for part in document["components"]}
    assert {"starlette", "psycopg-binary", "mako"} <= names, "direct, by an extra, and through another"
    assert not {"hatchling", "editables", "pytest"} & names, "tools of the build do not ship"
    extras = {part["name"] for part in document["components"] if part["scope"] == "optional"}
    assert {"botocore", "pyrage", "opentelemetry-sdk", "protobuf"} <= extras, "what an extra adds is in the image"
    assert not {"starlette", "typing-extensions"} & extras
    lock = "".join((ROOT / name).read_text() for name in LOCKS)
    locked = set(re.findall(r"^([a-z0-9-]+)==", lock.replace("_", "-").replace(".", "-"), re.MULTILINE))
    assert locked - names <= {"editables", "hatchling", "packaging", "pathspec", "pluggy", "tomlkit", "trove-classifiers"}, (
        "build tools only"
    )
    for part in document["components"]:
        hashes = [entry["content"] for entry in part["externalReferences"][0]["hashes"]]
        assert hashes, part["name"]
        assert all(f"sha256:{digest}" in lock for digest in hashes)


# -- licences -----------------------------------------------------------------------------------------------------------


def test_every_package_that_ships_has_a_licence_that_may_ship_and_the_page_lists_it() -> None:
    parts = components.components()
    assert components.refused(parts) == []
    assert components.PAGE.read_text() == components.page(parts), "run `make docs`"


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 OR GPL-3.0-or-later", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("GPL-3.0-only", False),
        ("AGPL-3.0-only", False),
        ("MIT AND GPL-2.0-only", False),
        ("LicenseRef-Proprietary", False),
    ],
)
def test_a_licence_that_would_apply_to_the_whole_program_is_refused(expression: str, *, allowed: bool) -> None:
    part = dataclasses.replace(components.components()[0], license=expression)
    assert (components.refused([part]) == []) is allowed


def test_a_package_without_a_licence_is_refused() -> None:
    info = Message()
    info["Name"], info["License"] = "x", "see the website"
    part = dataclasses.replace(components.components()[0], license=components.license_of(info))
    assert "has no licence" in components.refused([part])[0]


# -- the command line and its manual ------------------------------------------------------------------------------------


def test_the_manual_page_is_rendered_without_a_warning_and_man_finds_its_name() -> None:
    rendered = subprocess.run(["groff", "-man", "-ww", "-z", str(MANUAL)], capture_output=True, text=True)
    assert (rendered.returncode, rendered.stdout, rendered.stderr) == (0, "", "")
    name = subprocess.run(["lexgrog", str(MANUAL)], capture_output=True, text=True)
    assert '"reconciler - GitOps for CI/CD integrations"' in name.stdout


def test_the_manual_page_has_every_verb_and_option() -> None:
    done = subprocess.run(["groff", "-man", "-Tascii", "-P-cbou", str(MANUAL)], capture_output=True, text=True, check=True)
    text = re.sub(r"(?<=\S) +", " ", done.stdout)
    for verb in VERBS:
        assert re.search(rf"^   {verb.name}$", text, re.MULTILINE), verb.name
        for flags, _ in (*verb.arguments, *GLOBALS):
            for flag in flags:
                assert not flag.startswith("-") or flag in text, (verb.name, flag)
    assert re.search(r"^ +78 run: an error that a restart does not fix", text, re.MULTILINE)


def test_the_version_is_an_option_and_a_verb() -> None:
    for argument in ("--version", "version"):
        done = subprocess.run([sys.executable, "-m", "reconciler", argument], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"reconciler {__version__}\n", "")
