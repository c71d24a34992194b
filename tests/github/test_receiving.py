"""Webhooks of GitHub: what proves one, what one becomes, and how missed ones are found in GitHub's own list."""

import hashlib
import hmac
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.drivers.github.api import epoch_of
from reconciler.drivers.github.driver import driver
from reconciler.drivers.github.spec import EVENTS as GITHUB
from reconciler.model.events import Delivery, Refusal, Rejection
from reconciler.model.resources import ResourceId
from reconciler.model.secrets import SecretValue

KEY, OTHER = SecretValue("It's a Secret to Everybody"), SecretValue("another")
VECTOR = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"  # of KEY and `Hello, World!`: GitHub's documentation
GUID = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
SOURCE = ResourceId("EventSource", "default", "payments")
receiver = driver.receiver


def body_of(value):
    return value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def sign(body, key=KEY):
    return "sha256=" + hmac.new(key.reveal().encode(), body, hashlib.sha256).hexdigest()


def verify(body, signature=None, *, keys=(KEY,), event="push", guid=GUID, **headers):
    raw = body_of(body)
    sent = {"x-hub-signature-256": sign(raw) if signature is None else signature}
    sent |= {name: value for name, value in (("x-github-event", event), ("x-github-delivery", guid)) if value is not None}
    return receiver.verify(sent | {name.replace("_", "-"): value for name, value in headers.items()}, raw, keys, now=0.0)


def delivered(*args, **options):
    received = verify(*args, **options)
    assert isinstance(received, Delivery), received
    return received


def pushed(**fields):
    repository = {"id": 1, "full_name": "acme/web", "pushed_at": 1_767_323_045}
    return {"ref": "refs/heads/main", "after": "a" * 40, "repository": repository, **fields}


# proof


def test_githubs_own_test_vector_is_a_proof_also_in_upper_case():
    for digits in (VECTOR, VECTOR.upper(), VECTOR[:32] + VECTOR[32:].upper()):
        assert delivered(b"Hello, World!", f"sha256={digits}").problem == "the payload is not JSON"


@pytest.mark.parametrize("signature", ["", "   ", "\t"])
def test_e1_no_signature_is_told_from_a_wrong_one(signature):
    received = verify(pushed(), signature)
    assert isinstance(received, Rejection)
    assert (received.reason, "secret" in received.detail) == (Refusal.UNSIGNED, True)


def test_e1_a_sha1_signature_is_none():
    raw = body_of(pushed())
    old = "sha1=" + hmac.new(KEY.reveal().encode(), raw, hashlib.sha1).hexdigest()
    received = receiver.verify({"x-hub-signature": old, "x-github-event": "push"}, raw, [KEY], now=0.0)
    assert isinstance(received, Rejection)
    assert received.reason is Refusal.UNSIGNED
    assert verify(raw, old) == Rejection(Refusal.WRONG)


@pytest.mark.parametrize(
    "signature",
    [
        "sha256=" + "0" * 64,
        f"sha256={VECTOR[:-1]}",
        f"sha256={VECTOR}0",
        f"sha256={VECTOR[:8]}",
        "sha256=",
        VECTOR,
        f"SHA256={VECTOR}",
        f"sha1={VECTOR}",
        f"sha256 ={VECTOR}",
        f"sha256= {VECTOR}",
        f"sha256=sha256={VECTOR}",
        f"sha256={VECTOR}, sha256={VECTOR}",  # two headers, joined
        f"sha256={VECTOR},sha256={'0' * 64}",
        f"sha256={VECTOR};",
        f"sha256=0x{VECTOR[:62]}",
        "sha256=" + "ключ" * 16,
        f"sha256={VECTOR[:-1]}é",
        f"sha256={VECTOR[:-1]}\uff17",  # a full-width seven
        "\udcff" + VECTOR,
        f"sha256={VECTOR}\n{VECTOR}",
        "sha256=" + hashlib.sha256(b"Hello, World!").hexdigest(),  # no key at all
        "sha256=dXEH6g6yUJ/CESIczphLijdXC211hsIsRvQ3nIsEPhc=",  # base64
    ],
)
def test_e1_a_signature_that_is_not_quite_right_is_wrong_and_no_error(signature):
    assert verify(b"Hello, World!", signature) == Rejection(Refusal.WRONG)


