"""Webhooks of one's own: what proves one, and what one becomes."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.credentials.keys import KeyRing, MasterKey
from reconciler.drivers.builtin import RECEIVERS
from reconciler.model.errors import ReconcilerError
from reconciler.model.events import Delivery, PastDelivery, Refusal, Rejection
from reconciler.model.resources import ResourceId
from reconciler.model.secrets import SecretValue
from tests.support.driving import resource

HMAC, STANDARD = RECEIVERS["hmac-sha256"], RECEIVERS["standard-webhooks"]
SECRET = SecretValue("secret")
BODY_SIGNED = "dc46983557fea127b43af721467eb9b3fde2338fe3e14f51952aa8478c13d355"  # `secret` over `body`
GITHUB = SecretValue("It's a Secret to Everybody")
HELLO_SIGNED = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"  # GitHub's own, over `Hello, World!`
WHSEC = SecretValue("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
SENT_ID, SENT_AT = "msg_0001", 1767323045
STANDARD_BODY = b'{"type":"pipeline.done","data":{"id":"p1"}}'
STANDARD_SIGNED = "v1,DrLovKfbXC1loJBW2RbPYmNcYOWJXr7Zxh//I1/uDPM="


def sign(body: bytes, key: SecretValue = SECRET) -> str:
    return hmac.new(key.reveal().encode(), body, hashlib.sha256).hexdigest()


def hmac_verify(
    body: Any, signature: str | None = None, *, keys: Any = (SECRET,), now: float = 0.0, **headers: str
) -> Delivery | Rejection:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"x-signature-256": sign(raw) if signature is None else signature}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return HMAC.verify(sent, raw, keys, now=now)


def delivered(*args: Any, **options: Any) -> Delivery:
    result = hmac_verify(*args, **options)
    assert isinstance(result, Delivery), result
    return result


def standard_sign(body: bytes, *, sent_id: str = SENT_ID, sent_at: Any = SENT_AT, key: SecretValue = WHSEC) -> str:
    secret = base64.b64decode(key.reveal().removeprefix("whsec_"))
    signed = f"{sent_id}.{sent_at}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


def standard_verify(
    signature: str = STANDARD_SIGNED, body: bytes = STANDARD_BODY, *, now: float = SENT_AT, keys: Any = (WHSEC,), **headers: str
) -> Delivery | Rejection:
    sent = {"webhook-id": SENT_ID, "webhook-timestamp": str(SENT_AT), "webhook-signature": signature}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return STANDARD.verify(sent, body, keys, now=now)


def reason(result: Delivery | Rejection) -> str:
    return result.reason.value if isinstance(result, Rejection) else "believed"


WRONG, UNSIGNED, STALE = Refusal.WRONG.value, Refusal.UNSIGNED.value, Refusal.STALE.value


# ---- proof: HMAC


@pytest.mark.parametrize(
    ("body", "key", "signature"),
    [
        (b"body", SECRET, BODY_SIGNED),
        (b"body", SECRET, f"sha256={BODY_SIGNED}"),
        (b"body", SECRET, f"  {BODY_SIGNED}\t"),
        (b"Hello, World!", GITHUB, HELLO_SIGNED),
        (b"Hello, World!", GITHUB, f"sha256={HELLO_SIGNED}"),
    ],
)
@pytest.mark.parametrize("header", ["x-signature-256", "x-hub-signature-256"])
def test_e1_published_vectors_are_believed_under_both_headers(body: bytes, key: SecretValue, signature: str, header: str) -> None:
    result = HMAC.verify({header: signature}, body, [key], now=0.0)
    assert isinstance(result, Delivery)
    assert result.key == 0


NOT_PROVED = {
    "another key": (sign(b"body", GITHUB), WRONG),
    "another body": (sign(b"bodz"), WRONG),
    "one digit less": (BODY_SIGNED[:-1], WRONG),
    "one digit more": (BODY_SIGNED + "0", WRONG),
    "one digit changed": ("e" + BODY_SIGNED[1:], WRONG),
    "upper case": (BODY_SIGNED.upper(), WRONG),
    "another prefix": (f"sha1={BODY_SIGNED}", WRONG),
    "the prefix twice": (f"sha256=sha256={BODY_SIGNED}", WRONG),
    "sha1": ("sha1=a18991ff7e4513a1c2d2ee51e3a8e99ca891d9cd", WRONG),
    "two signatures in one header": (f"{BODY_SIGNED}, {BODY_SIGNED}", WRONG),
    "two, one of them right": (f"{'0' * 64}, {BODY_SIGNED}", WRONG),
    "no ASCII": ("sha256=" + "ä" * 64, WRONG),
    "no Unicode": ("\udcff" * 64, WRONG),
    "no hex": ("z" * 64, WRONG),
    "the prefix alone": ("sha256=", WRONG),
    "empty": ("", UNSIGNED),
    "blank": ("  ", UNSIGNED),
}


@pytest.mark.parametrize(("signature", "why"), NOT_PROVED.values(), ids=NOT_PROVED)
def test_e1_what_is_not_the_bodys_hmac_is_refused_and_never_raises(signature: str, why: str) -> None:
    assert reason(hmac_verify(b"body", signature)) == why


def test_e1_no_signature_at_all_is_refused_though_a_key_is_set() -> None:
    assert reason(HMAC.verify({}, b"{}", [SECRET], now=0.0)) == UNSIGNED
    assert reason(HMAC.verify({"x-hub-signature": f"sha1={BODY_SIGNED}"}, b"{}", [SECRET], now=0.0)) == UNSIGNED


def test_e1_a_body_that_was_written_anew_is_not_the_body_that_was_signed() -> None:
    body = b'{"b": 1, "a": 2}'
    signature = sign(body)
    assert reason(hmac_verify(json.dumps(json.loads(body), separators=(",", ":")).encode(), signature)) == WRONG
    assert reason(hmac_verify(json.dumps(json.loads(body), sort_keys=True).encode(), signature)) == WRONG
    assert reason(hmac_verify(body, signature)) == "believed"


def test_e1_an_empty_key_is_a_defect_and_no_key_believes_nobody() -> None:
    forged = hmac.new(b"", b"body", hashlib.sha256).hexdigest()
    with pytest.raises(ValueError, match="empty"):
        hmac_verify(b"body", forged, keys=[SecretValue("")])
    with pytest.raises(ValueError, match="empty"):
        hmac_verify(b"body", BODY_SIGNED, keys=[SECRET, SecretValue("")])
    assert reason(hmac_verify(b"body", BODY_SIGNED, keys=[])) == WRONG


def test_e13_every_key_in_force_proves_and_the_delivery_says_which() -> None:
    keys = [GITHUB, SECRET, SECRET]
    assert [delivered(b"{}", sign(b"{}", key), keys=keys).key for key in keys] == [0, 1, 1]
    assert reason(hmac_verify(b"{}", sign(b"{}", SECRET), keys=[GITHUB])) == WRONG


def test_a_derived_key_signs_as_the_text_of_its_hex_digits() -> None:
    ring = KeyRing(MasterKey(b"k" * 32))
    uid = ResourceId("EventSource", "default", "ours").uid("team")
    key = ring.signing_key("team", uid, 0)
    assert len(key.reveal()) == 64
    assert delivered({"a": 1}, sign(b'{"a": 1}', key), keys=[key]).key == 0
    standard = ring.standard_webhooks_secret("team", uid, 0)
    assert reason(standard_verify(standard_sign(STANDARD_BODY, key=standard), keys=[standard])) == "believed"


@given(
    st.dictionaries(
        st.sampled_from(
            ["x-signature-256", "x-hub-signature-256", "webhook-id", "webhook-timestamp", "webhook-signature", "x-event-type"]
        ),
        st.text() | st.sampled_from([BODY_SIGNED, STANDARD_SIGNED, str(SENT_AT), SENT_ID]),
    ),
    st.binary() | st.sampled_from([b"body", STANDARD_BODY]),
)
@settings(max_examples=1_000, deadline=None)
def test_e1_nothing_that_can_be_sent_raises(headers: dict[str, str], body: bytes) -> None:
    result = HMAC.verify(headers, body, [SECRET], now=SENT_AT)
    proved = any(
        headers.get(n, "").strip().removeprefix("sha256=") == sign(body) for n in ("x-signature-256", "x-hub-signature-256")
    )
    assert isinstance(result, Rejection) or proved
    other = STANDARD.verify(headers, body, [WHSEC], now=SENT_AT)
    assert isinstance(other, Rejection) or headers["webhook-signature"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["type", "time", "timestamp"]), inner),
    max_leaves=8,
)


@given(JSON)
@settings(max_examples=500, deadline=None)
def test_e10_a_signed_body_of_any_shape_is_a_delivery(value: Any) -> None:
    try:
        body = json.dumps(value).encode()
    except UnicodeEncodeError:
        return
    result = delivered(body)
    assert result.body == body
    assert 0 < len(result.type) <= 128
    assert result.identity in ("", result.id)
    assert result.occurred_at is None or isinstance(result.occurred_at, float)
    standard = standard_verify(standard_sign(body), body)
    assert isinstance(standard, Delivery)


# ---- proof: Standard Webhooks


def test_e1_the_standard_vector_is_believed() -> None:
    result = standard_verify()
    assert isinstance(result, Delivery)
    assert (result.id, result.type, result.body, result.key) == (SENT_ID, "pipeline.done", STANDARD_BODY, 0)
    assert (result.identity, result.occurred_at, result.problem) == ("", float(SENT_AT), "")


def test_e1_any_signature_of_a_known_version_is_enough_and_others_are_passed_over() -> None:
    other = "v1," + base64.b64encode(b"0" * 32).decode()
    asymmetric = "v1a," + STANDARD_SIGNED.removeprefix("v1,")
    joined = f"{STANDARD_SIGNED}, {STANDARD_SIGNED}"  # what a server makes of two headers
    mixed = f"v9,x {asymmetric} nonsense  {STANDARD_SIGNED}"
    for listed in (f"{other} {STANDARD_SIGNED}", f"{STANDARD_SIGNED} {other}", mixed, joined):
        assert reason(standard_verify(listed)) == "believed"
    for listed in (asymmetric, f"v2,{STANDARD_SIGNED[3:]}", STANDARD_SIGNED[3:], f"V1{STANDARD_SIGNED[2:]}", "v1", "v1,"):
        assert reason(standard_verify(listed)) == WRONG
    assert reason(standard_verify(f"{other},{STANDARD_SIGNED}")) == WRONG
    assert reason(standard_verify(" ".join([other] * 20 + [STANDARD_SIGNED]))) == WRONG  # a bounded list


STANDARD_REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a byte of the body changed": ({"body": STANDARD_BODY.replace(b"p1", b"p2")}, WRONG),
    "written anew": ({"body": json.dumps(json.loads(STANDARD_BODY)).encode()}, WRONG),
    "another id": ({"webhook_id": "msg_0002"}, WRONG),
    "another time": ({"webhook_timestamp": str(SENT_AT + 1)}, WRONG),
    "another key": ({"keys": [SecretValue("whsec_" + base64.b64encode(b"x" * 24).decode())]}, WRONG),
    "no base64": ({"signature": "v1,%%%"}, WRONG),
    "no ASCII": ({"signature": "v1,ä"}, WRONG),
    "hex": ({"signature": "v1," + base64.b64decode(STANDARD_SIGNED[3:]).hex()}, WRONG),
    "cut": ({"signature": STANDARD_SIGNED[:-4]}, WRONG),
    "no signature": ({"signature": ""}, UNSIGNED),
    "no id": ({"webhook_id": ""}, UNSIGNED),
    "no timestamp": ({"webhook_timestamp": ""}, UNSIGNED),
    "a timestamp with a sign": ({"webhook_timestamp": f"+{SENT_AT}"}, WRONG),
    "a timestamp with a fraction": ({"webhook_timestamp": f"{SENT_AT}.0"}, WRONG),
    "a timestamp in other digits": ({"webhook_timestamp": "١٧٦٧٣٢٣٠٤٥"}, WRONG),
    "an endless timestamp": ({"webhook_timestamp": "1" * 5_000}, WRONG),
}


@pytest.mark.parametrize(("options", "why"), STANDARD_REFUSED.values(), ids=STANDARD_REFUSED)
def test_e1_what_is_not_signed_as_it_stands_is_refused(options: dict[str, Any], why: str) -> None:
    assert reason(standard_verify(**options)) == why


@pytest.mark.parametrize("sent_id", ["a.b", "x" * 201, "ä", "tab\there"])
def test_e1_an_id_that_could_be_read_in_two_ways_is_refused_though_it_is_signed(sent_id: str) -> None:
    signed = standard_sign(STANDARD_BODY, sent_id=sent_id)
    assert reason(standard_verify(signed, webhook_id=sent_id)) == WRONG


@pytest.mark.parametrize(("late_s", "why"), [(0, "believed"), (300, "believed"), (-300, "believed"), (301, STALE), (-301, STALE)])
def test_e3_a_signed_timestamp_holds_for_five_minutes_both_ways(late_s: int, why: str) -> None:
    assert reason(standard_verify(now=SENT_AT + late_s)) == why


def test_e3_an_old_timestamp_that_nobody_signed_is_a_wrong_signature() -> None:
    assert reason(standard_verify("v1,AAAA", now=SENT_AT + 9_999)) == WRONG


def test_e13_both_standard_keys_prove_while_a_rotation_is_under_way() -> None:
    new = SecretValue("whsec_" + base64.b64encode(b"n" * 32).decode())
    both = f"{standard_sign(STANDARD_BODY, key=new)} {STANDARD_SIGNED}"
    result = [standard_verify(STANDARD_SIGNED, keys=[new, WHSEC]), standard_verify(both, keys=[new, WHSEC])]
    assert [row.key for row in result if isinstance(row, Delivery)] == [1, 0]


@pytest.mark.parametrize("text", ["", "whsec_", "secret", "whsec_%%", "whsec_abc"])
def test_e1_a_key_that_is_no_standard_secret_is_a_defect(text: str) -> None:
    with pytest.raises(ValueError, match="key"):
        standard_verify(keys=[WHSEC, SecretValue(text)])


def test_nothing_of_a_key_a_body_or_a_header_is_in_what_the_log_is_told() -> None:
    canary = "canary-7f3a9c"
    for result in (
        hmac_verify(canary.encode(), canary, webhook_id=canary),
        HMAC.verify({"x-request-id": canary}, canary.encode(), [SECRET], now=0.0),
        standard_verify(canary, webhook_id=f"{canary}.x"),
        standard_verify(now=SENT_AT + 9_999),
        standard_verify("", webhook_id=canary),
    ):
        assert isinstance(result, Rejection)
        assert canary not in result.detail
    with pytest.raises(ValueError) as error:
        standard_verify(keys=[SecretValue(canary)])
    assert canary not in str(error.value)


# ---- time


@pytest.mark.parametrize("signature", [sign(b"body"), sign(b"body", GITHUB), "0" * 64, "x"])
def test_e2_every_key_is_compared_by_compare_digest_whatever_was_found(signature: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def watched(row: bytes, other: bytes) -> bool:
        compared.append((row, other))
        return compare(row, other)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    hmac_verify(b"body", signature, keys=[SECRET, GITHUB, SECRET])
    assert compared == [(sign(b"body", key).encode(), signature.encode()) for key in (SECRET, GITHUB, SECRET)]
    compared.clear()
    standard_verify(f"{STANDARD_SIGNED} v1,AAAA", keys=[WHSEC, WHSEC])
    assert [len(given) for _, given in compared] == [32, 3, 32, 3]


# ---- what a delivery becomes


@pytest.mark.parametrize("header", ["webhook_id", "x_delivery_id", "idempotency_key"])
def test_e3_the_senders_id_of_the_event_is_its_id(header: str) -> None:
    result = delivered({"a": 1}, **{header: " ev-1 "})
    assert (result.id, result.identity) == ("ev-1", "")


def test_e3_of_several_ids_the_first_kind_counts_and_one_that_is_none_is_passed_over() -> None:
    assert delivered({}, idempotency_key="c", x_delivery_id="b", webhook_id="a").id == "a"
    assert delivered({}, idempotency_key="c", x_delivery_id="b", webhook_id="x" * 201).id == "b"
    assert delivered({}, idempotency_key="c", x_delivery_id="ü", webhook_id="").id == "c"
    assert delivered({}, webhook_id="x" * 200).id == "x" * 200


@pytest.mark.parametrize("mark", [{"id": 7}, {"timestamp": "2026-01-01T00:00:00Z"}, {"data": {"uuid": "x"}}, {"createdAt": 5}])
def test_e3_without_an_id_the_same_body_is_the_same_event_where_it_has_an_id_or_a_time_of_its_own(mark: dict[str, Any]) -> None:
    row, again, other = delivered({"a": 1, **mark}), delivered({"a": 1, **mark}), delivered({"a": 2, **mark})
    assert row.id == row.identity == again.id == "sha256:" + hashlib.sha256(json.dumps({"a": 1, **mark}).encode()).hexdigest()
    assert other.id != row.id


@pytest.mark.parametrize("payload", [{"a": 1}, {"deploy": "now"}, {"id": ""}, {"id": None}, {"data": {"a": 1}}, [1], "text"])
def test_n7_a_body_that_nothing_tells_apart_may_be_sent_twice(payload: Any) -> None:
    body = json.dumps(payload).encode()
    row, again = (delivered(body, now=now) for now in (1.0, 2.0))
    assert (row.identity, again.identity) == ("", "")
    assert row.id != again.id


def test_e3_a_request_id_names_an_event_but_a_second_try_with_a_new_one_is_the_same_event() -> None:
    row, again = delivered({"id": 1}, x_request_id="r-1"), delivered({"id": 1}, x_request_id="r-2")
    assert (row.id, again.id) == ("r-1", "r-2")
    assert row.identity == again.identity == delivered({"id": 1}).identity != ""
    assert delivered({"a": 1}, x_request_id="r-1").identity == ""


@pytest.mark.parametrize(
    ("payload", "headers", "kind"),
    [
        ({"type": "build.done"}, {}, "build.done"),
        ({"type": "build.done"}, {"ce_type": "c"}, "c"),
        ({"type": "build.done"}, {"ce_type": "c", "x_event": "b"}, "b"),
        ({"type": "build.done"}, {"ce_type": "c", "x_event": "b", "x_event_type": "a"}, "a"),
        ({"type": "build.done"}, {"x_event": "line\nbreak"}, "build.done"),
        ({"type": "t" * 128}, {}, "t" * 128),
        ({"type": "t" * 129}, {"x_event": "u" * 129}, "webhook"),
        ({"type": 7}, {}, "webhook"),
        ({"type": ""}, {"x_event": " "}, "webhook"),
        ({"type": "a\u001b[2J"}, {}, "webhook"),
        ([1], {}, "webhook"),
        (None, {}, "webhook"),
    ],
)
def test_the_type_is_what_the_sender_calls_it(payload: Any, headers: dict[str, str], kind: str) -> None:
    assert delivered(payload, **headers).type == kind


def test_a_standard_webhooks_type_is_the_signed_one() -> None:
    result = standard_verify(x_event_type="forged", ce_type="forged")
    assert isinstance(result, Delivery)
    assert result.type == "pipeline.done"
    plain = standard_verify(standard_sign(b"[]"), b"[]", x_event_type="forged")
    assert isinstance(plain, Delivery)
    assert plain.type == "webhook"


@pytest.mark.parametrize(
    ("payload", "at"),
    [
        ({"timestamp": "2026-01-02T03:04:05Z"}, 1767323045.0),
        ({"time": "2026-01-02T04:04:05.5+01:00"}, 1767323045.5),
        ({"timestamp": "yesterday", "time": 1767323045}, 1767323045.0),
        ({"timestamp": 1767323045.25}, 1767323045.25),
        ({"timestamp": 1767323045250}, 1767323045.25),
        ({"timestamp": "2026-01-02T03:04:05"}, None),  # no zone: no RFC 3339
        ({"timestamp": "2026-01-02"}, None),
        ({"timestamp": True}, None),
        ({"timestamp": -5}, None),
        ({"timestamp": 0}, None),
        ({"timestamp": 1e300}, None),
        ({"timestamp": {"seconds": 1}}, None),
        ({}, None),
        ([], None),
    ],
)
def test_e4_the_time_is_the_payloads(payload: Any, at: float | None) -> None:
    assert delivered(payload).occurred_at == at


@pytest.mark.parametrize(
    "body", [b"", b"a=1&b=2", b"{", b"\xff\xfe", b"NaN", gzip.compress(b"{}", mtime=0), b"[" * 5_000, b'"\\ud800"']
)
def test_e10_a_proved_body_that_is_not_json_is_a_delivery_with_a_problem(body: bytes) -> None:
    result = delivered(body)
    assert (result.problem, result.type) == ("the payload is not JSON", "webhook")
    standard = standard_verify(standard_sign(body), body)
    assert isinstance(standard, Delivery)
    assert standard.problem == "the payload is not JSON"


def test_filters_see_headers_but_no_proof_no_credential_and_no_route() -> None:
    hidden = [
        "authorization",
        "proxy-authorization",
        "proxy-connection",
        "cookie",
        "x-hub-signature",
        "webhook-signature",
        "x-forwarded-for",
        "forwarded",
        "x-api-key",
        "x-gitlab-token",
        "x-client-secret",
    ]
    result = delivered({}, content_type="application/json", x_team="a" * 2_000, **dict.fromkeys(hidden, "canary"))
    assert result.headers == {"content-type": "application/json", "x-team": "a" * 1024}
    standard = standard_verify(x_team="a")
    assert isinstance(standard, Delivery)
    assert standard.headers == {"webhook-id": SENT_ID, "webhook-timestamp": str(SENT_AT), "x-team": "a"}


def test_of_very_many_headers_the_first_are_kept() -> None:
    result = delivered({}, **{f"x_{number:03}": "v" for number in range(500)})
    assert list(result.headers) == [f"x-{number:03}" for number in range(64)]


# ---- what such a sender cannot do


@pytest.mark.parametrize("receiver", [HMAC, STANDARD])
async def test_nobody_is_asked_for_what_was_missed(receiver: Any) -> None:
    past = PastDelivery("1", "1", "t", 0.0, arrived=False)
    source = resource("EventSource", "ours", {"type": "webhook"})
    assert receiver.keeps_deliveries is False
    assert await receiver.missed(None, source, [], 0.0) == ()
    assert await receiver.redeliver(None, None, past) is False
    with pytest.raises(ReconcilerError):
        await receiver.fetch(None, None, past)
