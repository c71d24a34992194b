"""Stages that call services with an identity, through the real program: AWS, Azure, Google Cloud, and the daemon's own ID token."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest

from reconciler.model.errors import ReconcilerError
from reconciler.sandbox.azure.app import CLIENT, SECRET, SUBSCRIPTION, TENANT, Azure
from reconciler.sandbox.google.app import ACCOUNT, PROVIDER, Google
from reconciler.sandbox.server import SandboxServer
from tests.docs.pages import ROOT
from tests.flow.stage_world import StageWorld
from tests.support.called import Answer, CalledPeer, Received, Signer, aws, called
from tests.support.moto import moto

KEYS = {"first": ("AKIA" + "F" * 16, "canary-aws-secret-first-01"), "second": ("AKIA" + "S" * 16, "canary-aws-secret-second-02")}
FORBIDDEN: Answer = (401, {"error": "who are you?"}, {})


class IdentityWorld(StageWorld):
    """A daemon with Integrations of three clouds, and services that verify who calls."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, providers=())
        self.values = folder / "secrets"
        self.values.mkdir(mode=0o700)
        self.configure(secrets=f"{{folder: {self.values}}}")
        self.azure, self.google = Azure(), Google()
        for name, simulator in (("azure", self.azure), ("google", self.google)):
            self.servers[name] = self._stack.enter_context(SandboxServer(simulator))
        self.value("azure", SECRET)
        self.value("google", json.dumps(self.servers["google"].admin.do("create_key")))
        for name, (key, secret) in KEYS.items():
            self.value(f"{name}-id", key)
            self.value(f"{name}-secret", secret)
        self.manual()

    def value(self, name: str, text: str) -> None:
        path = self.values / name
        path.write_text(text)
        path.chmod(0o600)

    def cloud(self, name: str, spec: str, *keys: str, more: str = "") -> None:
        data = ", ".join(f"{key}: {{path: {key}}}" for key in keys)
        self.write(
            f"{name}.yaml",
            f"kind: Secret\nmetadata: {{name: {name}}}\nspec: {{provider: file, data: {{{data}}}}}\n---\n"
            f"kind: Integration\nmetadata: {{name: {name}}}\nspec: {{{spec}{more}}}",
        )

    def aws(self, name: str, url: str) -> None:
        parts = ", ".join(f"{part}: {{valueFrom: {{secret: {{name: {name}, key: {name}-{part}}}}}}}" for part in ("id", "secret"))
        spec = f"type: aws, region: eu-central-1, apiUrl: '{url}', auth: {{use: access-key, accessKey: {{{parts}}}}}"
        self.cloud(name, spec, f"{name}-id", f"{name}-secret")

    def tenant(self, more: str = "") -> None:
        block = f"{{tenantId: {TENANT}, clientId: {CLIENT}, subscriptionId: {SUBSCRIPTION}, secret: {{valueFrom: {{secret: {{name: azure, key: azure}}}}}}}}"
        url = self.servers["azure"].url
        self.cloud(
            "azure", f"type: azure, apiUrl: '{url}', auth: {{use: client-secret, clientSecret: {block}}}", "azure", more=more
        )

    def project(self) -> None:
        auth = "{use: service-account-key, serviceAccountKey: {valueFrom: {secret: {name: google, key: google}}}}"
        self.cloud("google", f"type: google, apiUrl: '{self.servers['google'].url}', auth: {auth}", "google")

    def call(self, name: str, url: str, auth: str, more: str = "", stage: str = "") -> None:
        self.stage(name, f"executor: {{type: http, spec: {{url: '{url}', auth: {auth}{more}}}}}", stage)

    def trigger_when_known(self) -> None:
        """Make an event as soon as the daemon has read the manifests, ready or not."""

        def triggered() -> bool:
            try:
                self.trigger()
            except ReconcilerError:
                return False
            return True

        self.wait(triggered, "the event is taken")

    def peer(self, stack: ExitStack, check: Any = lambda _request: None) -> CalledPeer:
        return stack.enter_context(called(check))

    # -- who calls

    def by_azure(self, audience: str) -> Any:
        def check(request: Received) -> Answer | None:
            client, opens, _ = self.azure._granted.get(request.bearer, ("", "", 0.0))
            return None if (client, opens) == (CLIENT, audience) else FORBIDDEN

        return check

    def by_google(self, audience: Any) -> Any:
        def check(request: Received) -> Answer | None:
            key = "an id token of the sandbox opens nothing"
            try:
                claims = jwt.decode(request.bearer, key, algorithms=["HS256"], audience=audience())
            except jwt.InvalidTokenError:
                return FORBIDDEN
            return None if claims["email"] == ACCOUNT else FORBIDDEN

        return check

    def by_daemon(self, audience: str, subject: str) -> Any:
        """Verify by the key set that the daemon publishes, as any service would."""
        issuer = f"http://127.0.0.1:{self.port}"

        def check(request: Received) -> Answer | None:
            try:
                key = jwt.PyJWKClient(f"{issuer}/.well-known/jwks.json").get_signing_key_from_jwt(request.bearer)
                claims = jwt.decode(request.bearer, key, algorithms=["RS256"], audience=audience, issuer=issuer)
            except jwt.PyJWTError:
                return FORBIDDEN
            return None if claims["sub"] == subject else FORBIDDEN

        return check


