"""Install from the built files as the documentation says, in a home folder of its own, and try what was installed.

Packages come from PyPI, so `make test` leaves this out: `make test-install` runs it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler import __version__
from tests.support.terminal import Terminal

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent


@dataclass(frozen=True)
class Home:
    """A user of this machine who has nothing but pipx and uv."""

    folder: Path
    dist: Path

    @property
    def env(self) -> dict[str, str]:
        path = f"{self.folder}/.local/bin:{self.folder}/tools:/usr/local/bin:/usr/bin:/bin"
        kept = {
            name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_INDEX", "UV_DEFAULT_INDEX", "SSL_"))
        }
        cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))  # of downloads only
        return {**kept, "HOME": str(self.folder), "PATH": path, "LANG": "C.UTF-8", "TERM": "xterm", "XDG_CACHE_HOME": cache, "UV_PYTHON": sys.executable,
                "PIPX_DEFAULT_PYTHON": sys.executable}  # fmt: skip

    def run(self, line: str, *, cwd: Path | None = None, timeout_s: float = 300) -> str:
        done = subprocess.run(
            ["sh", "-c", line], env=self.env, cwd=cwd or self.folder, capture_output=True, text=True, timeout=timeout_s
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, str(ROOT / "deploy" / "release.py"), str(folder)], check=True, capture_output=True)
    return folder


def home(folder: Path, dist: Path) -> Home:
    (folder / "tools").mkdir(parents=True)
    for tool in ("pipx", "uv"):
        (folder / "tools" / tool).symlink_to(TOOLS / tool)
    return Home(folder, dist)


def lines(page: str, start: str) -> list[str]:
    """Return the commands of a page that begin so."""
    text = (ROOT / page).read_text()
    commands = re.findall(r"^\$ (.*)$", text, re.MULTILINE)
    found = [command for command in commands if command.startswith(start)]
    assert found, f"{page} has no command {start!r}"
    return found


@pytest.fixture(scope="module", params=["pipx install", "uv tool install"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, dist: Path) -> Home:
    """The line of the README, with the built wheel in place of the name."""
    user = home(tmp_path_factory.mktemp("home") / "ada", dist)
    (line,) = lines("README.md", request.param)
    wheel = next(dist.glob("*.whl"))
    user.run(line.replace("integrations-reconciler", str(wheel)))
    return user


def test_the_tool_works_in_an_empty_folder(installed: Home) -> None:
    for line in lines("README.md", "reconciler --version"):
        assert installed.run(line) == f"reconciler {__version__}\n"
    assert installed.run("reconciler version") == f"reconciler {__version__}\n"
    for line in lines("README.md", "reconciler init"):
        installed.run(line)
    folder = installed.folder / "integrations"
    installed.run("reconciler validate", cwd=folder)
    assert json.loads(installed.run("reconciler schema plan"))
    licences = installed.run("find . -name THIRD_PARTY_LICENSES.md").split()
    assert licences


def test_the_demonstration_runs_from_the_installed_tool(installed: Home, request: pytest.FixtureRequest) -> None:
    if installed.run("command -v reconciler").strip() and "pipx" in str(request.node.name):
        installed.run("reconciler demo --help")  # the packages are the same: it runs once, with uv
        return
    folder = installed.folder / "empty"
    folder.mkdir()
    installed.run("reconciler demo", cwd=folder)
    assert list(folder.iterdir()) == []


def test_man_finds_the_page_of_a_pipx_installation(installed: Home, request: pytest.FixtureRequest) -> None:
    if "uv tool" in str(request.node.name):
        assert "uv does\nnot install manual pages" in (ROOT / "docs" / "operations.md").read_text()
        return
    assert (installed.folder / ".local/share/man/man1/reconciler.1").is_symlink()
    assert installed.run("man -w reconciler").strip().endswith("/share/man/man1/reconciler.1")
    assert "GitOps for CI/CD integrations" in installed.run("man reconciler | cat")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_one_line_installs_completion_for_new_shells(installed: Home, shell: str) -> None:
    start = {"bash": "echo 'eval", "zsh": "echo 'autoload", "fish": "mkdir -p ~/.config/fish"}[shell]
    (line,) = lines("docs/cli.md", start)
    installed.run(line)
    quiet = {"bash": ["bash", "-i"], "zsh": ["zsh", "-i"], "fish": ["fish", "-i"]}[shell]
    terminal = Terminal(quiet, installed.env, installed.folder, columns=120)
    terminal.type("echo rea''dy\n")
    terminal.read("ready")
    terminal.type("reconciler signi\t")
    terminal.read("signing-key", 30)
    terminal.type("\x15exit\n")
    terminal.process.wait(20)
    terminal.end()


def test_the_source_archive_installs_in_a_fresh_environment(tmp_path: Path, dist: Path) -> None:
    user = home(tmp_path / "ben", dist)
    archive = next(dist.glob("*.tar.gz"))
    user.run("python3 -m venv env || uv venv --seed env")
    user.run(f"env/bin/python -m pip install --quiet --disable-pip-version-check {archive}")
    assert user.run("env/bin/reconciler --version") == f"reconciler {__version__}\n"
    user.run("env/bin/reconciler init shop && cd shop && ../env/bin/reconciler validate")
