"""How the database finds what it is asked for: never by going through all that ever happened, whatever the question.

Every call that a `Store` has is made once, and the database's own plan of every statement is read. SQLite's planner has no
statistics, so what it finds for an empty table it does for a large one; PostgreSQL is told to avoid whole tables where it can.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event as hooks

from reconciler.drivers.connection import Connection
from reconciler.model.events import Event, EventState, Origin
from reconciler.model.executions import Execution, ExecutionState, Result, Vote
from reconciler.model.incidents import (
    Incident,
    IncidentChange,
    IncidentSeverity,
    Notice,
    NoticePhase,
    Occurrence,
    SinkRecord,
    SinkUse,
    Topic,
)
from reconciler.model.issuer_keys import IssuerKey
from reconciler.model.objects import IntentState, Scope
from reconciler.model.records import BudgetState, CredentialAlert, CredentialRefusal, JournalEntry, Outcome, Retry
from reconciler.model.resources import ResourceId, Suspension
from reconciler.model.reviews import ReviewState
from reconciler.state import Store
from reconciler.state.claims import Capacity
from reconciler.state.incidents import IncidentUpdate
from reconciler.state.queue import Admission, enqueue, set_item
from reconciler.state.reports import PendingReport
from reconciler.state.reviews import StoredReview
from reconciler.state.values import Fence, StoredObservation
from tests.state.samples import entry, intent, recorded
from tests.state.test_inbox import arrival, finished, routing

SOURCE, STAGE = ResourceId("EventSource", "default", "web"), ResourceId("Stage", "default", "build")
GITHUB = "Integration/default/github"
HISTORIES = [
    "event",
    "execution",
    "item",
    "report",
    "rejection",
    "joining",
    "output",
    "vote",
    "lease",
    "journal",
    "intent",
    "audit",
    "approval",
    "pin",
]
HISTORIES += ["attempt", "joined", "incident", "notice", "sink_target", "review"]
"""Tables that grow with what happens. The others have a row for each thing that is declared or owned."""
REPORT = PendingReport("itm-1", "commit", "success", 3, 1.0)
WAITING = routing(arrival(5.0, "waits", "")).items[0]


INCIDENT = Incident("inc-1", "a", "k", Topic.DRIFT, IncidentSeverity.WARNING, "differs", "DriftDetected", closed_at=1.0)
NOTICE = Notice(1, NoticePhase.START, INCIDENT)
REVIEW = ReviewState("acme/web", number=1)
OCCURRENCE = Occurrence(Topic.REPAIRED, "", "k", IncidentSeverity.INFO, "repaired")


def notified(store: Store) -> None:
    """Store an incident with its messages, and drop those of a Notification that is gone."""
    phases = (NoticePhase.START, NoticePhase.UPDATE, NoticePhase.UPDATE, NoticePhase.END)
    store.add_occurrences([OCCURRENCE])
    store.update_incidents(IncidentUpdate(lambda *_: [IncidentChange(INCIDENT, phases, suppressed="why")], ["a"], ""))
    store.update_incidents(IncidentUpdate(lambda *_: [], ["b"], ""))
    store.update_incidents(IncidentUpdate(lambda *_: [IncidentChange(INCIDENT, phases)], ["a"], ""))


def equal(identity: str) -> Event:
    return Event("1", SOURCE, "1", "push", Origin.DELIVERED, EventState.PENDING, 1.0, identity=identity)


def execution(store: Store) -> Execution:
    found = store.execution("rcl-1")
    assert found is not None
    return found


def issuer_key() -> IssuerKey:
    return IssuerKey(9, "kid", {"kty": "RSA"}, b"sealed", "00000000", 1.0, 1.0)


CALLS: dict[str, Callable[[Store], Any]] = {
    "acquire_lease": lambda store: store.acquire_lease("a", "me", 1.0),
    "add_events": lambda store: store.add_events([arrival(1.0, "again"), arrival(1.0, "again")]),
    "add_vote": lambda store: store.add_vote(Vote("itm-waits", "ada", 1.0), audit=entry()),
    "admit": lambda store: store.admit(STAGE, lambda *_: Admission()),
    "append_audit": lambda store: store.append_audit([entry()]),
    "approvals": lambda store: store.get_meta("x"),  # read whole on purpose, by a pass that compares plans
    "approve": lambda store: store.approve("sha256:1", by="a", at=1.0),
    "approve_all": lambda store: store.approve_all(["sha256:1"], by="a", at=1.0),
    "ask_cancel": lambda store: store.ask_cancel("rcl-1", "a", 1.0, audit=entry()),
    "audit_head": lambda store: store.audit_head(),
    "audit_tail": lambda store: store.audit_tail(5),
    "audit_tail resource": lambda store: store.audit_tail(5, resource="a"),
    "audit_walk": lambda store: store.verify_some(store.audit_walk([]), 5),
    "backlog": lambda store: store.backlog(5.0),
    "beat": lambda store: store.beat("me"),
    "begin_attempts": lambda store: store.begin_attempts({"a": 1}, "me"),
    "begin": lambda store: store.begin([intent()], [entry()], fence=store.acquire_lease("b", "me", 1.0)),
    "blob_cache": lambda store: store.get_meta("x"),  # a file of its own
    "candidates": lambda store: store.candidates(STAGE, 500),
    "check": lambda store: store.get_meta("x"),  # looks at the whole file: only `doctor` does
    "checkpoint": lambda store: store.get_meta("x"),  # no statement with a plan
    "claim_work": lambda store: store.claim_work("me", Capacity(16, 64, ["slice/a", "execution/a"]), release=[Fence("a", 1)]),
    "claim_work again": lambda store: [store.claim_work("me", Capacity(1, 1), notify=True) for _ in range(2)],
    "clear_observations": lambda store: store.clear_observations(),
    "close": lambda store: store.get_meta("x"),
    "connections": lambda store: store.connections(),
    "counts": lambda store: store.counts(),
    "cursors": lambda store: store.cursors("slice/"),
    "dead_executors": lambda store: store.dead_executors(1.0),
    "discard_item": lambda store: store.discard_item("itm-waits", "user", "", reports=[REPORT], audit=entry()),
    "drop_connection": lambda store: store.drop_connection(SOURCE),
    "drop_resources": lambda store: store.drop_resources(["a"]),
    "drop_request": lambda store: store.drop_request(SOURCE, 1),
    "due_reports": lambda store: store.due_reports(1.0, 50),
    "end_joins": lambda store: store.end_joins(1.0),
    "end_report": lambda store: store.end_report(REPORT, 1.0, target={"a": 1}),
    "event": lambda store: store.event("a"),
    "events": lambda store: store.events(),
    "event_counts": lambda store: store.event_counts(list(EventState)),
    "events_end": lambda store: store.events_end(before="a"),
    "events_end of a source": lambda store: store.events_end(source=SOURCE.path),
    "events nothing": lambda store: store.events(states=("nothing",), since="0", before="a"),
    "events of a source nothing": lambda store: store.events(source=SOURCE.path, states=("nothing",), since="0"),
    "events before": lambda store: store.events(before="a"),
    "events of a source": lambda store: store.events(source=SOURCE.path, before="a"),
    **{f"events {one}": (lambda store, one=one: store.events(states=(one,), before="a")) for one in EventState},
    **{f"events of a source {one}": (lambda store, one=one: store.events(source="a", states=(one,))) for one in EventState},
    "execution": lambda store: store.execution("a"),
    "executions": lambda store: store.executions(),
    "executions before": lambda store: store.executions(before=(1.0, "a")),
    "executions running": lambda store: store.executions(states=("starting", "running")),
    "executions finished": lambda store: store.executions(states=("finished",), before=(1.0, "a")),
    "executions of a stage": lambda store: store.executions(stage=STAGE.path, before=(1.0, "a")),
    "executions of a stage finished": lambda store: store.executions(stage=STAGE.path, states=("finished",)),
    "executions_of_item": lambda store: store.executions_of_item("a"),
    "finish_reconcile": lambda store: store.finish_reconcile(SOURCE, 1.0, by="me", number=1, fence=Fence("slice/a", 1)),
    "finish_execution": lambda store: store.finish_execution(execution(store), outputs={"a": 1}, reports=[REPORT]),
    "finish_restore": lambda store: store.finish_restore(entry("restore"), close=True),
    "forget_attempts": lambda store: store.forget_attempts(["a"]),
    "forget": lambda store: store.forget(["a"], [entry()]),
    "generations": lambda store: store.generations(),
    "get_cursor": lambda store: store.get_cursor("a"),
    "get_meta": lambda store: store.get_meta("a"),
    "hasten_executions": lambda store: store.hasten_executions([GITHUB], 1.0),
    "hasten_reports": lambda store: store.hasten_reports([GITHUB], 1.0),
    "hint": lambda store: store.hint(GITHUB, "1", 1.0),
    "hint_again": lambda store: store.hint_again(GITHUB, "1", 2, 1.0),
    "integrations_recorded": lambda store: store.integrations_recorded(),
    "item": lambda store: store.item("a"),
    "items": lambda store: store.items(),
    "items queued": lambda store: store.items(states=("queued",)),
    "items of a stage": lambda store: store.items(stage=STAGE.path),
    "items of a stage queued": lambda store: store.items(stage=STAGE.path, states=("queued",)),
    "items_of_event": lambda store: store.items_of_event("a"),
    "journal": lambda store: store.journal([JournalEntry(1.0, SOURCE, "planned")]),
    "journal_of": lambda store: store.journal_of(SOURCE, 5),
    "known_deliveries": lambda store: store.known_deliveries(SOURCE, ["a", "b"]),
    "keep_anchor": lambda store: store.keep_anchor(),
    "kept_anchor": lambda store: store.get_meta(str(store.kept_anchor())),
    "live_executors": lambda store: store.live_executors() if store.dialect != "sqlite" else store.get_meta("x"),
    "look_at_clock": lambda store: store.look_at_clock(1e12),
    "last_arrivals": lambda store: store.last_arrivals(),
    "last_executions": lambda store: store.last_executions([STAGE.path]),
    "last_inputs": lambda store: store.last_inputs(STAGE, ["passed", "failed", "cancelled"]),
    "load_budget": lambda store: store.load_budget("a"),
    "mark_seen": lambda store: store.mark_seen(["a"]),
    "next_join_end": lambda store: store.next_join_end(),
    "note_reconcile": lambda store: store.note_reconcile(SOURCE, 1.0, by="me"),
    "notify": lambda store: (store.notify("me"), store.get_meta("x")),
    "now": lambda store: store.get_meta(str(store.now())),
    "observations": lambda store: store.observations([Scope("a", "b")]),
    "open": lambda store: store.get_meta("x"),
    "outputs": lambda store: store.outputs("a"),
    "pending_count": lambda store: store.pending_count(),
    "pending_events": lambda store: store.pending_events(200),
    "pinned": lambda store: store.pinned("a"),
    "prune_events": lambda store: [store.prune_events(1e12) for _ in range(9)],
    "prune_executions": lambda store: [store.prune_executions(1e12) for _ in range(9)],
    "prune_history": lambda store: [store.prune_history(1e12) for _ in range(9)],
    "put_off_report": lambda store: store.put_off_report(REPORT, 1.0, {}),
    "put_outputs": lambda store: store.put_outputs("rcl-1", {"a": 1}),
    "queue_repetition": lambda store: store.queue_repetition(
        dataclasses.replace(WAITING, id="itm-2"), {"d": b"{}"}, [REPORT], audit=entry()
    ),
    "finished_before": lambda store: store.finished_before(STAGE, 9.0, "itm-9"),
    "oidc_keys": lambda store: store.oidc_keys(),
    "credential_alert": lambda store: store.credential_alert(SOURCE),
    "announce": lambda store: store.announce(SOURCE, CredentialAlert(), CredentialAlert(refused=True), [entry()]),
    "refuse_credential": lambda store: store.refuse_credential("p", CredentialRefusal("no"), 60.0),
    "refusal_of": lambda store: store.refusal_of(["p", "q"], 60.0),
    "restored_at": lambda store: store.restored_at(),
    "schema_conflict": lambda store: store.schema_conflict(),
    "standing_refusal": lambda store: store.standing_refusal(["p", "q"]),
    "forget_refusals": lambda store: store.forget_refusals(["p", "q"]),
    "add_oidc_key": lambda store: store.add_oidc_key(issuer_key(), revoke=1.0, audit=entry()),
    "reseal_oidc_keys": lambda store: store.reseal_oidc_keys([issuer_key()]),
    "reconciled_by": lambda store: store.reconciled_by(),
    "record": lambda store: store.record([recorded()]),
    "record_and_forget": lambda store: store.record_and_forget([recorded()], ["a"], [entry()]),
    "recorded": lambda store: store.recorded(),
    "recorded_one": lambda store: store.recorded_one("a"),
    "rejections": lambda store: store.rejections(["a", "b"]),
    "release_lease": lambda store: store.release_lease(Fence("a", 1)),
    "release_leases_of": lambda store: store.release_leases_of("me"),
    "remove_executor": lambda store: store.remove_executor("me"),
    "replay_event": lambda store: store.replay_event("a"),
    "reports_of": lambda store: store.reports_of("a"),
    "requested": lambda store: store.requested(SOURCE),
    "request_reconciles": lambda store: store.request_reconciles([SOURCE], token="a", force=True),
    "resources": lambda store: store.resources(),
    "retries": lambda store: store.retries(),
    "same_before": lambda store: store.same_before([equal("a"), equal("b")]),
    "save_budget": lambda store: store.save_budget(BudgetState("c", 5.0, "", (), {})),
    "save_connection": lambda store: store.save_connection(
        Connection(SOURCE, "github", "https://github.com/a", "https://api.github.com", "a", {})
    ),
    "save_execution": lambda store: store.save_execution(execution(store), reports=[REPORT]),
    "save_observations": lambda store: store.save_observations([StoredObservation(Scope("t", "k"), {}, (), 1.0)]),
    "save_resources": lambda store: store.save_resources([("a", "d", b"")]),
    "save_retries": lambda store: store.save_retries([Retry("a", 1, 1.0, "d")], ["b"]),
    "save_statuses": lambda store: store.save_statuses([], gone=[SOURCE]),
    "seal_audit": lambda store: store.seal_audit(entry()),
    "set_cursors": lambda store: store.set_cursors({"a": 1}),
    "set_meta": lambda store: store.set_meta("a", "b"),
    "settle": lambda store: store.settle([Outcome("intent-1", IntentState.DONE, recorded(), drop="a")], [entry()]),
    "settle_events": lambda store: store.settle_events([routing(arrival(1.0, "again"))]),
    "settle_intents": lambda store: store.settle_intents([("intent-1", IntentState.DONE, None)]),
    "stages_behind": lambda store: store.stages_behind([(GITHUB, "1"), (GITHUB, "2")]),
    "stages_with_items": lambda store: store.stages_with_items(),
    "abandon_notice": lambda store: store.abandon_notice(NOTICE, 1.0, SinkRecord(error="no")),
    "add_occurrences": lambda store: store.add_occurrences([OCCURRENCE]),
    "due_notice": lambda store: store.due_notice("a", 1.0),
    "due_former_sinks": lambda store: store.due_former_sinks(1.0, 9),
    "due_sinks": lambda store: store.due_sinks(1.0, 9),
    "end_notice": lambda store: (notified(store), store.end_notice(NOTICE, 1.0, target={"ts": "1"})),
    "has_occurrences": lambda store: store.has_occurrences(),
    "hasten_notices": lambda store: store.hasten_notices("a", 1.0),
    "next_due": lambda store: store.next_due(),
    "note_attempt": lambda store: (
        notified(store),
        store.note_attempt(store.due_notice("a", 1e12) or NOTICE, 1.0, SinkUse("p", "{}")),
    ),
    "prune_incidents": lambda store: (notified(store), [store.prune_incidents(1e12, 9) for _ in range(9)]),
    "put_off_notice": lambda store: (notified(store), store.put_off_notice(NOTICE, 9.0, SinkRecord(error="no"), unknown=True)),
    "sink_records": lambda store: store.sink_records(),
    "skip_notice": lambda store: store.skip_notice(NOTICE, 1.0),
    "update_incidents": lambda store: notified(store),
    "upgraded": lambda store: store.get_meta("x"),  # an attribute
    "verify_some": lambda store: store.verify_some(store.audit_walk([]), 5),
    "waiting_notices": lambda store: store.waiting_notices(),
    "activity": lambda store: store.activity(),
    "effects_of": lambda store: store.effects_of(["1", "2"]),
    "origins_of": lambda store: store.origins_of(["itm-1"]),
    "due_reviews": lambda store: store.due_reviews("a", 1.0, 9),
    "drop_reviews": lambda store: store.drop_reviews(["a"]),
    "done_messages": lambda store: (notified(store), store.done_messages(9, before=9.0), store.done_messages(9)),
    "newest_reviews": lambda store: store.newest_reviews(9),
    "open_incidents": lambda store: store.open_incidents(9),
    "waiting_messages": lambda store: store.waiting_messages(9),
    "open_reviews": lambda store: store.open_reviews("a", 9),
    "review": lambda store: store.review("a"),
    "review_of_check": lambda store: store.review_of_check("a", "1"),
    "save_review": lambda store: [store.save_review(StoredReview("a", at, 1.0, REVIEW), REVIEW, 1.0) for at in (0, 1)],
    "statuses": lambda store: store.statuses(),
    "statuses_mark": lambda store: store.statuses_mark(),
    "suspect": lambda store: store.suspect("me"),
    "suspend": lambda store: store.suspend(SOURCE, Suspension("x"), audit=entry()),
    "suspensions": lambda store: store.suspensions(),
    "unsettled": lambda store: store.unsettled(),
    "unsettled of one": lambda store: store.unsettled(SOURCE),
    "unsuspend": lambda store: store.unsuspend(SOURCE, audit=entry()),
    "use_audit_keys": lambda store: (store.use_audit_keys([]), store.get_meta("x")),
    "verify_audit": lambda store: store.get_meta("x"),  # reads all on purpose, in `history --verify` and `doctor`
    "votes": lambda store: store.votes("a"),
    "votes_of": lambda store: store.votes_of(["a", "b"]),
    "done_messages before": lambda store: store.done_messages(9, before=9.0),
    "end_session": lambda store: store.end_session("a", 1.0),
    "ended_sessions": lambda store: store.ended_sessions(),
    "wake": lambda store: store.wake("a", 1.0),
    "count_spans": lambda store: store.get_meta("x"),  # adds up all that waits, which is bounded
    "drop_spans": lambda store: store.drop_spans([1, 2]),
    "trim_spans": lambda store: store.trim_spans(5),
    "waiting_spans": lambda store: store.waiting_spans(512),
}


WHOLE = {"finish_restore": {"lease"}}
"""Tables that a call goes through on purpose: a restore ends every lease, once."""


def test_n61_every_call_of_the_store_has_its_plan_read() -> None:
    public = {name for name in dir(Store) if not name.startswith("_")}
    assert {name.partition(" ")[0] for name in CALLS} == public


@pytest.fixture
def filled(store: Store) -> Store:
    """One row of each kind, so that every branch is gone through."""
    store.add_events([arrival(1.0, "old", "")])
    finished(store, 1, 1.0, "sha256:old")
    with store._write() as connection:
        enqueue(connection, [WAITING], {}, [], 1.0)
    store.save_resources([(SOURCE.path, "d", b"")])
    return store


@pytest.mark.parametrize("name", CALLS)
def test_n60_n61_nothing_is_found_by_going_through_a_history(filled: Store, name: str) -> None:
    plans = _plans(filled, lambda: CALLS[name](filled))
    assert plans
    walked = [(statement, what) for statement, found in plans for what in found]
    assert {what.rpartition(" ")[2] for _, what in walked} == WHOLE.get(name, set())


@pytest.mark.parametrize("name", [one for one in CALLS if re.match(r"(events|executions|items|audit_tail)( |$)", one)])
def test_n61_no_list_is_sorted_after_it_was_read(filled: Store, name: str) -> None:
    if filled.dialect != "sqlite":
        return  # its planner sorts what is a handful of rows; that it could do without is what the other test says
    sorts: list[str] = []

    def explain(connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if statement.lstrip().startswith("SELECT"):
            cursor = connection.connection.cursor()
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            sorts.extend(str(row[3]) for row in cursor.fetchall() if "TEMP B-TREE" in str(row[3]))

    hooks.listen(filled._engine, "before_cursor_execute", explain)
    CALLS[name](filled)
    assert not sorts


def test_n61_a_plan_that_walks_a_history_is_found_by_this_test(filled: Store) -> None:
    def walk() -> None:
        with filled._read() as connection:
            connection.exec_driver_sql("SELECT id FROM event WHERE payload = body").all()

    assert any(found for _, found in _plans(filled, walk))


def _plans(store: Store, call: Callable[[], Any]) -> list[tuple[str, list[str]]]:
    """Return every statement of ``call``, each with the histories that it goes through."""
    seen: list[tuple[str, list[str]]] = []
    look = _sqlite if store.dialect == "sqlite" else _postgresql

    def explain(connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if statement.lstrip().startswith(("SELECT", "UPDATE", "DELETE", "INSERT")) and "advisory" not in statement:
            cursor = connection.connection.cursor()
            seen.append((statement, look(cursor, statement, parameters[0] if many else parameters)))

    hooks.listen(store._engine, "before_cursor_execute", explain)
    try:
        call()
    finally:
        hooks.remove(store._engine, "before_cursor_execute", explain)
    return seen


def _in_order(statement: str) -> bool:
    """Whether a statement takes the first of all rows by their key: it reads as many as it returns."""
    return "WHERE" not in statement and "LIMIT" in statement and "ORDER BY audit.seq DESC" in statement


def _sqlite(cursor: Any, statement: str, parameters: Any) -> list[str]:
    cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
    found = []
    for row in cursor.fetchall():
        scan = re.match(r"SCAN (\w+)", str(row[3]))
        if scan and scan[1] in (*HISTORIES, "earlier") and not _in_order(statement):
            found.append(str(row[3]))
    return found


def _postgresql(cursor: Any, statement: str, parameters: Any) -> list[str]:
    cursor.execute("SET LOCAL enable_seqscan = off")
    cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
    found: list[str] = []

    def walk(node: dict[str, Any]) -> None:
        kind, name = node["Node Type"], node.get("Relation Name") or node.get("Index Name", "")
        table = name if name in HISTORIES else ""
        if kind == "Seq Scan" and table:
            found.append(f"{kind} {name}")
        whole = kind in {"Index Scan", "Index Only Scan", "Bitmap Index Scan"} and "Index Cond" not in node
        if whole and node["Index Name"].split("_")[0] in HISTORIES and not _in_order(statement):
            found.append(f"{kind} {node['Index Name']}")
        for child in node.get("Plans", ()):
            walk(child)

    walk(cursor.fetchone()[0][0]["Plan"])
    return found


def test_n60_the_newest_inputs_are_those_of_the_newest_end_with_the_result(store: Store) -> None:
    for number, result in enumerate([Result.FAILED, Result.PASSED, Result.PASSED, Result.CANCELLED]):
        finished(store, number, 10.0 + number, "sha256:x")
        done = store.execution(f"rcl-{number}")
        assert done is not None
        store.save_execution(dataclasses.replace(done, result=result, state=ExecutionState.FINISHED))
        item = store.item(f"itm-{number}")
        assert item is not None
        with store._write() as connection:
            set_item(connection, item, item.state, inputs={"n": number})
    assert store.last_inputs(STAGE, ["failed"]) == {"n": 0}
    assert store.last_inputs(STAGE, ["passed"]) == {"n": 2}
    assert store.last_inputs(STAGE, ["failed", "passed"]) == {"n": 2}
    assert store.last_inputs(STAGE, ["failed", "cancelled"]) == {"n": 3}
    assert store.last_inputs(ResourceId("Stage", "default", "other"), ["passed"]) is None


def test_n60_what_ran_before_is_found_without_the_ends_of_all_others(store: Store) -> None:
    for number, result in enumerate([Result.PASSED, Result.FAILED, Result.CANCELLED]):
        finished(store, number, 10.0 + number, "sha256:x")
        done = store.execution(f"rcl-{number}")
        assert done is not None
        store.save_execution(dataclasses.replace(done, result=result, state=ExecutionState.FINISHED))

    def before(at: float, item: str = "") -> str:
        found = store.finished_before(STAGE, at, item)
        return found.id if found is not None else ""

    ends = [store.execution(f"rcl-{number}").finished_at for number in range(3)]  # type: ignore[union-attr]
    assert [before(at + 0.001) for at in ends] == ["rcl-0", "rcl-1", "rcl-2"]
    assert before(ends[2] + 1, "itm-2") == "rcl-1"
    assert not before(ends[0])


@pytest.mark.parametrize("name", ["finished_before"])
def test_n60_the_last_of_something_is_not_found_by_sorting(filled: Store, name: str) -> None:
    test_n61_no_list_is_sorted_after_it_was_read(filled, name)
