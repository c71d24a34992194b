"""Compile an event source to a secret and a notification. Pure."""

from __future__ import annotations

import msgspec

from reconciler.drivers.base import CompileContext
from reconciler.drivers.common import moved_from, target_of
from reconciler.drivers.semaphore.notifications import KEY_POINTER, NOTIFICATION, SECRET, name_of, normal_rule, rotated
from reconciler.drivers.semaphore.spec import EVENTS
from reconciler.model.errors import ValidationFailed
from reconciler.model.objects import ManagedObject, Marker, Scope, WriteOnly, address_of
from reconciler.model.resources import Adopt, DerivedKeyRef, Resource
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
    uid, rotation = resource.id.uid(context.owner), int(resource.spec.get("keyRotation", 0))
    marker = Marker(context.owner, rotated(uid, rotation))
    address = address_of(resource.id, scope)
    if rotation:
        address = Address(f"{address}/r{rotation}")
    reference = DerivedKeyRef(uid, rotation)
    name = name_of(marker)
    return ManagedObject(
        address,
        resource.id,
        context.connection.integration,
        scope,
        {"name": name},
        name,
        marker,
        (WriteOnly(KEY_POINTER, reference, context.fingerprint(address, KEY_POINTER, reference)),),
        # Only notifications are adopted; the secret is always our own.
        lifecycle=msgspec.structs.replace(resource.lifecycle, adopt=Adopt.NEVER, external_id=None),
        location=resource.location,
    )


def _notification(resource: Resource, context: CompileContext, secret: ManagedObject) -> ManagedObject:
    scope = Scope(NOTIFICATION, context.connection.account)
    marker = Marker(context.owner, resource.id.uid(context.owner))
    name = name_of(marker)
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
    previous, previous_marker = moved_from(resource, context, scope)
    return ManagedObject(
        address_of(resource.id, scope),
        resource.id,
        context.connection.integration,
        scope,
        {"name": name, "rule": normal_rule(rule), "further_rules": []},
        name,
        marker,
        depends_on=(secret.address,),
        lifecycle=resource.lifecycle,
        location=resource.location,
        previous=previous,
        previous_marker=previous_marker,
    )


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
