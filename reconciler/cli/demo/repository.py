"""The Git repository of the demo's manifests: a bare remote, and the clone in which people work."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from git import Repo

FULL_NAME = "acme/integrations"
SOURCES = Path("github", "sources.yaml")
ISOLATED = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
"""Environment in which Git does not read the configuration of the person who runs the demo: signing, hooks, push rules."""
LEFT_OUT = ("reconciler.yaml", ".github", ".pre-commit-config.yaml")


def example_folder() -> Path:
    """Return ``examples/small-team``: from the wheel, else from the checkout."""
    packaged = resources.files("reconciler").joinpath("examples", "small-team")
    if packaged.is_dir():
        return Path(str(packaged))
    return Path(__file__).resolve().parents[3] / "examples" / "small-team"


class ManifestRepository:
    """Commits of people, and pull requests as refs of the remote.

    ``announce`` is called with each new commit of ``main`` before it is pushed, since the simulated code host has no Git objects.
    """

    def __init__(self, folder: Path, announce: Callable[[str], None]) -> None:
        self.remotes = folder / "remotes"
        self.work = folder / "manifests"
        self._announce = announce
        self._kept = ""

    def create(self) -> None:
        """Make the remote, and a clone with a copy of the example."""
        from git import Repo

        remote = self.remotes / f"{FULL_NAME}.git"
        Repo.init(remote, bare=True, mkdir=True, initial_branch="main", env=ISOLATED).close()
        shutil.copytree(example_folder(), self.work, ignore=shutil.ignore_patterns(*LEFT_OUT))
        with Repo.init(self.work, initial_branch="main", env=ISOLATED) as repo:
            with repo.config_writer() as config:
                config.set_value("user", "name", "Demo").set_value("user", "email", "demo@example.invalid")
                config.set_value("commit", "gpgsign", "false").set_value("core", "hooksPath", "/dev/null")
            repo.create_remote("origin", str(remote))

    def commit(self, message: str) -> str:
        """Commit everything to ``main`` and push; returns the commit."""
        with self._open() as repo:
            repo.git.add("--all")
            return self._push(repo.index.commit(message).hexsha)

    def propose(self, number: int, message: str) -> str:
        """Commit everything as the head of a pull request; ``main`` stays as it is. Returns the commit."""
        with self._open() as repo:
            repo.git.checkout("-b", f"pull-{number}")
            repo.git.add("--all")
            head = repo.index.commit(message).hexsha
            repo.git.push("--quiet", "origin", f"{head}:refs/pull/{number}/head")
            repo.git.checkout("main")
            return head

    def merge(self, number: int) -> str:
        """Merge a pull request into ``main`` and push; returns the merge commit."""
        with self._open() as repo:
            repo.git.merge("--no-ff", "--no-edit", "-m", f"Merge pull request #{number}", f"pull-{number}")
            return self._push(repo.head.commit.hexsha)

    def _push(self, commit: str) -> str:
        self._announce(commit)
        with self._open() as repo:
            repo.remote("origin").push("main:main").raise_if_error()
        return commit

    @contextlib.contextmanager
    def _open(self) -> Iterator[Repo]:
        from git import Repo

        with Repo(self.work) as repo:
            repo.git.update_environment(**ISOLATED)
            yield repo

    # -- edits ------------------------------------------------------------------------------------------------------

    def remove_sources(self, *names: str) -> None:
        """Remove EventSources from their file."""
        file = self.work / SOURCES
        parts = file.read_text().split("\n---\n")
        gone = [f"metadata: {{name: {name}}}" for name in names]
        file.write_text("\n---\n".join(part for part in parts if not any(words in part for words in gone)))

    def break_sources(self) -> None:
        """Add a typing mistake to the EventSources."""
        file = self.work / SOURCES
        self._kept = file.read_text()
        file.write_text(self._kept.replace("  events:", "  evnts:"))

    def restore_sources(self) -> None:
        """Undo `break_sources`."""
        (self.work / SOURCES).write_text(self._kept)
