"""What the simulated providers have before the demo begins: accounts, tokens, an App, a chat; and the manifests that use the latter."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec

from reconciler.cli.demo.repository import FULL_NAME
from reconciler.cli.demo.shapes import SandboxTokens
from reconciler.sandbox.server import SandboxServer

TOKENS = {
    "github": "sandbox-github-canary-4f1d",
    "semaphore": "sandbox-semaphore-canary-92ab",
    "buddy": "sandbox-buddy-canary-7c3e",
    "slack": "sandbox-slack-canary-e08b",
}
VALUES = {
    "REGISTRY_PASSWORD": "registry-canary-5d8e1f",
    "AWS_ACCESS_KEY": "aws-access-canary-17a0",
    "AWS_SECRET_KEY": "aws-secret-canary-c9b4",
}
WORKFLOW = {
    "id": 11,
    "name": "CI",
    "path": ".github/workflows/ci.yml",
    "on": {"workflow_dispatch": {"inputs": {"sha": {}, "reconciler_execution_id": {}}}},
    "run_name": "CI ${{ inputs.reconciler_execution_id }}",
    "duration_s": 0.5,
    "logs": ["building ${{ inputs.sha }}", "done"],
    "outputs": {"version": "1.2.${{ github.run_id }}"},
}
DEPLOYING = {
    "duration_s": -1,  # until the demo finishes it
    "logs": ["$ ./deploy.sh staging", "rolling out to 3 pods", "3 of 3 pods are up", "done"],
}
APP = {
    "id": 7001,
    "client_id": "Iv23liDemoDemoDemo01",
    "slug": "reconciler",
    "name": "reconciler",
    "owner": "acme",
    "hook": {
        "id": 9001,
        "name": "web",
        "active": True,
        "events": [],
        "config": {"url": "https://example.invalid/hook", "content_type": "json", "insecure_ssl": "0"},
    },
}
GRANTED: dict[str, object] = {
    "permissions": {
        "metadata": "read",
        "checks": "write",
        "pull_requests": "write",
        "statuses": "write",
        "merge_queues": "read",
    },
    "events": ["pull_request", "merge_group", "check_run"],
}
CHANNEL = "C0DEMOOPS01"
REVIEWS = """\
# The App that reviews pull requests of this repository.
kind: Secret
metadata: {{name: github-app}}
spec: {{provider: env, data: {{key: {{env: RECONCILER_SECRET_APP_KEY}}}}}}
---
kind: Integration
metadata: {{name: reviews}}
spec:
  type: github
  apiUrl: {url}
  url: https://github.com/acme
  auth:
    use: github-app
    githubApp:
      clientId: Iv23liDemoDemoDemo01
      privateKey: {{valueFrom: {{secret: {{name: github-app, key: key}}}}}}
  appWebhook: {{manage: true}}
"""
NOTIFICATION = """\
# Everything that needs a person, in one channel.
kind: Secret
metadata: {{name: slack}}
spec: {{provider: env, data: {{token: {{env: RECONCILER_SECRET_SLACK_TOKEN}}}}}}
---
kind: Notification
metadata: {{name: ops}}
spec:
  sink:
    slack:
      url: {url}/api
      token: {{valueFrom: {{secret: {{name: slack, key: token}}}}}}
      channel: C0DEMOOPS01
"""


def private_key() -> str:
    """Return a new private key of an App, as PEM."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


def public_key(private: str) -> str:
    """Return the public half of a private key, as PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    key = load_pem_private_key(private.encode(), None).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def seed(providers: Mapping[str, SandboxServer], app_key: str) -> None:
    """Give each simulator the example's account and token, in addition to its own seed."""
    providers["github"].admin.put_state(_github(app_key))
    for name in ("semaphore", "buddy"):
        providers[name].admin.put_state({"tokens": {TOKENS[name]: rights(providers[name])}})
    providers["semaphore"].admin.put_state({"behaviour": {"web": DEPLOYING}})
    channel = {"name": "ops", "member": True, "archived": False}
    scopes = ["chat:write", "channels:history"]
    providers["slack"].admin.put_state(
        {"tokens": {TOKENS["slack"]: {"scopes": scopes}}, "channels": {CHANNEL: channel}, "messages": {CHANNEL: []}}
    )
    for name in ("github", "semaphore", "buddy"):
        providers[name].admin.settings(deliver=True)
    # It reports its rate; a demonstration that is kept for a day must not use it up.
    providers["github"].admin.settings(
        rate_limits=True, primary_per_hour=1_000_000, points_per_minute=100_000, creates_per_hour=100_000
    )


def rights(server: SandboxServer) -> object:
    """Return what a token of the simulator's own seed may do."""
    return next(iter(msgspec.convert(server.admin.state(), SandboxTokens).tokens.values()))


def _in_days(days: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time.time() + days * 86_400))


def _github(app_key: str) -> dict[str, object]:
    app = {**APP, **GRANTED, "public_key": public_key(app_key)}
    installation = {"app_id": APP["id"], "account": "acme", "repository_selection": "all", **GRANTED}
    people = {"ada": "write", "lin": "write"}
    return {
        "tokens": {TOKENS["github"]: {"scopes": ["repo", "admin:org_hook", "admin:repo_hook"], "expires_at": _in_days(90)}},
        "users": {name: {} for name in people},
        "repos": {
            **{f"acme/{name}": {} for name in ("payments", "web", "checkout", "search")},
            FULL_NAME: {"collaborators": people},
        },
        "workflows": {"acme/web": [WORKFLOW]},
        "apps": {str(APP["id"]): app},
        "installations": {"8001": installation},
    }
