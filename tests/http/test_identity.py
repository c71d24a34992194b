"""The identity of a request, independent of a provider: who gets it, how often it is renewed, what an answer may repeat."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import jwt
import msgspec
import pytest

from reconciler.drivers.auth import AuthRequest, CalledService, no_issuer
from reconciler.drivers.builtin.driver import WebDriver
from reconciler.drivers.builtin.identity import CallIdentity, OwnIdToken, Principal, check_target, principal_of
from reconciler.drivers.builtin.urls import connection_to
from reconciler.drivers.http.budget import UNLIMITED, Budget
from reconciler.drivers.http.client import ApiClient
from reconciler.drivers.specs import SPECS, spec_of
from reconciler.manifests import schema
from reconciler.manifests.kinds import CallAuthSpec
from reconciler.model.errors import AddressRefused, AuthFailed, SecretUnavailable, ValidationFailed
from reconciler.model.executions import Result, Run, RunIntent, RunReport
from reconciler.model.json import Json, at
from reconciler.model.resources import ResourceId
from tests.http.test_client import answering
from tests.http.world import Fixture, serve
from tests.support.relying import ISSUER, Issuing, issuing

STAGE = ResourceId("Stage", "default", "deploy")
CLOUD = ResourceId("Integration", "default", "cloud")
CANARY = "canary-token-0000000000"


class Tokens:
    """Sends ``CANARY-n`` and makes the next one when it is refused, as often as ``more`` says."""

    def __init__(self, more: int = 1) -> None:
        self.more, self.number, self.asked = more, 0, 0

    async def authorize(self, request: AuthRequest) -> None:
        self.asked += 1
        request.headers["authorization"] = f"Bearer {CANARY}-{self.number}"

    async def refresh(self) -> bool:
        self.more, self.number = self.more - 1, self.number + 1
        return self.more >= 0


def bound(http: Fixture, url: str, inner: Any, principal: Principal | None = None) -> ApiClient:
    identity = CallIdentity(principal or Principal(str(CLOUD), "Cloud"), inner, CalledService(), url, http.session.allow)
    connection = connection_to(url, STAGE)
    budget = Budget(connection.credential_id, UNLIMITED, store=None, clock=time.time)
    return ApiClient(connection, WebDriver(identity=identity), identity, session=http.session, budget=budget, clock=time.time)


async def ran(api: ApiClient, url: str, **spec: Any) -> tuple[Run, RunReport]:
    async def holds(_condition: str, answer: Mapping[str, Any]) -> bool:
        return bool(answer.get("done"))

    http, intent = WebDriver(holds).executors["http"], RunIntent("e-1", "rcl-1", "http", "", {"url": url, **spec}, 0.0)
    run = await http.start(api, intent)
    assert run is not None
    return run, await http.poll(api, intent, run)


@pytest.mark.parametrize(("answers", "sent"), [([401, 200], 2), ([401, 401], 2), ([200], 1), ([403], 1), ([500], 1)])
async def test_a_401_renews_the_token_once(http: Fixture, answers: list[int], sent: int) -> None:
    async with serve(answering(*((status, {}, {}) for status in answers))) as server:
        tokens = Tokens(more=9)
        _, report = await ran(bound(http, server.url, tokens), server.url)
    assert len(server.seen) == sent
    assert len({request.headers["authorization"] for request in server.seen}) == sent
    assert report.result is (Result.PASSED if answers[-1] == 200 else Result.FAILED)
    assert report.conclusion == str(answers[-1])
    said = {401: "does not accept the identity Integration/cloud", 403: "does not allow it to Integration/cloud"}
    assert said.get(answers[-1], "") in report.message


async def test_a_token_that_is_new_is_not_renewed(http: Fixture) -> None:
    async with serve(answering((401, {}, {}))) as server:
        _, report = await ran(bound(http, server.url, Tokens(more=0)), server.url)
    assert (report.result, len(server.seen)) == (Result.FAILED, 1)


async def test_a_status_that_the_policy_accepts_passes_even_if_it_is_401(http: Fixture) -> None:
    async with serve(answering((401, {}, {}))) as server:
        _, report = await ran(bound(http, server.url, Tokens()), server.url, responsePolicy={"statusCodes": [401]})
    assert (report.result, len(server.seen)) == (Result.PASSED, 2)


async def test_polls_carry_the_same_identity_and_renew_it_once(http: Fixture) -> None:
    replies = [(202, {}, {}), (401, {}, {}), (200, {"done": True}, {})]
    async with serve(answering(*replies)) as server:
        poll = {"url": f"{server.url}/state", "successWhen": "done"}
        _, report = await ran(bound(http, server.url, Tokens()), server.url, poll=poll)
    assert report.result is Result.PASSED
    assert [request.headers["authorization"][-1] for request in server.seen] == ["0", "0", "1"]
    async with serve(answering((202, {}, {}), (401, {}, {}))) as server:
        poll = {"url": f"{server.url}/state", "successWhen": "done"}
        with pytest.raises(AuthFailed, match="the credential of Integration/cloud is refused") as caught:
            await ran(bound(http, server.url, Tokens()), server.url, poll=poll)
    assert (caught.value.code, len(server.seen)) == ("RC4404", 3)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_takes_the_credential_nowhere(http: Fixture, status: int) -> None:
    async with serve(answering((200, {}, {}))) as other:
        async with serve(answering((status, {}, {"location": f"{other.url}/take"}))) as server:
            _, report = await ran(bound(http, server.url, Tokens()), server.url, method="GET")
            assert (report.result, report.conclusion) == (Result.FAILED, str(status))
        replies = [(202, {}, {}), (status, {}, {"location": f"{other.url}/take"})]
        async with serve(answering(*replies)) as server:
            poll = {"url": f"{server.url}/state", "successWhen": "done"}
            with pytest.raises(Exception, match=r"redirect|[mM]oved|303"):
                await ran(bound(http, server.url, Tokens()), server.url, poll=poll)
        assert other.seen == []


@pytest.mark.parametrize("place", ["text", "key", "deep"])
async def test_outputs_that_repeat_the_credential_are_left_out(http: Fixture, place: str) -> None:
    token = f"{CANARY}-0"
    outputs: Json = {"text": f"got Bearer {token}!"}
    if place == "key":
        outputs = {token: 1}
    elif place == "deep":
        outputs = {"a": [{"b": [token]}]}
    async with serve(answering((200, {"outputs": outputs}, {}))) as server:
        run, report = await ran(bound(http, server.url, Tokens()), server.url)
    assert (report.result, report.outputs) == (Result.PASSED, {})
    assert CANARY not in repr(run)
    async with serve(answering((202, {}, {}), (200, {"done": True, "outputs": outputs}, {}))) as server:
        poll = {"url": f"{server.url}/state", "successWhen": "done"}
        _, report = await ran(bound(http, server.url, Tokens()), server.url, poll=poll)
    assert (report.result, report.outputs) == (Result.PASSED, {})


@pytest.fixture
def own() -> Iterator[Issuing]:
    with issuing() as running:
        yield running


async def test_an_own_id_token_names_the_stage_and_is_verified_by_the_published_keys(own: Issuing, http: Fixture) -> None:
    async with serve(answering((200, {}, {}))) as server:
        inner = OwnIdToken(own.issuer, STAGE, "deploy-service")
        api = bound(http, server.url, inner, Principal("the daemon's own ID token"))
        await ran(api, server.url)
        await ran(api, server.url)
    tokens = [request.headers["authorization"].removeprefix("Bearer ") for request in server.seen]
    client = jwt.PyJWKClient(f"{own.url}/.well-known/jwks.json")
    claims = [
        jwt.decode(token, client.get_signing_key_from_jwt(token), algorithms=["RS256"], audience="deploy-service", issuer=ISSUER)
        for token in tokens
    ]
    assert [row["sub"] for row in claims] == ["reconciler:team-a:default:Stage:deploy"] * 2
    assert claims[0]["jti"] != claims[1]["jti"]
    assert (claims[0]["kind"], claims[0]["name"]) == ("Stage", "deploy")


async def test_without_an_issuer_nothing_is_sent_and_the_reason_is_named(http: Fixture) -> None:
    async with serve(answering((200, {}, {}))) as server:
        api = bound(http, server.url, OwnIdToken(no_issuer, STAGE, "x"), Principal("the daemon's own ID token"))
        identity: Any = api.authenticator
        with pytest.raises(SecretUnavailable) as caught:
            await identity.prepare()
    assert (caught.value.code, server.seen) == ("RC4020", [])


@pytest.mark.parametrize(
    ("provider", "url", "own"),
    [
        ("azure", "https://management.azure.com/subscriptions", True),
        ("azure", "https://graph.microsoft.com/v1.0/me", True),
        ("azure", "https://acme.vault.azure.net/secrets/x", True),
        ("azure", "https://acme.blob.core.windows.net/c/b", True),
        ("azure", "https://vault.usgovcloudapi.net/", False),
        ("azure", "https://evil.azurewebsites.net/", False),
        ("azure", "https://evil.servicebus.windows.net/relay", False),
        ("azure", "https://evil.web.core.windows.net/", False),
        ("azure", "https://a.b.vault.azure.net/", False),
        ("azure", "https://login.microsoftonline.com/", False),
        ("google", "https://run.googleapis.com/v2/projects", True),
        ("google", "https://europe-west1-aiplatform.googleapis.com/", True),
        ("google", "https://storage.europe-west1.rep.googleapis.com/", True),
        ("google", "https://evil.p.googleapis.com/", False),
        ("google", "https://googleapis.com/", False),
        ("google", "https://evil-abc-ew.a.run.app/", False),
        ("google", "https://evil-1234.europe-west1.run.app/", False),
        ("google", "https://europe-west1-evil.cloudfunctions.net/f", False),
        ("google", "https://script.google.com/macros/s/x/exec", False),
    ],
)
def test_only_hosts_of_the_provider_itself_need_no_permission_of_the_operator(provider: str, url: str, own: bool) -> None:
    principal = principal_of(CLOUD, spec_of(provider))
    if own:
        check_target(url, principal, ())
        return
    with pytest.raises(AddressRefused) as caught:
        check_target(url, principal, ())
    assert caught.value.code == "RC4401"
    host = url.split("/")[2]
    assert f"add {host} to `network.allow`" in caught.value.hint
    check_target(url, principal, (host,))


def test_the_own_id_token_goes_only_where_the_operator_says() -> None:
    for url in ("https://management.azure.com/", "https://lambda.eu-central-1.amazonaws.com/", "https://x.example/"):
        with pytest.raises(AddressRefused, match=r"it is not in `network\.allow`"):
            check_target(url, Principal("the daemon's own ID token"), ())


@pytest.mark.parametrize("provider", sorted(set(SPECS) - {"aws", "azure", "google"}))
def test_other_integrations_give_no_identity_and_say_why(provider: str) -> None:
    with pytest.raises(ValidationFailed, match=r"opens .* itself, and no other service may see it") as caught:
        principal_of(CLOUD, spec_of(provider))
    assert caught.value.code == "RC4403"


def test_the_struct_has_the_keys_of_the_schema() -> None:
    branches: Any = at(schema.schema("Stage"), "properties", "spec", "properties", "executor", "allOf")
    (spec,) = (
        each["then"]["properties"]["spec"]
        for each in branches
        if each["then"]["properties"]["spec"].get("title") == "http executor"
    )
    auth = spec["properties"]["auth"]["properties"]
    assert set(auth) == {field.encode_name for field in msgspec.structs.fields(CallAuthSpec)}
    assert set(auth["oidc"]["properties"]) == {"audience"}
