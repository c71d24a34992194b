"""The stored form of the model's values."""

import dataclasses
import gc

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.drivers.connection import Connection
from reconciler.model.codec import decode, encode, from_json, gc_paused, resource_from_json, resource_to_json, to_json
from reconciler.model.errors import StateError
from reconciler.model.events import Event, EventState, Origin
from reconciler.model.executions import Execution, ExecutionState, Item, ItemState, Later, Result, Run
from reconciler.model.objects import Marker, ObservedObject, Scope
from reconciler.model.records import AuditEntry, BudgetState, JournalEntry, Retry
from reconciler.model.resources import IgnoreRule, Lifecycle, Location, Resource, ResourceId, SecretRef, Suspension
from reconciler.model.status import Condition, ConditionStatus, ConditionType, ResourceStatus
from reconciler.state.values import StoredObservation
from tests.state.samples import GITHUB, SOURCE, entry, intent, recorded

STAGE = ResourceId("Stage", "default", "deploy")

# One row of each stored class as version 0.1 wrote it: fields that have their default are absent.
OLD_ROWS: dict[str, tuple[object, bytes]] = {
    "Connection": (
        Connection(
            GITHUB,
            "github",
            "https://github.com/acme",
            "https://api.github.com",
            "acme",
            {"use": "token"},
            {"/token": SecretRef("default", "gh", "token")},
        ),
        b'{"integration":{"kind":"Integration","canvas":"default","name":"github"},"provider":"github",'
        b'"url":"https://github.com/acme","api_url":"https://api.github.com","account":"acme","auth":{"use":"token"},'
        b'"secrets":{"/token":{"canvas":"default","name":"gh","key":"token"}}}',
    ),
    "RecordedObject": (
        recorded(),
        b'{"address":"EventSource/default/payments#github/repository-webhook[acme/r1]","resource":{"kind":"EventSource",'
        b'"canvas":"default","name":"payments"},"integration":{"kind":"Integration","canvas":"default","name":"github"},'
        b'"scope":{"type":"github/repository-webhook","key":"acme/r1"},"external_id":"101","natural_key":"https://h/x","'
        b'marker":{"owner":"team-a","uid":"ab12"},"attributes":{"events":["push"],"config":{"url":"https://h/x"}},"finge'
        b'rprints":{"/config/secret":"hmac:1"},"digest":"sha256:1","lifecycle":{"ignore":[{"path":"/active","until":"203'
        b'0-01-01T00:00:00Z"}],"suspend":{"reason":"why"},"prevent_destroy":true},"updated_at":"2026-01-01T00:00:00Z","u'
        b'rl":"https://github.com/x","applied_at":12.5,"revision":"main@sha1:1","repairs":[1.0,2.0],"depends_on":["other'
        b'"]}',
    ),
    "Intent": (
        intent(),
        b'{"id":"intent-1","address":"EventSource/default/payments#github/repository-webhook[acme/r1]","integration":{"k'
        b'ind":"Integration","canvas":"default","name":"github"},"action":"create","scope":{"type":"github/repository-we'
        b'bhook","key":"acme/r1"},"marker":{"owner":"team-a","uid":"ab12"},"natural_key":"https://h/x","digest":"sha256:'
        b'1","created_at":1.0,"fingerprints":{"/config/secret":"hmac:1"}}',
    ),
    "AuditEntry": (
        entry(plan="p", integration=GITHUB.path, detail={"n": 1}),
        b'{"at":1.5,"actor":"daemon:test:1","verb":"create","integration":"Integration/default/github","resource":"Event'
        b'Source/default/payments","plan":"p","detail":{"n":1}}',
    ),
    "JournalEntry": (
        JournalEntry(12.5, SOURCE, "planned", "r-1", "main@sha1:1", {"changes": 2}),
        b'{"at":12.5,"resource":{"kind":"EventSource","canvas":"default","name":"payments"},"event":"planned","reconcile'
        b'_id":"r-1","revision":"main@sha1:1","detail":{"changes":2}}',
    ),
    "BudgetState": (
        BudgetState("cred-1", 100.5, "429", (1.0, 2.5), {"limit": 5000, "remaining": 4999, "resetAt": 1700000000}, 2),
        b'{"credential_id":"cred-1","blocked_until":100.5,"reason":"429","recent":[1.0,2.5],"rate":{"limit":5000,"remain'
        b'ing":4999,"resetAt":1700000000},"failures":2}',
    ),
    "Retry": (
        Retry("Integration/default/github", 3, 99.5, "sha256:1", "RC5001", "Unavailable", "503"),
        b'{"key":"Integration/default/github","attempts":3,"next_at":99.5,"digest":"sha256:1","code":"RC5001","reason":"'
        b'Unavailable","message":"503"}',
    ),
    "StoredObservation": (
        StoredObservation(
            Scope("github/repository-webhook", "acme/r1"),
            {"etag": "x"},
            (
                ObservedObject(
                    "101",
                    {"events": ["push"], "active": True, "n": None},
                    "https://h/x",
                    Marker("team-a", "ab12"),
                    "https://github.com/x",
                    "2026-01-01T00:00:00Z",
                    frozenset({"/config/secret"}),
                    {"last_response": "502"},
                    ("/y",),
                ),
            ),
            7.5,
        ),
        b'{"scope":{"type":"github/repository-webhook","key":"acme/r1"},"validators":{"etag":"x"},"objects":[{"external_'
        b'id":"101","attributes":{"events":["push"],"active":true,"n":null},"natural_key":"https://h/x","marker":{"owner'
        b'":"team-a","uid":"ab12"},"url":"https://github.com/x","updated_at":"2026-01-01T00:00:00Z","present_write_only"'
        b':["/config/secret"],"health":{"last_response":"502"},"unshown":["/y"]}],"observed_at":7.5}',
    ),
    "ResourceStatus": (
        ResourceStatus(
            SOURCE,
            Location("a.yaml", 3, 1),
            2,
            2,
            "sha256:2",
            (
                Condition(ConditionType.READY, ConditionStatus.TRUE, "Reconciled", "ok", "2026-01-01T00:00:00Z", 2),
                Condition(ConditionType.DRIFTED, ConditionStatus.FALSE, "NoDrift"),
            ),
            ({"address": "a#b[c]", "externalId": "1", "url": ""},),
            ({"path": "/x", "class": "drift"},),
            1,
            "2026-01-01T00:00:00Z",
            "",
            ({"at": "t", "result": "ok"},),
        ),
        b'{"id":{"kind":"EventSource","canvas":"default","name":"payments"},"location":{"file":"a.yaml","line":3,"column'
        b'":1},"generation":2,"observed_generation":2,"spec_digest":"sha256:2","conditions":[{"type":"Ready","status":"T'
        b'rue","reason":"Reconciled","message":"ok","last_transition_time":"2026-01-01T00:00:00Z","observed_generation":'
        b'2},{"type":"Drifted","status":"False","reason":"NoDrift"}],"objects":[{"address":"a#b[c]","externalId":"1","ur'
        b'l":""}],"drift":[{"path":"/x","class":"drift"}],"attempts":1,"last_changed_at":"2026-01-01T00:00:00Z","history'
        b'":[{"at":"t","result":"ok"}]}',
    ),
    "Event": (
        Event(
            "evt-1",
            SOURCE,
            "d-1",
            "push",
            Origin.DELIVERED,
            EventState.PENDING,
            5.25,
            4.0,
            "push:abc",
            "sha256:b",
            ("x",),
            headers={"x-github-event": "push"},
        ),
        b'{"id":"evt-1","source":{"kind":"EventSource","canvas":"default","name":"payments"},"delivery_id":"d-1","type":'
        b'"push","origin":"delivered","state":"pending","received_at":5.25,"occurred_at":4.0,"identity":"push:abc","body'
        b'_digest":"sha256:b","also":["x"],"headers":{"x-github-event":"push"}}',
    ),
    "Item": (
        Item(
            "itm-1",
            STAGE,
            "evt-1",
            "payments",
            ItemState.QUEUED,
            6.5,
            "main@sha1:1",
            "sha256:p",
            "v1",
            {"sha": "abc", "deep": {"a": [1, 2.5, None]}},
            {"ref": "refs/heads/main"},
            {"integration": GITHUB.path, "through": ["Stage/default/build"]},
            "approval",
            not_before=9.0,
        ),
        b'{"id":"itm-1","stage":{"kind":"Stage","canvas":"default","name":"deploy"},"event_id":"evt-1","connection":"pay'
        b'ments","state":"queued","created_at":6.5,"revision":"main@sha1:1","spec_digest":"sha256:p","label":"v1","input'
        b's":{"sha":"abc","deep":{"a":[1,2.5,null]}},"event":{"ref":"refs/heads/main"},"origin":{"integration":"Integrat'
        b'ion/default/github","through":["Stage/default/build"]},"reason":"approval","not_before":9.0}',
    ),
    "Execution": (
        Execution(
            "exe-1",
            "itm-1",
            STAGE,
            ExecutionState.RUNNING,
            7.0,
            "sha256:p",
            "main@sha1:1",
            GITHUB.path,
            2,
            "v1",
            "deploy.yml",
            "0a1b",
            8.0,
            8.5,
            0.25,
            0.0,
            9.5,
            1,
            Run("77", "https://github.com/r/77", 1, {"pipeline": "p"}),
            "running",
            later=Later(2, Result.PASSED, "success", "u", 10.0),
        ),
        b'{"id":"exe-1","item_id":"itm-1","stage":{"kind":"Stage","canvas":"default","name":"deploy"},"state":"running",'
        b'"created_at":7.0,"spec_digest":"sha256:p","revision":"main@sha1:1","integration":"Integration/default/github",'
        b'"version":2,"label":"v1","resource":"deploy.yml","correlation":"0a1b","started_at":8.0,"intended_at":8.5,"ahea'
        b'd_s":0.25,"next_at":9.5,"failures":1,"run":{"external_id":"77","url":"https://github.com/r/77","detail":{"pipe'
        b'line":"p"}},"status":"running","later":{"attempt":2,"result":"passed","conclusion":"success","url":"u","at":10'
        b".0}}",
    ),
}
OLD_RESOURCES = [
    (
        Resource(
            SOURCE,
            {"type": "github", "events": ["push"]},
            Location("a.yaml", 3, 1),
            recorded().lifecycle,
            {"team": "a"},
            {"note": "b"},
            (GITHUB,),
            "sha256:2",
        ),
        b'{"id":["EventSource","default","payments"],"spec":{"type":"github","events":["push"]},"at":["a.yaml",3,1],"ref'
        b's":[["Integration","default","github"]],"digest":"sha256:2","lifecycle":{"ignore":[{"path":"/active","until":"'
        b'2030-01-01T00:00:00Z"}],"suspend":{"reason":"why"},"prevent_destroy":true},"labels":{"team":"a"},"annotations"'
        b':{"note":"b"}}',
    ),
    (
        Resource(SOURCE, {"type": "github"}, Location("a.yaml", 3, 1), references=(GITHUB,), spec_digest="sha256:2"),
        b'{"id":["EventSource","default","payments"],"spec":{"type":"github"},"at":["a.yaml",3,1],"refs":[["Integration"'
        b',"default","github"]],"digest":"sha256:2"}',
    ),
]


