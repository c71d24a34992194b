"""Names and containers: which record belongs to which address, and what is never deleted."""

import dataclasses

import pytest

from reconciler.model.errors import Declined, ProviderError, ScopeGone
from reconciler.model.objects import Scope
from reconciler.model.plan import Action, Disposition
from reconciler.model.resources import DeletionPolicy, Lifecycle
from reconciler.planning.plan import ScopeView
from tests.planning.world import HOOKS, desired, observed, only, plan, recorded

NEW = Scope(HOOKS.type, "acme/payments-new")
OLD, D = desired(), desired(scope=NEW)


def test_n1_two_names_that_nobody_calls_one_container_still_share_no_delete():
    views = {HOOKS: ScopeView((observed(OLD),), 2), NEW: ScopeView((observed(D),), 2)}
    made = plan(D, have=(recorded(OLD),), views=views)
    by_action = {change.action: change for change in made.changes}
    assert by_action[Action.RECORD].disposition is Disposition.EXECUTE
    assert (by_action[Action.DELETE].disposition, by_action[Action.DELETE].reason) == (Disposition.HELD, "StillUsed")


def test_n1_a_record_follows_the_redirect_to_the_present_name():
    views = {HOOKS: ScopeView((observed(OLD),), 2, place=NEW), NEW: ScopeView((observed(D),), 2)}
    change = only(plan(D, have=(recorded(OLD),), views=views))
    assert (change.action, change.previous, change.external_id) == (Action.RECORD, OLD.address, "1")


def test_n1_a_record_follows_its_container_where_the_name_does_not_redirect():
    views = {HOOKS: ScopeView(error=ScopeGone("gone")), NEW: ScopeView((observed(D),), 2, container="repositories/7")}
    change = only(plan(D, have=(recorded(OLD, container="repositories/7"),), views=views))
    assert (change.action, change.previous) == (Action.RECORD, OLD.address)


def test_n1_a_second_record_of_one_object_is_forgotten_without_a_call():
    views = {HOOKS: ScopeView((observed(OLD),), 2, place=NEW), NEW: ScopeView((observed(D),), 2)}
    change = only(plan(D, have=(recorded(OLD), recorded(D)), views=views))
    assert (change.action, change.address, change.reason) == (Action.FORGET, OLD.address, "Moved")


def test_n1_a_declared_name_that_cannot_be_read_keeps_its_record():
    views = {HOOKS: ScopeView(error=ScopeGone("gone")), NEW: ScopeView((observed(D),), 2, container="repositories/7")}
    assert plan(OLD, have=(recorded(OLD, container="repositories/7"),), views=views).changes == ()


def test_n9_what_is_out_of_reach_changes_nothing_and_names_the_way_out():
    made = plan(have=(recorded(OLD),), views={HOOKS: ScopeView(error=ScopeGone("acme/payments is not there"))})
    assert made.changes == ()
    assert f"reconciler forget '{OLD.address}'" in made.notes[-1]


def test_n9_a_failure_that_time_heals_names_no_way_out():
    made = plan(have=(recorded(OLD),), views={HOOKS: ScopeView(error=ProviderError("502"))})
    assert made.changes == ()
    assert not any("forget" in note for note in made.notes)


def test_n9_what_was_to_be_orphaned_or_was_deleted_already_is_forgotten_without_a_look():
    views = {HOOKS: ScopeView(error=ScopeGone("gone"))}
    orphan = Lifecycle(deletion_policy=DeletionPolicy.ORPHAN)
    assert only(plan(have=(recorded(OLD, lifecycle=orphan),), views=views)).action is Action.FORGET
    assert only(plan(have=(recorded(OLD, tombstone=True),), views=views)).action is Action.FORGET
    assert plan(have=(recorded(OLD, lifecycle=orphan),), views=views, prune_allowed=False).changes == ()


def test_n9_in_a_container_that_is_read_only_the_object_is_let_go():
    view = ScopeView((observed(OLD),), 2, read_only="archived")
    change = only(plan(have=(recorded(OLD),), views={HOOKS: view}))
    assert (change.action, change.reason) == (Action.FORGET, "ReadOnly")


def test_n1_an_unchanged_secret_of_a_record_that_moves_is_not_written_again():
    views = {HOOKS: ScopeView((observed(OLD),), 2, place=NEW), NEW: ScopeView((observed(D),), 2)}
    have = recorded(OLD, fingerprints={"/config/secret": f"{OLD.address}=a"})
    secret = dataclasses.replace(D.write_only[0], fingerprint=f"{D.address}=a")
    want = dataclasses.replace(D, write_only=(secret,))
    kept = plan(want, have=(have,), views=views, fingerprint=lambda address, w: f"{address}=a")
    assert only(kept).action is Action.RECORD
    changed = plan(want, have=(have,), views=views, fingerprint=lambda address, w: f"{address}=b")
    assert only(changed).action is Action.REMARK


@pytest.mark.parametrize("status", [410, 451])
def test_n9_a_list_that_was_withdrawn_for_good_has_the_same_way_out(status):
    error = Declined(f"GET /repos/acme/payments/hooks: refused ({status})", status=status)
    made = plan(have=(recorded(OLD),), views={HOOKS: ScopeView(error=error)})
    assert made.changes == ()
    assert f"reconciler forget '{OLD.address}'" in made.notes[-1]
