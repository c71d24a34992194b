"""Compile an event source to webhooks of repositories or organizations. Pure."""

from __future__ import annotations

from reconciler.drivers.common import declared, derived_key, target_of
from reconciler.drivers.connection import CompileContext
from reconciler.drivers.github.api import ORGANIZATION, REPOSITORY, SECRET, normalized, organization_key, repository_key
from reconciler.model.errors import ValidationFailed
from reconciler.model.objects import ManagedObject, Scope
from reconciler.model.resources import Resource
from reconciler.model.values import JsonObject

DEFAULT_EVENTS = ("create", "deployment", "pull_request", "push", "release", "workflow_run")
"""Events of a source that names none: those that start a delivery pipeline."""


def compile_source(resource: Resource, context: CompileContext) -> tuple[ManagedObject, ...]:
    """Return one hook for each repository or organization of ``resource``, sorted by name; none if an App brings its own. Pure.

    Raises `ValidationFailed` for an invalid name.
    """
    if context.connection.auth.get("use") == "github-app":
        return ()
    return tuple(_hook(resource, context, scope) for scope in scopes_of(resource, context.connection.account, context.facts))


def _hook(resource: Resource, context: CompileContext, scope: Scope) -> ManagedObject:
    url = context.hook_url(resource.id)
    events = subscribed(resource)
    attributes = {
        "active": True,
        "events": ["*"] if "*" in events else sorted(events),
        "config": {"url": url, "content_type": "json", "insecure_ssl": "0"},
    }
    secrets = {SECRET: derived_key(resource, context)}
    return declared(resource, context, scope, normalized(attributes), url, secrets=secrets)


def subscribed(resource: Resource) -> set[str]:
    """Return the types of events that ``resource`` asks for; `DEFAULT_EVENTS` for a source that names none."""
    return {str(event["type"]) for event in resource.spec.get("events", ())} or set(DEFAULT_EVENTS)


def scopes_of(resource: Resource, account: str, facts: JsonObject) -> tuple[Scope, ...]:
    """Return the scopes whose hooks ``resource`` declares; the names that ``match`` selects come from ``facts``."""
    target = target_of(resource, "")
    if target.type == "organization":
        if target.match:
            raise ValidationFailed(f"{resource.id}: `match` does not select organizations", hint="Use `name` or `names`.")
        return tuple(Scope(ORGANIZATION, key) for key in sorted({organization_key(name) for name in target.names}))
    if target.type != "repository":
        raise ValidationFailed(
            f"{resource.id}: GitHub has no resource of type '{target.type}'",
            hint="Set `resource.type` to repository or organization.",
        )
    if "pattern" in facts:
        return (Scope(REPOSITORY, full_pattern(str(facts["pattern"]), account)),)
    names = [str(name) for name in facts.get("repositories", ())] if target.match else target.names
    return tuple(Scope(REPOSITORY, key) for key in sorted({repository_key(name, account) for name in names}))


def pattern_of(resource: Resource) -> str:
    """Return ``resource.match`` of a source of repositories; empty without one."""
    target = target_of(resource, "")
    return target.match if target.type == "repository" else ""


def full_pattern(pattern: str, account: str) -> str:
    """Return ``svc-*`` as ``acme/svc-*``, in lower case."""
    return (pattern if "/" in pattern else f"{account}/{pattern}").lower()
