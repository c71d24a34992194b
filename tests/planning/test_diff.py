"""Differences at JSON pointers, and what is written."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.plan import ChangeClass
from reconciler.model.resources import IgnoreRule, Lifecycle
from reconciler.planning.diff import ended, field_changes, merged_attributes, same, value_at

from .world import NOW, desired, observed, recorded


def changes(want, have, record=None):
    return [(c.path, c.before, c.after, c.cls.value) for c in field_changes(want, have, record, now=NOW)]


def test_only_what_is_declared_is_compared():
    d = desired(secret="")
    assert changes(d, observed(d, id=7, name="web", config={**d.attributes["config"], "content_type": "json"}), recorded(d)) == []


def test_objects_are_recursed_into_and_lists_compared_whole():
    d = desired(secret="", config={"a/b": {"c~d": 1}}, events=["push", "release"])
    have = observed(d, config={"a/b": {"c~d": 2}}, events=["push"])
    assert changes(d, have, recorded(d)) == [
        ("/config/a~1b/c~0d", 2, 1, "drift"),
        ("/events", ["push"], ["push", "release"], "drift"),
    ]


def test_commit_and_drift_are_told_apart_field_by_field():
    before, after = desired(secret="", events=["push"]), desired(secret="", events=["release"])
    assert changes(after, observed(before, active=False), recorded(before)) == [
        ("/active", False, True, "drift"),
        ("/events", ["push"], ["release"], "commit"),
    ]


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ((1, 2), [1, 2], True),
        (True, 1, False),
        (0, False, False),
        (1, 1.0, True),
        (None, None, True),
        ({}, None, False),
        ({"a": (1,)}, {"a": [1]}, True),
        ({"a": 1}, {"b": 1}, False),
        ("1", 1, False),
        ([], "", False),
    ],
)
def test_values_are_equal_as_json_is(one, other, equal):
    assert same(one, other) is equal
    assert same(other, one) is equal


def test_null_means_missing():
    d = desired(secret="", slack=None)
    have = dataclasses.replace(observed(d), attributes={k: v for k, v in d.attributes.items() if k != "slack"})
    assert changes(d, have, recorded(d)) == []


def test_an_ignored_field_is_written_as_it_was_observed_or_not_at_all():
    rules = tuple(IgnoreRule(path) for path in ("/active", "/config/extra", "/config/insecure_ssl", "/events/0"))
    d = desired(secret="", lifecycle=Lifecycle(ignore=rules))
    have = dataclasses.replace(
        observed(d, active=False, events=["other"]),
        attributes={"active": False, "events": ["other"], "config": {"url": "u", "extra": 5}},
    )
    assert merged_attributes(d, have, NOW) == {
        "active": False,
        "events": ["other"],
        "config": {"url": d.attributes["config"]["url"], "extra": 5},
    }
    assert [c.path for c in field_changes(d, have, None, now=NOW)] == ["/config/url"]
    assert merged_attributes(d, None, NOW) is d.attributes


def test_what_is_never_shown_is_compared_with_what_was_written():
    before = dataclasses.replace(desired(secret="", roles=["a"]), unreadable=("/roles",))
    after = dataclasses.replace(desired(secret="", roles=["b"]), unreadable=("/roles",))
    have = dataclasses.replace(observed(before), attributes={k: v for k, v in before.attributes.items() if k != "roles"})
    assert changes(before, have, recorded(before)) == []
    assert changes(after, have, recorded(before)) == [("/roles", ["a"], ["b"], "commit")]
    assert changes(after, have) == []


def test_an_ignored_secret_is_not_pushed_and_a_reference_is_not_compared_with_a_fingerprint():
    d = desired(secret="hmac:2", lifecycle=Lifecycle(ignore=(IgnoreRule("/config"),)))
    assert changes(d, observed(d), recorded(desired())) == []
    offline = desired(secret="ref:secret:hook/key")
    assert changes(offline, observed(offline), recorded(desired())) == []
    assert changes(offline, observed(offline), recorded(desired(secret="ref:secret:other/key")))[0][3] == "unverifiable"


def test_without_a_record_a_difference_counts_as_a_commit():
    d = desired(secret="")
    assert field_changes(d, observed(d, active=False), None, now=NOW)[0].cls is ChangeClass.COMMIT


def test_a_rule_ends_at_its_instant_in_any_time_zone():
    assert not ended(None, 1e12)
    assert [ended("2027-01-15T09:00:00+01:00", NOW - 1), ended("2027-01-15T09:00:00+01:00", NOW)] == [False, True]
    assert ended("2027-01-15T08:00:00", NOW)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4), st.dictionaries(st.text(max_size=3), JSON, max_size=4))
def test_writing_what_is_declared_over_what_was_seen_leaves_no_difference(want, seen):
    d = dataclasses.replace(desired(secret=""), attributes=want)
    found = field_changes(d, dataclasses.replace(observed(d), attributes=seen), None, now=NOW)
    assert field_changes(d, dataclasses.replace(observed(d), attributes={**seen, **want}), None, now=NOW) == ()
    for change in found:
        assert same(value_at(want, change.path), change.after)