@pytest.fixture
def world(tmp_path: Path) -> Iterator[IdentityWorld]:
    made = IdentityWorld(tmp_path)
    yield made
    made.close()


def test_an_event_calls_each_cloud_and_a_service_of_ones_own_without_a_static_secret_in_the_call(world: IdentityWorld) -> None:
    with moto() as sts, ExitStack() as stack:
        first = world.peer(stack, aws(Signer(*KEYS["first"])))
        second = world.peer(stack, aws(Signer(*KEYS["second"], service="execute-api", region="us-west-2")))
        function = world.peer(stack, world.by_azure("api://billing"))
        container: CalledPeer = world.peer(stack, world.by_google(lambda: container.url))
        own = world.peer(stack, world.by_daemon("deploy-service", "reconciler:team-a:default:Stage:own"))
        for name in KEYS:
            world.aws(name, sts)
        world.tenant()
        world.project()
        world.call(
            "lambda",
            f"{first.url}/2015-03-31/functions/a:b/invocations?Qualifier=v%3A1&t=10:30",
            "{integration: first, service: lambda}",
        )
        world.call(
            "gateway",
            f"{second.url}/prod/jobs",
            "{integration: second, service: execute-api, region: us-west-2}",
            ", method: PUT",
        )
        world.call("function", f"{function.url}/api/run", "{integration: azure, audience: 'api://billing'}")
        poll = f", poll: {{url: '{container.url}/jobs/1', successWhen: '$.state == \"done\"', interval: 1s}}"
        world.call(
            "container",
            f"{container.url}/jobs",
            "{integration: google, audience: AUDIENCE}".replace("AUDIENCE", f"'{container.url}'"),
            poll,
        )
        world.call("own", f"{own.url}/deploy", "{oidc: {audience: deploy-service}}")
        container.replies = [(202, {"outputs": {}}, {}), (200, {"state": "busy"}, {}), (200, {"state": "done"}, {})]
        planned = world.cli("plan").stdout
        assert "/executor/spec/auth/integration" in planned
        world.ready()
        world.trigger(sha="abc")
        for stage in ("lambda", "gateway", "function", "container", "own"):
            row = world.finished(stage)[0]
            assert row["result"] == "passed", (stage, row)
        assert [len(peer.seen) for peer in (first, second, function, own)] == [1, 1, 1, 1]
        assert container.lines == ["POST /jobs", "GET /jobs/1", "GET /jobs/1"]
        assert len({request.bearer for request in container.seen}) == 1  # one token for the start and the polls
        credentials = {row["name"]: row for row in world.status()["credentials"]}
        assert credentials["Integration/default/first"]["dependents"] == ["Stage/lambda"]
        assert credentials["Integration/default/azure"]["dependents"] == ["Stage/function"]
        sent = [request.header("authorization") for peer in (first, second, function, container, own) for request in peer.seen]
        world.stop()
        kept = b"".join(path.read_bytes() for path in world.folder.rglob("*") if path.is_file() and path.parent != world.values)
        for canary in [*sent, *(secret for _, secret in KEYS.values()), SECRET]:
            assert canary.rpartition(" ")[2].encode() not in kept


def test_a_stage_never_calls_with_the_credential_of_another(world: IdentityWorld) -> None:
    with moto() as sts, ExitStack() as stack:
        peers = {name: world.peer(stack, aws(Signer(*pair))) for name, pair in KEYS.items()}
        for name, peer in peers.items():
            world.aws(name, sts)
            world.call(name, f"{peer.url}/{name}", f"{{integration: {name}, service: lambda}}", stage="concurrency: 4")
        world.ready()
        for _ in range(6):
            world.trigger()
        for name in KEYS:
            assert {row["result"] for row in world.finished(name, 6)} == {"passed"}
            ids = {request.header("authorization").partition("Credential=")[2].partition("/")[0] for request in peers[name].seen}
            assert ids == {KEYS[name][0]}


