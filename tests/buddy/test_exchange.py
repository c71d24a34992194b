"""Buddy without a stored secret: the daemon's own ID token, whose signature the simulator checks with the keys that the daemon publishes."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from reconciler.sandbox.buddy.app import SCOPES
from tests.engine.world import World

PROVIDER = "6f1c1f0e-0000-4000-8000-00000000b0dd"
AUDIENCE = "https://app.buddy.works/acme"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, providers=("buddy",))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    made.configure(
        server=f'{{listen: "{address}", publicUrl: "https://hooks.example"}}',
        oidc=f'{{issuer: "http://{address}"}}',
        sandbox="true",
    )
    made.write(
        "buddy.yaml",
        "kind: Integration\nmetadata: {name: buddy}\nspec:\n  type: buddy\n  url: https://app.buddy.works/acme\n"
        f"  apiUrl: {made.servers['buddy'].url}\n"
        f"  auth: {{use: oidc, oidc: {{audience: '{AUDIENCE}', providerId: {PROVIDER}}}}}",
    )
    trust(made, address)
    yield made
    made.close()


def trust(world: World, address: str, **changes: Any) -> None:
    provider = {
        "issuer": f"http://{address}",
        "audience": AUDIENCE,
        "conditions": {"sub": "reconciler:team-a:default:Integration:buddy"},
        "scopes": list(SCOPES),
        "lifetime_s": 600.0,
        **changes,
    }
    world.servers["buddy"].admin.put_state({"oidc_providers": {PROVIDER: provider}})


def credential(world: World) -> dict[str, Any]:
    return world.condition("Integration", "buddy", "CredentialsValid") or {}


def test_an_id_token_is_exchanged_once_and_no_secret_is_stored(world: World) -> None:
    world.daemon()
    world.wait(lambda: credential(world).get("status") == "True", "connected", 40)
    (row,) = world.status()["credentials"]
    assert (row["identity"], row["expiresAt"]) == ("token 'oidc'", "")
    assert row["unknown"]["expiresAt"] == "short-lived tokens are requested again before they end"
    world.forget_requests("buddy")
    world.wait(lambda: len(world.requests("buddy", "GET")) >= 2, "further intervals")
    assert not world.requests("buddy", "POST")  # the token is cached
    tokens = [token for token in world.servers["buddy"].admin.state()["tokens"] if token.startswith("buddy-oidc-")]
    assert len(tokens) == 1
    said = world.log().encode() + b"".join(path.read_bytes() for path in (world.folder / "state").rglob("*") if path.is_file())
    assert tokens[0].encode() not in said
    assert forged(world).status_code == 401


def forged(world: World) -> httpx.Response:
    """Exchange a token with the right claims, signed with a key that the daemon does not publish."""
    issuer = world.config.read_text().split('issuer: "')[1].split('"')[0]
    now = int(time.time())
    claims = {"iss": issuer, "aud": AUDIENCE, "sub": "reconciler:team-a:default:Integration:buddy", "nbf": now, "exp": now + 600}
    kid = httpx.get(f"{issuer}/.well-known/jwks.json").json()["keys"][0]["kid"]
    key = RSAKey.generate_key(2048, {"kid": kid})
    token = jwt.encode({"alg": "RS256", "kid": kid}, claims, key, algorithms=["RS256"])
    body = {"provider_id": PROVIDER, "web_identity_token": token}
    return httpx.post(f"{world.servers['buddy'].url}/user/oidc/tokens", json=body)


@pytest.mark.parametrize(
    ("changes", "text", "claim"),
    [
        ({"audience": "https://elsewhere"}, "The audience of the token is wrong", f"aud is {AUDIENCE}, the policy wants"),
        (
            {"conditions": {"sub": "somebody"}},
            "The trust condition sub does not hold",
            "sub is reconciler:team-a:default:Integration:buddy, the policy wants",
        ),
        ({"issuer": "http://127.0.0.1:9"}, "The keys of the issuer cannot be read", "Buddy cannot verify our token"),
    ],
)
def test_a_refusal_says_what_differs_and_is_not_repeated(world: World, changes: dict[str, Any], text: str, claim: str) -> None:
    address = world.config.read_text().split('listen: "')[1].split('"')[0]
    trust(world, address, **changes)
    world.daemon()
    world.wait(lambda: credential(world).get("reason") == "Refused", "refused", 40)
    assert text in credential(world)["message"]
    assert claim in credential(world)["message"]
    assert len(world.requests("buddy", "POST")) == 1


def test_tokens_that_the_api_refuses_are_not_exchanged_in_a_storm(world: World) -> None:
    """The workspace refuses every token that the exchange gives out: one exchange a minute, however many resources there are."""
    address = world.config.read_text().split('listen: "')[1].split('"')[0]
    trust(world, address, lifetime_s=-60.0)
    for number in range(5):
        world.write(
            f"made-{number}.yaml",
            f"kind: BuddyIntegration\nmetadata: {{name: made-{number}}}\nspec:\n  integration: {{name: buddy}}\n  workspace: acme\n"
            f"  type: AMAZON\n  name: made-{number}\n  scope: WORKSPACE\n  auth_type: OIDC\n  audience: a\n"
            "  role_assumptions: [{arn: 'arn:aws:iam::123456789012:role/ci'}]",
        )
    world.daemon()
    world.wait(lambda: credential(world).get("reason") == "Refused", "refused", 40)
    for _ in range(3):
        world.cli("reconcile", "Integration/buddy", "--wait")
    assert len(world.requests("buddy", "POST")) == 1
