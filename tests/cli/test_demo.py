"""The demo holds what it shows, wherever and however it is run, and what it prints at its end can be used."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from reconciler.cli.demo import world as demo_world
from reconciler.cli.demo.folder import MARK, PREFIX, demo_folder
from reconciler.cli.demo.people import Person, visiting
from reconciler.cli.demo.script import COLUMNS, Script, StepFailed, wait_for
from reconciler.cli.demo.world import contains, free_port
from reconciler.cli.sink import captured
from reconciler.model.errors import UsageError
from tests.support.terminal import Terminal, lines_of

SHOWN = (
    "the daemon recreates it",
    "all are as declared again",
    "starts the workflow at GitHub",
    "waits for an approval",
    "vera, a viewer, logs in at the dashboard: she cannot approve",
    "ada, an approver, approves it there: the audit log names her",
    "ada approve Stage/deploy",
    "its log is shown while it runs",
    "queued, in_progress, success, each once",
    "rejected with 401",
    "without a second effect",
    "the daemon reviews it: one check run and one comment",
    "check reconciler/plan: action_required",
    "lifecycle.preventDestroy forbids the delete",
    "presses the check's button [Approve]: the check passes",
    "were approved by `ada` at",
    "Merged as",
    "deleted: `EventSource/payments`",
    "deleted: `EventSource/audit`",
    "unknown key 'evnts'",
    "The credential of Integration/buddy does not work",
    "Over: The credential of Integration/buddy does not work",
    "Test: Notification/ops reaches you",
    "recovery finds the lost delivery",
    "kill -9",
    "exactly one run at Semaphore",
    "exits with 0",
)
STRICT_GIT = (
    "[commit]\n gpgsign = true\n[merge]\n ff = only\n verifySignatures = true\n[push]\n gpgSign = true\n default = nothing\n"
)
"""A person's Git configuration that the demo must not depend on."""
LAST = re.compile(r"^  slack +http://127\.0\.0\.1:\d+$", re.MULTILINE)


def flat(shown: str) -> str:
    """Return the output as one line, without the marks of quoted lines."""
    return " ".join(re.sub(r"^ +\| ", " ", shown, flags=re.MULTILINE).split())


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


def check_steps(shown: str) -> None:
    text = flat("\n".join(lines_of(shown)))
    assert "all steps verified" in text, shown
    assert "✗" not in text
    for words in SHOWN:
        assert words in text, words
    assert not [line for line in lines_of(shown) if len(line) > COLUMNS and " /" not in line], shown


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_demos_at_once_verify_every_step_and_what_is_kept_can_be_used(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "reconciler", "demo"]
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".gitconfig").write_text(STRICT_GIT)
    plain = {**os.environ, "LC_ALL": "C", "HOME": str(tmp_path / "home"), "http_proxy": "http://127.0.0.1:1"}
    with subprocess.Popen(
        [*command, "--keep", "--dir", str(tmp_path / "kept")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=plain
    ) as kept:
        seen = Terminal(command, os.environ, tmp_path.parent)
        try:
            assert kept.stdout is not None
            shown = ""
            for line in kept.stdout:
                shown += line.decode()
                if LAST.search(shown):
                    break
            check_steps(shown)
            _use(shown)
            kept.send_signal(signal.SIGINT)
            assert kept.wait(timeout=60) == 0
            assert not ready(_address(shown))
            code, other = seen.end()
            check_steps(other)
            assert code == 0
            assert "demo --keep" in other
        finally:
            for process in (kept, seen.process):
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)


def _address(shown: str) -> str:
    match = re.search(r"^  dashboard  (http://127\.0\.0\.1:\d+)/$", shown, re.MULTILINE)
    assert match, shown
    return match[1]


