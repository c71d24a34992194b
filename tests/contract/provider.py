"""What the contract suite needs to know about a provider. A new provider is one subclass, in a module of its own."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.drivers.base import Driver, Receiver
from reconciler.drivers.connection import Connection
from reconciler.model.errors import ReconcilerError
from reconciler.model.executions import Run, RunIntent
from reconciler.model.resources import Resource
from reconciler.model.secrets import SecretValue
from reconciler.sandbox.app import Simulator
from reconciler.sandbox.server import SandboxServer
from tests.support.driving import integration
from tests.support.receiving import Receiver as Listener
from tests.support.receiving import eventually

CORRELATION = "rcl-" + "7" * 28
LINES = ("one", "two", "three")
"""What every run of the prepared simulator logs."""
LONG_S = 600.0


class Provider:
    """One driver and its simulator. Names of capabilities that it does not have stand in ``lacks``, each with the reason."""

    driver: Driver
    token = ""
    """Opens the simulator, with every right."""
    url = ""
    """``spec.url`` of its Integration."""
    managed: Mapping[str, Resource] = {}
    """A resource for each managed type, which compiles to exactly one object of that type."""
    changes: Mapping[str, Mapping[str, Any]] = {}
    """For each managed type, fields of the resource's spec whose change is an update in place."""
    empty: Any = None
    """Which of an answer's bodies is an empty list."""
    executors: Mapping[str, Mapping[str, Any]] = {}
    """For each executor, the ``resource`` and ``spec`` of a run."""
    source: Resource | None = None
    """The EventSource whose events `happen` makes."""
    receivers: Mapping[str, Receiver] = {}
    told_once: tuple[str, ...] = ()
    """Keys of a payload that a webhook alone has: they are not known when the event is read later."""
    read_only: Mapping[str, Any] = {}
    """What turns the token into one that may read, and write nothing."""
    rights: Mapping[str, str] = {}
    """For each managed type and executor, the right that an error names when a write is refused to `read_only`."""
    limits: Mapping[str, Any] = {}
    """Settings under which the simulator allows a single request, or a single write."""
    lacks: Mapping[str, str] = {}

    @property
    def name(self) -> str:
        """The provider's name, which its tests are listed by."""
        return self.driver.provider

    def has(self, capabilities: Iterable[str], of: str = "") -> bool:
        """Whether it has every one of ``capabilities``, also for ``of``: a managed type, an executor, a receiver."""
        return not any(name in self.lacks or f"{name}:{of}" in self.lacks for name in capabilities)

    def simulator(self) -> Simulator:
        """Return the simulator."""
        raise NotImplementedError

    def prepare(self, server: SandboxServer) -> None:
        """Put content into the simulator: runs log `LINES`."""

    def connect(self, server: SandboxServer) -> Connection:
        """Return the connection to the simulator."""
        declared = integration(self.name, self.url, server.url)
        return self.driver.connect(declared, declared.secret_refs("/auth"))

    @property
    def values(self) -> dict[str, str]:
        """The values of the Secret ``credentials``, by ``credentials/KEY``: ``token`` is the one that is refused or replaced."""
        return {"credentials/token": self.token}

    def replace(self, server: SandboxServer, fresh: str) -> None:
        """Let the simulator accept ``fresh`` in place of the token."""
        state = server.admin.state()["tokens"]
        server.admin.put_state({"tokens": {fresh: state[self.token], self.token: None}})

    def refuse(self, server: SandboxServer) -> None:
        """Let the provider refuse the credential from now on."""
        server.admin.put_state({"tokens": {self.token: None}})

    def patch(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return a patch of the simulator's state that changes the token."""
        return {"tokens": {self.token: dict(state)}}

    def renamed(self, server: SandboxServer, key: str) -> str:
        """Rename what the scope ``key`` names, and return its new key."""
        raise NotImplementedError

    def hide(self, server: SandboxServer, type_name: str) -> None:
        """Put the scope of a managed type out of reach: it answers 404."""
        raise NotImplementedError

    # runs

    def intent(self, server: SandboxServer, executor: str, correlation: str = CORRELATION, **changes: Any) -> RunIntent:
        """Return the intent of a run."""
        row = {**self.executors[executor], **changes}
        return RunIntent("e-1", correlation, executor, str(row.get("resource", "")), row.get("spec", {}), time.time())

    def runs(self, server: SandboxServer) -> int:
        """Return how many runs there are at the provider."""
        raise NotImplementedError

    def last(self, server: SandboxServer, seconds: float) -> None:
        """Let runs that start from now on last this long."""
        server.admin.settings(run_duration_s=seconds)

    def fail(self, server: SandboxServer) -> None:
        """Let runs that start from now on fail."""
        raise NotImplementedError

    def lose(self, server: SandboxServer, run: Run) -> None:
        """Let a run vanish."""
        raise NotImplementedError

    # events

    def happen(self, server: SandboxServer) -> None:
        """Make one event that `source` is about."""
        raise NotImplementedError

    def key(self, receiver: str, derived: SecretValue) -> SecretValue:
        """Return ``derived`` in the form in which it signs."""
        return derived

    def delivered(
        self, server: SandboxServer, listener: Listener, receiver: str, key: SecretValue
    ) -> tuple[dict[str, str], bytes]:
        """Return headers and body of one event as they arrive over HTTP: the webhook is there already, and signs with ``key``."""
        server.admin.settings(deliver=True)
        listener.got.clear()
        self.happen(server)
        got = eventually(lambda: [row for row in listener.got if "ping" not in row[1].values()])
        return dict(got[0][1]), bytes(got[0][2])

    def altered(self, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        """Return the delivery with a proof that nobody made."""
        return headers, body.replace(b"{", b"{ ", 1)

    def unproved(self, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
        """Return the delivery without any proof."""
        return {name: value for name, value in headers.items() if "signature" not in name}, body


def named(resource: Resource, name: str) -> Resource:
    """Return ``resource`` under another name."""
    return dataclasses.replace(resource, id=dataclasses.replace(resource.id, name=name))


def with_spec(resource: Resource, changes: Mapping[str, Any]) -> Resource:
    """Return ``resource`` with other fields in its spec."""
    return dataclasses.replace(resource, spec={**resource.spec, **changes})


def shown(error: ReconcilerError) -> str:
    """Return all that a user reads of an error."""
    return f"{error.message} {error.hint}"


def without_key(body: bytes, name: str) -> bytes:
    """Return a JSON object without one of its keys."""
    return json.dumps({key: value for key, value in json.loads(body).items() if key != name}).encode()
