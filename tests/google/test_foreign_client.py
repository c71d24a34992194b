"""The simulator of Google Cloud is believable: google-auth gets tokens from it, and reads its refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.auth import identity_pool
from google.auth.exceptions import OAuthError, RefreshError
from google.auth.transport.requests import Request
from google.oauth2 import service_account

from reconciler.sandbox.google.app import ACCOUNT, CLOUD_SCOPE, PROVIDER, Google
from reconciler.sandbox.server import SandboxServer
from tests.google.conftest import AUDIENCE, PRINCIPAL, SUBJECT, TRUST
from tests.support.relying import ISSUER, Issuing, issuing


@pytest.fixture
def peers() -> Iterator[tuple[SandboxServer, Issuing]]:
    with SandboxServer(Google()) as server, issuing() as issuer:
        server.admin.put_state(
            {"issuers": {ISSUER: issuer.url}, "providers": {PROVIDER: TRUST}, "accounts": {ACCOUNT: {"users": [PRINCIPAL]}}}
        )
        yield server, issuer


def federated(server: SandboxServer, folder: Path, token: str, *, impersonate: bool = False) -> Any:
    (folder / "token").write_text(token)
    info = {
        "type": "external_account",
        "audience": AUDIENCE,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{server.url}/v1/token",
        "credential_source": {"file": str(folder / "token")},
    }
    if impersonate:
        info["service_account_impersonation_url"] = f"{server.url}/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken"
    return identity_pool.Credentials.from_info(info, scopes=[CLOUD_SCOPE])


@pytest.mark.parametrize("impersonate", [False, True])
def test_our_id_token_gets_a_token(peers: tuple[SandboxServer, Issuing], tmp_path: Path, impersonate: bool) -> None:
    server, issuer = peers
    credential = federated(server, tmp_path, issuer.token(sub=SUBJECT, aud=AUDIENCE), impersonate=impersonate)
    credential.refresh(Request())
    assert credential.token.startswith("ya29.")


@pytest.mark.parametrize(
    ("claims", "text"),
    [
        ({"aud": "other"}, "does not match the expected audience"),
        ({"aud": [AUDIENCE, "x"]}, "does not match the expected audience"),
        ({"iss": ISSUER + "/"}, "does not match the expected ones"),
        ({"sub": "another"}, "attribute condition"),
        ({"sub": "x" * 128}, "127 bytes"),
        ({"iat": 1_000_000_000}, "stale"),
        ({"iat": None}, "stale"),
        ({"exp": 1_000_000_000}, "expired"),
        ({"exp": 4_000_000_000}, "expired"),
        ("foreign", "signature"),
        ("unpublished", "issuer"),
        ("text", "parse"),
    ],
)
def test_each_refusal_is_read(
    peers: tuple[SandboxServer, Issuing], tmp_path: Path, claims: dict[str, Any] | str, text: str
) -> None:
    server, issuer = peers
    good = {"sub": SUBJECT, "aud": AUDIENCE}
    issuer.published = claims != "unpublished"
    token = issuer.token(**{**good, **(claims if isinstance(claims, dict) else {})})
    token = {"foreign": issuer.foreign(**good), "text": "no.token"}.get(str(claims), token)
    with pytest.raises(OAuthError, match=text):
        federated(server, tmp_path, token).refresh(Request())


def test_a_key_gets_tokens_until_it_is_disabled(peers: tuple[SandboxServer, Issuing]) -> None:
    server, _ = peers
    info = {**server.admin.do("create_key"), "token_uri": f"{server.url}/token"}
    credential = service_account.Credentials.from_service_account_info(info, scopes=[CLOUD_SCOPE])
    credential.refresh(Request())
    assert credential.token.startswith("ya29.")
    own = service_account.IDTokenCredentials.from_service_account_info(info, target_audience="https://billing.example")
    own.refresh(Request())
    assert own.token.startswith("ey")
    server.admin.put_state({"accounts": {ACCOUNT: {"keys": {info["private_key_id"]: {"disabled": True}}}}})
    with pytest.raises(RefreshError, match="Invalid JWT Signature"):
        credential.refresh(Request())
