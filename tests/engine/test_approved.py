"""What was approved is what runs: movement at the provider, in Git and in secrets between plan and call, and between rounds."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.config.load import load_config
from reconciler.daemon.session import Options, Session, open_session
from reconciler.engine.approved import Applied, apply_approved
from reconciler.engine.control import Control
from reconciler.engine.converge import PassOutcome
from reconciler.engine.reconcile import Prepared
from reconciler.model.plan import Action, Change
from tests.engine.world import TOKENS, World

REPOS = ("one", "two", "three", "four")


@pytest.fixture(autouse=True, scope="module")
def tokens() -> Iterator[None]:
    """The credentials of the simulated providers, where this process looks for them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, token in TOKENS.items():
            patch.setenv(f"RECONCILER_SECRET_{name.upper()}", token)
        yield


@asynccontextmanager
async def session_of(world: World) -> AsyncIterator[Session]:
    """The program's own session on the world's configuration, in this process."""
    config = load_config(world.config, world.env)
    async with open_session(config, Options(log_level="error")) as session:
        await session.engine.sync()
        yield session


async def prepared_in(session: Session) -> tuple[Prepared, ...]:
    engine = session.engine
    return tuple([await engine.prepare(one) for one in await engine.integrations()])


def executable(prepared: Sequence[Prepared]) -> list[Change]:
    return [c for one in prepared if one.plan is not None for c in one.plan.executable]


def in_world(world: World, work: Callable[[Session], Coroutine[Any, Any, Any]]) -> Any:
    async def whole() -> Any:
        async with session_of(world) as session:
            return await work(session)

    return asyncio.run(whole())


async def apply_all(session: Session, between: Callable[[], None] = lambda: None) -> tuple[Applied, PassOutcome]:
    """Plan, let ``between`` happen while a person reads it, and apply what was planned."""
    prepared = await prepared_in(session)
    await asyncio.to_thread(between)
    done = await apply_approved(session.engine, prepared, wait_settle=True)
    return done, done.verdict(session.engine.current)


def call_of(change: Change) -> tuple[str, str]:
    """The one request that ``change`` may send to GitHub."""
    hooks = f"/repos/{change.scope.key}/hooks"
    if change.action is Action.CREATE:
        return "POST", hooks
    return ("DELETE" if change.action is Action.DELETE else "PATCH"), f"{hooks}/{change.external_id}"


def sent(world: World) -> list[tuple[str, str]]:
    return [(row["method"], row["path"]) for row in world.writes()]


# ---- single movements


def test_n0_a_hook_deleted_while_the_plan_is_read_is_named_and_not_made(world: World) -> None:
    world.source("one")
    world.source("two")
    in_world(world, apply_all)
    world.source("one", events="[{type: push}, {type: release}]")
    world.forget_requests()
    done, verdict = in_world(world, lambda session: apply_all(session, lambda: world.set_hooks("two", [])))
    assert [method for method, _ in sent(world)] == ["PATCH"]
    assert world.hooks("two") == []
    assert [(c.action, c.scope.key) for c in done.moved] == [(Action.CREATE, "acme/two")]
    assert len(done.done) == 1
    assert verdict is PassOutcome.PARTIAL


def test_n0_an_approved_update_of_a_hook_that_is_gone_never_becomes_a_create(world: World) -> None:
    world.source("one")
    in_world(world, apply_all)
    world.source("one", events="[{type: release}]")
    world.forget_requests()
    done, verdict = in_world(world, lambda session: apply_all(session, lambda: world.set_hooks("one", [])))
    assert [method for method, _ in sent(world)] == ["PATCH"]
    assert [error.code for error in done.failed.values()] == ["RC5013"]
    assert [c.action for c in done.moved] == [Action.CREATE]
    assert verdict is PassOutcome.PARTIAL


def test_n0_a_repository_that_a_match_finds_meanwhile_gets_no_hook_in_this_apply(world: World) -> None:
    world.write(
        "all.yaml",
        "kind: EventSource\nmetadata: {name: all}\nspec:\n  integration: {name: github}\n"
        "  resource: {type: repository, match: '*'}\n  events: [{type: push}]",
    )
    done, verdict = in_world(world, lambda session: apply_all(session, lambda: world.repos("late")))
    assert {c.scope.key for c in done.moved} == {"acme/late"}
    assert len(done.done) == len(sent(world))
    assert world.hooks("late") == []
    assert verdict is PassOutcome.PARTIAL


