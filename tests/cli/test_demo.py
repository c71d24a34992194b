"""The demo holds what it shows, and with --keep what it prints can be used."""

import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from reconciler.cli.demo.script import wait_for
from reconciler.cli.demo.world import contains

SHOWN = (
    "the daemon recreates it",
    "starts the workflow at GitHub",
    "waits for an approval",
    "its log is shown while it runs",
    "queued, in_progress, success, each once",
    "rejected with 401",
    "without a second effect",
    "recovery finds the lost delivery",
    "kill -9",
    "exactly one at Semaphore",
    "exits with 0",
)


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_verifies_every_step_and_keeps_what_it_says_it_keeps(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "reconciler", "demo", "--keep", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            shown = ""
            for line in process.stdout:
                shown += line
                if line.lstrip().startswith("buddy "):  # the last line of all
                    break
            assert "all steps verified" in shown, shown
            assert "✗" not in shown
            for words in SHOWN:
                assert words in shown, words
            receiver = re.search(r"receiver +(http://127\.0\.0\.1:\d+)\n", shown)
            file = re.search(r"file +(\S+)\n", shown)
            assert receiver
            assert file
            wait_for("the receiver is ready", lambda: _ready(receiver[1]))
            assert Path(file[1]).is_file()
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0
            assert not _ready(receiver[1])
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)


def test_a_journal_that_the_daemon_removes_meanwhile_does_not_end_the_demo(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"token s3cret")
    assert contains(tmp_path / "log", [b"x", b"s3cret"])
    assert not contains(tmp_path / "log", [b"x"])
    assert not contains(tmp_path / "engine.db-journal", [b"s3cret"])
