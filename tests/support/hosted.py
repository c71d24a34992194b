"""A pull request's checkout as GitHub's hosted runner leaves it, and the ``run:`` lines of a workflow in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.gitrepo import GitRepo

ROOT = Path(__file__).resolve().parents[2]
_GIT = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0"}


def files_of(folder: Path) -> dict[str, str | bytes | None]:
    """Return every file below ``folder`` by its path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def checkout(folder: Path, main: Mapping[str, str | bytes | None], change: Mapping[str, str | bytes | None]) -> Path:
    """Return a work tree with what ``change`` does to ``main``: HEAD detached at the merge, remote branches only, no local one."""
    origin = GitRepo(folder / "origin.git")
    origin.commit(dict(main), "main")
    base = origin.head
    origin.git("branch", "change", "main")
    head = origin.commit(dict(change), "change", branch="change")
    tree = origin.git("rev-parse", f"{head}^{{tree}}")
    merge = origin.git("commit-tree", tree, "-p", base, "-p", head, "-m", "Merge")
    origin.git("update-ref", "refs/pull/1/merge", merge)
    work = folder / "work"
    for arguments in (
        ("init", "-q", "--initial-branch=unborn", str(work)),
        ("-C", str(work), "remote", "add", "origin", str(origin.path)),
        (
            *("-C", str(work), "fetch", "-q", "--no-tags", "origin"),
            *("+refs/heads/*:refs/remotes/origin/*", "+refs/pull/1/merge:refs/remotes/pull/1/merge"),
        ),
        ("-C", str(work), "checkout", "-q", "--force", "--detach", "refs/remotes/pull/1/merge"),
    ):
        subprocess.run(["git", *arguments], check=True, env=_GIT)
    return work


class HostedRunner:
    """Runs the ``run:`` steps of a workflow as the runner does (bash -e), in an environment without the developer's."""

    def __init__(self, folder: Path, context: Mapping[str, str]) -> None:
        self.summary = folder / "summary.md"
        self.summary.touch()
        self._context = context
        self._venv = folder / "python"
        venv.create(self._venv, with_pip=True, symlinks=True)
        # The dependencies are those of the tests' own environment, so that nothing is downloaded.
        (self._venv / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages/tests.pth").write_text(
            next(path for path in sys.path if path.endswith("site-packages"))
        )
        self._home = folder / "home"
        self._home.mkdir()
        self._temp = folder / "temp"
        self._temp.mkdir()

    def run(self, workflow: str, work: Path) -> list[subprocess.CompletedProcess[str]]:
        """Run every ``run:`` of ``workflow`` in ``work`` until one fails, and return what each did."""
        document = yaml.safe_load(workflow)
        done: list[subprocess.CompletedProcess[str]] = []
        for job in document["jobs"].values():
            for step in job["steps"]:
                if "run" in step and self._holds(str(step.get("if", ""))):
                    done.append(self._step(step, work))
                    if done[-1].returncode:
                        return done
        return done

    def _holds(self, condition: str) -> bool:
        """Whether a condition ``a == b`` of two values of the context holds; none always does."""
        left, _, right = (part.strip() for part in condition.partition("=="))
        return not condition or (left in self._context and self._context[left] == self._context.get(right))

    def _step(self, step: Mapping[str, Any], work: Path) -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": f"{self._venv / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self._home),
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_STEP_SUMMARY": str(self.summary),
            "RUNNER_TEMP": str(self._temp),
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            **{key: self._expand(str(value)) for key, value in step.get("env", {}).items()},
        }
        script = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", self._expand(step["run"])]
        return subprocess.run(script, cwd=work, env=env, capture_output=True, text=True, timeout=120)

    def _expand(self, text: str) -> str:
        return re.sub(r"\$\{\{\s*([\w.]+)\s*\}\}", lambda found: self._context[found[1]], text)


def wheel(folder: Path) -> Path:
    """Build the wheel as ``make wheel`` does and return it."""
    subprocess.run(
        [
            sys.executable,
            *["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"],
            str(folder),
            str(ROOT),
        ],
        check=True,
        timeout=120,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))
