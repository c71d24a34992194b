"""New Relic through the real program: user keys in their region, licence keys, and what each failure is called."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.drivers.registry import DRIVERS
from reconciler.model.errors import ValidationFailed
from tests.support.credentials import OneCredential
from tests.support.driving import resource


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OneCredential]:
    made = OneCredential(tmp_path, "newrelic")
    yield made
    made.close()


def test_a_user_key_says_whose_it_is_and_what_it_reaches(world: OneCredential) -> None:
    world.declare("  accountId: 4711")
    assert world.once() == 0
    assert world.row["identity"] == "ops@example.com (accounts 4711 Production)"
    assert sorted(world.row["unknown"]) == ["expiresAt", "granted", "missing"]
    assert world.credential["status"] == "True"
    assert {(row["method"], row["path"]) for row in world.requests("newrelic")} == {("POST", "/graphql")}
    assert "acts as ops@example.com" in world.cli("doctor").stdout  # a read-only session may ask, too


def test_an_account_that_the_key_does_not_reach_is_missing(world: OneCredential) -> None:
    world.declare("  accountId: 99")
    assert world.once() == 0
    assert world.row["missing"] == ["account 99"]
    assert world.credential["reason"] == "PermissionMissing"


def test_a_key_of_another_region_is_refused_with_the_regions_to_try(world: OneCredential) -> None:
    world.admin.settings(region="eu")
    assert world.once() == 6
    assert world.credential["reason"] == "Refused"
    assert "or belongs to another region" in world.credential["message"]
    assert "spec.region" in world.credential["message"]


def test_a_licence_key_is_not_sent(world: OneCredential) -> None:
    world.use("0123456789abcdef0123456789abcdef0123NRAL")
    assert world.once() == 6
    assert "NRAK-" in world.credential["message"]
    assert not world.requests("newrelic")


@pytest.mark.parametrize(
    ("settings", "fault", "status", "text"),
    [
        ({"error_class": "TOO_MANY_REQUESTS"}, None, "Unknown", "TOO_MANY_REQUESTS"),
        ({"error_class": "INTERNAL_SERVER_ERROR"}, None, "Unknown", "INTERNAL_SERVER_ERROR"),
        ({"error_class": "ACCESS_DENIED"}, None, "Unknown", "ACCESS_DENIED"),
        ({"error_class": "BAD_USER_INPUT"}, None, "Unknown", "BAD_USER_INPUT"),
        ({}, {"status": 403, "body": {"errors": []}}, "Unknown", "not permitted (403)"),
        ({}, {"status": 404, "body": "no"}, "Unknown", "not found (404)"),
        ({}, {"status": 429, "body": "slow", "headers": {"retry-after": "60"}}, "Unknown", "rate limit (429)"),
        ({}, {"status": 503, "body": "down", "headers": {"retry-after": "60"}}, "Unknown", "the provider failed (503)"),
        ({}, {"status": 200, "body": "<html>sign in</html>"}, "Unknown", "an HTML page"),
        ({}, {"status": 200, "body": {"data": None}}, "Unknown", "neither a user nor errors"),
    ],
)
def test_each_failure_has_its_own_condition(
    world: OneCredential, settings: dict[str, Any], fault: dict[str, Any] | None, status: str, text: str
) -> None:
    if settings:
        world.admin.settings(**settings)
    if fault is not None:
        world.admin.fault(times=0, **fault)
    world.once()
    assert world.credential["status"] == status
    assert text in world.credential["message"]
    assert world.condition("Integration", "newrelic")["status"] == "False"  # type: ignore[index]


@pytest.mark.parametrize(
    ("fields", "api"),
    [
        ({}, "https://api.newrelic.com"),
        ({"region": "EU"}, "https://api.eu.newrelic.com"),
        ({"url": "https://one.eu.newrelic.com"}, "https://api.eu.newrelic.com"),
        ({"region": "jp", "url": "https://one.jp.newrelic.com"}, "https://api.jp.newrelic.com"),
        ({"region": "eu", "apiUrl": "https://proxy.example.com"}, "https://proxy.example.com"),
    ],
)
def test_the_region_selects_the_host(fields: dict[str, str], api: str) -> None:
    declared = resource("Integration", "newrelic", {"type": "newrelic", "auth": {"use": "token"}, **fields})
    assert DRIVERS["newrelic"].connect(declared, {}).api_url == api


@pytest.mark.parametrize("fields", [{"region": "mars"}, {"region": "eu", "url": "https://one.newrelic.com"}])
def test_a_wrong_region_is_an_error(fields: dict[str, str]) -> None:
    declared = resource("Integration", "newrelic", {"type": "newrelic", "auth": {"use": "token"}, **fields})
    with pytest.raises(ValidationFailed):
        DRIVERS["newrelic"].connect(declared, {})
