"""Commands on a terminal: those that ask, and those that draw."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def on_a_terminal(
    command: Sequence[str], env: Mapping[str, str], cwd: Path, meanwhile: Callable[[], None], *, answer: str = "y\n"
) -> tuple[int, str]:
    """Run ``command``; once it asks, let ``meanwhile`` happen, then answer. Returns the exit code and all that was printed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, cwd=cwd)
    os.close(theirs)
    try:
        output = process.stdout
        assert output is not None
        with output:
            shown = b""
            while b"[y/N]" not in shown:
                piece = os.read(output.fileno(), 65536)
                assert piece, shown.decode()
                shown += piece
            meanwhile()
            os.write(ours, answer.encode())
            shown += output.read()
        return process.wait(60), shown.decode()
    finally:
        os.close(ours)
        if process.poll() is None:
            process.kill()
            process.wait()


class Terminal:
    """A command on a terminal of its own: stdin, stdout and stderr are a pseudoterminal of ``columns`` × ``rows``."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], cwd: Path, *, columns: int = 80, rows: int = 24) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env={**env, "TERM": "xterm"}, cwd=cwd, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(theirs)
        self.shown = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def read(self, until: str | None = None, timeout_s: float = 60.0) -> str:
        """Read until ``until`` is shown, or until the command has ended. Returns all that was shown."""
        end = time.monotonic() + timeout_s
        while (until is None or until not in self.shown) and time.monotonic() < end:
            if not select.select([self._ours], [], [], 0.2)[0]:
                continue
            try:
                piece = os.read(self._ours, 65536)
            except OSError:  # EIO: the other end is closed
                break
            if not piece:
                break
            self.shown += self._decoder.decode(piece)
        assert until is None or until in self.shown, self.shown
        return self.shown

    def type(self, text: str) -> None:
        """Type ``text``; ``\\x03`` is Ctrl-C."""
        os.write(self._ours, text.encode())

    def end(self) -> tuple[int, str]:
        """Read the rest, and return the exit code and all that was shown, with one kind of line end."""
        self.read()
        code = self.process.wait(60)
        os.close(self._ours)
        return code, self.shown.replace("\r\n", "\n")


def lines_of(shown: str) -> list[str]:
    """Return the lines of an output without colours, each as it is after bars on it were removed."""
    lines = re.sub("\x1b\\[[0-9;]*m", "", shown).rstrip("\n").split("\n")
    return [line.rpartition("\x1b[K")[2] for line in lines]
