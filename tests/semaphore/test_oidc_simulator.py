"""Tokens of jobs of the simulated Semaphore: signed as it signs them, and checked with the keys it publishes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.errors import BadSignatureError, ExpiredTokenError, InvalidKeyIdError
from joserfc.jwk import KeySet

from reconciler.sandbox.semaphore.oidc import CLAIMS
from reconciler.sandbox.server import SandboxServer
from tests.semaphore.simulator import WEB, Hands, behave


@pytest.fixture
def hands(hands: Hands, server: SandboxServer) -> Hands:
    behave(server, duration_s=600)
    return hands


def token(hands: Hands, workflow: str, **options: Any) -> str:
    return str(hands.admin.do("job_token", workflow_id=workflow, **options)["token"])


def checked(hands: Hands, text: str) -> dict[str, Any]:
    """The claims of a token, checked with what the issuer publishes; nobody has to log in for that."""
    answer = httpx.get(f"{hands.server.url}/.well-known/openid-configuration", trust_env=False)
    assert answer.headers["cache-control"] == "max-age=900, public, must-revalidate"
    about = answer.json()
    keys = httpx.get(about["jwks_uri"], trust_env=False).json()
    assert httpx.get(f"{hands.server.url}/.well-known/jwks", trust_env=False).json() == keys
    claims = jwt.decode(text, KeySet.import_key_set(keys), algorithms=["RS256"]).claims
    jwt.JWTClaimsRegistry(iss={"essential": True, "value": about["issuer"]}).validate(claims)
    return dict(claims)


def test_a_job_token_says_of_the_job_what_semaphore_says(hands: Hands) -> None:
    wf_id, ppl_id = hands.run(reference="refs/heads/topic")
    claims = checked(hands, token(hands, wf_id))
    assert claims["iss"] == claims["aud"] == hands.server.url
    place = f"org:acme:project:{WEB}:repo:web:ref_type:branch"
    assert claims["sub"] == f"{place}:ref:refs/heads/topic"
    assert claims["sub127"] == f"acme:{WEB}:web:br:heads/topic"
    assert (claims["org"], claims["org_id"]) == ("acme", hands.admin.state()["organization"]["id"])
    assert (claims["prj"], claims["prj_id"], claims["wf_id"], claims["ppl_id"]) == ("web", WEB, wf_id, ppl_id)
    job = hands("GET", f"/pipelines/{ppl_id}?detailed=true")["blocks"][0]["jobs"][0]["job_id"]
    assert (claims["job_id"], claims["job_type"], claims["trg"]) == (job, "pipeline_job", "a:f-i:f")
    assert (claims["repo"], claims["repo_slug"]) == ("web", "acme/web")
    assert (claims["branch"], claims["ref"], claims["ref_type"]) == ("topic", "refs/heads/topic", "branch")
    assert claims["tag"] == claims["pr"] == claims["pr_branch"] == ""
    assert claims["nbf"] <= claims["iat"] < claims["exp"]
    assert set(CLAIMS) <= set(claims)


def test_tags_pull_requests_reruns_and_promotions_show(hands: Hands) -> None:
    behave(hands.server, duration_s=0, result="failed", promotions=[{"name": "live"}])
    tag = hands.admin.do("run_pipeline", project="web", tag="v1")
    claims = checked(hands, token(hands, tag["workflow_id"]))
    assert (claims["tag"], claims["ref_type"], claims["branch"], claims["trg"]) == ("v1", "tag", "", "h:f-i:f")
    request = hands.admin.do("run_pipeline", project="web", pull_request=7)
    claims = checked(hands, token(hands, request["workflow_id"]))
    assert (claims["pr"], claims["ref_type"], claims["ref"]) == ("7", "pull-request", "refs/pull/7")
    again = hands("POST", f"/plumber-workflows/{tag['workflow_id']}/reschedule?request_token=a")
    rebuilt = hands("POST", f"/pipelines/{again['ppl_id']}/partial_rebuild", {"request_token": "b"})["pipeline_id"]
    assert checked(hands, token(hands, again["wf_id"], pipeline_id=rebuilt))["trg"] == "h:t-i:t"
    promoted = hands.admin.do("promote", pipeline_id=again["ppl_id"], promotion="live")["pipeline_id"]
    assert checked(hands, token(hands, again["wf_id"], pipeline_id=promoted))["trg"] == "h:t-n:f"


def test_each_token_has_its_own_id_and_the_requested_audience(hands: Hands) -> None:
    wf_id, _ = hands.run()
    first, second = (checked(hands, token(hands, wf_id, audience="reconciler")) for _ in range(2))
    assert first["aud"] == second["aud"] == "reconciler"
    assert first["jti"] != second["jti"]


def test_wrong_tokens_can_be_made(hands: Hands) -> None:
    wf_id, _ = hands.run()
    assert checked(hands, token(hands, wf_id, claims={"prj_id": "other"}))["prj_id"] == "other"
    with pytest.raises(ExpiredTokenError):
        checked(hands, token(hands, wf_id, expires_in_s=-60))
    head, body, signature = token(hands, wf_id).split(".")
    with pytest.raises(BadSignatureError):
        checked(hands, ".".join([head, body[:-2] + ("AA" if body[-2:] != "AA" else "BB"), signature]))


def test_keys_are_rotated_and_the_last_one_stays_until_it_is_forgotten(hands: Hands) -> None:
    wf_id, _ = hands.run()
    old = token(hands, wf_id)
    kid = hands.admin.do("rotate_job_keys")["kid"]
    new = token(hands, wf_id)
    assert checked(hands, old)["wf_id"] == checked(hands, new)["wf_id"] == wf_id
    keys = httpx.get(f"{hands.server.url}/.well-known/jwks.json", trust_env=False).json()["keys"]
    assert [key["kid"] for key in keys][-1] == kid
    hands.admin.do("rotate_job_keys", forget=True)
    for text in (old, new):
        with pytest.raises(InvalidKeyIdError):
            checked(hands, text)


@pytest.mark.parametrize("options", [{"workflow_id": "x"}, {"pipeline_id": "x"}, {"job_id": "x"}])
def test_there_is_no_token_of_what_there_is_not(hands: Hands, options: dict[str, str]) -> None:
    wf_id, _ = hands.run()
    with pytest.raises(RuntimeError, match="refused"):
        hands.admin.do("job_token", **{"workflow_id": wf_id, **options})
