"""The backlog that the metrics show, and the verification of the audit log in small steps, on both databases."""

from __future__ import annotations

import time

import orjson
from sqlalchemy import insert, update

from reconciler.model.resources import ResourceId
from reconciler.state import Store, tables
from reconciler.state.backlog import Waiting
from reconciler.state.values import AuditKey, AuditReport
from tests.state.samples import entry
from tests.state.test_contract import unprotect

KEY = AuditKey("key", b"k" * 32)


def test_an_empty_state_has_no_backlog(store: Store) -> None:
    backlog = store.backlog(10.0)
    assert (backlog.events, backlog.reconciles, backlog.reviews, backlog.reports) == (Waiting(),) * 4
    assert backlog.executions == {"starting": Waiting(), "running": Waiting()}
    assert (backlog.items, backlog.incidents, backlog.retries) == ({}, {}, 0)
    assert abs(backlog.at - time.time()) < 60
    assert abs(backlog.ahead_s) < 60
    assert backlog.database_bytes > 0
    assert 0 < backlog.disk_free_bytes <= backlog.disk_bytes


def test_what_waits_is_counted_with_its_age(store: Store) -> None:
    event = {"source": "s", "identity": "", "payload": b"{}", "body": b""}
    item = {"stage": "s", "event_id": "e", "state": "queued"}
    run = {"item_id": "i", "stage": "s", "integration": "", "external_id": "", "version": 1, "next_at": 0.0, "finished_at": 0.0}
    with store._write() as connection:
        for number, state in enumerate(("processed", "pending", "pending")):
            row = {**event, "id": f"e{number}", "delivery_id": str(number), "state": state, "received_at": 100.0 + number}
            connection.execute(insert(tables.event).values(row))
        for number, reason in enumerate(("approval", "approval", "concurrency")):
            payload = f'{{"reason":"{reason}","other":1}}'.encode()
            connection.execute(
                insert(tables.item).values({**item, "id": f"i{number}", "created_at": 200.0 + number, "payload": payload})
            )
        for state, at in (("starting", 300.0), ("finished", 1.0)):
            connection.execute(
                insert(tables.execution).values({**run, "id": state, "state": state, "created_at": at, "payload": b"{}"})
            )
    store.request_reconciles([ResourceId("Integration", "default", "i")])
    backlog = store.backlog(10.0)
    assert backlog.events == Waiting(2, 101.0)
    assert backlog.items == {"approval": Waiting(2, 200.0), "concurrency": Waiting(1, 202.0)}
    assert backlog.executions == {"starting": Waiting(1, 300.0), "running": Waiting()}
    assert backlog.reconciles.count == 1
    assert backlog.at - backlog.reconciles.since < 60


def test_a_status_that_fails_again_and_again_is_as_old_as_its_first_failure(store: Store) -> None:
    now = time.time()
    due = {"later": (now + 600, {}), "put-off": (now + 300, {"failed_at": 400.0}), "new": (now - 5, {"failed_at": None})}
    with store._write() as connection:
        for name, (at, payload) in due.items():
            row = {"item_id": name, "kind": "commit", "state": "success", "seq": 1, "due_at": at, "done_at": 0.0}
            connection.execute(insert(tables.report).values({**row, "payload": orjson.dumps(payload)}))
        ended = {
            "item_id": "ended",
            "kind": "commit",
            "state": "success",
            "seq": 1,
            "due_at": 1.0,
            "done_at": 2.0,
            "payload": b"{}",
        }
        connection.execute(insert(tables.report).values(ended))
    assert store.backlog(10.0).reports == Waiting(3, 400.0)
    with store._write() as connection:
        connection.execute(update(tables.report).where(tables.report.c.item_id != "later").values(done_at=now))
    assert store.backlog(10.0).reports == Waiting(1, 0.0)


def test_processes_with_a_recent_heartbeat_count(store: Store) -> None:
    store.beat("a")
    store.beat("b")
    assert store.backlog(60.0).processes == (1 if store.dialect == "sqlite" else 2)


def walked(store: Store, limit: int) -> tuple[AuditReport, int]:
    """Verify in steps of ``limit`` rows; returns the report and the number of steps."""
    walk, steps = store.audit_walk([]), 0
    while True:
        steps += 1
        report = store.verify_some(walk, limit)
        if report is not None:
            return report, steps


def test_the_audit_log_is_verified_in_small_steps_as_at_once(store: Store) -> None:
    store.use_audit_keys([KEY])
    store.append_audit([entry(external_id=str(number)) for number in range(10)])
    for limit, steps in ((3, 4), (10, 2), (100, 1)):
        assert walked(store, limit) == (store.verify_audit(), steps)
    assert walked(store, 3)[0].ok
    unprotect(store)
    a = tables.audit
    with store._write() as connection:
        connection.execute(update(a).where(a.c.seq == 8).values(payload=b"{}"))
    assert walked(store, 3)[0] == store.verify_audit() == AuditReport(ok=False, rows=7, first_bad_seq=8, fault="changed")


def test_rows_that_are_appended_during_a_walk_belong_to_it(store: Store) -> None:
    store.use_audit_keys([KEY])
    store.append_audit([entry(external_id="1"), entry(external_id="2")])
    walk = store.audit_walk([])
    assert store.verify_some(walk, 2) is None
    store.append_audit([entry(external_id="3")])
    assert store.verify_some(walk, 2) == AuditReport(ok=True, rows=3)
