"""What the authenticator and `reconciler.drivers.base.Driver.check` promise, for every provider that has credentials."""

from __future__ import annotations

import pytest

from reconciler.model.errors import AuthFailed
from reconciler.sandbox.server import SandboxServer
from tests.contract.provider import Provider
from tests.support.driving import World

pytestmark = pytest.mark.needs("credential")


async def test_a_valid_credential_says_whose_it_is_and_that_nothing_is_missing(world: World, provider: Provider) -> None:
    needs = {name: value for resource in provider.managed.values() for name, value in provider.driver.needs(resource).items()}
    assert bool(needs) is bool(provider.managed)
    report = await provider.driver.check(world.api, needs)
    assert (report.valid, report.missing) == (True, ())
    assert report.identity
    assert provider.token not in repr(report)


async def test_d1_a_refused_credential_is_an_error_and_no_report(world: World, provider: Provider, server: SandboxServer) -> None:
    world.values["credentials/token"] = "nonsense"
    with pytest.raises(AuthFailed) as caught:
        await provider.driver.check(world.api, {})
    assert "nonsense" not in str(caught.value)


async def test_d1_a_credential_that_was_replaced_is_used_at_once(world: World, provider: Provider, server: SandboxServer) -> None:
    fresh = "fresh-token"
    await provider.driver.check(world.api, {})
    provider.replace(server, fresh)
    world.values["credentials/token"] = fresh
    server.admin.clear_requests()
    assert (await provider.driver.check(world.api, {})).valid
    statuses = [row["status"] for row in server.admin.requests()]
    assert statuses
    assert {401, 403}.isdisjoint(statuses)  # the secret is read for every request, so nothing is sent with the old one


@pytest.mark.needs("check")
async def test_missing_rights_are_listed_by_the_check(world: World, provider: Provider, server: SandboxServer) -> None:
    server.admin.put_state(provider.patch(provider.read_only))
    needs = {name: value for resource in provider.managed.values() for name, value in provider.driver.needs(resource).items()}
    report = await provider.driver.check(world.api, needs)
    assert report.valid
    assert report.missing
