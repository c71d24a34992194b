"""What `reconciler.drivers.base.Reporter` promises, for every provider that is a code host."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler.drivers.base import Reporter
from reconciler.model.errors import NotFound, OutcomeUnknown, PermissionDenied
from reconciler.model.executions import DeploymentRequest, ReportKind, StatusReport
from reconciler.sandbox.server import SandboxServer
from tests.contract.provider import Provider
from tests.support.driving import World

MARKER = "itm-" + "a" * 24
REPOSITORY = "acme/web"
REQUEST = DeploymentRequest(REPOSITORY, "main", "live", MARKER, description="Deploy web")

pytestmark = pytest.mark.needs("reporter")


@pytest.fixture
def reporter(provider: Provider) -> Reporter:
    assert provider.driver.reporter is not None
    return provider.driver.reporter


@pytest.fixture(params=ReportKind)
async def status(request: pytest.FixtureRequest, world: World, reporter: Reporter) -> StatusReport:
    kind: ReportKind = request.param
    if kind is ReportKind.COMMIT:
        target, state = await reporter.commit(world.api, REPOSITORY, "main"), "pending"
    else:
        target, state = await reporter.deployment(world.api, REQUEST), "in_progress"
    return StatusReport(kind, REPOSITORY, target, state, f"web: {state} ({MARKER})", MARKER, context="deploy/live")


def posts(server: SandboxServer, what: str) -> int:
    return len(server.admin.requests(method="POST", path=what))


async def test_a7_a_status_is_written_once(world: World, reporter: Reporter, server: SandboxServer, status: StatusReport) -> None:
    assert await reporter.report(world.api, status)
    assert not await reporter.report(world.api, status)
    assert posts(server, "statuses") == 1
    text = status.description.replace(status.state, "success")
    assert await reporter.report(world.api, dataclasses.replace(status, state="success", description=text))
    assert posts(server, "statuses") == 2


@pytest.mark.parametrize("effect", ["reset", "truncate"])
async def test_a7_a_status_whose_answer_is_lost_is_not_written_again(
    world: World, reporter: Reporter, server: SandboxServer, status: StatusReport, effect: str
) -> None:
    server.admin.fault(method="POST", path="statuses", effect=effect, commit=True)
    with pytest.raises(OutcomeUnknown):
        await reporter.report(world.api, status)
    assert not await reporter.report(world.api, status)
    assert posts(server, "statuses") == 1


async def test_a7_a_status_that_never_arrived_is_written(
    world: World, reporter: Reporter, server: SandboxServer, status: StatusReport
) -> None:
    server.admin.fault(method="POST", path="statuses", effect="reset")
    with pytest.raises(OutcomeUnknown):
        await reporter.report(world.api, status)
    assert await reporter.report(world.api, status)


async def test_a7_a_status_is_found_behind_many_of_others(
    world: World, reporter: Reporter, server: SandboxServer, status: StatusReport
) -> None:
    assert await reporter.report(world.api, status)
    for number in range(5):
        other = f"itm-{number:024}"
        await reporter.report(
            world.api, dataclasses.replace(status, marker=other, description=status.description.replace(MARKER, other))
        )
    server.admin.settings(page_size=2)
    assert not await reporter.report(world.api, status)


async def test_a7_a_deployment_is_made_once(world: World, reporter: Reporter) -> None:
    first = await reporter.deployment(world.api, REQUEST)
    assert await reporter.deployment(world.api, REQUEST) == first
    assert await reporter.deployment(world.api, dataclasses.replace(REQUEST, marker="itm-" + "b" * 24)) != first


async def test_a7_a_deployment_whose_answer_is_lost_is_found_again_behind_others(
    world: World, reporter: Reporter, server: SandboxServer
) -> None:
    server.admin.fault(method="POST", path="deployments", effect="reset", commit=True)
    with pytest.raises(OutcomeUnknown):
        await reporter.deployment(world.api, REQUEST)
    for number in range(5):
        await reporter.deployment(world.api, dataclasses.replace(REQUEST, marker=f"itm-{number:024}"))
    server.admin.settings(page_size=2)
    made = posts(server, "deployments")
    assert await reporter.deployment(world.api, REQUEST)
    assert posts(server, "deployments") == made


async def test_a_ref_leads_to_a_commit_and_one_that_is_not_there_to_none(world: World, reporter: Reporter) -> None:
    assert len(await reporter.commit(world.api, REPOSITORY, "main")) == 40
    with pytest.raises(NotFound):
        await reporter.commit(world.api, REPOSITORY, "nowhere")


async def test_a_missing_right_is_a_typed_error(
    world: World, reporter: Reporter, provider: Provider, server: SandboxServer, status: StatusReport
) -> None:
    server.admin.put_state(provider.patch(provider.read_only))
    with pytest.raises(PermissionDenied):
        await reporter.report(world.api, status)
