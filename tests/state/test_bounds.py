"""Housekeeping of a long history: in small commits, with everybody else's work in between, and no log that stays large."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import event as hooks
from sqlalchemy import func, insert, select, text

from reconciler.engine.housekeeping import BATCH, Housekeeping
from reconciler.engine.queue import WorkQueue
from reconciler.model.events import EventState, RejectedBy
from reconciler.model.records import JournalEntry
from reconciler.model.resources import ResourceId
from reconciler.state import Store, tables
from reconciler.state.async_store import AsyncStore
from reconciler.state.database import LOG_BYTES
from reconciler.state.inbox import Arrival
from reconciler.state.migrate import upgrade
from reconciler.state.thread import StateThread
from tests.state.samples import entry, intent
from tests.state.test_inbox import arrival, finished, routing

STAGE = ResourceId("Stage", "default", "build")
OLD = 1_000.0


def fill(store: Store, number: int) -> None:
    """``number`` rows of everything that retention drops."""
    store.now = lambda: OLD  # type: ignore[method-assign]
    events = [arrival(OLD + one / 1000, str(one), "") for one in range(number)]
    for start in range(0, number, 500):
        part = events[start : start + 500]
        store.add_events(part)
        store.settle_events(
            [
                dataclasses.replace(
                    routing(one),
                    items=(),
                    state=EventState.REJECTED,
                    rejections=(RejectedBy(one.event.id, STAGE, "filter", "", OLD),),
                )
                for one in part
            ]
        )
    store.journal([JournalEntry(OLD, STAGE, "planned") for _ in range(number)])
    store.begin([intent(one, at=OLD) for one in range(number)], [entry()])
    with store._write() as connection:
        connection.execute(tables.intent.update().values(state="done"))
        connection.execute(insert(tables.approval), [{"sha256": str(one), "by": "a", "at": OLD} for one in range(number)])
        connection.execute(insert(tables.joined), [{"event_id": one.event.id, "connection_group": "g"} for one in events])
        connection.execute(
            insert(tables.joining),
            [
                {"connection_group": "g", "key": str(one), "round": 1, "deadline": 0.0, "touched_at": OLD, "payload": b"{}"}
                for one in range(number)
            ],
        )


def commits(store: Store) -> list[int]:
    """Return a list that gets, at each commit, how many rows were deleted in it."""
    sizes: list[int] = []
    current = [0]

    def executed(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE"):
            current[0] += max(0, cursor.rowcount)

    def committed(_connection: Any) -> None:
        sizes.append(current[0])
        current[0] = 0

    hooks.listen(store._engine, "after_cursor_execute", executed)
    hooks.listen(store._engine, "commit", committed)
    return sizes


def left(store: Store) -> dict[str, int]:
    names = ("event", "rejection", "joined", "joining", "journal", "intent", "approval")
    with store._read() as connection:
        return {
            name: connection.execute(select(func.count()).select_from(tables.metadata.tables[name])).scalar_one()
            for name in names
        }


def clock_of(store: Store, db: StateThread) -> Housekeeping:
    retention = SimpleNamespace(history=90 * 86_400.0, inbox=7 * 86_400.0)
    deps = SimpleNamespace(
        store=AsyncStore(store, db), config=SimpleNamespace(retention=retention), log=SimpleNamespace(debug=lambda *_, **__: None)
    )
    return Housekeeping(deps, WorkQueue(deps, holder="test"), watchdog_s=0, alive=lambda: True, notify=lambda *_: None)  # type: ignore[arg-type]


def test_n59_retention_drops_a_long_history_in_small_commits_and_others_come_in_between(store: Store) -> None:
    fill(store, 1_700)
    store.now = time.time  # type: ignore[method-assign]
    sizes = commits(store)
    served = 0

    async def whole() -> None:
        nonlocal served
        db = StateThread()
        job = asyncio.create_task(clock_of(store, db)._retention())
        while not job.done():
            await AsyncStore(store, db).get_meta("incarnation")
            served += 1
            await asyncio.sleep(0)
        await job
        await asyncio.to_thread(db.close)

    asyncio.run(whole())
    assert set(left(store).values()) == {0}
    assert max(sizes) <= BATCH
    assert sum(sizes) == 7 * 1_700
    assert served > sum(1 for size in sizes if size)  # at least once between any two batches


def test_n59_bodies_are_dropped_by_their_bytes_too(store: Store) -> None:
    store.add_events([dataclasses.replace(arrival(OLD, str(one), ""), body=b"x" * 1_000) for one in range(6)])
    with store._write() as connection:
        connection.execute(tables.event.update().values(state="processed"))
    assert [store.prune_events(OLD * 2, max_bytes=2_500) for _ in range(4)] == [2, 2, 2, 0]
    store.add_events([Arrival(arrival(OLD, "large", "").event, b"x" * 9_000)])
    with store._write() as connection:
        connection.execute(tables.event.update().values(state="processed"))
    assert store.prune_events(OLD * 2, max_bytes=2_500) == 1  # one that is larger alone goes all the same


def test_n59_what_is_pending_or_young_stays(store: Store) -> None:
    store.add_events([arrival(OLD, "waits", ""), arrival(OLD * 3, "young", "")])
    with store._write() as connection:
        connection.execute(tables.event.update().where(tables.event.c.delivery_id == "young").values(state="processed"))
    assert store.prune_events(OLD * 2) == 0
    assert len(store.events()) == 2


def test_n59_the_write_ahead_log_is_cut_after_it_was_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LOG_BYTES <= 64 << 20
    monkeypatch.setattr("reconciler.state.database.LOG_BYTES", 256 << 10)
    store = Store.open(f"sqlite:///{tmp_path / 'state.db'}", state_dir=tmp_path)
    log = tmp_path / "state.db-wal"
    with store._write() as connection:
        connection.exec_driver_sql("CREATE TABLE large (x BLOB)")
        for _ in range(64):
            connection.exec_driver_sql("INSERT INTO large VALUES (zeroblob(100000))")
    grown = log.stat().st_size
    store.checkpoint()
    store.set_meta("x", "1")  # the first write after a whole checkpoint begins the log anew
    assert grown > 4 << 20
    assert log.stat().st_size <= 256 << 10
    store.close()


def test_n59_a_checkpoint_waits_for_no_reader(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'state.db'}", state_dir=tmp_path)
    reader = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM meta").fetchall()
    store.set_meta("x", "1")
    with store._engine.connect() as connection:
        connection.connection.driver_connection.execute("PRAGMA busy_timeout=0")  # type: ignore[union-attr]
    store.checkpoint()
    reader.execute("ROLLBACK")
    reader.close()
    store.close()


def test_n60_results_of_executions_from_before_are_found_after_the_migration(url: str, tmp_path: Path) -> None:
    store = Store.open(url, state_dir=tmp_path)
    finished(store, 1, 5.0, "sha256:x")
    done = store.execution("rcl-1")
    assert done is not None
    from reconciler.model.executions import Result

    store.save_execution(dataclasses.replace(done, result=Result.FAILED))
    undo(store)
    with store._write() as connection:
        upgrade(connection)
    assert store.last_inputs(STAGE, ["failed"]) == {}
    assert store.last_inputs(STAGE, ["passed"]) is None
    store.close()


def undo(store: Store) -> None:
    """Bring a database back to what the version before 0005 made."""
    from reconciler.state.migrations.versions import v0005_bounded as migration

    with store._write() as connection:
        for name, *_ in migration._MADE:
            connection.execute(text(f"DROP INDEX {name}"))
        for table in ("trace_span", "review", "sink", "sink_target", "notice", "incident", "occurrence", "credential_alert"):
            connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text("DROP TABLE refused_credential"))
        connection.execute(text("DROP TABLE oidc_key"))
        connection.execute(text("DROP TABLE reconcile_request"))
        connection.execute(text("ALTER TABLE execution DROP COLUMN result"))
        connection.execute(text("ALTER TABLE audit DROP COLUMN mac"))
        for name, table in migration._DROPPED:
            connection.execute(text(f"CREATE INDEX {name} ON {table} (payload)"))
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{migration.down_revision}'"))
