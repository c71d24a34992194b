"""What needs no Integration, in the contract suite: requests to any service, and webhooks of any sender."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Iterable
from typing import Any

from reconciler.drivers.builtin import connection_to, driver
from reconciler.drivers.builtin.receiver import RECEIVERS
from reconciler.drivers.connection import Connection
from reconciler.model.executions import RunIntent
from reconciler.model.resources import ResourceId
from reconciler.model.secrets import SecretValue
from reconciler.sandbox.app import Reply, Route, Simulator
from reconciler.sandbox.server import SandboxServer
from tests.contract.provider import CORRELATION, Provider
from tests.support.driving import resource
from tests.support.receiving import Receiver as Listener

BODY = b'{"type": "deployed", "id": "7"}'
NO_RUN = "the run is the request itself: it is over with its answer, and kept nowhere"


class Service(Simulator):
    """Something that a stage can call."""

    def routes(self) -> Iterable[Route]:
        yield "POST", "/run", lambda _call: Reply(int(self.state.get("status", 200)), {})


class BuiltinProvider(Provider):
    driver = driver
    source = resource("EventSource", "any", {"type": "webhook"})
    executors = {"http": {}, "noop": {}}
    receivers = RECEIVERS
    lacks = {
        "credential": "none is needed",
        **dict.fromkeys(("find", "cancel", "lose", "rights", "unknown"), NO_RUN),
        **dict.fromkeys(("fail:noop", "logs:noop"), "nothing is run that could fail or log"),
        "restart:noop": "nothing is sent that could be lost",
        "missed": "a sender of one's own keeps nothing that could be asked for",
        "reporter": "a service of one's own is no code host",
    }

    def simulator(self) -> Simulator:
        return Service()

    def connect(self, server: SandboxServer) -> Connection:
        return connection_to(f"{server.url}/run", ResourceId("Stage", "default", "deploy"))

    def intent(self, server: SandboxServer, executor: str, correlation: str = CORRELATION, **changes: Any) -> RunIntent:
        return super().intent(server, executor, correlation, spec={"url": f"{server.url}/run"}, **changes)

    def runs(self, server: SandboxServer) -> int:
        return len(server.admin.requests(method="POST"))

    def last(self, server: SandboxServer, seconds: float) -> None:
        """A request lasts as long as its answer takes."""

    def fail(self, server: SandboxServer) -> None:
        server.admin.put_state({"status": 500})

    def key(self, receiver: str, derived: SecretValue) -> SecretValue:
        if receiver == "hmac-sha256":
            return derived
        return SecretValue("whsec_" + base64.b64encode(derived.reveal().encode()).decode())

    def delivered(
        self, server: SandboxServer, listener: Listener, receiver: str, key: SecretValue
    ) -> tuple[dict[str, str], bytes]:
        if receiver == "hmac-sha256":
            return {"x-signature-256": hmac.new(key.reveal().encode(), BODY, hashlib.sha256).hexdigest()}, BODY
        sent_at, secret = str(int(time.time())), base64.b64decode(key.reveal().removeprefix("whsec_"))
        proof = hmac.new(secret, f"m-1.{sent_at}.".encode() + BODY, hashlib.sha256).digest()
        signature = f"v1,{base64.b64encode(proof).decode()}"
        return {"webhook-id": "m-1", "webhook-timestamp": sent_at, "webhook-signature": signature}, BODY