def test_e1_a_body_that_was_changed_or_written_anew_is_not_the_signed_one():
    raw = body_of(pushed())
    anew = (json.dumps(json.loads(raw), indent=1).encode(), json.dumps(json.loads(raw), sort_keys=True).encode())
    for changed in (raw.replace(b"main", b"mail"), raw + b" ", raw + b"\n", raw[:-1], b"", *anew):
        assert verify(changed, sign(raw)) == Rejection(Refusal.WRONG)


def test_a_rejection_tells_nothing_of_body_or_headers():
    for received in (verify({"token": "canary"}, "sha256=canary"), verify({"token": "canary"}, "")):
        assert "canary" not in repr(received)


# what it becomes


def test_a_delivery_has_githubs_id_and_event_and_its_body_as_identity():
    raw = body_of(pushed())
    kept = {
        "user-agent": "GitHub-Hookshot/1",
        "content-type": "application/json",
        "x-github-hook-id": "9",
        "x-github-hook-installation-target-id": "101",
        "x-github-hook-installation-target-type": "repository",
    }
    received = delivered(
        raw, authorization="Bearer x", x_hub_signature="sha1=0", **{k.replace("-", "_"): v for k, v in kept.items()}
    )
    assert (received.id, received.type, received.body, received.problem) == (GUID, "push", raw, "")
    assert received.identity == "sha256:" + hashlib.sha256(raw).hexdigest()
    assert received.headers == {**kept, "x-github-event": "push", "x-github-delivery": GUID}


@pytest.mark.parametrize("encode", [quote, quote_plus])
def test_a_form_brings_the_same_payload_and_its_raw_bytes_are_what_is_signed(encode):
    value = pushed(head_commit={"message": "Füße & 100 % = a+b\n\u2028"})
    form = b"payload=" + encode(json.dumps(value, separators=(",", ":"), ensure_ascii=False), safe="").encode()
    received = delivered(form, content_type="application/x-www-form-urlencoded")
    as_json = delivered(value, content_type="application/json")
    assert (received.body, received.identity, received.id) == (as_json.body, as_json.identity, as_json.id)
    assert json.loads(received.body) == value
    lied = delivered(form, content_type="application/json")  # the header is not signed: the body tells what it is
    assert (lied.body, lied.problem) == (received.body, "")
    assert verify(form, sign(body_of(value))) == Rejection(Refusal.WRONG)


def test_e3_a_captured_body_under_an_invented_id_or_event_has_the_same_identity():
    first = delivered(pushed())
    for again in (delivered(pushed(), guid="invented"), delivered(pushed(), guid=None), delivered(pushed(), event="release")):
        assert again.identity == first.identity != ""
    assert delivered(pushed(), event="ping").identity == first.identity
    assert delivered(pushed(), event="repository_dispatch", guid="x").identity == first.identity


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ("ping", {"zen": "Half measures are as bad as nothing at all.", "hook_id": 1, "hook": {}}),
        ("repository_dispatch", {"action": "deploy", "branch": "main", "client_payload": {"a": 1}}),
        ("workflow_dispatch", {"inputs": None, "ref": "refs/heads/main", "workflow": ".github/workflows/x.yml"}),
    ],
)
def test_an_event_without_an_object_of_its_own_may_be_said_twice(event, payload):
    assert delivered(payload, event=event).identity == ""


@pytest.mark.parametrize("guid", [None, "", "x" * 201, "a\nb", "a\x7f", "é"])
def test_without_a_usable_id_of_github_the_body_is_the_id(guid):
    received = delivered(pushed(), guid=guid)
    assert received.id == received.identity == "sha256:" + hashlib.sha256(body_of(pushed())).hexdigest()


