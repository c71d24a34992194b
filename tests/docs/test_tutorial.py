"""The tutorial is run as it stands: every file is written, every command is typed, every shown output is compared."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "tutorial.md"
_FILE = r"^Write `(?P<file>[^`]+)`:\n\n```yaml\n(?P<content>.*?)^```$"
_PART = re.compile(_FILE + r"|^```console\n(?P<console>.*?)^```$", re.MULTILINE | re.DOTALL)
_END = "\x01END\x01"


@dataclass(frozen=True)
class Step:
    """A file to write, or a command with what it is shown to print ("" for "not shown")."""

    file: str = ""
    content: str = ""
    command: str = ""
    output: str = ""


def steps(text: str) -> Iterator[Step]:
    for part in _PART.finditer(text):
        if part["file"]:
            yield Step(file=part["file"], content=part["content"])
            continue
        for chunk in re.split(r"^\$ ", part["console"], flags=re.MULTILINE)[1:]:
            command, _, output = chunk.partition("\n")
            yield Step(command=command, output=output)


def pattern(shown: str) -> re.Pattern[str]:
    """A line of one ``…`` stands for any lines, ``…`` in a line for any text."""
    parts = ["(?:.*\n)*?" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + "\n" for line in shown.splitlines()]
    return re.compile("".join(parts))


class Shell:
    """One bash that lives as long as the tutorial; stdout is what a reader compares, stderr goes to a file."""

    def __init__(self, folder: Path) -> None:
        self._errors = (folder / "stderr.log").open("wb")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("RECONCILER_", "GIT_"))}
        environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder)}
        environment |= {"NO_COLOR": "1", "COLUMNS": "100"}
        self._process = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{{ {command}\n}} < /dev/null\nprintf '\\n\\001END\\001\\n'\n")
        self._process.stdin.flush()
        lines: list[str] = []
        for line in self._process.stdout:
            if line.rstrip("\n") == _END:
                return "".join(lines).rstrip("\n") + "\n"
            lines.append(line)
        raise AssertionError(f"the shell ended at: {command}")

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._errors.close()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    one = Shell(tmp_path)
    yield one
    one.close()


def _free_port() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return str(sock.getsockname()[1])


def test_a_pattern_takes_what_is_shown_and_nothing_else() -> None:
    assert pattern("a…c\n…\nend\n").fullmatch("abbc\nx\ny\nend\n")
    assert pattern("a…c\n…\nend\n").fullmatch("ac\nend\n")
    assert pattern("a.c\n").fullmatch("abc\n") is None
    assert pattern("one\n").fullmatch("one\ntwo\n") is None


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_command_of_the_tutorial_prints_what_the_tutorial_shows(shell: Shell, tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8").replace("9101", _free_port()).replace("8099", _free_port())
    done, patience_s = 0, 0.0
    for step in steps(text):
        if step.file:
            (tmp_path / "integrations" / step.file).write_text(step.content, encoding="utf-8")
            continue
        if step.command.startswith("sleep "):
            patience_s = 60.0  # a reader waits for what comes next; here it is asked for until it shows
            continue
        printed = shell.run(step.command)
        give_up_at = time.monotonic() + patience_s
        while step.output and not pattern(step.output).fullmatch(printed) and time.monotonic() < give_up_at:
            time.sleep(0.3)
            printed = shell.run(step.command)
        patience_s = 0.0
        if step.output:
            errors = (tmp_path / "stderr.log").read_text(encoding="utf-8")[-3_000:]
            found = f"$ {step.command}\n{printed}\nshown:\n{step.output}\nstderr:\n{errors}"
            assert pattern(step.output).fullmatch(printed), found
        done += 1
    assert done > 40
