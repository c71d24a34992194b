"""Drive a provider driver against its simulator: observe, plan, execute, record; over real HTTP, with the real planner.

`World` does what the engine does for one integration, without a database: its records are what a state would hold.
`Contract` checks every request and every answer that went over the wire against a JSON Schema of the documented shapes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import jsonschema
import pytest

from reconciler.credentials.keys import KeyRing, MasterKey
from reconciler.drivers.base import Driver, Executor, Write
from reconciler.drivers.connection import Api, CompileContext, Connection
from reconciler.drivers.http.budget import Budget
from reconciler.drivers.http.client import ApiClient, HttpSession
from reconciler.drivers.http.errors import Response
from reconciler.model.errors import ReconcilerError
from reconciler.model.executions import Run, RunIntent, RunReport, RunStatus
from reconciler.model.objects import ManagedObject, ObservedObject, RecordedObject, Scope
from reconciler.model.plan import Action, Change, Plan
from reconciler.model.resources import DerivedKeyRef, Lifecycle, Location, Resource, ResourceId, SecretRef, ValueRef
from reconciler.model.secrets import SecretValue
from reconciler.model.values import Address, Fingerprint
from reconciler.planning.diff import merged_attributes
from reconciler.planning.plan import PlanInput, ScopeView, make_plan
from reconciler.sandbox.app import Call, Reply, Simulator
from tests.support.authentication import auth_context

OWNER = "team-a"
CONTRACTS = Path(__file__).parent.parent / "contracts"


@pytest.fixture
async def session() -> AsyncIterator[HttpSession]:
    async with HttpSession(allow=("127.0.0.1",)) as opened:
        yield opened


def resource(kind: str, name: str, spec: Mapping[str, Any], *, secrets: Iterable[str] = (), **lifecycle: Any) -> Resource:
    """Return a resource in canonical form; ``secrets`` are the names of Secrets that it refers to."""
    references = tuple(ResourceId("Secret", "default", one) for one in secrets)
    return Resource(
        ResourceId(kind, "default", name), spec, Location(f"{name}.yaml", 1), Lifecycle(**lifecycle), references=references
    )


def integration(provider: str, url: str, api_url: str) -> Resource:
    """Return an Integration with a token from the Secret ``credentials``."""
    token = {"valueFrom": {"secret": {"name": "credentials", "key": "token"}}}
    spec = {"type": provider, "url": url, "apiUrl": api_url, "auth": {"use": "token", "token": token}}
    return resource("Integration", provider, spec, secrets=["credentials"])


def client(driver: Driver, connection: Connection, session: HttpSession, values: Mapping[str, str]) -> ApiClient:
    """Return a client as the engine makes it; ``values`` are secret values by ``name/key`` and may change later."""

    def read(ref: SecretRef) -> SecretValue:
        return SecretValue(values[f"{ref.name}/{ref.key}"])

    authenticator = driver.authenticator(connection, auth_context(read, session=session))
    budget = Budget(connection.credential_id, driver.limits, store=None, clock=time.time)
    return ApiClient(connection, driver, authenticator, session=session, budget=budget, clock=time.time)


@dataclasses.dataclass
class World:
    """One integration: what is recorded of it, and the way through a pass."""

    driver: Driver
    api: Api
    values: dict[str, str]
    key: bytes = b"k" * 32
    public_url: str = "https://hooks.example.test"
    records: dict[Address, RecordedObject] = dataclasses.field(default_factory=dict)
    errors: dict[Address, ReconcilerError] = dataclasses.field(default_factory=dict)

    @property
    def keyring(self) -> KeyRing:
        return KeyRing(MasterKey(self.key))

    def value(self, ref: ValueRef) -> SecretValue:
        if isinstance(ref, DerivedKeyRef):
            return self.keyring.signing_key(OWNER, ref.uid, ref.rotation)
        return SecretValue(self.values[f"{ref.name}/{ref.key}"])

    def context(self, facts: Mapping[str, Any]) -> CompileContext:
        def fingerprint(address: Address, pointer: str, ref: ValueRef) -> Fingerprint:
            return self.keyring.fingerprint(address, pointer, self.value(ref))

        return CompileContext(OWNER, self.public_url, self.keyring.key_id, self.api.connection, facts, fingerprint)

    async def compile(self, *resources: Resource) -> tuple[ManagedObject, ...]:
        objects: list[ManagedObject] = []
        for one in resources:
            objects += self.driver.compile(one, self.context(await self.driver.resolve(self.api, one)))
        return tuple(objects)

    async def observe(self, scope: Scope) -> tuple[ObservedObject, ...]:
        return (await self.driver.types[scope.type].observe(self.api, scope, None)).objects  # type: ignore[union-attr]

    async def plan(self, *resources: Resource, **options: Any) -> Plan:
        desired = await self.compile(*resources)
        scopes = {one.scope for one in (*desired, *self.records.values())}
        views = {scope: ScopeView(await self.observe(scope), reads=2) for scope in scopes}
        recorded = tuple(self.records.values())
        return make_plan(
            PlanInput(
                self.api.connection.integration, time.time(), OWNER, desired, recorded, views, types=self.driver.types, **options
            )
        )

    async def apply(self, *resources: Resource, **options: Any) -> Plan:
        """Plan, execute in order, record; errors of single changes are kept in ``errors``."""
        plan = await self.plan(*resources, **options)
        seen = {o.external_id: o for scope in {c.scope for c in plan.changes} for o in await self.observe(scope)}
        self.errors.clear()
        for change in plan.executable:
            if self.errors.keys() & {*change.depends_on}:
                continue
            try:
                await self._execute(change, seen)
            except ReconcilerError as error:
                self.errors[change.address] = error
        return plan

    async def settle(self, *resources: Resource) -> None:
        """Apply until nothing is left to do; fails when that takes more than five passes."""
        for _ in range(5):
            if not (await self.apply(*resources)).executable:
                return
        raise AssertionError("does not converge")

    async def _execute(self, change: Change, seen: Mapping[str, ObservedObject]) -> None:
        kind = self.driver.types[change.scope.type]
        observed = seen.get(change.external_id or "")
        if change.action in {Action.DELETE, Action.REPLACE}:
            assert change.external_id is not None
            await kind.delete(self.api, change.scope, change.external_id)
        if change.action in {Action.DELETE, Action.FORGET}:
            self.records.pop(change.address, None)
            return
        assert change.desired is not None
        making = change.action in {Action.CREATE, Action.REPLACE}
        attributes = change.desired.attributes if making else merged_attributes(change.desired, observed, time.time())
        secrets = {one.pointer: self.value(one.ref) for one in change.desired.write_only}
        write = Write(change.desired, attributes, secrets, change.fields, None if making else observed)
        if making:
            observed = await kind.create(self.api, write)
        elif change.action is not Action.RECORD:
            assert change.external_id is not None
            observed = await kind.update(self.api, change.external_id, write)
        assert observed is not None
        if change.previous is not None:
            self.records.pop(change.previous, None)
        self.records[change.address] = recorded(change.desired, observed)


def recorded(desired: ManagedObject, observed: ObservedObject) -> RecordedObject:
    """Return the record of ``desired`` as it was written just now, and seen."""
    return RecordedObject(
        desired.address,
        desired.resource,
        desired.integration,
        desired.scope,
        observed.external_id,
        desired.natural_key,
        desired.marker,
        desired.attributes,
        {w.pointer: w.fingerprint for w in desired.write_only},
        desired.digest,
        desired.lifecycle,
        observed.updated_at,
        observed.url,
        applied_at=0.0,
        seen=True,
        depends_on=desired.depends_on,
    )


class Contract:
    """Watches a simulator; ``check`` holds every exchange against the schema."""

    def __init__(self, name: str, app: Simulator) -> None:
        self._schema = json.loads((CONTRACTS / f"{name}.schema.json").read_text())
        self.exchanges: list[tuple[Call, Reply]] = []
        answer = app.answer

        def watched(call: Call) -> Reply:
            reply = answer(call)
            self.exchanges.append((call, reply))
            return reply

        app.answer = watched  # type: ignore[method-assign]

    def check(self) -> None:
        for call, reply in self.exchanges:
            row = next((row for row in self._schema["x-exchanges"] if self._fits(row, call, reply.status)), None)
            assert row is not None, f"no documented exchange for {call.method} {call.path} → {reply.status}"
            if row.get("request") and reply.status < 300:
                self._validate(row["request"], call.body)
            if row.get("answer"):
                self._validate(row["answer"], reply.content)

    @staticmethod
    def _fits(row: Mapping[str, Any], call: Call, status: int) -> bool:
        return (
            row["method"] in ("*", call.method)
            and re.fullmatch(row["path"], call.path) is not None
            and re.fullmatch(row["status"], str(status)) is not None
        )

    def _validate(self, name: str, body: bytes) -> None:
        schema = {"$schema": self._schema["$schema"], "$ref": f"#/$defs/{name}", "$defs": self._schema["$defs"]}
        jsonschema.validate(json.loads(body), schema)


class Canned:
    """An `Api` that answers every request with one body: for shapes that no server would send on purpose."""

    def __init__(self, driver: Driver, body: Any) -> None:
        declared = integration(driver.provider, "https://acme.semaphoreci.com", "")
        self.connection = driver.connect(declared, {})
        self.authenticator = None
        self._content = json.dumps(body).encode()

    async def request(self, method: str, path: str, **_options: Any) -> Response:
        return Response(200, {}, self._content, f"{method} {path}")

    async def download(self, path: str) -> Response:
        return await self.request("GET", path)


def damaged(body: Any, random: Random, junk: Any) -> Any:
    """Return a copy of ``body`` with one part, anywhere in it, replaced by ``junk``."""
    places: list[tuple[Any, ...]] = []

    def walk(value: Any, at: tuple[Any, ...]) -> None:
        places.append(at)
        rows = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, item in rows:
            walk(item, (*at, key))

    copy = json.loads(json.dumps(body))
    walk(copy, ())
    *parents, last = random.choice(places[1:])
    place = copy
    for key in parents:
        place = place[key]
    place[last] = junk
    return copy


async def ended(executor: Executor, world: World, what: RunIntent, run: Run) -> RunReport:
    """Poll until the run has ended."""
    for _ in range(200):
        report = await executor.poll(world.api, what, run)
        if report.status is RunStatus.FINISHED:
            return report
        await asyncio.sleep(0.05)
    raise AssertionError("it never ended")