@pytest.mark.parametrize("guid", ["x", "x" * 200, GUID, "a b"])
def test_any_printable_id_of_github_is_taken(guid):
    assert delivered(pushed(), guid=guid).id == guid


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"a":"\\ud800"}', "not JSON"),
        (b"NaN", "not JSON"),
        (b"payload=", "not JSON"),
        (b"payload=%7B", "not JSON"),
        (b"payload=%ff", "not JSON"),
        (b"[]", "not an object"),
        (b'"text"', "not an object"),
        (b"payload=1", "not an object"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "nested too deep"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "not JSON"),
    ],
)
def test_e10_a_body_that_is_proved_but_cannot_be_read_is_kept_with_its_problem(raw, problem):
    received = delivered(raw)
    assert problem in received.problem
    assert (received.id, received.body, received.occurred_at) == (GUID, raw, None)
    assert received.identity == "sha256:" + hashlib.sha256(raw).hexdigest()


@pytest.mark.parametrize("event", [None, "", "a b", "x" * 101, "push\n", "é"])
def test_e9_an_event_without_a_name_is_a_problem(event):
    received = delivered(pushed(), event=event)
    assert (received.type, "X-GitHub-Event" in received.problem) == ("unknown", True)


def test_e9_an_event_that_nobody_knows_is_taken():
    assert (delivered(pushed(), event="teapot").type, delivered(pushed(), event="teapot").problem) == ("teapot", "")


@pytest.mark.parametrize(
    ("event", "payload", "at"),
    [
        ("push", pushed(), 1_767_323_045.0),
        ("push", pushed(repository={}, head_commit={"timestamp": "2026-01-02T04:04:05+01:00"}), 1_767_323_045.0),
        ("push", pushed(head_commit={"timestamp": "2019-01-02T04:04:05+01:00"}), 1_767_323_045.0),  # an old commit, pushed now
        ("push", pushed(repository=[], head_commit=None), None),
        ("workflow_run", {"workflow_run": {"updated_at": "2026-01-02T03:04:05Z"}}, 1_767_323_045.0),
        ("workflow_job", {"workflow_job": {"started_at": "2026-01-02T03:04:05.000Z", "completed_at": None}}, 1_767_323_045.0),
        ("deployment", {"action": "created", "deployment": {"created_at": "2026-01-01T22:04:05-05:00"}}, 1_767_323_045.0),
        ("deployment_status", {"deployment_status": {"created_at": "2026-01-02T03:04:05Z"}}, 1_767_323_045.0),
        ("pull_request", {"pull_request": {"updated_at": "2026-01-02T03:04:05Z"}}, 1_767_323_045.0),
        ("release", {"action": "published", "release": {"published_at": "2026-01-02T03:04:05Z"}}, 1_767_323_045.0),
        ("release", {"action": "edited", "release": {"published_at": "2016-01-02T03:04:05Z"}}, None),  # an old thing, changed now
        ("label", {"label": {"created_at": "2016-01-02T03:04:05Z"}}, None),
        ("ping", {"zen": "x", "hook_id": 1}, None),
    ],
)
def test_e4_a_payload_tells_when_it_happened_where_it_can(event, payload, at):
    assert delivered(payload, event=event).occurred_at == at


@pytest.mark.parametrize(
    "value", [None, "", "soon", True, False, -1, 0, 1e18, float("1e400"), [], {}, "9999-12-31T23:59:59-14:00", "１"]
)
def test_what_is_no_time_is_none(value):
    assert epoch_of(value) is None


@pytest.mark.parametrize("event", GITHUB[1:])
def test_e9_every_event_of_github_is_taken(event):
    payload = {"action": "created", event: {"id": 1, "updated_at": "2026-01-02T03:04:05Z"}, **pushed(), "sender": {"login": "x"}}
    received = delivered(payload, event=event)
    assert (received.type, received.problem, json.loads(received.body)) == (event, "", payload)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("repository", "head_commit", "workflow_run", "workflow_job", "deployment", "deployment_status", "action", "pull_request")
PAYLOADS = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=5)


