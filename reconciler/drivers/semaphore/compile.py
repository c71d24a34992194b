"""An event source as the two objects that it is on Semaphore. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

import msgspec

from reconciler.drivers.base import CompileContext
from reconciler.drivers.semaphore.notifications import KEY_POINTER, NOTIFICATION, SECRET, name_of, normal_rule, rotated
from reconciler.drivers.semaphore.spec import EVENTS
from reconciler.model.errors import ValidationFailed
from reconciler.model.objects import ManagedObject, Marker, Scope, WriteOnly, address_of
from reconciler.model.resources import Adopt, DerivedKeyRef, Resource, ResourceId
from reconciler.model.values import Address, JsonObject

TIMEOUT_MS = 10_000
"""Of the provider's at most 15,000; its default of 500 loses events of a receiver that is busy for a moment."""
RETRIES = 5
"""The provider's maximum. It tries again only after timeouts; without any, one lost packet is a lost event."""
EVENT = EVENTS[0]


def compile_source(resource: Resource, context: CompileContext) -> tuple[ManagedObject, ...]:
    """Return the secret and the notification of ``resource``, in the order of work."""
    secret = _secret(resource, context)
    return secret, _notification(resource, context, secret)


def _secret(resource: Resource, context: CompileContext) -> ManagedObject:
    """One object a rotation, with an address of its own: the new key is there before anything names it."""
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
        # An object to take over is a notification; its secret stays its own.
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
    previous, previous_marker = _before_rename(resource, context, scope)
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


def _before_rename(resource: Resource, context: CompileContext, scope: Scope) -> tuple[Address | None, Marker | None]:
    if resource.lifecycle.moved_from is None:
        return None, None
    old = ResourceId(resource.id.kind, resource.id.canvas, resource.lifecycle.moved_from)
    return address_of(old, scope), Marker(context.owner, old.uid(context.owner))


def projects_of(resource: Resource, facts: JsonObject) -> list[str]:
    """Return the names of the projects that ``resource`` listens to, sorted.

    Raises `ValidationFailed` when there is none (a rule without a project never fires), or a name is none: between slashes
    the provider reads a regular expression.
    """
    target = resource.spec.get("resource", {})
    if target.get("type", "project") != "project":
        raise ValidationFailed(
            f"{resource.id}: Semaphore has no event source for a {target['type']}", hint="Set `resource.type` to `project`."
        )
    named = [target["name"]] if target.get("name") else list(target.get("names") or ())
    projects = sorted({*map(str, named), *map(str, facts.get("projects", ()))})
    if not projects:
        raise ValidationFailed(
            f"{resource.id}: no project is named, and none is matched",
            hint="Name a project in `resource.name`, or mend `resource.match`.",
        )
    wrong = next((name for name in projects if name.startswith("/") or not name.strip()), None)
    if wrong is not None:
        raise ValidationFailed(
            f"{resource.id}: '{wrong}' is not the name of a project", hint="For many projects use `resource.match`."
        )
    return projects


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """Return those of ``names`` that the glob ``pattern`` matches, sorted. Case counts."""
    return sorted(name for name in names if fnmatchcase(name, pattern))
