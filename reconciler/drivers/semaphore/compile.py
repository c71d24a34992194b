"""Compile an event source to a secret and a notification. Pure."""

from __future__ import annotations

import dataclasses

import msgspec

from reconciler.drivers.common import declared, derived_key, target_of
from reconciler.drivers.connection import CompileContext
from reconciler.drivers.semaphore.notifications import KEY_POINTER, NOTIFICATION, SECRET, name_of, normal_rule, rotated
from reconciler.drivers.semaphore.spec import EVENTS
from reconciler.model.errors import ValidationFailed
from reconciler.model.objects import ManagedObject, Marker, Scope, WriteOnly, address_of
from reconciler.model.resources import Adopt, Resource
from reconciler.model.values import Address, JsonObject

TIMEOUT_MS = 10_000
"""The provider allows up to 15,000. Its default of 500 loses events when the receiver is busy for a moment."""
RETRIES = 5
"""The provider's maximum. It retries only after timeouts; without retries, one lost packet is a lost event."""
EVENT = EVENTS[0]


def compile_source(resource: Resource, context: CompileContext) -> tuple[ManagedObject, ...]:
    """Return the secret and the notification of ``resource``, in the order of work."""
    secret = _secret(resource, context)
    return secret, _notification(resource, context, secret)


def _secret(resource: Resource, context: CompileContext) -> ManagedObject:
    """One object per rotation, with an address of its own: the new key exists before anything refers to it."""
    scope = Scope(SECRET, context.connection.account)
    key, address = derived_key(resource, context), address_of(resource.id, scope)
    marker = Marker(context.owner, rotated(key.uid, key.rotation))
    if key.rotation:
        address = Address(f"{address}/r{key.rotation}")
    name = name_of(marker)
    return ManagedObject(
        address,
        resource.id,
        context.connection.integration,
        scope,
        {"name": name},
        name,
        marker,
        (WriteOnly(KEY_POINTER, key, context.fingerprint(address, KEY_POINTER, key)),),
        # Only notifications are adopted; the secret is always our own.
        lifecycle=msgspec.structs.replace(resource.lifecycle, adopt=Adopt.NEVER, external_id=None),
        location=resource.location,
    )


def _notification(resource: Resource, context: CompileContext, secret: ManagedObject) -> ManagedObject:
    scope = Scope(NOTIFICATION, context.connection.account)
    name = name_of(Marker(context.owner, resource.id.uid(context.owner)))
    rule = {
        "name": resource.id.name,
        "filter": {"projects": projects_of(resource, context.facts)},
        "notify": {
            "webhook": {
                "endpoint": context.hook_url(resource.id),
                "timeout": TIMEOUT_MS,
                "action": "post",
                "retries": RETRIES,
                "secret": secret.natural_key,
                "status": "ACTIVE",
            }
        },
    }
    attributes = {"name": name, "rule": normal_rule(rule), "further_rules": []}
    return dataclasses.replace(declared(resource, context, scope, attributes, name), depends_on=(secret.address,))


def projects_of(resource: Resource, facts: JsonObject) -> list[str]:
    """Return the names of the projects whose events ``resource`` receives, sorted.

    Raises `ValidationFailed` if there is none (a rule without a project never fires), and for an invalid name: the provider reads
    a text between slashes as a regular expression.
    """
    target = target_of(resource, "project")
    if target.type != "project":
        raise ValidationFailed(
            f"{resource.id}: Semaphore has no event source for a {target.type}", hint="Set `resource.type` to `project`."
        )
    projects = sorted({*target.names, *map(str, facts.get("projects", ()))})
    if not projects:
        raise ValidationFailed(
            f"{resource.id}: no project is named or matched",
            hint="Name a project in `resource.name`, or fix `resource.match`.",
        )
    invalid = next((name for name in projects if name.startswith("/") or not name.strip()), None)
    if invalid is not None:
        raise ValidationFailed(
            f"{resource.id}: '{invalid}' is not a valid project name", hint="For many projects use `resource.match`."
        )
    return projects