@settings(max_examples=300, deadline=None)
@given(PAYLOADS, st.sampled_from(GITHUB), st.text(max_size=210))
def test_e10_no_payload_and_no_header_is_an_error(payload, event, text):
    try:
        raw = body_of(payload)
    except UnicodeEncodeError:
        raw = json.dumps(payload).encode()
    received = verify(raw, event=event, guid=text, content_type=text)
    assert isinstance(received, Delivery)
    assert 1 <= len(received.id) <= 200
    assert isinstance(verify(raw, text, event=text), Rejection)
    assert isinstance(verify(text.encode("utf-8", "replace"), event=text), Delivery)


REPO = {"id": 1, "full_name": "acme/web", "pushed_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
AGAIN = {
    "membership": {"action": "added", "scope": "team", "member": {"id": 1}, "team": {"id": 2}},
    "member": {"action": "added", "member": {"id": 1}, "repository": REPO},
    "team": {"action": "added_to_repository", "team": {"id": 2}, "repository": REPO},
    "team_add": {"team": {"id": 2}, "repository": REPO},
    "organization": {"action": "member_added", "membership": {"user": {"id": 1}}},
    "org_block": {"action": "blocked", "blocked_user": {"id": 1}},
    "star": {"action": "deleted", "starred_at": None, "repository": REPO},
    "watch": {"action": "started", "repository": REPO},
    "label": {"action": "edited", "label": {"id": 1, "name": "a"}, "changes": {"name": {"from": "b"}}, "repository": REPO},
    "public": {"repository": REPO},
    "repository": {"action": "privatized", "repository": REPO},
    "create": {"ref": "v1", "ref_type": "tag", "repository": REPO},
    "delete": {"ref": "v1", "ref_type": "tag", "repository": REPO},
    "issues": {"action": "pinned", "issue": {"id": 1, "updated_at": "2026-01-01T00:00:00Z"}, "repository": REPO},
    "pull_request": {"action": "locked", "pull_request": {"id": 1, "updated_at": "2026-01-01T00:00:00Z"}, "repository": REPO},
    "check_run": {"action": "rerequested", "check_run": {"id": 1}, "repository": REPO},
    "check_suite": {"action": "rerequested", "check_suite": {"id": 1, "updated_at": "x"}, "repository": REPO},
    "release": {"action": "released", "release": {"id": 1, "published_at": "2026-01-01T00:00:00Z"}, "repository": REPO},
    "pull_request_review_thread": {"action": "resolved", "thread": {}, "pull_request": {"updated_at": "x"}, "repository": REPO},
}
ONCE = {
    "star": {"action": "created", "starred_at": "2026-01-01T00:00:00Z", "repository": REPO},
    "issues": {"action": "labeled", "issue": {"id": 1, "updated_at": "2026-01-01T00:00:00Z"}, "label": {}, "repository": REPO},
    "issue_comment": {"action": "created", "comment": {"id": 1}, "issue": {"id": 2}, "repository": REPO},
    "workflow_run": {"action": "completed", "workflow_run": {"id": 1}, "repository": REPO},
    "deployment": {"action": "created", "deployment": {"id": 1}, "workflow_run": None, "repository": REPO},
    "release": {"action": "published", "release": {"id": 1, "published_at": "2026-01-01T00:00:00Z"}, "repository": REPO},
    "status": {"id": 1, "sha": "a", "state": "success", "context": "ci", "repository": REPO},
    "repository": {"action": "created", "repository": REPO},
}


@pytest.mark.parametrize("event", AGAIN)
def test_n7_what_may_happen_again_in_the_same_words_is_told_by_githubs_id_alone(event):
    first, again = delivered(AGAIN[event], event=event), delivered(AGAIN[event], event=event, guid="other")
    assert (first.identity, again.identity) == ("", "")
    assert first.id != again.id


@pytest.mark.parametrize("event", ONCE)
def test_n7_what_has_an_id_or_a_time_of_its_own_is_one_event_under_any_id_and_name(event):
    first = delivered(ONCE[event], event=event)
    assert delivered(ONCE[event], event="membership", guid="other").identity == first.identity != ""