@pytest.mark.parametrize(("value", "row"), OLD_ROWS.values(), ids=OLD_ROWS)
def test_a_row_of_version_0_1_is_read(value: object, row: bytes) -> None:
    assert decode(type(value), row) == value


@pytest.mark.parametrize(("resource", "row"), OLD_RESOURCES)
def test_a_resource_of_version_0_1_is_read_and_written_the_same(resource: Resource, row: bytes) -> None:
    assert resource_from_json(row) == resource
    assert resource_to_json(resource) == row  # the digest of a pinned stage is taken over these bytes


@pytest.mark.parametrize("value", [value for value, _ in OLD_ROWS.values()], ids=OLD_ROWS)
def test_a_value_is_equal_after_a_round_trip(value: object) -> None:
    assert decode(type(value), encode(value)) == value
    assert from_json(type(value), orjson.loads(orjson.dumps(to_json(value)))) == value


@pytest.mark.parametrize(("value", "row"), OLD_ROWS.values(), ids=OLD_ROWS)
def test_a_field_of_a_newer_version_is_ignored(value: object, row: bytes) -> None:
    assert decode(type(value), orjson.dumps(orjson.loads(row) | {"later_field": {"x": 1}})) == value


def test_a_lifecycle_is_stored_without_its_defaults_since_the_digest_of_a_spec_covers_it() -> None:
    assert to_json(Lifecycle()) == {}
    some = Lifecycle(ignore=(IgnoreRule("/a"),), suspend=Suspension("why"), interval_s=60)
    assert orjson.loads(encode(some)) == {"ignore": [{"path": "/a"}], "interval_s": 60, "suspend": {"reason": "why"}}


