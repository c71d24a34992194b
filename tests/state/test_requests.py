"""Requested reconciles and claims of due work: each is claimed by one process at a time, and none is lost."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from reconciler.model.executions import ExecutionState
from reconciler.model.resources import ResourceId
from reconciler.state import Store, tables
from reconciler.state.claims import Capacity, Claim, WorkKind
from tests.state.test_inbox import finished

pytestmark = pytest.mark.fault
ALL = Capacity(100, 100)


def integration(number: int) -> ResourceId:
    return ResourceId("Integration", "default", f"i{number:02}")


def claim(store: Store, holder: str = "me", capacity: Capacity = ALL) -> tuple[Claim, ...]:
    return store.claim_work(holder, capacity).claims


def finish(store: Store, claimed: Claim, due_in_s: float = 60.0) -> bool:
    key = ResourceId.from_path(claimed.key)
    stored = store.finish_reconcile(key, due_in_s, by="me", number=claimed.number, fence=claimed.fence)
    store.release_lease(claimed.fence)
    return stored


def test_a14_requests_for_one_integration_are_one_reconcile(store: Store) -> None:
    for _ in range(3):
        store.request_reconciles([integration(1)])
    (only,) = claim(store)
    assert (only.kind, only.key, only.number) == (WorkKind.RECONCILE, integration(1).path, 3)
    assert claim(store, "peer") == ()
    assert finish(store, only)
    assert claim(store) == ()
    assert store.reconciled_by() == {integration(1): "me"}
    assert 0 < (store.claim_work("me", ALL).next_due_s or 0) <= 60


def test_a14_a_request_during_a_reconcile_leads_to_one_more_in_any_process(store: Store, url: str, tmp_path: Path) -> None:
    store.request_reconciles([integration(1)], force=True)
    (first,) = claim(store)
    assert (first.force, first.explicit) == (True, False)
    elsewhere = Store.open(url, state_dir=tmp_path)
    elsewhere.request_reconciles([integration(1)], explicit=True)
    elsewhere.request_reconciles([integration(1)])
    elsewhere.close()
    assert claim(store) == ()
    finish(store, first)
    (second,) = claim(store, "peer")
    assert (second.number, second.force, second.explicit) == (3, False, True)  # `force` was covered by the first
    finish(store, second)
    assert claim(store) == ()


def test_a14_processes_that_see_the_same_commit_request_one_reconcile(store: Store) -> None:
    store.request_reconciles([integration(1)], token="commit-a")
    (first,) = claim(store)
    store.request_reconciles([integration(1)], token="commit-a")
    finish(store, first)
    store.request_reconciles([integration(1)], token="commit-a")
    assert claim(store) == ()
    store.request_reconciles([integration(1)], token="commit-b")
    (second,) = claim(store)
    finish(store, second)
    store.request_reconciles([integration(1)], token="commit-a")  # the branch was set back
    assert len(claim(store)) == 1


def test_a15_what_a_dead_process_claimed_is_claimed_again_with_a_higher_number(store: Store) -> None:
    store.request_reconciles([integration(1), integration(2)], explicit=True)
    dead = claim(store, "dead", Capacity(1, 0))
    assert store.release_leases_of("dead") == 1
    again = claim(store, "peer")
    assert sorted(one.key for one in again) == [integration(1).path, integration(2).path]
    assert all(one.explicit for one in again)
    taken = next(one for one in again if one.key == dead[0].key)
    assert taken.fence.number > dead[0].fence.number
    assert not finish(store, dead[0])  # it was only stopped, and writes now
    assert claim(store, "third") == ()  # the peer still has it
    assert finish(store, taken)


def test_a14_a_claim_that_expired_is_free(store: Store) -> None:
    store.request_reconciles([integration(1)])
    claim(store)
    now = store.now()
    store.now = lambda: now + 61  # type: ignore[method-assign]
    assert claim(store, "me", Capacity(1, 1, ["slice/" + integration(1).path])) == ()  # it still runs in this process
    assert len(claim(store, "peer")) == 1


def test_a14_the_row_of_an_integration_that_is_gone_is_deleted_unless_it_was_requested_again(store: Store) -> None:
    store.request_reconciles([integration(1)])
    (first,) = claim(store)
    store.request_reconciles([integration(1)])
    finish(store, first)
    store.drop_request(integration(1), first.number)
    (second,) = claim(store)
    finish(store, second)
    store.drop_request(integration(1), second.number)
    assert store.reconciled_by() == {}


def test_a14_a_command_brings_the_due_time_forward_and_never_back(store: Store) -> None:
    store.request_reconciles([integration(1)])
    finish(store, claim(store)[0], 60)
    store.note_reconcile(integration(1), 600, by="cli")
    assert (store.claim_work("me", ALL).next_due_s or 0) <= 60
    store.note_reconcile(integration(1), 0, by="cli")
    assert len(claim(store)) == 1


def test_n30_due_times_go_back_with_the_clock(store: Store) -> None:
    store.request_reconciles([integration(1)])
    finish(store, claim(store)[0], 3_600)
    now = store.now()
    store.look_at_clock(now + 3_500)
    store.look_at_clock(now)
    assert (store.claim_work("me", ALL).next_due_s or 0) <= 101


def test_a14_the_most_overdue_work_is_claimed_first_up_to_the_capacity(store: Store) -> None:
    for number in (3, 1, 2):
        store.request_reconciles([integration(number)])
        time.sleep(0.002)
    assert [one.key for one in claim(store, capacity=Capacity(2, 0))] == [integration(3).path, integration(1).path]
    assert claim(store, capacity=Capacity(0, 0)) == ()
    assert [one.key for one in claim(store)] == [integration(2).path]


def due_steps(store: Store, count: int) -> list[str]:
    for number in range(count):
        finished(store, number, 1.0, "sha256:x")
    del store.now  # type: ignore[method-assign]
    x = tables.execution
    with store._write() as connection:
        connection.execute(update(x).values(state="running", next_at=1.0))
    return sorted(f"rcl-{number}" for number in range(count))


def test_a14_a_request_again_does_not_lose_its_place(store: Store) -> None:
    for number in (1, 2, 1):
        store.request_reconciles([integration(number)])
        time.sleep(0.002)
    assert [one.key for one in claim(store, capacity=Capacity(1, 0))] == [integration(1).path]


@pytest.mark.parametrize("state", list(ExecutionState))
def test_a14_the_next_look_is_when_the_next_step_is_due(store: Store, state: ExecutionState) -> None:
    due_steps(store, 2)
    with store._write() as connection:
        connection.execute(update(tables.execution).values(state=state.value, next_at=store.now() + 30))
    due = store.claim_work("me", ALL)
    assert due.claims == ()
    assert 0 < (due.next_due_s or 0) <= 30


def test_a14_a_request_is_covered_when_a_reconcile_that_began_after_it_has_ended(store: Store) -> None:
    assert store.requested(integration(1)) == (0, 0)
    store.request_reconciles([integration(1)])
    (first,) = claim(store)
    store.request_reconciles([integration(1)])
    finish(store, first)
    assert store.requested(integration(1)) == (2, 1)


def together(url: str, folder: Path, count: int, work: Callable[[Store, int], None]) -> None:
    """Run ``work`` in threads with a store each, and raise their first error."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        store = Store.open(url, state_dir=folder)
        try:
            work(store, number)
        except BaseException as error:
            errors.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_a14_concurrent_claimers_never_claim_the_same_work_twice(store: Store, url: str, tmp_path: Path) -> None:
    steps = due_steps(store, 60)
    requested = [integration(number) for number in range(30)]
    store.request_reconciles(requested)
    claimed: Counter[str] = Counter()
    lock = threading.Lock()

    def work(mine: Store, number: int) -> None:
        chance, empty = random.Random(number), 0
        while empty < 5:
            claims = claim(mine, f"process-{number}", Capacity(chance.randint(0, 3), chance.randint(0, 5)))
            empty = 0 if claims else empty + 1
            with lock:
                claimed.update(one.key for one in claims)

    together(url, tmp_path, 6, work)
    claimed.update(one.key for one in claim(store, "last"))
    assert claimed == dict.fromkeys([*steps, *(one.path for one in requested)], 1)


