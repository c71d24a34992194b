"""openid-client and jose as relying parties of a running daemon."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.conftest import Run
from tests.support.issuing import Issuer

AUDIENCE = "sts.amazonaws.com"


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[Issuer]:
    made = Issuer(tmp_path, path="/tenants/acme")
    made.start()
    yield made
    made.stop()


def test_openid_client_discovers_the_issuer_and_jose_verifies_its_tokens_over_rotations(issuer: Issuer, run: Run) -> None:
    first = issuer.token()
    issuer.must("oidc", "rotate", "--yes")
    second = issuer.token()
    shown = run("issuer.mjs", issuer=issuer.issuer, tokens=[first, second], audience=AUDIENCE)
    assert shown["metadata"]["issuer"] == issuer.issuer
    assert "authorization_endpoint" not in shown["metadata"]
    assert shown["fields"] == ["alg", "e", "kid", "kty", "n", "use"]  # nothing private
    for token in shown["tokens"]:
        assert token["claims"]["sub"] == "reconciler:acme:default:Integration:cloud"
        assert token["header"]["alg"] == "RS256"
    assert shown["otherAudience"] == {"refused": "ERR_JWT_CLAIM_VALIDATION_FAILED", "claim": "aud"}
    assert shown["otherIssuer"] == {"refused": "ERR_JWT_CLAIM_VALIDATION_FAILED", "claim": "iss"}
    assert shown["late"] == {"refused": "ERR_JWT_EXPIRED", "claim": "exp"}
    assert shown["early"] == {"refused": "ERR_JWT_CLAIM_VALIDATION_FAILED", "claim": "nbf"}
    assert shown["changed"]["refused"] == "ERR_JWS_SIGNATURE_VERIFICATION_FAILED"
    assert shown["fetched"] <= 2  # the published keys hold every kid: none is unknown


def test_a_key_that_was_revoked_in_an_emergency_verifies_nothing(issuer: Issuer, run: Run) -> None:
    old = issuer.token()
    issuer.must("oidc", "rotate", "--emergency", "--yes")
    new = issuer.token()
    shown = run("issuer.mjs", issuer=issuer.issuer, tokens=[new, old], audience=AUDIENCE)
    assert shown["kids"][0] != shown["kids"][1]
    assert shown["tokens"][0]["claims"]["aud"] == AUDIENCE
    assert shown["tokens"][1] == {"refused": "ERR_JWKS_NO_MATCHING_KEY", "claim": None}
