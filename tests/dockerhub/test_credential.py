"""Docker Hub through the real program: the login, what the registry grants, and what each refusal is called."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.drivers.auth import AuthRequest, TokenCache
from reconciler.drivers.http.transport import HttpSession
from reconciler.drivers.registry import DRIVERS
from reconciler.model.errors import AuthFailed, RateLimited
from reconciler.model.resources import SecretRef
from reconciler.model.secrets import SecretValue
from reconciler.sandbox.dockerhub.app import TOKEN, DockerHub
from reconciler.sandbox.server import SandboxServer
from tests.contract.dockerhub import DockerHubProvider
from tests.support.authentication import auth_context
from tests.support.credentials import OneCredential
from tests.support.driving import session

__all__ = ["session"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OneCredential]:
    made = OneCredential(tmp_path, "dockerhub")
    yield made
    made.close()


def token(world: OneCredential, **fields: Any) -> None:
    world.admin.put_state({"tokens": {world.token: fields}})


def test_a_token_shows_what_the_registry_grants(world: OneCredential) -> None:
    token(world, actions=["pull"])
    world.declare("  permissions: {packages: write}")
    assert world.once() == 0
    assert (world.row["identity"], world.row["granted"], world.row["missing"]) == ("acme", ["acme/web: pull"], ["push"])
    assert world.row["unknown"] == {"expiresAt": "Docker Hub does not tell an access token when it ends"}
    assert [row["path"] for row in world.requests("dockerhub")] == [
        "/v2/auth/token",
        "/v2/namespaces/acme/repositories",
        "/token",
    ]


def test_without_a_repository_the_rights_are_unknown(world: OneCredential) -> None:
    world.admin.put_state({"repositories": {"acme": []}})
    assert world.once() == 0
    assert sorted(world.row["unknown"]) == ["expiresAt", "granted", "missing"]


def test_an_organization_token_acts_as_the_organization(world: OneCredential) -> None:
    secret = "dckr_oat_" + "o" * 24
    world.admin.put_state({"tokens": {secret: {"user": "acme", "actions": ["pull"]}}})
    world.use(secret)
    assert world.once() == 0
    assert world.row["identity"] == "organization acme"


@pytest.mark.parametrize(
    ("problem", "hint"),
    [("2fa", "two-factor authentication"), ("sso", "enforces single sign-on"), ("", "deactivated or expired")],
)
def test_a_refused_login_says_what_to_use_instead(world: OneCredential, problem: str, hint: str) -> None:
    token(world, problem=problem, **({} if problem else {"user": "somebody"}))
    assert world.once() == 6
    assert (world.credential["status"], world.credential["reason"]) == ("False", "Refused")
    assert hint in world.credential["message"]
    assert len(world.requests("dockerhub")) == 1


@pytest.mark.parametrize(
    ("fault", "reason", "text"),
    [
        ({"status": 403, "body": {"detail": "forbidden"}}, "Refused", "refused the login"),
        ({"status": 404, "body": {"detail": "object not found"}}, "NotChecked", "not found (404)"),
        ({"status": 429, "body": {"detail": "x"}, "headers": {"x-retry-after": "4102444800"}}, "NotChecked", "rate limit (429)"),
        ({"status": 429, "body": "<html>slow down</html>"}, "NotChecked", "HTML page"),
        ({"status": 502, "body": "bad gateway"}, "NotChecked", "the provider failed (502)"),
        ({"status": 200, "body": "<html>sign in</html>"}, "NotChecked", "HTML page"),
        ({"status": 200, "body": {"token": "x"}}, "NotChecked", "access_token"),
    ],
)
def test_each_answer_of_the_login_has_its_own_condition(
    world: OneCredential, fault: dict[str, Any], reason: str, text: str
) -> None:
    world.admin.fault(path="/v2/auth/token", times=0, **fault)
    world.once()
    assert world.credential["reason"] == reason
    assert text in world.credential["message"]
    assert len(world.requests("dockerhub")) == 1


async def test_a_token_is_cached_renewed_before_its_end_and_replaced_when_it_is_refused(session: HttpSession) -> None:
    now = [1_800_000_000.0]
    simulated = DockerHub(clock=lambda: now[0])
    with SandboxServer(simulated) as server:
        connection = DockerHubProvider().connect(server)

        def read(ref: SecretRef) -> SecretValue:
            return SecretValue(TOKEN)

        context = auth_context(read, session=session, clock=lambda: now[0], tokens=TokenCache(lambda: now[0]))
        signer = DRIVERS["dockerhub"].authenticator(connection, context)
        sent: list[str] = []
        for seconds in (0, 200, 200, 0):  # 10 minutes, renewed 5 minutes before the end
            now[0] += seconds
            request = AuthRequest("GET", "/", {})
            await signer.authorize(request)
            sent.append(request.headers["authorization"])
        assert len(set(sent)) == 2
        assert sent[0] == sent[1] != sent[2] == sent[3]
        assert await signer.refresh()
        assert TOKEN not in "".join(sent)


async def test_x_retry_after_is_a_time_and_a_refusal_is_repeated_from_memory(session: HttpSession) -> None:
    now = [1_800_000_000.0]
    with SandboxServer(DockerHub(clock=lambda: now[0])) as server:
        connection = DockerHubProvider().connect(server)
        context = auth_context(
            lambda ref: SecretValue("wrong-password"), session=session, clock=lambda: now[0], tokens=TokenCache(lambda: now[0])
        )
        signer = DRIVERS["dockerhub"].authenticator(connection, context)
        for _ in range(5):
            with pytest.raises(AuthFailed):
                await signer.authorize(AuthRequest("GET", "/", {}))
        assert len(server.admin.requests()) == 1
        now[0] += 61
        until = now[0] + 500
        server.admin.fault(path="/v2/auth/token", status=429, body={"detail": "x"}, headers={"x-retry-after": str(int(until))})
        with pytest.raises(RateLimited) as caught:
            await signer.authorize(AuthRequest("GET", "/", {}))
        assert caught.value.retry_at == pytest.approx(until, abs=5)