def test_a14_under_requests_and_take_overs_each_reconcile_runs_alone_and_the_last_request_is_covered(
    store: Store, url: str, tmp_path: Path
) -> None:
    names = [integration(number) for number in range(4)]
    running: dict[str, int] = {}
    overlaps: list[str] = []
    covered: dict[str, int] = {}
    lock = threading.Lock()

    def work(mine: Store, number: int) -> None:
        chance, holder = random.Random(number), f"process-{number}"
        for _ in range(60):
            if chance.random() < 0.4:
                mine.request_reconciles(chance.sample(names, 2), force=chance.random() < 0.5)
            for one in claim(mine, holder, Capacity(1, 0)):
                with lock:
                    overlaps.extend([one.key] if running.get(one.key) else [])
                    running[one.key] = number + 1
                died = chance.random() < 0.1
                with lock:
                    running[one.key] = 0
                    if not died:
                        covered[one.key] = max(covered.get(one.key, 0), one.number)
                if died:
                    mine.release_leases_of(holder)
                else:
                    assert finish(mine, one)

    together(url, tmp_path, 4, work)
    for one in claim(store, "last"):
        covered[one.key] = one.number
        finish(store, one)
    assert overlaps == []
    with store._read() as connection:
        q = tables.reconcile_request
        rows = connection.execute(q.select()).all()
    assert {row.integration: row.number for row in rows} == covered
    assert all(row.done == row.number for row in rows)


_Model = dict[int, tuple[int, int]]
_actions = st.lists(st.tuples(st.sampled_from(["request", "claim", "finish", "die"]), st.integers(0, 2)), max_size=25)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=_actions)
def test_a14_any_order_of_requests_claims_ends_and_deaths_leaves_exactly_the_uncovered_requests_due(
    store: Store, actions: Sequence[tuple[str, int]]
) -> None:
    with store._write() as connection:
        connection.execute(tables.reconcile_request.delete())
        connection.execute(tables.lease.delete())
    asked, done = Counter[int](), Counter[int]()
    held: dict[int, Claim] = {}
    for action, number in actions:
        if action == "request":
            store.request_reconciles([integration(number)])
            asked[number] += 1
        elif action == "claim":
            claims = {one.key: one for one in claim(store, "me")}
            expected = {n for n in asked if asked[n] > done[n] and n not in held}
            assert set(claims) == {integration(n).path for n in expected}
            held |= {n: claims[integration(n).path] for n in expected}
        elif action == "finish" and number in held:
            mine = held.pop(number)
            assert finish(store, mine)
            done[number] = mine.number
        elif action == "die":
            store.release_leases_of("me")
            held.clear()
    store.release_leases_of("me")
    assert {one.key for one in claim(store, "last")} == {integration(n).path for n in asked if asked[n] > done[n]}
