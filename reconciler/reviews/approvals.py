"""The approve button: who may press it, and what the approval means after the merge."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec.structs import replace

from reconciler.drivers.http.client import ApiClient
from reconciler.engine.current import Current
from reconciler.model.plan import Change, Plan
from reconciler.model.printable import plain
from reconciler.model.records import AuditEntry
from reconciler.model.resources import ResourceId
from reconciler.model.reviews import Grant, ReviewState, Wish
from reconciler.reviews.target import ReviewTarget
from reconciler.reviews.verdict import button_id

RequestReconcile = Callable[[tuple[ResourceId, ...]], Awaitable[None]]


async def decide(
    current: Current, target: ReviewTarget, api: ApiClient, state: ReviewState
) -> tuple[ReviewState, tuple[AuditEntry, ...]]:
    """Return the state without the wish, and with a grant if the person may approve exactly what the button stood for."""
    wish, context = state.wish, current.context
    state = replace(state, wish=None)
    if wish is None:
        return state, ()
    reason = await _refusal(current, target, api, state, wish)
    detail = {"repository": state.repository, "number": state.number, "commit": wish.head, "digest": state.digest}
    actor = f"{target.client.driver.provider}:{plain(wish.login)[:100]}"
    if reason:
        context.log.warning("review_approval_refused", number=state.number, actor=actor, reason=reason)
        return state, ()
    now = context.clock()
    context.log.info("review_approved", number=state.number, actor=actor, commit=wish.head)
    entry = AuditEntry(at=now, actor=actor, verb="approve", integration=target.client.connection.integration.path, detail=detail)
    return replace(state, grant=Grant(wish.login, state.digest, now, actor)), (entry,)


async def _refusal(current: Current, target: ReviewTarget, api: ApiClient, state: ReviewState, wish: Wish) -> str:
    """Return why a person may not approve; empty if they may."""
    if wish.head != state.done_head or not state.digest or wish.button != button_id(state.digest):
        return "the button stands for changes that are not blocked now"
    approvers = {login.lower() for login in current.context.config.review.approvers}
    if approvers:
        return "" if wish.login.lower() in approvers else "review.approvers does not name this person"
    if not wish.login or wish.login.lower() == state.author.lower():
        return "the author cannot approve their own pull request"
    allowed = await target.pulls.may_write(api, state.repository, wish.login)
    return "" if allowed else "this person cannot write to the repository"


async def approve_merged(current: Current, state: ReviewState, request: RequestReconcile) -> ReviewState:
    """Approve the blocked sets of the daemon's plans that contain only what was reviewed and approved; return the new state.

    A set is covered if each of its changes has the same address and action, and its manifest the same content, as when it was reviewed.
    """
    grant = state.approval
    if grant is None:
        return state
    reviewed = {(block.address, block.action): block.spec for block in state.blocked}
    context = current.context
    for integration, result in sorted(current.view.results.items()):
        plan = result.plan
        if plan is None or plan.blocked_sha256 is None or plan.blocked_sha256 in state.granted:
            continue
        if not all(_covered(change, reviewed, current) for change in plan.blocked):
            continue
        await context.store.approve(
            plan.blocked_sha256, by=f"{grant.login} (#{state.number})", at=context.clock(), audit=_audit(state, plan, current)
        )
        state = replace(state, granted=(*state.granted, plan.blocked_sha256))
        await request((integration,))
    return state


def _covered(change: Change, reviewed: dict[tuple[str, str], str], current: Current) -> bool:
    resource = current.active.resources.get(change.resource)
    spec = resource.spec_digest if resource is not None else ""
    return reviewed.get((change.address, change.action.value)) == spec


def _audit(state: ReviewState, plan: Plan, current: Current) -> AuditEntry:
    grant = state.grant
    return AuditEntry(
        at=current.context.clock(),
        actor=grant.actor if grant is not None else "",
        verb="approve",
        integration=plan.integration.path,
        revision=current.active.revision,
        detail={"digest": plan.blocked_sha256, "repository": state.repository, "number": state.number},
    )


__all__ = ["RequestReconcile", "approve_merged", "decide"]
