"""Secrets in a real OpenBao and in encrypted files while the daemon runs: it logs in as itself, and a store that fails stops only writes."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pyrage
import pytest

from tests.credentials.test_sops import encrypted, yamled
from tests.engine.world import TOKENS, World
from tests.support.openbao import OpenBao, openbao

POLICY = 'path "secret/data/ci/*" { capabilities = ["read"] }'
PASSWORD = f"canary-{secrets.token_hex(12)}"


@pytest.fixture
def bao() -> Iterator[OpenBao]:
    with openbao(dev=False) as server:
        server.initialize()
        server.must("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
        server.must("POST", "sys/auth/jwt", {"type": "jwt"})
        server.must("POST", "sys/policies/acl/ci", {"policy": POLICY})
        server.must("POST", "secret/data/ci/github", {"data": {"token": TOKENS["github"]}})
        server.must("POST", "secret/data/ci/hub", {"data": {"token": PASSWORD}})
        yield server


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, ("github", "buddy"))
    yield world
    world.close()


def vault(name: str, path: str, bao: OpenBao) -> str:
    return (
        f"kind: Secret\nmetadata: {{name: {name}}}\nspec:\n  provider: vault\n  vault:\n    address: {bao.url}\n    path: {path}\n"
        "    auth: {use: oidc, role: ci}"
    )


def declared(world: World, bao: OpenBao) -> str:
    """Write the manifests and the configuration; return the issuer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        issuer = f"http://127.0.0.1:{free.getsockname()[1]}"
    identity = pyrage.x25519.Identity.generate()
    (world.folder / "age.key").write_text(str(identity))
    world.configure(
        server=f'{{listen: "{issuer.removeprefix("http://")}", publicUrl: "{issuer}"}}', secrets="{sops: {ageKeyFile: age.key}}"
    )
    tree = {"buddy": {"token": TOKENS["buddy"]}}
    (world.manifests / "buddy.sops.yaml").write_bytes(yamled(encrypted(tree, recipient=identity.to_public())))
    buddy = "kind: Secret\nmetadata: {name: buddy}\nspec: {provider: sops, sops: {file: buddy.sops.yaml, data: {token: {path: buddy.token}}}}"
    world.write("secrets.yaml", "\n---\n".join((vault("github", "ci/github", bao), vault("hub", "ci/hub", bao), buddy)))
    world.repos("payments")
    world.source("payments")
    world.write(
        "hub.yaml",
        "kind: BuddyIntegration\nmetadata: {name: hub}\nspec:\n  integration: {name: buddy}\n  workspace: acme\n  type: GIT_LAB\n"
        "  name: hub\n  scope: WORKSPACE\n  auth_type: TOKEN\n  token: {valueFrom: {secret: {name: hub, key: token}}}",
    )
    return issuer


def trust(bao: OpenBao, issuer: str) -> None:
    bao.must("POST", "auth/jwt/config", {"oidc_discovery_url": issuer, "bound_issuer": issuer})
    role = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": [bao.url], "token_policies": ["ci"]}
    bao.must("POST", "auth/jwt/role/ci", role)


def stalled(world: World, kind: str, name: str, words: str) -> bool:
    condition = world.condition(kind, name, "Stalled")
    return condition is not None and condition["status"] == "True" and words in condition["message"]


def again(world: World) -> None:
    """Reconcile both integrations, as a person asks for it: the stores are then asked at once."""
    for name in ("github", "buddy"):
        done = world.cli("reconcile", f"Integration/{name}", "--wait")
        assert done.returncode in {0, 1}, f"{done.returncode} {done.stdout}{done.stderr}"


def canaries(world: World, *values: str) -> list[str]:
    files = [path for path in world.folder.rglob("*") if path.is_file()]
    return [f"{path}: {value}" for path in files for value in values if value.encode() in path.read_bytes()]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_daemon_opens_its_secrets_as_itself_and_a_failing_store_stops_its_writes(world: World, bao: OpenBao) -> None:
    issuer = declared(world, bao)
    world.daemon()
    world.wait(lambda: stalled(world, "EventSource", "payments", "login by oidc"), "no trust yet")
    assert world.writes() == []
    trust(bao, issuer)
    again(world)
    world.wait(world.all_ready, "all opened")
    assert len(world.hooks("payments")) == 1
    assert len(world.writes("buddy")) == 1

    # A changed value is written once.
    world.forget_requests("buddy")
    changed = f"canary-{secrets.token_hex(12)}"
    bao.must("POST", "secret/data/ci/hub", {"data": {"token": changed}})
    again(world)
    world.wait(lambda: len(world.writes("buddy")) == 1, "the new value")
    again(world)
    assert len(world.writes("buddy")) == 1

    # A revoked policy, then a sealed server: named where they are used, and nothing is written.
    def fails(words: str) -> None:
        again(world)
        world.set_hooks("payments", [])
        world.forget_requests()
        again(world)
        for kind, name in (("Secret", "github"), ("Integration", "github"), ("EventSource", "payments")):
            world.wait(lambda kind=kind, name=name: stalled(world, kind, name, words), f"{kind} {words}")
            assert "Secret/github" in str(world.condition(kind, name, "Stalled"))
        assert world.requests() == []

    def recovers() -> None:
        again(world)
        world.wait(world.all_ready, "it recovers")
        world.wait(lambda: len(world.hooks("payments")) == 1, "the hook is made again")

    bao.must("POST", "sys/policies/acl/ci", {"policy": 'path "secret/data/other" { capabilities = ["read"] }'})
    fails("permission denied: read on 'secret/data/ci/github' is missing")
    bao.must("POST", "sys/policies/acl/ci", {"policy": POLICY})
    recovers()
    bao.must("PUT", "sys/seal")
    fails("the server is sealed")
    bao.call("POST", "sys/unseal", {"key": bao.unseal_key[-1]}, token="")
    recovers()

    output = [world.cli(*verb).stdout for verb in (("status",), ("plan",), ("logs",), ("history", "EventSource/payments"))]
    shown = "".join(output)
    values = (TOKENS["github"], TOKENS["buddy"], PASSWORD, changed)
    assert [value for value in values if value in shown] == []
    assert canaries(world, *values) == []
