"""The redactor: no known value survives in any of its forms, no token shape either, and ordinary text is left alone."""

from __future__ import annotations

import base64
import html
import json
import re
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reconciler.credentials.redact import MASK, MIN_LENGTH, Redactor, forms_of
from reconciler.model.secrets import SecretValue
from tests.support.counting import calls_of

PEM = (
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAn4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8/KuKPEHLd4\n"
    "rHVTeT+O+XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz\n-----END RSA PRIVATE KEY-----\n"
)

ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda v: v,
    "base64": lambda v: base64.b64encode(v.encode()).decode(),
    "base64 after one byte": lambda v: base64.b64encode(b"u" + v.encode()).decode(),
    "base64 after two bytes": lambda v: base64.b64encode(b"u:" + v.encode()).decode(),
    "base64 between others": lambda v: base64.b64encode(b"user:" + v.encode() + b"; more").decode(),
    "base64url": lambda v: base64.urlsafe_b64encode(v.encode()).decode().rstrip("="),
    "base64url after two bytes": lambda v: base64.urlsafe_b64encode(b"u:" + v.encode() + b"x").decode(),
    "url": lambda v: quote(v, safe=""),
    "url, lower case": lambda v: re.sub("%..", lambda m: m[0].lower(), quote(v, safe="")),
    "path": quote,
    "form": lambda v: urlencode({"a": v}),
    "form plus": quote_plus,
    "json": lambda v: json.dumps({"a": v}),
    "json, not ascii": lambda v: json.dumps([v], ensure_ascii=False),
    "json in json": lambda v: json.dumps({"body": json.dumps({"a": v})}),
    "repr": lambda v: repr({"a": v}),
    "html": html.escape,
    "hex": lambda v: v.encode().hex(),
    "HEX": lambda v: v.encode().hex().upper(),
}
# Without "*": a value made of the mask's own character cannot be told from the mask.
SECRETS = st.text(st.characters(codec="utf-8", exclude_characters="*"), min_size=MIN_LENGTH, max_size=60).filter(
    lambda v: len(v.strip()) >= MIN_LENGTH
)
NOISE = st.text(st.characters(codec="utf-8", exclude_characters="*"), max_size=20)


@pytest.mark.parametrize("form", ENCODINGS)
@given(value=SECRETS, before=NOISE, after=NOISE)
@example(value='pa"ss<w>&+/= \\word\n2', before="", after="")
@example(value="ünï-cödé/日本語-s3cret", before="x", after="y")
@example(value="aaaaaaa", before="aaa", after="aaaaa")
def test_f5_no_form_of_a_known_value_survives(form: str, value: str, before: str, after: str) -> None:
    redactor = Redactor()
    redactor.add(value)
    encoded = ENCODINGS[form](value)
    shown = redactor.redact(before + encoded + after)
    assert value not in shown
    assert MASK in shown
    assert encoded not in shown or encoded == MASK
    left = [one for one in forms_of(value) if one in shown]
    assert not left, left


@given(
    value=st.text("abcdefghijklmnopqrstuvwxyzABCDEF0123456789", min_size=12, max_size=40),
    shift=st.integers(0, 5),
    tail=st.integers(0, 5),
)
def test_f5_not_a_single_byte_of_a_value_can_be_read_from_what_is_left_of_its_base64(value: str, shift: int, tail: int) -> None:
    redactor = Redactor()
    redactor.add(value)
    shown = redactor.redact(base64.b64encode(b"\1" * shift + value.encode() + b"\1" * tail).decode())
    before, _, after = shown.partition(MASK)
    assert len(before) * 6 <= shift * 8, "a character with bits of the first byte is left"
    assert len(after.rstrip("=")) * 6 <= tail * 8, "a character with bits of the last byte is left"


@given(values=st.lists(SECRETS, min_size=2, max_size=6), text=NOISE)
def test_f5_of_several_values_that_overlap_nothing_is_left(values: list[str], text: str) -> None:
    redactor = Redactor()
    for value in values:
        redactor.add(value)
    shown = redactor.redact(text.join(values) + values[0][:-1] + values[1][1:])
    assert not any(value in shown for value in values)


def test_f5_two_values_that_share_characters_leave_no_rest() -> None:
    redactor = Redactor()
    redactor.add("abcdefgh")
    redactor.add("efghijkl")
    assert redactor.redact("x abcdefghijkl y") == "x *** y"
    redactor.add("0123456789abcdef")
    redactor.add("234567")
    assert redactor.redact("x 0123456789abcdef y") == "x *** y"


TOKENS = {
    "github classic": "ghp_" + "a1B2" * 9,
    "github oauth": "gho_" + "a1B2" * 9,
    "github server": "ghs_" + "a1B2" * 9,
    "github refresh": "ghr_" + "a1B2" * 9,
    "github user": "ghu_" + "a1B2" * 9,
    "github fine": "github_pat_11ABCDEFG0" + "x" * 40,
    "gitlab": "glpat-" + "x1Y-" * 5,
    "aws": "AKIA" + "ABCD1234" * 2,
    "aws session": "ASIA" + "ABCD1234" * 2,
    "digitalocean": "dop_v1_" + "a0" * 32,
    "newrelic": "NRAK-" + "A1B" * 9,
    "slack": "xoxb-1234567890-abcdefghij",
    "docker": "dckr_pat_" + "aB3-" * 6,
    "standard webhooks": "whsec_" + "aB3/" * 8,
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "pem": PEM.strip(),
    "pem in json": json.dumps(PEM.strip())[1:-1],
    "pem cut off": PEM[:90],
}


