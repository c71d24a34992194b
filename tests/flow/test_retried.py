"""Which ends of an execution are retried: those that a further attempt can change, and never one that a person ended."""

from __future__ import annotations

import pytest

from reconciler.model.executions import EndReason, Execution, ExecutionState, Item, ItemState, Result
from reconciler.model.resources import Location, Resource, ResourceId
from reconciler.stages.context import Work
from reconciler.stages.finish import next_attempt

STAGE = Resource(
    ResourceId("Stage", "default", "build"),
    {
        "connections": [{"type": "event-source", "name": "hand"}],
        "executor": {"type": "noop"},
        "retry": {"limit": 2, "backoff": 30.0},
    },
    Location("a.yaml", 1),
)


def retried(why: EndReason, *, cancel_by: str = "", attempt: int = 1) -> Item | None:
    item = Item("itm-1", STAGE.id, "e1", "hand", ItemState.RUNNING, 1.0, "main@sha1:1", "d", attempt=attempt)
    ended = Execution(
        "rcl-1",
        item.id,
        STAGE.id,
        ExecutionState.FINISHED,
        1.0,
        "d",
        item.revision,
        result=Result.FAILED,
        why=why,
        cancel_by=cancel_by,
    )
    return next_attempt(Work(ended, item, STAGE, 1_000.0), ended)


@pytest.mark.parametrize("why", [EndReason.FAILED, EndReason.TIMED_OUT, EndReason.MISSING_OUTPUTS])
def test_a_failed_run_is_retried_after_a_pause_that_doubles(why: EndReason) -> None:
    first, second = retried(why), retried(why, attempt=2)
    assert first is not None
    assert second is not None
    assert [(first.attempt, first.not_before), (second.attempt, second.not_before)] == [(2, 1_030.0), (3, 1_060.0)]
    assert retried(why, attempt=3) is None


@pytest.mark.parametrize("why", [EndReason.REFUSED, EndReason.ERROR, EndReason.LOST, EndReason.USER, EndReason.OK])
def test_an_end_that_a_further_attempt_cannot_change_is_not_retried(why: EndReason) -> None:
    assert retried(why) is None


def test_a_run_that_failed_after_a_person_cancelled_it_is_not_retried_and_one_that_timed_out_is() -> None:
    assert retried(EndReason.FAILED, cancel_by="ada") is None
    assert retried(EndReason.TIMED_OUT, cancel_by="timeout") is not None
