"""`history` shows each write once, and a write that is not settled as an intent."""

from __future__ import annotations

from reconciler.cli.history import settled
from reconciler.model.records import AuditEntry


def row(outcome: str, *, verb: str = "create", address: str = "EventSource/default/web#hook[acme/web]") -> AuditEntry:
    return AuditEntry(1.0, "cli", verb, resource="EventSource/default/web", address=address, outcome=outcome)


def test_an_intent_with_an_outcome_is_left_out_and_one_without_stays() -> None:
    newest_first = [
        (8, row("intent")),
        (7, row("done")),
        (6, row("intent")),
        (5, row("done", verb="update")),
        (4, row("refused", address="EventSource/default/web#hook[acme/other]")),
        (3, row("intent", address="EventSource/default/web#hook[acme/other]")),
        (2, row("intent", verb="update")),
        (1, row("intent")),
    ]
    assert [number for number, _ in settled(newest_first)] == [8, 7, 5, 4, 1]


def test_a_row_without_an_intent_stays() -> None:
    approval = AuditEntry(1.0, "ada", "approve", resource="Stage/default/deploy")
    assert settled([(2, approval), (1, approval)]) == [(2, approval), (1, approval)]