def test_n0_a_commit_while_the_plan_is_read_is_not_part_of_it(world: World) -> None:
    world.source("one")

    def commit() -> None:
        world.source("two")
        world.source("one", events="[{type: release}]")

    in_world(world, lambda session: apply_all(session, commit))
    assert [hook["events"] for hook in world.hooks("one")] == [["push"]]
    assert world.hooks("two") == []


def test_n0_a_secret_that_changed_after_the_plan_is_not_written(wide: World) -> None:
    folder = wide.folder / "secrets"
    folder.mkdir(mode=0o700)
    (folder / "registry").write_text("first-canary-value\n")
    wide.write(
        "registry.yaml", "kind: Secret\nmetadata: {name: registry}\nspec: {provider: file, data: {token: {path: registry}}}"
    )
    wide.write(
        "buddy-docker.yaml",
        "kind: BuddyIntegration\nmetadata: {name: docker}\nspec:\n  integration: {name: buddy}\n  workspace: acme\n  type: GIT_HUB\n"
        "  token: {valueFrom: {secret: {name: registry, key: token}}}",
    )
    wide.configure(secrets=f"{{folder: {folder}}}")

    async def changed(session: Session) -> tuple[Applied, PassOutcome]:
        prepared = await prepared_in(session)
        (folder / "registry").write_text("second-canary-value\n")
        session.engine.current.secrets.forget()  # as after a minute
        done = await apply_approved(session.engine, prepared, wait_settle=True)
        return done, done.verdict(session.engine.current)

    done, verdict = in_world(wide, changed)
    assert wide.writes("buddy") == []
    assert [c.resource.name for c in done.moved] == ["docker"]
    assert done.failed == {}
    assert verdict is PassOutcome.PARTIAL


def test_n0_what_another_process_did_since_the_plan_is_not_done_twice(world: World) -> None:
    world.source("one")

    async def late(session: Session) -> tuple[Applied, PassOutcome]:
        early = await prepared_in(session)
        await session.engine.run_all(ignore_backoff=True)  # what a daemon beside it does
        world.servers["github"].admin.settings(accept_duplicates=True)
        done = await apply_approved(session.engine, early, wait_settle=True)
        return done, done.verdict(session.engine.current)

    done, _ = in_world(world, late)
    assert len(world.hooks("one")) == 1
    assert [method for method, _ in sent(world)] == ["POST"]
    assert done.done == ()


def test_n0_an_answer_lost_in_the_first_round_is_found_again_and_counted_once(world: World) -> None:
    world.servers["github"].admin.settings(accept_duplicates=True)
    world.source("one")
    world.source("two")
    world.servers["github"].admin.fault(method="POST", path="/repos/acme/one/hooks", effect="reset", commit=True)
    done, verdict = in_world(world, apply_all)
    assert (len(done.done), done.failed, done.moved) == (2, {}, ())
    assert verdict is PassOutcome.DONE
    assert len(sent(world)) == 2


def test_n0_an_update_reverted_by_hand_after_it_was_made_is_not_made_a_second_time(world: World) -> None:
    world.source("one")
    in_world(world, apply_all)
    world.source("one", events="[{type: release}]")
    world.forget_requests()

    async def reverted(session: Session) -> tuple[Applied, PassOutcome]:
        async def revert() -> None:
            if [method for method, _ in sent(world)] == ["PATCH"]:
                world.set_hooks("one", [{**hook, "events": ["push"]} for hook in world.hooks("one")])

        session.engine.on_change = revert
        return await apply_all(session)

    done, verdict = in_world(world, reverted)
    assert [method for method, _ in sent(world)] == ["PATCH"]
    assert [c.action for c in done.moved] == [Action.UPDATE]
    assert verdict is PassOutcome.PARTIAL


