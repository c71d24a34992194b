"""`auth` of an `http` executor: each mistake has its code, its place and the form to write."""

from __future__ import annotations

import pytest

from reconciler.manifests.kinds import StageSpec
from reconciler.manifests.load import SourceFile, load
from reconciler.model.resources import Desired, ResourceId

CREDENTIAL = "{valueFrom: {secret: {name: s, key: k}}}"
INTEGRATIONS = {
    "cloud": f"{{type: aws, auth: {{use: access-key, accessKey: {{id: {CREDENTIAL}, secret: {CREDENTIAL}}}}}}}",
    "tenant": f"{{type: azure, auth: {{use: client-secret, clientSecret: {{tenantId: t, subscriptionId: s, clientId: c, secret: {CREDENTIAL}}}}}}}",
    "project": f"{{type: google, auth: {{use: service-account-key, serviceAccountKey: {CREDENTIAL}}}}}",
    "code": f"{{type: github, url: 'https://github.com/acme', auth: {{use: token, token: {CREDENTIAL}}}}}",
    "lab": f"{{type: gitlab, url: 'https://gitlab.com', auth: {{use: token, token: {CREDENTIAL}}}}}",
}
LAMBDA = "https://abc.lambda-url.eu-central-1.on.aws/"


def loaded(auth: str, url: str = LAMBDA, more: str = "") -> Desired:
    rest = "".join(f"---\nkind: Integration\nmetadata: {{name: {name}}}\nspec: {spec}\n" for name, spec in INTEGRATIONS.items())
    text = (
        "kind: Stage\nmetadata: {name: deploy}\nspec:\n  connections: [{type: event-source, name: hand}]\n  executor:\n    type: http\n"
        f"    spec:\n      url: '{url}'\n      auth: {auth}\n{more}"
        "---\nkind: EventSource\nmetadata: {name: hand}\nspec: {type: manual}\n"
        "---\nkind: Secret\nmetadata: {name: s}\nspec: {provider: env, data: {k: {env: RECONCILER_SECRET_K}}}\n"
    )
    return load([SourceFile("all.yaml", "1", (text + rest).encode())], revision="r")


@pytest.mark.parametrize(
    ("auth", "url"),
    [
        ("{integration: cloud}", LAMBDA),
        ("{integration: cloud, service: execute-api, region: eu-west-1}", "https://deploy.example/x/${{ event.id }}"),
        ("{integration: tenant, audience: 'api://billing'}", "https://billing.azurewebsites.net/api/run"),
        ("{integration: tenant}", "https://acme.vault.azure.net/secrets/x?api-version=7.4"),
        ("{integration: project}", "https://billing-abc-ew.a.run.app/jobs"),
        ("{integration: project, audience: billing}", "https://billing.example/jobs"),
        ("{oidc: {audience: 'https://deploy.example'}}", "https://deploy.example/jobs"),
        ("{oidc: {audience: deploy}}", "http://localhost:8080/jobs"),
    ],
)
def test_a_stage_may_have_an_identity(auth: str, url: str) -> None:
    desired = loaded(auth, url)
    assert desired.problems == ()
    stage = desired.by_id()[ResourceId("Stage", "default", "deploy")]
    named = stage.typed(StageSpec).executor.integration_name
    assert [ref.name for ref in stage.references if ref.kind == "Integration"] == ([named] if named else [])


