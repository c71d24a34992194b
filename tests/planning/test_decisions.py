"""Every row of the decision table, with literals."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler.model.errors import ScopeGone
from reconciler.model.objects import IntentState, Marker, Scope
from reconciler.model.plan import Action, ChangeClass, Disposition, Plan
from reconciler.model.resources import Adopt, DeletionPolicy, DriftMode, IgnoreRule, Lifecycle, Management, Suspension
from reconciler.planning.plan import PlanLimits, ScopeView
from tests.support.counting import calls_of

from .world import HOOKS, INTEGRATION, KEYED, NOW, desired, foreign, intent, moved, observed, only, plan, recorded, source

D = desired()


# ---- fresh, missing, in doubt


def test_a_fresh_object_is_created_after_one_complete_list():
    change = only(plan(D, reads=1))
    assert (change.action, change.cls, change.disposition) == (Action.CREATE, ChangeClass.COMMIT, Disposition.EXECUTE)


def test_what_is_as_declared_needs_nothing():
    assert plan(D, have=(recorded(D),), see=(observed(D),)).changes == ()


def test_d7_e12_a_recorded_and_seen_object_that_is_gone_is_made_again_at_once_as_drift():
    change = only(plan(D, have=(recorded(D),)))
    assert (change.action, change.cls, change.reason, change.disposition) == (
        Action.CREATE,
        ChangeClass.DRIFT,
        "Missing",
        Disposition.EXECUTE,
    )


def test_d17_one_list_alone_does_not_prove_that_a_recorded_object_is_gone():
    change = only(plan(D, have=(recorded(D),), reads=1))
    assert (change.disposition, change.reason) == (Disposition.WAITING, "Unconfirmed")


def test_d18_an_object_that_no_list_has_shown_yet_is_not_missing_before_the_settle_time():
    young = recorded(D, seen=False, applied_at=NOW - 20)
    waiting = only(plan(D, have=(young,)))
    assert (waiting.disposition, waiting.reason, waiting.retry_at) == (Disposition.WAITING, "Settling", NOW + 40)
    old = recorded(D, seen=False, applied_at=NOW - 60)
    assert only(plan(D, have=(old,))).disposition is Disposition.EXECUTE


def test_a1_a_create_in_doubt_that_is_found_by_its_marker_is_recorded_and_not_made_twice():
    made = plan(D, see=(observed(D, "9"),), intents=(intent(D),))
    change = only(made)
    assert (change.action, change.reason, change.external_id) == (Action.RECORD, "Adopted", "9")
    assert made.settlements == (("i1", IntentState.ADOPTED, "9"),)


def test_a2_a_create_in_doubt_is_repeated_only_after_the_settle_time_and_two_lists():
    young = plan(D, intents=(intent(D, age_s=5),))
    assert (only(young).reason, only(young).retry_at, young.settlements) == ("Settling", NOW + 55, ())
    once = plan(D, intents=(intent(D, age_s=61),), reads=1)
    assert (only(once).reason, once.settlements) == ("Unconfirmed", ())
    late = plan(D, intents=(intent(D, age_s=61),))
    assert (only(late).action, only(late).disposition) == (Action.CREATE, Disposition.EXECUTE)
    assert late.settlements == (("i1", IntentState.ABSENT, None),)


def test_a_create_in_doubt_that_wrote_another_secret_is_written_again():
    made = plan(D, see=(observed(D, "9"),), intents=(intent(D, fingerprints={"/config/secret": "hmac:old"}),))
    assert (only(made).action, only(made).cls) == (Action.UPDATE, ChangeClass.UNVERIFIABLE)


def test_a3_a_delete_in_doubt_is_settled_by_two_lists_without_the_object():
    made = plan(have=(recorded(D),), intents=(intent(D, Action.DELETE, external_id="1"),))
    assert (only(made).action, only(made).reason) == (Action.FORGET, "Gone")
    assert made.settlements == (("i1", IntentState.DONE, None),)


def test_a4_an_update_in_doubt_that_can_be_seen_is_not_sent_again():
    after = desired(events=["push", "release"], secret="hmac:2")
    made = plan(after, have=(recorded(D),), see=(observed(after),), intents=(intent(after, Action.UPDATE, external_id="1"),))
    assert only(made).action is Action.RECORD
    assert made.settlements == (("i1", IntentState.ADOPTED, "1"),)


def test_an_update_in_doubt_of_a_secret_alone_cannot_be_seen_and_is_sent_again():
    after = desired(secret="hmac:2")
    made = plan(after, have=(recorded(D),), see=(observed(after),), intents=(intent(after, Action.UPDATE, external_id="1"),))
    assert (only(made).action, only(made).cls) == (Action.UPDATE, ChangeClass.UNVERIFIABLE)
    assert made.settlements == (("i1", IntentState.ABSENT, None),)


def test_a_replace_that_died_between_delete_and_create_is_made_after_the_settle_time():
    doubt = intent(D, Action.REPLACE, external_id="1", age_s=10)
    assert only(plan(D, have=(recorded(D),), intents=(doubt,))).reason == "Settling"
    late = dataclasses.replace(doubt, created_at=NOW - 61)
    assert only(plan(D, have=(recorded(D),), intents=(late,))).action is Action.CREATE


def test_without_a_marker_a_create_in_doubt_is_found_by_its_natural_key_and_stays_in_doubt_until_recorded():
    key = desired(scope=KEYED, marked=False)
    doubt = intent(key)
    first = plan(key, see=(observed(key, "h1"),), intents=(doubt,))
    assert (only(first).action, only(first).reason, first.settlements) == (Action.RECORD, "Adopted", ())
    then = plan(key, have=(recorded(key, "h1"),), see=(observed(key, "h1"),), intents=(doubt,))
    assert (then.changes, then.settlements) == ((), (("i1", IntentState.ADOPTED, "h1"),))


def test_a_write_in_doubt_that_is_no_longer_declared_is_answered_and_reported_but_not_deleted():
    made = plan(see=(observed(D, "9"),), intents=(intent(D),))
    assert made.changes == ()
    assert made.settlements == (("i1", IntentState.ADOPTED, "9"),)
    assert made.orphans[0].external_id == "9"
    assert "interrupted" in made.notes[0]


def test_d8_a_scope_that_cannot_be_read_changes_and_prunes_nothing():
    gone = {HOOKS: ScopeView(error=ScopeGone("repository acme/payments answers 404"))}
    made = plan(D, have=(recorded(D), recorded(desired("old"), "2")), views=gone)
    assert made.changes == ()


def test_a_scope_that_was_not_looked_at_changes_nothing():
    assert plan(D, have=(recorded(D),), views={Scope("x/y", "z"): ScopeView()}).changes == ()


# ---- classes of difference


def test_d24_what_a_human_changed_at_the_provider_is_drift_with_its_field():
    change = only(plan(D, have=(recorded(D),), see=(observed(D, active=False),)))
    assert (change.action, change.cls) == (Action.UPDATE, ChangeClass.DRIFT)
    assert [(f.path, f.before, f.after) for f in change.fields] == [("/active", False, True)]


def test_what_git_changed_is_a_commit():
    before = desired(events=["push"])
    after = desired(events=["push", "release"])
    change = only(plan(after, have=(recorded(before),), see=(observed(before),)))
    assert (change.cls, change.fields[0].path) == (ChangeClass.COMMIT, "/events")


def test_a_secret_whose_fingerprint_moved_is_pushed_as_unverifiable_and_never_shown():
    after = desired(secret="hmac:2")
    change = only(plan(after, have=(recorded(D),), see=(observed(D),)))
    assert change.cls is ChangeClass.UNVERIFIABLE
    assert [(f.path, f.before, f.after, f.sensitive) for f in change.fields] == [("/config/secret", None, None, True)]


def test_a_secret_that_the_provider_says_is_not_set_is_pushed():
    bare = dataclasses.replace(observed(D), present_write_only=frozenset())
    assert only(plan(D, have=(recorded(D),), see=(bare,))).cls is ChangeClass.UNVERIFIABLE
    mute = recorded(D, unshown=("/config/secret",))  # not even in the answer to the write: this server never shows it
    assert plan(D, have=(mute,), see=(bare,)).changes == ()
    assert only(plan(desired(secret="hmac:2"), have=(mute,), see=(bare,))).cls is ChangeClass.UNVERIFIABLE


def test_a_change_stamp_that_moved_without_us_pushes_the_secret_again():
    record = recorded(D, updated_at="2026-01-01T00:00:00Z")
    assert plan(D, have=(record,), see=(observed(D, stamp="2026-01-01T00:00:00Z"),)).changes == ()
    change = only(plan(D, have=(record,), see=(observed(D, stamp="2026-01-02T00:00:00Z"),)))
    assert (change.action, change.cls) == (Action.UPDATE, ChangeClass.UNVERIFIABLE)


def test_what_drift_already_did_as_git_now_declares_is_only_recorded():
    after = desired(events=["push", "release"])
    change = only(plan(after, have=(recorded(D),), see=(observed(after),)))
    assert (change.action, change.reason) == (Action.RECORD, "AsDeclared")


def test_a_new_lifecycle_alone_is_recorded_since_it_counts_at_delete_time():
    after = desired(lifecycle=Lifecycle(prevent_destroy=True))
    assert only(plan(after, have=(recorded(D),), see=(observed(D),))).action is Action.RECORD


# ---- whose is it


def test_a_lost_state_is_found_again_by_marker_and_nothing_is_created():
    assert (only(plan(D, see=(observed(D),))).action, only(plan(D, see=(observed(D),))).reason) == (Action.RECORD, "Found")
    change = only(plan(D, see=(observed(D, active=False),)))
    assert (change.action, change.reason, change.external_id) == (Action.UPDATE, "Found", "1")


def test_two_objects_of_ours_keep_the_lowest_id_and_delete_the_newer_after_it():
    made = plan(D, have=(recorded(D, "10"),), see=(observed(D, "10"), observed(D, "9"), observed(D, "11")))
    first, *rest = made.changes
    assert (first.action, first.external_id) == (Action.UPDATE, "9")  # its hidden values are not known
    assert [(c.action, c.reason, c.external_id) for c in rest] == [
        (Action.DELETE, "Duplicate", "10"),
        (Action.DELETE, "Duplicate", "11"),
    ]
    assert all(D.address in c.depends_on and c.address != D.address for c in rest)


@pytest.mark.parametrize("owner", ["", "team-b"])
def test_d23_a_foreign_object_in_our_place_is_a_conflict_and_is_left_alone(owner):
    change = only(plan(D, see=(foreign(D, owner=owner),)))
    assert (change.disposition, change.reason) == (Disposition.HELD, "Conflict")
    assert "77" in change.message


def test_adopt_if_identical_takes_over_one_matching_foreign_object_and_shows_url_and_secret():
    want = desired(lifecycle=Lifecycle(adopt=Adopt.IF_IDENTICAL))
    other = dataclasses.replace(foreign(want, config={"url": "https://old.example"}), natural_key="https://old.example")
    change = only(plan(want, see=(other,)))
    assert (change.action, change.disposition, change.external_id) == (Action.ADOPT, Disposition.EXECUTE, "77")
    assert {"/config/url", "/config/secret"} <= {f.path for f in change.fields}


def test_adoption_between_two_candidates_asks_for_a_name_and_takes_the_named_one():
    want = desired(lifecycle=Lifecycle(adopt=Adopt.IF_IDENTICAL))
    see = (foreign(want, "5"), foreign(want, "6"))
    assert only(plan(want, see=see)).reason == "Conflict"
    named = desired(lifecycle=Lifecycle(adopt=Adopt.ALWAYS, external_id="6"))
    assert (only(plan(named, see=see)).action, only(plan(named, see=see)).external_id) == (Action.ADOPT, "6")


def test_an_object_of_another_owner_is_never_adopted():
    want = desired(lifecycle=Lifecycle(adopt=Adopt.ALWAYS))
    assert only(plan(want, see=(foreign(want, owner="team-b"),))).reason == "Conflict"


def test_a_recorded_object_that_bears_another_owners_marker_is_not_touched():
    taken = dataclasses.replace(observed(D), marker=Marker("team-b", D.resource.uid("team-b")))
    change = only(plan(D, have=(recorded(D),), see=(taken,)))
    assert (change.disposition, change.reason) == (Disposition.HELD, "Conflict")
    gone = only(plan(have=(recorded(D),), see=(taken,)))
    assert gone.action is Action.FORGET


def test_a_recorded_object_whose_marker_a_human_edited_away_is_still_ours():
    edited = dataclasses.replace(
        observed(D, config={"url": "https://x.example", "insecure_ssl": "0"}), marker=None, natural_key="https://x.example"
    )
    change = only(plan(D, have=(recorded(D),), see=(edited,)))
    assert (change.action, change.cls, change.external_id) == (Action.UPDATE, ChangeClass.DRIFT, "1")


def test_without_a_marker_and_without_a_record_the_natural_key_is_a_conflict_until_rebuild():
    key = desired(scope=KEYED, marked=False)
    assert only(plan(key, see=(observed(key, "h1"),))).reason == "Conflict"
    assert only(plan(key, see=(observed(key, "h1"),), claim_natural_keys=True)).action is Action.RECORD


def test_an_orphan_of_ours_is_reported_and_not_changed():
    made = plan(see=(observed(D, "9"),))
    assert (made.changes, made.orphans[0].external_id) == ((), "9")
    assert plan(see=(observed(D, "9"),), untouchable=frozenset({D.resource})).orphans == ()


def test_a_rename_re_marks_in_place():
    new = moved(desired("renamed"), "payments")
    made = plan(new, have=(recorded(D),), see=(observed(D),))
    change = only(made)
    assert (change.action, change.external_id, change.previous) == (Action.REMARK, "1", D.address)


def test_a_rename_with_a_lost_state_finds_the_object_by_its_previous_marker():
    new = moved(desired("renamed"), "payments")
    change = only(plan(new, see=(observed(D),)))
    assert (change.action, change.external_id) == (Action.REMARK, "1")


def test_a_rename_where_no_marker_fits_only_moves_the_record():
    old = desired(scope=KEYED, marked=False)
    new = dataclasses.replace(
        moved(desired("renamed", scope=KEYED, marked=False), "payments"), attributes=old.attributes, natural_key=old.natural_key
    )
    change = only(plan(new, have=(recorded(old, "h1"),), see=(observed(old, "h1"),)))
    assert (change.action, change.previous, change.reason) == (Action.RECORD, old.address, "Moved")


def test_a_natural_key_held_by_our_own_undeclared_object_waits_for_its_delete():
    old = desired(scope=KEYED, marked=False)
    new = dataclasses.replace(desired("renamed", scope=KEYED, marked=False), natural_key=old.natural_key)
    made = plan(new, have=(recorded(old, "h1"),), see=(observed(old, "h1"),))
    assert [(c.action, c.disposition, c.reason) for c in made.changes] == [
        (Action.CREATE, Disposition.WAITING, "NameTaken"),
        (Action.DELETE, Disposition.EXECUTE, ""),
    ]


# ---- removal


def removal(**options):
    lifecycle = options.pop("lifecycle", Lifecycle())
    return only(plan(have=(recorded(desired(lifecycle=lifecycle), **options.pop("record", {})),), see=(observed(D),), **options))


def test_what_is_no_longer_declared_is_deleted():
    assert (removal().action, removal().disposition) == (Action.DELETE, Disposition.EXECUTE)


def test_c7_a_revision_with_errors_prunes_nothing():
    assert (removal(prune_allowed=False).disposition, removal(prune_allowed=False).reason) == (
        Disposition.HELD,
        "PruneNotAllowed",
    )


def test_c7_what_an_invalid_resource_owns_is_neither_changed_nor_pruned():
    assert plan(have=(recorded(D),), see=(observed(D, active=False),), untouchable=frozenset({D.resource})).changes == ()


def test_prevent_destroy_as_recorded_blocks_the_delete():
    change = removal(lifecycle=Lifecycle(prevent_destroy=True))
    assert (change.disposition, change.reason) == (Disposition.BLOCKED, "PreventDestroy")


@pytest.mark.parametrize(
    ("lifecycle", "reason"),
    [
        (Lifecycle(deletion_policy=DeletionPolicy.ORPHAN), "Orphaned"),
        (Lifecycle(management=Management.NO_DELETE), "NoDelete"),
        (Lifecycle(management=Management.CREATE_ONLY), "NoDelete"),
        (Lifecycle(management=Management.OBSERVE), "ObserveOnly"),
    ],
)
def test_what_may_not_be_deleted_is_left_standing_and_forgotten(lifecycle, reason):
    change = removal(lifecycle=lifecycle)
    assert (change.action, change.reason, change.disposition) == (Action.FORGET, reason, Disposition.EXECUTE)


def test_a_tombstone_is_deleted_until_proven_gone_and_then_forgotten():
    assert removal(record={"tombstone": True}, prune_allowed=False).action is Action.DELETE
    gone = only(plan(have=(recorded(D, tombstone=True),), prune_allowed=False))
    assert (gone.action, gone.reason) == (Action.FORGET, "Gone")
    assert only(plan(have=(recorded(D, tombstone=True),), reads=1)).disposition is Disposition.WAITING


def test_suspended_deletes_are_held():
    assert removal(suspended=frozenset({INTEGRATION})).reason == "Suspended"


# ---- limits and approvals


def many(count: int, gone: int):
    all_of = [desired(f"s{i:03}") for i in range(count)]
    have = tuple(recorded(d, str(i)) for i, d in enumerate(all_of))
    return all_of[gone:], have, tuple(observed(d, str(i)) for i, d in enumerate(all_of))


def deletes(count: int, gone: int, **options):
    keep, have, see = many(count, gone)
    return plan(*keep, have=have, see=see, **options)


@pytest.mark.parametrize(
    ("count", "gone", "limits", "blocked"),
    [
        (20, 10, PlanLimits(), "DeletePercent"),
        (10, 3, PlanLimits(), None),  # exactly 30 %
        (10, 4, PlanLimits(), "DeletePercent"),
        (2, 2, PlanLimits(), None),  # under the minimum
        (200, 26, PlanLimits(), "DeleteMax"),
        (200, 25, PlanLimits(), None),
        (20, 20, PlanLimits(percent=0), None),
        (20, 20, PlanLimits(0, 0, 5), "DeleteMax"),
        (200, 200, PlanLimits(0, 0, 0), None),
    ],
)
def test_c6_deletes_over_the_limits_are_blocked_all_together(count, gone, limits, blocked):
    made = deletes(count, gone, limits=limits)
    assert len(made.changes) == gone
    assert {c.reason for c in made.changes} == {blocked or ""}
    assert len(made.blocked) == (gone if blocked else 0)


def test_c6_what_is_not_affected_goes_on_beside_the_blocked_set():
    keep, have, see = many(20, 10)
    made = plan(*keep, desired("new"), have=have, see=see)
    assert [c.action for c in made.executable] == [Action.CREATE]
    assert len(made.blocked) == 10


def test_c6_an_approval_of_the_blocked_set_lets_exactly_it_go():
    blocked = deletes(20, 10)
    made = deletes(20, 10, approvals=frozenset({blocked.blocked_sha256}))
    assert len(made.executable) == 10
    assert len(made.approved) == 10
    assert len(deletes(20, 11, approvals=frozenset({blocked.blocked_sha256})).executable) == 0


def test_an_approved_set_that_was_executed_in_part_goes_on_by_its_members_digests():
    first = deletes(20, 10, approvals=frozenset({deletes(20, 10).blocked_sha256}))
    keep, have, see = many(20, 10)
    rest = plan(*keep, have=have[1:], see=see[1:], approvals=frozenset(first.approved))
    assert len(rest.executable) == 9


def test_unrelated_drift_does_not_void_an_approval():
    keep, have, see = many(20, 10)
    before = plan(*keep, have=have, see=see).blocked_sha256
    drifted = (*see[:-1], dataclasses.replace(see[-1], attributes={**see[-1].attributes, "active": False}))
    assert plan(*keep, have=have, see=drifted).blocked_sha256 == before


def test_duplicates_and_begun_deletes_do_not_count_against_the_limits():
    keep, have, see = many(20, 10)
    begun = tuple(dataclasses.replace(r, tombstone=True) for r in have[:10]) + have[10:]
    assert plan(*keep, have=begun, see=see).blocked == ()


# ---- replace


def replaced(**options):
    before = desired(type_="a", **options)
    after = dataclasses.replace(desired(type_="b", **options), immutable=("/type_",))
    return only(plan(after, have=(recorded(before),), see=(observed(before),)))


def test_an_immutable_change_is_a_replace_and_blocked_unless_allowed():
    assert (replaced().action, replaced().disposition, replaced().reason) == (
        Action.REPLACE,
        Disposition.BLOCKED,
        "ReplaceForbidden",
    )
    allowed = replaced(lifecycle=Lifecycle(replace_allowed=True))
    assert (allowed.action, allowed.disposition) == (Action.REPLACE, Disposition.EXECUTE)


def test_a_secret_that_cannot_be_changed_in_place_is_replaced_without_asking():
    scope = Scope("semaphore/secret", "acme")
    before, after = desired(scope=scope), desired(scope=scope, secret="hmac:2")
    change = only(plan(after, have=(recorded(before),), see=(observed(before),), limits=PlanLimits(1, 1, 1)))
    assert (change.action, change.disposition) == (Action.REPLACE, Disposition.EXECUTE)


def test_allowed_replaces_count_as_deletes():
    free = Lifecycle(replace_allowed=True)
    before = [desired(f"s{i}", type_="a", lifecycle=free) for i in range(5)]
    after = [dataclasses.replace(desired(f"s{i}", type_="b", lifecycle=free), immutable=("/type_",)) for i in range(5)]
    made = plan(
        *after,
        have=tuple(recorded(d, str(i)) for i, d in enumerate(before)),
        see=tuple(observed(d, str(i)) for i, d in enumerate(before)),
    )
    assert {c.reason for c in made.changes} == {"DeletePercent"}


# ---- lifecycle


@pytest.mark.parametrize(
    ("management", "see", "have", "expected"),
    [
        (Management.OBSERVE, False, False, "ObserveOnly"),
        (Management.OBSERVE, True, True, "ObserveOnly"),
        (Management.CREATE_ONLY, True, True, "CreateOnly"),
        (Management.CREATE_ONLY, False, False, ""),
        (Management.NO_DELETE, True, True, ""),
    ],
)
def test_management_holds_what_it_does_not_allow(management, see, have, expected):
    want = desired(lifecycle=Lifecycle(management=management))
    change = only(plan(want, have=(recorded(want),) if have else (), see=(observed(want, active=False),) if see else ()))
    assert change.reason == expected
    assert change.disposition is (Disposition.HELD if expected else Disposition.EXECUTE)


def test_observing_a_foreign_object_shows_its_differences_and_records_nothing():
    want = desired(lifecycle=Lifecycle(management=Management.OBSERVE))
    assert plan(want, see=(foreign(want),)).changes == ()
    change = only(plan(want, see=(foreign(want, active=False),)))
    assert (change.disposition, change.reason, change.cls) == (Disposition.HELD, "ObserveOnly", ChangeClass.DRIFT)


@pytest.mark.parametrize("see", [(observed(D, active=False),), ()])
def test_drift_warn_shows_and_holds_drift_and_ignore_does_not_compute_it(see):
    warn, ignore = desired(lifecycle=Lifecycle(drift=DriftMode.WARN)), desired(lifecycle=Lifecycle(drift=DriftMode.IGNORE))
    change = only(plan(warn, have=(recorded(warn),), see=see))
    assert (change.disposition, change.reason, change.cls) == (Disposition.HELD, "DriftWarn", ChangeClass.DRIFT)
    assert plan(ignore, have=(recorded(ignore),), see=see).changes == ()


@pytest.mark.parametrize("mode", [DriftMode.WARN, DriftMode.IGNORE])
def test_a_commit_and_a_new_secret_are_written_whatever_the_drift_mode(mode):
    policy = Lifecycle(drift=mode)
    before = desired(lifecycle=policy)
    for after in (desired(lifecycle=policy, events=["release"]), desired(lifecycle=policy, secret="hmac:2")):
        change = only(plan(after, have=(recorded(before),), see=(observed(before),)))
        assert (change.action, change.disposition) == (Action.UPDATE, Disposition.EXECUTE)


def test_suspended_writes_are_held_and_end_by_themselves():
    assert only(plan(D, suspended=frozenset({INTEGRATION}))).reason == "Suspended"
    assert only(plan(D, suspended=frozenset({D.resource}))).reason == "Suspended"
    until = desired(lifecycle=Lifecycle(suspend=Suspension("maintenance", "2027-01-15T08:00:00Z")))  # NOW is that instant
    assert only(plan(until, now=NOW - 1)).reason == "Suspended"
    assert only(plan(until, now=NOW)).disposition is Disposition.EXECUTE


def test_d11_values_that_the_provider_refused_are_not_tried_again_before_they_change():
    assert only(plan(D, refused={D.address: D.digest})).reason == "Refused"
    assert only(plan(desired(active=False), refused={D.address: D.digest})).disposition is Disposition.EXECUTE


def test_d25_after_three_repairs_in_ten_minutes_the_next_waits():
    fought = recorded(D, repairs=(NOW - 400, NOW - 200, NOW - 100))
    change = only(plan(D, have=(fought,), see=(observed(D, active=False),)))
    assert (change.disposition, change.reason, change.retry_at) == (Disposition.WAITING, "Contended", NOW + 500)
    assert only(plan(D, have=(fought,))).reason == "Contended"
    calm = recorded(D, repairs=(NOW - 4000, NOW - 200, NOW - 100))
    assert only(plan(D, have=(calm,), see=(observed(D, active=False),))).disposition is Disposition.EXECUTE
    commit = desired(events=["release"])
    assert only(plan(commit, have=(fought,), see=(observed(D),))).disposition is Disposition.EXECUTE


def test_an_ignored_field_is_left_out_of_the_diff_and_kept_in_what_is_written_until_its_rule_ends():
    rules = (IgnoreRule("/active", "2027-01-15T08:00:00Z"),)
    want = desired(lifecycle=Lifecycle(ignore=rules))
    assert plan(want, have=(recorded(want),), see=(observed(want, active=False),), now=NOW - 1).changes == ()
    assert only(plan(want, have=(recorded(want),), see=(observed(want, active=False),), now=NOW)).action is Action.UPDATE


# ---- order and dependencies


def pair():
    secret = desired("zz")
    note = dataclasses.replace(desired("aa"), depends_on=(secret.address,))
    return secret, note


def test_creates_follow_what_they_need_and_deletes_go_before_it():
    secret, note = pair()
    assert [c.resource.name for c in plan(note, secret).changes] == ["zz", "aa"]
    made = plan(have=(recorded(secret, "1"), recorded(note, "2")), see=(observed(secret, "1"), observed(note, "2")))
    assert [c.resource.name for c in made.changes] == ["aa", "zz"]


def test_what_needs_an_object_that_is_not_made_now_waits():
    secret, note = pair()
    made = plan(note, secret, suspended=frozenset({source("zz")}))
    assert [(c.resource.name, c.reason) for c in made.changes] == [("zz", "Suspended"), ("aa", "DependencyNotReady")]


def test_a_delete_waits_for_a_dependant_that_is_not_deleted_now():
    secret, note = pair()
    held = dataclasses.replace(note, lifecycle=Lifecycle(prevent_destroy=True))
    made = plan(have=(recorded(secret, "1"), recorded(held, "2")), see=(observed(secret, "1"), observed(note, "2")))
    assert [(c.resource.name, c.reason) for c in made.changes] == [("aa", "PreventDestroy"), ("zz", "DependencyNotReady")]


def test_a_dependant_that_stops_naming_an_object_is_changed_before_that_object_is_deleted():
    old, new = desired("old"), desired("zz-new")
    before = dataclasses.replace(desired("aa"), depends_on=(old.address,))
    after = dataclasses.replace(desired("aa", events=["release"]), depends_on=(new.address,))
    have, see = (recorded(old, "1"), recorded(before, "2")), (observed(old, "1"), observed(before, "2"))
    made = plan(new, after, have=have, see=see)
    assert [(c.resource.name, c.action, c.disposition) for c in made.changes] == [
        ("zz-new", Action.CREATE, Disposition.EXECUTE),
        ("aa", Action.UPDATE, Disposition.EXECUTE),
        ("old", Action.DELETE, Disposition.EXECUTE),
    ]
    assert made.changes[-1].depends_on == (after.address,)
    stopped = plan(new, after, have=have, see=see, suspended=frozenset({source("aa")}))
    assert [(c.resource.name, c.reason) for c in stopped.changes][1:] == [("aa", "Suspended"), ("old", "DependencyNotReady")]


def test_what_needs_an_object_of_an_unresolved_resource_waits():
    secret, note = pair()
    assert only(plan(note, untouchable=frozenset({secret.resource}))).reason == "DependencyNotReady"


def test_a_cycle_of_dependencies_cannot_hang_a_plan():
    a, b = desired("a"), desired("b")
    ring = (dataclasses.replace(a, depends_on=(b.address,)), dataclasses.replace(b, depends_on=(a.address,)))
    assert len(plan(*ring).changes) == 2


def _grown(count: int) -> int:
    """The calls that it takes to plan ``count`` objects of which every second one differs."""
    scopes = [Scope(HOOKS.type, f"acme/r{i}") for i in range(count // 2)]
    want = [desired(f"s{i}", scope=scopes[i // 2]) for i in range(count)]
    seen = {}
    for i, d in enumerate(want):
        seen.setdefault(d.scope, []).append(observed(d, str(i), active=i % 2 == 0))
    views = {scope: ScopeView(tuple(objects), 2) for scope, objects in seen.items()}
    have = tuple(recorded(d, str(i)) for i, d in enumerate(want))
    made: list[Plan] = []
    calls = calls_of(lambda: made.append(plan(*want, have=have, views=views)))
    assert len(made[0].changes) == count // 2
    assert made[0].sha256
    return calls


def test_the_work_of_planning_grows_with_the_objects_and_not_faster():
    assert _grown(4_000) <= 4.4 * _grown(1_000)


def test_an_object_named_for_adoption_that_bears_another_owners_marker_is_a_conflict():
    want = desired(lifecycle=Lifecycle(adopt=Adopt.ALWAYS, external_id="77"))
    assert only(plan(want, see=(foreign(want, owner="team-b"),))).reason == "Conflict"


def test_a_secret_that_is_fixed_does_not_permit_replacing_for_another_field():
    scope = Scope("semaphore/secret", "acme")
    before = desired(scope=scope, kind="a")
    after = dataclasses.replace(desired(scope=scope, kind="b", secret="hmac:2"), immutable=("/kind",))
    assert only(plan(after, have=(recorded(before),), see=(observed(before),))).reason == "ReplaceForbidden"


def test_a_change_stamp_that_a_visible_drift_explains_is_no_reason_of_its_own():
    record = recorded(D, updated_at="1")
    change = only(plan(D, have=(record,), see=(observed(D, stamp="2", active=False),)))
    assert [f.path for f in change.fields] == ["/active"]


def test_c7_a_revision_with_errors_does_not_even_drop_the_record_of_what_is_gone():
    assert plan(have=(recorded(D),), prune_allowed=False).changes == ()


def test_an_object_that_is_still_named_by_what_is_declared_is_not_deleted():
    secret, note = pair()
    after = dataclasses.replace(note, attributes={**note.attributes, "events": ["release"]})
    made = plan(after, have=(recorded(secret, "1"), recorded(note, "2")), see=(observed(secret, "1"), observed(note, "2")))
    assert [(c.resource.name, c.reason) for c in made.changes] == [("aa", ""), ("zz", "DependencyNotReady")]


def test_a_plan_made_with_references_for_secrets_finds_nothing_to_record():
    offline = desired(secret="ref:secret:hook/key")
    assert plan(offline, have=(recorded(D),), see=(observed(D),)).changes == ()
    assert only(plan(offline, have=(recorded(D, natural_key="x", attributes={}),), see=(observed(D),))).action is Action.RECORD
