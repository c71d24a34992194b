"""The commit status of a revision, for everything that may become of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from reconciler.model.errors import Problem, ReconcilerError
from reconciler.model.resources import Location, ResourceId
from reconciler.model.status import ConditionType
from reconciler.reviews.sync_status import SyncState, SyncStatus

OLD, NEW = "main@sha1:" + "1" * 40, "main@sha1:" + "2" * 40
ERROR = ReconcilerError("@all the signature is missing", code="RC2001")
PROBLEM = Problem(Location("a.yaml", 1), "RC1101", "wrong")


def row(name: str, *conditions: ConditionType) -> tuple[ResourceId, Any]:
    known = {condition: object() for condition in conditions}
    return ResourceId("Stage", "default", name), SimpleNamespace(ready=not conditions, condition=known.get)


def computed(*rows: tuple[ResourceId, Any], fetched: str = NEW, active: str = NEW, applied: str = NEW, **more: Any) -> SyncState:
    source = SimpleNamespace(
        fetched=SimpleNamespace(id=fetched, commit=fetched.partition(":")[2]), error=more.get("error"), applied=applied
    )
    revision = SimpleNamespace(
        revision=active, empty=False, problems=more.get("problems", ()), resources={identity: object() for identity, _ in rows}
    )
    current = SimpleNamespace(source=source, active=revision, view=SimpleNamespace(statuses=dict(rows)))
    state = SyncStatus(current).compute()  # type: ignore[arg-type]
    assert state is not None
    assert state.commit == fetched.partition(":")[2]
    return state


@pytest.mark.parametrize(
    ("state", "description", "status"),
    [
        ("success", "applied: 1 of 1 resources ready", computed(row("a"))),
        ("success", "applied: 1 of 1 resources ready", computed(row("a"), error=ERROR)),  # a later fetch failed
        ("failure", "refused: @all the signature is missing", computed(row("a"), active=OLD, error=ERROR)),
        ("pending", "reading the manifests", computed(row("a"), active=OLD)),
        ("pending", "1 of 1 resources ready", computed(row("a"), applied=OLD)),
        ("failure", "1 error in the manifests; 1 of 1 resources ready", computed(row("a"), problems=(PROBLEM,))),
        ("failure", "1 stalled; 1 of 2 resources ready", computed(row("a"), row("b", ConditionType.STALLED))),
        (
            "pending",
            "1 blocked: an approval is needed; 1 of 2 resources ready",
            computed(row("a"), row("b", ConditionType.PLAN_BLOCKED)),
        ),
        ("failure", "1 stalled; 0 of 2 resources ready", computed(row("a", ConditionType.STALLED), row("b", ConditionType.PLAN_BLOCKED))),
    ],
)  # fmt: skip
def test_each_revision_has_the_state_of_what_became_of_it(state: str, description: str, status: SyncState) -> None:
    assert (status.state, status.description) == (state, description)
