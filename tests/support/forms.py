"""Every form of authentication of every provider: what a manifest says, the secrets it names, and a peer that accepts them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.sandbox.app import Simulator
from reconciler.sandbox.azure.app import CLIENT, SUBSCRIPTION, TENANT
from reconciler.sandbox.azure.app import SECRET as AZURE_SECRET
from reconciler.sandbox.buddy.app import SCOPES
from reconciler.sandbox.google.app import ACCOUNT, PROVIDER
from reconciler.sandbox.server import SandboxServer, simulator
from reconciler.sandbox.spinnaker.app import PASSWORD, USER
from reconciler.sandbox.spinnaker.app import TOKEN as GATE_TOKEN
from tests.github.apps import create
from tests.support.sts import KEY_ID, ROLE, SECRET, SecurityTokens

BUDDY_PROVIDER = "6f1c1f0e-0000-4000-8000-00000000b0dd"
Values = dict[str, str]


def ref(key: str, secret: str = "credentials") -> dict[str, Any]:
    """Return a reference to a key of a Secret."""
    return {"valueFrom": {"secret": {"name": secret, "key": key}}}


def first_token(server: SandboxServer) -> Values:
    return {"token": next(iter(server.admin.state()["tokens"]))}


@dataclass(frozen=True)
class Trust:
    """The issuer that a peer has to trust: ``documents`` is where it publishes, ``subject`` what our tokens name."""

    issuer: str
    documents: str
    subject: str


Prepare = Callable[[SandboxServer, Trust], Values]


@dataclass(frozen=True)
class Form:
    """One form. ``prepare`` makes the peer accept it, and returns the values of the Secret."""

    name: str
    auth: Mapping[str, Any]
    prepare: Prepare = lambda _server, _trust: {}
    spec: Mapping[str, Any] = field(default_factory=dict)
    peer: Callable[[], Simulator] | None = None
    exchanged: bool = False
    """Whether a token endpoint is asked before the API."""

    @property
    def provider(self) -> str:
        return self.name.partition("/")[0]

    @property
    def use(self) -> str:
        return str(self.auth["use"])

    def auth_with(self, values: Values) -> dict[str, Any]:
        """Return ``spec.auth``, with the id of the App that ``values`` name."""
        block = self.auth.get("githubApp")
        return {**self.auth, "githubApp": {**block, "appId": int(values["appId"])}} if block else dict(self.auth)

    def simulator(self) -> Simulator:
        return self.peer() if self.peer is not None else simulator(self.provider)


def _by_token(name: str, url: str = "", prepare: Callable[[SandboxServer], None] | None = None, **spec: Any) -> Form:
    def ready(server: SandboxServer, _trust: Trust) -> Values:
        if prepare is not None:
            prepare(server)
        return first_token(server)

    return Form(name, {"use": "token", "token": ref("token")}, ready, {**({"url": url} if url else {}), **spec})


def _basic(name: str, username: str, value: Callable[[SandboxServer], str], url: str, *, exchanged: bool = False) -> Form:
    auth = {"use": "basic", "basic": {"username": username, "password": ref("token")}}
    return Form(name, auth, lambda server, _: {"token": value(server)}, {"url": url}, exchanged=exchanged)


def _bot(username: str) -> Callable[[SandboxServer], None]:
    return lambda server: server.admin.put_state({"users": {"7": {"username": username}}})


def _region(name: str) -> Callable[[SandboxServer], None]:
    def put(server: SandboxServer) -> None:
        server.admin.settings(region=name)
        server.admin.put_state({"tokens": {first_token(server)["token"]: {"region": name}}})

    return put


def _app(server: SandboxServer, _trust: Trust) -> Values:
    app = create(server)
    return {"token": app.pem, "appId": str(app.id)}


def _github_app() -> Form:
    auth = {"use": "github-app", "githubApp": {"privateKey": ref("token")}}
    return Form("github/github-app", auth, _app, {"url": "https://github.com/acme"})


def _open_gate(server: SandboxServer, _trust: Trust) -> Values:
    server.admin.settings(login=0)
    return {}


def _buddy(server: SandboxServer, trust: Trust) -> Values:
    provider = {
        "issuer": trust.issuer,
        "audience": "https://api.buddy.works",
        "conditions": {"sub": trust.subject},
        "scopes": list(SCOPES),
    }
    server.admin.put_state({"oidc_providers": {BUDDY_PROVIDER: provider}, "issuers": {trust.issuer: trust.documents}})
    return {}


def _azure(server: SandboxServer, trust: Trust) -> Values:
    federated = {"issuer": trust.issuer, "subject": trust.subject, "audiences": ["api://AzureADTokenExchange"]}
    server.admin.put_state({"applications": {CLIENT: {"federated": [federated]}}, "issuers": {trust.issuer: trust.documents}})
    return {"secret": AZURE_SECRET}


def _google(server: SandboxServer, trust: Trust) -> Values:
    pool = f"principal://iam.googleapis.com/{PROVIDER.partition('/providers/')[0]}/subject/{trust.subject}"
    allowed = {"issuer": trust.issuer, "allowedAudiences": [f"//iam.googleapis.com/{PROVIDER}"]}
    provider = {**allowed, "attributeCondition": f"assertion.sub == '{trust.subject}'"}
    server.admin.put_state(
        {
            "issuers": {trust.issuer: trust.documents},
            "providers": {PROVIDER: provider},
            "accounts": {ACCOUNT: {"users": [pool]}},
        }
    )
    return {"key": json.dumps(server.admin.do("create_key"))}


def _aws(server: SandboxServer, trust: Trust) -> Values:
    server.admin.put_state({"trusted": [trust.subject], "issuers": {trust.issuer: trust.documents}})
    return {"id": KEY_ID, "secret": SECRET}


_ACCESS_KEY = {"use": "access-key", "accessKey": {"id": ref("id"), "secret": ref("secret")}}
_WORKLOAD = {"workloadIdentityProvider": PROVIDER}
_APPLICATION = {"tenantId": TENANT, "clientId": CLIENT}
_GATE = "https://gate.example.com:8084"
FORMS = (
    _by_token("github/token", "https://github.com/acme"),
    _basic("github/basic", "sandbox-bot", lambda server: first_token(server)["token"], "https://github.com/acme"),
    _github_app(),
    _by_token("semaphore/token", "https://acme.semaphoreci.com"),
    _by_token("gitlab/token-personal", "https://gitlab.com"),
    _by_token("gitlab/token-project", "https://gitlab.com", _bot("project_12_bot_0a1b")),
    _by_token("gitlab/token-group", "https://gitlab.com", _bot("group_34_bot_0a1b")),
    _by_token("buddy/token", "https://app.buddy.works/acme"),
    Form("buddy/oidc", {"use": "oidc", "oidc": {"providerId": BUDDY_PROVIDER}}, _buddy, {"url": "https://app.buddy.works/acme"},
         exchanged=True),
    Form("aws/access-key", _ACCESS_KEY, _aws, peer=SecurityTokens),
    Form("aws/access-key-roles", {**_ACCESS_KEY, "roleAssumptions": [{"arn": ROLE}]}, _aws, peer=SecurityTokens, exchanged=True),
    Form("aws/oidc", {"use": "oidc", "oidc": {"roleArn": ROLE}}, _aws, peer=SecurityTokens, exchanged=True),
    Form("azure/client-secret", {"use": "client-secret",
         "clientSecret": {**_APPLICATION, "subscriptionId": SUBSCRIPTION, "secret": ref("secret")}}, _azure, exchanged=True),
    Form("azure/oidc", {"use": "oidc", "oidc": {**_APPLICATION, "subscriptionId": SUBSCRIPTION}}, _azure, exchanged=True),
    Form("google/service-account-key", {"use": "service-account-key", "serviceAccountKey": ref("key")}, _google, exchanged=True),
    Form("google/oidc", {"use": "oidc", "oidc": _WORKLOAD}, _google, exchanged=True),
    Form("google/oidc-account", {"use": "oidc", "oidc": {**_WORKLOAD, "serviceAccount": ACCOUNT}}, _google, exchanged=True),
    _basic("dockerhub/basic", "acme", lambda server: first_token(server)["token"], "https://hub.docker.com", exchanged=True),
    _by_token("digitalocean/token"),
    _by_token("newrelic/token-us", region="us"),
    _by_token("newrelic/token-eu", prepare=_region("eu"), region="eu"),
    Form("spinnaker/token", {"use": "token", "token": ref("token")}, lambda _s, _t: {"token": GATE_TOKEN}, {"url": _GATE}),
    _basic("spinnaker/basic", USER, lambda _server: PASSWORD, _GATE),
    Form("spinnaker/none", {"use": "none"}, _open_gate, {"url": _GATE}),
)  # fmt: skip
"""All of them. What follows the form's own name (``token-group``) is a variant."""


__all__ = ["FORMS", "Form", "Trust", "Values", "ref"]