@pytest.mark.parametrize("name", TOKENS)
def test_f5_the_shapes_of_tokens_are_masked_without_ever_being_loaded(name: str) -> None:
    token = TOKENS[name]
    for text in (token, f"before {token} after", f'{{"a": "{token}"}}', f"x={token}&y=1", f"'{token}',"):
        shown = Redactor().redact(text)
        assert token not in shown, shown
        assert MASK in shown
        assert token[12:30] not in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abcdefghijklmnop", "Authorization: Bearer ***"),
        ("authorization: token hunter2", "authorization: token ***"),
        ('{"Authorization": "Basic dXNlcjpwYXNz"}', '{"Authorization": "Basic ***"}'),
        ("{'PRIVATE-TOKEN': 'hunter2'}", "{'PRIVATE-TOKEN': '***'}"),
        ('"{\\"X-Api-Key\\": \\"hunter2\\"}"', '"{\\"X-Api-Key\\": \\"***\\"}"'),
        ("sent Basic dXNlcjpwYXNzd29yZA== to it", "sent Basic *** to it"),
        ("https://user:p@ss:w0rd@host/x?y", "https://***@host/x?y"),
        ("postgresql+psycopg://u:p@db/x", "postgresql+psycopg://***@db/x"),
        ("https://ghtoken@host/r.git", "https://***@host/r.git"),
        ("ssh://git:pw@host/r", "ssh://***@host/r"),
    ],
)
def test_f7_credentials_of_headers_and_urls_are_masked(text: str, shown: str) -> None:
    assert Redactor().redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "EventSource/default/payments#github/repository-webhook[acme/payments]",
        "https://api.github.com/repos/acme/x/hooks/1?per_page=100",
        "the token expired yesterday, and the bearer was told",
        "Basic authentication is wanted",
        "ssh://git@github.com/acme/x",
        "git@github.com:acme/x.git",
        "sha256:" + "0f3c" * 16,
        "main@sha1:" + "ab" * 20,
        "token configuration-of-the-integration",
        "mail ada@example.com about it",
        "RC4001 secret:github/token",
        "2026-01-02T03:04:05.678Z",
        "reconciler-team-a-0123456789abcdef0123",
        "",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    redactor = Redactor()
    redactor.add("some-other-secret")
    assert redactor.redact(text) == text


def test_a_short_value_is_not_looked_for() -> None:
    redactor = Redactor()
    for value in ("", "a", "main", "token"):
        redactor.add(value)
    assert redactor.redact("the main token is a token") == "the main token is a token"


def test_each_long_line_of_a_key_of_several_lines_is_masked_on_its_own() -> None:
    redactor = Redactor()
    redactor.add(PEM)
    lines = [line for line in PEM.splitlines() if not line.startswith("-----")]
    assert [redactor.redact(f"got: {line}") for line in lines] == ["got: ***"] * len(lines)


def test_json_is_redacted_in_keys_values_bytes_and_unknown_objects() -> None:
    redactor = Redactor()
    redactor.add("hunter2-secret")
    value: dict[str, Any] = {
        "a": ["hunter2-secret", 1, None, True, 1.5],
        "hunter2-secret": ("x hunter2-secret",),
        "b": b"\xffhunter2-secret",
        "e": ValueError("hunter2-secret"),
        "s": SecretValue("hunter2-secret"),
    }
    shown = redactor.redact_json(value)
    assert shown == {
        "a": [MASK, 1, None, True, 1.5],
        MASK: [f"x {MASK}"],
        "b": f"\ufffd{MASK}",
        "e": MASK,
        "s": "SecretValue(***)",
    }


@given(st.text(max_size=300))
def test_redacting_twice_is_redacting_once_and_never_fails(text: str) -> None:
    redactor = Redactor()
    redactor.add("abcdef")
    once = redactor.redact(text)
    assert redactor.redact(once) == once


@pytest.mark.parametrize(
    "hostile",
    [
        "eyJ" * 30_000,
        "-----BEGIN PRIVATE KEY-----" * 4_000,
        "a://" * 25_000,
        "token " * 17_000,
        "authorization:" * 7_000,
        "ghp_" * 25_000,
        "x://" + "a" * 100_000,
        "-" * 100_000,
        "eyJaaaaa." * 11_000,
        "basic " * 17_000,
    ],
)
@pytest.mark.timeout(30)  # a pattern that is not linear takes hours for these
def test_f14_no_text_of_a_hundred_thousand_characters_takes_long(hostile: str) -> None:
    redactor = Redactor()
    redactor.add("some-secret-value")
    assert len(redactor.redact(hostile)) <= len(hostile)


def test_a_thousand_secrets_cost_a_line_without_one_no_more_calls_than_ten() -> None:
    few, redactor = Redactor(), Redactor()
    for number in range(1000):
        redactor.add(f"secret-{number:04d}-" + "x" * 24)
        if number < 10:
            few.add(f"secret-{number:04d}-" + "x" * 24)
    line = "event=github/repository-webhook[acme/payments] url=https://api.github.com/repos/acme/payments/hooks/1 " * 3
    assert redactor.redact(line) == few.redact(line) == line
    assert calls_of(lambda: redactor.redact(line)) == calls_of(lambda: few.redact(line))
    assert redactor.redact("got secret-0999-" + "x" * 24) == "got ***"


def test_values_are_added_while_others_are_redacted() -> None:
    redactor, failed = Redactor(), []

    def work(first: int) -> None:
        for number in range(first, first + 100):
            value = f"value-of-{number:06d}"
            redactor.add(value)
            if redactor.redact(f"x {value}") != "x ***":
                failed.append(value)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 800, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
