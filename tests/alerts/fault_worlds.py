"""Daemons with a real fault each, for the alerts: a killed or stopped process, a full disk, a provider that refuses, an edited row."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from reconciler.cli.demo.accounts import TOKENS
from reconciler.cli.demo.events import Traffic
from reconciler.cli.demo.repository import FULL_NAME
from reconciler.cli.demo.reviews import AUTHOR
from reconciler.cli.demo.stages import FORGED
from reconciler.cli.demo.world import DemoWorld
from tests.flow.stage_world import StageWorld

FAULTY = """\
kind: EventSource
metadata: {name: nowhere}
spec:
  integration: {name: github}
  resource: {type: repository, name: no-such-repository}
  events: [{type: push}]
---
kind: Stage
metadata: {name: mistyped}
spec: {executer: {type: noop}}
"""


def children(pid: int) -> list[int]:
    """Return the direct children of a process."""
    return [int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in (task / "children").read_text().split()]


DAY_S = 86_400
DEEP = b'{"m": ' + b"[" * 300 + b"1" + b"]" * 300 + b"}"
"""An event that no filter can read: its nesting exceeds the limit."""


class DemoTeam:
    """The world of the demo, and what may go wrong in it. A context manager."""

    def __init__(self, folder: Path) -> None:
        self.world = DemoWorld(folder)
        self.traffic: Traffic

    def __enter__(self) -> DemoTeam:
        self.world.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.world.kill_daemon()
        self.world.__exit__(kind, error, trace)

    def begin(self) -> None:
        """Start the daemon."""
        self.world.start_providers()
        self.traffic = Traffic(self.world)
        self.world.push_example()
        self.world.start_daemon()

    @property
    def address(self) -> str:
        return self.world.receiver.removeprefix("http://")

    def approve(self) -> None:
        """Approve the deployment that waits."""
        item = self.traffic.waiting("deploy")
        assert item is not None
        done = self.world.cli("approve", item.id)
        assert done.returncode == 0, done.stderr

    def starting(self) -> bool:
        """Whether an execution is started whose outcome is not known."""
        return any(each.state == "starting" for each in self.traffic.executions("build"))

    # -- what goes wrong --------------------------------------------------------------------------------------------

    def commit_errors(self) -> None:
        """A revision with an error, and with a repository that does not exist."""
        (self.world.repository.work / "faulty.yaml").write_text(FAULTY)
        self.world.repository.commit("Make mistakes")

    def remove_protected(self) -> None:
        """A commit that deletes what `lifecycle.preventDestroy` protects."""
        self.world.repository.remove_sources("audit")
        self.world.repository.commit("Delete the protected source")

    def propose(self, number: int, *, faulty: bool = False) -> None:
        """Open a pull request; with ``faulty``, its check cannot be ended."""
        github = self.world.providers["github"].admin
        if faulty:
            github.fault(method="PATCH", path="/check-runs/", times=0, status=502)
        head = self.world.repository.propose(number, "Change nothing")
        github.do("open_pull", repository=FULL_NAME, head_sha=head, number=number, author=AUTHOR, title="Change nothing")

    def refuse_statuses(self) -> None:
        """GitHub takes no status of a commit."""
        self.world.providers["github"].admin.fault(method="POST", path="/statuses/", times=0, status=502)

    def silence_chat(self) -> None:
        self.world.providers["slack"].admin.fault(times=0, status=503)

    def revoke(self, provider: str) -> None:
        self.world.providers[provider].admin.put_state({"tokens": {TOKENS[provider]: None}})

    def expire_in(self, seconds: float) -> None:
        at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time.time() + seconds))
        self.world.providers["github"].admin.put_state({"tokens": {TOKENS["github"]: {"expires_at": at}}})

    def turn_clock(self) -> None:
        self.world.providers["semaphore"].admin.settings(clock_skew_s=120.0)

    def forge(self, sha: str, times: int) -> None:
        """Deliver what looks like a push, with a wrong signature."""
        delivery = self.traffic.deliveries(sha)[0]
        for _ in range(times):
            assert self.traffic.deliver(delivery, **FORGED) == 401

    def tamper(self) -> None:
        """Delete every webhook by hand."""
        for repo in ("payments", "web", "checkout", "search"):
            for hook in self.world.hooks(repo):
                self.world.delete_hook(repo, hook.id)

    def mute_starts(self) -> None:
        """GitHub takes a request to start a run, and does not answer."""
        self.world.providers["github"].admin.fault(method="POST", path="/dispatches", times=0, effect="mute")

    def mute(self, provider: str) -> None:
        self.world.providers[provider].admin.fault(times=0, effect="mute")

    def use_up_rate(self) -> None:
        self.world.providers["github"].admin.settings(rate_limits=True, primary_per_hour=20)

    def stop_evaluator(self) -> None:
        """SIGSTOP for the process that evaluates filters."""
        daemon = self.world._daemon
        assert daemon is not None
        for pid in children(daemon.pid):
            if (
                b"reconciler.events.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
            ):  # git may run, too, and would stay for ever
                os.kill(pid, signal.SIGSTOP)


def edit_audit(state: Path) -> None:
    """Change a row of the audit log, as somebody with access to the disk does."""
    with contextlib.closing(sqlite3.connect(state / "state.db", timeout=20)) as database, database:
        for (name,) in database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit'"
        ).fetchall():
            database.execute(f"DROP TRIGGER {name}")
        changed = database.execute("UPDATE audit SET payload = CAST(payload || ' ' AS BLOB) WHERE seq = 1").rowcount
    assert changed == 1


@contextlib.contextmanager
def locked(state: Path) -> Iterator[None]:
    """Hold the lock of the database."""
    with contextlib.closing(sqlite3.connect(state / "state.db", timeout=20, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")


def on_small_disk(world: StageWorld, mark: Path) -> None:
    """Start the daemon with its state on a disk of 24 MB, which is filled once ``mark`` exists."""
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    refused = subprocess.run([*unshare, "true"], capture_output=True, text=True).stderr
    assert not refused, f"run this test as root, or allow unprivileged user namespaces: {refused}"
    state = world.folder / "state"
    state.mkdir(mode=0o700)
    inside = (
        'mount -t tmpfs -o size=24m,mode=700 tmpfs "$1"; state="$1"; mark="$2"; shift 2; '
        '(while [ ! -e "$mark" ]; do kill -0 $$ || exit; sleep 0.2; done; head -c 30m /dev/zero > "$state/filler") & exec "$@"'
    )
    with (world.folder / "daemon.log").open("ab") as log:
        process = subprocess.Popen(
            [*unshare, "sh", "-c", inside, "sh", str(state), str(mark), *world.command("run")],
            env=world.env,
            cwd=world.folder,
            stdout=log,
            stderr=log,
        )
    world.processes.append(process)