@pytest.mark.parametrize("present", [None, frozenset(), frozenset({"/s", "/a"})])
def test_absent_and_empty_differ_for_hidden_values(present: frozenset[str] | None) -> None:
    value = ObservedObject("1", {}, "n", present_write_only=present)
    assert decode(ObservedObject, encode(value)).present_write_only == present


@pytest.mark.parametrize(
    "row",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"type":"Ready","status":"elsewhere","reason":"r"}',
        b'{"type":"Ready"}',
        b"[" * 100_000,
    ],
    ids=["empty", "cut", "array", "null", "no-utf8", "unknown-member", "missing-field", "deep"],
)
def test_a_damaged_row_is_a_state_error_with_the_next_step(row: bytes) -> None:
    with pytest.raises(StateError, match="a stored Condition cannot be read") as caught:
        decode(Condition, row)
    assert caught.value.code == "RC7009"
    assert "reconciler doctor" in caught.value.hint
    assert "elsewhere" not in caught.value.message or "Invalid enum value" in caught.value.message


def test_a_row_that_is_too_deep_in_a_free_field_is_a_state_error() -> None:
    row = b'{"at":1,"actor":"a","verb":"v","detail":{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    with pytest.raises(StateError, match="RecursionError"):
        decode(AuditEntry, row)


def test_an_error_never_quotes_a_value_of_the_row() -> None:
    with pytest.raises(StateError) as caught:
        decode(Retry, b'{"key":"k","attempts":"hunter2","next_at":1}')
    assert "hunter2" not in str(caught.value)
    assert "attempts" in caught.value.message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_any_json_in_a_free_field_is_unchanged(data: object) -> None:
    value = dataclasses.replace(entry(), detail={"x": data})
    assert decode(AuditEntry, encode(value)) == value


def test_the_collector_is_restored_after_an_error() -> None:
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), gc_paused():
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert gc.isenabled()
