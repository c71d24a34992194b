"""How the database finds what the loops ask for again and again: never by going through all that ever happened."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event as hooks

from reconciler.model.events import Event, EventState, Origin
from reconciler.model.resources import ResourceId
from reconciler.state import Store
from reconciler.state.queue import Admission

SOURCE, STAGE = ResourceId("EventSource", "default", "web"), ResourceId("Stage", "default", "build")
GITHUB = "Integration/default/github"
WHOLE = re.compile(r"SCAN (event|item|execution|report|rejection|joining|output|vote)\b(?! USING (COVERING )?INDEX (\w+))")
SMALL = {"event_pending", "execution_open", "event_delivery"}
"""Indexes that may be gone through: of what is under way, and of one that has no bodies."""


def equal(identity: str) -> Event:
    return Event("1", SOURCE, "1", "push", Origin.DELIVERED, EventState.PENDING, 1.0, identity=identity)


CALLS: dict[str, Any] = {
    "pending": lambda store: store.pending_events(200),
    "pending count": lambda store: store.pending_count(),
    "pending list": lambda store: store.events(states=("pending",), limit=10),
    "same": lambda store: store.same_before([equal("a"), equal("b")]),
    "known": lambda store: store.known_deliveries(SOURCE, ["a", "b"]),
    "event": lambda store: store.event("a"),
    "rejections": lambda store: store.rejections(["a", "b"]),
    "items of event": lambda store: store.items_of_event("a"),
    "behind": lambda store: store.stages_behind([(GITHUB, "1"), (GITHUB, "2")]),
    "hint": lambda store: store.hint(GITHUB, "1", 1.0),
    "stages": lambda store: store.stages_with_items(),
    "candidates": lambda store: store.candidates(STAGE, 500),
    "admit": lambda store: store.admit(STAGE, lambda *_: Admission()),
    "counts": lambda store: store.counts(),
    "last": lambda store: store.last_executions([STAGE.path]),
    "last inputs": lambda store: store.last_inputs(STAGE, ["passed"]),
    "executions of item": lambda store: store.executions_of_item("a"),
    "due": lambda store: store.due_executions(1.0, 200),
    "next due": lambda store: store.next_due(),
    "reports": lambda store: store.due_reports(1.0, 50),
    "joins": lambda store: store.next_join_end(),
}


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Store]:
    """On SQLite, whose planner has no statistics: what it finds for an empty table it does for a large one."""
    opened = Store.open(f"sqlite:///{tmp_path / 'state.db'}", state_dir=tmp_path)
    yield opened
    opened.close()


@pytest.mark.parametrize("name", CALLS)
def test_what_is_asked_for_again_and_again_is_found_by_an_index(lone: Store, name: str) -> None:
    plans: list[str] = []

    def explain(connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if statement.lstrip().startswith(("SELECT", "UPDATE", "DELETE")):
            cursor = connection.connection.cursor()
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters[0] if many else parameters)
            plans.extend(str(row[3]) for row in cursor.fetchall())

    hooks.listen(lone._engine, "before_cursor_execute", explain)
    try:
        CALLS[name](lone)
    finally:
        hooks.remove(lone._engine, "before_cursor_execute", explain)
    assert plans
    bad = [plan for plan in plans if WHOLE.search(plan)]
    through = {found for plan in plans for found in re.findall(r"SCAN \w+ USING (?:COVERING )?INDEX (\w+)", plan)}
    assert not bad
    assert through <= SMALL, plans
