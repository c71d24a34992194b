"""Something that may hold manifests and was not read: it deletes nothing, and is named."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.engine.world import World
from tests.support.gitrepo import GitRepo

SOURCE = (
    "kind: EventSource\nmetadata: {name: team}\nspec:\n  integration: {name: github}\n"
    "  resource: {type: repository, name: one}\n  events: [{type: push}]\n"
)


def problems(world: World) -> list[dict[str, Any]]:
    return [p for p in world.status()["source"]["problems"] if p["code"] == "RC2045"]


def kept(world: World, path: str) -> None:
    """One pass: the hook is still there, and what hides the manifest is named with its path."""
    world.cli("run", "--once")
    assert len(world.hooks("one")) == 1
    assert world.requests("github", "DELETE") == []
    [problem] = problems(world)
    assert path in problem["message"]
    assert "was not read" in problem["message"] or "now" in problem["message"]


def _link(folder: Path) -> str:
    (folder / "team" / "a.yaml").rename(folder.parent / "a.yaml")
    (folder / "team").rmdir()
    (folder / "team").symlink_to(folder.parent)
    return "team"


def _upper(suffix: str) -> Any:
    def change(folder: Path) -> str:
        (folder / "team" / "a.yaml").rename(folder / "team" / f"a.{suffix}")
        return f"team/a.{suffix}"

    return change


def _file(folder: Path) -> str:
    (folder / "team" / "a.yaml").unlink()
    (folder / "team").rmdir()
    (folder / "team").write_text("moved away\n")
    return "team"


def _folder(folder: Path) -> str:
    (folder / "team" / "a.yaml").unlink()
    (folder / "team" / "a.yaml").mkdir()
    (folder / "team" / "a.yaml" / "README").write_text("was a manifest\n")
    return "team/a.yaml"


def _pipe(folder: Path) -> str:
    (folder / "team" / "a.yaml").unlink()
    os.mkfifo(folder / "team" / "a.yaml")
    return "team/a.yaml"


def _odd_name(folder: Path) -> str:
    os.rename(os.fsencode(folder / "team" / "a.yaml"), os.fsencode(folder / "team") + b"/a\xff.yml")
    return "a\\xff.yml"


CHANGES = {
    "a link": _link,
    "YAML": _upper("YAML"),
    "Yml": _upper("Yml"),
    "YML": _upper("YML"),
    "a file": _file,
    "a folder": _folder,
    "a pipe": _pipe,
    "a name that is not UTF-8": _odd_name,
}


@pytest.mark.parametrize("how", CHANGES)
def test_n10_a_folder_source_deletes_nothing_for_what_was_not_read_and_names_it(world: World, how: str) -> None:
    (world.manifests / "team").mkdir()
    (world.manifests / "team" / "a.yaml").write_text(SOURCE)
    assert world.cli("run", "--once").returncode == 0
    path = CHANGES[how](world.manifests)
    kept(world, path)
    ours = world.condition("EventSource", "team")
    assert ours is not None, "what a manifest declared stays in force while its file is not read"
    assert ours["status"] == "False" or how == "a name that is not UTF-8"


def test_n10_what_hid_a_manifest_is_removed_then_it_is_gone(world: World) -> None:
    (world.manifests / "team").mkdir()
    (world.manifests / "team" / "a.yaml").write_text(SOURCE)
    assert world.cli("run", "--once").returncode == 0
    _file(world.manifests)
    kept(world, "team")
    (world.manifests / "team").unlink()
    assert world.cli("run", "--once").returncode == 0
    assert world.hooks("one") == []
    assert problems(world) == []


def test_n10_links_that_hide_nothing_neither_stop_pruning_nor_are_problems(world: World) -> None:
    (world.manifests / "team").mkdir()
    (world.manifests / "team" / "a.yaml").write_text(SOURCE)
    (world.manifests / "docs").symlink_to(world.folder)
    assert world.cli("run", "--once").returncode == 0
    assert problems(world) == []
    (world.manifests / "team" / "a.yaml").unlink()
    assert world.cli("run", "--once").returncode == 0
    assert world.hooks("one") == []


@pytest.mark.parametrize("mode", ["120000", "160000"])
def test_n10_a_git_source_deletes_nothing_for_a_link_or_a_submodule(world: World, mode: str) -> None:
    repo = GitRepo(world.folder / "repo.git")
    files = {path.name: path.read_text() for path in world.manifests.iterdir()}
    repo.commit({**files, "team/a.yaml": SOURCE}, "first")
    world.configure(source=str(repo.path))
    assert world.cli("run", "--once").returncode == 0
    blob = repo.blob(b"../elsewhere") if mode == "120000" else "1" * 40
    entries = [(mode, "team", blob), *(("100644", name, repo.blob(text.encode())) for name, text in files.items())]
    repo.commit_tree(repo.tree(sorted(entries, key=lambda entry: entry[1])))
    kept(world, "team")


def test_n10_validate_and_a_plan_against_a_base_name_it_too(world: World) -> None:
    repo = GitRepo(world.folder / "repo.git")
    files = {path.name: path.read_text() for path in world.manifests.iterdir()}
    repo.commit({**files, "team/a.yaml": SOURCE}, "first")
    link = ("120000", "team", repo.blob(b"elsewhere"))
    entries = [link, *(("100644", name, repo.blob(text.encode())) for name, text in files.items())]
    repo.commit_tree(repo.tree(sorted(entries, key=lambda entry: entry[1])))
    world.configure(source=str(repo.path))
    plan = world.cli("plan", "--base", "main~1", "-o", "json")
    assert (plan.returncode, json.loads(plan.stdout)["plans"]) == (5, [])
    assert "RC2045" in plan.stdout
    (world.manifests / "b.YAML").write_text(SOURCE)
    done = world.cli("validate", str(world.manifests))
    assert "b.YAML" in done.stdout
    assert "RC2045" in done.stdout
