"""From resources to managed objects: resolve what compiling needs, then run each driver's pure compiler.

What cannot be resolved makes that resource Stalled and nothing else: its recorded objects stay as they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from reconciler.drivers.base import Driver
from reconciler.drivers.common import PassApi
from reconciler.drivers.connection import Api, CompileContext, Connection
from reconciler.drivers.specs import OBJECT_KINDS
from reconciler.engine.context import Context
from reconciler.model.errors import ReconcilerError
from reconciler.model.objects import ManagedObject
from reconciler.model.resources import DerivedKeyRef, Kind, Resource, ResourceId, SecretRef, ValueRef
from reconciler.model.secrets import SecretValue
from reconciler.model.values import Address, Fingerprint, JsonObject

REMOTE_KINDS = frozenset({Kind.EVENT_SOURCE.value, *OBJECT_KINDS})
"""Kinds that own remote objects."""

_SENT_TO = frozenset({Kind.EVENT_SOURCE.value, Kind.INTEGRATION.value})
"""Kinds whose objects are webhooks; an Integration is compiled for that of its App."""

ReadSecret = Callable[[SecretRef], SecretValue]


@dataclass(frozen=True, slots=True)
class Compiled:
    """The managed objects of one integration, and the resources that could not be compiled, with their errors."""

    objects: tuple[ManagedObject, ...] = ()
    stalled: Mapping[ResourceId, ReconcilerError] = field(default_factory=dict)
    facts: Mapping[ResourceId, JsonObject] = field(default_factory=dict)
    """What `Driver.resolve` read for each resource."""
    webhook: str = ""
    """What is wrong with the webhook of the App that the integration uses, and what to set; empty if nothing is."""


def integration_of(resource: Resource) -> ResourceId | None:
    """Return the integration whose account has the objects of ``resource``; None if it owns none."""
    if resource.id.kind not in REMOTE_KINDS or not isinstance(resource.spec.get("integration"), Mapping):
        return None
    return next((r for r in resource.references if r.kind == Kind.INTEGRATION.value), None)


def users_of(integration: ResourceId, resources: Iterable[Resource]) -> tuple[Resource, ...]:
    """Return the resources that own objects on ``integration``, in a stable order."""
    return tuple(sorted((r for r in resources if integration_of(r) == integration), key=lambda r: r.id))


def secrets_of(integration: ResourceId, resources: Mapping[ResourceId, Resource]) -> set[SecretRef]:
    """Return the references to every value that a reconcile of ``integration`` reads."""
    own = resources.get(integration)
    needing = (*([own] if own is not None else []), *users_of(integration, resources.values()))
    return {ref for resource in needing for ref in resource.secret_refs().values()}


def value_of(ref: ValueRef, deps: Context, read: ReadSecret) -> SecretValue:
    """Return the value of ``ref``. Raises `SecretUnavailable`."""
    if isinstance(ref, DerivedKeyRef):
        return deps.keyring.signing_key(deps.owner, ref.uid, ref.rotation)
    return read(ref)


def context_for(connection: Connection, deps: Context, read: ReadSecret, facts: Mapping[str, object]) -> CompileContext:
    """Return the inputs of a pure compiler. The fingerprint function reads a value when it is called."""

    def fingerprint(address: Address, pointer: str, ref: ValueRef) -> Fingerprint:
        return deps.keyring.fingerprint(address, pointer, value_of(ref, deps, read))

    return CompileContext(
        owner=deps.owner,
        public_url=deps.config.server.public_url.rstrip("/"),
        key_id=deps.keyring.key_id,
        connection=connection,
        facts=facts,
        fingerprint=fingerprint,
    )


async def compile_resources(driver: Driver, api: Api, resources: Iterable[Resource], deps: Context, read: ReadSecret) -> Compiled:
    """Resolve and compile the ``resources`` of one integration concurrently."""
    resources, api = tuple(resources), PassApi(api)
    results = await asyncio.gather(*(_compile_one(driver, api, resource, deps, read) for resource in resources))
    objects: list[ManagedObject] = []
    stalled: dict[ResourceId, ReconcilerError] = {}
    facts: dict[ResourceId, JsonObject] = {}
    for resource, result in zip(resources, results, strict=True):
        if isinstance(result, ReconcilerError):
            stalled[resource.id] = result
        else:
            facts[resource.id] = result[0]
            objects.extend(result[1])
    return Compiled(tuple(objects), stalled, facts)


async def _compile_one(
    driver: Driver, api: Api, resource: Resource, deps: Context, read: ReadSecret
) -> tuple[JsonObject, tuple[ManagedObject, ...]] | ReconcilerError:
    try:
        _require_public_url(resource, deps.config.server.public_url)
        facts = await driver.resolve(api, resource)
        return facts, driver.compile(resource, context_for(api.connection, deps, read, facts))
    except ReconcilerError as error:
        return error


def _require_public_url(resource: Resource, public_url: str) -> None:
    """Webhooks send to this daemon: without its address they would be useless, so none is compiled."""
    if resource.id.kind in _SENT_TO and not public_url:
        raise ReconcilerError(
            f"{resource.id} needs the address where providers reach this daemon",
            code="RC3020",
            hint="Set server.publicUrl (or RECONCILER_SERVER_PUBLIC_URL) to an https URL.",
        )


def compile_offline(
    driver: Driver, connection: Connection, resources: Iterable[Resource], *, owner: str, public_url: str
) -> Compiled:
    """Compile without credentials, state or network: names instead of ids, references instead of fingerprints."""
    objects: list[ManagedObject] = []
    stalled: dict[ResourceId, ReconcilerError] = {}
    for resource in resources:
        context = CompileContext(
            owner=owner,
            public_url=public_url.rstrip("/"),
            key_id="offline",
            connection=connection,
            facts=driver.offline_facts(resource),
            fingerprint=lambda _a, _p, ref: Fingerprint(f"ref:{ref}"),
        )
        try:
            objects.extend(driver.compile(resource, context))
        except ReconcilerError as error:
            stalled[resource.id] = error
    return Compiled(tuple(objects), stalled)
