"""Conditions keep their rules whatever a pass finds."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from reconciler.engine.conditions import ConditionCause, ConditionInputs, broken_invariants, conditions_of, same_but_times
from reconciler.model.resources import Location, ResourceId
from reconciler.model.status import ConditionStatus, ConditionType, ResourceStatus

finding = st.builds(
    ConditionCause, st.sampled_from(["Reconciled", "ScopeGone", "RateLimited", "DriftDetected"]), st.text(max_size=20)
)
maybe = st.none() | finding
findings = st.builds(
    ConditionInputs,
    ready=finding,
    stalled=maybe,
    progressing=maybe,
    drifted=maybe,
    suspended=maybe,
    blocked=maybe,
    credentials=st.none() | st.tuples(st.sampled_from(ConditionStatus), finding),
    delivering=st.none() | st.tuples(st.sampled_from(ConditionStatus), finding),
)


def status(found: ConditionInputs, before: ResourceStatus | None, generation: int, now: str) -> ResourceStatus:
    conditions = conditions_of(found, before.conditions if before else (), generation=generation, now=now)
    return ResourceStatus(ResourceId("EventSource", "default", "x"), Location("a"), generation, generation, conditions=conditions)


@given(st.lists(findings, min_size=1, max_size=6))
def test_no_sequence_of_findings_breaks_an_invariant(sequence: list[ConditionInputs]) -> None:
    before = None
    for number, found in enumerate(sequence, 1):
        after = status(found, before, number, f"2026-01-01T00:00:{number:02}Z")
        assert broken_invariants(after) == ()
        before = after


@given(findings, findings)
def test_a_transition_time_moves_only_when_the_status_flips(first: ConditionInputs, second: ConditionInputs) -> None:
    before = status(first, None, 1, "t1")
    after = status(second, before, 1, "t2")
    old = {c.type: c for c in before.conditions}
    for condition in after.conditions:
        same = condition.type in old and old[condition.type].status is condition.status
        assert condition.last_transition_time == ("t1" if same else "t2")


@given(findings)
def test_drifted_and_blocked_are_never_green_and_suspended_is_unknown(found: ConditionInputs) -> None:
    made = status(found, None, 1, "t")
    ready = made.conditions[0]
    assert ready.type is ConditionType.READY
    if found.suspended is not None:
        assert ready.status is ConditionStatus.UNKNOWN
    elif found.drifted is not None or found.blocked is not None or found.stalled is not None:
        assert ready.status is ConditionStatus.FALSE


def test_a_poll_that_finds_nothing_changes_nothing_but_the_times() -> None:
    one = status(ConditionInputs(), None, 1, "t")
    assert same_but_times(one, dataclasses.replace(one, next_reconcile_at="later"))
    assert not same_but_times(one, dataclasses.replace(one, attempts=1))
