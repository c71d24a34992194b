"""Compile a BuddyIntegration to one integration, and an event source to one webhook per workspace. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import msgspec

from reconciler.drivers.buddy.api import Key
from reconciler.drivers.buddy.integrations import IMMUTABLE, INTEGRATION, NOT_SENT, READABLE, UNREADABLE, normal
from reconciler.drivers.buddy.lookup import id_of, name_of, pipeline_of, required_workspace
from reconciler.drivers.buddy.spec import EVENTS
from reconciler.drivers.buddy.webhooks import KEY_POINTER, WEBHOOK
from reconciler.drivers.common import declared, derived_key, target_of
from reconciler.drivers.connection import CompileContext
from reconciler.model.errors import ValidationFailed
from reconciler.model.objects import ManagedObject, Scope
from reconciler.model.resources import Resource
from reconciler.model.values import JsonObject

DEFAULT_EVENTS = ("EXECUTION_FINISHED", "PUSH")


class _Facts(msgspec.Struct, frozen=True):
    """Ids by name; offline the names themselves."""

    pipelines: dict[str, Key] = {}
    users: dict[str, Key] = {}
    groups: dict[str, Key] = {}


def compile_integration(resource: Resource, context: CompileContext) -> tuple[ManagedObject, ...]:
    """Return the integration of ``resource``, with credentials as references, and the fields that are never shown as unreadable."""
    workspace = required_workspace(resource, str(resource.spec.get("workspace") or ""), context.connection.account)
    scope = Scope(INTEGRATION, workspace)
    secrets = {key: ref for key, ref in sorted(resource.secret_refs().items()) if key[1:] not in NOT_SENT}
    attributes = _attributes(resource, msgspec.convert(context.facts, _Facts), secrets)
    integration = declared(resource, context, scope, attributes, f"{workspace}/{attributes['identifier']}", secrets=secrets)
    return (
        dataclasses.replace(
            integration,
            marker=None,
            previous_marker=None,
            immutable=tuple(f"/{key}" for key in IMMUTABLE),
            unreadable=tuple(sorted({*UNREADABLE, *(f"/{key}" for key in attributes if key not in READABLE)})),
        ),
    )


def _attributes(resource: Resource, facts: _Facts, secrets: Collection[str]) -> JsonObject:
    """Return the body without credentials. Defaults that decide who may use it are filled in, so that drift from them is seen."""
    given = {key: value for key, value in resource.spec.items() if key not in NOT_SENT and f"/{key}" not in secrets}
    project = str(given.get("project_name") or "")
    body: dict[str, object] = {
        "identifier": resource.id.name,
        "name": resource.id.name,
        "scope": "PROJECT" if project else "WORKSPACE",
        **given,
    }
    if "allowed_pipelines" in given:
        pipelines: Sequence[object] = given["allowed_pipelines"] or ()
        body["allowed_pipelines"] = [_pipeline(entry, project, facts) for entry in pipelines]
    if body["scope"] != "ENVIRONMENT":  # the environment decides there
        body.setdefault("all_pipelines_allowed", True)  # the provider's documented default
    if given.get("permissions"):
        body["permissions"] = _permissions(given["permissions"], facts)
    return normal(body)


def _permissions(permissions: JsonObject, facts: _Facts) -> JsonObject:
    result: dict[str, object] = {**permissions}
    for key, ids in (("users", facts.users), ("groups", facts.groups)):
        if key in permissions:
            rows: Sequence[Mapping[str, object]] = permissions[key] or ()
            result[key] = [{"id": _id(row, ids), "access_level": row.get("access_level")} for row in rows]
    return result


def _id(entry: object, ids: Mapping[str, Key]) -> Key:
    number = id_of(entry)
    return number if number is not None else ids[name_of(entry)]


def _pipeline(entry: object, project: str, facts: _Facts) -> Key:
    number = id_of(entry)
    return number if number is not None else facts.pipelines[pipeline_of(entry, project).key]


def compile_source(resource: Resource, context: CompileContext) -> tuple[ManagedObject, ...]:
    """Return the webhooks of an event source, one per workspace."""
    by_workspace = targets_of(resource, context.connection.account, context.facts)
    return tuple(_webhook(resource, context, workspace, projects) for workspace, projects in sorted(by_workspace.items()))


def _webhook(resource: Resource, context: CompileContext, workspace: str, projects: list[str]) -> ManagedObject:
    url = context.hook_url(resource.id)
    attributes = {"target_url": url, "events": events_of(resource), "projects": projects}
    secrets = {KEY_POINTER: derived_key(resource, context)}
    return declared(resource, context, Scope(WEBHOOK, workspace), attributes, url, secrets=secrets)


def events_of(resource: Resource) -> list[str]:
    """Return the provider's names of the events, sorted; raises `ValidationFailed` for one that it does not have."""
    named = sorted({str(event["type"]).upper() for event in resource.spec.get("events") or ()}) or list(DEFAULT_EVENTS)
    unknown = [name for name in named if name not in EVENTS]
    if unknown:
        raise ValidationFailed(
            f"{resource.id}: Buddy sends no event '{unknown[0]}'",
            hint=f"There are {', '.join(EVENTS)}.",
        )
    return named


def targets_of(resource: Resource, account: str, facts: JsonObject) -> dict[str, list[str]]:
    """Return the projects whose events are sent, sorted, by workspace.

    An empty list means all projects, so only ``resource.type: workspace`` ever gives one. A project may be given as
    WORKSPACE/PROJECT. Raises `ValidationFailed` if nothing is named or matched.
    """
    target = target_of(resource, "workspace")
    if target.type == "workspace":
        names = [*target.names, *facts.get("workspaces", ())] or ([] if target.match else [account])
        return {required_workspace(resource, name, account): [] for name in _require_some(resource, names)}
    if target.type != "project":
        raise ValidationFailed(
            f"{resource.id}: Buddy has no event source for a {target.type}",
            hint="Set `resource.type` to `workspace` or `project`.",
        )
    result: dict[str, list[str]] = {}
    for name in sorted({*_require_some(resource, [*target.names, *map(str, facts.get("projects", ()))])}):
        workspace, _, project = name.rpartition("/")
        result.setdefault(required_workspace(resource, workspace, account), []).append(project)
    return result


def _require_some(resource: Resource, names: list[str]) -> list[str]:
    if not names:
        raise ValidationFailed(
            f"{resource.id}: no project is named or matched",
            hint="Name a project, or use `resource.type: workspace` for all projects of a workspace.",
        )
    return names
