"""The commands of docs/backup.md, run as they are: with the daemon running and under load, and after everything else is lost."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from reconciler.cli.backup import _refuse_running
from reconciler.model.errors import StateError
from reconciler.model.records import AuditEntry
from reconciler.state import Store
from tests.deploy.old_state import OldState
from tests.flow.stage_world import NOOP, WORKFLOW, StageWorld
from tests.support.postgres import Postgres

PAGE = Path(__file__).parents[2] / "docs" / "backup.md"
CI = "executor: {type: github, integration: {name: github}, resource: {type: repository, name: web}, spec: {workflow: ci.yml, ref: main}}"


def blocks(title: str) -> list[str]:
    """Return the commands of each block below a heading of the page."""
    section = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    text = next(part for part in section if part.startswith(title))
    return [
        "\n".join(line.removeprefix("$ ") for line in block.splitlines())
        for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]


class Documented(StageWorld):
    """A world in which the commands of the page work: programs, folders and the unit of systemd have stand-ins of this test."""

    def __init__(self, folder: Path, postgres: Postgres | None) -> None:
        super().__init__(folder, ("github", "semaphore"))
        self.postgres, self.url = postgres, ""
        if postgres is not None:
            self.connect(postgres.database())
        (folder / "backup").mkdir()
        programs = folder / "bin"
        programs.mkdir()
        (programs / "reconciler").write_text(
            f'#!/bin/sh\nverb=$1; shift\nexec {sys.executable} -m reconciler "$verb" --config {self.config} "$@"\n'
        )
        (programs / "systemctl").write_text("#!/bin/sh\nexit 0\n")
        for program in programs.iterdir():
            program.chmod(0o755)

    def connect(self, url: str) -> None:
        self.url = url
        self.configure(state=f'{{url: "{url}"}}')

    def document(self, commands: str) -> str:
        """Run a block of the page; `systemctl` stops and starts the daemon of this world."""
        output = ""
        for line in commands.splitlines():
            if line.startswith("systemctl stop"):
                continue  # it was killed
            if line.startswith("systemctl start"):
                self.daemon()
                continue
            line = line.replace("/var/lib/reconciler", str(self.folder / "state")).replace("/backup", str(self.folder / "backup"))
            env = self.env
            env["PATH"] = f"{self.folder / 'bin'}:{env['PATH']}"
            env["DATABASE_URL"] = self.url.replace("postgresql+psycopg", "postgresql")
            if self.postgres is not None:
                env["PATH"] = f"{self.postgres.programs}:{env['PATH']}"
            done = subprocess.run(["sh", "-c", line], env=env, cwd=self.folder, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            output += done.stdout
        return output


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def documented(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Documented]:
    world = Documented(tmp_path, request.getfixturevalue("postgres") if request.param == "PostgreSQL" else None)
    yield world
    world.close()


@contextlib.contextmanager
def load(world: StageWorld) -> Iterator[list[int]]:
    """Send deliveries all the time; yields the numbers of those that were accepted."""
    stop, sent = threading.Event(), []

    def send() -> None:
        number = 1_000
        while not stop.wait(0.02):
            number += 1
            with contextlib.suppress(OSError):
                if world.send("fast", {"number": number}, f"load-{number}", **{"x-event-type": "go"}) == 202:
                    sent.append(number)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield sent
    finally:
        stop.set()
        thread.join()


def on_postgresql(world: Documented, *statements: str) -> None:
    if world.postgres is None:
        return
    engine = sa.create_engine(world.url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()


def declare(world: StageWorld) -> None:
    slow = {**WORKFLOW, "id": 12, "name": "Slow", "path": ".github/workflows/slow.yml", "duration_s": 3.0}
    world.workflows("web", {**WORKFLOW, "duration_s": 0.1, "outputs": {}}, slow)
    world.source("web")
    world.write(
        "source-sem.yaml",
        "kind: EventSource\nmetadata: {name: sem}\nspec: {integration: {name: semaphore}, resource: {type: project, name: web}}",
    )
    world.stage("after-semaphore", CI, after="{type: event-source, name: sem}")
    for name in ("own", "fast"):
        world.webhook(name)
    world.manual()
    world.stage("fast", "concurrency: 8", NOOP, after="{type: event-source, name: fast}")
    world.stage("build", CI, after="{type: event-source, name: own}")
    world.stage("deploy", CI, "conditions: [{type: approval, approval: {count: 1}}]", after="{type: event-source, name: own}")
    world.stage("slow", CI.replace("ci.yml", "slow.yml"), after="{type: event-source, name: hand}")
    world.stage("after-slow", CI, after="{type: stage, name: slow}")


def hooks_of(world: StageWorld) -> list[int]:
    return sorted(hook["id"] for hooks in world.github.state()["hooks"].values() for hook in hooks)


def test_the_steps_of_the_page_restore_a_lost_host_and_nothing_is_doubled(documented: Documented) -> None:
    world = documented
    title = "SQLite" if world.postgres is None else "PostgreSQL"
    backup, restore = blocks(title)
    declare(world)
    world.ready()
    world.ask("redeliver")  # no source is new any more
    assert world.send("own", {"number": 1}, "delivery-1", **{"x-event-type": "go"}) == 202
    world.finished("build")
    waiting = world.waiting("deploy", "approval")
    world.trigger()
    world.running("slow")
    with load(world) as sent:
        world.wait(lambda: len(sent) > 10, "load")
        world.document(backup)
        world.wait(lambda: len(sent) > 20, "load goes on")

    # Since the backup: the approved item ran, the run that was under way ended and led on, a source came, another left.
    world.ask("approve", id=waiting["id"], digest=waiting["digest"])
    world.finished("deploy")
    world.finished("after-slow")
    world.semaphore.do("run_pipeline", project="web", duration_s=0)
    world.finished("after-semaphore")
    world.source("shop")
    world.wait(lambda: world.hooks("shop"), "a hook that the backup does not know")
    world.remove("web")
    world.wait(lambda: not world.hooks("web"), "a hook that only the backup knows")
    hooks, runs, semaphore = hooks_of(world), len(world.runs()), world.semaphore.state()["notifications"]

    # The host is lost.
    world.kill()
    anchor = json.loads((world.folder / "state" / "audit.anchor").read_text())["seq"] if title == "SQLite" else 0
    if world.postgres is None:
        assert sqlite3.connect(world.folder / "backup" / "state.db").execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (world.folder / "state" / "master.key").unlink()
    else:
        shutil.rmtree(world.folder / "state")
        world.connect(world.postgres.database())
    world.forget_requests()
    output = world.document(restore)
    assert "It may have run since the backup, so this was ended:" in output
    assert f"reconciler rerun {waiting['id']}" in output
    world.up()

    # Nothing is created, deleted or run again; the chain of the audit log holds, and names the restore.
    world.wait(lambda: hooks_of(world) == hooks and world.all_ready(), "all ready")
    # Semaphore lists pipelines, not which deliveries arrived. Its clock is ahead, so that none is too young to be looked at.
    world.semaphore.settings(clock_skew_s=30)
    assert [row["recovered"] for row in world.ask("redeliver")["sources"] if row["source"] == "EventSource/sem"] == [0]
    time.sleep(1.5)
    assert (hooks_of(world), len(world.runs())) == (hooks, runs)
    assert [row["path"] for row in world.writes()] == []
    assert world.semaphore.state()["notifications"] == semaphore
    assert {row["state"] for row in world.executions()} == {"finished"}
    assert world.queued() == []
    verified = world.cli("history", "--verify")
    assert "the chain holds" in verified.stdout, verified.stdout + verified.stderr
    assert '"verb": "restore"' in world.cli("history", "-o", "json").stdout
    if title == "SQLite":
        kept = json.loads((world.folder / "state" / "audit.anchor.before-restore").read_text())
        assert kept["seq"] == anchor

    # It works on: new events, and what was ended by hand.
    assert world.send("own", {"number": 2}, "delivery-2", **{"x-event-type": "go"}) == 202
    world.finished("build", 2)
    world.ask("rerun", id=waiting["id"])
    world.wait(
        lambda: [row["reason"] for row in world.queued("deploy")] == ["approval"] * 2, "the new item, and the repeated one"
    )


def test_a_move_to_another_host_continues_everything(tmp_path: Path) -> None:
    world = Documented(tmp_path, None)
    try:
        declare(world)
        world.ready()
        assert world.send("own", {"number": 1}, "delivery-1", **{"x-event-type": "go"}) == 202
        world.finished("build")
        waiting = world.waiting("deploy", "approval")
        world.stop()
        made = world.cli("backup", "--with-key", "-o", "json", str(tmp_path / "moved.db"))
        assert made.returncode == 0, made.stderr
        shutil.rmtree(tmp_path / "state")
        done = world.cli("restore", "--yes", "--with-key", "--resume-work", str(tmp_path / "moved.db"))
        assert done.returncode == 0, done.stderr
        world.ready()
        assert world.waiting("deploy", "approval")["id"] == waiting["id"]
        world.ask("approve", id=waiting["id"], digest=waiting["digest"])
        world.finished("deploy")
        assert len(world.runs()) == 2
    finally:
        world.close()


# -- what is refused ----------------------------------------------------------------------------------------------------


@pytest.fixture
def applied(tmp_path: Path) -> Iterator[Documented]:
    world = Documented(tmp_path, None)
    world.source("web")
    assert world.cli("apply", "--yes").returncode == 0
    yield world
    world.close()


def test_a_backup_that_does_not_fit_is_refused_and_nothing_is_changed(applied: Documented) -> None:
    world, file, state = applied, applied.folder / "b.db", applied.folder / "state"
    assert world.cli("backup", str(file)).returncode == 0
    assert (file.stat().st_mode & 0o777, (state / "master.key").read_bytes() in file.read_bytes()) == (0o600, False)
    lines = {
        "exists": world.cli("backup", str(file)),
        "itself": world.cli("backup", "--force", str(state / "state.db")),
        "state": world.cli("restore", "--yes", str(file)),
    }
    for path in state.glob("state.db*"):
        path.unlink()
    lines["asked"] = world.cli("restore", str(file))
    key = (state / "master.key").read_bytes()
    (state / "master.key").write_bytes(b"A" * 43 + b"=\n")
    lines["key"] = world.cli("restore", "--yes", str(file))
    (state / "master.key").write_bytes(key)
    cut = applied.folder / "cut.db"
    cut.write_bytes(file.read_bytes()[:8_192])
    lines["cut"] = world.cli("restore", "--yes", str(cut))
    shutil.copy(f"{file}.sha256", f"{cut}.sha256")
    lines["digest"] = world.cli("restore", "--yes", str(cut))
    foreign = applied.folder / "foreign.db"
    shutil.copy(file, foreign)
    with contextlib.closing(sqlite3.connect(foreign)) as connection:
        connection.execute("UPDATE meta SET value = 'team-z' WHERE key = 'owner'")
        connection.commit()
    lines["owner"] = world.cli("restore", "--yes", str(foreign))
    lines["other"] = world.cli("restore", "--yes", str(world.config))
    for name, text in {
        "exists": "RC7074: ",
        "itself": "is a file of the running installation",
        "state": "there is a state at",
        "asked": "nothing was restored; there is no terminal to ask on: use --yes",
        "key": "RC4012: ",
        "cut": "is no backup of a state",
        "digest": "has not the digest",
        "other": "is no backup of a state",
        "owner": "the backup is of owner 'team-z', the configuration says 'team-a'",
    }.items():
        assert lines[name].returncode == 1, name
        assert text in lines[name].stderr, (name, lines[name].stderr)
    assert not list(state.glob("state.db*"))
    assert not list(state.glob(".restore*"))
    (state / ".restore-killed").mkdir()  # what a restore leaves that was killed
    (state / ".restore-killed" / "state.db").write_bytes(file.read_bytes())
    assert world.cli("restore", "--yes", str(file)).returncode == 0
    assert not list(state.glob(".restore*"))
    assert world.cli("plan", "--detailed-exitcode").returncode == 0


def test_a_backup_replaces_no_file_that_the_installation_uses_and_no_device(applied: Documented) -> None:
    world, state = applied, applied.folder / "state"
    (applied.folder / "link").symlink_to("/dev/null")
    content = {path: path.read_bytes() for path in state.iterdir() if path.is_file()}
    for path in (state / "state.db-wal", state / "master.key", state / "audit.anchor", state / "status.json", state / "lock"):
        refused = world.cli("backup", "--force", str(path))
        assert (refused.returncode, "is a file of the running installation" in refused.stderr) == (1, True), refused.stderr
    refused = world.cli("backup", "--force", str(applied.folder / "link"))
    assert (refused.returncode, "exists already and is not a file" in refused.stderr) == (1, True), refused.stderr
    assert (applied.folder / "link").is_symlink()
    assert {path: path.read_bytes() for path in state.iterdir() if path.is_file()} == content


def test_a_damaged_state_does_not_replace_an_intact_backup(applied: Documented) -> None:
    world, file, database = applied, applied.folder / "b.db", applied.folder / "state" / "state.db"
    assert world.cli("backup", str(file)).returncode == 0
    intact = file.read_bytes()
    with contextlib.closing(sqlite3.connect(database)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'audit'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    raw = bytearray(database.read_bytes())
    raw[(page - 1) * size : (page - 1) * size + 8] = b"\xff" * 8
    for content in (raw, b""):
        database.write_bytes(content)
        refused = world.cli("backup", "--force", str(file))
        assert (refused.returncode, "RC7009" in refused.stderr) == (1, True), refused.stderr
        assert "an older backup is still as it was" in refused.stderr
        assert file.read_bytes() == intact
        assert [path.name for path in file.parent.glob(".b.db*")] == []


def test_an_audit_row_of_another_type_is_a_change(applied: Documented) -> None:
    """SQLite stores text in a column of bytes."""
    world, file = applied, applied.folder / "b.db"
    assert world.cli("backup", str(file)).returncode == 0
    Path(f"{file}.sha256").unlink()
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("DROP TRIGGER audit_no_update")
        connection.execute("UPDATE audit SET payload = CAST(payload AS TEXT) WHERE seq = 1")
        connection.commit()
    for path in (applied.folder / "state").glob("state.db*"):
        path.unlink()
    refused = world.cli("restore", "--yes", str(file))
    assert (refused.returncode, "RC7074: the audit log of the backup was changed" in refused.stderr) == (1, True), refused.stderr


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_backup_of_version_0_1_is_restored_and_upgraded(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Its audit rows have no signatures: they are sealed, as by an upgrade; a chain that does not hold is refused as always."""
    postgres = request.getfixturevalue("postgres") if kind == "postgresql" else None
    old = OldState(tmp_path, kind, postgres)
    old.program = "reconciler"
    file = [str(tmp_path / "old.db")] if kind == "sqlite" else []
    if kind == "sqlite":
        with contextlib.closing(sqlite3.connect(tmp_path / "state" / "state.db")) as connection:
            connection.execute("VACUUM INTO ?", file)
        for path in (tmp_path / "state").glob("state.db*"):
            path.unlink()
        changed = tmp_path / "changed.db"
        shutil.copy(file[0], changed)
        with contextlib.closing(sqlite3.connect(changed)) as connection:
            connection.execute("DROP TRIGGER audit_no_update")
            connection.execute("UPDATE audit SET payload = CAST(payload || ' ' AS BLOB) WHERE seq = 2")
            connection.commit()
        refused = old.cli("restore", "--yes", str(changed))
        assert (refused.returncode, "the audit log of the backup was changed" in refused.stderr) == (1, True), refused.stderr
    (tmp_path / "state" / "audit.anchor").write_text("of the state that was lost, after its upgrade\n")
    done = old.cli("restore", "--yes", *file)
    assert done.returncode == 0, done.stderr
    verified = old.cli("history", "--verify")
    assert (verified.returncode, "up to the anchor" in verified.stdout) == (0, True), verified.stdout + verified.stderr
    assert (tmp_path / "state" / "audit.anchor.before-restore").exists()