def test_a_kill_between_intent_and_call_calls_at_most_once_and_an_idempotent_call_is_signed_again(world: IdentityWorld) -> None:
    with moto() as sts, ExitStack() as stack:
        peer = world.peer(stack, aws(Signer(*KEYS["first"])))
        world.aws("first", sts)
        world.call("post", f"{peer.url}/post", "{integration: first, service: lambda}")
        assert world.cli("apply", "--yes").returncode == 0
        process = world.doomed("execution-after-intent")
        world.trigger_when_known()
        world.died(process, "execution-after-intent")
        assert peer.seen == []
        world.daemon()
        (row,) = world.finished("post")
        assert (row["result"], row["reason"]) == ("failed", "lost")
        assert "may have been received" in row["message"]
        assert peer.seen == []
        world.stop()
        world.call("put", f"{peer.url}/put", "{integration: first, service: lambda}", ", method: PUT")
        (world.manifests / "stage-post.yaml").unlink()
        assert world.cli("apply", "--yes").returncode == 0
        process = world.doomed("execution-after-intent")
        world.trigger_when_known()
        world.died(process, "execution-after-intent")
        world.daemon()
        (row,) = world.finished("put")
        assert (row["result"], peer.lines) == ("passed", ["PUT /put"])


def test_a_dead_credential_holds_the_start_back_with_the_reason_until_it_is_replaced(world: IdentityWorld) -> None:
    with ExitStack() as stack:
        peer = world.peer(stack, world.by_azure("api://billing"))
        world.value("azure", "canary-wrong-secret-000")
        world.tenant()
        world.call("bill", f"{peer.url}/api/run", "{integration: azure, audience: 'api://billing'}")
        world.daemon()
        refused = lambda: (world.condition("Integration", "azure", "CredentialsValid") or {}).get("status") == "False"  # noqa: E731
        world.wait(refused, "the credential is refused")
        world.trigger_when_known()

        item = world.waiting("bill", "credential")
        assert item["message"].startswith("Stage/bill calls nothing: the credential of Integration/azure is refused")
        assert "7000215" in item["message"]
        assert world.executions("bill") == []
        tried = [each for each in world.servers["azure"].admin.requests() if "/oauth2/" in each["path"]]
        assert len(tried) <= 2
        assert peer.seen == []
        rows = {each["name"]: each for each in world.status()["credentials"]}
        assert rows["Integration/default/azure"]["valid"] is False
        assert rows["Integration/default/azure"]["dependents"] == ["Stage/bill"]
        world.value("azure", SECRET)
        (row,) = world.finished("bill", seconds=120)
        assert (row["result"], len(peer.seen)) == ("passed", 1)


def test_a_suspended_integration_holds_its_stages_back(world: IdentityWorld) -> None:
    with ExitStack() as stack:
        peer = world.peer(stack, world.by_azure("api://billing"))
        world.tenant(more=", lifecycle: {suspend: {reason: 'audit of the tenant'}}")
        world.call("bill", f"{peer.url}/api/run", "{integration: azure, audience: 'api://billing'}")
        world.daemon()
        world.trigger_when_known()
        item = world.waiting("bill", "suspended")
        assert item["message"] == "Integration/azure is suspended: audit of the tenant"
        world.tenant()
        assert world.finished("bill")[0]["result"] == "passed"


def test_a_host_that_the_operator_did_not_allow_gets_nothing(world: IdentityWorld) -> None:
    world.tenant()
    world.call("evil", "https://evil.azurewebsites.net/api/run", "{integration: azure, audience: 'api://billing'}")
    world.call("own", "https://evil.example/x", "{oidc: {audience: deploy}}")
    world.ready()
    world.trigger()
    for stage, name in (("evil", "Integration/azure"), ("own", "the daemon's own ID token")):
        (row,) = world.finished(stage)
        assert row["result"] == "failed"
        assert f"the credential of {name} is not sent to evil." in row["message"]
        assert "network.allow" in row["message"]
    tokens = [each["body"] for each in world.servers["azure"].admin.requests() if "/oauth2/" in each["path"]]
    assert not [body for body in tokens if "billing" in str(body)]


SESSION = Signer("ASIA" + "E" * 16, "canary-session-secret-09", "canary-session-token-" + "s" * 40)
ROLE = "arn:aws:iam::123456789012:role/reconciler-deploy"


