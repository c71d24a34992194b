"""What a store promises: one suite, run on SQLite and on PostgreSQL."""

import contextlib
import dataclasses
import re
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event, inspect, text

from reconciler.drivers.connection import Connection
from reconciler.model.objects import IntentState, Marker, ObservedObject, Scope
from reconciler.model.records import BudgetState, JournalEntry, Outcome, Retry
from reconciler.model.resources import Location, SecretRef, Suspension
from reconciler.model.status import Condition, ConditionStatus, ConditionType, ResourceStatus
from reconciler.state import FenceLost, Store, StoredObservation, migrate
from reconciler.state.audit_walk import Anchor
from reconciler.state.tables import metadata
from tests.state.samples import BUDDY, GITHUB, SOURCE, entry, intent, recorded
from tests.support.postgres import Postgres


def test_a_recorded_object_comes_back_as_it_was(store: Store) -> None:
    store.record([recorded(), recorded(2, integration=BUDDY)])
    assert store.recorded(GITHUB) == (recorded(),)
    assert len(store.recorded()) == 2
    assert store.recorded_one(recorded().address) == recorded()
    assert store.recorded_one("nowhere") is None


def test_intents_and_their_audit_rows_are_one_commit(store: Store) -> None:
    store.begin([intent(), intent(2, at=0.5)], [entry(), entry()])
    assert [one.id for one in store.unsettled(GITHUB)] == ["intent-2", "intent-1"]
    assert store.unsettled(BUDDY) == ()
    assert [row.outcome for _, row in store.audit_tail(10)] == ["", ""]


def test_an_outcome_settles_its_intent_and_stores_the_record_together(store: Store) -> None:
    store.begin([intent()], [entry()])
    store.settle([Outcome("intent-1", IntentState.DONE, recorded())], [entry(outcome="done")])
    assert store.unsettled() == ()
    assert store.recorded() == (recorded(),)
    store.begin([intent(2)], [entry("update")])
    moved = dataclasses.replace(recorded(), address="new")
    store.settle([Outcome("intent-2", IntentState.DONE, moved, drop=recorded().address)])
    assert [one.address for one in store.recorded()] == ["new"]


def test_an_unknown_outcome_stays_unsettled_until_an_observation_answers(store: Store) -> None:
    store.begin([intent()], [])
    store.settle([Outcome("intent-1", IntentState.UNKNOWN)])
    assert store.unsettled()[0].state is IntentState.UNKNOWN
    store.settle_intents([("intent-1", IntentState.ADOPTED, "7")])
    assert store.unsettled() == ()


def test_seen_and_tombstones_are_kept(store: Store) -> None:
    store.record([recorded()])
    store.mark_seen([recorded().address])
    assert store.recorded()[0].seen
    store.record([dataclasses.replace(recorded(), tombstone=True)])
    assert store.recorded()[0].tombstone
    store.record_and_forget([], [recorded().address], [entry("forget")])
    assert store.recorded() == ()


def test_a14_a_write_under_an_old_fence_changes_nothing(store: Store) -> None:
    old = store.acquire_lease("integration", "one", 0.0)
    new = store.acquire_lease("integration", "two", 60.0)
    assert old is not None
    assert new is not None
    assert new.number > old.number
    assert store.acquire_lease("integration", "one", 60.0) is None
    with pytest.raises(FenceLost):
        store.begin([intent()], [entry()], fence=old)
    assert store.unsettled() == ()
    assert store.audit_tail(5) == []
    store.begin([intent()], [entry()], fence=new)
    with pytest.raises(FenceLost):
        store.settle([Outcome("intent-1", IntentState.DONE, recorded())], fence=old)
    assert store.recorded() == ()


def test_the_audit_log_refuses_changes_and_shows_them(store: Store) -> None:
    for number in range(5):
        store.append_audit([entry(external_id=str(number))])
    assert store.verify_audit().ok
    for statement in ("UPDATE audit SET prev = 'x' WHERE seq = 2", "DELETE FROM audit WHERE seq = 2"):
        with pytest.raises(Exception, match="append-only"), store._engine.begin() as connection:
            connection.execute(text(statement))
    unprotect(store)
    with store._engine.begin() as connection:
        connection.execute(text("UPDATE audit SET payload = (SELECT payload FROM audit WHERE seq = 1) WHERE seq = 3"))
    report = store.verify_audit()
    assert (report.ok, report.first_bad_seq) == (False, 3)


def test_a_cut_tail_shows_only_against_an_anchor_kept_elsewhere(store: Store) -> None:
    store.append_audit([entry(external_id=str(number)) for number in range(5)])
    early = Anchor(*store.audit_head())
    store.append_audit([entry(), entry()])
    anchor = Anchor(*store.audit_head())
    assert store.verify_audit(anchors=[early, anchor]).ok
    assert store.verify_audit(anchors=[Anchor(early.seq, "0" * 64)]).first_bad_seq == 5
    unprotect(store)
    with store._engine.begin() as connection:
        connection.execute(text("DELETE FROM audit WHERE seq > 6"))
    assert store.verify_audit().ok
    report = store.verify_audit(anchors=[anchor])
    assert (report.ok, report.first_bad_seq, report.fault) == (False, 7, "truncated")


