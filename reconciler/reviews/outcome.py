"""After the merge: the comment shows the result of each change."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from msgspec.structs import replace

from reconciler.drivers.http.client import ApiClient
from reconciler.engine.current import Current
from reconciler.model.resources import ResourceId
from reconciler.model.reviews import ReviewState
from reconciler.model.status import ConditionType, ResourceStatus
from reconciler.reviews.approvals import RequestReconcile, approve_merged
from reconciler.reviews.row import ReviewRow
from reconciler.reviews.target import ReviewTarget
from reconciler.reviews.texts import OutcomeRow, comment, redacted
from reconciler.source.mirror import RemoteSource

POLL_S = 2.0
SLOW_POLL_S = 30.0
SLOW_AFTER_S = 120.0
GIVE_UP_S = 3_600.0
"""After this time the comment stays as it is: `reconciler status` shows what happens later."""
FINAL = frozenset({"ready", "stalled", "deleted", "suspended"})


class MergeOutcome:
    """Follows what a merge changes until all of it is ready or has failed."""

    def __init__(self, current: Current, source: RemoteSource, request: RequestReconcile) -> None:
        self._current = current
        self._source = source
        self._request = request
        self._written: dict[str, str] = {}
        """Key of a review → the comment that this process wrote last."""

    async def advance(self, row: ReviewRow, target: ReviewTarget, api: ApiClient) -> None:
        """Write the comment if it changed; the row is due again until the outcome is final."""
        context, state = self._current.context, row.state
        now = context.clock()
        rows: tuple[OutcomeRow, ...] = ()
        in_force = await self._in_force(state)
        if in_force:
            state = await approve_merged(self._current, state, self._request)
            rows = tuple(self._rows(state))
        final = in_force and all(each.state in FINAL for each in rows)
        over = final or now - state.closed_at > GIVE_UP_S
        body = comment(state, context.owner, state.context, rows)
        body = dataclasses.replace(body, body=redacted(body.body, context.redactor.redact))
        if self._written.get(row.key) != body.body:
            comment_id = await target.pulls.comment(api, body, state.comment_id, create=state.comment_due)
            state = replace(state, comment_id=comment_id, comment_due=False)
            self._written[row.key] = body.body
        if over:
            self._written.pop(row.key, None)
            context.log.info("review_merged", number=state.number, outcome="final" if final else "given up")
        pause = POLL_S if now - state.closed_at < SLOW_AFTER_S else SLOW_POLL_S
        await row.save(replace(state, reported=over, failures=0, error=""), now if over else now + pause)

    def unready(self, state: ReviewState) -> tuple[OutcomeRow, ...]:
        """Return the resources that a pull request changes and that are not ready now.

        None for a fork: a condition may quote what a provider answered.
        """
        if state.fork:
            return ()
        statuses = self._current.view.statuses
        known = [(identity, statuses.get(identity)) for identity in map(ResourceId.from_path, state.resources)]
        return tuple(_row(identity, status) for identity, status in known if status is not None and not status.ready)

    async def _in_force(self, state: ReviewState) -> bool:
        """Whether the active revision contains the merge."""
        fetched = self._current.source.fetched
        if fetched is None or fetched.id != self._current.active.revision:
            return False
        return await self._source.includes(fetched, state.merge_commit or state.head)

    def _rows(self, state: ReviewState) -> Iterator[OutcomeRow]:
        statuses, active = self._current.view.statuses, self._current.active
        for path in state.resources:
            identity = ResourceId.from_path(path)
            status, resource = statuses.get(identity), active.resources.get(identity)
            if resource is None:
                blocked = status is not None and status.condition(ConditionType.PLAN_BLOCKED) is not None
                yield OutcomeRow(str(identity), "deleted" if status is None else "blocked" if blocked else "deleting")
            elif status is None or status.spec_digest != resource.spec_digest or status.observed_generation < status.generation:
                yield OutcomeRow(str(identity), "pending")
            else:
                yield _row(identity, status)


def _row(identity: ResourceId, status: ResourceStatus) -> OutcomeRow:
    if status.ready:
        return OutcomeRow(str(identity), "ready")
    for kind, word in (
        (ConditionType.SUSPENDED, "suspended"),
        (ConditionType.PLAN_BLOCKED, "blocked"),
        (ConditionType.STALLED, "stalled"),
        (ConditionType.DRIFTED, "drifted"),
    ):
        condition = status.condition(kind)
        if condition is not None:
            return OutcomeRow(str(identity), word, f"{condition.reason}: {condition.message}")
    return OutcomeRow(str(identity), "reconciling")


__all__ = ["MergeOutcome"]