def _use(shown: str) -> None:
    """Log in with each token, approve what waits, and use a command that the demo prints."""
    url = _address(shown)
    assert ready(url)
    tokens = re.findall(r"^  (\w+) +([0-9a-f]{24})  (\w+): ", shown, re.MULTILINE)
    assert [role for _, _, role in tokens] == ["viewer", "operator", "approver"]
    place = re.search(rf"^  {re.escape(url)}(/executions/itm-[0-9a-f]+)$", shown, re.MULTILINE)
    assert place, shown
    for name, token, role in tokens:
        with visiting(url, Person(name, role, "", token)) as visit:
            assert ("/actions/approve" in visit.page(place[1])) is (role == "approver")
    folder, program = re.findall(r"^  cd (\S+)\n  (\S+) status$", shown, re.MULTILINE)[0]
    done = subprocess.run([program, "status", "--exit-code"], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    everything = b"".join(path.read_bytes() for path in Path(folder).rglob("*") if path.is_file())
    assert not [name for name, token, _ in tokens if token.encode() in everything]


def test_without_git_the_demo_says_so_at_once(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reconciler", "demo", "--dir", str(tmp_path)],
        env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert "git is not installed" in done.stderr


def test_a_port_that_is_taken_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        monkeypatch.setattr(demo_world, "_PORTS", range(number, number + 1))
        monkeypatch.setattr(demo_world.random, "sample", lambda ports, _: list(ports))
        assert free_port() not in {0, number}


# -- the folder ----------------------------------------------------------------------------------------------------------


def test_a_folder_with_foreign_files_or_another_demo_is_refused(tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="not empty"), demo_folder(str(tmp_path / "foreign")):
        pass
    assert (tmp_path / "foreign" / "thesis.txt").read_text() == "years of work"
    with pytest.raises(UsageError, match="not a folder"), demo_folder(str(tmp_path / "foreign" / "thesis.txt")):
        pass
    with demo_folder(str(tmp_path / "used")) as folder:
        (folder / "state").mkdir()
        with pytest.raises(UsageError, match="another demo"), demo_folder(str(tmp_path / "used")):
            pass
        assert (folder / "state").is_dir()


def test_what_a_killed_demo_left_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left, young, foreign = (tmp_path / f"{PREFIX}{name}" for name in ("left", "young", "foreign"))
    for folder in (left, young, foreign):
        (folder / "state").mkdir(parents=True)
    (young / MARK).touch()
    (left / MARK).touch()
    os.utime(left / MARK, (time.time() - 3600,) * 2)
    with demo_folder(None) as folder:
        assert folder.parent == tmp_path
        assert {path.name for path in tmp_path.iterdir()} == {young.name, foreign.name, folder.name}
    assert not folder.exists()
    with demo_folder(str(young)) as again:
        assert {path.name for path in again.iterdir()} == {MARK}


# -- what is printed -----------------------------------------------------------------------------------------------------


def test_a_step_shows_its_notes_and_commands_within_eighty_columns() -> None:
    with captured() as written:
        script = Script()
        with script.step("a step " + "with many words " * 8, "reconciler status") as notes:
            notes.add("a note " * 20)
            notes.quote("somebody wrote " * 10, "\x1b[31mred\x1b[0m")
    lines = "".join(written).splitlines()
    assert all(len(line) <= COLUMNS for line in lines)
    assert lines[-1].strip() == "$ reconciler status"
    assert [line for line in lines if "| somebody wrote" in line]
    assert "\x1b" not in "".join(written)


def test_a_step_that_fails_says_why_and_shows_what_it_saw() -> None:
    with captured() as written, pytest.raises(StepFailed):
        script = Script()
        with script.step("a step", "reconciler status") as notes:
            notes.add("seen before")
            raise StepFailed("the check ended as failure")
    text = "".join(written)
    assert "✗" in text
    assert "seen before" in text
    assert "the check ended as failure" in text
    assert "$ reconciler status" not in text


def test_an_encoding_without_the_marks_gets_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), "latin-1"))
    with captured() as written, Script().step("a step"):
        pass
    assert "".join(written).startswith("+  1")


def test_a_wait_ends_with_the_name_of_what_did_not_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.cli.demo.script.PATIENCE_S", 0.05)
    with pytest.raises(StepFailed, match="the comment"):
        wait_for("the comment", lambda: None, every_s=0.01)


def test_a_journal_that_the_daemon_removes_meanwhile_does_not_end_the_demo(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"token s3cret")
    assert contains(tmp_path / "log", [b"x", b"s3cret"])
    assert not contains(tmp_path / "log", [b"x"])
    assert not contains(tmp_path / "engine.db-journal", [b"s3cret"])
