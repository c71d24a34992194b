"""What `status --exit-code` says of a resource that there is not, and of a daemon that does not run any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from reconciler.cli.demo.folder import demo_folder
from reconciler.cli.status import exit_code
from reconciler.model.status_document import (
    ConditionRow,
    CredentialRow,
    DaemonRow,
    RateRow,
    ResourceRow,
    SourceRow,
    StatusDocument,
)
from tests.engine.world import World

NOW = time.time()
"""When the cases below were made: a heartbeat must not grow old while other tests run."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.repos("payments")
    made.source("payments")
    yield made
    made.close()


def document(phase: str = "running", age_s: float = 0.0, ready: tuple[str, ...] = ("True",)) -> StatusDocument:
    beat = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW - age_s))
    return StatusDocument(
        daemon=DaemonRow("1", 1, beat, beat, phase), source=SourceRow(), resources=tuple(resource(state) for state in ready)
    )


def resource(ready: str) -> ResourceRow:
    return ResourceRow(
        kind="EventSource",
        canvas="default",
        name="payments",
        file="payments.yaml",
        line=1,
        generation=1,
        observed_generation=1,
        deleting=False,
        objects=(),
        drift=(),
        last_changed_at="",
        next_reconcile_at="",
        attempts=0,
        history=(),
        conditions=(ConditionRow("Ready", ready),),
    )


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        (document(), 0),
        (document("once", 1e6), 0),
        (document("stopped"), 1),
        (document("stopped", 1e6), 1),
        (document("running", 1e6), 1),
        (document("draining", 1e6), 1),
        (document(ready=("True", "False")), 2),
        (document(ready=("Unknown",)), 2),
        (document("stopped", ready=("False",)), 1),
    ],
)
def test_n42_the_code_says_what_keeps_it_so_before_what_is(shown: StatusDocument, code: int) -> None:
    assert exit_code(shown, NOW) == code


def test_n42_an_unknown_resource_is_an_error_that_names_the_nearest(world: World) -> None:
    assert world.cli("run", "--once").returncode == 0
    assert world.cli("status", "EventSource/payments", "--exit-code").returncode == 0
    for more in ([], ["--exit-code"], ["-o", "json"]):
        done = world.cli("status", "EventSource/paymets", *more)
        assert done.returncode == 1, done.stdout
        assert "RC6025" in done.stderr
        assert "Did you mean EventSource/payments?" in done.stderr
        assert done.stdout == ""
    for verb in ("explain", "history"):
        done = world.cli(verb, "EventSource/paymets")
        assert (done.returncode, done.stdout) == (1, ""), done.stdout
        assert "RC6025" in done.stderr
        assert "Did you mean EventSource/payments?" in done.stderr
        assert world.cli(verb, "eventsource/payments").returncode == 0
    done = world.cli("status", "EventSource/payments@nope", "--exit-code")
    assert done.returncode == 1
    done = world.cli("status", "EventSorce")
    assert done.returncode == 64
    assert "Did you mean EventSource?" in done.stderr
    assert world.cli("status", "Stage", "--exit-code").returncode == 0  # a kind of which there is none


def test_n42_a_daemon_that_was_stopped_or_killed_is_1(world: World) -> None:
    process = world.daemon()
    world.wait(world.all_ready)
    assert world.cli("status", "--exit-code").returncode == 0
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = world.cli("status", "--exit-code")
    assert done.returncode == 1
    assert "no daemon" in done.stderr
    process = world.daemon()
    world.wait(lambda: world.status()["daemon"]["pid"] == process.pid and world.status()["daemon"]["phase"] == "running")
    process.terminate()
    assert process.wait(timeout=40) == 0
    assert world.cli("status", "--exit-code").returncode == 1


# -- the demo ------------------------------------------------------------------------------------------------------------

HOLDER = """\
import sys, time
from pathlib import Path
from reconciler.cli.demo.folder import demo_folder
from reconciler.cli.demo.main import _ended_by_signals
from reconciler.cli.demo.world import DemoWorld
with _ended_by_signals(), demo_folder(sys.argv[1]) as folder, DemoWorld(folder) as world:
    world.start_providers()
    world.push_example()
    world.start_daemon()
    print(world._daemon.pid, flush=True)
    time.sleep(300)
"""


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_n45_a_demo_that_is_ended_leaves_no_daemon(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        daemon = int(process.stdout.readline())
        deadline = time.monotonic() + 60
        while not (tmp_path / "state" / "lock").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        process.wait(timeout=60)
    with demo_folder(str(tmp_path)) as folder:  # it waits until the daemon has ended
        assert not (folder / "state").exists()
    while not gone(daemon) and time.monotonic() < deadline + 60:
        time.sleep(0.05)
    assert gone(daemon)


def test_n42_a_credential_that_is_refused_counts_where_all_is_looked_at() -> None:
    credential = CredentialRow("Integration/default/github", False, "", "", (), RateRow(None, None, None))
    refused = msgspec.structs.replace(document(), credentials=(credential,))
    assert (exit_code(document(), NOW), exit_code(refused, NOW), exit_code(refused, NOW, refused.resources)) == (0, 2, 0)
