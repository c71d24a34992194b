"""AWS in the contract suite: nothing but its credential is managed, here an access key."""

from __future__ import annotations

from reconciler.drivers.connection import Connection
from reconciler.drivers.registry import DRIVERS
from reconciler.sandbox.app import Simulator
from reconciler.sandbox.aws.app import Aws
from reconciler.sandbox.aws.records import KEY_ID, REGION, SECRET
from reconciler.sandbox.server import SandboxServer
from tests.contract.provider import Provider
from tests.support.driving import resource


class AwsProvider(Provider):
    driver = DRIVERS["aws"]
    token = SECRET
    lacks = {
        "check": "no call tells what a credential may do",
        "reporter": "AWS is no code host",
    }

    def simulator(self) -> Simulator:
        return Aws()

    @property
    def values(self) -> dict[str, str]:
        return {"credentials/id": KEY_ID, "credentials/token": SECRET}

    def connect(self, server: SandboxServer) -> Connection:
        name, secret = ({"valueFrom": {"secret": {"name": "credentials", "key": key}}} for key in ("id", "token"))
        auth = {"use": "access-key", "accessKey": {"id": name, "secret": secret}}
        spec = {"type": self.name, "region": REGION, "apiUrl": server.url, "auth": auth}
        declared = resource("Integration", self.name, spec, secrets=["credentials"])
        return self.driver.connect(declared, declared.secret_refs("/auth"))

    def replace(self, server: SandboxServer, fresh: str) -> None:
        server.admin.put_state({"keys": {KEY_ID: {"secret": fresh}}})
