"""Commands that ask, on a terminal: what happens between the question and the answer is the test's."""

from __future__ import annotations

import os
import pty
import subprocess
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