def test_the_audit_log_is_whole_after_a_restore_beside_the_old_state_folder(
    documented: Documented,
) -> None:
    """The anchor in the folder is of rows that the backup lacks: it is kept, and is no evidence against the restored log."""
    world, folder = documented, documented.folder / "state"
    backup, restore = blocks("SQLite" if world.postgres is None else "PostgreSQL")
    world.source("web")
    assert world.cli("apply", "--yes").returncode == 0
    grants = ("CREATE ROLE seeing", "GRANT SELECT ON managed_object TO seeing")
    on_postgresql(world, *grants)
    world.document(backup)
    on_postgresql(world, "DROP OWNED BY seeing", "DROP ROLE seeing")  # the new server has not every role of the old one
    world.source("shop")
    assert world.cli("apply", "--yes").returncode == 0
    world.remove("shop")
    assert world.cli("apply", "--yes").returncode == 0
    before = json.loads((folder / "audit.anchor").read_text())["seq"]
    if world.postgres is not None:
        world.connect(world.postgres.database())
    world.document("\n".join(line for line in restore.splitlines() if not line.startswith("systemctl start")))
    verified = world.cli("history", "--verify")
    assert (verified.returncode, "up to the anchor" in verified.stdout) == (0, True), verified.stdout + verified.stderr
    assert json.loads((folder / "audit.anchor.before-restore").read_text())["seq"] == before
    assert json.loads((folder / "audit.anchor").read_text())["seq"] < before


