"""When a failed stage is retried: the first pause is `retry.backoff`, and each further one is twice as long, without a limit."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from reconciler.model.executions import EndReason, Result
from reconciler.model.resources import Location, Resource
from reconciler.stages.admission import Settings, decide
from reconciler.stages.context import Work
from reconciler.stages.finish import BACKOFF_S, next_attempt
from tests.flow.test_pure import NOW, item, pinned, stage_id


def failed(retry: dict[str, Any], attempt: int, why: EndReason = EndReason.FAILED) -> float | None:
    """Return the seconds until the attempt after ``attempt``, which failed; None if there is none."""
    spec = {"connections": [], "executor": {"type": "noop"}, "retry": retry}
    queued = item(0, attempt=attempt)
    execution = decide([queued], 0, {}, settings=Settings(), snapshots=pinned(), now=NOW).start[0]
    finished = dataclasses.replace(execution, result=Result.FAILED, why=why, message="red")
    work = Work(finished, queued, Resource(stage_id("s"), spec, Location("s.yaml")), NOW)
    following = next_attempt(work, finished)
    if following is None:
        return None
    assert (following.attempt, following.failure) == (attempt + 1, "red")
    return following.not_before - NOW


def test_the_pause_doubles_with_each_attempt_up_to_the_most_that_a_manifest_may_declare() -> None:
    assert [failed({"limit": 20, "backoff": 3}, attempt) for attempt in range(1, 21)] == [3.0 * 2**n for n in range(20)]
    assert [failed({"limit": 3}, attempt) for attempt in range(1, 5)] == [BACKOFF_S, 2 * BACKOFF_S, 4 * BACKOFF_S, None]


@pytest.mark.parametrize("why", [EndReason.REFUSED, EndReason.ERROR, EndReason.LOST, EndReason.USER])
def test_an_end_that_no_attempt_can_change_is_final(why: EndReason) -> None:
    assert failed({"limit": 3}, 1, why) is None
