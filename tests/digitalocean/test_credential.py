"""DigitalOcean through the real program: a token that is valid, refused or under-scoped, and an account that is locked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.sandbox.app import Call
from reconciler.sandbox.server import simulator
from tests.engine.world import TOKENS, World

TOKEN = TOKENS["digitalocean"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, providers=("digitalocean",))
    yield made
    made.close()


def account(world: World, **fields: str) -> None:
    world.servers["digitalocean"].admin.put_state({"account": fields})


def credential(world: World) -> dict[str, str]:
    return world.condition("Integration", "digitalocean", "CredentialsValid") or {}


def test_a_valid_token_is_connected_in_every_command(world: World) -> None:
    for verb, *more in (("validate", "manifests"), ("plan",), ("run", "--once"), ("doctor",)):
        done = world.cli(verb, *more)
        assert done.returncode == 0, (verb, done.stdout, done.stderr)
        assert TOKEN not in done.stdout + done.stderr
    assert "acts as ops@example.com" in done.stdout
    assert credential(world)["status"] == "True"
    shown = world.cli("status")
    assert "Integration/digitalocean" in shown.stdout
    assert world.all_ready()
    assert "nothing is recorded" in world.cli("ping", "Integration/digitalocean").stderr
    assert {row["path"] for row in world.requests("digitalocean")} == {"/v2/account", "/v1/oauth/token/info"}
    assert not world.writes("digitalocean")


@pytest.mark.parametrize(
    ("token", "fields", "reason", "text"),
    [
        ("dop_v1_" + "0" * 64, {}, "Refused", "DigitalOcean refused the token (401)"),
        (TOKEN, {"status": "locked", "status_message": "abuse report 7"}, "Refused", "is locked: abuse report 7"),
    ],
)
def test_a_refused_token_and_a_locked_account_stall_the_integration(
    world: World, token: str, fields: dict[str, str], reason: str, text: str
) -> None:
    world.extra_env["RECONCILER_SECRET_DIGITALOCEAN"] = token
    account(world, **fields)
    assert world.cli("run", "--once").returncode == 6
    assert (credential(world)["status"], credential(world)["reason"]) == ("False", reason)
    assert text in credential(world)["message"]
    assert world.cli("status", "--exit-code").returncode == 2
    assert text in world.cli("doctor").stdout
    account(world, status="active")
    world.extra_env.clear()
    assert world.cli("run", "--once").returncode == 0  # nothing has to be changed in Git
    assert world.all_ready()


def test_a_warning_is_shown_and_a_token_without_account_read_is_valid(world: World) -> None:
    account(world, status="warning", status_message="verify your payment method")
    assert world.cli("run", "--once").returncode == 0
    assert "verify your payment method" in credential(world)["message"]
    world.servers["digitalocean"].admin.put_state({"tokens": {TOKEN: {"scopes": ["droplet:read"]}}})
    assert world.cli("run", "--once").returncode == 0
    assert "no scope account:read" in credential(world)["message"]


def test_nothing_else_can_be_declared_there(world: World) -> None:
    world.write(
        "source.yaml",
        "kind: EventSource\nmetadata: {name: s}\nspec: {integration: {name: digitalocean}, resource: {type: project, name: x}}",
    )
    assert world.cli("run", "--once").returncode == 6
    assert "has neither events nor objects" in world.condition("EventSource", "s")["message"]
    world.write(
        "token.yaml", f"# {TOKEN}\nkind: EventSource\nmetadata: {{name: {TOKEN[:40]}}}\nspec: {{type: manual, x: {TOKEN}}}"
    )
    done = world.cli("validate", "manifests")
    assert done.returncode == 5
    assert TOKEN not in done.stdout + done.stderr


def test_the_rate_is_shown_and_the_simulator_refuses_a_burst(world: World) -> None:
    assert world.cli("run", "--once").returncode == 0
    (row,) = world.status()["credentials"]
    assert (row["rate"]["limit"], row["rate"]["remaining"]) == (5000, 4999)
    app = simulator("digitalocean")
    app.patch_settings({"rate_limits": True})
    call = Call("GET", "/v2/account", {}, {"authorization": f"Bearer {next(iter(app.state['tokens']))}"})
    *good, last = [app.answer(call) for _ in range(251)]
    assert {reply.status for reply in good} == {200}
    assert (last.status, last.body["id"]) == (429, "too_many_requests")
    assert 0 < int(last.headers["retry-after"]) <= 60
