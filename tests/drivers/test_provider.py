"""What every driver starts from: its connection, its credential, and empty answers for what a provider lacks."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from reconciler.drivers.auth import AuthRequest
from reconciler.drivers.capabilities import ProviderSpec
from reconciler.drivers.connection import CompileContext, Connection
from reconciler.drivers.execution import NoJobToken
from reconciler.drivers.provider import ProviderDriver, by_type
from reconciler.model.errors import NotImplementedYet, ValidationFailed
from reconciler.model.resources import SecretRef
from reconciler.model.secrets import SecretValue
from tests.support.authentication import auth_context
from tests.support.driving import resource

REF = SecretRef("default", "credentials", "token")


class _Executor(NoJobToken):
    type = "x"

    def permissions(self, executor: dict[str, Any]) -> dict[str, str]:
        return {str(executor["spec"]): "write"}


class _Driver(ProviderDriver):
    spec = ProviderSpec(name="x", title="Example", auth=("token", "basic"), hosts=("api.x.example",))
    pointers = {"token": "/token", "basic": "/basic/password"}
    default_url = "https://x.example/"
    executors = by_type(_Executor())  # type: ignore[arg-type,assignment]

    def address(self, url: str) -> tuple[str, str]:
        return f"{url}/api/", url.rpartition("/")[2]


DRIVER = _Driver()


def connect(use: str = "token", **spec: Any) -> Connection:
    declared = resource("Integration", "x", {"type": "x", "auth": {"use": use}, **spec})
    return DRIVER.connect(declared, {"/token": REF})


def test_a_connection_has_the_address_that_its_url_names() -> None:
    assert (DRIVER.provider, DRIVER.hosts) == ("x", ("api.x.example",))
    made = connect(url="https://x.example/acme/")
    assert (made.provider, made.url, made.api_url, made.account) == (
        "x",
        "https://x.example/acme",
        "https://x.example/acme/api",
        "acme",
    )
    assert connect().url == "https://x.example"
    assert connect(apiUrl="https://proxy.example/").api_url == "https://proxy.example"


def test_a_form_of_authentication_without_support_says_what_to_use() -> None:
    with pytest.raises(NotImplementedYet, match="auth 'oidc' with Example") as caught:
        connect("oidc")
    assert "`token` or `basic`" in caught.value.hint


async def test_the_secret_stands_where_the_form_of_authentication_has_it() -> None:
    headers: dict[str, str] = {}
    authenticator = DRIVER.authenticator(connect(), auth_context(lambda ref: SecretValue(ref.key)))
    await authenticator.authorize(AuthRequest("GET", "https://api.example", headers))
    assert headers == {"authorization": "Bearer token"}
    with pytest.raises(ValidationFailed, match=r"auth\.basic\.password names no secret"):
        DRIVER.authenticator(connect("basic"), lambda ref: SecretValue(ref.key))


@pytest.mark.parametrize(
    ("kind", "spec", "needs"),
    [
        ("Stage", {"executor": {"type": "x", "spec": "runs"}}, {"runs": "write"}),
        ("Stage", {"executor": {"type": "y"}}, {}),
        ("Stage", {}, {}),
        ("EventSource", {"executor": {"type": "x", "spec": "runs"}}, {}),
    ],
)
def test_a_stage_needs_what_its_executor_needs(kind: str, spec: dict[str, Any], needs: dict[str, str]) -> None:
    assert DRIVER.needs(resource(kind, "r", spec)) == needs


async def test_nothing_is_declared_looked_up_or_classified_by_itself() -> None:
    source, context = resource("EventSource", "r", {}), CompileContext("o", "https://r.example", "k", connect(), {}, None)  # type: ignore[arg-type]
    assert (DRIVER.offline_facts(source), await DRIVER.resolve(None, source)) == ({}, {})  # type: ignore[arg-type]
    assert DRIVER.classify(404, {}, None, "GET /", now=0.0) is None
    with pytest.raises(ValidationFailed, match="neither events nor objects"):
        DRIVER.compile(source, dataclasses.replace(context))
