"""Endpoints: the sources by the uid in their webhook URL, and the keys that verify their deliveries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reconciler.credentials.keys import KeyRing, MasterKey
from reconciler.drivers.base import Receiver
from reconciler.drivers.builtin import RECEIVERS
from reconciler.drivers.registry import driver_for
from reconciler.manifests.kinds import EventSourceSpec, IntegrationSpec, WebhookSpec
from reconciler.model.resources import Kind, Resource, ResourceId
from reconciler.model.secrets import SecretValue
from reconciler.model.values import Uid, uid_of

OWN_TYPES = frozenset({"schedule", "manual", ""})
"""Sources without a webhook URL."""
OVERLAP_S = 24 * 3600.0
"""How long the previous key stays valid after the new one is in force everywhere."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """The newest key rotation of a source. ``since``: since when it is in force everywhere (epoch seconds); 0: not yet."""

    number: int
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A source with a webhook URL."""

    source: Resource
    uid: Uid
    """The uid in its URL: its own, or that before a rename."""
    receiver: Receiver
    standard: bool
    """Whether keys have the form of Standard Webhooks."""
    integration: str

    @property
    def rotation(self) -> int:
        """The number of the current key."""
        return self.source.typed(EventSourceSpec).key_rotation


def source_spec(resource: Resource) -> EventSourceSpec | None:
    """Return the spec of an EventSource; None for a stage or a group, which emit events too."""
    return resource.typed(EventSourceSpec) if resource.id.kind == Kind.EVENT_SOURCE.value else None


def integration_path(resource: Resource) -> str:
    """Return the path of the Integration of a source; empty without one."""
    spec = source_spec(resource)
    if spec is None or spec.integration is None:
        return ""
    return next((ref.path for ref in resource.references if ref.kind == Kind.INTEGRATION.value), "")


def endpoints(owner: str, resources: Mapping[ResourceId, Resource]) -> dict[str, Endpoint]:
    """Return the endpoints of a revision, by uid."""
    found: dict[str, Endpoint] = {}
    for resource in resources.values():
        if resource.id.kind != Kind.EVENT_SOURCE.value:
            continue
        receiver, standard = _receiver(resource, resources)
        if receiver is None:
            continue
        for uid in _uids(owner, resource):
            found.setdefault(uid, Endpoint(resource, uid, receiver, standard, integration_path(resource)))
    return found


def _uids(owner: str, resource: Resource) -> Iterator[Uid]:
    yield resource.id.uid(owner)
    if resource.lifecycle.moved_from:
        yield uid_of(owner, resource.id.kind, resource.id.canvas, resource.lifecycle.moved_from)


def _receiver(resource: Resource, resources: Mapping[ResourceId, Resource]) -> tuple[Receiver | None, bool]:
    kind = source_type(resource, resources)
    if kind == "webhook":
        signature = (resource.typed(EventSourceSpec).webhook or WebhookSpec()).signature
        return RECEIVERS[signature], signature == "standard-webhooks"
    driver = driver_for(kind) if kind not in OWN_TYPES else None
    return (driver.receiver if driver is not None else None), False


def source_type(resource: Resource, resources: Mapping[ResourceId, Resource]) -> str:
    """Return the type of a source: its own, or else that of its Integration; empty for a stage or a group."""
    spec = source_spec(resource)
    if spec is not None and spec.type is not None:
        return spec.type
    path = integration_path(resource)
    integration = resources.get(ResourceId.from_path(path)) if path else None
    return integration.typed(IntegrationSpec).type if integration is not None else ""


def numbers_for(endpoint: Endpoint, rotation: Rotation | None, now: float) -> tuple[int, ...]:
    """Return the numbers of the keys that are valid now, the current one first.

    The previous key is valid until `OVERLAP_S` after the current one is in force everywhere: a sender without the new key still
    signs with it.
    """
    number = endpoint.rotation
    over = rotation is not None and rotation.number == number and rotation.since and now - rotation.since >= OVERLAP_S
    return (number,) if number == 0 or over else (number, number - 1)


def keys_for(endpoint: Endpoint, keyring: KeyRing, owner: str, key_id: str, numbers: tuple[int, ...]) -> list[SecretValue]:
    """Return the keys that may verify a delivery, the current one first. ``key_id``: the id of the master key in the URL."""
    named = keyring.by_id(key_id) if key_id else None
    masters: list[MasterKey] = [named] if named is not None else []
    masters += [key for key in (keyring.current, keyring.previous) if key is not None and key is not named]
    make = keyring.standard_webhooks_secret if endpoint.standard else keyring.signing_key
    return [make(owner, endpoint.uid, number, key=master) for number in numbers for master in masters]


def rotation_of(value: object) -> Rotation | None:
    """Return the rotation in a cursor; None if there is none."""
    return Rotation(int(value["number"]), float(value.get("since", 0.0))) if isinstance(value, Mapping) else None


def rotation_cursor(source: ResourceId) -> str:
    """Return the name of the cursor for the rotation of ``source``."""
    return f"rotation/{source.path}"
