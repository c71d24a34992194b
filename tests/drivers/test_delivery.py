"""What receivers share: proofs, identities and the order of past deliveries."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from reconciler.drivers.delivery import KeepsNoDeliveries, identity_of, kept_headers, oldest_first, signed_by, signing_key
from reconciler.model.events import PastDelivery
from reconciler.model.secrets import SecretValue

BODY = b"{}"
KEYS = [SecretValue(text) for text in ("", "a", "b", "b")]


def proof(key: str, body: bytes = BODY) -> str:
    return hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


def test_the_first_key_that_matches_is_returned_and_an_empty_one_never() -> None:
    assert signing_key([b"", b"a", b"b", b"b"], lambda secret: secret, [b"", b"b"]) == 2
    assert signing_key([b""], lambda secret: secret, [b""]) is None
    assert signing_key([], lambda secret: secret, [b"a"]) is None


@pytest.mark.parametrize(
    ("signature", "key"), [(proof("b"), 2), (proof("a"), 1), (proof("c"), None), ("", None), ("\udcff", None)]
)
def test_e1_a_signature_is_of_the_first_key_that_made_it(signature: str, key: int | None) -> None:
    assert signed_by(BODY, signature, KEYS) == key
    assert signed_by(BODY + b" ", signature, KEYS) is None


def test_e1_no_key_and_an_empty_key_prove_nothing() -> None:
    assert signed_by(BODY, proof("a"), []) is None
    assert signed_by(BODY, proof(""), [SecretValue("")]) is None


def test_e2_every_key_is_compared_as_bytes_whatever_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[type, type, int]] = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((type(a), type(b), len(a))) or compare(a, b))
    assert signed_by(BODY, proof("a"), KEYS) == 1
    assert compared == [(bytes, bytes, 64)] * len(KEYS)


def test_a_body_is_identified_by_its_digest_and_headers_are_cut() -> None:
    assert identity_of(BODY) == f"sha256:{hashlib.sha256(BODY).hexdigest()}"
    assert kept_headers({"a": "12345", "b": "1"}, ("a", "c"), 3) == {"a": "123"}


def test_past_deliveries_are_in_the_order_of_time_and_then_of_ids() -> None:
    past = [PastDelivery(key, "r", "t", at, arrived=False) for key, at in (("b", 2.0), ("a", 2.0), ("z", 1.0))]
    assert [row.id for row in oldest_first(past)] == ["z", "a", "b"]


async def test_what_is_not_kept_is_not_sent_again() -> None:
    receiver = KeepsNoDeliveries()
    assert not receiver.keeps_deliveries
    assert not await receiver.redeliver(None, None, None)  # type: ignore[arg-type]