def test_a_row_that_is_hidden_from_the_search_for_its_resource_shows(store: Store) -> None:
    store.append_audit([entry(), entry()])
    unprotect(store)
    with store._engine.begin() as connection:
        connection.execute(text("UPDATE audit SET resource = 'elsewhere' WHERE seq = 2"))
    report = store.verify_audit()
    assert (report.ok, report.first_bad_seq) == (False, 2)


def unprotect(store: Store) -> None:
    """What somebody with the database's own rights can do."""
    with store._engine.begin() as connection:
        if store.dialect == "sqlite":
            connection.execute(text("DROP TRIGGER audit_no_update"))
            connection.execute(text("DROP TRIGGER audit_no_delete"))
        else:
            connection.execute(text("ALTER TABLE audit DISABLE TRIGGER audit_append_only"))


def test_observations_of_few_and_of_many_scopes_are_the_same_ones(store: Store) -> None:
    rows = [StoredObservation(Scope(kind, str(n)), {"etag": f"{kind}{n}"}, (), 1.0) for kind in "tu" for n in range(600)]
    store.save_observations(rows)
    few = [rows[3], rows[604]]  # t 3 and u 4, and neither u 3 nor t 4
    assert store.observations([row.scope for row in few] + [Scope("t", "none")]) == {row.scope: row for row in few}
    many = rows[100:1_100]
    assert store.observations([row.scope for row in many]) == {row.scope: row for row in many}
    assert store.observations([]) == {}


def test_nothing_to_write_is_no_error(store: Store) -> None:
    store.journal([])
    store.append_audit([])
    store.record([])
    store.save_observations([])
    store.settle([])
    assert store.verify_audit().rows == 0


def test_generations_count_changed_digests_only(store: Store) -> None:
    store.save_resources([(SOURCE.path, "d1", b"one")])
    store.save_resources([(SOURCE.path, "d1", b"moved to another file")])
    assert store.generations() == {SOURCE: 1}
    assert store.resources() == {SOURCE.path: b"moved to another file"}
    store.save_resources([(SOURCE.path, "d2", b"two")])
    assert store.generations() == {SOURCE: 2}
    store.drop_resources([SOURCE.path])
    assert store.resources() == {}


def test_everything_else_comes_back_as_it_was(store: Store) -> None:
    status = ResourceStatus(
        SOURCE,
        Location("a.yaml", 3),
        2,
        2,
        "d",
        (Condition(ConditionType.READY, ConditionStatus.TRUE, "Reconciled", "", "t", 2),),
        drift=({"path": "/x", "class": "drift"},),
    )
    store.save_statuses([status])
    assert store.statuses() == {SOURCE: status}
    store.save_statuses([], gone=[SOURCE])
    assert store.statuses() == {}
    connection = Connection(
        GITHUB,
        "github",
        "https://github.com/a",
        "https://api.github.com",
        "a",
        {"use": "token"},
        {"/token": SecretRef("default", "s", "k")},
    )
    store.save_connection(connection)
    assert store.connections() == {GITHUB: connection}
    store.drop_connection(GITHUB)
    assert store.connections() == {}
    seen = StoredObservation(
        Scope("t", "k"),
        {"etag": "x"},
        (ObservedObject("1", {"a": [1]}, "n", Marker("o", "u"), present_write_only=frozenset({"/s"})),),
        3.0,
    )
    store.save_observations([seen])
    assert store.observations([seen.scope, Scope("t", "other")]) == {seen.scope: seen}
    store.clear_observations()
    assert store.observations([seen.scope]) == {}
    store.save_retries([Retry("a", 2, 9.0, "d", "RC1", "R", "m", terminal=True)], [])
    assert store.retries() == (Retry("a", 2, 9.0, "d", "RC1", "R", "m", terminal=True),)
    store.save_retries([], ["a"])
    assert store.retries() == ()
    budget = BudgetState("c", 5.0, "why", (1.0, 2.0), {"limit": 5})
    store.save_budget(budget)
    assert store.load_budget("c") == budget
    assert store.load_budget("d") is None


def test_suspensions_approvals_and_the_journal(store: Store) -> None:
    store.suspend(SOURCE, Suspension("incident", "2030-01-01T00:00:00Z"), audit=entry("suspend"))
    assert store.suspensions() == {SOURCE: Suspension("incident", "2030-01-01T00:00:00Z")}
    assert store.unsuspend(SOURCE, audit=entry("resume"))
    assert not store.unsuspend(SOURCE, audit=entry("resume"))
    assert [row.verb for _, row in store.audit_tail(10)] == ["resume", "suspend"]
    store.approve("sha256:1", by="uid:0", at=4.0)
    assert store.approvals() == {"sha256:1": 4.0}
    store.journal([JournalEntry(float(n), SOURCE, "planned", detail={"n": n}) for n in range(5)])
    assert [e.detail["n"] for e in store.journal_of(SOURCE, 2)] == [4, 3]
    assert store.prune_history(3.5) == 4
    assert [e.detail["n"] for e in store.journal_of(SOURCE, 9)] == [4]