@pytest.mark.parametrize(
    ("auth", "code", "pointer", "message", "hint"),
    [
        ("{integration: clod}", "RC1212", "/integration", "there is no Integration 'clod'", "Did you mean 'cloud'?"),
        ("{}", "RC1203", "", "auth names no identity", "auth: {integration: NAME}"),
        ("{audience: x}", "RC1203", "", "auth names no identity", "auth: {oidc: {audience: …}}"),
        ("{integration: cloud, oidc: {audience: x}}", "RC1206", "/oidc", "two identities", "auth: {integration: NAME}"),
        ("{oidc: {audience: x}, region: eu-west-1}", "RC1206", "/region", "region goes with auth.integration", ""),
        ("{integration: code}", "RC4403", "/integration", "its credential opens GitHub itself", "aws or azure or google"),
        ("{integration: lab}", "RC4403", "/integration", "its credential opens GitLab itself", "auth: {oidc: {audience: …}}"),
        ("{integration: cloud, audience: x}", "RC1206", "/audience", "type azure or google", "With aws write service or region"),
        ("{integration: project, service: lambda}", "RC1206", "/service", "type aws", "With google write audience"),
        ("{integration: tenant}", "RC4405", "", "does not say the audience", "auth: {integration: tenant, audience: …}"),
        ("{oidc: {audience: sts.amazonaws.com}}", "RC4407", "/oidc/audience", "AWS's token exchange", "type aws"),
        ("{oidc: {audience: 'api://AzureADTokenExchangeChina'}}", "RC4407", "/oidc/audience", "Azure's", "type azure"),
        ("{oidc: {audience: '//iam.googleapis.com/projects/1/x'}}", "RC4407", "/oidc/audience", "Google Cloud's", "type google"),
        ("{integration: project, audience: sts.amazonaws.com}", "RC4407", "/audience", "AWS's token exchange", "type aws"),
        ("{oidc: {audience: 'https://api.buddy.works'}}", "RC4407", "/oidc/audience", "Buddy's token exchange", "type buddy"),
        ("{integration: cloud, region: '${{ event.region }}'}", "RC1105", "/region", "required form", "eu-central-1"),
        ("{integration: project, audience: '${{ event.aud }}'}", "RC1302", "/audience", "not replaced here", ""),
        ("{oidc: {audience: '${{ event.A }}'}}", "RC1302", "/oidc/audience", "not replaced here", ""),
        ("{integration: {name: cloud}}", "RC1104", "/integration", "must be of type string, not a mapping", ""),
        ("{integraton: cloud}", "RC1100", "", "unknown key", "integration"),
        ("{oidc: {audience: x, subject: 'reconciler:a:default:Integration:cloud'}}", "RC1100", "/oidc", "subject", ""),
    ],
)
def test_each_mistake_has_its_place_and_the_form_to_write(auth: str, code: str, pointer: str, message: str, hint: str) -> None:
    problems = loaded(auth).problems
    assert problems, auth
    first = problems[0]
    assert (first.code, first.pointer.startswith(f"/spec/executor/spec/auth{pointer}")) == (code, True), problems
    assert message in first.message
    assert hint in first.hint
    assert first.location.line == 9


def test_a_host_that_names_no_service_needs_one() -> None:
    (problem,) = loaded("{integration: cloud}", "https://deploy.example/x").problems
    assert (problem.code, problem.message) == (
        "RC4405",
        "the host deploy.example does not say the service that a call with cloud is for",
    )
    assert "auth: {integration: cloud, service: …}" in problem.hint


@pytest.mark.parametrize("auth", ["{integration: cloud, service: lambda}", "{oidc: {audience: x}}"])
def test_http_is_refused(auth: str) -> None:
    (problem,) = loaded(auth, "http://deploy.example/x").problems
    assert (problem.code, problem.pointer) == ("RC4402", "/spec/executor/spec/url")


@pytest.mark.parametrize(
    ("auth", "header", "taken"),
    [
        ("{integration: cloud}", "authorization", True),
        ("{integration: cloud}", "X-Amz-Date", True),
        ("{integration: cloud}", "X-Amz-Invocation-Type", False),
        ("{integration: project}", "Authorization", True),
        ("{integration: project}", "Date", False),
        ("{oidc: {audience: x}}", "AUTHORIZATION", True),
    ],
)
def test_headers_of_the_identity_cannot_be_set(auth: str, header: str, taken: bool) -> None:
    problems = loaded(auth, more=f"      headers: {{{header}: x}}\n").problems
    assert [(p.code, p.pointer) for p in problems] == ([("RC4406", f"/spec/executor/spec/headers/{header}")] if taken else [])
