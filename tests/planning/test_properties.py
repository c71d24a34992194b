"""What holds for every world: order of input, convergence, foreign objects, digests."""

from __future__ import annotations

import dataclasses
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.model.objects import Marker, ObservedObject
from reconciler.model.plan import Action, Disposition
from reconciler.model.resources import Adopt, DriftMode, Lifecycle, Location
from reconciler.model.values import ExternalId
from reconciler.planning.plan import PlanLimits

from .world import HOOKS, KEYED, World, desired, foreign, moved, observed, plan, recorded

NAMES = [f"n{i}" for i in range(6)]
STATES = st.sampled_from(
    ["absent", "fresh", "same", "changed", "drifted", "missing", "undeclared", "lost", "twice", "renamed", "tombstone", "clash"]
)


@st.composite
def worlds(draw, *, adopt: bool = False, drift: DriftMode | None = None):
    """A world with its desired objects; in every scope some objects are foreign."""
    world, want = World(objects={HOOKS: {}, KEYED: {}}), []
    lifecycle = Lifecycle(adopt=Adopt.ALWAYS if adopt else Adopt.NEVER, drift=drift or draw(st.sampled_from(DriftMode)))
    for number, name in enumerate(NAMES):
        scope = draw(st.sampled_from([HOOKS, KEYED]))
        d = desired(name, scope=scope, marked=scope is HOOKS, lifecycle=lifecycle)
        _place(draw(STATES), d, str(number + 1), world, want)
    for number in range(draw(st.integers(0, 4))):
        stranger = desired(f"stranger{number}")
        owner = draw(st.sampled_from(["", "team-b"]))
        one = foreign(stranger, f"f-stranger{number}", owner=owner)
        world.objects[HOOKS][one.external_id] = one
    return world, tuple(want)


def _place(state, d, number, world, want):
    if state not in {"absent", "undeclared", "tombstone", "renamed"}:
        want.append(d)
    there = world.objects[d.scope]
    seen = observed(d, number)
    if state == "clash":
        key = ObservedObject(
            ExternalId("f" + number),
            d.attributes,
            d.natural_key,
            Marker("team-b", d.resource.uid("team-b")) if d.marker else None,
        )
        there[key.external_id] = key
    if state == "lost" and d.marker is None:
        return
    if state not in {"absent", "fresh", "clash", "missing"}:
        there[number] = seen if state != "drifted" else observed(d, number, extra=1, **{next(iter(d.attributes)): "other"})
    if state == "twice" and d.marker is not None:
        there[number + "0"] = observed(d, number + "0")
    if state in {"same", "changed", "drifted", "missing", "undeclared", "twice", "renamed", "tombstone"}:
        world.records[d.address] = recorded(d, number, tombstone=state == "tombstone")
    if state == "changed":
        want[-1] = dataclasses.replace(d, attributes={**d.attributes, "added": True})
    if state == "renamed":
        new = desired(f"{d.resource.name}-new", scope=d.scope, marked=d.marker is not None, lifecycle=d.lifecycle)
        want.append(moved(new, d.resource.name))


def planned(world, want, **options):
    return plan(*want, have=tuple(world.records.values()), views=world.view(), limits=PlanLimits(0, 0, 0), **options)


@settings(max_examples=150, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_the_order_of_its_input(made, rng: random.Random):
    world, want = made
    before = planned(world, want)
    shuffled = list(want)
    rng.shuffle(shuffled)
    for scope, objects in world.objects.items():
        items = list(objects.items())
        rng.shuffle(items)
        world.objects[scope] = dict(items)
    records = list(world.records.items())
    rng.shuffle(records)
    world.records = dict(records)
    after = planned(world, tuple(shuffled))
    assert after == before
    assert after.sha256 == before.sha256


@settings(max_examples=200, deadline=None)
@given(worlds(drift=DriftMode.REPAIR))
def test_executing_plans_converges_and_leaves_foreign_objects_alone(made):
    world, want = made
    strangers = {scope: {i: o for i, o in objects.items() if i.startswith("f")} for scope, objects in world.objects.items()}
    for _ in range(4):  # a delete is proven gone, and a name that it held is free, one look later each
        world.execute(planned(world, want))
    rest = planned(world, want)
    assert rest.executable == ()
    assert all(change.reason == "Conflict" for change in rest.changes)
    for scope, objects in strangers.items():
        assert objects.items() <= world.objects[scope].items()
    assert not any(touched.startswith("f") for touched in world.touched)
    kept = {d.address for d in want} - {change.address for change in rest.changes}
    assert set(world.records) == kept
    for scope, objects in world.objects.items():
        ours = [i for i in objects if not i.startswith("f")]
        assert len(ours) == len({r.external_id for r in world.records.values() if r.scope == scope})


@settings(max_examples=100, deadline=None)
@given(worlds(adopt=True))
def test_with_adoption_no_object_of_another_owner_is_ever_changed(made):
    world, want = made
    owned_by_others = {
        o.external_id for objects in world.objects.values() for o in objects.values() if o.marker and o.marker.owner == "team-b"
    }
    for _ in range(4):
        world.execute(planned(world, want))
    assert not owned_by_others & set(world.touched)
    assert planned(world, want).executable == ()


@settings(max_examples=100, deadline=None)
@given(worlds(), st.floats(0, 1e6), st.integers(1, 500))
def test_digests_ignore_times_lines_and_messages(made, later, line):
    world, want = made
    before = planned(world, want)
    moved_lines = tuple(dataclasses.replace(d, location=Location("elsewhere.yaml", line, 7)) for d in want)
    after = planned(world, moved_lines, now=2e9 + later)
    assert after.sha256 == before.sha256


@settings(max_examples=100, deadline=None)
@given(worlds())
def test_while_nothing_can_be_proven_absent_nothing_recorded_is_created_or_dropped(made):
    world, want = made
    views = {scope: dataclasses.replace(view, reads=1) for scope, view in world.view().items()}
    once = plan(*want, have=tuple(world.records.values()), views=views, limits=PlanLimits(0, 0, 0))
    for change in once.changes:
        known = change.address in world.records or change.previous in world.records
        gone = known and change.action in {Action.CREATE, Action.FORGET}
        assert not gone or change.disposition is not Disposition.EXECUTE