def test_heartbeats_tell_the_dead_from_the_living(store: Store) -> None:
    store.beat("a")
    assert store.dead_executors(60.0) == []
    assert store.dead_executors(-1.0) == ["a"]
    store.remove_executor("a")
    assert store.dead_executors(-1.0) == []


def schema_of(url: str, postgres: Postgres | None) -> str:
    """Return the statements that make a database's schema, each on a line and without the line breaks inside."""
    if postgres is not None:
        return postgres.schema(url)
    with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        rows = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()
    return "\n".join(re.sub(r"\s+", " ", f"{kind} {name} {sql}") for kind, name, sql in rows)


def test_a_new_database_has_exactly_the_schema_that_the_migrations_make(
    store: Store, url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    postgres: Postgres | None = None if url.startswith("sqlite") else request.getfixturevalue("postgres")
    migrated = f"sqlite:///{tmp_path / 'migrated.db'}" if postgres is None else postgres.database()
    engine = create_engine(migrated)
    with engine.begin() as connection:
        migrate.upgrade(connection)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []
        assert set(metadata.tables) <= set(inspect(connection).get_table_names())
    with engine.connect() as old, store._read() as new:
        assert migrate.current_revision(new) == migrate.current_revision(old) == migrate.HEAD
    engine.dispose()
    assert schema_of(url, postgres) == schema_of(migrated, postgres)


def test_opening_twice_keeps_the_incarnation(url: str, tmp_path: Path) -> None:
    first = Store.open(url, state_dir=tmp_path)
    incarnation = first.get_meta("incarnation")
    first.close()
    second = Store.open(url, state_dir=tmp_path)
    assert second.get_meta("incarnation") == incarnation is not None
    second.close()


def test_b4_a_transaction_that_writes_holds_the_write_lock_before_its_first_statement(tmp_path: Path) -> None:
    """A read that turns into a write fails at once in WAL mode, so no other writer may get between them."""
    store = Store.open(f"sqlite:///{tmp_path / 'state.db'}", state_dir=tmp_path)
    refused: list[bool] = []

    def another_writer(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.lstrip().upper().startswith(("BEGIN", "PRAGMA")):
            return
        with contextlib.closing(sqlite3.connect(tmp_path / "state.db", timeout=0, isolation_level=None)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
                refused.append(False)
            except sqlite3.OperationalError:
                refused.append(True)

    event.listen(store._engine, "before_cursor_execute", another_writer)
    store.begin([intent()], [entry()])
    store.settle([Outcome(intent().id, IntentState.DONE, recorded(1))])
    written = len(refused)
    assert written > 2
    assert all(refused), "another process could write between a statement and the next"
    store.unsettled()
    assert refused[written:] == [False], "a transaction that only reads keeps no one from writing"
    store.close()


def test_b4_many_threads_write_without_a_locked_database(store: Store) -> None:
    errors: list[Exception] = []

    def work(number: int) -> None:
        try:
            for turn in range(25):
                store.begin([dataclasses.replace(intent(), id=f"{number}-{turn}")], [entry()])
                store.settle([Outcome(f"{number}-{turn}", IntentState.DONE, recorded(number))])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.unsettled() == ()
    assert store.verify_audit().rows == 150
    assert store.verify_audit().ok


def test_n60_a_database_of_the_last_version_becomes_what_a_new_one_is(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        monkeypatch.setattr(migrate, "HEAD", "0003")
        migrate.upgrade(connection)
        monkeypatch.undo()
        connection.execute(text("INSERT INTO observation VALUES ('a', 'b', 1, :payload)"), {"payload": b"x"})
        for number, state in enumerate(["finished", "running"]):
            connection.execute(
                text("INSERT INTO execution VALUES (:id, 'i', 's', :state, '', '', 1, 0, 0, 1, :payload)"),
                {"id": str(number), "state": state, "payload": b'{"result": "failed"}'},
            )
    with engine.begin() as connection:
        migrate.upgrade(connection)
    with engine.begin() as connection:
        from alembic.autogenerate import compare_metadata
        from alembic.runtime.migration import MigrationContext

        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []
        assert [tuple(row) for row in connection.execute(text("SELECT id, result FROM execution ORDER BY id"))] == [
            ("0", "failed"),
            ("1", ""),
        ]
        assert not connection.execute(text("SELECT count(*) FROM observation")).scalar()
    engine.dispose()


def test_a_session_that_was_ended_is_remembered_until_it_is_over(store: Store) -> None:
    now = store.now()
    store.end_session("one", now + 100)
    store.end_session("two", now - 100)
    assert set(store.ended_sessions()) == {"one", "two"}
    store.end_session("three", now + 50)
    ended = store.ended_sessions()
    assert list(ended) == ["one", "three"]
    assert ended["one"] >= now + 100
