"""What `reconciler.drivers.base.ManagedType` promises, over HTTP and for every managed type of every provider."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import pytest

from reconciler.drivers.base import ManagedType, Write
from reconciler.model.errors import (
    AuthFailed,
    Conflict,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    ProviderProtocolError,
    RateLimited,
    ScopeGone,
    ValidationFailed,
)
from reconciler.model.objects import ManagedObject, NotModified, Observed, ObservedObject
from reconciler.sandbox.server import SandboxServer
from tests.contract.provider import Provider, named, shown, with_spec
from tests.support.driving import World

LOST: Mapping[str, Mapping[str, Any]] = {
    "reset": {"effect": "reset", "commit": True},
    "cut": {"effect": "truncate"},
    "unreadable": {"effect": "malformed", "commit": True},
    "a proxy's 502": {"status": 502, "body": "<html>", "commit": True},
}
"""Ways in which the answer to a write that was made is lost."""


@dataclasses.dataclass
class Subject:
    """One managed type at work."""

    world: World
    provider: Provider
    type_name: str

    @property
    def kind(self) -> ManagedType:
        return self.world.driver.types[self.type_name]

    async def desired(self, name: str = "", spec: Mapping[str, Any] | None = None) -> ManagedObject:
        resource = with_spec(self.provider.managed[self.type_name], spec or {})
        objects = await self.world.compile(named(resource, name) if name else resource)
        (match,) = [item for item in objects if item.type == self.type_name]
        return match

    def write(self, desired: ManagedObject, observed: ObservedObject | None = None) -> Write:
        secrets = {item.pointer: self.world.value(item.ref) for item in desired.write_only}
        return Write(desired, desired.attributes, secrets, observed=observed)

    async def create(self, name: str = "") -> ObservedObject:
        return await self.kind.create(self.world.api, self.write(await self.desired(name)))

    async def listed(self) -> dict[str, ObservedObject]:
        answer = await self.kind.observe(self.world.api, (await self.desired()).scope, None)
        assert isinstance(answer, Observed)
        assert len({item.external_id for item in answer.objects}) == len(answer.objects)
        return {item.external_id: item for item in answer.objects}


@pytest.fixture
def subject(world: World, provider: Provider, type_name: str) -> Subject:
    return Subject(world, provider, type_name)


def assert_shows(subject: Subject, observed: ObservedObject, desired: ManagedObject) -> None:
    hidden = {pointer.split("/")[1] for pointer in (*desired.unreadable, *(item.pointer for item in desired.write_only))}
    expected = {key: value for key, value in desired.attributes.items() if key not in hidden}
    normalized = subject.kind.normalize(observed.attributes)
    assert {key: normalized.get(key) for key in expected} == expected
    assert (observed.natural_key, observed.marker) == (desired.natural_key, desired.marker)
    assert subject.kind.normalize(normalized) == normalized


@pytest.mark.needs("create")
async def test_what_was_created_is_listed_as_it_is_desired(subject: Subject) -> None:
    assert await subject.listed() == {}
    desired = await subject.desired()
    created = await subject.kind.create(subject.world.api, subject.write(desired))
    rows = await subject.listed()
    assert list(rows) == [created.external_id]
    assert_shows(subject, rows[created.external_id], desired)


@pytest.mark.needs("secret")
async def test_no_secret_is_in_what_is_observed(subject: Subject) -> None:
    write = subject.write(await subject.desired())
    created = await subject.kind.create(subject.world.api, write)
    assert write.secrets
    for value in write.secrets.values():
        assert value.reveal() not in repr((created, await subject.listed()))


@pytest.mark.needs("pages")
async def test_d16_every_page_is_listed(subject: Subject, server: SandboxServer) -> None:
    server.admin.settings(page_size=2)
    created = {(await subject.create(f"source-{number}")).external_id for number in range(5)}
    server.admin.clear_requests()
    assert set(await subject.listed()) == created
    assert len(server.admin.requests(method="GET")) >= 3


@pytest.mark.needs("conditional")
async def test_an_unchanged_list_is_not_read_again_and_a_changed_one_is(subject: Subject) -> None:
    scope = (await subject.desired()).scope
    await subject.create()
    first = await subject.kind.observe(subject.world.api, scope, None)
    assert isinstance(first, Observed)
    assert isinstance(await subject.kind.observe(subject.world.api, scope, first.validators), NotModified)
    await subject.create("other")
    again = await subject.kind.observe(subject.world.api, scope, first.validators)
    assert isinstance(again, Observed)
    assert len(again.objects) == 2


@pytest.mark.needs("unique")
async def test_d10_a_duplicate_is_a_conflict_and_changes_nothing(subject: Subject) -> None:
    created = await subject.create()
    with pytest.raises(Conflict):
        await subject.create()
    assert list(await subject.listed()) == [created.external_id]


@pytest.mark.parametrize("fault", LOST)
@pytest.mark.needs("create")
async def test_d18_a_create_whose_answer_is_lost_has_an_unknown_outcome_and_is_found_again(
    subject: Subject, server: SandboxServer, fault: str
) -> None:
    desired = await subject.desired()
    server.admin.clear_requests()
    server.admin.fault(method="POST", **LOST[fault])
    with pytest.raises(OutcomeUnknown):
        await subject.kind.create(subject.world.api, subject.write(desired))
    assert len(server.admin.requests(method="POST")) == 1
    (found,) = (await subject.listed()).values()
    assert_shows(subject, found, desired)


@pytest.mark.needs("create")
async def test_d18_a_lost_answer_is_settled_without_a_second_object(subject: Subject, server: SandboxServer) -> None:
    resource = subject.provider.managed[subject.type_name]
    server.admin.fault(method="POST", effect="reset", commit=True)
    await subject.world.apply(resource)
    assert [type(error) for error in subject.world.errors.values()] == [OutcomeUnknown]
    await subject.world.settle(resource)
    assert len(await subject.listed()) == 1


@pytest.mark.parametrize("fault", [{"effect": "reset"}, {"status": 503, "body": {}}])
@pytest.mark.needs("create")
async def test_a_create_that_never_arrived_has_an_unknown_outcome_and_is_sent_once(
    subject: Subject, server: SandboxServer, fault: dict[str, Any]
) -> None:
    server.admin.fault(method="POST", **fault)
    with pytest.raises(OutcomeUnknown):
        await subject.create()
    assert len(server.admin.requests(method="POST")) == 1
    assert await subject.listed() == {}
    created = await subject.create()
    assert list(await subject.listed()) == [created.external_id]


@pytest.mark.needs("update")
async def test_d24_an_update_makes_it_as_desired(subject: Subject) -> None:
    created = await subject.create()
    desired = await subject.desired(spec=subject.provider.changes[subject.type_name])
    updated = await subject.kind.update(subject.world.api, created.external_id, subject.write(desired, created))
    assert updated.external_id == created.external_id
    rows = await subject.listed()
    assert list(rows) == [created.external_id]
    assert_shows(subject, rows[created.external_id], desired)


@pytest.mark.parametrize("fault", LOST)
@pytest.mark.needs("update")
async def test_an_update_whose_answer_is_lost_has_an_unknown_outcome_and_may_be_repeated(
    subject: Subject, server: SandboxServer, fault: str
) -> None:
    created = await subject.create()
    desired = await subject.desired(spec=subject.provider.changes[subject.type_name])
    server.admin.clear_requests()
    server.admin.fault(method="PATCH", **LOST[fault])
    with pytest.raises(OutcomeUnknown):
        await subject.kind.update(subject.world.api, created.external_id, subject.write(desired, created))
    assert len(server.admin.requests(method="PATCH")) == 1
    assert_shows(subject, (await subject.listed())[created.external_id], desired)
    await subject.kind.update(subject.world.api, created.external_id, subject.write(desired, created))
    assert list(await subject.listed()) == [created.external_id]


@pytest.mark.needs("update")
@pytest.mark.needs("delete")
async def test_d7_an_update_of_what_was_deleted_is_not_found_and_creates_nothing(subject: Subject) -> None:
    created = await subject.create()
    desired = await subject.desired()
    await subject.kind.delete(subject.world.api, desired.scope, created.external_id)
    with pytest.raises(NotFound) as caught:
        await subject.kind.update(subject.world.api, created.external_id, subject.write(desired, created))
    assert not isinstance(caught.value, ScopeGone)
    assert await subject.listed() == {}


@pytest.mark.needs("delete")
async def test_a_delete_takes_one_object_and_twice_is_success(subject: Subject) -> None:
    created, other = await subject.create(), await subject.create("other")
    scope = (await subject.desired()).scope
    await subject.kind.delete(subject.world.api, scope, created.external_id)
    assert list(await subject.listed()) == [other.external_id]
    await subject.kind.delete(subject.world.api, scope, created.external_id)
    assert list(await subject.listed()) == [other.external_id]


@pytest.mark.needs("delete")
async def test_a_delete_whose_answer_is_lost_is_repeated_with_success(subject: Subject, server: SandboxServer) -> None:
    created, scope = await subject.create(), (await subject.desired()).scope
    server.admin.fault(method="DELETE", effect="reset", commit=True)
    with pytest.raises(OutcomeUnknown):
        await subject.kind.delete(subject.world.api, scope, created.external_id)
    await subject.kind.delete(subject.world.api, scope, created.external_id)
    assert await subject.listed() == {}


@pytest.mark.needs("rights")
async def test_d2_a_write_without_the_right_names_the_right_and_changes_nothing(subject: Subject, server: SandboxServer) -> None:
    created, desired = await subject.create(), await subject.desired("other")
    server.admin.put_state(subject.provider.patch(subject.provider.read_only))
    server.admin.clear_requests()
    with pytest.raises(PermissionDenied) as caught:
        await subject.kind.create(subject.world.api, subject.write(desired))
    assert subject.provider.rights[subject.type_name] in shown(caught.value)
    assert len(server.admin.requests(method="POST")) == 1
    assert list(await subject.listed()) == [created.external_id]


@pytest.mark.needs("delete")
async def test_d8_a_delete_without_the_right_is_no_success(subject: Subject, server: SandboxServer) -> None:
    created, scope = await subject.create(), (await subject.desired()).scope
    server.admin.put_state(subject.provider.patch(subject.provider.read_only))
    with pytest.raises(PermissionDenied):
        await subject.kind.delete(subject.world.api, scope, created.external_id)
    assert list(await subject.listed()) == [created.external_id]


@pytest.mark.needs("create")
async def test_d11_a_refused_value_is_terminal_after_one_call(subject: Subject, server: SandboxServer) -> None:
    desired = await subject.desired()
    server.admin.fault(method="POST", status=422, body={"message": "no such thing", "errors": [{"message": "no such thing"}]})
    server.admin.clear_requests()
    with pytest.raises(ValidationFailed, match="no such thing"):
        await subject.kind.create(subject.world.api, subject.write(desired))
    assert len(server.admin.requests(method="POST")) == 1


@pytest.mark.needs("create")
async def test_d3_a_rate_limit_says_until_when_and_nothing_is_made(subject: Subject, server: SandboxServer) -> None:
    desired = await subject.desired()
    server.admin.fault(method="POST", status=429, headers={"retry-after": "90"}, body={})
    before = time.time()
    with pytest.raises(RateLimited) as caught:
        await subject.kind.create(subject.world.api, subject.write(desired))
    assert caught.value.retry_at is not None
    assert before + 60 < caught.value.retry_at < time.time() + 120
    sent = len(server.admin.requests())
    with pytest.raises(RateLimited):
        await subject.kind.create(subject.world.api, subject.write(desired))
    assert len(server.admin.requests()) == sent


@pytest.mark.needs("limits")
async def test_the_providers_own_limit_says_until_when(subject: Subject, server: SandboxServer) -> None:
    desired = await subject.desired()
    server.admin.settings(**subject.provider.limits)
    with pytest.raises(RateLimited) as caught:
        for _ in range(2):
            await subject.kind.create(subject.world.api, subject.write(desired))
            desired = await subject.desired("other")
    assert caught.value.retry_at is not None
    assert time.time() - 5 < caught.value.retry_at < time.time() + 3_700


@pytest.mark.needs("delete")
async def test_d8_a_scope_out_of_reach_is_no_empty_list_and_no_success(subject: Subject, server: SandboxServer) -> None:
    created, scope = await subject.create(), (await subject.desired()).scope
    subject.provider.hide(server, subject.type_name)
    with pytest.raises(ScopeGone):
        await subject.kind.observe(subject.world.api, scope, None)
    with pytest.raises(ScopeGone):
        await subject.kind.delete(subject.world.api, scope, created.external_id)


@pytest.mark.needs("rename")
async def test_a_renamed_container_keeps_its_id_and_what_is_in_it(subject: Subject, server: SandboxServer) -> None:
    created, scope = await subject.create(), (await subject.desired()).scope
    before = await subject.kind.container(subject.world.api, scope)
    assert before is not None
    assert (before.key, before.read_only) == (scope.key, "")
    key = subject.provider.renamed(server, scope.key)
    after = await subject.kind.container(subject.world.api, scope, before.id)
    assert after is not None
    assert (after.id, after.key) == (before.id, key)
    moved = await subject.kind.observe(subject.world.api, dataclasses.replace(scope, key=key), None)
    assert isinstance(moved, Observed)
    assert [item.external_id for item in moved.objects] == [created.external_id]


@pytest.mark.needs("rename")
async def test_a_former_name_is_followed_or_gone_and_never_empty(subject: Subject, server: SandboxServer) -> None:
    created, scope = await subject.create(), (await subject.desired()).scope
    key = subject.provider.renamed(server, scope.key)
    if "redirect" in subject.provider.lacks:
        with pytest.raises(ScopeGone):
            await subject.kind.observe(subject.world.api, scope, None)
        return
    answer = await subject.kind.observe(subject.world.api, scope, None)
    assert isinstance(answer, Observed)
    assert (answer.scope, answer.redirected_to) == (scope, key)
    assert [item.external_id for item in answer.objects] == [created.external_id]


@pytest.mark.parametrize("body", [None, [], {}, "text", [1], {"error": "x"}])
async def test_d15_a_list_of_another_shape_is_an_error_or_empty_by_its_own_shape(
    subject: Subject, server: SandboxServer, body: Any
) -> None:
    created, scope = await subject.create(), (await subject.desired()).scope
    server.admin.fault(method="GET", times=0, status=200, body=body)
    try:
        answer = await subject.kind.observe(subject.world.api, scope, None)
    except ProviderProtocolError:
        return
    assert isinstance(answer, Observed)
    assert answer.objects == ()
    assert body == subject.provider.empty
    assert created.external_id


async def test_d15_a_list_that_is_no_json_is_a_protocol_error(subject: Subject, server: SandboxServer) -> None:
    scope = (await subject.desired()).scope
    server.admin.fault(method="GET", times=0, effect="malformed")
    with pytest.raises(ProviderProtocolError):
        await subject.kind.observe(subject.world.api, scope, None)


async def test_d1_a_refused_credential_is_known_after_one_call_and_read_again(subject: Subject, server: SandboxServer) -> None:
    scope = (await subject.desired()).scope
    subject.provider.refuse(server)
    server.admin.clear_requests()
    with pytest.raises(AuthFailed):
        await subject.kind.observe(subject.world.api, scope, None)
    assert len(server.admin.requests()) == 1


async def test_an_id_that_would_bend_a_path_reaches_nothing_else(subject: Subject, server: SandboxServer) -> None:
    created, desired = await subject.create(), await subject.desired()
    server.admin.clear_requests()
    for invalid in ("../../user", f"{created.external_id}?x=2", ".."):
        with contextlib.suppress(NotFound, ValidationFailed):
            await subject.kind.delete(subject.world.api, desired.scope, invalid)  # type: ignore[arg-type]
    assert list(await subject.listed()) == [created.external_id]
