"""From an event source to hooks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from reconciler.drivers.base import CompileContext
from reconciler.drivers.github import api as names
from reconciler.model.errors import ValidationFailed
from reconciler.model.objects import ManagedObject, Marker, Scope, WriteOnly, address_of
from reconciler.model.resources import DerivedKeyRef, Resource, ResourceId
from reconciler.model.values import JsonObject

DEFAULT_EVENTS = ("create", "deployment", "pull_request", "push", "release", "workflow_run")
"""What an event source gets that names none: what a delivery pipeline starts from."""


def compile_source(resource: Resource, context: CompileContext) -> tuple[ManagedObject, ...]:
    """Return one hook per repository or organization that ``resource`` names, in the order of their names.

    Raises `ValidationFailed` for a name that is none.
    """
    return tuple(_hook(resource, context, scope) for scope in scopes_of(resource, context.connection.account, context.facts))


def scopes_of(resource: Resource, account: str, facts: JsonObject) -> tuple[Scope, ...]:
    """Return where ``resource`` wants hooks; names found by ``match`` come from ``facts``."""
    wanted = resource.spec.get("resource")
    if not isinstance(wanted, Mapping):
        raise ValidationFailed(f"{resource.id}: no repository or organization is named", hint="Set `spec.resource`.")
    kind = wanted.get("type")
    given = [wanted["name"]] if "name" in wanted else wanted.get("names", ())
    if kind == "organization":
        if "match" in wanted:
            raise ValidationFailed(f"{resource.id}: organizations are named, not matched", hint="Use `name` or `names`.")
        return tuple(Scope(names.ORGANIZATION, key) for key in sorted({names.organization_key(str(name)) for name in given}))
    if kind != "repository":
        raise ValidationFailed(
            f"{resource.id}: GitHub has no resource of type '{kind}'", hint="Set `resource.type` to repository or organization."
        )
    if "pattern" in facts:
        return (Scope(names.REPOSITORY, whole_pattern(str(facts["pattern"]), account)),)
    if "match" in wanted:
        given = facts.get("repositories", ())
    return tuple(Scope(names.REPOSITORY, key) for key in sorted({names.repository_key(str(name), account) for name in given}))


def _hook(resource: Resource, context: CompileContext, scope: Scope) -> ManagedObject:
    url = context.hook_url(resource.id)
    address = address_of(resource.id, scope)
    uid = resource.id.uid(context.owner)
    key = DerivedKeyRef(uid, int(resource.spec.get("keyRotation", 0)))
    events = {str(event["type"]) for event in resource.spec.get("events", ())} or set(DEFAULT_EVENTS)
    attributes = {
        "active": True,
        "events": ["*"] if "*" in events else sorted(events),
        "config": {"url": url, "content_type": "json", "insecure_ssl": "0"},
    }
    moved = resource.lifecycle.moved_from
    old = ResourceId(resource.id.kind, resource.id.canvas, moved) if moved is not None else None
    return ManagedObject(
        address=address,
        resource=resource.id,
        integration=context.connection.integration,
        scope=scope,
        attributes=names.normalized(attributes),
        natural_key=url,
        marker=Marker(context.owner, uid),
        write_only=(WriteOnly(names.SECRET, key, context.fingerprint(address, names.SECRET, key)),),
        lifecycle=resource.lifecycle,
        location=resource.location,
        previous=address_of(old, scope) if old is not None else None,
        previous_marker=Marker(context.owner, old.uid(context.owner)) if old is not None else None,
    )


def whole_pattern(pattern: str, account: str) -> str:
    """Return ``owner/glob`` in lower case; ``pattern`` may leave the owner out."""
    return (pattern if "/" in pattern else f"{account}/{pattern}").lower()


def matching(pattern: str, account: str, repositories: Iterable[str]) -> list[str]:
    """Return the repositories (``owner/repo``) that a pattern like ``svc-*`` or ``acme/svc-*`` covers, sorted, in lower case."""
    whole = whole_pattern(pattern, account)
    return sorted({name.lower() for name in repositories if fnmatchcase(name.lower(), whole)})
