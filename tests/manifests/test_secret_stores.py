"""Secrets in stores: what opens them must not be inside, and their files are no manifests."""

from __future__ import annotations

from reconciler.manifests import SourceFile, load

VAULT = "kind: Secret\nmetadata: {{name: {}}}\nspec:\n  provider: vault\n  vault:\n    address: https://bao.example\n    path: ci\n    auth: {}\n"
TOKEN = "{{use: token, token: {{valueFrom: {{secret: {{name: {}, key: token}}}}}}}}"


def problems(**texts: str) -> dict[str, str]:
    files = [SourceFile(f"{name}.yaml", name, text.encode()) for name, text in texts.items()]
    return {problem.code: problem.message for problem in load(files, revision="r").problems}


def test_secrets_that_open_each_other_are_refused():
    own = problems(a=VAULT.format("a", TOKEN.format("a")))
    assert "Secret/a → Secret/a" in own["RC4088"]
    both = problems(a=VAULT.format("a", TOKEN.format("b")), b=VAULT.format("b", TOKEN.format("a")))
    assert "Secret/a → Secret/b → Secret/a" in both["RC4088"]


def test_a_secret_that_its_own_integration_needs_is_refused():
    key = "{valueFrom: {secret: {name: keys, key: k}}}"
    found = problems(
        secret="kind: Secret\nmetadata: {name: keys}\nspec: {provider: aws, aws: {integration: {name: cloud}, data: {k: {parameter: /k}}}}",
        cloud="kind: Integration\nmetadata: {name: cloud}\nspec:\n  type: aws\n"
        f"  auth: {{use: access-key, accessKey: {{id: {key}, secret: {key}}}}}",
    )
    assert "Integration/cloud → Secret/keys → Integration/cloud" in found["RC4088"]


def test_a_path_cannot_leave_its_place_and_a_login_is_whole():
    auth = "{use: oidc, role: ci}"
    assert problems(a=VAULT.format("a", auth)) == {}
    assert "RC1276" in problems(a=VAULT.format("a", auth).replace("path: ci", "path: a/../b"))
    assert problems(a=VAULT.format("a", "{use: oidc}")) != {}
    assert problems(a=VAULT.format("a", "token")) != {}


def test_an_encrypted_file_is_kept_and_not_read_as_a_manifest():
    desired = load([SourceFile("x.sops.yaml", "1", b"a: [")], revision="r")
    assert desired.problems == ()
    assert desired.encrypted["x.sops.yaml"].blob == "1"
    assert "a: [" not in repr(desired)
