"""Runs the clients beside this file. `make test-node` installs what they need; pytest does not collect this folder by itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
INSTALL = "install Node 18 or newer with npm (Debian: apt-get install nodejs npm), then run: make test-node"
CLIENT_S = 60
LINE_S = 30
Run = Callable[..., Any]
Start = Callable[..., AbstractContextManager["Client"]]


class Client:
    """A client that keeps running: each `line` is its next answer. One that says nothing for `LINE_S` is ended."""

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self.process, self._errors = process, errors

    def line(self) -> Any:
        assert self.process.stdout is not None
        late = threading.Timer(LINE_S, self.process.kill)
        late.start()
        text = self.process.stdout.readline()
        late.cancel()
        assert text, f"the client ended with {self.process.wait(10)}: {self._errors.read_text()[-3000:]}"
        return json.loads(text)


@pytest.fixture(scope="session")
def node() -> str:
    """The program ``node``, with the packages of package-lock.json. A test without it fails: it is never skipped."""
    program = shutil.which("node") or shutil.which("nodejs")
    if program is None:
        pytest.fail(f"node is missing: {INSTALL}", pytrace=False)
    if not (HERE / "node_modules" / ".installed").is_file():
        pytest.fail("the packages of tests/node are not installed: run make test-node", pytrace=False)
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.lstrip("v").partition(".")[0]) < 18:
        pytest.fail(f"node {version} is too old: {INSTALL}", pytrace=False)
    return program


@pytest.fixture
def run(node: str) -> Run:
    """Return what a client answers to its input."""

    def run(script: str, **task: Any) -> Any:
        done = subprocess.run(
            [node, str(HERE / script)], input=json.dumps(task), capture_output=True, text=True, timeout=CLIENT_S, check=False
        )
        assert done.returncode == 0, f"{script}: {done.stderr[-3000:]}"
        return json.loads(done.stdout)

    return run


@pytest.fixture
def start(node: str, tmp_path: Path) -> Start:
    """Start a client that keeps running, and end it afterwards."""

    @contextmanager
    def start(script: str, **task: Any) -> Iterator[Client]:
        errors, pipe = tmp_path / f"{script}.err", subprocess.PIPE
        with (
            errors.open("w") as file,
            subprocess.Popen([node, str(HERE / script)], stdin=pipe, stdout=pipe, stderr=file, text=True) as process,
        ):
            assert process.stdin is not None
            process.stdin.write(json.dumps(task))
            process.stdin.close()
            try:
                yield Client(process, errors)
            finally:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()

    return start
