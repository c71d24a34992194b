"""The simulator of Azure is believable: Microsoft's own client gets tokens from it, and reads its refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ClientAssertionCredential, ClientSecretCredential

from reconciler.sandbox.azure.app import CLIENT, SECRET, TENANT, Azure
from reconciler.sandbox.server import SandboxServer
from tests.azure.conftest import AUDIENCE, FEDERATED, SUBJECT
from tests.support.relying import ISSUER, Issuing, issuing
from tests.support.tls import tls_before

SCOPE = "https://management.azure.com/.default"


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[tuple[SandboxServer, Issuing, dict[str, object]]]:
    with SandboxServer(Azure()) as server, issuing() as issuer, tls_before(server.port, tmp_path) as (url, pem):
        server.admin.settings(public_url=url)
        server.admin.put_state({"issuers": {ISSUER: issuer.url}, "applications": {CLIENT: {"federated": [FEDERATED]}}})
        yield server, issuer, {"authority": url, "disable_instance_discovery": True, "connection_verify": str(pem)}


def test_a_secret_and_an_id_token_get_a_token(peers: tuple[SandboxServer, Issuing, dict[str, object]]) -> None:
    _, issuer, options = peers
    assert ClientSecretCredential(TENANT, CLIENT, SECRET, **options).get_token(SCOPE).token.count(".") == 2
    credential = ClientAssertionCredential(TENANT, CLIENT, lambda: issuer.token(sub=SUBJECT, aud=AUDIENCE), **options)
    assert credential.get_token(SCOPE).token.count(".") == 2


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"sub": "another"}, "AADSTS700213"),
        ({"aud": "api://other"}, "AADSTS700212"),
        ({"aud": [AUDIENCE, "x"]}, "AADSTS700212"),
        ({"iss": ISSUER + "/"}, "AADSTS700211"),
        ({"exp": 1_000_000_000}, "AADSTS700024"),
        ({"nbf": 4_000_000_000}, "AADSTS700024"),
        ("foreign", "AADSTS700027"),
        ("text", "AADSTS50027"),
    ],
)
def test_each_refusal_is_read(
    peers: tuple[SandboxServer, Issuing, dict[str, object]], claims: dict[str, object] | str, code: str
) -> None:
    _, issuer, options = peers
    good = {"sub": SUBJECT, "aud": AUDIENCE}
    made = {"foreign": lambda: issuer.foreign(**good), "text": lambda: "no.token"}
    assertion = made[claims] if isinstance(claims, str) else lambda: issuer.token(**{**good, **claims})
    with pytest.raises(ClientAuthenticationError, match=code):
        ClientAssertionCredential(TENANT, CLIENT, assertion, **options).get_token(SCOPE)
    with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
        ClientSecretCredential(TENANT, CLIENT, "wrong", **options).get_token(SCOPE)
