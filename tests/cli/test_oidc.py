"""``reconciler oidc``: the forms of its actions, the trust policies, and a real OpenBao that takes one as it is printed."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from reconciler.credentials.issuer import MAX_SUBJECT
from reconciler.drivers.trust import PROVIDERS, TrustRequest, aws, azure, google, vault
from reconciler.model.errors import UsageError
from tests.support.issuing import Issuer
from tests.support.openbao import OpenBao, openbao

HTTPS = "{issuer: 'https://ci.example.com/tenant'}"


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    """An installation with a state, and no running daemon."""
    issuer = Issuer(tmp_path_factory.mktemp("offline"), oidc=HTTPS)
    issuer.start()
    issuer.stop()
    return issuer


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    issuer = Issuer(tmp_path_factory.mktemp("running"))
    issuer.start()
    yield issuer
    issuer.stop()


def policy(issuer: Issuer, party: str, resource: str, *more: str) -> dict[str, object]:
    shown = issuer.must("oidc", "trust", party, resource, "--dir", str(issuer.manifests), "-o", "json", *more)
    document: dict[str, object] = json.loads(shown)
    return document


def test_the_trust_policy_of_a_role_names_issuer_audience_and_subject(offline: Issuer):
    document = policy(offline, "aws", "Integration/cloud")
    statement = document["Statement"][0]  # type: ignore[index]
    assert statement["Principal"] == {"Federated": "arn:aws:iam::123456789012:oidc-provider/ci.example.com/tenant"}
    assert statement["Condition"]["StringEquals"] == {
        "ci.example.com/tenant:aud": "sts.amazonaws.com",
        "ci.example.com/tenant:sub": "reconciler:acme:default:Integration:cloud",
    }


def test_an_overridden_subject_and_audience_are_in_the_policy(offline: Issuer):
    document = policy(offline, "azure", "Integration/tenant")
    assert (document["subject"], document["audiences"]) == ("deploy-bot", ["api://AzureADTokenExchange"])
    assert policy(offline, "azure", "Integration/tenant", "--audience", "other")["audiences"] == ["other"]
    assert policy(offline, "google", "Integration/project")["oidc"] == {
        "issuerUri": "https://ci.example.com/tenant",
        "allowedAudiences": ["ci"],
    }


@pytest.mark.parametrize("party", sorted(PROVIDERS))
def test_a_stage_has_a_policy_at_every_relying_party(offline: Issuer, party: str):
    assert "reconciler:acme:default:Stage:deploy" in json.dumps(policy(offline, party, "Stage/deploy"))


def test_the_text_is_a_shell_script_that_installs_the_policy(offline: Issuer):
    shown = offline.must("oidc", "trust", "google", "Integration/project", "--dir", str(offline.manifests))
    lines = shown.splitlines()
    assert lines[0] == "cat > policy.json <<'EOF'"
    end = lines.index("EOF")
    assert json.loads("\n".join(lines[1:end]))
    words = shlex.split(lines[end + 1])
    assert words[:6] == ["gcloud", "iam", "workload-identity-pools", "providers", "create-oidc", "ours"]
    assert "assertion.sub == 'reconciler:acme:default:Integration:project'" in words
    member = "workloadIdentityPools/pool/subject/reconciler:acme:default:Integration:project"
    assert shlex.split(lines[end + 2])[-4:] == [
        *("--role", "roles/iam.workloadIdentityUser"),
        *("--member", f"principal://iam.googleapis.com/projects/7/locations/global/{member}"),
    ]


ERRORS = [
    (("trust", "aws"), "RC3001", "oidc trust PARTY KIND/NAME"),
    (("trust", "dropbox", "Integration/cloud"), "RC3001", "Known: aws, azure, google, vault, buddy"),
    (("trust", "azure", "Integration/cloud"), "RC4053", "is of type aws, not azure"),
    (("trust", "aws", "Integration/code"), "RC4053", "uses auth 'token'"),
    (("trust", "aws", "Secret/token"), "RC4053", "Secret of provider env"),
    (("trust", "vault", "Secret/static"), "RC4053", "logs in by 'token'"),
    (("trust", "aws", "EventSource/hand"), "RC4053", "is of kind EventSource"),
    (("trust", "aws", "Integration/nobody"), "RC3001", "no valid manifest of Integration/nobody"),
    (("token", "EventSource/hand"), "RC4053", "hand.yaml:1:1"),
    (("rotate", "now"), "RC3001", "the form is: reconciler oidc rotate"),
    (("export", "a", "--emergency"), "RC3001", "--emergency goes with `oidc rotate`"),
    (("rotate", "--show"), "RC3001", "--show goes with `oidc token`"),
    (("rotate", "--emergency"), "", "there is no terminal to ask on: use --yes"),
    (("export", "reconciler.yaml"), "RC4051", "cannot be written"),
    (("publish",), "RC3001", "invalid choice"),
]


@pytest.mark.parametrize(("arguments", "code", "text"), ERRORS, ids=[" ".join(row[0]) for row in ERRORS])
def test_an_error_names_the_place_the_form_and_the_next_step(offline: Issuer, arguments: tuple[str, ...], code: str, text: str):
    place = ("--dir", str(offline.manifests)) if arguments[0] in {"trust", "token"} else ()
    done = offline.run("oidc", *arguments, *place)
    assert done.returncode != 0
    assert text in done.stderr
    assert code in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_an_installation_that_is_no_issuer_says_what_to_set(tmp_path: Path):
    issuer = Issuer(tmp_path)
    config = issuer.folder / "reconciler.yaml"
    config.write_text(
        "\n".join(line for line in config.read_text().splitlines() if not line.startswith(("server", "oidc"))) + "\n"
    )
    for arguments in (("export", "public"), ("rotate",), ("trust", "aws", "Stage/deploy"), ("token", "Stage/deploy")):
        done = issuer.run(
            "oidc", *arguments, *(("--dir", str(issuer.manifests)) if len(arguments) > 1 and arguments[0] != "export" else ())
        )
        assert done.returncode != 0
        assert "RC4020" in done.stderr
        assert "oidc.issuer" in done.stderr


@pytest.mark.parametrize("issuer", ["https://ci.example.com:8443", "http://ci.example.com"])
def test_aws_takes_only_https_without_a_port(issuer: str):
    with pytest.raises(UsageError) as error:
        aws(TrustRequest(issuer, "s", "a", {}))
    assert error.value.code == "RC4052"


BLOCK = {"address": "https://bao", "mount": "kv", "path": "team/ci", "namespace": "", "role": "ci", "authMount": ""}


def test_the_commands_for_vault_name_the_auth_mount_the_namespace_and_what_is_read():
    trust = vault(TrustRequest("https://ci", "s", "a", {**BLOCK, "namespace": "eu/team", "authMount": "oidc/ci"}))
    assert [shlex.split(line) for line in trust.commands] == [
        ["bao", "auth", "enable", "-namespace=eu/team", "-path=oidc/ci", "jwt"],
        [
            *("bao", "write", "-namespace=eu/team", "auth/oidc/ci/config"),
            *("oidc_discovery_url=https://ci", "bound_issuer=https://ci"),
        ],
        [
            *("printf", "%s", 'path "kv/data/team/ci" { capabilities = ["read"] }', "|"),
            *("bao", "policy", "write", "-namespace=eu/team", "reconciler-kv-team-ci", "-"),
        ],
        ["bao", "write", "-namespace=eu/team", "auth/oidc/ci/role/ci", "@policy.json"],
    ]
    assert trust.policy["token_policies"] == ["reconciler-kv-team-ci"]
    plain = vault(TrustRequest("https://ci", "s", "a", BLOCK))
    assert plain.commands[0] == "bao auth enable jwt"
    assert plain.commands[-1] == "bao write auth/jwt/role/ci @policy.json"


def test_names_of_federated_credentials_are_short_and_differ_for_each_subject():
    subjects = ["a:b", "a-b", "a" * MAX_SUBJECT, "a" * (MAX_SUBJECT - 1) + "b", ":::"]
    names = [str(azure(TrustRequest("https://ci", subject, "a", {})).policy["name"]) for subject in subjects]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 120 for name in names)


def test_a_subject_cannot_leave_the_text_of_a_condition():
    trust = google(TrustRequest("https://ci", "a' || true || 'ü\\", "a", {}))
    assert trust.policy["attributeCondition"] == "assertion.sub == 'a\\' || true || \\'ü\\\\'"
    assert shlex.split(trust.commands[0])[-1] == trust.policy["attributeCondition"]


def test_the_export_is_readable_by_a_web_server_and_replaces_files_whole(offline: Issuer, tmp_path: Path):
    before = os.umask(0o077)
    try:
        offline.must("oidc", "export", str(tmp_path / "a" / "public"))
        answer = json.loads(offline.must("oidc", "export", str(tmp_path / "a" / "public"), "-o", "json"))
    finally:
        os.umask(before)
    folder = tmp_path / "a" / "public" / ".well-known"
    assert sorted(path.name for path in folder.iterdir()) == ["jwks.json", "openid-configuration"]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o644 for path in folder.iterdir())
    assert (
        json.loads((folder / "openid-configuration").read_text())["jwks_uri"]
        == "https://ci.example.com/tenant/.well-known/jwks.json"
    )
    assert [key["kid"] for key in json.loads((folder / "jwks.json").read_text())["keys"]] == answer["keys"]


def test_a_token_is_shown_on_request_only_and_the_audit_log_says_to_whom(running: Issuer):
    place = ("--dir", str(running.manifests))
    claims = running.must("oidc", "token", "Integration/cloud", *place)
    assert json.loads(claims)["sub"] == "reconciler:acme:default:Integration:cloud"
    assert "eyJ" not in claims
    token = running.token("--audience", "vault")
    assert jwt.decode(token, options={"verify_signature": False})["aud"] == "vault"
    rows = [line for line in running.must("history").splitlines() if "oidc-token" in line]
    assert len(rows) == 1
    assert "Integration/cloud" in rows[0]
    assert token not in running.log()


@pytest.fixture
def bao() -> Iterator[OpenBao]:
    with openbao() as server:
        yield server


def test_openbao_takes_the_printed_policy_and_then_our_token(running: Issuer, bao: OpenBao):
    place = ("--dir", str(running.manifests))
    printed = policy(running, "vault", "Stage/deploy")
    bao.must("POST", "sys/auth/jwt", {"type": "jwt"})
    bao.must("POST", "auth/jwt/config", {"oidc_discovery_url": running.issuer, "bound_issuer": running.issuer})
    bao.must("POST", "auth/jwt/role/ci", printed)
    audience = printed["bound_audiences"][0]  # type: ignore[index]
    shown = running.must("oidc", "token", "Stage/deploy", *place, "--audience", audience, "--show", "-o", "json")
    login = {"role": "ci", "jwt": json.loads(shown)["token"]}
    assert bao.call("POST", "auth/jwt/login", login, token="").status_code == 200
    refused = bao.call("POST", "auth/jwt/login", {"role": "ci", "jwt": running.token("--audience", audience)}, token="")
    assert refused.status_code == 400


def test_the_script_for_a_secret_is_pasted_into_a_shell_and_the_daemon_then_reads_it(
    running: Issuer, bao: OpenBao, tmp_path: Path
):
    """Nothing of the printed script has to be replaced; the auth method is not at its usual path."""
    bao.must("POST", "secret/data/team/ci", {"data": {"token": "canary-of-the-store"}})
    running.manifests.joinpath("store.yaml").write_text(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: store}\nspec:\n  provider: vault\n"
        f"  vault: {{address: '{bao.url}', path: team/ci, auth: {{use: oidc, role: ci, mount: daemons}}}}\n"
    )
    script = running.must("oidc", "trust", "vault", "Secret/store", "--dir", str(running.manifests))
    environment = {**os.environ, "BAO_ADDR": bao.url, "BAO_TOKEN": bao.token, "HOME": str(tmp_path)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(["sh", "-e"], input=script, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    claims = json.loads(running.must("oidc", "token", "Secret/store", "--dir", str(running.manifests)))
    shown = running.must("oidc", "token", "Secret/store", "--dir", str(running.manifests), "--show", "-o", "json")
    login = bao.call("POST", "auth/daemons/login", {"role": "ci", "jwt": json.loads(shown)["token"]}, token="")
    assert (login.status_code, claims["aud"]) == (200, bao.url)
    token = login.json()["auth"]["client_token"]
    assert bao.call("GET", "secret/data/team/ci", token=token).json()["data"]["data"] == {"token": "canary-of-the-store"}
    assert bao.call("GET", "secret/data/team/other", token=token).status_code == 403
