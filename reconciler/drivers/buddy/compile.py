"""A BuddyIntegration is one integration; an event source is one webhook of a workspace. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.drivers.base import CompileContext
from reconciler.drivers.buddy.integrations import IMMUTABLE, INTEGRATION, NOT_SENT, READABLE, UNREADABLE, normal, without_secrets
from reconciler.drivers.buddy.lookup import id_of, name_of, pipeline_of, required_workspace
from reconciler.drivers.buddy.spec import EVENTS
from reconciler.drivers.buddy.webhooks import KEY_POINTER, WEBHOOK
from reconciler.model.errors import ValidationFailed
from reconciler.model.objects import ManagedObject, Marker, Scope, WriteOnly, address_of
from reconciler.model.resources import DerivedKeyRef, Resource, ResourceId
from reconciler.model.values import JsonObject

DEFAULT_EVENTS = ("EXECUTION_FINISHED", "PUSH")


def compile_integration(resource: Resource, context: CompileContext) -> tuple[ManagedObject, ...]:
    """Return the integration of ``resource``: what it says, credentials as references, what is never shown named as such."""
    workspace = required_workspace(resource, str(resource.spec.get("workspace") or ""), context.connection.account)
    scope = Scope(INTEGRATION, workspace)
    address = address_of(resource.id, scope)
    attributes = _attributes(resource, context.facts)
    secrets = [(pointer, ref) for pointer, ref in sorted(resource.secret_refs().items()) if pointer.split("/")[1] not in NOT_SENT]
    previous = None
    if resource.lifecycle.moved_from is not None:
        previous = address_of(ResourceId(resource.id.kind, resource.id.canvas, resource.lifecycle.moved_from), scope)
    return (
        ManagedObject(
            address,
            resource.id,
            context.connection.integration,
            scope,
            attributes,
            f"{workspace}/{attributes['identifier']}",
            write_only=tuple(WriteOnly(pointer, ref, context.fingerprint(address, pointer, ref)) for pointer, ref in secrets),
            immutable=tuple(f"/{key}" for key in IMMUTABLE),
            unreadable=tuple(sorted({*UNREADABLE, *(f"/{key}" for key in attributes if key not in READABLE)})),
            lifecycle=resource.lifecycle,
            location=resource.location,
            previous=previous,
        ),
    )


def _attributes(resource: Resource, facts: JsonObject) -> JsonObject:
    """Return the body without credentials. Defaults that decide who may use it are filled in, so that they are held."""
    spec = {key: value for key, value in resource.spec.items() if key not in NOT_SENT}
    body: dict[str, Any] = without_secrets(spec)
    body.setdefault("identifier", resource.id.name)
    body.setdefault("name", resource.id.name)
    body.setdefault("scope", "PROJECT" if body.get("project_name") else "WORKSPACE")
    project = str(body.get("project_name") or "")
    if "allowed_pipelines" in body:
        body["allowed_pipelines"] = [_pipeline(one, project, facts) for one in body["allowed_pipelines"] or ()]
    if body["scope"] != "ENVIRONMENT":  # there it is the environment's
        body.setdefault("all_pipelines_allowed", True)  # the provider's documented default
    if isinstance(body.get("permissions"), Mapping):
        body["permissions"] = _permissions(body["permissions"], facts)
    return normal(body)


def _permissions(permissions: Mapping[str, Any], facts: JsonObject) -> JsonObject:
    result = dict(permissions)
    for key in ("users", "groups"):
        if key in result:
            known = facts.get(key, {})
            result[key] = [{"id": _known(one, known), "access_level": one.get("access_level")} for one in result[key] or ()]
    return result


def _known(entry: Any, ids: Mapping[str, Any]) -> Any:
    number = id_of(entry)
    return number if number is not None else ids[name_of(entry)]


def _pipeline(entry: Any, project: str, facts: JsonObject) -> Any:
    number = id_of(entry)
    return number if number is not None else facts.get("pipelines", {})[pipeline_of(entry, project).key]


def compile_source(resource: Resource, context: CompileContext) -> tuple[ManagedObject, ...]:
    """Return the webhooks of an event source, one a workspace."""
    by_workspace = targets_of(resource, context.connection.account, context.facts)
    return tuple(_webhook(resource, context, workspace, projects) for workspace, projects in sorted(by_workspace.items()))


def _webhook(resource: Resource, context: CompileContext, workspace: str, projects: list[str]) -> ManagedObject:
    scope = Scope(WEBHOOK, workspace)
    address = address_of(resource.id, scope)
    uid = resource.id.uid(context.owner)
    key = DerivedKeyRef(uid, int(resource.spec.get("keyRotation", 0)))
    url = context.hook_url(resource.id)
    previous, previous_marker = None, None
    if resource.lifecycle.moved_from is not None:
        old = ResourceId(resource.id.kind, resource.id.canvas, resource.lifecycle.moved_from)
        previous, previous_marker = address_of(old, scope), Marker(context.owner, old.uid(context.owner))
    return ManagedObject(
        address,
        resource.id,
        context.connection.integration,
        scope,
        {"target_url": url, "events": events_of(resource), "projects": projects},
        url,
        Marker(context.owner, uid),
        (WriteOnly(KEY_POINTER, key, context.fingerprint(address, KEY_POINTER, key)),),
        lifecycle=resource.lifecycle,
        location=resource.location,
        previous=previous,
        previous_marker=previous_marker,
    )


def events_of(resource: Resource) -> list[str]:
    """Return the provider's names of the events, sorted; raises `ValidationFailed` for one that it does not have."""
    named = sorted({str(one["type"]).upper() for one in resource.spec.get("events") or ()}) or list(DEFAULT_EVENTS)
    unknown = [name for name in named if name not in EVENTS]
    if unknown:
        raise ValidationFailed(
            f"{resource.id}: Buddy sends no event '{unknown[0]}'",
            hint=f"There are {', '.join(EVENTS)}.",
        )
    return named


def targets_of(resource: Resource, account: str, facts: JsonObject) -> dict[str, list[str]]:
    """Return by workspace the projects whose events are sent, sorted.

    No project means all of them, so that only ``resource.type: workspace`` ever gives an empty list. A project may be given
    as WORKSPACE/PROJECT. Raises `ValidationFailed` where nothing is named or matched.
    """
    target = resource.spec.get("resource") or {}
    kind = target.get("type", "workspace")
    named = [str(target["name"])] if target.get("name") else [str(one) for one in target.get("names") or ()]
    if kind == "workspace":
        found = [*named, *facts.get("workspaces", ())] or ([] if target.get("match") else [account])
        return {required_workspace(resource, name, account): [] for name in _some(resource, found)}
    if kind != "project":
        raise ValidationFailed(
            f"{resource.id}: Buddy has no event source for a {kind}", hint="Set `resource.type` to `workspace` or `project`."
        )
    result: dict[str, list[str]] = {}
    for name in sorted({*_some(resource, [*named, *map(str, facts.get("projects", ()))])}):
        workspace, _, project = name.rpartition("/")
        result.setdefault(required_workspace(resource, workspace, account), []).append(project)
    return result


def _some(resource: Resource, found: list[str]) -> list[str]:
    if not found:
        raise ValidationFailed(
            f"{resource.id}: nothing is named, and nothing is matched",
            hint="Name a project, or use `resource.type: workspace` for all of a workspace's.",
        )
    return found
