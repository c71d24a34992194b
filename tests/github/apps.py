"""An App in the GitHub simulator, for tests: its JSON web tokens, and requests as the App or as an installation."""

import http.client
import json
import time
from dataclasses import dataclass, field
from typing import Any

from joserfc import jwt
from joserfc.jwk import RSAKey

PERMISSIONS = {"deployments": "write", "repository_hooks": "write", "contents": "read"}


@dataclass
class Credentials:
    id: int
    client_id: str
    slug: str
    pem: str
    webhook_secret: str
    installation: int = 0

    def token(self, *, now: float | None = None, life_s: float = 540, pem: str = "", **claims: Any) -> str:
        at = int(time.time() if now is None else now)
        whole = {"iat": at - 60, "exp": int(at + life_s), "iss": self.client_id, **claims}
        whole = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode({"alg": "RS256"}, whole, RSAKey.import_key(pem or self.pem), algorithms=["RS256"])


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    content: bytes
    body: Any = field(default=None)


def create(server, account="acme", *, repositories=None, permissions=PERMISSIONS, **options) -> Credentials:
    """Register an App, and install it on ``account`` (None: nowhere)."""
    made = Credentials(**server.admin.do("create_app", owner="acme", permissions=permissions, **options))
    if account is not None:
        chosen = {} if repositories is None else {"repositories": repositories}
        made.installation = server.admin.do("install_app", app=made.id, account=account, **chosen)["installation"]
    return made


def send(server, method, path, token="", body=None, *, scheme="Bearer", **headers) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    known = {"user-agent": "test", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if token:
        known["authorization"] = f"{scheme} {token}"
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    try:
        connection.request(method, path, body=content, headers=known)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    found = {name.lower(): value for name, value in answer.getheaders()}
    is_json = found.get("content-type", "").startswith("application/json")
    return Reply(answer.status, found, text, json.loads(text) if text and is_json else None)


def mint(server, app, body=None, **options) -> Reply:
    return send(server, "POST", f"/app/installations/{app.installation}/access_tokens", app.token(), body, **options)
