"""Trying credentials and finding repositories, against the simulator."""

import pytest

from reconciler.drivers.github.driver import driver
from reconciler.model.errors import ValidationFailed
from tests.github.conftest import TOKEN, source
from tests.support.sandbox import client

MATCH = {"type": "repository", "match": "svc-*"}


async def test_a_classic_token_tells_who_it_is_what_it_may_and_when_it_ends(connection, github):
    github.admin.put_state(
        {"tokens": {"ghp_short": {"login": "robot", "scopes": ["repo"], "expires_at": "2026-02-06 07:42:23 +0100"}}}
    )
    github.admin.settings(rate_limits=True)
    async with client(driver, connection, "ghp_short") as api:
        report = await driver.check(api, {"webhooks": "write", "organization_hooks": "write"})
    assert (report.valid, report.identity, report.granted) == (True, "robot", ("repo",))
    assert report.expires_at == "2026-02-06T06:42:23Z"
    assert report.missing == ("organization_hooks: write (scope admin:org_hook)",)
    assert report.rate["limit"] == 5000
    assert len(github.admin.requests()) == 1


async def test_an_installation_token_is_tried_where_it_may_be(connection, github):
    github.admin.put_state({"tokens": {"ghs_x": {"kind": "installation", "permissions": {"webhooks": "write"}}}})
    async with client(driver, connection, "ghs_x") as api:
        report = await driver.check(api, {"webhooks": "write"})
    assert report.valid
    assert "installation" in report.identity
    assert report.missing == ()


@pytest.mark.parametrize("kind", ["classic", "installation"])
async def test_a_pattern_finds_what_the_credential_sees_on_every_page(connection, github, kind):
    repos = {f"acme/svc-{n:03}": {} for n in range(230)} | {"acme/svc-old": {"archived": True}, "other/svc-1": {}}
    tokens = {
        "t": {
            "kind": kind,
            "scopes": ["repo"],
            "permissions": {"webhooks": "write"},
            "repos": ["acme/svc-1*", "acme/svc-old", "other/*"],
        }
    }
    github.admin.put_state({"repos": repos, "tokens": tokens})
    async with client(driver, connection, "t") as api:
        facts = await driver.resolve(api, source(resource=MATCH))
    assert facts == {"repositories": [f"acme/svc-{n}" for n in range(100, 200)]}


@pytest.mark.parametrize("kind", ["classic", "installation"])
async def test_a_users_repositories_are_found_though_there_is_no_such_organization(connection, github, kind):
    tokens = {"t": {"kind": kind, "login": "anna", "scopes": ["repo"]}}
    github.admin.put_state({"orgs": {"acme": None}, "repos": {"acme/svc-1": {}, "other/svc-2": {}}, "tokens": tokens})
    async with client(driver, connection, "t") as api:
        assert await driver.resolve(api, source(resource=MATCH)) == {"repositories": ["acme/svc-1"]}


async def test_a_pattern_that_finds_nothing_is_an_error_that_says_so(api):
    with pytest.raises(ValidationFailed, match="svc-"):
        await driver.resolve(api, source(resource=MATCH))


async def test_more_repositories_than_the_bound_are_refused(api, github):
    github.admin.put_state({"repos": {f"acme/svc-{n:05}": {} for n in range(5_001)}})
    with pytest.raises(ValidationFailed, match="5000"):
        await driver.resolve(api, source(resource=MATCH))


async def test_a_source_that_names_its_repository_needs_no_reading(api, github):
    assert await driver.resolve(api, source()) == {}
    assert github.admin.requests() == []


async def test_a_read_only_session_writes_nothing(connection, github, write):
    async with client(driver, connection, TOKEN, read_only=True) as api:
        with pytest.raises(Exception, match="read-only"):
            await driver.types["github/repository-webhook"].create(api, write())
    assert github.admin.requests() == []
