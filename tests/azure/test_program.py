"""Azure and Google Cloud through the real program: static credentials and the daemon's own ID token; no secret in any output."""

from __future__ import annotations

import json
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.sandbox.azure.app import CLIENT, SECRET, SUBSCRIPTION, TENANT, Azure
from reconciler.sandbox.google.app import ACCOUNT, PROVIDER, Google
from reconciler.sandbox.server import SandboxServer
from tests.engine.world import World

ISSUER = "https://hooks.example"
AUDIENCE = f"//iam.googleapis.com/{PROVIDER}"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, providers=())
    with SandboxServer(Azure()) as azure, SandboxServer(Google()) as google:
        made.servers.update(azure=azure, google=google)
        yield made
        made.close()


def declare(world: World, name: str, auth: str) -> None:
    url = world.servers[name].url
    world.write(
        f"{name}.yaml", f"kind: Integration\nmetadata: {{name: {name}}}\nspec: {{type: {name}, apiUrl: '{url}', auth: {auth}}}"
    )


def credential(world: World, name: str) -> dict[str, str]:
    return world.condition("Integration", name, "CredentialsValid") or {}


def test_static_credentials_are_connected_and_never_shown(world: World) -> None:
    key = world.servers["google"].admin.do("create_key")
    world.extra_env = {"RECONCILER_SECRET_AZURE": SECRET, "RECONCILER_SECRET_GOOGLE": json.dumps(key)}
    world.write(
        "secrets.yaml",
        "kind: Secret\nmetadata: {name: clouds}\nspec: {provider: env, data: {azure: {env: RECONCILER_SECRET_AZURE}, google: {env: RECONCILER_SECRET_GOOGLE}}}",
    )
    ids = f"tenantId: {TENANT}, clientId: {CLIENT}, subscriptionId: {SUBSCRIPTION}"
    declare(
        world,
        "azure",
        f"{{use: client-secret, clientSecret: {{{ids}, secret: {{valueFrom: {{secret: {{name: clouds, key: azure}}}}}}}}}}",
    )
    declare(world, "google", "{use: service-account-key, serviceAccountKey: {valueFrom: {secret: {name: clouds, key: google}}}}")
    shown = ""
    for verb, *more in (("validate", "manifests"), ("run", "--once"), ("doctor",), ("status",)):
        done = world.cli(verb, *more)
        assert done.returncode == 0, (verb, done.stdout, done.stderr)
        shown += done.stdout + done.stderr
    assert CLIENT in credential(world, "azure")["message"]
    assert "the client secret ends at" in credential(world, "azure")["message"]
    assert ACCOUNT in credential(world, "google")["message"]
    stored = b"".join(path.read_bytes() for path in world.folder.rglob("*") if path.is_file())
    for canary in (SECRET, key["private_key"][40:100], "ya29.sandbox", "eyJ"):
        assert canary not in shown
        assert canary.encode() not in stored
    world.extra_env["RECONCILER_SECRET_AZURE"] = "wrong-secret-0000000000"
    assert world.cli("run", "--once").returncode == 6
    assert "7000215" in credential(world, "azure")["message"]
    assert credential(world, "google")["status"] == "True"


def test_the_daemons_own_id_token_needs_no_secret(world: World, tmp_path: Path) -> None:
    ids = f"tenantId: {TENANT}, clientId: {CLIENT}"
    declare(world, "azure", f"{{use: oidc, oidc: {{{ids}, audience: 'api://AzureADTokenExchange'}}}}")
    declare(world, "google", f"{{use: oidc, oidc: {{audience: '{AUDIENCE}', workloadIdentityProvider: {PROVIDER}}}}}")
    assert world.cli("run", "--once").returncode == 6  # nobody trusts the issuer yet
    assert f"iss is {ISSUER}" in credential(world, "azure")["message"]
    assert credential(world, "google")["reason"] == "Refused"


def test_the_printed_policies_are_pasted_and_the_clouds_then_accept_the_daemon(world: World) -> None:
    """`oidc trust` prints what a person installs; the simulators read the daemon's own documents."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    world.configure(server=f'{{listen: "{address}", publicUrl: "{ISSUER}/"}}')
    ids = f"tenantId: {TENANT}, clientId: {CLIENT}, subscriptionId: {SUBSCRIPTION}"
    declare(world, "azure", f"{{use: oidc, oidc: {{{ids}, audience: 'api://AzureADTokenExchange'}}}}")
    provider = f"audience: '{AUDIENCE}', workloadIdentityProvider: {PROVIDER}, serviceAccount: {ACCOUNT}"
    declare(world, "google", f"{{use: oidc, oidc: {{{provider}}}}}")
    printed = {}
    for party in ("azure", "google"):
        shown = world.cli("oidc", "trust", party, f"Integration/{party}", "--dir", str(world.manifests), "-o", "json")
        printed[party] = json.loads(shown.stdout)
        world.servers[party].admin.put_state({"issuers": {ISSUER: f"http://{address}"}})
    world.servers["azure"].admin.put_state({"applications": {CLIENT: {"federated": [printed["azure"]]}}})
    google = printed["google"]
    trust = {"issuer": google["oidc"]["issuerUri"], "allowedAudiences": google["oidc"]["allowedAudiences"]}
    script = world.cli("oidc", "trust", "google", "Integration/google", "--dir", str(world.manifests)).stdout
    member = shlex.split(script.splitlines()[-1])[-1]
    world.servers["google"].admin.put_state(
        {
            "providers": {PROVIDER: {**trust, "attributeCondition": google["attributeCondition"]}},
            "accounts": {ACCOUNT: {"users": [member]}},
        }
    )
    world.daemon()
    for name in ("azure", "google"):
        world.wait(lambda name=name: credential(world, name).get("status") == "True", name, 40)
    granted = [row for name in ("azure", "google") for row in world.requests(name, "POST")]
    assert len(granted) == 3  # one exchange at each, and the impersonation


@pytest.mark.parametrize(
    ("auth", "text"),
    [
        ("{use: oidc, oidc: {audience: x, clientId: y}}", "oidc with azure needs tenantId"),
        ("{use: oidc, oidc: {audience: x, tenantId: y}}", "oidc with azure needs clientId"),
        ("{use: token, token: {valueFrom: {secret: {name: a, key: b}}}}", "azure cannot authenticate with token"),
    ],
)
def test_what_is_missing_is_said_with_its_place(world: World, auth: str, text: str) -> None:
    declare(world, "azure", auth)
    done = world.cli("validate", "manifests")
    assert done.returncode == 5
    assert text in done.stdout + done.stderr
    assert "azure.yaml:3" in done.stdout + done.stderr
    declare(world, "azure", "{use: client-secret, clientSecret: {tenantId: t, clientId: c}}")
    assert "secret" in world.cli("validate", "manifests").stderr + world.cli("validate", "manifests").stdout
    (world.manifests / "azure.yaml").unlink()
    declare(world, "google", "{use: oidc, oidc: {audience: x}}")
    assert "oidc with google needs workloadIdentityProvider" in "".join(
        getattr(world.cli("validate", "manifests"), name) for name in ("stdout", "stderr")
    )
