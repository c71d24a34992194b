"""What the tab key completes, in real shells, and how fast."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reconciler.cli import complete as complete_module
from reconciler.cli.complete import candidates
from reconciler.cli.complete import main as complete
from reconciler.cli.completion import script
from reconciler.cli.guide import EXAMPLES, GROUPS
from reconciler.cli.verbs import VERBS
from reconciler.config.settings import FILE_NAME, Config

STATUS = {
    "kind": "StatusReport",
    "resources": [
        {"kind": "EventSource", "canvas": "default", "name": "payments"},
        {"kind": "EventSource", "canvas": "staging", "name": "payments"},
        {"kind": "Integration", "canvas": "default", "name": "github"},
        {"kind": "Stage", "canvas": "default", "name": "deploy"},
        {"kind": "Stage", "canvas": "default", "name": "$(touch owned)"},
    ],
    "stages": [{"name": "deploy", "last": {"id": "rcl-1", "item": "itm-1"}}, {"name": "new", "last": None}],
    "plans": [{"blocked": {"sha256": "sha256:" + "a" * 64}}, {"blocked": None}],
}


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "status.json").write_text(json.dumps(STATUS))
    (tmp_path / "reconciler.yaml").write_text("source: {url: .}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("reconciler stat", ["status"]),
        ("reconciler --config reconciler.yaml stat", ["status"]),
        ("reconciler status EventS", ["EventSource", "EventSource/payments", "EventSource/payments@staging"]),
        ("reconciler status eventsource/", ["EventSource/payments", "EventSource/payments@staging"]),
        ("reconciler suspend Stage/", ["Stage/deploy"]),
        ("reconciler --config reconciler.yaml suspend Stage/", ["Stage/deploy"]),
        ("reconciler suspend Stage/deploy ", []),
        ("reconciler trigger ", ["payments", "payments@staging"]),
        ("reconciler export ", ["github"]),
        ("reconciler executions --stage ", ["deploy"]),
        ("reconciler executions --stage=d", ["--stage=deploy"]),
        ("reconciler events --source p", ["payments", "payments@staging"]),
        ("reconciler logs ", ["rcl-1", "itm-1"]),
        ("reconciler approve sha", ["sha256:" + "a" * 64]),
        ("reconciler status -o w", ["wide"]),
        ("reconciler status --wa", ["--watch"]),
        ("reconciler schema Ev", ["EventSource"]),
        ("reconciler completion ", ["bash", "zsh", "fish"]),
        ("reconciler apply ", []),
        ("reconciler nosuch ", []),
    ],
)
def test_the_tab_key_completes_verbs_options_and_names(installation: Path, line: str, expected: list[str]) -> None:
    assert complete(["zsh", line]) == expected


def test_without_a_status_file_or_with_a_broken_one_nothing_is_completed_and_nothing_said(installation: Path) -> None:
    file = installation / "state" / "status.json"
    file.write_text("{")
    assert complete(["bash", "reconciler suspend "]) == []
    file.unlink()
    assert complete(["bash", "reconciler suspend "]) == []
    os.mkfifo(file)  # nobody writes to it: reading would block
    began = time.monotonic()
    assert complete(["bash", "reconciler suspend "]) == []
    assert time.monotonic() - began < 0.4
    (installation / "reconciler.yaml").write_text("nonsense: [")
    done = subprocess.run([sys.executable, "-m", "reconciler", "__complete", "bash", "reconciler suspend "], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_status_file_is_found_where_the_configuration_has_it(installation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = Config()
    assert (FILE_NAME, defaults.status.file) == (complete_module.CONFIG_NAME, complete_module.STATUS_NAME)
    assert complete_module.STATUS_VARIABLE in {row[3] for row in defaults.describe() if row[0] == "status.file"}
    elsewhere = installation / "elsewhere"
    elsewhere.mkdir()
    (installation / "state" / "status.json").rename(elsewhere / "s.json")
    assert complete(["zsh", "reconciler suspend Stage/"]) == []
    (installation / "other.yaml").write_text("source: {url: .}\nstatus: {file: elsewhere/s.json}\n")
    assert complete(["zsh", "reconciler suspend --config other.yaml Stage/"]) == ["Stage/deploy"]
    assert complete(["zsh", "reconciler --config=other.yaml suspend Stage/"]) == ["Stage/deploy"]
    monkeypatch.setenv("RECONCILER_STATUS_FILE", "elsewhere/s.json")
    assert complete(["zsh", "reconciler suspend Stage/"]) == ["Stage/deploy"]


def test_names_of_a_thousand_resources_are_completed_within_a_tenth_of_a_second(installation: Path) -> None:
    row = {"kind": "EventSource", "canvas": "default", "conditions": [{"type": "Ready", "message": "x" * 400}] * 3}
    rows = [{**row, "name": f"source-{number:04}"} for number in range(1_000)]
    (installation / "state" / "status.json").write_text(json.dumps({**STATUS, "resources": rows}))
    complete(["bash", "reconciler status "])
    took = []
    for _ in range(5):
        began = time.process_time()
        assert len(complete(["bash", "reconciler suspend EventSource/source-0"])) == 1_000
        took.append(time.process_time() - began)
    assert min(took) < 0.1


def bash(installation: Path, line: str) -> list[str]:
    """Return what bash offers for a line, with the script as a user loads it."""
    bin_dir = Path(sys.executable).parent
    text = (
        'eval "$(reconciler completion bash)"; COMP_LINE="$LINE"; COMP_POINT=${#LINE}; _reconciler reconciler; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    env = {**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}", "LINE": line}
    done = subprocess.run(["bash", "-c", text], cwd=installation, env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_replaces_only_what_follows_its_word_breaks(installation: Path) -> None:
    assert bash(installation, "reconciler sta") == ["status"]
    assert bash(installation, "reconciler suspend EventSource/payments@st") == ["staging"]
    assert bash(installation, "reconciler approve sha256:a") == ["a" * 64]
    assert bash(installation, "reconciler executions --stage=de") == ["deploy"]
    assert not (installation / "owned").exists()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_scripts_of_other_shells_are_valid_and_ask_the_program(installation: Path, shell: str) -> None:
    assert f"__complete {shell}" in script(shell)
    file = installation / f"completion.{shell}"
    file.write_text(script(shell))
    subprocess.run([shell, "-n", str(file)], check=True)
    if shell == "fish":
        bin_dir = Path(sys.executable).parent
        ask = f"set -x PATH {bin_dir} $PATH; source {file}; complete -C 'reconciler suspend Stage/'"
        assert subprocess.run(["fish", "-c", ask], capture_output=True, text=True, check=True).stdout.split() == ["Stage/deploy"]


def test_every_verb_is_in_one_group_and_has_an_example() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    assert len(grouped) == len(set(grouped))
    assert {verb.name for verb in VERBS} <= set(grouped)
    assert {verb.name for verb in VERBS} <= EXAMPLES.keys()
    assert candidates([], "") == [verb.name for verb in VERBS]
