"""The webhook of a GitHub App in the contract suite: its credential is the App's key, and it is there from the first moment on."""

from __future__ import annotations

from reconciler.drivers.connection import Connection
from reconciler.drivers.registry import DRIVERS
from reconciler.model.resources import SecretRef
from reconciler.sandbox.app import Simulator
from reconciler.sandbox.github.app import GitHub
from reconciler.sandbox.server import SandboxServer
from tests.contract.provider import Provider
from tests.support.driving import resource

_ALWAYS_THERE = "GitHub has no call that creates or deletes the webhook of an App: there is always exactly one"


class GitHubAppProvider(Provider):
    driver = DRIVERS["github"]
    url = "https://github.com/acme"
    managed = {"github/app-webhook": resource("Integration", "github", {"appWebhook": {"manage": True}})}
    changes = {"github/app-webhook": {}}
    lacks = {
        "create": _ALWAYS_THERE,
        "delete": _ALWAYS_THERE,
        "pages": _ALWAYS_THERE,
        "unique": _ALWAYS_THERE,
        "conditional": "each request has another JSON web token, and so another ETag",
        "rename": "an App is its own container, and is known by its id",
        "limits": "the simulator counts the limit of an installation, not of an App",
        "rights": "an App may always change its own webhook",
        "credential": "tests/github/test_app.py",
        "reporter": "GitHubProvider",
        "parts": "GitHubProvider",
    }

    def simulator(self) -> Simulator:
        return GitHub()

    def prepare(self, server: SandboxServer) -> None:
        made = server.admin.do("create_app", owner="acme", url="https://elsewhere.example/hook", permissions={"contents": "read"})
        self.token, self._client = str(made["pem"]), str(made["client_id"])

    def connect(self, server: SandboxServer) -> Connection:
        key = {"valueFrom": {"secret": {"name": "credentials", "key": "token"}}}
        auth = {"use": "github-app", "githubApp": {"clientId": self._client, "privateKey": key}}
        spec = {"type": "github", "url": self.url, "apiUrl": server.url, "auth": auth}
        declared = resource("Integration", "github", spec, secrets=["credentials"])
        return self.driver.connect(declared, {"/githubApp/privateKey": SecretRef("default", "credentials", "token")})

    def refuse(self, server: SandboxServer) -> None:
        server.admin.do("new_app_key", app=self._client)
