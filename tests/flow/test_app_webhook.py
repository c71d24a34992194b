"""The one webhook of an App: verified, routed by installation and repository, stored once for each source that asks for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from reconciler.events.endpoints import endpoints
from reconciler.model.events import Event
from reconciler.model.resources import ResourceId
from tests.engine.world import OWNER
from tests.flow.app_deliveries import CLIENT, PEM, app_uid, delivery, derived_key, integration, push, source
from tests.flow.inside import Inside, inside

pytestmark = pytest.mark.anyio

WEB = "{type: repository, name: web}"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def declare(within: Inside, *documents: str) -> None:
    within.world.write("app.yaml", "\n---\n".join((PEM, *documents)))


async def deliver(within: Inside, payload: Any, event: str = "push", *, guid: str = "", key: str = "", uid: str = "") -> int:
    headers, body = delivery(payload, key or derived_key(within.deps.keyring), event, guid)
    return await within.working.apps.receive(OWNER, uid or app_uid(), within.deps.keyring.key_id, headers, body)


async def stored(within: Inside) -> list[Event]:
    return list(reversed(await within.deps.store.events(limit=5000)))


async def reached(within: Inside) -> list[str]:
    return sorted(event.source.name for event in await stored(within) if event.source.kind == "EventSource")


async def test_a_thousand_repositories_share_one_webhook_and_an_event_reaches_exactly_its_sources(tmp_path: Path) -> None:
    async with inside(tmp_path) as within:
        names = [f"svc-{number:04}" for number in range(1000)]
        rules = (source("all-of-07", '{type: repository, match: "svc-07*"}'), source("whole", "{type: organization, name: ACME}"))
        declare(within, integration("acme", "acme"), *rules)
        sources = [source(name, f"{{type: repository, name: {name}}}") for name in names]
        within.world.write("sources.yaml", "\n---\n".join(sources))
        await within.sync()
        assert not [problem for problem in within.engine.current.active.problems if problem.is_error]
        assert list(within.working.apps.endpoints()) == [app_uid()]
        began = time.monotonic()
        for number in (0, 7, 712, 999):
            assert await deliver(within, push(f"Acme/SVC-{number:04}", 5000 + number)) == 202
        assert time.monotonic() - began < 5
        assert await reached(within) == sorted(["svc-0000", "svc-0007", "svc-0712", "all-of-07", "svc-0999", *["whole"] * 4])


async def test_what_no_source_asks_for_is_counted_and_not_stored(tmp_path: Path) -> None:
    async with inside(tmp_path) as within:
        declare(within, integration("acme", "acme"), source("web", WEB), source("any", WEB, events="[{type: '*'}]"))
        await within.sync()
        assert await deliver(within, push("acme/other", 2)) == 202
        assert await stored(within) == []
        assert within.working.intake.counts["not-asked-for"] == 1
        assert await deliver(within, push("acme/web", 1), "create") == 202
        assert await reached(within) == ["any"]


async def test_integrations_of_several_accounts_share_an_app_and_get_only_their_own_events(tmp_path: Path) -> None:
    async with inside(tmp_path) as within:
        declare(
            within,
            integration("acme", "acme"),
            integration("Initech".lower(), "Initech"),
            source("web", WEB),
            source("other", WEB, "initech"),
        )
        await within.sync()
        await deliver(within, push("acme/web", 1, installation=1))
        assert await reached(within) == ["web"]
        await deliver(within, push("INITECH/Web", 2, installation=2))
        assert await reached(within) == ["other", "web"]


async def test_an_installation_that_nobody_declares_is_kept_with_the_reason_and_routed_by_replay(tmp_path: Path) -> None:
    from reconciler.events.requests import ReplayRequest
    from reconciler.model.errors import ReconcilerError

    async with inside(tmp_path) as within:
        declare(within, integration("acme", "acme"), source("web", WEB))
        await within.sync()
        assert await deliver(within, push("evil/web", 9, installation=66)) == 202
        (event,) = await stored(within)
        assert (event.source, event.state, event.reason) == (ResourceId("Integration", "default", "acme"), "rejected", "unrouted")
        assert "installation 66 on evil belongs to no Integration" in event.message
        with pytest.raises(ReconcilerError) as refused:
            await within.working.commands.replay(ReplayRequest(id=event.id), "ada")
        assert refused.value.code == "RC4041"
        declare(
            within, integration("acme", "acme"), integration("evil", "evil"), source("web", WEB), source("theirs", WEB, "evil")
        )
        await within.sync()
        await within.working.commands.replay(ReplayRequest(id=event.id), "ada")
        assert await reached(within) == ["theirs"]
        await within.turn(1)
        assert {event.state.value for event in await stored(within) if event.source.kind == "EventSource"} == {"processed"}


async def test_strangers_who_install_the_app_cannot_fill_the_inbox(tmp_path: Path) -> None:
    async with inside(tmp_path) as within:
        declare(within, integration("acme", "acme"), source("web", WEB))
        await within.sync()
        looked: list[tuple[ResourceId, ...]] = []

        async def look(integrations: tuple[ResourceId, ...]) -> None:
            looked.append(integrations)

        await deliver(within, push("acme/other", 2))
        within.working.apps._on_reach = look
        gone = {"action": "deleted", "installation": {"id": 66, "account": {"login": "evil"}}}
        assert await deliver(within, gone, "installation") == 202
        assert looked == []
        for number in range(149):
            assert await deliver(within, push("evil/web", 9, installation=66, sha=f"{number:040}")) == 202
        assert len(await stored(within)) == 100
        assert within.working.intake.counts["unrouted"] == 150
        assert await deliver(within, push("acme/web", 1)) == 202
        within.later(61)
        await deliver(within, push("evil/web", 9, installation=66))
        assert len(await stored(within)) == 102


async def test_what_another_process_learned_of_a_repository_counts_at_once(tmp_path: Path) -> None:
    async with inside(tmp_path) as within:
        declare(within, integration("acme", "acme"), source("web", WEB))
        await within.sync()
        await deliver(within, push("acme/other", 3))
        first = within.working.apps
        within.restarted()
        change = {"repository": {"name": {"from": "web"}}}
        await deliver(within, push("acme/site", 17, action="renamed", changes=change), "repository")
        headers, body = delivery(push("acme/site", 17), derived_key(within.deps.keyring))
        assert await first.receive(OWNER, app_uid(), "", headers, body) == 202
        assert await reached(within) == ["web"]


async def test_a_pinned_installation_gets_events_of_that_installation_only(tmp_path: Path) -> None:
    async with inside(tmp_path) as within:
        declare(within, integration("acme", "acme", ", installationId: 41"), source("web", WEB))
        await within.sync()
        await deliver(within, push("acme/web", 1, installation=40))
        assert await reached(within) == []
        await deliver(within, push("acme/web", 1, installation=41))
        assert await reached(within) == ["web"]


@pytest.mark.parametrize("change", [{"repository": {"name": {"from": "web"}}}, {"owner": {"from": {"user": {"login": "Acme"}}}}])
async def test_a_repository_that_was_renamed_or_transferred_is_known_by_its_id(tmp_path: Path, change: Mapping[str, Any]) -> None:
    """Also after a restart, and also where the first that is heard of it is the change itself."""
    async with inside(tmp_path) as within:
        declare(within, integration("acme", "acme"), integration("initech", "initech"), source("web", WEB))
        await within.sync()
        place = "acme/site" if "repository" in change else "initech/web"
        action = "renamed" if "repository" in change else "transferred"
        await deliver(within, push(place, 17, action=action, changes=change), "repository")
        within.restarted()
        await deliver(within, push(place, 17))
        await deliver(within, push(place, 18))  # another repository of this name: unknown
        assert await reached(within) == ["web"]


async def test_a_name_that_was_given_to_another_repository_means_the_one_that_has_it_now(tmp_path: Path) -> None:
    async with inside(tmp_path) as within:
        declare(within, integration("acme", "acme"), source("web", WEB))
        await within.sync()
        await deliver(within, push("acme/web", 17))
        await deliver(within, push("acme/web", 99))
        await deliver(within, push("acme/old-web", 17))
        assert await reached(within) == ["web", "web"]


async def test_an_event_that_comes_by_both_webhooks_is_one_event_in_either_order(tmp_path: Path) -> None:
    async with inside(tmp_path) as within:
        declare(within, integration("acme", "acme"), source("web", WEB))
        await within.sync()
        (uid,) = endpoints(OWNER, within.engine.current.active.resources)
        ring = within.deps.keyring

        async def by_repository(guid: str, sha: str) -> int:
            headers, body = delivery(push("acme/web", 1, installation=0, sha=sha), derived_key(ring, uid), guid=guid)
            return await within.working.intake.receive(OWNER, uid, ring.key_id, headers, body)

        for number, first in enumerate(("app", "repository")):
            guid, sha = f"guid-{number}", str(number) * 40
            for way in (first, "repository" if first == "app" else "app", "app", "repository"):
                sent = deliver(within, push("acme/web", 1, sha=sha), guid=guid) if way == "app" else by_repository(guid, sha)
                assert await sent == 202
        assert await reached(within) == ["web", "web"]
        # a captured body under another id, through the other webhook, has no second effect
        assert await by_repository("another", "0" * 40) == 202
        await within.turn(1)
        assert sorted(event.reason for event in await stored(within)) == ["", "", "duplicate"]
        assert await deliver(within, push("acme/web", 1, sha="f" * 40), guid="guid-0") == 409


async def test_only_the_secret_of_the_app_is_a_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECONCILER_SECRET_HOOK", "it-is-given")
    given = ", webhookSecret: {valueFrom: {secret: {name: pem, key: hook}}}"
    async with inside(tmp_path) as within:
        declare(within, integration("acme", "acme", given), source("web", WEB))
        await within.sync()
        payload = push("acme/web", 1)
        assert await deliver(within, payload) == 401
        assert await deliver(within, payload, key="wrong") == 401
        assert await deliver(within, payload, uid="0" * 20) == 401
        assert await within.working.apps.receive("team-b", app_uid(), "", *delivery(payload, "it-is-given")) == 401
        headers, body = delivery(payload, "it-is-given")
        del headers["x-hub-signature-256"]
        assert await within.working.apps.receive(OWNER, app_uid(), "", headers, body) == 401
        status = await within.working.event_status.read(None)
        condition = status.delivering[ResourceId("EventSource", "default", "web")]
        assert (condition[0].value, condition[1].reason) == ("False", "SignatureMissing")
        assert await deliver(within, payload, key="it-is-given") == 202
        assert await reached(within) == ["web"]
        status = await within.working.event_status.read(None)
        assert status.delivering[ResourceId("EventSource", "default", "web")][0].value == "True"


async def test_while_the_secret_cannot_be_read_the_sender_is_asked_to_try_again(tmp_path: Path) -> None:
    given = ", webhookSecret: {valueFrom: {secret: {name: pem, key: hook}}}"
    async with inside(tmp_path) as within:
        declare(within, integration("acme", "acme", given), source("web", WEB))
        await within.sync()
        assert await deliver(within, push("acme/web", 1), key="x") == 503


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ("ping", {"zen": "Keep it logically awesome.", "hook_id": 1, "hook": {"type": "App", "app_id": 1}}),
        ("meta", {"action": "deleted", "hook_id": 1, "hook": {"type": "App"}}),
        ("github_app_authorization", {"action": "revoked", "sender": {"login": "octocat", "id": 1}}),
        *(
            ("installation", {"action": action, "installation": {"id": 1, "account": {"login": "Acme", "id": 5}}})
            for action in ("created", "deleted", "suspend", "unsuspend", "new_permissions_accepted")
        ),
        ("installation_repositories", {"action": "removed", "installation": {"id": 1, "account": {"login": "acme"}}}),
        ("installation_target", {"action": "renamed", "installation": {"id": 1}, "organization": {"login": "acme"}}),
    ],
)
async def test_events_about_the_app_are_kept_and_make_its_integrations_look_again(
    tmp_path: Path, event: str, payload: Mapping[str, Any]
) -> None:
    async with inside(tmp_path) as within:
        declare(within, integration("acme", "acme"), integration("initech", "initech"), source("web", WEB))
        await within.sync()
        looked: list[tuple[ResourceId, ...]] = []

        async def look(integrations: tuple[ResourceId, ...]) -> None:
            looked.append(integrations)

        within.working.apps._on_reach = look
        await deliver(within, push("acme/web", 1))
        looked.clear()  # the first delivery of the App is one reason, too
        assert await deliver(within, payload, event) == 202
        (row,) = [each for each in await stored(within) if each.source.kind == "Integration"]
        assert (row.state, row.reason, row.source.name) == ("processed", event, "acme")
        expected = (
            [] if event in {"ping", "meta", "github_app_authorization"} else [(ResourceId("Integration", "default", "acme"),)]
        )
        assert looked == expected


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"not json", b'{"repository": 1}', b'{"installation": {"id": "x"}}', b"{}"]
)
async def test_a_signed_body_of_another_form_is_kept_and_never_routed(tmp_path: Path, body: bytes) -> None:
    async with inside(tmp_path) as within:
        declare(within, integration("acme", "acme"), source("web", WEB), source("whole", "{type: organization, name: acme}"))
        await within.sync()
        assert await deliver(within, body) == 202
        (event,) = await stored(within)
        assert (event.source.kind, event.state) == ("Integration", "rejected")


async def test_integrations_that_name_the_app_at_another_host_do_not_share_its_webhook(tmp_path: Path) -> None:
    async with inside(tmp_path) as within:
        server = integration("ghes", "acme", spec="  apiUrl: https://git.example/api/v3\n")
        declare(within, integration("acme", "acme"), server, integration("second", "acme", client="Iv23other"))
        await within.sync()
        assert set(within.working.apps.endpoints()) == {app_uid(), app_uid(host="git.example"), app_uid("Iv23other")}
        assert app_uid() != app_uid(CLIENT + "x")