def security_token_service(world: IdentityWorld) -> Any:
    """Return a strict STS: it verifies our ID token by the published keys, and gives the session `SESSION`."""
    accepts = world.by_daemon("sts.amazonaws.com", "reconciler:team-a:default:Integration:aws")
    space = 'xmlns="https://sts.amazonaws.com/doc/2011-06-15/"'

    def check(request: Received) -> Answer | None:
        form = {key: values[0] for key, values in parse_qs(request.body.decode() or request.target.partition("?")[2]).items()}
        if form["Action"] == "GetCallerIdentity":
            refusal = aws(dataclasses.replace(SESSION, service="sts"))(request)
            result = "<Account>123456789012</Account><Arn>arn:aws:sts::123456789012:assumed-role/reconciler-deploy/x</Arn>"
        else:
            token = Received("POST", "/", (("authorization", f"Bearer {form['WebIdentityToken']}"),), b"")
            refusal = accepts(token) if form["RoleArn"] == ROLE else FORBIDDEN
            result = (
                f"<Credentials><AccessKeyId>{SESSION.id}</AccessKeyId><SecretAccessKey>{SESSION.secret}</SecretAccessKey>"
                f"<SessionToken>{SESSION.session}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>"
            )
        name = form["Action"]
        document = f"<{name}Response {space}><{name}Result>{result}</{name}Result></{name}Response>"
        return refusal or (200, document, {"content-type": "text/xml"})

    return check


def test_the_example_runs_without_any_static_secret(world: IdentityWorld) -> None:
    """Only the addresses of the simulated providers and services are added, and what their hosts do not say then."""
    issuer = f"http://127.0.0.1:{world.port}"
    trusted = {
        "name": "r",
        "issuer": issuer,
        "subject": "reconciler:team-a:default:Integration:azure",
        "audiences": ["api://AzureADTokenExchange"],
    }
    world.servers["azure"].admin.put_state(
        {"applications": {CLIENT: {"federated": [trusted], "secrets": []}}, "issuers": {issuer: issuer}}
    )
    audience = f"//iam.googleapis.com/{PROVIDER}"
    principal = f"principal:{audience.partition('/providers/')[0]}/subject/reconciler:team-a:default:Integration:google"
    world.servers["google"].admin.put_state(
        {
            "issuers": {issuer: issuer},
            "providers": {PROVIDER: {"issuer": issuer, "allowedAudiences": [audience], "attributeCondition": ""}},
            "accounts": {ACCOUNT: {"users": [principal]}},
        }
    )
    with ExitStack() as stack:
        sts = world.peer(stack, security_token_service(world))
        function = world.peer(stack, aws(SESSION))
        billing = world.peer(stack, world.by_azure("api://acme-billing"))
        container: CalledPeer = world.peer(stack, world.by_google(lambda: "https://smoke-test-abcdef-ew.a.run.app"))
        own = world.peer(stack, world.by_daemon("https://deploy.acme.example", "reconciler:team-a:default:Stage:announce"))
        container.replies = [(202, {}, {}), (200, {"state": "running"}, {}), (200, {"state": "done"}, {})]
        shutil.rmtree(world.manifests)
        world.manifests.mkdir()
        text = "---\n".join(
            (ROOT / "examples" / "cloud-calls" / f"{name}.yaml").read_text() for name in ("connections", "stages")
        )
        for written, here in {
            "https://q1w2e3r4t5.lambda-url.eu-central-1.on.aws": function.url,
            "integration: aws\n": "integration: aws\n        service: lambda\n",
            "https://acme-billing.azurewebsites.net": billing.url,
            "https://smoke-test-abcdef-ew.a.run.app": container.url,
            "integration: google\n": "integration: google\n        audience: https://smoke-test-abcdef-ew.a.run.app\n",
            "https://deploy.acme.example/": f"{own.url}/",
            **{f"type: {name}\n": f"type: {name}\n  apiUrl: {world.servers[name].url}\n" for name in ("azure", "google")},
            "type: aws\n": f"type: aws\n  apiUrl: {sts.url}\n",
        }.items():
            assert written in text
            text = text.replace(written, here)
        world.write("example.yaml", text)
        world.ready()
        assert world.send("release", {"version": "1.2.3"}) in (200, 202)
        for stage in ("migrate", "bill", "smoke-test", "announce"):
            row = world.finished(stage)[0]
            assert row["result"] == "passed", (stage, row)
        assert function.lines == ["POST /migrate"]
        assert json.loads(function.seen[0].body) == {"version": "1.2.3"}
        assert container.lines == ["POST /jobs", "GET /jobs/current", "GET /jobs/current"]
        assert (billing.lines, own.lines) == (["POST /api/announce"], ["PUT /releases"])
        world.stop()
    kept = b"".join(path.read_bytes() for path in world.folder.rglob("*") if path.is_file() and path.parent != world.values)
    for canary in (SESSION.secret, SESSION.session, own.seen[0].bearer, billing.seen[0].bearer, container.seen[0].bearer):
        assert canary.encode() not in kept
