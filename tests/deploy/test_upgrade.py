"""The state of version 0.1 becomes the state of this version: in place, on both databases, over every crash, and never backwards."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from reconciler.model.errors import StateError
from reconciler.state import Store
from reconciler.state.migrate import HEAD
from tests.deploy.old_state import OldState, objects_of

MIGRATIONS = int(HEAD) - 3
"""From the schema of version 0.1 (0003) to this one."""


@pytest.fixture(params=["sqlite", "postgresql"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> OldState:
    return old_state(request, tmp_path, request.param)


def old_state(request: pytest.FixtureRequest, folder: Path, kind: str) -> OldState:
    return OldState(folder, kind, request.getfixturevalue("postgres") if kind == "postgresql" else None)


@pytest.fixture
def running(old: OldState) -> Iterator[OldState]:
    with old.providers():
        yield old


def rows_of(url: str, statement: str) -> list[Any]:
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement))]
    finally:
        engine.dispose()


def schema_of(url: str) -> str:
    return str(rows_of(url, "SELECT version_num FROM alembic_version")[0][0])


def ready(world: OldState) -> tuple[int, int, str]:
    """Return how many resources there are, how many are ready, and why the suspended one is not."""
    summary = world.status()["summary"]
    condition = world.condition("EventSource", "repo00") or {"reason": ""}
    return summary["total"], summary["ready"], condition["reason"]


# -- the whole way ------------------------------------------------------------------------------------------------------


def test_the_daemon_starts_on_the_state_of_0_1_and_goes_on_with_everything(running: OldState) -> None:
    world = running
    objects = objects_of(world)
    runs = len(world.runs())
    recorded = rows_of(world.url, "SELECT count(*) FROM managed_object")[0][0]
    world.daemon()
    world.wait(lambda: ready(world) == (28, 27, "Suspended"), "all are ready but the suspended one")
    assert schema_of(world.url) == HEAD

    # All objects are known: none is created, changed or deleted, and the one whose record was lost with its process is recorded.
    assert objects_of(world) == objects
    count = "SELECT count(*) FROM managed_object WHERE tombstone = false"
    world.wait(lambda: rows_of(world.url, count) == [(recorded + 1,)], "the write with unknown outcome is settled")
    assert [row["path"] for name in world.servers for row in world.writes(name) if "/dispatches" not in row["path"]] == []

    # The start with unknown outcome finds its run; the stored event starts one run, once; what waits for approval still does.
    ended = world.finished("doubt", 3)
    assert {row["result"] for row in ended} == {"passed"}
    assert len(world.runs()) == runs + len(ended) - 1
    assert world.running("slow")["state"] == "running"
    queued = world.queued("deploy")
    assert len(queued) == len(ended)
    oldest = min(queued, key=lambda row: row["createdAt"])
    world.ask("approve", id=oldest["id"], digest=oldest["digest"])
    assert world.finished("deploy")[0]["result"] == "passed"

    # Keys, the audit log and deliveries: the hooks of 0.1 are signed with the key that this version derives.
    assert world.send("own", {"number": 9}, "delivery-9", **{"x-event-type": "go"}) == 202
    assert world.send("own", {"number": 1}, "delivery-1", **{"x-event-type": "go"}) == 202, "known from before the upgrade"
    world.finished("doubt", len(ended) + 1)
    world.push()
    world.finished("build", 3)
    assert world.cli("orphans", "-o", "name").stdout == ""
    verified = world.cli("history", "--verify")
    assert (verified.returncode, "the chain holds" in verified.stdout) == (0, True), verified.stdout + verified.stderr
    world.stop()
    assert objects_of(world) == objects

    log = [json.loads(line) for line in world.log().splitlines() if line.startswith("{")]
    upgrade = next(line for line in log if line["event"] == "state_upgraded")
    assert (upgrade["before"], upgrade["after"]) == ("0003", HEAD)
    if world.kind == "sqlite":
        assert schema_of(f"sqlite:///{upgrade['copy']}") == "0003"


# -- crashes ------------------------------------------------------------------------------------------------------------

OPEN = """
import sys
from pathlib import Path
from reconciler.state import Store
store = Store.open(sys.argv[1], state_dir=Path(sys.argv[2]))
print("upgraded" if store.upgraded else "found")
store.close()
"""
POINTS = ("state-migrate-step:1", f"state-migrate-step:{MIGRATIONS}", "state-migrate:1")


def opened(old: OldState, point: str = "") -> subprocess.Popen[str]:
    env = os.environ | ({"RECONCILER_FAILPOINTS": "1", "RECONCILER_FAILPOINT": point} if point else {})
    command = [sys.executable, "-c", OPEN, old.url, str(old.folder / "state")]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def open_it(old: OldState, point: str = "") -> tuple[int, str]:
    """Open the state in a process of its own; returns its exit code and what it prints."""
    process = opened(old, point)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output + errors


def content_of(old: OldState) -> dict[str, Any]:
    """Return a digest of every table of 0.1 that no migration empties or changes."""
    tables = ("managed_object", "intent", "item", "event", "report", "output", "suspension", "vote", "journal", "status")
    content = {}
    for table in tables:
        rows = sorted(
            repr(tuple(bytes(v) if isinstance(v, memoryview) else v for v in row))
            for row in rows_of(old.url, f"SELECT * FROM {table}")
        )
        content[table] = (len(rows), hashlib.sha256("\n".join(rows).encode()).hexdigest())
    return content


@pytest.mark.fault
def test_a10_a_kill_at_any_point_of_the_migration_is_ended_by_the_next_start(old: OldState) -> None:
    before = content_of(old)
    for point in (*(["state-copied:1"] if old.kind == "sqlite" else []), *POINTS):
        assert open_it(old, point) == (-signal.SIGKILL, ""), point
        assert schema_of(old.url) == "0003", f"{point}: all of it or nothing"
    assert open_it(old, "state-migrated:1") == (-signal.SIGKILL, ""), "after the commit"
    assert schema_of(old.url) == HEAD
    assert open_it(old) == (0, "found\n")
    assert content_of(old) == before


@pytest.mark.fault
def test_two_processes_that_start_on_one_postgresql_migrate_it_once(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    old = old_state(request, tmp_path, "postgresql")
    answers = [process.communicate(timeout=60) for process in [opened(old) for _ in range(3)]]
    assert sorted(answer for answer, _ in answers) == ["found\n", "found\n", "upgraded\n"], answers


def test_a_migration_that_takes_longer_than_a_statement_may_is_waited_for(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = old_state(request, tmp_path, "postgresql")
    limits = "-c statement_timeout=200 -c lock_timeout=200 -c idle_in_transaction_session_timeout=10000"
    monkeypatch.setattr("reconciler.state.database._LIMITS", limits)
    engine = sa.create_engine(old.url)
    with engine.connect() as peer:
        peer.execute(sa.text("SELECT pg_advisory_xact_lock(7163002)"))  # as a process that migrates
        timer = threading.Timer(1.0, peer.commit)
        timer.start()
        store = Store.open(old.url, state_dir=tmp_path / "state")
        timer.join()
    engine.dispose()
    assert store.upgraded is not None
    assert store.upgraded.duration_s > 0.9
    store.close()


# -- who may use a schema -----------------------------------------------------------------------------------------------


def marked(old: OldState, *statements: str) -> None:
    engine = sa.create_engine(old.url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()


def test_an_older_program_refuses_a_newer_state_and_says_what_to_do(old: OldState) -> None:
    assert open_it(old) == (0, "upgraded\n")
    marked(
        old,
        "UPDATE alembic_version SET version_num = '9999'",
        "UPDATE meta SET value = '9999' WHERE key = 'schema.oldest'",
        "UPDATE meta SET value = '9.9.9' WHERE key = 'schema.writer'",
    )
    before = content_of(old)
    refused = old.cli("run")
    assert refused.returncode == 78, refused.stderr
    copy = (
        f"restore {old.folder}/state/state.before-{HEAD}.db"
        if old.kind == "sqlite"
        else "restore the backup from before the upgrade"
    )
    assert "RC7008: the state was written by version 9.9.9 of reconciler (schema 9999, this program, " in refused.stderr
    assert f"Nothing was changed. Install version 9.9.9 again; or, to keep this one, {copy} (docs/backup.md)." in refused.stderr
    assert old.cli("history").returncode == 1
    assert (schema_of(old.url), content_of(old)) == ("9999", before)


def test_an_older_program_uses_a_newer_state_that_says_that_it_may(old: OldState) -> None:
    assert open_it(old) == (0, "upgraded\n")
    marked(old, "UPDATE alembic_version SET version_num = '9999'")
    assert open_it(old) == (0, "found\n")
    assert schema_of(old.url) == "9999"


def test_no_command_migrates_the_state_under_a_daemon_of_the_older_version(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    old = old_state(request, tmp_path, "sqlite")
    held = subprocess.Popen(
        [sys.executable, "-c", "import sys, pathlib, reconciler.state as s; s.StateLock(pathlib.Path(sys.argv[1])).acquire(); print(); sys.stdin.read()",
         str(old.folder / "state")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        held.stdout.readline()
        refused = old.cli("history")
        assert refused.returncode == 1
        assert f"is used by pid {held.pid}, which runs an older version" in refused.stderr
        assert schema_of(old.url) == "0003"
    finally:
        held.communicate("")


def test_a_breaking_migration_breaks_no_process_that_is_alive(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schema of 0.1 is older than the rule, so no process of it may be alive."""
    old = old_state(request, tmp_path, "postgresql")
    monkeypatch.setattr("reconciler.state.versions.ALIVE_S", 0.1)
    marked(old, "INSERT INTO executor VALUES ('old-host-1', extract(epoch FROM now()) + 3600)")
    with pytest.raises(StateError, match="old-host-1 still work on this database") as caught:
        Store.open(old.url, state_dir=tmp_path)
    assert caught.value.code == "RC7073"
    assert schema_of(old.url) == "0003"