def test_n0_a_suspension_made_while_the_plan_is_read_holds_all_of_it(world: World) -> None:
    world.source("one")

    async def suspended(session: Session) -> tuple[Applied, PassOutcome]:
        prepared = await prepared_in(session)
        control = Control(session.engine, lambda _: asyncio.sleep(0))
        await control.suspend({"resource": "EventSource/one", "reason": "incident"}, "test")
        done = await apply_approved(session.engine, prepared, wait_settle=True)
        return done, done.verdict(session.engine.current)

    done, verdict = in_world(world, suspended)
    assert sent(world) == []
    assert [c.reason for c in done.left] == ["Suspended"]
    assert verdict is PassOutcome.PARTIAL


# ---- any movement, at any moment

_touches = st.sampled_from(["delete", "edit", "foreign", "commit", "declare"])
_moves = st.lists(st.tuples(st.integers(0, 3), _touches, st.sampled_from(REPOS)), max_size=6)


def touch(world: World, what: str, repo: str) -> None:
    """What hands, commits and other programs do meanwhile."""
    hooks = world.hooks(repo)
    if what == "delete":
        world.set_hooks(repo, hooks[1:])
    elif what == "edit":
        world.set_hooks(repo, [{**hook, "events": ["issues"]} for hook in hooks])
    elif what == "foreign":
        config = {"url": f"https://else.example/{len(hooks)}", "content_type": "json", "insecure_ssl": "0"}
        world.set_hooks(
            repo, [*hooks, {"id": 9000 + len(hooks), "name": "web", "active": True, "events": ["push"], "config": config}]
        )
    elif what == "commit":
        world.source(repo, events="[{type: deployment}]")
    else:
        world.source(repo, name=f"{repo}-again")


@pytest.mark.timeout(400)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(moves=_moves, faulty=st.booleans())
def test_n0_no_movement_at_any_moment_leads_to_a_write_that_the_approved_plan_does_not_hold(
    moves: list[tuple[int, str, str]], faulty: bool
) -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        world = World(Path(folder))
        try:
            _any_movement(world, moves, faulty=faulty)
        finally:
            world.close()


def _any_movement(world: World, moves: list[tuple[int, str, str]], *, faulty: bool) -> None:
    world.configure(reconcile="{interval: 2s, settle: 1s, retry: {min: 1s, max: 4s}}")
    world.repos(*REPOS)
    for repo in ("one", "two", "three"):
        world.source(repo)
    in_world(world, apply_all)
    world.source("one", events="[{type: push}, {type: release}]")  # an update
    world.remove("three")  # a delete
    world.source("four")  # a create; "two" stays as it is
    world.forget_requests()
    if faulty:
        world.servers["github"].admin.fault(method="POST", path="/repos/acme/four/hooks", effect="reset", commit=True)

    async def work(session: Session) -> tuple[list[Change], Applied, PassOutcome]:
        rounds = 0

        async def between() -> None:
            nonlocal rounds
            rounds += 1
            for moment, what, repo in moves:
                if moment == rounds:
                    await asyncio.to_thread(touch, world, what, repo)

        session.engine.on_change = between
        prepared = await prepared_in(session)
        for moment, what, repo in moves:
            if moment == 0:
                await asyncio.to_thread(touch, world, what, repo)
        done = await apply_approved(session.engine, prepared, wait_settle=True)
        return executable(prepared), done, done.verdict(session.engine.current)

    approved, done, verdict = in_world(world, work)
    assert sorted(c.action.value for c in approved) == ["create", "delete", "update"]
    allowed = {call_of(change): change for change in approved}
    for row in world.writes():
        change = allowed.get((row["method"], row["path"]))
        assert change is not None, (row["method"], row["path"], moves)
        if change.desired is not None:
            assert sorted(row["body"]["events"]) == sorted(change.desired.attributes["events"])
    calls = sent(world)
    # A create whose answer was lost is looked for; what is not there then (somebody deleted it) is still to be made.
    again = {("POST", "/repos/acme/four/hooks")} if faulty and any(repo == "four" for _, _, repo in moves) else set()
    assert {call for call in calls if calls.count(call) > 1} <= again, "each approved change is made once"
    assert (verdict is PassOutcome.DONE) <= (not done.moved and not done.failed)
