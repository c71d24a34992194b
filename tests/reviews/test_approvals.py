"""Who may approve, and what an approval covers after the merge."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from reconciler.config.settings import Config, ReviewConfig
from reconciler.log import get_logger
from reconciler.model.resources import ResourceId
from reconciler.model.reviews import Grant, ReviewedBlock, ReviewState, Wish
from reconciler.model.status import ConditionType
from reconciler.reviews.approvals import approve_merged, decide
from reconciler.reviews.outcome import MergeOutcome
from reconciler.reviews.verdict import button_id

HEAD, DIGEST = "a" * 40, "sha256:" + "1" * 64
WEB = ResourceId("EventSource", "default", "web")
HOOKS = ResourceId("Integration", "default", "hooks")
BLOCK = ReviewedBlock(HOOKS.path, WEB.path, "web#hook", "delete", "")
STATE = ReviewState(
    "acme/infra", 7, HEAD, "main", author="Mallory", done_head=HEAD, digest=DIGEST, blocked=(BLOCK,), resources=(WEB.path,)
)
BUTTON = button_id(DIGEST)
WRITERS = {"ada", "mallory"}


def decided(
    login: str, *, button: str = BUTTON, head: str = HEAD, state: ReviewState = STATE, approvers: tuple[str, ...] = ()
) -> bool:
    """Return whether the press of ``login`` became a grant, with an entry of the audit log."""

    async def may_write(_api: object, _repository: str, person: str) -> bool:
        return person.lower() in WRITERS

    config = Config(review=ReviewConfig(approvers=approvers))
    current: Any = SimpleNamespace(context=SimpleNamespace(config=config, clock=lambda: 5.0, log=get_logger("test")))
    client = SimpleNamespace(driver=SimpleNamespace(provider="github"), connection=SimpleNamespace(integration=HOOKS))
    target: Any = SimpleNamespace(pulls=SimpleNamespace(may_write=may_write), client=client)
    api: Any = None
    after, audit = asyncio.run(decide(current, target, api, replace(state, wish=Wish(login, button, head))))
    assert after.wish is None
    assert (after.grant is not None) == (len(audit) == 1)
    return after.grant is not None


def test_people_with_write_access_may_approve_but_not_the_author_in_any_spelling() -> None:
    assert decided("ada")
    assert not decided("eve")
    assert not decided("mallory")
    assert not decided("MALLORY")
    assert not decided("")


def test_named_approvers_replace_the_permission() -> None:
    assert decided("Grace", approvers=("grace",))
    assert not decided("ada", approvers=("grace",))


def test_a_button_of_other_changes_or_of_another_commit_approves_nothing() -> None:
    assert not decided("ada", button=button_id("sha256:" + "2" * 64))
    assert not decided("ada", head="b" * 40)
    assert not decided("ada", state=replace(STATE, done_head="b" * 40))
    assert not decided("ada", state=replace(STATE, digest=""), button=button_id(""))


def merged(*blocked: tuple[str, str], grant: str = DIGEST, resources: dict[ResourceId, str] | None = None) -> list[str]:
    """Return the digests that are approved after the merge, for a plan that blocks ``blocked``."""
    approved: list[str] = []

    async def approve(digest: str, **_: object) -> None:
        approved.append(digest)

    async def request(_integrations: object) -> None:
        return None

    changes = tuple(SimpleNamespace(address=a, action=SimpleNamespace(value=action), resource=WEB) for a, action in blocked)
    plan = SimpleNamespace(blocked_sha256="sha256:plan", blocked=changes, integration=HOOKS)
    context = SimpleNamespace(clock=lambda: 6.0, store=SimpleNamespace(approve=approve))
    active = SimpleNamespace(
        revision="main@sha1:1", resources={key: SimpleNamespace(spec_digest=spec) for key, spec in (resources or {}).items()}
    )
    current: Any = SimpleNamespace(
        context=context, active=active, view=SimpleNamespace(results={HOOKS: SimpleNamespace(plan=plan)})
    )
    state = replace(STATE, grant=Grant("ada", grant, 5.0, "github:ada"))
    after = asyncio.run(approve_merged(current, state, request))
    assert list(after.granted) == approved
    return approved


def test_after_the_merge_exactly_what_was_reviewed_is_approved() -> None:
    assert merged(("web#hook", "delete")) == ["sha256:plan"]
    assert merged(("web#hook", "replace")) == []
    assert merged(("web#hook", "delete"), ("other#hook", "delete")) == []
    assert merged(("web#hook", "delete"), grant="sha256:" + "2" * 64) == []
    assert merged(("web#hook", "delete"), resources={WEB: "sha256:changed since"}) == []


@pytest.mark.parametrize(("fork", "shown"), [(False, 1), (True, 0)])
def test_a_fork_is_shown_no_condition(fork: bool, shown: int) -> None:
    drifted = SimpleNamespace(reason="Drifted", message="the provider answered x")
    status = SimpleNamespace(ready=False, condition={ConditionType.DRIFTED: drifted}.get)
    current: Any = SimpleNamespace(view=SimpleNamespace(statuses={WEB: status}))
    unused: Any = None
    assert len(MergeOutcome(current, unused, unused).unready(replace(STATE, fork=fork))) == shown