def test_a_restore_of_postgresql_is_refused_while_a_process_works_on_it_and_frees_what_dead_ones_held(
    postgres: Postgres, tmp_path: Path
) -> None:
    store = Store.open(postgres.database(), state_dir=tmp_path)
    try:
        with store._write() as connection:
            beat = sa.text("INSERT INTO executor VALUES ('old-host-1', extract(epoch FROM now()) + :ahead)")
            connection.execute(beat, {"ahead": 3600})
        assert store.acquire_lease("sweep", "old-host-1", 3600)
        with pytest.raises(StateError, match="old-host-1 work on this database"):
            _refuse_running(store, 0.3)
        store.finish_restore(AuditEntry(at=1.0, actor="cli:ada", verb="restore", outcome="done"), close=True)
        _refuse_running(store, 0.0)
        assert store.acquire_lease("sweep", "new-host-1", 1)
    finally:
        store.close()


def test_postgresql_is_backed_up_by_its_own_tools(postgres: Postgres, tmp_path: Path) -> None:
    world = Documented(tmp_path, postgres)
    try:
        refused = world.cli("backup", str(tmp_path / "b.db"))
        assert (refused.returncode, "pg_dump --format=custom" in refused.stderr) == (64, True), refused.stderr
        refused = world.cli("restore", str(tmp_path / "b.db"))
        assert (refused.returncode, "pg_restore" in refused.stderr) == (64, True), refused.stderr
    finally:
        world.close()
