"""``plan --base``: desired against desired."""

from __future__ import annotations

import dataclasses

from reconciler.model.plan import Action, ChangeClass, Disposition
from reconciler.model.resources import DeletionPolicy, IgnoreRule, Lifecycle, Management
from reconciler.planning.compare import base_plan
from reconciler.planning.inputs import PlanLimits

from .world import desired, moved


def step(before, after):
    return [(c.resource.name, c.action, c.disposition, c.reason) for c in base_plan(before, after).changes]


def test_the_step_between_two_revisions_is_all_commit():
    a, b, c = desired("a", secret="ref:x"), desired("b"), desired("c")
    changed = desired("a", secret="ref:y", events=["release"])
    made = base_plan((a, b), (changed, c), revision="main@sha1:1")
    assert [(x.resource.name, x.action) for x in made.changes] == [
        ("a", Action.UPDATE),
        ("c", Action.CREATE),
        ("b", Action.DELETE),
    ]
    assert made.changes[0].cls is ChangeClass.COMMIT
    assert [(f.path, f.sensitive) for f in made.changes[0].fields] == [("/config/secret", True), ("/events", False)]


def test_nothing_changed_is_an_empty_plan_and_order_does_not_matter():
    a, b = desired("a"), desired("b")
    assert base_plan((a, b), (b, a)).plans == ()
    assert base_plan((a,), (b,)).sha256 == base_plan((a,), (b,)).sha256


def test_a_rename_is_one_re_mark():
    assert step((desired("a"),), (moved(desired("b"), "a"),)) == [("b", Action.REMARK, Disposition.EXECUTE, "Moved")]


def test_policy_that_needs_no_world_is_applied():
    before = desired("a", kind="x", lifecycle=Lifecycle(prevent_destroy=True))
    after = dataclasses.replace(desired("a", kind="y"), immutable=("/kind",))
    assert step((before,), (after,)) == [("a", Action.REPLACE, Disposition.BLOCKED, "ReplaceForbidden")]
    assert step((before,), ()) == [("a", Action.DELETE, Disposition.BLOCKED, "PreventDestroy")]
    orphan = desired("a", lifecycle=Lifecycle(deletion_policy=DeletionPolicy.ORPHAN))
    assert step((orphan,), ()) == [("a", Action.FORGET, Disposition.EXECUTE, "Orphaned")]
    watched = desired("a", lifecycle=Lifecycle(management=Management.OBSERVE))
    assert step((), (watched,)) == [("a", Action.CREATE, Disposition.HELD, "ObserveOnly")]


def test_an_ignored_field_that_git_changes_is_shown():
    rules = Lifecycle(ignore=(IgnoreRule("/active"),))
    assert step((desired("a", lifecycle=rules),), (desired("a", active=False, lifecycle=rules),))[0][1] is Action.UPDATE


def test_deletes_over_the_limits_are_blocked_together_as_the_daemon_will_block_them():
    before = [desired(f"s{i}") for i in range(10)]
    made = base_plan(before, before[4:], limits=PlanLimits())
    assert {(c.disposition, c.reason) for c in made.changes} == {(Disposition.BLOCKED, "DeletePercent")}
    assert made.changes[0].message == "4 deletes of 10 owned objects are over the limit of 30 %"
    few = base_plan(before, before[2:], limits=PlanLimits())
    assert {c.disposition for c in few.changes} == {Disposition.EXECUTE}
