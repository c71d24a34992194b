"""GitLab through the real program: personal, project and group tokens, and what each refusal is called."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.credentials import OneCredential


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OneCredential]:
    made = OneCredential(tmp_path, "gitlab")
    yield made
    made.close()


def token(world: OneCredential, **fields: Any) -> None:
    world.admin.put_state({"tokens": {world.token: fields}})


@pytest.mark.parametrize(
    ("username", "identity"),
    [
        ("ada", "ada (token 'ci')"),
        ("project_12_bot_0a1b2c", "token 'ci' of project 12 (project_12_bot_0a1b2c)"),
        ("group_9_bot_ffee", "token 'ci' of group 9 (group_9_bot_ffee)"),
        ("project_12_bot1", "token 'ci' of project 12 (project_12_bot1)"),
    ],
)
def test_personal_project_and_group_tokens_say_whose_they_are(world: OneCredential, username: str, identity: str) -> None:
    token(world, expires_at="2099-01-31")
    world.admin.put_state({"users": {"7": {"username": username}}})
    assert world.once() == 0
    assert world.row["identity"] == identity
    assert world.row["expiresAt"] == "2099-01-31T00:00:00Z"
    assert world.row["granted"] == ["api"]
    assert world.row["unknown"] == {}
    assert not world.writes("gitlab")  # never rotated


def test_a_token_that_may_not_read_its_user_is_known_by_its_name(world: OneCredential) -> None:
    token(world, scopes=["read_repository"])
    assert world.once() == 0
    assert world.row["identity"] == "token 'ci' of user 7"
    assert world.row["unknown"] == {"expiresAt": "the token has no end date"}


def test_missing_scopes_are_named(world: OneCredential) -> None:
    token(world, scopes=["read_api", "read_repository"])
    world.declare("  permissions: {webhooks: write, contents: write, issues: read}")
    assert world.once() == 0
    assert world.row["missing"] == ["api", "write_repository"]
    assert world.credential["reason"] == "PermissionMissing"


def test_an_installation_before_15_5_is_valid_and_the_rest_is_unknown(world: OneCredential) -> None:
    world.admin.settings(token_page=False)
    assert world.once() == 0
    assert (world.row["identity"], sorted(world.row["unknown"])) == ("ops", ["expiresAt", "granted", "missing"])


@pytest.mark.parametrize(
    ("state", "fault", "status", "reason", "text"),
    [
        ({"revoked": True}, None, "False", "Refused", "wrong, expired or revoked"),
        ({"expires_at": "2020-01-01"}, None, "False", "Refused", "wrong, expired or revoked"),
        ({"active": False}, None, "False", "Refused", "is not active"),
        ({}, {"status": 403, "body": {"message": "403 Forbidden"}}, "Unknown", "NotChecked", "not permitted (403)"),
        ({}, {"status": 404, "body": {"message": "404 Not Found"}}, "Unknown", "NotChecked", "not found (404)"),
        (
            {},
            {"status": 429, "body": "Retry later", "headers": {"retry-after": "30"}},
            "Unknown",
            "NotChecked",
            "rate limit (429)",
        ),
        (
            {},
            {"status": 503, "body": "x", "headers": {"retry-after": "30"}},
            "Unknown",
            "NotChecked",
            "the provider failed (503)",
        ),
        (
            {},
            {"status": 200, "body": "<html>sign in</html>", "headers": {"content-type": "text/html"}},
            "Unknown",
            "NotChecked",
            "an HTML page",
        ),
    ],
)
def test_each_refusal_has_its_own_condition(
    world: OneCredential, state: dict[str, Any], fault: dict[str, Any] | None, status: str, reason: str, text: str
) -> None:
    token(world, **state)
    if fault is not None:
        world.admin.fault(times=0, **fault)
    world.once()
    shown = world.credential
    assert (shown["status"], shown["reason"]) == (status, reason)
    assert text in shown["message"]
    assert len(world.requests("gitlab")) <= 3
