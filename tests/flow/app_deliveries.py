"""What a GitHub App's webhook sends, and manifests of Integrations that use one."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import uuid
from typing import Any

from reconciler.credentials.keys import KeyRing
from reconciler.drivers.apps import AppInstallation
from reconciler.model.secrets import SecretValue
from tests.engine.world import OWNER

CLIENT = "Iv23canary"
PUSHED_AT = int(time.time())


def app_uid(client: str = CLIENT, host: str = "api.github.com") -> str:
    return AppInstallation(f"{host}/{client}", "").uid(OWNER)


def app_path(client: str = CLIENT, host: str = "api.github.com") -> str:
    return f"/hooks/apps/{OWNER}/{app_uid(client, host)}"


def derived_key(ring: KeyRing, uid: str = "") -> str:
    return ring.signing_key(OWNER, uid or app_uid(), 0).reveal()  # type: ignore[arg-type]


def integration(name: str, account: str, more: str = "", client: str = CLIENT, spec: str = "") -> str:
    """Return an Integration that uses the App; ``more`` goes into ``githubApp``."""
    return (
        f"kind: Integration\nmetadata: {{name: {name}}}\nspec:\n  type: github\n  url: https://github.com/{account}\n{spec}"
        f"  auth: {{use: github-app, githubApp: {{clientId: {client}, privateKey: {{valueFrom: {{secret: {{name: pem, key: pem}}}}}}{more}}}}}"
    )


PEM = "kind: Secret\nmetadata: {name: pem}\nspec: {provider: env, data: {pem: {env: RECONCILER_SECRET_PEM}, hook: {env: RECONCILER_SECRET_HOOK}}}"


def source(name: str, resource: str, integration: str = "acme", events: str = "[{type: push}]") -> str:
    return (
        f"kind: EventSource\nmetadata: {{name: {name}}}\n"
        f"spec: {{integration: {{name: {integration}}}, resource: {resource}, events: {events}}}"
    )


def push(full_name: str, number: int, *, installation: int = 1, sha: str = "a" * 40, **more: Any) -> dict[str, Any]:
    """Return the payload of a push as an App's webhook gets it."""
    owner = full_name.partition("/")[0]
    repository = {"id": number, "full_name": full_name, "owner": {"login": owner}, "pushed_at": PUSHED_AT}
    payload: dict[str, Any] = {"ref": "refs/heads/main", "after": sha, "repository": repository, **more}
    return payload | ({"installation": {"id": installation, "node_id": "MDIz"}} if installation else {})


def delivery(payload: Any, key: str | SecretValue, event: str = "push", guid: str = "") -> tuple[dict[str, str], bytes]:
    """Return headers (in lower case) and body of a signed delivery."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload, separators=(",", ":")).encode()
    secret = key.reveal() if isinstance(key, SecretValue) else key
    proof = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return (
        {
            "content-type": "application/json",
            "x-github-event": event,
            "x-github-delivery": guid or str(uuid.uuid4()),
            "x-hub-signature-256": proof,
        },
        body,
    )
