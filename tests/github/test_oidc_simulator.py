"""Job tokens of the simulator: signed as GitHub signs them, and checked with the keys it publishes."""

import httpx
import pytest
from joserfc import jwt
from joserfc.errors import BadSignatureError, ExpiredTokenError, InvalidKeyIdError
from joserfc.jwk import KeySet

from tests.github.simulator import Hands, put_workflows

WEB = "/repos/acme/web"


@pytest.fixture
def hands(github):
    put_workflows(github, {"id": 7, "name": "Deploy", "path": ".github/workflows/deploy.yml", "duration_s": 600})
    with Hands(github) as opened:
        yield opened


@pytest.fixture
def number(hands):
    body = {"ref": "main", "return_run_details": True}
    return hands.post(f"{WEB}/actions/workflows/7/dispatches", body, 200)["workflow_run_id"]


def token(hands, number, **options):
    return hands.github.admin.do("job_token", repo="acme/web", run_id=number, audience="reconciler", **options)["token"]


def checked(hands, text):
    """The claims of a token, checked with what the issuer publishes; nobody has to log in for that."""
    about = httpx.get(f"{hands.github.url}/_services/token/.well-known/openid-configuration", trust_env=False).json()
    keys = httpx.get(about["jwks_uri"], trust_env=False).json()
    assert all(set(key) >= {"kty", "alg", "use", "kid", "n", "e"} and "d" not in key for key in keys["keys"])
    claims = jwt.decode(text, KeySet.import_key_set(keys), algorithms=about["id_token_signing_alg_values_supported"]).claims
    jwt.JWTClaimsRegistry(iss={"essential": True, "value": about["issuer"]}).validate(claims)
    return claims


def test_a_job_token_says_of_the_run_what_github_says(hands, number):
    claims = checked(hands, token(hands, number))
    repository = hands.get(WEB)
    assert claims["iss"] == f"{hands.github.url}/_services/token"
    assert (claims["sub"], claims["aud"]) == ("repo:acme/web:ref:refs/heads/main", "reconciler")
    assert (claims["repository"], claims["repository_id"]) == ("acme/web", str(repository["id"]))
    assert (claims["repository_owner"], claims["repository_owner_id"]) == ("acme", str(repository["owner"]["id"]))
    assert (claims["run_id"], claims["run_attempt"], claims["event_name"]) == (str(number), "1", "workflow_dispatch")
    assert claims["workflow_ref"] == "acme/web/.github/workflows/deploy.yml@refs/heads/main"
    assert (claims["ref"], claims["actor"]) == ("refs/heads/main", "sandbox-bot")
    assert claims["sha"] == hands.get(f"{WEB}/commits/main")["sha"]
    assert claims["nbf"] <= claims["iat"] < claims["exp"]


def test_each_token_has_its_own_id_and_the_attempt_of_its_run(hands, number):
    hands.github.admin.do("finish_run", repo="acme/web", run_id=number)
    first = checked(hands, token(hands, number))
    hands.post(f"{WEB}/actions/runs/{number}/rerun")
    second = checked(hands, token(hands, number))
    assert first["jti"] != second["jti"]
    assert (first["run_attempt"], second["run_attempt"]) == ("1", "2")


def test_the_subject_names_an_environment_and_on_demand_the_ids(hands, number):
    assert checked(hands, token(hands, number, environment="live"))["sub"] == "repo:acme/web:environment:live"
    hands.github.admin.settings(immutable_subject=True)
    claims = checked(hands, token(hands, number))
    ids = claims["repository_owner_id"], claims["repository_id"]
    assert claims["sub"] == "repo:acme@{}/web@{}:ref:refs/heads/main".format(*ids)


def test_after_a_rotation_old_tokens_hold_until_their_key_is_forgotten(hands, number):
    old = token(hands, number)
    hands.github.admin.do("rotate_job_keys")
    assert checked(hands, old)["run_id"] == checked(hands, token(hands, number))["run_id"] == str(number)
    hands.github.admin.do("rotate_job_keys", forget=True)
    with pytest.raises((InvalidKeyIdError, BadSignatureError)):
        checked(hands, old)
    assert checked(hands, token(hands, number))["run_id"] == str(number)


def test_wrong_tokens_are_made_on_demand(hands, number):
    with pytest.raises(ExpiredTokenError):
        checked(hands, token(hands, number, expires_in_s=-1))
    assert checked(hands, token(hands, number, claims={"run_id": "1"}))["run_id"] == "1"
    with pytest.raises(RuntimeError, match="no run 1 in acme/web"):
        token(hands, 1)
