"""What drivers share: credentials, signatures, targets, markers and log cursors."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any

import msgspec
import pytest

from reconciler.drivers.auth import AuthRequest
from reconciler.drivers.common import (
    PARALLEL_READS,
    PassApi,
    declared,
    decode_write,
    derived_key,
    did_you_mean,
    once,
    only_shown,
    read_each,
    target_of,
)
from reconciler.drivers.connection import CompileContext, Connection
from reconciler.drivers.execution import LogCursor
from reconciler.drivers.http.errors import Response
from reconciler.drivers.provider import SecretHeader, TokenAuthenticator
from reconciler.drivers.semaphore.driver import driver
from reconciler.model.errors import OutcomeUnknown, ProviderUnavailable
from reconciler.model.objects import Marker, Scope, address_of
from reconciler.model.resources import ResourceId, SecretRef
from reconciler.model.secrets import SecretValue
from reconciler.model.values import Fingerprint
from tests.support.driving import Canned, resource


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (SecretHeader(), {"authorization": "Bearer s3cret"}),
        (SecretHeader("Token"), {"authorization": "Token s3cret"}),
        (SecretHeader(username="ada"), {"authorization": "Basic YWRhOnMzY3JldA=="}),
        (SecretHeader(extra={"accept": "x"}), {"accept": "x", "authorization": "Bearer s3cret"}),
    ],
)
async def test_a_secret_is_sent_as_its_header_says(header: SecretHeader, expected: dict[str, str]) -> None:
    headers: dict[str, str] = {}
    authenticator = TokenAuthenticator(SecretRef("default", "s", "k"), lambda _ref: SecretValue("s3cret"), header)
    await authenticator.authorize(AuthRequest("GET", "https://api.example", headers))
    assert headers == expected


async def test_a_token_is_read_for_each_request_and_a_refresh_counts_only_if_it_changed() -> None:
    values = iter(["a", "a", "a", "b", "b"])
    authenticator = TokenAuthenticator(SecretRef("default", "s", "k"), lambda _ref: SecretValue(next(values)), SecretHeader())
    for _ in range(2):
        await authenticator.authorize(AuthRequest("GET", "https://api.example", {}))
    assert [await authenticator.refresh(), await authenticator.refresh()] == [False, True]
    headers: dict[str, str] = {}
    await authenticator.authorize(AuthRequest("GET", "https://api.example", headers))
    assert headers == {"authorization": "Bearer b"}


@pytest.mark.parametrize(
    ("given", "names", "match"),
    [({"name": "a"}, ("a",), ""), ({"names": ["a", "b"]}, ("a", "b"), ""), ({"match": "a*"}, (), "a*"), ({}, (), "")],
)
def test_a_target_is_names_or_a_pattern(given: dict[str, Any], names: tuple[str, ...], match: str) -> None:
    target = target_of(resource("EventSource", "x", {"resource": given}), "project")
    assert (target.type, target.names, target.match) == ("project", names, match)


CONTEXT = CompileContext(
    "team",
    "https://r.example",
    "k",
    Connection(ResourceId("Integration", "default", "x"), "x", "", "", "", {}),
    {},
    lambda address, pointer, ref: Fingerprint(f"{address}|{pointer}|{ref}"),
)


def test_what_a_source_declares_has_its_address_marker_and_key() -> None:
    source = resource("EventSource", "x", {"keyRotation": 2})
    uid, scope = source.id.uid("team"), Scope("x/hook", "acme")
    key = derived_key(source, CONTEXT)
    assert (key.uid, key.rotation) == (uid, 2)
    row = declared(source, CONTEXT, scope, {"a": 1}, "natural", secrets={"/key": key})
    assert (row.address, row.resource, row.scope, row.attributes) == (address_of(source.id, scope), source.id, scope, {"a": 1})
    assert (row.natural_key, row.marker, row.integration) == ("natural", Marker("team", uid), CONTEXT.connection.integration)
    assert [(secret.pointer, secret.fingerprint) for secret in row.write_only] == [("/key", f"{row.address}|/key|{key}")]
    assert (row.previous, row.previous_marker, row.depends_on) == (None, None, ())


def test_what_was_renamed_also_has_its_former_address_and_marker() -> None:
    source = resource("EventSource", "x", {})
    lifecycle = msgspec.structs.replace(source.lifecycle, moved_from="y")
    scope, before = Scope("x/hook", "acme"), ResourceId("EventSource", source.id.canvas, "y")
    row = declared(dataclasses.replace(source, lifecycle=lifecycle), CONTEXT, scope, {}, "n")
    assert (row.lifecycle, row.write_only) == (lifecycle, ())
    assert (row.previous, row.previous_marker) == (address_of(before, scope), Marker("team", before.uid("team")))


def test_only_a_close_name_is_suggested() -> None:
    assert did_you_mean("paymets", ["web", "payments"]) == "Did you mean 'payments'? "
    assert did_you_mean("zzz", ["web"]) == ""


def test_a_field_that_an_answer_leaves_out_is_unknown_and_a_null_one_is_known() -> None:
    assert only_shown({"a": 1, "b": {"c": "", "d": 2}}, {"b": {"c": None}}) == {"b": {"c": ""}}


def test_a_log_cursor_returns_each_line_once_and_ends() -> None:
    cursor = LogCursor("")
    assert list(cursor.take("j", ["a", "b"], ended=False)) == ["a", "b"]
    cursor = LogCursor(str(cursor))
    assert list(cursor.take("j", ["a"], ended=False)) == []  # a shorter log moves nothing back
    assert list(cursor.take("j", ["a", "b", "c"], ended=True)) == ["c"]
    assert (json.loads(str(cursor)), LogCursor(str(cursor)).is_complete("j"), cursor.is_complete("k")) == (
        {"j": None},
        True,
        False,
    )


@pytest.mark.parametrize("text", ["", "x", "[]", "1", '{"1": -5}', '{"1": [2, 0]}', '{"1": "2"}'])
def test_a_text_that_is_no_cursor_starts_from_the_beginning(text: str) -> None:
    assert str(LogCursor(text)) == "{}"


class _Created(msgspec.Struct):
    id: int


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"id": "7"}', b"<html>"])
def test_d15_an_answer_to_a_write_that_cannot_be_read_leaves_the_outcome_unknown(body: bytes) -> None:
    with pytest.raises(OutcomeUnknown):
        decode_write(Response(201, {}, body, "POST /x"), _Created, "POST /x")
    assert decode_write(Response(201, {}, b'{"id": 7, "new": 1}', "POST /x"), _Created, "POST /x").id == 7


async def test_many_reads_run_in_parallel_up_to_the_bound_and_keep_their_order() -> None:
    running = most = 0

    async def read(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return -number

    assert await read_each(range(50), read) == [-number for number in range(50)]
    assert most == PARALLEL_READS


async def test_a_read_that_resources_share_is_made_once_in_a_pass_even_if_it_fails() -> None:
    calls: list[str] = []

    async def names() -> list[str]:
        calls.append("names")
        return ["web"]

    async def failing() -> list[str]:
        calls.append("failing")
        raise ProviderUnavailable("away")

    bare = Canned(driver, [])
    api = PassApi(bare)
    assert await asyncio.gather(*(once(api, "names", names) for _ in range(3))) == [["web"]] * 3
    assert await once(api, "names", names) == ["web"]
    for _ in range(2):
        with pytest.raises(ProviderUnavailable):
            await once(api, "failing", failing)
    assert calls == ["names", "failing"]
    assert await once(bare, "names", names) == ["web"]
    assert calls == ["names", "failing", "names"]
